"""Seconds and memory of training with the tower in every epoch, and from kept features: full size, random weights.

    python benchmarks/training.py [--images 4] [--turns 2] [--methods anomalyclip crane crane-guided vip2clip]

CLIP ViT-L/14@336 at 518 px with random weights, and a random DINOv2 ViT-B/14 with registers as Crane's guide: this
measures time and memory, never accuracy. Images are drawn by zsad.data.synthetic. One epoch is one step on all images.
Every case runs in a process of its own (Linux, macOS), forked after the weights exist; a method's cases take turns.
The first epoch from kept features only warms up. A ratio is that of one turn, projected to 15 epochs on many images:
15 * without / (fill + 15 * with), where `fill` is without the look at the first image that comes before the filling.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from zsad.backbones.vit import ViT, ViTSize
from zsad.backbones.weights import load
from zsad.cache import FeatureCache
from zsad.data.index import samples_of
from zsad.data.synthetic import write
from zsad.methods.anomalyclip import AnomalyCLIP
from zsad.methods.base import Method
from zsad.methods.crane import Config as CraneConfig
from zsad.methods.crane import Crane
from zsad.methods.vip2clip import ViP2CLIP
from zsad.training import Cache, Plan, Step, train
from zsad.types import Sample

SIDE = 518
GUIDE = "dinov2-b-14-reg"
MODES = ("none", "memory", "disk")
COLUMNS = ("method", "features", "epoch, s", "fill, s", "thresholds, s", "15 epochs, ratio", "MB/image", "peak, MB")
Found = dict[str, Any]  # what one case gave


def randomised(model: CLIP) -> CLIP:
    """Random weights of the size that trained ones have: activations stay near 1."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval().requires_grad_(False)


def large_clip() -> CLIP:
    """CLIP ViT-L/14@336. The embedded tokenizer makes sentences as long as CLIP's own does."""
    visual, text = ViTSize(1024, 24, 16, 14, 24, 768), TextSize(768, 12, 12, 49408, 77, 768)
    words = load("tiny").tokenizer
    return randomised(CLIP(ViT(visual), TextTower(text), words, name="clip-vit-l-14-336", digest="random"))


def dinov2() -> CLIP:
    """DINOv2 ViT-B/14 with four registers."""
    size = ViTSize(
        width=768,
        depth=12,
        heads=12,
        patch=14,
        grid=37,
        registers=4,
        activation="gelu",
        eps=1e-6,
        pre_norm=False,
        patch_bias=True,
        layer_scale=True,
        resize="bicubic_antialias",
    )
    return randomised(CLIP(ViT(size), name=GUIDE, digest="random", mean=IMAGENET_MEAN, std=IMAGENET_STD))


METHODS: dict[str, Callable[[CLIP], Method]] = {
    "anomalyclip": AnomalyCLIP,
    "crane": Crane,
    "crane-guided": lambda clip: Crane(clip, CraneConfig(guide=GUIDE, layers=(24,)), dinov2()),
    "vip2clip": ViP2CLIP,
}


class Enough(Exception):
    """Raised to end a training before its thresholds are set."""


@dataclass
class Watch:
    """When things happened in a training."""

    epochs: int  # after so many it ends, thresholds unset; 0: it ends by itself
    filled: float = 0.0
    steps: Sequence[float] = ()

    def step(self, step: Step) -> None:
        """For `report`."""
        self.steps = (*self.steps, time.perf_counter())
        if len(self.steps) == self.epochs:
            raise Enough

    def fill(self, done: int, total: int) -> None:
        """For `encoding`."""
        self.filled = time.perf_counter()


def trained(method: Method, samples: Sequence[Sample], mode: str, epochs: int, folder: Path) -> Found:
    """Train in this process: seconds of an epoch, of filling and of the thresholds, and peak memory in bytes."""
    alone = mode == "none"
    watch = Watch(1 if alone else 0)
    start = time.perf_counter()
    with suppress(Enough):
        plan = Plan(epochs=epochs, batch_size=len(samples))
        train(method, samples, SIDE, plan, watch.step, cache=Cache(mode, folder), encoding=watch.fill)
    end = time.perf_counter()
    each = [watch.steps[0] - start] if alone else [after - before for before, after in pairwise(watch.steps)]
    found = {"epoch": median(each), "fill": max(watch.filled - start, 0.0), "peak": peak()}
    return found if alone else found | {"thresholds": end - watch.steps[-1]}


def peak() -> int:
    """Most resident memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def apart(threads: int, *case: Any) -> Found:
    """:func:`trained` in a process of its own, which alone may start threads."""

    def work(send: Connection) -> None:
        torch.set_num_threads(threads)
        send.send(trained(*case))

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(send,))
    process.start()
    send.close()
    found: Found = receive.recv()
    process.join()
    return found


def some(root: Path, count: int) -> list[Sample]:
    """Drawn images, normal and anomalous ones in turn, each of another category as long as there are some."""
    write(root / "data", "auxiliary", normal=1, anomalous=1, size=SIDE, workers=2)
    found = samples_of(root / "data")
    sides = [[sample for sample in found if sample.label == label] for label in (0, 1)]
    return [sides[i % 2][i] for i in range(count)]


def ratio(without: Found, kept: Found, fill: float) -> float:
    """How many times faster 15 epochs are from kept features than with the tower in every epoch."""
    return float(15 * without["epoch"] / (fill + 15 * kept["epoch"]))


def shown(values: Sequence[float]) -> str:
    """Median with the lowest and the highest."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def add_rows(table: Table, name: str, turns: Sequence[dict[str, Found]], images: int, entry: float) -> None:
    """One row for every case of a method; what is on disk is not filled again."""
    for mode in MODES:
        cases, kept = [turn[mode] for turn in turns], [""] * 4
        if mode != "none":
            fills = [case["fill"] for case in cases if case["fill"]]
            many = median(fills) * images / (images + 1)
            ratios = [ratio(turn["none"], turn[mode], many) for turn in turns]
            kept = [shown(fills), shown([case["thresholds"] for case in cases]), shown(ratios), f"{entry / 1e6:.2f}"]
        peaks = f"{max(case['peak'] for case in cases) / 1e6:.0f}"
        table.add_row(name, mode, shown([case["epoch"] for case in cases]), *kept, peaks)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="half of them normal")
    parser.add_argument("--turns", type=int, default=2, help="how often each case runs")
    parser.add_argument("--epochs", type=int, default=5, help="epochs from kept features; the tower runs for one")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    torch.manual_seed(0)
    console, clip = Console(width=160), large_clip()
    console.print(f"random weights at full size, {SIDE} px, {chosen.images} images a step, {chosen.threads} threads")
    table = Table(*COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        samples = some(Path(folder), chosen.images)
        for name in chosen.methods:
            method, cache, turns = METHODS[name](clip), Path(folder) / name, []
            for _ in range(chosen.turns):
                turns.append(
                    {mode: apart(chosen.threads, method, samples, mode, chosen.epochs, cache) for mode in MODES}
                )
            space = FeatureCache(cache).spaces()[0]
            add_rows(table, name, turns, chosen.images, space.bytes / space.entries)
            console.print(f"{name}: done")
    console.print(table)


if __name__ == "__main__":
    main()
