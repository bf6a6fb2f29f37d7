"""Draw the PRO curve of one class of images, the area under it, and what the released code takes for it.

    python benchmarks/aupro_modes.py data/unseen/leaf --out docs/images/aupro_modes.svg

Maps are those of AnomalyCLIP on the embedded backbone. Needs `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zsad.api import input_size, load
from zsad.data.index import samples_of
from zsad.evaluate import score_samples
from zsad.metrics import aupro
from zsad.metrics.regions import region_areas
from zsad.metrics.released import released_thresholds

LIMIT = 0.3


def curve(maps: torch.Tensor, masks: torch.Tensor, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positive rate and per-region overlap above each threshold."""
    areas = torch.cat([region_areas(mask)[0] for mask in masks])
    hits, shares, normal = maps[masks].numpy(), 1 / areas.numpy(), np.sort(maps[~masks].numpy())
    rates = 1 - np.searchsorted(normal, thresholds, side="right") / len(normal)
    return rates, np.array([shares[hits > threshold].sum() for threshold in thresholds]) / shares.sum()


def draw(axes: Axes, rates: np.ndarray, overlap: np.ndarray, style: str, title: str) -> None:
    """One panel."""
    axes.fill_between(rates, overlap, alpha=0.25)
    axes.plot(rates, overlap, style, markersize=4)
    axes.set(title=title, ylim=(0, 1), ylabel="per-region overlap")
    axes.grid(alpha=0.3)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder with images of one class and their masks")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .svg or .png")
    options = parser.parse_args()
    method = load()
    scored = [s for s in score_samples(method, samples_of(options.root), input_size(method)) if s.mask is not None]
    maps, masks = torch.stack([s.map for s in scored]), torch.stack([s.mask for s in scored])
    matplotlib.rcParams.update({"svg.hashsalt": "zsad", "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    ranked = maps[~masks].sort(descending=True).values
    places = np.linspace(0, LIMIT * len(ranked), 400).astype(int)
    found = curve(maps, masks, ranked[places].numpy())
    draw(left, *found, "-", f"exact: area up to a rate of {LIMIT:g} is {100 * aupro(maps, masks, LIMIT):.1f}")
    left.set(xlabel="false positive rate", xlim=(0, LIMIT))
    rates, overlap = curve(maps, masks, released_thresholds(float(maps.min()), float(maps.max())))
    left.plot(*(side[rates < LIMIT] for side in (rates, overlap)), "C1o", markersize=4, label="released thresholds")
    left.legend(loc="lower right")
    kept = rates < LIMIT
    low, high = rates[kept].min(), rates[kept].max()
    released = aupro(maps, masks, LIMIT, mode="released")
    draw(right, (rates[kept] - low) / (high - low), overlap[kept], "C1o-", f"released: area is {100 * released:.1f}")
    right.set(xlabel=f"rates from {low:.2g} to {high:.2g}, stretched to [0, 1]", xlim=(0, 1))
    figure.savefig(options.out, metadata={"Date": None} if options.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
