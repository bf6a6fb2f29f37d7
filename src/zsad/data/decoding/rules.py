"""What is done to files that are not plain: 8-bit RGB or grey, upright, one frame, under the suffix of their format."""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """A rule of reading: its note, to which files it applies, and what is done, and why.

    The notes are fixed sentences without numbers of one file, so that a run can count them.

    >>> Rule.TURNED.note
    'EXIF orientation applied'
    """

    TURNED = (
        "EXIF orientation applied",
        "EXIF or TIFF orientation other than 1",
        "set upright, masks as well, as every viewer shows it; released code leaves it turned",
    )
    FRAME = (
        "first frame of several",
        "animated GIF, PNG, WebP, AVIF; TIFF pages; MPO; frames of DICOM",
        "the first is read, the others are not: a sample is one picture",
    )
    SUFFIX = (
        "content of another format than the suffix says",
        "a PNG named .jpg, and the like",
        "the content counts: photographs are renamed more often than converted",
    )
    ALPHA = (
        "transparent pixels over the background",
        "alpha channel, or a transparent colour, with a pixel that is not opaque",
        "blended over `background` (white); released code shows black, or whatever colour is stored there",
    )
    PALETTE = ("palette to RGB", "GIF, palette PNG, BMP, TIFF", "the colours count, not the indices; in masks too")
    BINARY = ("1 bit to black and white", "1-bit PNG, TIFF, BMP, PBM", "0 and 255")
    CMYK = (
        "CMYK to RGB without colour profile",
        "CMYK JPEG (Adobe's inverted ones too) and TIFF",
        "by Pillow's formula: no colour profile of any file is applied, as in released code",
    )
    DEEP = (
        "16-bit grey: 0..65535 to 0..255",
        "16-bit grey in PNG, TIFF, JPEG 2000, PGM",
        "scaled and rounded; Pillow by itself, and so released code, cuts at 255 and leaves a white picture",
    )
    DEEP_COLOUR = (
        "16-bit colour: upper eight bits",
        "16-bit RGB and RGBA in PNG and TIFF",
        "as Pillow does, and so released code",
    )
    TWELVE = (
        "12 bits in 16: 0..4095 to 0..255",
        "16-bit PNG and TIFF, grey or colour, with no value above 4095",
        "taken for the file of a 12-bit camera, which would be black otherwise; `bits` says it for all files alike",
    )
    TOLD_BITS = (
        "depth as told by bits",
        "16-bit PNG and TIFF, where `bits` is given",
        "0 to 2^bits - 1 becomes 0..255, more is white: files of one camera stay comparable",
    )
    SPAN = (
        "own smallest to largest value to 0..255",
        "float, signed, above 65535; DICOM without a window",
        "no range is known; NaN counts as smallest, infinite values as the nearest end",
    )
    CHANNELS = (
        "first three channels of several",
        "TIFF of more channels than colours and alpha",
        "taken for RGB; of two channels the first is taken for grey",
    )
    INVERTED = (
        "0 is white: inverted",
        "DICOM MONOCHROME1; deep grey TIFF with WhiteIsZero",
        "shown as a viewer shows it",
    )
    WINDOW = (
        "DICOM: window of the file",
        "grey DICOM with a window or a VOI LUT",
        "rescaled, then the first window or table of the file, as a viewer opens it",
    )
    TOLD_WINDOW = (
        "DICOM: window as told",
        "grey DICOM, where `window` is given",
        "centre and width after rescaling (Hounsfield units in CT), the same for all files",
    )

    @property
    def note(self) -> str:
        """What a run reports."""
        return self.value[0]

    @property
    def files(self) -> str:
        """To which files it applies."""
        return self.value[1]

    @property
    def done(self) -> str:
        """What is done, and why."""
        return self.value[2]
