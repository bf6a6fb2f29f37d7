"""DICOM files to pixels, with pydicom: the extra `zsad[dicom]`.

Grey values are rescaled (modality LUT, slope and intercept), then windowed (VOI LUT, or centre and width), by pydicom's
own functions; DICOM PS3.3 C.7.6.3, C.11.1 and C.11.2 say what they mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from zsad.data.decoding.content import AGAIN, check_size
from zsad.data.decoding.rules import Rule
from zsad.data.decoding.stored import Stored, Values
from zsad.data.reading import Reading
from zsad.errors import ZsadError

_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def load(path: Path, reading: Reading, exact: bool = False) -> Stored:
    """The first frame of a DICOM file as a viewer shows it; `exact` gives the values as stored, as for a mask.

    Raises:
        ZsadError: If pydicom is not installed, cannot decode the file, or the file holds no image.
        Exception: Nearly anything, on a damaged file.
    """
    header = _header(path)
    if "Rows" not in header or "Columns" not in header:
        if not header.file_meta:  # nothing of it says DICOM but its suffix
            raise UnidentifiedImageError
        kind = header.get("Modality") or "not told"
        raise ZsadError(f"{path}: a DICOM file without an image (modality {kind}), or cut short; leave it out")
    check_size(path, int(header.Columns), int(header.Rows), reading.max_pixels)
    values = _frame(path, header)
    rules = (Rule.FRAME,) if int(header.get("NumberOfFrames") or 1) > 1 else ()
    return Stored(values, rules) if exact else _shown(values, header, reading, rules)


def _header(path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ZsadError(f"{path}: reading DICOM files needs pydicom; pip install 'zsad[dicom]'") from error
    return pydicom.dcmread(path, stop_before_pixels=True, force=True)


def _frame(path: Path, header: Any) -> Values:
    """The first frame as stored, [H, W] or [H, W, 3]; RGB where the file has luminance and chroma."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    guessed = ImplicitVRLittleEndian if header.original_encoding[0] else ExplicitVRLittleEndian
    syntax = header.file_meta.get("TransferSyntaxUID", guessed)  # files from before DICOM's Part 10 tell none
    try:
        return np.asarray(pixel_array(path, index=0, transfer_syntax_uid=syntax))
    except (RuntimeError, NotImplementedError) as error:
        if "missing dependencies" in str(error) or isinstance(error, NotImplementedError):
            raise ZsadError(f"{path}: DICOM with {syntax.name} needs another decoder; {_DECODERS}") from error
        raise ZsadError(f"{path}: its pixels, {syntax.name}, cannot be decoded; {AGAIN}") from error


def _shown(values: Values, header: Any, reading: Reading, rules: tuple[Rule, ...]) -> Stored:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if header.PhotometricInterpretation == "PALETTE COLOR":
        return Stored(apply_color_lut(values, header), (*rules, Rule.PALETTE), bits=_palette_bits(header))
    if values.ndim == 3:
        return Stored(values, rules, bits=int(header.BitsStored))
    values = apply_modality_lut(values, header)
    if reading.window or _has_window(header):
        values = _windowed(values, header, reading)
        rules = (*rules, Rule.TOLD_WINDOW if reading.window else Rule.WINDOW)
    else:
        values = values.astype(np.float64)
    return Stored(values, rules, inverted=header.PhotometricInterpretation == "MONOCHROME1")


def _palette_bits(header: Any) -> int:
    return int(header.RedPaletteColorLookupTableDescriptor[2])


def _has_window(header: Any) -> bool:
    """Whether there is a table, or a window of some width: zero is written by programs that know none."""
    width, centre = header.get("WindowWidth"), header.get("WindowCenter")
    return bool(header.get("VOILUTSequence")) or (None not in (width, centre) and np.ravel(width)[0] >= 1)


def _windowed(values: Values, header: Any, reading: Reading) -> NDArray[np.uint8]:
    """Grey values as the window shows them, 0 to 255."""
    from pydicom.pixels.processing import apply_voi_lut, apply_windowing

    if reading.window:
        header.WindowCenter, header.WindowWidth = reading.window
        header.VOILUTFunction, header.VOILUTSequence = "LINEAR", []
    shown = apply_voi_lut(values, header)
    if header.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
    else:  # pydicom fills the range of the stored values; what it makes of a tiny and a huge one tells which
        low, high = apply_windowing(np.array([-1e12, 1e12]), header)
    return np.rint(255 * (shown - low) / (high - low)).astype(np.uint8)
