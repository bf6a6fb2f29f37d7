"""Files to pixels: decode, set upright, reduce to eight bits, resize, normalise; masks.

What becomes of files that are not plain 8-bit RGB or grey is said in :mod:`zsad.data.decoding.rules`, one rule for
each kind.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsad.data.decoding.content import errors_naming
from zsad.data.decoding.load import load
from zsad.data.decoding.stored import DEEP, Stored, marked, shown
from zsad.data.files import part_rows, scan
from zsad.data.reading import MAX_PIXELS, Reading
from zsad.errors import ZsadError
from zsad.types import Sample

_PLAIN = Reading()


class Decoded(NamedTuple):
    """An image and the rules that made it."""

    image: Image.Image  # RGB, upright
    notes: tuple[str, ...] = ()  # of each :class:`zsad.data.decoding.rules.Rule` that was applied; none for plain files


def decode(path: str | Path, reading: Reading = _PLAIN) -> Decoded:
    """Decode an image file as an upright RGB image.

    Args:
        path: PNG, JPEG, BMP, TIFF, WebP, GIF, PPM, JPEG 2000, AVIF or DICOM; the content counts, not the suffix.
        reading: Its `background`, `bits`, `window` and `max_pixels` count here.

    Raises:
        ZsadError: Missing, empty, damaged, cut short, too large, a folder, or not an image; the message names the
            file and says what to do.
    """
    with errors_naming(Path(path)):
        image, rules = shown(load(Path(path), reading), reading)
        return Decoded(image, tuple(rule.note for rule in rules))


def read_image(path: str | Path, reading: Reading = _PLAIN) -> Image.Image:
    """The image of :func:`decode`."""
    return decode(path, reading).image


def read_sample(sample: Sample, reading: Reading = _PLAIN) -> Decoded:
    """The image of a sample, as :func:`decode` gives it; only the rows of its part, where it has one.

    Raises:
        ZsadError: As :func:`decode`, or if the part has no row.
    """
    image, notes = decode(sample.image, reading)
    if sample.part is None:
        return Decoded(image, notes)
    rows = _rows(sample.image, image.height, sample)
    return Decoded(image.crop((0, rows.start, image.width, rows.stop)), notes)


def read_mask(
    path: str | Path, size: int | tuple[int, int] | None = None, reading: Reading = _PLAIN
) -> NDArray[np.bool_]:
    """Decode a ground-truth mask: True wherever a channel is not zero, or above `reading.mask_above` where that is set.

    The values are those of the file, whatever its depth; those of a palette are its colours, not its indices, and a
    set bit counts as 255. Fully transparent pixels are not marked. A mask that was saved as JPEG has faint pixels
    around what it marks: `mask_above=127` leaves them out, released code marks them.

    Args:
        path: File, as for :func:`decode`; or a folder, which stands for the union of the masks in it.
        size: Side, or height and width, to resize to by nearest neighbour; None keeps the file's own size.
        reading: Its `mask_above` and `max_pixels` count here.

    Returns:
        [H, W], upright.

    Raises:
        ZsadError: As :func:`decode`; or a folder without masks, or with masks of different sizes.
    """
    mask = _united(Path(path), reading) if os.path.isdir(path) else _file_mask(Path(path), reading)
    return resize_mask(mask, size)


def read_sample_mask(
    sample: Sample, size: int | tuple[int, int] | None = None, reading: Reading = _PLAIN
) -> NDArray[np.bool_]:
    """The mask of a sample, as :func:`read_mask` gives it; only the rows of its part, where it has one.

    Raises:
        ZsadError: As :func:`read_mask`, or if the sample has no mask, or the part no row.
    """
    if sample.mask is None:
        raise ZsadError(f"{sample.image}: has no mask; name its file in the manifest, or read no masks")
    mask = read_mask(sample.mask, reading=reading)
    if sample.part is not None:
        mask = mask[_rows(sample.mask, len(mask), sample)]
    return resize_mask(mask, size)


def preprocess(
    image: Image.Image, size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Resize and normalise as the released code of the field does (torchvision's Resize, ToTensor, Normalize).

    Straight to `size` by :func:`resize`, so the aspect ratio is not kept; then ``(value / 255 - mean) / std``.
    For plain RGB and grey the result is that of the released transforms to the last bit (tests/test_images.py; zqhang/
    AnomalyCLIP at 45ed4dd, utils.py:14-24 and AnomalyCLIP_lib/transform.py:124-134, and alike in the other papers).

    Departure: the released code of most papers resizes first and converts to RGB afterwards, zsad the other way round,
    by :mod:`zsad.data.decoding.rules`. So there palette and 1-bit images are resized by nearest neighbour, as Pillow
    does with these; transparent pixels come out black, or in the colour stored under them; 16-bit grey is cut at 255,
    which leaves it nearly white; and EXIF orientation is not applied. Of the 253 files of BrainMRI two differ: "no
    98.jpg", a palette PNG (by 1.2 of 255 in the mean), and "no.jpg", with transparent pixels (0.2).

    Args:
        image: Any mode; other than RGB is converted by :func:`to_rgb`.
        size: Side, or height and width, in pixels.
        mean: Three values, RGB, for colours in [0, 1].
        std: Three values, RGB, for colours in [0, 1].

    Returns:
        [3, H, W], channels R, G, B.

    >>> preprocess(Image.new("RGB", (4, 2), (255, 0, 51)), (2, 3), (0.5, 0.5, 0.0), (0.5, 0.5, 1.0))[:, 0, 0].tolist()
    [1.0, -1.0, 0.20000000298023224]
    """
    resized = resize(to_rgb(image), size)
    unit = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    shift, scale = (np.asarray(values, dtype=np.float32).reshape(3, 1, 1) for values in (mean, std))
    return np.ascontiguousarray((unit - shift) / scale)


