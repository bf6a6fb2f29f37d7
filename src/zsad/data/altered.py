"""A picture turned, shifted, mirrored or in other colours: a sample with the values that were drawn for it.

They are those of torchvision's ColorJitter, RandomRotation, RandomAffine and flips as AA-CLIP's training uses them
(Mwxinnn/AA-CLIP at 53db195, dataset/__init__.py:30-94): colours change in the picture as it is stored, everything else
in the network's input, by nearest neighbour, image and mask alike. What comes in from outside is 0 after normalisation,
as if it were the mean colour, and normal.

Beside torchvision 0.28, for a picture of 400 x 300 and an input of 518 x 518, colours, shifts and flips are equal to
the bit; after a turn 0.2 to 0.35 % of the pixels are those of a neighbour.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from zsad.data.fit import Box, Size
from zsad.errors import ZsadError
from zsad.types import Sample


@dataclass(frozen=True)
class Altered(Sample):
    """A sample with another look. Read it by :func:`zsad.data.inputs.read_item`.

    The changes come in the order of the fields; a factor of 1 and a shift of 0 change nothing.

    >>> from pathlib import Path
    >>> Altered.of(Sample(Path("nut.png"), class_name="nut"), mirrored=True).class_name
    'nut'
    """

    original: Sample | None = None  # what is altered; `of` gives it
    brightness: float = 1.0  # factor: 0 is black
    contrast: float = 1.0  # factor: 0 is the mean grey everywhere
    saturation: float = 1.0  # factor: 0 is grey
    turn: float = 0.0  # degrees, counter-clockwise, about the middle
    shift: tuple[float, float] = (0.0, 0.0)  # to the right and down, as shares of the input's width and height
    mirrored: bool = False  # left and right change places
    flipped: bool = False  # above and below change places

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.original is None:
            raise ZsadError(f"{self.image}: say what is altered, by Altered.of(sample, ...)")

    @classmethod
    def of(cls, sample: Sample, **changes: Any) -> Altered:
        """A sample with changes, which are fields of this class."""
        known = {field.name: getattr(sample, field.name) for field in dataclasses.fields(Sample)}
        return cls(**known, original=sample, **changes)

    def coloured(self, image: Image.Image) -> Image.Image:
        """An RGB image in its new colours, as torchvision changes those of Pillow's images."""
        for enhance, factor in (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        ):
            image = image if factor == 1 else enhance(image).enhance(factor)
        return image

    @property
    def moves(self) -> bool:
        """Whether anything but colours changes."""
        return bool(self.turn or any(self.shift) or self.mirrored or self.flipped)

    def moved(self, image: Image.Image) -> Image.Image:
        """The picture of a whole network's input, of any mode, at its new place; 0 where nothing comes to lie."""
        image = image.rotate(self.turn)
        if any(self.shift):
            across, down = (round(share * side) for share, side in zip(self.shift, image.size, strict=True))
            empty = Image.new(image.mode, image.size)
            empty.paste(image, (across, down))
            image = empty
        image = ImageOps.mirror(image) if self.mirrored else image
        return ImageOps.flip(image) if self.flipped else image

    def moved_pixels(
        self, pixels: NDArray[np.uint8], frame: Size, box: Box
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """[H, W, 3] and [H, W]: an image [h, w, 3], in its box of the frame, moved; and what is not image now."""
        canvas = np.zeros((*frame, 4), dtype=np.uint8)
        inside = canvas[box.inside[1:]]
        inside[..., :3], inside[..., 3] = pixels, 255
        seen = np.array(self.moved(Image.fromarray(canvas)))
        return np.ascontiguousarray(seen[..., :3]), seen[..., 3] == 0
