"""What is in a file that cannot be read as an image, in words that say what to do."""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from zsad.errors import ZsadError

AGAIN = "copy it again, save it anew, or leave it out"
_FETCH = "the download gave it in place of the file; open the address in a browser, and download again"
_AVIF = AGAIN if features.check("avif") else "this Pillow was built without AVIF; pip install --upgrade pillow"

# What a file begins with, what it is, what to do. The first that fits counts.
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the image itself", "run git lfs pull in its repository"),
    (rb"[./]*(\.git/annex|annex/objects)/", "a git-annex pointer, not the image itself", "run git annex get on it"),
    (rb"(?i)\s*<(!doctype html|html|head|script)", "a web page", _FETCH),
    (rb"(?i)\s*(<\?xml|<svg)", "an SVG drawing or other XML", "export it as PNG"),
    (rb"\s*\{", "JSON text", _FETCH),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive", "unpack it"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed file", "unpack it"),
    (rb"%PDF", "a PDF document", "export its pages as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript", "export it as PNG"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC photograph", "convert it first: heif-convert photo.heic photo.png"),
    (rb"....ftypavi[fs]", "a damaged AVIF file, or one that Pillow does not read", _AVIF),
    (rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3", "a video", "take frames out of it: ffmpeg -i video frame%04d.png"),
    (rb"\x93NUMPY", "a NumPy array", "write it as TIFF with tifffile.imwrite"),
    (rb"8BPS", "a Photoshop document", "export it as PNG"),
    (rb"\xff\xd8\xff", "a JPEG file damaged at its start, or lossless or 12-bit, which Pillow does not read", AGAIN),
    (rb"\x89PNG", "a PNG file damaged at its start", AGAIN),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a TIFF file damaged at its start", AGAIN),
    (rb"\0{256}", "zeros", "copying it was cut short; copy it again"),
    (rb"[\t\n\f\r\x20-\x7e]+$", "text", "see what it says, and put the image in its place"),
)
_UNKNOWN = "damaged at its start, or of a format that is not read; expected PNG, JPEG, TIFF, BMP, WebP, GIF, PPM, "
_UNKNOWN += "JPEG 2000, AVIF or DICOM"


def describe(head: bytes) -> str:
    """What a file is by its first bytes, and what to do about it.

    >>> describe(b"%PDF-1.7")
    'a PDF document; export its pages as PNG'
    """
    for beginning, kind, advice in _KINDS:
        if re.match(beginning, head, re.DOTALL):
            return f"{kind}; {advice}"
    return _UNKNOWN


def check_file(path: Path) -> None:
    """That a path is a file with something in it; a pipe is not opened, so nothing waits for it.

    Raises:
        ZsadError: If it is not.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise ZsadError(f"{path}: a link to {path.readlink()}, which does not exist; mend or remove it") from None
        raise ZsadError(f"{path}: no such file; check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise ZsadError(f"{path}: expected an image file, found a folder; name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise ZsadError(f"{path}: expected an image file, found a device or a pipe; save the image to a file first")
    if status.st_size == 0:
        raise ZsadError(f"{path}: the file is empty (0 bytes); copy it again from its source, or leave it out")


def check_size(path: Path, width: int, height: int, limit: int, values: int = 0) -> None:
    """That an image has no more pixels than allowed, from its header, before anything is decoded.

    Args:
        path: For the message.
        width: In pixels.
        height: In pixels.
        limit: Largest width times height.
        values: How many numbers the pixels hold, where that is known; of many channels four count as one pixel.

    Raises:
        ZsadError: If it has more, or none.
    """
    if width < 1 or height < 1:
        raise ZsadError(f"{path}: {width} x {height} pixels; {AGAIN}")
    if max(width * height, values // 4) > limit:
        channels = f" of {values // (width * height)} values" if width * height <= limit else ""
        raise ZsadError(
            f"{path}: {width} x {height} pixels{channels} are more than the limit of {limit:,}; "
            "if the file is to be trusted, make it smaller or raise max_pixels"
        )


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one ZsadError that names the file; what it warns of is not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged metadata, which says nothing about the pixels
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            yield
    except ZsadError:
        raise
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            raise ZsadError(f"{path}: not an image that can be read: {describe(file.read(512))}") from error
    except PermissionError as error:
        raise ZsadError(f"{path}: you may not read it; change its permissions, such as chmod u+r") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "pip install imagecodecs, or save it without compression" if "imagecodecs" in reason else AGAIN
        raise ZsadError(f"{path}: cannot be decoded ({reason}); {advice}") from error
