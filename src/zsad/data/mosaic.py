"""Four pictures as one: a sample that is made of four others.

The released code of APRIL-GAN, AdaCLIP and Crane trains on such mosaics; :mod:`zsad.training.augment` says which of
their images they replace, and which four they take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsad.data.fit import Size
from zsad.data.images import resize, resize_mask
from zsad.errors import ZsadError
from zsad.types import Sample


@dataclass(frozen=True)
class Mosaic(Sample):
    """Four samples in a square: two above, two below, in reading order. Read it by :func:`zsad.data.inputs.read_item`.

    Its own fields are those of the whole; `image` and `mask` name the files of the sample that it stands for.

    >>> from pathlib import Path
    >>> good, bad = (Sample(Path(f"{i}.png"), label=i, class_name="nut") for i in (0, 1))
    >>> Mosaic.of(good, [good, good, bad, good], label=1).class_name
    'nut'
    """

    tiles: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tiles) != 4:
            raise ZsadError(f"{self.image}: a mosaic is made of four images, got {len(self.tiles)}")

    @classmethod
    def of(cls, sample: Sample, tiles: Sequence[Sample], label: int | None) -> Mosaic:
        """The mosaic that stands for a sample, with what is known of that; only the label is given anew."""
        known = {field.name: getattr(sample, field.name) for field in dataclasses.fields(Sample)}
        return cls(**{**known, "label": label}, tiles=tuple(tiles))


def pieced(images: Sequence[Image.Image]) -> Image.Image:
    """Four images as one, twice as wide and high as the first; images of another size are resized to that of the first.

    Released code pastes every image as large as it is (ByChelsea/VAND-APRIL-GAN at f13b8a6, dataset.py:117-134;
    caoyunkang/AdaCLIP at e27ee32, dataset/base_dataset.py:79-96; AlirezaSalehy/Crane at 39181f9,
    dataset/dataset.py:109-126), which for images of one size, as those of a class of MVTec AD are, is the same.

    >>> four = [Image.new("RGB", (3, 2), (value, 0, 0)) for value in (10, 20, 30, 40)]
    >>> [pieced(four).getpixel(place)[0] for place in ((0, 0), (5, 0), (0, 3), (5, 3))]
    [10, 20, 30, 40]
    """
    width, height = images[0].size
    whole = Image.new("RGB", (2 * width, 2 * height))
    for i, image in enumerate(images):
        tile = image if image.size == (width, height) else resize(image, (height, width))
        whole.paste(tile, (i % 2 * width, i // 2 * height))
    return whole


def pieced_masks(masks: Sequence[NDArray[np.bool_]], size: Size) -> NDArray[np.bool_]:
    """Four masks as one, laid out as :func:`pieced` does, each resized to `size`, which is that of the first image."""
    a, b, c, d = (resize_mask(mask, size) for mask in masks)
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])
