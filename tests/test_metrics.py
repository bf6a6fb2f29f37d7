"""The metrics against scikit-learn, scikit-image, scipy, slow loops and values worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure
from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from zsad.errors import ZsadError
from zsad.metrics import aupro, auroc, average_precision, f1_max, image_metrics, pixel_metrics
from zsad.regions import region_labels

pytestmark = pytest.mark.filterwarnings("error")  # a metric that divides by zero on its way fails
many = settings(max_examples=60, deadline=None, derandomize=True, database=None)
NEAR = 1e-12  # float64 sums of at most a few thousand terms below 1


@st.composite
def scored(draw):
    """Scores [N, H, W] with many ties, and labels of the same shape."""
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)))
    kind = draw(st.sampled_from([np.float32, np.float64, np.int64]))
    scores = draw(arrays(np.int64, size, elements=st.integers(-4, 4)))
    return scores.astype(kind), draw(arrays(np.bool_, size))


def blobs(seed, count=4, side=48):
    """Smooth noise that is higher inside the regions, and the regions."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=(count, side, side)), (0, 3, 3)) > 0.12
    masks[0] = False
    return ndimage.gaussian_filter(rng.normal(size=masks.shape) + masks, (0, 2, 2)).astype(np.float32), masks


def brute_aupro(maps, masks, limit):
    """Every distinct score, one after the other; trapezoids cut at the limit."""
    regions = []
    for image, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[image][labels == i + 1] for i in range(count)]
    area, fpr, pro = 0.0, 0.0, 0.0
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        next_fpr = float(np.mean(maps[~masks] >= threshold))
        next_pro = float(np.mean([np.mean(region >= threshold) for region in regions]))
        if next_fpr > limit:
            at_limit = pro + (next_pro - pro) * (limit - fpr) / (next_fpr - fpr)
            return (area + (limit - fpr) * (pro + at_limit) / 2) / limit
        area += (next_fpr - fpr) * (pro + next_pro) / 2
        fpr, pro = next_fpr, next_pro
    return area / limit


def loop_released(maps, masks, limit):
    """The released arithmetic, threshold by threshold and region by region, with the libraries that it uses."""
    step = (maps.max() - maps.min()) / 200
    regions = [
        (image, region) for image, mask in enumerate(masks) for region in measure.regionprops(measure.label(mask))
    ]
    rates, overlaps = [], []
    for threshold in np.arange(maps.min(), maps.max(), step):
        above = maps > threshold
        shares = [above[image][tuple(region.coords.T)].sum() / region.area for image, region in regions]
        rates.append((above & ~masks).sum() / (~masks).sum())
        overlaps.append(np.array(shares).mean())
    rates, overlaps = np.array(rates), np.array(overlaps)
    kept = rates < limit
    rates, overlaps = rates[kept], overlaps[kept]
    return auc((rates - rates.min()) / (rates.max() - rates.min()), overlaps)


@many
@given(scored())
def test_auroc_equals_scikit_learn_with_ties(case):
    scores, labels = case
    assume(0 < labels.sum() < labels.size)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=NEAR)


@many
@given(scored())
def test_average_precision_equals_scikit_learn_with_ties(case):
    scores, labels = case
    assume(labels.any())
    expected = average_precision_score(labels.ravel(), scores.ravel())
    assert average_precision(scores, labels) == pytest.approx(expected, abs=NEAR)


@many
@given(scored())
def test_f1_max_equals_the_best_of_scikit_learns_curve(case):
    scores, labels = case
    assume(labels.any())
    precision, recall, _ = precision_recall_curve(labels.ravel(), scores.ravel())
    best = max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r)
    assert f1_max(scores, labels)[0] == pytest.approx(best, abs=NEAR)


@many
@given(scored())
def test_f1_threshold_is_the_highest_score_that_reaches_f1_max(case):
    scores, labels = case
    assume(labels.any())
    best, threshold = f1_max(scores, labels)
    reached = [t for t in np.unique(scores) if f1_score(labels.ravel(), (scores >= t).ravel()) >= best - NEAR]
    assert threshold == max(reached)


