"""How many images per second reach a network: a plain loop, the loader, and torch's DataLoader, in turn.

    python benchmarks/loader.py [--photos FOLDER ...] [--images 96] [--runs 5]

Photographs are drawn here, enlarged, made noisy and written as JPEG, 1000 x 1000 and 3000 x 2000; those of `--photos`
are read as well (default: ../shared/data, where it is). Every run is a process of its own; images per second count
from the first batch on; the time to it, with the start of workers, stands beside them. All make the same float32
input of 518 x 518 in batches of 8. `behind` waits after every batch, so that workers get as far ahead as they may,
and the peak shows what that costs. `scored by tiny` is a whole evaluation with the embedded model, at 192 x 192.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

import zsad
from zsad.api import input_size
from zsad.data import synthetic
from zsad.data.dataset import batches
from zsad.data.images import preprocess, read_image
from zsad.data.workers import ordered
from zsad.evaluate import score_samples
from zsad.types import Sample

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE, BATCH = 518, 8
Bytes = NDArray[np.uint8]  # [B, SIZE, SIZE, 3]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


class Inputs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The same work for torch's DataLoader."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(preprocess(read_image(self.files[index]), SIZE, MEAN, STD))


def plain(files: Sequence[Path]) -> Iterator[int]:
    """Decode, resize and normalise one after the other; how many images are ready."""
    for file in files:
        preprocess(read_image(file), SIZE, MEAN, STD)
        yield 1


def loader(workers: int, pause: float = 0.0) -> Callable[[Sequence[Path]], Iterator[int]]:
    """`batches` with some workers."""

    def read(files: Sequence[Path]) -> Iterator[int]:
        for batch in batches([Sample(file) for file in files], SIZE, MEAN, STD, BATCH, workers):
            yield len(batch.images)
            time.sleep(pause)

    return read


def torch_loader(workers: int, start: str) -> Callable[[Sequence[Path]], Iterator[int]]:
    """torch's DataLoader with some workers."""

    def read(files: Sequence[Path]) -> Iterator[int]:
        yield from map(len, DataLoader(Inputs(files), BATCH, num_workers=workers, multiprocessing_context=start))

    return read


def scored(workers: int) -> Callable[[Sequence[Path]], Iterator[int]]:
    """A whole evaluation with the embedded model, at its own size."""

    def read(files: Sequence[Path]) -> Iterator[int]:
        method = zsad.load()  # before the clock starts
        samples = [Sample(file) for file in files]
        return (1 for _ in score_samples(method, samples, input_size(method), BATCH, workers))

    return read


WAYS: dict[str, Callable[[Sequence[Path]], Iterator[int]]] = {
    "plain loop": plain,
    "batches, 0 workers": loader(0),
    "batches, 1 worker": loader(1),
    "batches, 2 workers": loader(2),
    "batches, 2 workers, behind": loader(2, pause=0.5),
    "DataLoader, 2 workers, fork": torch_loader(2, "fork"),
    "DataLoader, 2 workers, spawn": torch_loader(2, "spawn"),
    "scored by tiny, 0 workers": scored(0),
    "scored by tiny, 1 worker": scored(1),
    "scored by tiny, 2 workers": scored(2),
}


def draw(folder: Path, width: int, height: int, count: int) -> list[Path]:
    """Photographs of drawn objects with a camera's noise."""
    random, files = np.random.default_rng(0), [folder / f"{width}x{height}-{i}.jpg" for i in range(count)]
    categories = [name for name, category in synthetic.CATEGORIES.items() if category.half == "unseen"]
    for i, file in enumerate(files):
        drawn = Image.fromarray(synthetic.render(categories[i % len(categories)], None, i, 384).image)
        large = np.asarray(drawn.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        noisy = large + random.normal(0, 5, (height, width, 1)).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=92)
    return files


