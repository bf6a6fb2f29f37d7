"""AUPRO as the papers' code computes it: its recorded values, and its arithmetic as a slow loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure
from sklearn.metrics import auc

from tests.parity import aupro as runs
from tests.parity.golden import FOLDER
from zsad.metrics import aupro
from zsad.metrics import released as module
from zsad.metrics.regions import region_ids
from zsad.metrics.released import released_area, released_aupro, released_thresholds

pytestmark = pytest.mark.filterwarnings("error")  # a metric that divides by zero on its way fails
many = settings(max_examples=25, deadline=None, derandomize=True, database=None)

GOLDEN = json.loads((FOLDER / "golden" / "aupro.json").read_text())


def recorded(run: str, numpy: int = 2) -> float:
    """The released value; NaN where that code raised an error."""
    digest, value = GOLDEN[f"numpy_{numpy}"]["values"][run].split()
    assert digest == runs.digest(run)  # else these are not the maps of the recorded value
    return math.nan if value.endswith("Error") else float.fromhex(value)


def ours(run: str) -> float:
    maps, masks, limit = runs.inputs(run)
    return released_aupro(torch.from_numpy(maps), torch.from_numpy(masks), limit)


def loop(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """The released arithmetic, threshold by threshold and region by region, with the libraries that it uses."""
    step = (maps.max() - maps.min()) / maps.dtype.type(200)
    regions = [
        (image, region) for image, mask in enumerate(masks) for region in measure.regionprops(measure.label(mask))
    ]
    rates, overlaps = [], []
    for threshold in np.arange(maps.min(), maps.max(), step):
        above = maps.astype(np.float64) > threshold
        shares = [above[image][tuple(region.coords.T)].sum() / region.area for image, region in regions]
        rates.append((above & ~masks).sum() / (~masks).sum())
        overlaps.append(np.array(shares).mean())
    rates, overlaps = np.array(rates), np.array(overlaps)
    kept = rates < limit
    rates, overlaps = rates[kept], overlaps[kept]
    return auc((rates - rates.min()) / (rates.max() - rates.min()), overlaps)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise that is higher inside the regions, and the regions."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=(3, 32, 32)), (0, 3, 3)) > 0.12
    masks[0] = False
    return ndimage.gaussian_filter(rng.normal(size=masks.shape) + masks, (0, 2, 2)).astype(np.float32), masks


@st.composite
def scored(draw):
    """Scores [N, H, W] with many ties, and labels of the same shape."""
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)))
    scores = draw(arrays(np.int64, size, elements=st.integers(-4, 4)))
    return scores.astype(draw(st.sampled_from([np.float32, np.float64]))), draw(arrays(np.bool_, size))


@pytest.mark.parametrize("run", runs.RUNS)
def test_the_value_is_the_recorded_one_to_the_last_bit(run):
    assert ours(run) == pytest.approx(recorded(run), rel=0, abs=0, nan_ok=True)


def test_every_recorded_value_is_compared():
    assert set(runs.RUNS) == GOLDEN["numpy_1"]["values"].keys() == GOLDEN["numpy_2"]["values"].keys()


def test_what_the_released_code_fails_at_or_divides_by_zero_for_has_a_reason():
    for run in runs.RUNS:
        assert bool(ours(run).reason) == math.isnan(recorded(run))
    assert ours("without_regions float32 0.3").reason == "no anomalous element"
    assert ours("without_normal_pixels float32 0.3").reason == "no normal element"
    assert ours("constant float32 0.3").reason == "no thresholds between the lowest score, 0.5, and the highest, 0.5"
    for run in ("one_rate float32 0.3", "one_threshold float32 0.3"):
        assert ours(run).reason == "fewer than two different false positive rates below 0.3"


def test_numpy_1_gave_the_same_but_where_float32_scores_lie_next_to_thresholds():
    other = {run for run in runs.RUNS if recorded(run, 1) != recorded(run) and not math.isnan(recorded(run))}
    next_to = [f"{name} float32 {limit}" for name in ("around_thresholds", "far_from_zero") for limit in (0.3, 0.05)]
    assert other == set(next_to)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(2))
def test_the_value_is_that_of_the_loop_to_the_last_bit(seed, dtype):
    maps, masks = blobs(seed)
    assert aupro(maps.astype(dtype), masks, mode="released") == loop(maps.astype(dtype), masks, 0.3)


@many
@given(scored())
def test_the_value_is_that_of_the_loop_with_ties(case):
    maps, masks = case
    assume(0 < masks.sum() < masks.size)
    try:
        with np.errstate(invalid="ignore"):
            expected = loop(maps, masks, 0.3)
    except (ValueError, ZeroDivisionError):  # a constant map, or a single rate below the limit
        expected = math.nan
    assert aupro(maps, masks, mode="released") == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_whole_numbers_of_any_type_have_the_value_of_floats():
    maps, masks, _ = runs.inputs("whole_numbers float64 0.3")
    for kind in (np.uint8, np.int64, np.float32):
        assert aupro(maps.astype(kind), masks, mode="released") == recorded("whole_numbers float64 0.3")


@pytest.mark.parametrize("offset", [0.0, 1.0, -3.0, 1000.0, 3e7])
def test_rounded_thresholds_have_the_same_scores_above_them(offset):
    low, high = np.float32(offset), np.float32(offset) + np.float32(1.9)
    released = np.arange(low, high, (high - low) / np.float32(200))
    rounded = released_thresholds(float(low), float(high))
    near = released.astype(np.float32)
    scores = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    above = scores.astype(np.float64)[:, None] > released
    assert rounded.dtype == np.float32 and ((scores[:, None] > rounded) == above).all()


def test_thresholds_of_float64_are_those_of_numpy():
    assert (released_thresholds(0.1, 1.7, np.float64) == np.arange(0.1, 1.7, (1.7 - 0.1) / 200)).all()


def test_scores_that_are_too_far_apart_have_no_thresholds():
    assert not len(released_thresholds(-3e38, 3e38))
    maps = torch.tensor([[[-3e38, 3e38]]])
    assert released_aupro(maps, maps > 0).reason.startswith("no thresholds between the lowest score, -3e+38")


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_without_pixels_the_value_is_nan(shape):
    assert released_aupro(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)).reason == "no anomalous element"


def test_regions_do_not_join_across_images():
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    masks[0, 2, 1:3], masks[1, 0, 1] = True, True  # one below the other, were the images one
    maps = torch.arange(24.0).reshape(2, 3, 4)
    assert released_aupro(maps, masks, 1.0) == loop(maps.numpy(), masks.numpy(), 1.0)
    assert [region_ids(mask)[1] for mask in masks] == [1, 1]


def test_rates_below_the_limit_are_stretched_and_the_limit_itself_is_not_below_it():
    fpr, overlap = np.array([0.5, 0.3, 0.2, 0.1]), np.array([1.0, 0.9, 0.6, 0.2])
    assert released_area(fpr, overlap, 0.3) == (0.6 + 0.2) / 2
    assert released_area(fpr[:3], overlap[:3], 0.3).reason == "fewer than two different false positive rates below 0.3"


def test_the_value_that_is_zero_has_no_sign():
    value = released_area(np.array([0.2, 0.1]), np.zeros(2))
    assert value == 0 and math.copysign(1, value) == 1


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 adds float32 in another order")
@pytest.mark.parametrize("pixels", [2**24 + 5, 2**25 + 76])
def test_normal_pixels_are_counted_as_numpy_adds_float32(pixels):
    masks = torch.zeros(pixels, dtype=torch.bool)
    masks[[3, 9, 1000, pixels // 2, -6, -1]] = True
    assert module._float32_count(masks) == (1 - masks.numpy().astype(np.float32)).sum()


def test_maps_and_masks_are_left_alone_and_need_not_be_contiguous():
    maps, masks = (torch.from_numpy(values) for values in blobs(3))
    copies = maps.clone(), masks.clone()
    turned = released_aupro(maps.transpose(1, 2).contiguous(), masks.transpose(1, 2).contiguous())
    assert released_aupro(maps.transpose(1, 2), masks.transpose(1, 2)) == turned
    assert torch.equal(maps, copies[0]) and torch.equal(masks, copies[1])
