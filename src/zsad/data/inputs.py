"""One sample to the bytes of a network's input: what a worker does. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsad.data.fit import Box, Size, place
from zsad.data.images import read_sample, read_sample_mask, resize, resize_mask
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.types import Sample


@dataclass(frozen=True)
class Form:
    """What the inputs of a run look like."""

    size: Size  # of the network's input as published, in pixels
    reading: Reading = Reading()
    multiple: int = 1  # of which both sides are multiples where the aspect ratio is kept without filling
    masks: bool = True  # whether to read them
    placed: bool = False  # masks lie in the network's input as the image does; else they are stretched to `size`


@dataclass(frozen=True)
class Item:
    """One sample as bytes."""

    pixels: NDArray[np.uint8]  # [h, w, 3] RGB, the image at the size of its box
    frame: Size  # of the network's input
    box: Box  # where the image lies in it
    mask: NDArray[np.bool_] | None  # [H, W]; None where masks were not asked for, or it is not known
    notes: tuple[str, ...]  # rules that were applied in reading


def mask_known(sample: Sample) -> bool:
    """Whether every pixel's truth is known: there is a mask, or the image is labelled normal."""
    return sample.mask is not None or sample.label == 0


def read_item(sample: Sample, form: Form) -> Item | str:
    """A sample as bytes, resized as :func:`zsad.data.images.preprocess` does, not normalised.

    Returns:
        In place of an item what is wrong, in words, where a file cannot be read.
    """
    try:
        decoded = read_sample(sample, form.reading)
        width, height = decoded.image.size
        frame, box = place((height, width), form.size, form.reading.fit, form.multiple)
        pixels = np.array(resize(decoded.image, (box.height, box.width)))
        mask, told = _mask(sample, form, frame, box, (height, width)) if form.masks else (None, ())
    except ZsadError as error:
        return str(error)
    return Item(pixels, frame, box, mask, (*decoded.notes, *told))


def _mask(
    sample: Sample, form: Form, frame: Size, box: Box, size: Size
) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """[H, W], by nearest neighbour; empty for a normal sample, and around the image where that is placed; and notes."""
    if not mask_known(sample):
        return None, ()
    mask = np.zeros(frame if form.placed else form.size, dtype=np.bool_)
    if sample.mask is None:
        return mask, ()
    stored, part = read_sample_mask(sample, reading=form.reading), box if form.placed else Box(0, 0, *form.size)
    mask[part.inside] = resize_mask(stored, (part.height, part.width))
    return mask, () if stored.shape == size else ("mask of another size than its image, stretched over it",)
