"""Where an image lies in the network's input, and how a map of that input is laid over the image again.

Three ways (:data:`zsad.data.reading.FITS`), of which the published numbers have the first:

- stretch: the image fills the input, whatever its aspect ratio.
- pad: the aspect ratio is kept; the image touches two sides and lies in the middle. What is left of the input is 0
  after normalisation, as if it were the mean colour.
- keep: the input takes the aspect ratio of the image, to the next whole patch; nothing is filled. Its *area* is that of
  the stretched input, not its longer side: as many patches as published see the image, at the same cost, and a long
  image does not get a narrow input with little detail.

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from zsad.data.reading import FITS
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from types import EllipsisType

    from torch import Tensor

Size = tuple[int, int]


class Box(NamedTuple):
    """The part of a network's input that is image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[EllipsisType, slice, slice]:
        """What takes this part out of an array or a tensor [..., H, W]."""
        return ..., slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Place(NamedTuple):
    """A network's input and the image in it."""

    frame: Size  # of the input
    box: Box


def place(image: Size, size: Size, fit: str = "stretch", multiple: int = 1) -> Place:
    """Where an image lies in the network's input.

    Args:
        image: Its height and width, at least 1.
        size: The input as published; with "keep" the area that the input shall have.
        fit: See the head of this module.
        multiple: With "keep", what both sides of the input are multiples of: the side of a patch.

    Raises:
        ZsadError: If there is no such fit.

    >>> place((300, 600), (518, 518), "pad")
    Place(frame=(518, 518), box=Box(top=129, left=0, height=259, width=518))
    >>> place((300, 600), (518, 518), "keep", multiple=14).frame
    (364, 728)
    """
    if fit == "stretch":
        return Place(size, Box(0, 0, *size))
    if fit == "pad":
        return Place(size, _padded(image, size))
    if fit == "keep":
        frame = _kept(image, size, multiple)
        return Place(frame, Box(0, 0, *frame))
    raise ZsadError(f"fit is one of {', '.join(FITS)}; got {fit!r}")


def _padded(image: Size, size: Size) -> Box:
    """The largest box with the image's aspect ratio, in the middle; never thinner than a pixel."""
    scale = min(side / length for side, length in zip(size, image, strict=True))
    height, width = (max(1, min(side, round(scale * length))) for side, length in zip(size, image, strict=True))
    return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def _kept(image: Size, size: Size, multiple: int) -> Size:
    """Whole patches with the image's aspect ratio; as many as in a square of this area, however long the image is."""
    patches = size[0] * size[1] / multiple**2
    aspect = image[1] / image[0]
    rows, columns = (max(1, min(round(sqrt(patches * ratio)), int(patches))) for ratio in (1 / aspect, aspect))
    return rows * multiple, columns * multiple


def restore(maps: Tensor, boxes: Sequence[Box], size: Size) -> Tensor:
    """Maps of the network's input as maps of the whole image, so that what follows is the same for every fit.

    Args:
        maps: [B, h, w], at the size of the network's input.
        boxes: Where each image lies in it.
        size: Height and width of the result.

    Returns:
        [B, *size]: what lies inside the boxes, resized bilinearly; `maps` itself where nothing is to be done.

    >>> import torch
    >>> restore(torch.eye(4)[None], [Box(1, 0, 2, 4)], (2, 4))[0].tolist()
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    import torch
    import torch.nn.functional as F

    if maps.shape[-2:] == size and all(box == (0, 0, *size) for box in boxes):
        return maps
    parts = [map[box.inside] for map, box in zip(maps, boxes, strict=True)]
    resized = [F.interpolate(part[None, None], size, mode="bilinear", align_corners=False)[0, 0] for part in parts]
    return torch.stack(resized)
