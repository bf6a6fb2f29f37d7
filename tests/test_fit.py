"""Where an image lies in the network's input: inside it, undistorted where promised, and found again by its map."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from zsad.data.fit import Box, Size, place, restore
from zsad.data.reading import FITS
from zsad.errors import ZsadError

every_fit = pytest.mark.parametrize("fit", FITS)
images = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
inputs = st.tuples(st.integers(32, 600), st.integers(32, 600))
patches = st.integers(1, 32)


@every_fit
@given(image=images, size=inputs, multiple=patches)
def test_the_image_lies_inside_the_input(fit: str, image: Size, size: Size, multiple: int) -> None:
    frame, box = place(image, size, fit, multiple)
    assert box.height >= 1 and box.width >= 1 and box.top >= 0 and box.left >= 0
    assert box.top + box.height <= frame[0] and box.left + box.width <= frame[1]


@given(image=images, size=inputs)
def test_stretch_fills_the_input_with_the_image(image: Size, size: Size) -> None:
    assert place(image, size) == (size, (0, 0, *size))


@given(image=images, size=inputs)
def test_pad_keeps_the_aspect_ratio_fills_one_axis_and_lies_in_the_middle(image: Size, size: Size) -> None:
    frame, box = place(image, size, "pad")
    scale = min(size[0] / image[0], size[1] / image[1])
    assert frame == size
    assert box.height == size[0] or box.width == size[1]
    assert abs(box.height - scale * image[0]) <= 1 and abs(box.width - scale * image[1]) <= 1
    assert 0 <= size[0] - box.height - 2 * box.top <= 1 and 0 <= size[1] - box.width - 2 * box.left <= 1


@given(image=images, grid=st.tuples(st.integers(8, 40), st.integers(8, 40)), multiple=patches)
def test_keep_fills_whole_patches_of_about_the_same_number(image: Size, grid: Size, multiple: int) -> None:
    (height, width), box = place(image, (grid[0] * multiple, grid[1] * multiple), "keep", multiple)
    assert box == (0, 0, height, width) and height % multiple == width % multiple == 0
    assert height * width <= 1.5 * grid[0] * grid[1] * multiple**2  # 1.5 rows may become 2, but a long one not many


@given(width=st.integers(200, 5000))
def test_keep_keeps_the_aspect_ratio_to_half_a_patch_on_each_side(width: int) -> None:
    frame, _ = place((1000, width), (518, 518), "keep", 14)
    for side, wanted in zip(frame, (518 * (1000 / width) ** 0.5, 518 * (width / 1000) ** 0.5), strict=True):
        assert abs(side - wanted) <= 7 + 1e-9


def test_keep_of_a_square_image_is_the_published_input() -> None:
    assert place((3000, 3000), (518, 518), "keep", 14) == place((3000, 3000), (518, 518))


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ZsadError, match="one of stretch, pad, keep; got 'crop'"):
        place((1, 1), (8, 8), "crop")


def ramps(height: int, width: int) -> Tensor:
    """[2, height, width]: how far down and how far right the middle of each pixel lies, 0 to 1."""
    down, right = ((torch.arange(side) + 0.5) / side for side in (height, width))
    return torch.stack(torch.meshgrid(down, right, indexing="ij"))


@every_fit
@settings(deadline=None)  # the first call imports much
@given(image=images, size=st.tuples(st.integers(8, 64), st.integers(8, 64)), multiple=st.integers(1, 8))
def test_a_restored_map_says_of_each_place_what_the_input_said_there(
    fit: str, image: Size, size: Size, multiple: int
) -> None:
    frame, box = place(image, size, fit, multiple)
    maps = torch.full((2, *frame), torch.nan)  # what was filled has no say
    maps[box.inside] = ramps(box.height, box.width)
    for axis, (restored, expected) in enumerate(zip(restore(maps, [box, box], size), ramps(*size), strict=True)):
        edge = 0.5 / (box.height, box.width)[axis]  # beyond the middle of the outermost pixel nothing is known
        torch.testing.assert_close(restored, expected.clamp(edge, 1 - edge), atol=1e-4, rtol=0)


def test_a_stretched_map_is_given_back_as_it_is() -> None:
    maps = torch.rand(2, 6, 5)
    assert restore(maps, [Box(0, 0, 6, 5)] * 2, (6, 5)) is maps


def test_each_map_of_a_batch_has_its_own_box() -> None:
    maps, boxes = torch.rand(2, 8, 8), [Box(2, 0, 4, 8), Box(0, 3, 8, 2)]
    for map, box, restored in zip(maps, boxes, restore(maps, boxes, (8, 8)), strict=True):
        part = map[box.top : box.top + box.height, box.left : box.left + box.width]
        assert torch.equal(restored, interpolate(part[None, None], (8, 8), mode="bilinear")[0, 0])