@many
@given(scored(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_exact_aupro_equals_a_loop_over_all_thresholds(case, limit):
    maps, masks = case
    assume(0 < masks.sum() < masks.size)
    assert aupro(maps, masks, limit) == pytest.approx(brute_aupro(maps, masks, limit), abs=NEAR)


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_exact_aupro_equals_the_loop_without_ties(limit):
    maps, masks = blobs(0, count=3, side=24)
    assert aupro(maps, masks, limit) == pytest.approx(brute_aupro(maps, masks, limit), abs=NEAR)


def test_aupro_by_hand():
    # 10 normal pixels; regions {9} and {7, 5}. PRO is 1/2 to FPR 0.1, 3/4 to 0.2, 1 from there: 0.225 / 0.3.
    maps = [[[9, 8, 7, 5, 6, 4, 4, 4, 0, 0, 0, 0, 0]]]
    masks = [[[1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]
    assert aupro(maps, masks) == pytest.approx(0.75, abs=NEAR)
    assert aupro(maps, masks, limit=0.1) == pytest.approx(0.5, abs=NEAR)


def test_aupro_interpolates_a_tie_across_the_limit():
    # The region ties with 5 of 10 normal pixels: a line from (0, 0) to (0.5, 1), cut at FPR 0.3 and PRO 0.6.
    maps = [[[1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]]]
    masks = [[[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]
    assert aupro(maps, masks) == pytest.approx(0.3, abs=NEAR)


def test_aupro_gives_a_small_region_the_weight_of_a_large_one():
    masks = np.zeros((1, 6, 8), dtype=bool)
    masks[0, 0:4, 0:4], masks[0, 5, 7] = True, True
    maps = np.where(masks, 1.0, 0.5)
    maps[0, 5, 7] = 0.0  # below every normal pixel
    assert aupro(maps, masks) == pytest.approx(0.5, abs=NEAR)


def test_aupro_joins_pixels_that_touch_at_a_corner():
    maps = np.array([[[3.0, 0, 0, 2], [0, 3.0, 0, 0], [0, 0, 0, 0]]])  # one region of 2 at 3, one of 1 at 2
    masks = maps > 0
    maps[0, 0, 3] = -1
    assert aupro(maps, masks) == pytest.approx(0.5, abs=NEAR)  # 2/3 with 4-connected regions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_released_aupro_equals_the_released_loop_to_the_last_bit(seed, dtype):
    maps, masks = blobs(seed)
    assert aupro(maps.astype(dtype), masks, mode="released") == loop_released(maps.astype(dtype), masks, 0.3)


@pytest.mark.parametrize("levels", [np.arange(201), np.linspace(1, 1.9, 201, dtype=np.float32)])
def test_released_aupro_is_exact_for_scores_on_the_thresholds(levels):
    rng = np.random.default_rng(0)  # equal to a threshold, or within its rounding
    maps, masks = levels[rng.permutation(np.arange(512) % 201)].reshape(2, 16, 16), rng.random((2, 16, 16)) < 0.2
    assert aupro(maps, masks, mode="released") == loop_released(maps, masks, 0.3)


def test_released_aupro_is_exact_for_hundreds_of_regions():
    rng = np.random.default_rng(0)  # over 128 regions, numpy adds in blocks: the order of the regions matters
    masks, maps = rng.random((1, 56, 56)) < 0.07, rng.random((1, 56, 56), dtype=np.float32)
    assert region_labels(masks[0])[1] > 128
    assert aupro(maps, masks, 0.2, mode="released") == loop_released(maps, masks, 0.2)


@settings(many, max_examples=30)
@given(scored())
def test_released_aupro_equals_the_released_loop_with_ties(case):
    maps, masks = case
    assume(0 < masks.sum() < masks.size)
    try:
        with np.errstate(invalid="ignore"):
            expected = loop_released(maps, masks, 0.3)
    except (ValueError, ZeroDivisionError):  # a constant map, or a single rate below the limit
        expected = math.nan
    np.testing.assert_equal(aupro(maps, masks, mode="released"), expected)


@many
@given(arrays(np.bool_, st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_regions_are_numbered_as_scikit_image_does(mask):
    labels, count = region_labels(mask)
    expected = measure.label(mask) if mask.size else np.zeros(mask.shape)
    assert labels.dtype == np.int32
    assert (labels == expected).all() and count == expected.max(initial=0)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.41, 0.6, 1.0])
def test_regions_are_those_of_scipy(share):
    mask = np.random.default_rng(0).random((150, 130)) < share
    expected, count = ndimage.label(mask, structure=np.ones((3, 3)))
    labels, found = region_labels(mask)
    assert found == count
    assert len(np.unique(labels.astype(np.int64) * (count + 1) + expected)) == len(np.unique(expected))


def test_a_spiral_is_one_region():
    mask = np.zeros((41, 41), dtype=bool)
    y, x, dy, dx = 20, 20, 0, 1
    for arm in range(2, 41, 2):
        for _ in range(2):
            for _ in range(arm):
                mask[y, x] = True
                y, x = min(y + dy, 40), min(x + dx, 40)
            dy, dx = dx, -dy
    assert region_labels(mask)[1] == ndimage.label(mask)[1] == 1


def test_pixel_metrics_equal_the_single_functions():
    maps, masks = blobs(1)
    assert pixel_metrics(maps, masks) == {
        "auroc": auroc(maps, masks),
        "ap": average_precision(maps, masks),
        "f1_max": f1_max(maps, masks)[0],
        "aupro": aupro(maps, masks),
    }


def test_image_metrics_equal_the_single_functions():
    scores, labels = np.array([0.3, 0.1, 0.3, 0.9]), np.array([0, 0, 1, 1])
    expected = {"auroc": auroc(scores, labels), "ap": average_precision(scores, labels)}
    assert image_metrics(scores, labels) == {**expected, "f1_max": f1_max(scores, labels)[0]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_give_the_values_of_arrays(dtype):
    maps, masks = blobs(2)
    tensor = torch.from_numpy(maps).to(dtype).requires_grad_()
    array = tensor.detach().double().numpy()
    assert pixel_metrics(tensor, torch.from_numpy(masks)) == pixel_metrics(array, masks)


def test_labels_may_be_numbers():
    maps, masks = blobs(2)
    for kind in (np.uint8, np.int64, np.float32):
        assert pixel_metrics(maps, masks.astype(kind)) == pixel_metrics(maps, masks)


def test_boolean_maps_count_as_zero_and_one():
    maps, masks = np.arange(24).reshape(2, 3, 4) % 3 == 0, np.arange(24).reshape(2, 3, 4) % 5 == 0
    assert pixel_metrics(maps, masks) == pixel_metrics(maps.astype(float), masks)
    assert math.isnan(aupro(maps, masks, mode="released"))  # FPR 0.35 at every threshold


def test_inputs_are_left_alone():
    maps, masks = blobs(3)
    copies = maps.copy(), masks.copy()
    pixel_metrics(maps, masks)
    aupro(maps, masks, mode="released")
    assert (maps == copies[0]).all() and (masks == copies[1]).all()


@pytest.mark.parametrize("label", [0, 1])
def test_auroc_of_one_class_is_nan(label):
    assert math.isnan(auroc([0.1, 0.2], [label, label]))


def test_ap_and_f1_without_anomalies_are_nan():
    assert math.isnan(average_precision([0.1, 0.2], [0, 0]))
    assert all(math.isnan(value) for value in f1_max([0.1, 0.2], [0, 0]))


def test_ap_and_f1_without_normals_are_one():
    assert average_precision([0.1, 0.2], [1, 1]) == 1
    assert f1_max([0.1, 0.2], [1, 1]) == (1, 0.1)


@pytest.mark.parametrize("masks", [None, np.zeros((2, 3, 3)), np.zeros((2, 3, 3), dtype=bool)])
def test_without_regions_all_pixel_metrics_are_nan(masks):
    maps = np.random.default_rng(0).random((2, 3, 3))
    assert all(math.isnan(value) for value in pixel_metrics(maps, masks).values())
    assert math.isnan(aupro(maps, masks, mode="released"))


@pytest.mark.parametrize("mode", ["exact", "released"])
def test_aupro_without_normal_pixels_is_nan(mode):
    assert math.isnan(aupro(np.random.default_rng(0).random((2, 3, 3)), np.ones((2, 3, 3)), mode=mode))


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3)])
def test_without_pixels_everything_is_nan(shape):
    values = pixel_metrics(np.zeros(shape), np.zeros(shape)).values()
    assert all(math.isnan(value) for value in [*values, aupro(np.zeros(shape), np.zeros(shape), mode="released")])


def test_a_constant_map_is_one_tie():
    masks = np.zeros((1, 2, 4), dtype=bool)
    masks[0, 0, :2] = True
    expected = {"auroc": 0.5, "ap": 0.25, "f1_max": 0.4, "aupro": 0.15}
    assert pixel_metrics(np.full((1, 2, 4), 0.7), masks) == pytest.approx(expected, abs=NEAR)
    assert math.isnan(aupro(np.full((1, 2, 4), 0.7), masks, mode="released"))


def test_released_aupro_is_nan_where_all_kept_rates_are_equal():
    maps = np.array([[[1.0, 0.0, 0.0, 0.0]]])  # every threshold has FPR 0: the released rescaling divides 0 by 0
    assert math.isnan(aupro(maps, maps > 0, mode="released"))
    assert aupro(maps, maps > 0) == 1


def test_scores_that_are_not_finite_are_counted_and_placed():
    maps = np.zeros((2, 3, 4), dtype=np.float32)
    maps[0, 1, 2], maps[1, 0, 3] = np.nan, -np.inf
    with pytest.raises(ZsadError, match=r"2 of 24 scores .*nan at \[0, 1, 2\], -inf at \[1, 0, 3\]"):
        pixel_metrics(maps, np.zeros((2, 3, 4)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error(bad):
    with pytest.raises(ZsadError, match="1 of 2 scores"):
        auroc([bad, 0.5], [0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([1.0, 2.0], [1]), r"\(1,\) do not fit scores of shape \(2,\)"),
        (lambda: auroc([1.0, 2.0], [[0, 1]]), r"\(1, 2\) do not fit"),
        (lambda: aupro(np.zeros((1, 4, 4)), np.zeros((1, 4, 5))), r"\(1, 4, 5\) do not fit"),
        (lambda: aupro(np.zeros((4, 4)), np.zeros((4, 4))), r"\[N, H, W\], got shape \(4, 4\)"),
        (lambda: pixel_metrics(np.zeros((1, 1, 4, 4)), None), r"\[N, H, W\]"),
        (lambda: auroc([1.0, 2.0], [0, 255]), r"must be 0 or 1, got 255; .*labels > 0"),
        (lambda: auroc([1.0, 2.0], [0, math.nan]), "must be 0 or 1, got nan"),
        (lambda: auroc(["a", "b"], [0, 1]), "real numbers"),
        (lambda: auroc([[1.0], [2.0, 3.0]], [0, 1]), "different sizes"),
        (lambda: aupro(np.zeros((1, 2, 2)), None, limit=0), r"\(0, 1\], got 0"),
        (lambda: aupro(np.zeros((1, 2, 2)), None, mode="exakt"), 'did you mean "exact"'),
        (lambda: region_labels(np.zeros((1, 2, 2))), r"\[H, W\], got shape \(1, 2, 2\)"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ZsadError, match=message):
        call()


def test_pixel_metrics_need_at_most_twice_the_memory_of_the_maps():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((4, 256, 256), dtype=np.float32), np.zeros((4, 256, 256), dtype=bool)
    masks[:, :60, :60] = True  # 5 % of the pixels
    tracemalloc.start()
    pixel_metrics(maps, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 2 * maps.nbytes


def test_importing_metrics_does_not_import_torch():
    code = "import sys, zsad.metrics; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
