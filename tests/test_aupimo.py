"""AUPIMO by hand, against a slow loop over all thresholds, and against what anomalib's own functions give."""

from __future__ import annotations

import json
import math
import zlib
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad

from zsad.errors import ZsadError
from zsad.metrics.aupimo import NO_NORMAL_IMAGE, aupimo, aupimo_per_image
from zsad.metrics.formulas import log_area
from zsad.metrics.values import NO_ANOMALOUS

pytestmark = pytest.mark.filterwarnings("error")
many = settings(max_examples=100, deadline=None, derandomize=True, database=None)
NEAR = 1e-12  # float64 sums of at most a few thousand terms below 1
BOUNDS = [(1e-5, 1e-4), (0.01, 0.5), (0.1, 1.0), (0.3, 0.31)]
GOLDEN = json.loads((Path(__file__).parent / "parity" / "golden" / "aupimo.json").read_text())


@st.composite
def stacks(draw):
    """Maps [N, H, W] with many ties, and masks; at least one image is normal and one is not."""
    size = draw(st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 5)))
    maps, masks = draw(arrays(np.int64, size, elements=st.integers(-4, 4))), draw(arrays(np.bool_, size))
    masks[draw(st.integers(0, size[0] - 1))] = False
    assume(masks.any())
    return maps.astype(draw(st.sampled_from([np.float32, np.float64]))), masks


