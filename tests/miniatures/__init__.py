"""Miniatures of datasets: two or three images per class, under the folder and file names of the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

SIDE = 24


@dataclass(frozen=True)
class Miniature:
    """How to write a dataset in one of its layouts, and what is then in it."""

    dataset: str  # a name of the catalog
    layout: str  # "original", or whose packaging: "AdaCLIP", "anomalib", ...
    write: Callable[[Path], None]  # fills an empty folder, which is then the dataset's root
    counts: dict[str, tuple[int, int]]  # split -> (normal, anomalous)
    masks: int  # samples with a mask, over all splits
    classes: int = 1


def picture(path: Path, number: int = 0, size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGB") -> None:
    """A small image with its own content; `number` makes files of one set differ. `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = [crc32(path.as_posix()[-72:].encode()), number]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def mask(path: Path, marked: bool = True, size: tuple[int, int] = (SIDE, SIDE), rows: slice = slice(3, 9)) -> None:
    """A mask [H, W] with some marked pixels in the given rows, or none. `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    if marked:
        pixels[rows, 4:12] = 255
    Image.fromarray(pixels).save(path)


def miniatures() -> list[Miniature]:
    """All of them."""
    from tests.miniatures import industrial, later, medical

    return [*industrial.MINIATURES, *medical.MINIATURES, *later.MINIATURES]
