"""Regions of masks against scipy, scikit-image and small drawings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure

from zsad.errors import ZsadError
from zsad.metrics.regions import region_areas, region_ids, region_labels

many = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def drawn(*rows: str) -> torch.Tensor:
    """A mask of rows like "#..#"."""
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])


def spiral(side: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    y, x, dy, dx = side // 2, side // 2, 0, 1
    for arm in range(2, side, 2):
        for _ in range(2):
            for _ in range(arm):
                mask[y, x] = True
                y, x = min(y + dy, side - 1), min(x + dx, side - 1)
            dy, dx = dx, -dy
    return mask


@many
@given(arrays(np.bool_, st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_regions_are_numbered_as_scikit_image_does(mask):
    labels, count = region_labels(mask)
    expected = measure.label(mask) if mask.size else np.zeros(mask.shape)
    assert labels.dtype == torch.int32
    assert (labels.numpy() == expected).all() and count == expected.max(initial=0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.41, 0.6, 1.0])
def test_regions_are_those_of_scipy(share):
    mask = np.random.default_rng(0).random((150, 130)) < share
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    labels, found = region_labels(mask)
    assert found == count
    assert len(np.unique(labels.numpy().astype(np.int64) * (count + 1) + expected)) == len(np.unique(expected))


@pytest.mark.parametrize("turned", [False, True])
def test_a_spiral_is_one_region(turned):
    mask = spiral(41).T.copy() if turned else spiral(41)
    assert region_labels(mask)[1] == ndimage.label(mask)[1] == 1


@pytest.mark.parametrize("flipped", [False, True])
def test_teeth_of_a_comb_are_one_region_wherever_its_back_is(flipped):
    mask = np.tile(np.arange(60) % 2 == 0, (40, 1))
    mask[0 if flipped else -1] = True
    labels, count = region_labels(mask)
    assert count == 1 and (labels.numpy() == mask).all()


def test_regions_are_numbered_in_the_order_of_their_first_pixels_row_by_row():
    labels, count = region_labels(drawn("...#", ".#..", "##.#", "...#"))
    assert labels.tolist() == [[0, 0, 0, 1], [0, 2, 0, 0], [2, 2, 0, 3], [0, 0, 0, 3]]
    assert count == 3


def test_arms_that_meet_below_have_the_number_of_the_first():
    labels, count = region_labels(drawn("#.#.#", "#...#", ".###."))
    assert labels.tolist() == [[1, 0, 2, 0, 1], [1, 0, 0, 0, 1], [0, 1, 1, 1, 0]] and count == 2


def test_pixels_that_touch_at_a_corner_are_one_region():
    assert region_labels(drawn("#..", ".#.", "#.."))[1] == 1
    assert region_labels(drawn("..#", ".#.", "..#"))[1] == 1


def test_a_row_does_not_go_on_in_the_next_one():
    assert region_labels(drawn("...##", ".....", "#...."))[1] == 2
    assert region_labels(drawn("....#", "#....", "....#"))[1] == 3
    assert region_labels(drawn("..#", "#.."))[1] == 2


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0), (1, 1), (3, 5)])
def test_an_empty_mask_has_no_region(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    labels, count = region_labels(mask)
    assert labels.shape == shape and not labels.any() and count == 0
    for values, number in (region_areas(mask), region_ids(mask)):
        assert values.shape == (0,) and values.dtype == torch.int64 and number == 0


def test_one_pixel_is_a_region():
    assert region_labels([[1]]) == (torch.ones(1, 1, dtype=torch.int32), 1)
    assert region_areas(torch.tensor([[True]])) == (torch.ones(1), 1)


def test_areas_and_ids_are_in_the_order_of_the_pixels_that_a_mask_chooses():
    mask = drawn("##..#", "....#", "#....")
    areas, count = region_areas(mask)
    assert count == 3 and areas.tolist() == [2, 2, 2, 2, 1]
    assert region_ids(mask)[0].tolist() == [0, 0, 1, 1, 2]
    assert (region_labels(mask)[0][mask] - 1).tolist() == [0, 0, 1, 1, 2]


@many
@given(arrays(np.bool_, st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_areas_are_the_counts_of_the_labels(mask):
    labels = region_labels(mask)[0].numpy()
    areas, count = region_areas(torch.from_numpy(mask))
    assert areas.tolist() == np.bincount(labels.ravel(), minlength=1)[labels[mask]].tolist()
    assert count == labels.max(initial=0)


def test_a_mask_that_is_not_contiguous_has_the_regions_that_it_shows():
    mask = torch.from_numpy(np.random.default_rng(0).random((30, 40)) < 0.3)
    for view in (mask.T, mask[::2, 1::3], mask[:, 5:9]):
        assert torch.equal(region_labels(view)[0], region_labels(view.clone())[0])
        assert torch.equal(region_areas(view)[0], region_areas(view.clone())[0])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_masks_may_be_numbers_and_are_left_alone(kind):
    mask = (np.random.default_rng(1).random((20, 20)) < 0.3).astype(kind)
    copy = mask.copy()
    assert torch.equal(region_labels(mask)[0], region_labels(mask > 0)[0])
    assert (mask == copy).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((1, 2, 2)), r"\[H, W\], got shape \(1, 2, 2\)"),
        (np.zeros(4), r"\[H, W\], got shape \(4,\)"),
        ([[0, 255]], "0 or 1, got 255"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_wrong_masks_are_named(mask, message):
    with pytest.raises(ZsadError, match=message):
        region_labels(mask)