def made(seed, normal, side):
    """Normal images, then three anomalous ones: bit for bit the same everywhere, as RandomState keeps its numbers."""
    a, b, c, d = np.random.RandomState(seed).random_sample((4, normal + 3, side, side))
    maps, masks = (a + b + c + d) / 4, np.zeros((normal + 3, side, side), dtype=bool)
    for i, lift in enumerate((0.2, 0.35, 0.5)):
        masks[normal + i, 10 : side // 4, 10 : side // 3] = True
        maps[normal + i] += lift * masks[normal + i]
    return maps.astype(np.float32), masks


def brute(normal, anomalous, low, high):
    """One image: from threshold to threshold along the curve, each straight piece integrated over log(FPR)."""
    area, fpr, recall = 0.0, 0.0, 0.0
    for threshold in sorted({*normal.tolist(), *anomalous.tolist()}, reverse=True):
        next_fpr, next_recall = np.mean(normal >= threshold), np.mean(anomalous >= threshold)
        start, end = max(fpr, low), min(next_fpr, high)
        if start < end:
            slope = (next_recall - recall) / (next_fpr - fpr)
            area += slope * (end - start) + (recall - slope * fpr) * math.log(end / start)
        fpr, recall = next_fpr, next_recall
    return area / math.log(high / low)


def two(normal, anomalous):
    """A normal image, and one of the same size that is anomalous in every pixel."""
    return np.array([[normal], [anomalous]], dtype=np.float32), np.array([[[0] * len(normal)], [[1] * len(anomalous)]])


def test_four_pixels_by_hand():
    maps, masks = two([4, 3, 2, 1], [5, 5, 2.5, 0])  # found at all rates twice, from rate 1/2 on, and from rate 1 on
    assert aupimo(maps, masks, 0.25, 1) == pytest.approx((1 + 1 + 0.5 + 0) / 4, abs=NEAR)


def test_a_tie_is_a_straight_line_in_the_rate():
    maps, masks = two([4, 3, 2, 1], [2, 2, 2, 2])  # 0 up to rate 1/2, 1 from rate 3/4 on, 4 x - 2 between the two
    along = 4 * (0.75 - 0.5) - 2 * math.log(0.75 / 0.5)
    assert aupimo(maps, masks, 0.25, 1) == pytest.approx((along + math.log(1 / 0.75)) / math.log(4), abs=NEAR)


@many
@given(stacks(), st.sampled_from(BOUNDS))
def test_every_image_is_the_area_under_its_curve_over_all_thresholds(stack, bounds):
    maps, masks = stack
    normal = maps[~masks.any(axis=(1, 2))].ravel()
    images = zip(maps, masks, strict=True)
    expected = [brute(normal, scores[mask], *bounds) if mask.any() else math.nan for scores, mask in images]
    assert aupimo_per_image(maps, masks, *bounds).tolist() == pytest.approx(expected, abs=NEAR, nan_ok=True)


@many
@given(stacks(), st.sampled_from(BOUNDS))
def test_the_mean_over_anomalous_images_is_aupimo_and_lies_in_0_to_1(stack, bounds):
    value, shares = aupimo(*stack, *bounds), aupimo_per_image(*stack, *bounds)
    assert value == pytest.approx(float(shares.nanmean()), abs=NEAR)
    assert 0 <= float(value) <= 1 and value.reason == "" and value.error == 0
    assert shares.dtype == torch.float64


@many
@given(stacks(), st.randoms(use_true_random=False))
def test_the_order_of_pixels_and_images_does_not_matter(stack, random):
    maps, masks = stack
    images, pixels = random.sample(range(len(maps)), len(maps)), random.sample(range(maps[0].size), maps[0].size)
    mixed = (x.reshape(len(x), -1)[images][:, pixels].reshape(x.shape) for x in stack)
    expected = aupimo_per_image(maps, masks, 0.01, 0.5)[images]
    assert torch.equal(aupimo_per_image(*mixed, 0.01, 0.5).nan_to_num(-1), expected.nan_to_num(-1))


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("above, alarms", [(0, 0), (0, 1), (0, 40), (3, 4), (12, 31), (20, 20), (29, 31), (40, 40)])
def test_one_pixel_is_what_numerical_integration_gives(above, alarms, bounds):
    foot, head, (low, high) = above / 40, alarms / 40, bounds
    found = lambda x: float(x >= foot) if foot == head else min(max((x - foot) / (head - foot), 0), 1)  # noqa: E731
    kinks = sorted({math.log(x) for x in (foot, head) if low < x < high})
    area = quad(lambda z: found(math.exp(z)), math.log(low), math.log(high), points=kinks or None, epsabs=1e-13)[0]
    share = float(log_area(torch.tensor([above]), torch.tensor([alarms]), 40, low, high))
    assert share == pytest.approx(area / math.log(high / low), abs=1e-11)


@pytest.mark.parametrize("above, ties", [(10**5, 1), (10**8, 1), (10**8, 1000), (9 * 10**8, 7)])
def test_a_small_tie_among_many_pixels_loses_no_digits(above, ties):
    normal, low = 10**9, 1e-5
    with localcontext() as context:
        context.prec = 50
        foot, head = Decimal(above) / normal, Decimal(above + ties) / normal
        along = (head - foot - foot * (head / foot).ln()) / (head - foot)
        exact = float((along - head.ln()) / -Decimal(low).ln())
    share = float(log_area(torch.tensor([above]), torch.tensor([above + ties]), normal, low, 1.0))
    assert share == pytest.approx(exact, rel=1e-14, abs=1e-15)


def test_perfect_is_exactly_1_and_hopeless_exactly_0():
    for low, high in BOUNDS:
        assert aupimo(*two([1, 2, 3], [4, 5, 6]), low, high) == 1
        assert aupimo(*two([4, 5, 6], [1, 2, 3]), low, high) == 0


def test_one_pixel_past_the_bounds_is_exactly_0():
    assert log_area(torch.tensor([9]), torch.tensor([9]), 10, 0.2, 0.41) == 0  # 0.41 * (1 / 0.41) is a little below 1


def test_normal_pixels_of_anomalous_images_play_no_part():
    maps, masks = made(0, 2, 80)
    other = np.where(masks.any(axis=(1, 2), keepdims=True) & ~masks, np.float32(9), maps)
    assert aupimo(other, masks, 0.01, 0.1) == aupimo(maps, masks, 0.01, 0.1)


def test_every_anomalous_image_counts_the_same_however_large_its_anomaly():
    maps = np.array([[[1, 1, 1, 1]], [[2, 0, 0, 0]], [[0, 0, 0, 0]]], dtype=np.float32)
    assert aupimo(maps, np.array([[[0, 0, 0, 0]], [[1, 0, 0, 0]], [[1, 1, 1, 1]]])) == 0.5


def test_below_the_rate_of_one_normal_pixel_only_what_beats_them_all_is_found():
    normal = [1, 2, 3, 4]  # one pixel is a rate of 1/4, the bounds are 1e-5 and 1e-4
    assert aupimo(*two(normal, [5, 9, 3.5, 0])) == 0.5
    assert aupimo(*two(normal, [4, 4, 4, 4])) == pytest.approx(4 * 9e-5 / math.log(10), abs=NEAR)  # 4 x along the tie


def test_a_constant_map_is_one_big_tie():
    assert aupimo(*two([5, 5], [5, 5]), 0.1, 0.6) == pytest.approx((0.6 - 0.1) / math.log(6), abs=NEAR)


@pytest.mark.parametrize(
    "masks, reason",
    [([[[1, 0]], [[0, 1]]], NO_NORMAL_IMAGE), ([[[0, 0]], [[0, 0]]], NO_ANOMALOUS), (None, NO_ANOMALOUS)],
)
def test_what_is_not_defined_is_nan_with_a_reason(masks, reason):
    maps = np.ones((2, 1, 2), dtype=np.float32)
    value = aupimo(maps, masks)
    assert math.isnan(value) and value.reason == reason
    assert aupimo_per_image(maps, masks).isnan().tolist() == [True, True]


@pytest.mark.parametrize("size", [(0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_no_images_and_no_pixels_are_nan_with_a_reason(size):
    maps = np.zeros(size, dtype=np.float32)
    assert aupimo(maps, maps).reason == NO_ANOMALOUS
    assert aupimo_per_image(maps, maps).shape == (size[0],)


@pytest.mark.parametrize("low, high", [(0, 0.1), (-0.1, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.1), (math.nan, 0.1)])
def test_bounds_out_of_range_are_named(low, high):
    with pytest.raises(ZsadError, match=f"0 < low < high <= 1, got {low} and {high}"):
        aupimo([[[0.0]]], [[[1]]], low, high)


def test_arrays_and_tensors_give_the_same_and_are_left_alone():
    maps, masks = made(0, 2, 80)
    before = maps.copy(), masks.copy()
    expected = aupimo(maps, masks, 0.01, 0.1)
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)
    assert aupimo(*tensors, 0.01, 0.1) == aupimo(maps.astype(np.float64), masks.astype(np.uint8), 0.01, 0.1) == expected
    assert np.array_equal(maps, before[0]) and np.array_equal(masks, before[1])


CASES = {case["normal"] * case["side"] ** 2: case for case in GOLDEN["cases"]}  # by their number of normal pixels
# Measured: 3.3e-5, 1.5e-6, 3.6e-6. An anomalous and a normal pixel between the same two thresholds cost half a step.
STEP = {30_000: 7e-5, 300_000: 4e-6, 1_000_000: 8e-6}


def golden_maps(case):
    maps, masks = made(case["seed"], case["normal"], case["side"])
    assert zlib.crc32(maps.tobytes()) == case["crc32"]  # bit for bit the maps of the golden numbers
    return maps, masks


def distance(case, run, shares):
    return np.abs(shares[case["normal"] :].numpy() - run["aupimo"]).max()


def test_anomalib_gives_the_same_where_its_thresholds_reach_the_bounds():
    case = CASES[1_000_000]
    shares = aupimo_per_image(*golden_maps(case))
    for run in case["runs"]:
        assert run["alarms_at_bounds"] == [10, 100]  # exactly 1e-5 and 1e-4
        assert distance(case, run, shares) < STEP[run["thresholds"]]


def test_anomalib_loses_what_lies_before_its_first_threshold_and_nothing_else():
    case, normal = CASES[270_000], 270_000
    maps, masks = golden_maps(case)
    for run in case["runs"]:
        low, high = (alarms / normal for alarms in run["alarms_at_bounds"])  # 3 and 27 pixels instead of 2.7 and 27
        kept = math.log(high / low) / math.log(10)  # it still divides by all of log(1e-4 / 1e-5)
        assert distance(case, run, kept * aupimo_per_image(maps, masks, low, high)) < STEP[run["thresholds"]]
        assert distance(case, run, aupimo_per_image(maps, masks)) > 0.02
