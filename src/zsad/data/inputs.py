"""One sample to the bytes of a network's input: what a worker does. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsad.data.altered import Altered
from zsad.data.fit import Box, Size, place
from zsad.data.images import read_sample, read_sample_mask, resize, resize_mask
from zsad.data.mosaic import Mosaic, pieced, pieced_masks
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
    notes: tuple[tuple[Sample, str], ...]  # rules that were applied in reading, each with the sample it was applied to
    blank: NDArray[np.bool_] | None = None  # [h, w], pixels that show nothing: 0 after normalisation; None for none


def mask_known(sample: Sample) -> bool:
    """Whether every pixel's truth is known: there is a mask, or the image is labelled normal."""
    return sample.mask is not None or sample.label == 0


class Picture(NamedTuple):
    """An image as it is stored, with its truth."""

    image: Image.Image  # RGB
    mask: NDArray[np.bool_] | None  # at the size of the image, or its own; None where not asked for or not known
    notes: tuple[tuple[Sample, str], ...]


def read_item(sample: Sample, form: Form) -> Item | str:
    """A sample as bytes, resized as :func:`zsad.data.images.preprocess` does, not normalised.

    Returns:
        In place of an item what is wrong, in words, where a file cannot be read.
    """
    try:
        picture = _picture(sample, form)
        return _moved(sample, picture, form) if isinstance(sample, Altered) and sample.moves else _item(picture, form)
    except ZsadError as error:
        return str(error)


def _picture(sample: Sample, form: Form) -> Picture:
    """What a sample shows, in its own size."""
    if isinstance(sample, Mosaic):
        return _mosaic([_picture(tile, form) for tile in sample.tiles])
    if isinstance(sample, Altered) and sample.original is not None:
        plain = _picture(sample.original, form)
        return plain._replace(image=sample.coloured(plain.image))
    decoded = read_sample(sample, form.reading)
    mask, told = _mask(sample, form, (decoded.image.height, decoded.image.width)) if form.masks else (None, ())
    return Picture(decoded.image, mask, tuple((sample, note) for note in (*decoded.notes, *told)))


def _mask(sample: Sample, form: Form, size: Size) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """The mask as it is stored, empty for a normal sample; and notes."""
    if not mask_known(sample):
        return None, ()
    if sample.mask is None:
        return np.zeros(size, dtype=np.bool_), ()
    stored = read_sample_mask(sample, reading=form.reading)
    return stored, () if stored.shape == size else ("mask of another size than its image, stretched over it",)


def _mosaic(tiles: list[Picture]) -> Picture:
    masks = [tile.mask for tile in tiles if tile.mask is not None]
    first, notes = tiles[0].image, tuple(note for tile in tiles for note in tile.notes)
    mask = pieced_masks(masks, (first.height, first.width)) if len(masks) == len(tiles) else None
    return Picture(pieced([tile.image for tile in tiles]), mask, notes)


def _item(picture: Picture, form: Form) -> Item:
    """A picture where it lies in the network's input, its mask resized by nearest neighbour."""
    size = picture.image.height, picture.image.width
    frame, box = place(size, form.size, form.reading.fit, form.multiple)
    pixels = np.array(resize(picture.image, (box.height, box.width)))
    mask = None
    if picture.mask is not None:
        mask = np.zeros(frame if form.placed else form.size, dtype=np.bool_)
        if picture.mask.any():
            part = box if form.placed else Box(0, 0, *form.size)
            mask[part.inside] = resize_mask(picture.mask, (part.height, part.width))
    return Item(pixels, frame, box, mask, picture.notes)


def _moved(sample: Altered, picture: Picture, form: Form) -> Item:
    """A picture that is moved in the network's input, all of which counts as image then, and its mask with it."""
    item = _item(picture, replace(form, placed=True))
    pixels, blank = sample.moved_pixels(item.pixels, item.frame, item.box)
    mask = None if item.mask is None else np.array(sample.moved(Image.fromarray(item.mask)))
    if mask is not None and not form.placed:
        mask = resize_mask(mask, form.size)
    return replace(item, pixels=pixels, box=Box(0, 0, *item.frame), mask=mask, blank=blank)