def photographs(folders: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    """The images in each folder that are not masks."""
    for folder in folders:
        found = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
        yield folder.name, [file for file in found if "mask" not in file.parent.name]


def once(way: str, files: Sequence[Path]) -> dict[str, float]:
    """Speed from the first batch on, time to the first batch, CPU time and memory of one pass, in this process."""
    reading = WAYS[way](files)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, cpu, began, first, ready, count = peak(), used(), time.perf_counter(), 0.0, 0, 0
    memory, ticks = 0.0, dict[str, float]()
    for ready in reading:
        if not count:
            first, left = time.perf_counter() - began, len(files) - ready
        count += ready
        for pid in descendants("self"):
            memory, ticks[pid] = max(memory, peak(pid)), seconds_of(pid) or ticks.get(pid, 0.0)
    rate = left / (time.perf_counter() - began - first)
    spent = 1000 * (used() - cpu + sum(ticks.values())) / count
    return {"rate": rate, "cpu": spent, "first": first, "peak": peak() - before, "worker": memory}


def peak(process: str = "self") -> float:
    """The most memory that a process has had, in MB."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return 0.0
    return float(status.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in status else 0.0


def descendants(process: str) -> list[str]:
    """The processes that a process has started, and those that these have started."""
    with suppress(OSError):
        started = [pid for task in Path(f"/proc/{process}/task").glob("*/children") for pid in task.read_text().split()]
        return [one for pid in started for one in (pid, *descendants(pid))]
    return []


def seconds_of(process: str) -> float:
    """CPU seconds of a process, 0 if it has ended."""
    with suppress(OSError):
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def used() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measured(way: str, files: Sequence[Path]) -> dict[str, float]:
    """:func:`once` in a new process."""
    given = json.dumps([way, *map(str, files)])
    done = subprocess.run([sys.executable, __file__, "--once"], input=given, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(title: str, files: Sequence[Path], images: int, runs: int, ways: Sequence[str]) -> None:
    """Print one table; the ways take turns."""
    size = sum(file.stat().st_size for file in files) / len(files) / 1e6
    width, height = Image.open(files[0]).size
    print(
        f"\n{title}: {len(files)} files of {size:.2f} MB, the first {width} x {height}; {images} reads, {runs} runs\n"
    )
    print("| | images/s, median (all) | CPU ms/image | first batch, s | peak above start, MB | largest worker, MB |")
    print("|---|---|---|---|---|---|")
    order = [files[i % len(files)] for i in range(images)]
    found = [{way: measured(way, order) for way in ways} for _ in range(runs)]
    for way in ways:
        told = {key: [run[way][key] for run in found] for key in found[0][way]}
        rates = f"{median(told['rate']):.1f} ({min(told['rate']):.1f} to {max(told['rate']):.1f})"
        cpu, first, peak, worker = (median(told[key]) for key in ("cpu", "first", "peak", "worker"))
        rest = f"{cpu:.1f}", f"{first:.2f}", f"{peak:.0f}", f"{worker:.0f}"
        print("|", " | ".join((way, rates, *rest)), "|", flush=True)


def by_numpy(pixels: Bytes) -> Iterator[object]:
    """Normalise as `preprocess` does; of the size that is wanted, nothing is resized."""
    for one in pixels:
        yield preprocess(Image.fromarray(one), SIZE, MEAN, STD)


def by_torch(pixels: Bytes) -> Iterator[object]:
    """Normalise as `batches` does."""
    shift, scale = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    for image, one in zip(torch.zeros(len(pixels), 3, SIZE, SIZE), pixels, strict=True):
        yield image.copy_(torch.from_numpy(one).permute(2, 0, 1)).div_(255).sub_(shift).div_(scale)


def handed_over(kind: str) -> Callable[[Bytes], Iterator[object]]:
    """Bring as many images of ones from a worker to the program."""
    return lambda pixels: ordered(partial(np.ones, dtype=kind), [pixels.shape[1:]] * len(pixels), 1, 2)


def parts(images: int, runs: int) -> None:
    """Print what the parts of a batch cost that are not decoding; the first image of a run is not counted."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIZE, SIZE, 3), np.uint8)
    torch.set_num_threads(1)
    print(f"{images} images of {SIZE} x {SIZE}, {runs} runs, one thread\n\n| | ms/image, median |\n|---|---|")
    calls = {
        "normalise by numpy": by_numpy,
        "normalise by torch": by_torch,
        "bytes from a worker": handed_over("u1"),
        "float32 from a worker": handed_over("f4"),
    }
    for name, call in calls.items():
        taken = []
        for _ in range(runs):
            results = call(pixels)
            next(results)
            began, count = time.perf_counter(), sum(1 for _ in results)
            taken.append(1000 * (time.perf_counter() - began) / count)
        print(f"| {name} | {median(taken):.1f} |", flush=True)


def main() -> None:
    """Print one table per kind of photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="*", default=sorted(SHARED.glob("*/")) if SHARED.is_dir() else [])
    parser.add_argument("--files", type=int, default=32, help="how many photographs are drawn of each size")
    parser.add_argument("--images", type=int, default=96, help="how many are read in a run; files are read again")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        way, *names = json.load(sys.stdin)
        print(json.dumps(once(way, [Path(name) for name in names])))
        return
    parts(options.images, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        drawn = (
            (f"drawn, {w} x {h}", draw(Path(folder), w, h, options.files)) for w, h in ((1000, 1000), (3000, 2000))
        )
        for title, files in (*drawn, *photographs([folder for folder in options.photos if folder.is_dir()])):
            report(title, files, options.images, options.runs, options.ways)


if __name__ == "__main__":
    main()
