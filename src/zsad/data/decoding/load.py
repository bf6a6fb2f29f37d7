"""Image files to what they store: the first frame, before it is set upright, scaled to eight bits or coloured.

Pillow decodes, except for deep TIFF, which is tifffile's: Pillow (11.3, 13.0) takes the bytes of a value for pixels
where 16-bit colour lies in planes, gives 32-bit integers a sign that have none, and knows no half floats.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from zsad.data.decoding.content import check_file, check_size
from zsad.data.decoding.rules import Rule
from zsad.data.decoding.stored import DEEP, Stored, Values
from zsad.data.reading import Reading

# Only formats decoded in memory: Pillow would hand an EPS file to an outside program.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
_SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF", ".webp": "WEBP", ".gif": "GIF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM",
    ".jp2": "JPEG2000", ".avif": "AVIF", ".dcm": "DICOM", ".dicom": "DICOM",
}  # fmt: skip
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what comes after the pixels of a whole file
_OWN_DEPTH = ("PPM", "JPEG2000")  # these tell their depth, and Pillow spreads their values over 16 bits
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # tags of TIFF 6.0; 274 is EXIF's as well
_PILLOWS_LIMIT = threading.Lock()

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong with a file is said in its ZsadError


def load(path: Path, reading: Reading, exact: bool = False) -> Stored:
    """Decode the first frame of a file; `exact` where values count more than their look, as in a mask.

    Raises:
        Exception: Nearly anything, on a damaged file: to be called within
            :func:`zsad.data.decoding.content.errors_naming`.
    """
    check_file(path)
    with path.open("rb") as file:
        if file.read(132)[128:] == b"DICM":
            return _named(_dicom(path, reading, exact), path, "DICOM")
        try:
            return _pillow(path, file, reading, exact)
        except UnidentifiedImageError:
            file.seek(0)
            if file.read(4) in _TIFF_MAGIC:
                return _named(_tiff(path, file, reading), path, "TIFF")
            if _SUFFIXES.get(path.suffix.lower()) == "DICOM":
                return _dicom(path, reading, exact)
            raise


def _named(stored: Stored, path: Path, found: str) -> Stored:
    """The same with the rule about suffixes, where the suffix is that of another format."""
    other = _SUFFIXES.get(path.suffix.lower(), found) != found
    return stored._replace(rules=(Rule.SUFFIX, *stored.rules)) if other else stored


def _dicom(path: Path, reading: Reading, exact: bool) -> Stored:
    from zsad.data.decoding import dicom

    return dicom.load(path, reading, exact)


def _pillow(path: Path, file: IO[bytes], reading: Reading, exact: bool) -> Stored:
    with _opened(file) as image:
        check_size(path, image.width, image.height, reading.max_pixels)
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        rules = (Rule.FRAME,) if getattr(image, "is_animated", False) else ()
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_deep(image):
            stored = _deep_tiff(path, file, image, reading, exact)
        else:
            stored = _loaded(file, image, reading, exact)
    return _named(stored._replace(rules=tuple(dict.fromkeys((*rules, *stored.rules)))), path, kind)


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[ImageFile.ImageFile]:
    """Pillow's image of a file, its header read; Pillow's own limit of pixels is left to `check_size`."""
    file.seek(0)
    try:
        image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        file.seek(0)
        with _PILLOWS_LIMIT:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _loaded(file: IO[bytes], image: ImageFile.ImageFile, reading: Reading, exact: bool) -> Stored:
    """What Pillow decodes."""
    start, layout = file.tell(), _layout(image)
    turned = _orientation(image) if image.format == "TIFF" else 1
    white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    image.load()  # a TIFF turns itself upright here and drops its tag
    _check_end(file, str(image.format), start)
    rules = (Rule.TURNED,) if (orientation := _orientation(image)) > 1 or turned > 1 else ()
    if image.mode in DEEP:
        return Stored(np.asarray(image), rules, orientation, 16 if image.format in _OWN_DEPTH else 0)
    if layout in ("RGB;16B", "RGBA;16B"):
        values = _sixteen_bits(file, image, layout, reading, exact)
        return Stored(values, rules, orientation, alpha="A" if image.mode == "RGBA" else "")
    return Stored(image, (*rules, Rule.DEEP_COLOUR) if ";16" in layout else rules, orientation, inverted=white_is_zero)


def _layout(image: ImageFile.ImageFile) -> str:
    """How Pillow says that the pixels of a file lie, such as "RGB;16B"."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _orientation(image: Image.Image) -> int:
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block raises many things and says nothing about the pixels
        return 1
    return found if 1 < found <= 8 else 1


