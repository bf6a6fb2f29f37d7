"""Pixel metrics of zsad beside scikit-learn, the released AUPRO, ADEval and anomalib: values, time, peak memory.

    python benchmarks/metrics.py --repeat 3 --out found.jsonl            # 20, 83 and 500 maps, 3 % anomalous
    python benchmarks/metrics.py --maps 1000 5000 --calls exact stream --out found.jsonl
    python benchmarks/metrics.py --maps --out found.jsonl --plot growth.svg  # measure nothing, draw what was measured

The maps are made here: noisy 37 x 37 patches, raised where the mask is, between 0 and 1, bilinear between patches.
Each call (benchmarks/metrics_calls.py) runs in a process of its own (Linux, macOS), forked after the maps exist, and
tried on two small maps first: neither maps nor imports are measured. The stream gets its maps 16 at a time, as they are
made, so that they are never all there; making them is in its peak, not in its time. Every second repeat runs backwards.

Needs `pip install -e ".[bench]"`, and `pip install anomalib` for its row; a call whose package is missing is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import metrics_calls as calls
import numpy as np
import torch
from metrics_calls import Maps, Masks, Values
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

Record = dict[str, Any]  # one measurement, a line of --out
NAMES = ("exact", "exact_tensors", "per_image", "at_threshold", "zsad_released", "stream")
CALLS: dict[str, Callable[..., Values]] = {
    name: getattr(calls, name) for name in (*NAMES, "scikit_learn", "released", "adeval", "anomalib")
}
SLOW = ("released", "scikit_learn")  # these together, against each of these:
RATIOS = (("exact",), ("exact", "zsad_released", "per_image", "at_threshold"), ("stream",))
PACKAGES = ("torch", "numpy", "scikit-learn", "scikit-image", "ADEval", "anomalib")
BATCH = 16


@dataclass(frozen=True)
class Case:
    """The maps of one table."""

    maps: int
    side: int = 518  # height and width
    share: float = 0.03  # of all pixels that are anomalous; every fifth map is normal

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Maps and masks, [16, side, side] at a time; a longer case begins with the same ones."""
        for first in range(0, self.maps, BATCH):
            maps, masks = self._batch(first)
            yield maps[: self.maps - first], masks[: self.maps - first]

    def arrays(self) -> tuple[Maps, Masks]:
        """All of them, [maps, side, side]."""
        shape = self.maps, self.side, self.side
        maps, masks = np.empty(shape, np.float32), np.empty(shape, bool)
        for i, (some, truth) in enumerate(self.batches()):
            maps[i * BATCH :][: len(some)], masks[i * BATCH :][: len(some)] = some, truth
        return maps, masks

    def _batch(self, first: int) -> tuple[Tensor, Tensor]:
        size, patches = (self.side, self.side), (max(2, self.side // 14),) * 2
        random = torch.Generator().manual_seed(first)
        ground = interpolate(torch.randn(BATCH, 1, 9, 9, generator=random), size, mode="bicubic")[:, 0]
        normal = round((1 - self.share / 0.8) * self.side**2)  # pixels of a map with regions
        masks = ground > ground.flatten(1).kthvalue(normal).values[:, None, None]
        masks[torch.arange(first, first + BATCH) % 5 == 0] = False
        raised = 3 * adaptive_avg_pool2d(masks.float(), patches) - 3
        noise = torch.randn(BATCH, *patches, generator=random)
        return interpolate((raised + noise)[:, None], size, mode="bilinear")[:, 0].sigmoid(), masks


class Watch:
    """Seconds, and CPU seconds of all threads, between starts and stops."""

    seconds = cpu = 0.0

    def start(self) -> None:
        """Go on."""
        self.seconds, self.cpu = self.seconds - time.perf_counter(), self.cpu - time.process_time()

    def stop(self) -> None:
        """Pause."""
        self.seconds, self.cpu = self.seconds + time.perf_counter(), self.cpu + time.process_time()

    def without(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, made while the watch stands still."""
        self.stop()
        for batch in batches:
            self.start()
            yield batch
            self.stop()
        self.start()


def peak(reset: bool = False) -> int:
    """Most resident memory of this process, in bytes; on Linux since the last reset."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(name: str, case: Case, arrays: tuple[Maps, Masks] | None) -> Record:
    """One call in this process: seconds, CPU seconds, peak beyond the maps in bytes, values."""
    call, small, watch = CALLS[name], Case(2, 64, 0.2), Watch()
    call(small.batches()) if name == "stream" else call(*small.arrays())
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", bool)(0)  # else calls live in what making maps left behind
    before = peak(reset=True)
    watch.start()
    values = call(*(arrays or [watch.without(case.batches())]))
    watch.stop()
    found = {"seconds": watch.seconds, "cpu": watch.cpu, "peak": peak() - before}
    errors = {key: getattr(value, "error", 0.0) for key, value in values.items()}
    return found | {"values": {key: float(value) for key, value in values.items()}, "errors": errors}


def measured(name: str, case: Case, arrays: tuple[Maps, Masks] | None, threads: int) -> Record:
    """The same in a process of its own, or the reason why there is nothing."""

    def work() -> None:
        torch.set_num_threads(threads)
        try:
            send.send(run(name, case, arrays))
        except (ImportError, RuntimeError, MemoryError) as error:
            send.send({"skipped": f"{type(error).__name__}: {error}".splitlines()[0]})

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        found: Record = receive.recv()
    except EOFError:
        found = {"skipped": "its process ended without an answer: an error above, or out of memory"}
    process.join()
    return {"call": name, **asdict(case), "threads": threads, **found}


def table(records: list[Record], case: Case) -> None:
    """Print a case: medians over its repeats, with the lowest and the highest."""
    size = case.maps * case.side**2 * 4
    print(f"\n{case.maps} maps of {case.side} x {case.side}, {size / 1e6:.0f} MB, {case.share:.0%} anomalous\n")
    print("| call | seconds | CPU seconds | peak, MB | peak / maps | values |\n|---|---|---|---|---|---|")
    truth = {key: value for record in records[::-1] for key, value in record.get("values", {}).items()}
    for name in dict.fromkeys(record["call"] for record in records):
        runs = [record for record in records if record["call"] == name]
        if "skipped" in runs[0]:
            print(f"| `{name}` | | | | | {runs[0]['skipped']} |")
            continue
        most = max(run["peak"] for run in runs)
        times = f"{spread([run['seconds'] for run in runs])} | {spread([run['cpu'] for run in runs])}"
        values = ", ".join(compared(key, value, truth[key]) for key, value in runs[0]["values"].items())
        print(f"| `{name}` | {times} | {most / 1e6:.0f} | {most / size:.2f} | {values} |")
    for run in [run for run in records if run["call"] == "stream" and "errors" in run][:1]:
        far = max(abs(value - truth[key]) for key, value in run["values"].items())
        print(f"\nstream: at most {far:.1e} off, {max(run['errors'].values()):.1e} admitted")
    print()
    for ours in RATIOS:
        for unit in ("seconds", "cpu"):
            if found := ratios(records, ours, unit):
                print(f"{unit} of {' + '.join(SLOW)} / {' + '.join(ours)}: {spread(found)}", flush=True)


def compared(name: str, value: float, truth: float) -> str:
    """A value, and how far it is from that of the first call that gave it."""
    return f"{name} {value:.6f}" + (f" ({value - truth:+.1e})" if value != truth else "")


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g} to {max(values):.3g})"


def ratios(records: list[Record], ours: tuple[str, ...], unit: str) -> list[float]:
    """One for each repeat, none where a call is missing."""
    found = []
    for repeat in sorted({record["repeat"] for record in records}):
        cost = {record["call"]: record[unit] for record in records if record["repeat"] == repeat and unit in record}
        if cost.keys() >= {*ours, *SLOW}:
            found.append(sum(cost[name] for name in SLOW) / sum(cost[name] for name in ours))
    return found


def plot(records: list[Record], path: Path) -> None:
    """Time and peak memory over the number of maps, at the share of the first record."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.hashsalt": "zsad", "svg.fonttype": "none"})
    labels = {"exact": "zsad, exact", "stream": "zsad, streaming", "scikit_learn": "scikit-learn (no AUPRO)"}
    labels |= {"released": "released AUPRO", "adeval": "ADEval (no F1)", "anomalib": "anomalib (AUPRO)"}
    records = [run for run in records if run["share"] == records[0]["share"]]
    counts = sorted({run["maps"] for run in records})
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for panel, unit, scale in zip(figure.subplots(1, 2), ("seconds", "peak"), (1, 1e-6), strict=True):
        for name, label in labels.items():
            runs = [run for run in records if run["call"] == name and unit in run]
            y = {n: [run[unit] * scale for run in runs if run["maps"] == n] for n in counts}
            points = [(n, statistics.median(some)) for n, some in y.items() if some]
            panel.plot(*zip(*points, strict=True), "o-" if "zsad" in label else ".--", label=label) if points else None
        panel.set(xscale="log", yscale="log", xlabel="maps", title="seconds", xticks=counts, xticklabels=counts)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panel.plot(counts, [n * records[0]["side"] ** 2 * 4e-6 for n in counts], "k:", label="the maps themselves")
    panel.set(title="peak memory beside the maps, MB")
    panel.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def version(package: str) -> str:
    """Of a package, if it is there."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--maps", type=int, nargs="*", default=[20, 83, 500], help="how many maps; no number: measure nothing")
    add("--side", type=int, default=518, help="height and width of a map")
    add("--share", type=float, nargs="+", default=[0.03], help="share of the pixels that are anomalous, below 0.8")
    add("--calls", nargs="+", choices=CALLS, default=list(CALLS), help="what to call")
    add("--repeat", type=int, default=1, help="how often")
    add("--threads", type=int, default=1, help="of torch, in each call; more are slow beside other work")
    add("--out", type=Path, help="file that measurements are added to, one line each")
    add("--plot", type=Path, help="file for a drawing of what --out then holds")
    return parser.parse_args()


def main() -> None:
    """Measure, print a table per case, and draw."""
    options = arguments()
    print(", ".join(map(version, PACKAGES)), f"\nthreads of torch: {options.threads}")
    torch.set_num_threads(1)  # a process whose threads have run cannot be forked
    for case in [Case(maps, options.side, share) for share in options.share for maps in options.maps]:
        arrays = None if options.calls == ["stream"] else case.arrays()
        records: list[Record] = []
        for repeat in range(options.repeat):
            for name in options.calls[:: -1 if repeat % 2 else 1]:
                found = measured(name, case, None if name == "stream" else arrays, options.threads)
                records.append(found | {"repeat": repeat})
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(records[-1]) + "\n")
        table(records, case)
    if options.plot:
        plot([json.loads(line) for line in options.out.read_text().splitlines()], options.plot)


if __name__ == "__main__":
    main()