def resize(image: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """Pillow's bicubic to a side, or to height and width, first across, then down.

    That was Pillow's own order up to 12.3, and so that of the published numbers. Pillow 13 goes down first where the
    height shrinks much more than the width (python-pillow/Pillow#9549), which changes a quarter of the values of
    photographs of 576 x 768 at 518 x 518, most by 1 of 255, some by 7. An image so high that the first step would not
    fit into memory goes down first.
    """
    height, width = _pair(size)
    first = (width, image.height) if width * image.height <= MAX_PIXELS else (image.width, height)
    return image.resize(first, Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)


def to_rgb(image: Image.Image, reading: Reading = _PLAIN) -> Image.Image:
    """A decoded image of any mode as RGB, by the rules of :mod:`zsad.data.decoding.rules`; orientation is left alone.

    >>> to_rgb(Image.new("RGBA", (1, 1), (200, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    return shown(Stored(np.asarray(image) if image.mode in DEEP else image), reading)[0]


def _file_mask(path: Path, reading: Reading) -> NDArray[np.bool_]:
    with errors_naming(path):
        return marked(load(path, reading, exact=True), reading.mask_above)


def _united(folder: Path, reading: Reading) -> NDArray[np.bool_]:
    """What any of the masks in a folder marks."""
    masks = {file.path: _file_mask(file.path, reading) for file in scan(folder)}
    if not masks:
        raise ZsadError(f"{folder}: expected a mask, or a folder of masks; found a folder without images")
    sizes = {mask.shape: path for path, mask in masks.items()}
    if len(sizes) > 1:
        found = ", ".join(f"{path.name} is {width} x {height}" for (height, width), path in sizes.items())
        raise ZsadError(f"{folder}: masks of one image must have one size; {found} pixels")
    union: NDArray[np.bool_] = np.logical_or.reduce(list(masks.values()))
    return union


def _rows(path: Path, height: int, sample: Sample) -> slice:
    rows = part_rows(height, sample.part)
    if rows.start >= rows.stop:
        raise ZsadError(f"{path}: {height} rows cannot be cut into {sample.part and sample.part[1]} parts; mend `part`")
    return rows


def resize_mask(mask: NDArray[np.bool_], size: int | tuple[int, int] | None) -> NDArray[np.bool_]:
    """A mask [H, W] at another size, a side or (height, width), by nearest neighbour; None keeps it."""
    if size is None or _pair(size) == mask.shape:
        return mask
    height, width = _pair(size)
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
