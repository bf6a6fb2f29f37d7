"""Pixel metrics of zsad beside scikit-learn and the released AUPRO: value, time and peak memory, in one run.

    python benchmarks/metrics.py --maps 20 83

The maps are made here (smooth noise, raised inside elliptic regions). Each call runs in a process of its own, forked
after the maps exist (Linux, macOS), so its peak is what it needs beside them. Needs scikit-learn and scikit-image.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from zsad.metrics import aupro, pixel_metrics

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def make(count: int, side: int, seed: int = 0) -> tuple[Maps, Masks]:
    """Maps and masks [count, side, side]; up to three regions per mask, about 3 % of the pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    maps, masks = np.empty((count, side, side), np.float32), np.zeros((count, side, side), bool)
    for scores, mask in zip(maps, masks, strict=True):
        for _ in range(rng.integers(0, 4)):
            (cy, cx), (a, b) = rng.random(2), rng.uniform(0.02, 0.15, 2)
            mask |= ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1
        noise = rng.standard_normal((side, side), dtype=np.float32)
        scores[:] = gaussian_filter(0.3 * mask + 2 * noise, side / 65)
    return maps, masks


def scikit_learn(maps: Maps, masks: Masks) -> dict[str, float]:
    """AUROC, AP and F1-max by scikit-learn."""
    scores, labels = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    found = roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max()
    return dict(zip(("auroc", "ap", "f1_max"), map(float, found), strict=True))


def released(maps: Maps, masks: Masks) -> dict[str, float]:
    """AUPRO by the released arithmetic: every threshold labels every mask again."""
    rates, overlaps = [], []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / 200):
        above = maps > threshold
        shares = [
            hit[region.coords[:, 0], region.coords[:, 1]].sum() / region.area
            for hit, mask in zip(above, masks, strict=True)
            for region in regionprops(label(mask))
        ]
        rates.append(np.logical_and(~masks, above).sum() / (~masks).sum())
        overlaps.append(np.mean(shares))
    fpr, kept = np.array(rates), np.array(rates) < 0.3
    fpr = fpr[kept]
    return {"aupro": float(auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), np.array(overlaps)[kept]))}


def zsad_released(maps: Maps, masks: Masks) -> dict[str, float]:
    """The same number by zsad."""
    return {"aupro": aupro(maps, masks, mode="released")}


def measured(
    call: Callable[[Maps, Masks], dict[str, float]], maps: Maps, masks: Masks
) -> tuple[str, float, float, float]:
    """Values, seconds, CPU seconds, and peak memory in multiples of the maps' bytes."""

    def work() -> None:
        before, start, cpu = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            time.perf_counter(),
            time.process_time(),
        )
        values = call(maps, masks)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        text = ", ".join(f"{name} {value:.6f}" for name, value in values.items())
        send.send((text, seconds, cpu, peak * (1 if sys.platform == "darwin" else 1024) / maps.nbytes))

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work)
    process.start()
    send.close()
    result: tuple[str, float, float, float] = receive.recv()
    process.join()
    return result


def main() -> None:
    """Print one table per number of maps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, nargs="+", default=[20, 83], help="how many maps (default: 20 83)")
    parser.add_argument("--side", type=int, default=518, help="height and width of a map (default: 518)")
    options = parser.parse_args()
    for count in options.maps:
        maps, masks = make(count, options.side)
        print(f"\n{count} maps of {options.side}x{options.side}, {maps.nbytes / 2**20:.0f} MiB\n")
        print("| call | seconds | CPU seconds | peak / maps | value |\n|---|---|---|---|---|")
        cpu = {}
        for call in (pixel_metrics, zsad_released, scikit_learn, released):
            values, seconds, cpu[call], peak = measured(call, maps, masks)
            print(f"| {call.__name__} | {seconds:.2f} | {cpu[call]:.2f} | {peak:.2f} | {values} |", flush=True)
        ratio = (cpu[scikit_learn] + cpu[released]) / cpu[pixel_metrics]
        print(f"\nscikit_learn + released need {ratio:.0f} times the CPU seconds of pixel_metrics")


if __name__ == "__main__":
    main()
