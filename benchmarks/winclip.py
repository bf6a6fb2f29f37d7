"""WinCLIP's windows in shared passes against one window at a time, on one image and the embedded backbone.

    python benchmarks/winclip.py [--patches 37] [--turns 3]

Prints CPU seconds, one thread, of `WinCLIP.encode` and of `spread` beside loops over windows, and their ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from torch import Tensor

from zsad.backbones.weights import load
from zsad.methods import winclip
from zsad.methods.winclip import WinCLIP, spread, window_tokens


def seconds(work: Callable[[], object], turns: int) -> float:
    """The median CPU time of some calls."""
    taken = []
    for _ in range(turns):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return median(taken)


def one_by_one(method: WinCLIP, images: Tensor) -> Tensor:
    """`encode` with a pass of its own for each window."""
    kept, winclip.TOKENS = winclip.TOKENS, 1
    windows = method.encode(images).windows
    winclip.TOKENS = kept
    return windows


def spread_by_loop(values: Tensor, grid: tuple[int, int], side: tuple[int, int]) -> Tensor:
    """`spread`, window by window."""
    total = torch.zeros(len(values), grid[0] * grid[1])
    count = torch.zeros_like(total)
    for window, tokens in enumerate(window_tokens(grid, side)[:, 1:] - 1):
        total[:, tokens] += values[:, window, None]
        count[:, tokens] += 1
    return total / count


@torch.inference_mode()
def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=37, help="rows and columns of patches")
    parser.add_argument("--turns", type=int, default=3, help="calls of which the median is taken; the loops run once")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    method, console = WinCLIP(load("tiny")), Console(width=160)
    patch, grid = method.backbone.visual.size.patch, (chosen.patches, chosen.patches)
    images = torch.randn(1, 3, patch * grid[0], patch * grid[1])
    count = method.encode(images).windows.shape[1]
    console.print(f"{count} windows of an image of {grid[0]} x {grid[1]} patches, one thread, CPU seconds")
    shared = seconds(lambda: method.encode(images), chosen.turns)
    alone = seconds(lambda: one_by_one(method, images), 1)
    console.print(f"passes: shared {shared:.2f}, one by one {alone:.2f}, ratio {alone / shared:.1f}")
    side, values = (3, 3), torch.rand(1, (grid[0] - 2) * (grid[1] - 2))
    folded = seconds(lambda: spread(values, grid, side), 100)
    looped = seconds(lambda: spread_by_loop(values, grid, side), 1)
    console.print(f"mean over 3 x 3 windows: {folded:.5f}, by a loop {looped:.3f}, ratio {looped / folded:.0f}")


if __name__ == "__main__":
    main()
