"""Files to pixels: decode, set upright, reduce to eight bits, resize, normalise.

What each kind of file becomes in :func:`read_image`:

- EXIF or TIFF orientation is applied, then forgotten. Of several frames or pages the first is read.
- Alpha of any kind lies over white. Palette, 1-bit, grey and CMYK become RGB; colour profiles are not applied.
- 16-bit grey: 0..65535 becomes 0..255, or 0..4095 where no value is above 4095 (a 12-bit camera's file).
- Float, signed, and integers above 65535: smallest to largest finite value becomes 0..255; NaN counts as smallest.
- 16-bit colour in PNG and TIFF keeps the upper eight bits. Of more than three deep channels the first three are used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zsad.errors import ZsadError

MAX_PIXELS = 200_000_000  # width times height; more is taken for a decompression bomb

# Only formats decoded in memory: Pillow would hand an EPS file to an outside program.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow modes with more than eight bits a channel
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112  # tag of TIFF 6.0 and EXIF 2.3
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Values = NDArray[Any]  # [H, W] or [H, W, C] as stored in the file


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file as an upright RGB image, by the rules at the head of this module.

    Args:
        path: File in any of PNG, JPEG, BMP, TIFF, WebP, GIF, PPM, JPEG 2000, AVIF; the content counts, not the suffix.
        max_pixels: Largest width times height that is decoded. Pillow's own limit holds as well: twice
            `PIL.Image.MAX_IMAGE_PIXELS`, which is 179 million pixels unless a program changes it.

    Raises:
        ZsadError: Missing, empty, damaged, too large, a folder, or not an image; the message names the file.
    """
    return to_rgb(_decode(Path(path), max_pixels, _eight_bits))


def read_mask(
    path: str | Path, size: int | tuple[int, int] | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.bool_]:
    """Decode a ground-truth mask: True wherever any colour channel is not zero, whatever the depth.

    Fully transparent pixels are not marked. A palette's colours count, not its indices.

    Args:
        path: File, as for :func:`read_image`.
        size: Side, or height and width, to resize to by nearest neighbour; None keeps the file's own size.
        max_pixels: As for :func:`read_image`.

    Returns:
        [H, W], upright.

    Raises:
        ZsadError: As for :func:`read_image`.
    """
    mask = _marked(_decode(Path(path), max_pixels, _non_zero))
    if size is None:
        return mask
    height, width = _pair(size)
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def preprocess(
    image: Image.Image, size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Resize and normalise as the released code of the field does (torchvision's Resize, ToTensor, Normalize).

    Pillow's bicubic straight to `size`, so the aspect ratio is not kept; then ``(value / 255 - mean) / std``.

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
    height, width = _pair(size)
    resized = to_rgb(image).resize((width, height), Image.Resampling.BICUBIC)
    unit = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    shift, scale = (np.asarray(values, dtype=np.float32).reshape(3, 1, 1) for values in (mean, std))
    return np.ascontiguousarray((unit - shift) / scale)


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image of any mode as RGB, by the rules at the head of this module; orientation is left alone.

    >>> to_rgb(Image.new("RGBA", (1, 1), (200, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode in _DEEP:
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode(path: Path, max_pixels: int, reduce: Callable[[Values], NDArray[np.uint8]]) -> Image.Image:
    """The upright first frame in a mode of eight bits a channel; `reduce` turns deeper values to eight bits."""
    with _errors_naming(path):
        _check_file(path)
        try:
            image, orientation = _decode_pillow(path, max_pixels, reduce)
        except UnidentifiedImageError:
            if not _is_tiff(path):
                raise
            image, orientation = _decode_tiff(path, max_pixels, reduce)
        return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _decode_pillow(
    path: Path, max_pixels: int, reduce: Callable[[Values], NDArray[np.uint8]]
) -> tuple[Image.Image, int]:
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(path, image.width, image.height, max_pixels)
        image.load()  # a TIFF turns itself upright here and drops its tag
        orientation = _orientation(image)
        if image.mode in _DEEP:
            return Image.fromarray(reduce(np.asarray(image))), orientation
        return image, orientation


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block raises many things and says nothing about the pixels
        return 1


def _decode_tiff(path: Path, max_pixels: int, reduce: Callable[[Values], NDArray[np.uint8]]) -> tuple[Image.Image, int]:
    """The first page of a TIFF that Pillow does not know: half and double floats, deep colour."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        _check_size(path, page.imagewidth, page.imagelength, max_pixels)
        values = page.asarray()
        values = np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values
        if values.ndim == 3:
            values = values[..., :3] if values.shape[-1] > 2 else values[..., 0]
        tag = page.tags.get(_ORIENTATION)
    return Image.fromarray(np.ascontiguousarray(reduce(values))), int(tag.value) if tag else 1


def _eight_bits(values: Values) -> NDArray[np.uint8]:
    """Deep values to 0..255, rounded: see the head of this module for the ranges."""
    if values.dtype == np.uint8:
        return values
    low, high = _value_range(values)
    unit = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return np.rint(255 * unit).astype(np.uint8)


def _value_range(values: Values) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        return 0.0, 65535.0 if high > 4095 else 4095.0
    return low, high


def _non_zero(values: Values) -> NDArray[np.uint8]:
    return np.where(np.nan_to_num(values) != 0, np.uint8(255), np.uint8(0))


def _marked(image: Image.Image) -> NDArray[np.bool_]:
    """[H, W], True where a pixel that can be seen has a colour channel that is not zero."""
    pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    red, green, blue, *alpha = np.moveaxis(pixels, -1, 0)
    marked: NDArray[np.bool_] = (red | green | blue) > 0
    return marked & (alpha[0] > 0) if alpha else marked


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_MAGIC


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ZsadError(f"{path}: expected an image file, found a folder; name the files in it")
    if not path.exists():
        raise ZsadError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise ZsadError(f"{path}: expected an image file, found a device or a pipe; save the image to a file first")
    if path.stat().st_size == 0:
        raise ZsadError(f"{path}: the file is empty (0 bytes); copy it again from its source, or leave it out")


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ZsadError(
            f"{path}: {width} x {height} pixels are more than the limit of {max_pixels:,}; "
            "if the file is to be trusted, make it smaller or raise max_pixels"
        )


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one ZsadError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            yield
    except ZsadError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(_FORMATS)
        raise ZsadError(f"{path}: not an image, or damaged at its start; expected one of {known}") from error
    except Image.DecompressionBombError as error:
        advice = "if the file is to be trusted, make it smaller or raise PIL.Image.MAX_IMAGE_PIXELS"
        raise ZsadError(f"{path}: more pixels than Pillow decodes; {advice} ({error})") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = str(error) or type(error).__name__
        raise ZsadError(f"{path}: cannot be decoded ({reason}); copy it again, or leave it out") from error
