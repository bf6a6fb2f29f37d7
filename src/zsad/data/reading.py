"""How files become pixels: the switches of reading, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from zsad.errors import ZsadError

MAX_PIXELS = 200_000_000  # width times height; more is taken for a decompression bomb
FITS = ("stretch", "pad", "keep")


@dataclass(frozen=True)
class Reading:
    """Switches of reading; the defaults are those of the published numbers."""

    fit: str = "stretch"  # to the network input: straight to its size; "pad": aspect kept, rest filled; "keep": no fill
    background: str = "white"  # what lies under transparent pixels: any colour that Pillow knows, "black", "#808080"
    bits: int = 0  # depth of deep grey files, 9 to 16; 0: 12 where no value is above 4095, else 16
    window: tuple[float, ...] = ()  # DICOM: centre and width of the grey values that are shown; (): the file's own
    mask_above: float = 0.0  # a mask marks a pixel whose value, as stored, is above this
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ZsadError(f"reading: fit is one of {', '.join(FITS)}; got {self.fit!r}")
        if self.bits and not 9 <= self.bits <= 16:
            raise ZsadError(f"reading: bits is 9 to 16, or 0 to tell by the values; got {self.bits}")
        if self.window and (len(self.window) != 2 or not all(map(isfinite, self.window)) or self.window[1] <= 0):
            raise ZsadError(f"reading: window is a centre and a width above 0, such as 40,400; got {self.window}")
        if not 0 <= self.mask_above < inf or self.max_pixels < 1:
            raise ZsadError("reading: mask_above is 0 or more, max_pixels 1 or more")
        if self.background != "white":
            _must_be_colour(self.background)


def _must_be_colour(name: str) -> None:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(name)
    except ValueError as error:
        raise ZsadError(f'reading: background is a colour such as black or "#808080"; got {name!r}') from error