def _check_end(file: IO[bytes], kind: str, start: int) -> None:
    """That the end marker comes after the pixels, of which Pillow takes zeros for some in a file cut short."""
    if (mark := _ENDS.get(kind)) is None:
        return
    for place in (max(start, file.seek(0, os.SEEK_END) - 1024), start):
        file.seek(place)
        if mark in file.read():
            return
    raise ValueError("its end is missing: truncated, or filled up with other bytes")


def _sixteen_bits(file: IO[bytes], image: ImageFile.ImageFile, layout: str, reading: Reading, exact: bool) -> Values:
    """The values of 16-bit colour in a PNG, of which Pillow has kept the upper bytes; the lower where they matter."""
    upper = np.asarray(image).astype(np.uint16) << 8
    if not exact and not reading.bits and _brightest(image) > 15:
        return upper
    with _opened(file) as again:
        again.tile = [tile._replace(args=layout.replace(";16B", ";16L")) for tile in again.tile]
        again.load()
        return np.asarray(upper | np.asarray(again))


def _is_deep(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether values are deeper than eight bits, or signed, in grey or RGB."""
    bits, kinds = (image.tag_v2.get(tag, (1,)) for tag in (_BITS, _SAMPLE_FORMAT))
    return image.tag_v2.get(_PHOTOMETRIC) in (0, 1, 2) and (max(bits) > 8 or max(kinds) > 1)


def _deep_tiff(
    path: Path, file: IO[bytes], image: TiffImagePlugin.TiffImageFile, reading: Reading, exact: bool
) -> Stored:
    """By tifffile; by Pillow where tifffile needs another package for the compression, and Pillow reads it rightly."""
    try:
        return _tiff(path, file, reading)
    except ValueError as error:
        grey = image.mode == "F" or (image.mode in DEEP and max(image.tag_v2.get(_BITS, (1,))) <= 16)
        colour = ";16" in _layout(image) and not exact and not reading.bits
        if "imagecodecs" not in str(error) or not (grey or colour):
            raise
        stored = _loaded(file, image, reading, exact)
        if isinstance(stored.pixels, Image.Image) and _brightest(stored.pixels) <= 15:
            raise  # twelve bits, of which Pillow keeps four
    return stored._replace(inverted=image.tag_v2.get(_PHOTOMETRIC) == 0)


def _brightest(image: Image.Image) -> int:
    return int(np.asarray(image)[..., :3].max())


def _tiff(path: Path, file: IO[bytes], reading: Reading) -> Stored:
    """The first page of a TIFF, by tifffile."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        check_size(path, page.imagewidth, page.imagelength, reading.max_pixels, page.size)
        values, shape = page.asarray(), (page.imagelength, page.imagewidth)
        orientation = int(page.tags[_ORIENTATION].value) if _ORIENTATION in page.tags else 1
        rules = [Rule.FRAME] * (len(tiff.pages) > 1) + [Rule.TURNED] * (1 < orientation <= 8)
        alpha = {1: "a", 2: "A"}.get(int(page.extrasamples[-1]), "") if page.extrasamples else ""
        planes_first, inverted = page.axes.startswith("S"), page.photometric == 0
    values = np.moveaxis(values, 0, -1) if planes_first else values
    if values.shape[:2] != shape or values.ndim > 3:
        raise ValueError(f"its pixels are missing, or more than a plane: {values.shape} in place of {shape}")
    if alpha and values.dtype.kind == "f":  # no range is known that would tell what is opaque
        values, alpha = values[..., :-1], ""
    return Stored(values, tuple(rules), orientation, 0, alpha, inverted)
