"""The exact metrics against scikit-learn, scipy, slow loops and values worked out by hand."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_recall_curve, roc_auc_score
from torch.overrides import TorchFunctionMode

from zsad.errors import ZsadError
from zsad.metrics import (
    Value,
    aupimo,
    aupimo_per_image,
    aupro,
    auroc,
    average_precision,
    f1_at,
    f1_max,
    image_metrics,
    iou_at,
    pixel_metrics,
    ranks,
)
from zsad.metrics.inputs import pair, stack
from zsad.metrics.values import NO_ANOMALOUS, NO_NORMAL

pytestmark = pytest.mark.filterwarnings("error")  # a metric that divides by zero on its way fails, and so does a copy
many = settings(max_examples=60, deadline=None, derandomize=True, database=None)
NEAR = 1e-12  # float64 sums of at most a few thousand terms below 1

NUMPY_TYPES = ["f2", "f4", "f8", ">f4", ">f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"]
TORCH_TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint16, torch.int64]


def sparse_in_memory(array):
    """The same numbers with negative strides and gaps between them."""
    twice = np.zeros([2 * size for size in array.shape], dtype=array.dtype)
    flipped = twice[tuple([slice(None, None, -2)] * array.ndim)]
    flipped[...] = array
    return flipped


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def with_gradient(array):
    return torch.tensor(array.astype("f4")).requires_grad_()


FORMS = {
    "array": np.asarray,
    "columns first": np.asfortranarray,
    "negative strides": sparse_in_memory,
    "read only": read_only,
    "gradient": with_gradient,
    "list": lambda array: array.tolist(),
    "list of tensors": lambda array: [torch.from_numpy(part.astype("f4")) for part in array],
    "tensor with gaps": lambda array: torch.from_numpy(array.astype("f8").repeat(2, axis=2))[:, :, ::2],
    **{kind: lambda array, kind=kind: array.astype(kind) for kind in NUMPY_TYPES},
    **{str(kind): lambda array, kind=kind: torch.from_numpy(array.astype("f4")).to(kind) for kind in TORCH_TYPES},
}


@st.composite
def scored(draw, lowest=-4):
    """Scores [N, H, W] with many ties, and labels of the same shape."""
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)))
    kind = draw(st.sampled_from([np.float32, np.float64, np.int64]))
    scores = draw(arrays(np.int64, size, elements=st.integers(lowest, 4)))
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


def everything(maps, masks):
    """What every exact function says about maps and masks."""
    return {
        **pixel_metrics(maps, masks),
        "f1_threshold": f1_max(maps, masks)[1],
        "f1_at": f1_at(maps, masks, 0.1),
        "iou_at": iou_at(maps, masks, 0.1),
        "aupro_5": aupro(maps, masks, limit=0.05),
        "released": aupro(maps, masks, mode="released"),
        "aupimo": aupimo(maps, masks, 0.001, 0.1),
        "aupimo_per_image": aupimo_per_image(maps, masks, 0.001, 0.1).nansum().item(),
    }


# values


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


@pytest.mark.parametrize("block", [1, 10])
def test_of_two_thresholds_with_the_best_f1_the_higher_is_given(block, monkeypatch):
    monkeypatch.setattr(ranks, "BLOCK", block)
    assert f1_max([4, 3, 2, 1], [1, 0, 0, 1]) == (2 / 3, 4)  # at 4: 2 * 1 / (1 + 2), at 1: 2 * 2 / (4 + 2)


@many
@given(scored(), st.sampled_from([-5, -1.5, 0, 2, 3.5, 9]))
def test_f1_and_iou_at_a_threshold_equal_scikit_learn(case, threshold):
    scores, labels = case
    assume(labels.any())
    found = (scores >= threshold).ravel()
    assert f1_at(scores, labels, threshold) == pytest.approx(f1_score(labels.ravel(), found, zero_division=0), abs=NEAR)
    expected = jaccard_score(labels.ravel(), found, zero_division=0)
    assert iou_at(scores, labels, threshold) == pytest.approx(expected, abs=NEAR)


@many
@given(scored())
def test_f1_at_the_best_threshold_is_f1_max(case):
    scores, labels = case
    assume(labels.any())
    best, threshold = f1_max(scores, labels)
    assert f1_at(scores, labels, threshold) == pytest.approx(best, abs=NEAR)


def test_a_threshold_has_the_precision_of_the_scores():
    scores = np.array([0.7, 0.6], dtype=np.float32)  # this 0.7 is a little less than the float64 0.7
    assert f1_at(scores, [1, 0], 0.7) == iou_at(scores, [1, 0], 0.7) == 1


@many
@given(scored(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_exact_aupro_equals_a_loop_over_all_thresholds(case, limit):
    maps, masks = case
    assume(0 < masks.sum() < masks.size)
    expected = brute_aupro(maps, masks, limit)
    assert aupro(maps, masks, limit) == pytest.approx(expected, abs=NEAR)
    assert pixel_metrics(maps, masks, limit)["aupro"] == pytest.approx(expected, abs=NEAR)


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


def test_scores_that_differ_in_the_last_bit_of_float64_are_no_tie():
    scores = np.array([1.0, np.nextafter(1.0, 2.0)])
    assert auroc(scores, [0, 1]) == average_precision(scores, [0, 1]) == f1_max(scores, [0, 1])[0] == 1
    assert aupro(scores.reshape(1, 1, 2), [[[0, 1]]]) == 1


# ties and blocks


def test_a_constant_map_is_one_tie():
    masks = np.zeros((1, 2, 4), dtype=bool)
    masks[0, 0, :2] = True
    expected = {"auroc": 0.5, "ap": 0.25, "f1_max": 0.4, "aupro": 0.15}
    assert pixel_metrics(np.full((1, 2, 4), 0.7), masks) == pytest.approx(expected, abs=NEAR)
    two = np.concatenate((masks, np.zeros_like(masks)))
    assert aupimo(np.full((2, 2, 4), 0.7), two, 0.001, 0.1) == pytest.approx(0.099 / math.log(100), abs=NEAR)


@many
@given(scored(), st.randoms(use_true_random=False))
def test_no_value_depends_on_the_order_of_equal_scores(case, random):
    scores, labels = case[0].ravel(), case[1].ravel()
    assume(0 < labels.sum() < labels.size)
    order = random.sample(range(len(scores)), len(scores))
    shuffled = image_metrics(scores[order], labels[order])
    assert shuffled == pytest.approx(image_metrics(scores, labels), abs=NEAR)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_values_do_not_depend_on_the_size_of_a_block(levels, monkeypatch):
    maps, masks = blobs(1, side=12)
    maps = np.floor(maps * levels)  # ties that reach over several blocks
    expected = everything(maps, masks)
    monkeypatch.setattr(ranks, "BLOCK", 3)
    assert everything(maps, masks) == pytest.approx(expected, abs=NEAR)


def test_blocks_say_where_each_anomalous_score_stands(monkeypatch):
    monkeypatch.setattr(ranks, "BLOCK", 2)
    split = ranks.Split.of(torch.tensor([5.0, 3, 3, 3, 1, 4, 3, 1]), torch.tensor([1, 1, 1, 1, 1, 0, 0, 0]).bool())
    rows = [torch.stack((b.scores, b.count, b.above, b.alarms, b.found)).T.tolist() for b in split.blocks()]
    assert rows == [[[5, 1, 0, 0, 1]], [[3, 2, 1, 2, 4]], [[1, 1, 2, 3, 5], [3, 1, 1, 2, 4]]]


@pytest.mark.parametrize("rate", [0.0, 0.19, 0.2, 0.5, 1.0])
def test_the_top_holds_all_that_counts_up_to_a_rate(rate):
    ordered = torch.tensor([1.0, 2, 2, 2, 3, 4, 4, 5, 6, 7])
    assert len(ranks.top(ordered, rate)) == min(n for n in (1, 2, 3, 5, 6, 9, 10) if n > 10 * rate or n == 10)


# what goes in


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(many, max_examples=10)
@given(case=scored(lowest=0))
def test_scores_of_every_form_give_the_values_of_an_array(form, case):
    scores, labels = case
    assume(0 < labels.sum() < labels.size)
    assert pixel_metrics(form(scores), labels) == pixel_metrics(scores.astype("f8"), labels)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_labels_of_every_form_give_the_values_of_an_array(form):
    maps, masks = blobs(2)
    assert pixel_metrics(maps, form(masks.astype("u1"))) == pixel_metrics(maps, masks)


def test_boolean_maps_count_as_zero_and_one():
    maps, masks = np.arange(24).reshape(2, 3, 4) % 3 == 0, np.arange(24).reshape(2, 3, 4) % 5 == 0
    assert pixel_metrics(maps, masks) == pixel_metrics(maps.astype(float), masks)
    assert pixel_metrics(torch.from_numpy(maps), masks) == pixel_metrics(maps, masks)


@pytest.mark.parametrize("kind", ["f2", "f4", "u2", "i1", "?"])
def test_what_float32_holds_exactly_is_float32(kind):
    assert pair(np.zeros(2, kind), [0, 1])[0].dtype == torch.float32
    assert pair(torch.zeros(2, dtype=torch.bfloat16), [0, 1])[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["f8", "i4", "u4", "i8", "u8"])
def test_everything_else_is_float64(kind):
    scores = np.array([16777216, 16777217], kind)  # one number in float32
    assert pair(scores, [0, 1])[0].dtype == torch.float64
    assert auroc(scores, [0, 1]) == 1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_and_tensors_are_not_copied(kind):
    maps, masks = blobs(3)
    maps = read_only(maps.astype(kind))
    for given_maps, given_masks in [(maps, masks), (torch.tensor(maps), torch.tensor(masks))]:
        values, truth = stack(given_maps, given_masks)
        assert np.shares_memory(values.numpy(), np.asarray(given_maps))
        assert np.shares_memory(truth.numpy(), np.asarray(given_masks))


def test_scores_with_gaps_between_them_are_copied_once():
    assert pair(torch.zeros(8)[::2], torch.zeros(4))[0].is_contiguous()


def test_a_missing_mask_takes_no_memory():
    assert stack(np.zeros((2, 3, 4)), None)[1].untyped_storage().nbytes() == 1


def test_a_memory_map_opened_for_reading_gives_the_values_of_an_array(tmp_path: Path):
    maps, masks = blobs(3)
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "masks.npy", masks)
    mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("maps.npy", "masks.npy")]
    assert everything(*mapped) == everything(maps, masks)


@pytest.mark.parametrize("form", [np.copy, torch.tensor])
@pytest.mark.parametrize("label", ["some", "none", "all"])
def test_inputs_are_left_alone(form, label):
    maps, masks = blobs(3)
    masks = {"some": masks, "none": np.zeros_like(masks), "all": np.ones_like(masks)}[label]
    given_maps, given_masks = form(maps), form(masks)
    everything(given_maps, given_masks)
    image_metrics(given_maps, given_masks)
    assert (np.asarray(given_maps) == maps).all() and (np.asarray(given_masks) == masks).all()


class NothingLeaves(TorchFunctionMode):
    """Fails where more than a few numbers of a tensor become numbers of Python or numpy, or go to the CPU by name."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        moved = name == "to" and "cpu" in [a for a in (*args[1:], *(kwargs or {}).values()) if isinstance(a, str)]
        if moved or name in ("cpu", "numpy", "tolist", "item", "__array__"):
            assert args[0].numel() <= 1000, f"{name} of {args[0].numel()} numbers"
        return function(*args, **(kwargs or {}))


def test_nothing_large_leaves_the_device_of_the_maps(monkeypatch):
    monkeypatch.setattr(ranks, "_on_cpu", lambda tensor: False)  # so everything runs as on a GPU
    maps, masks = map(torch.from_numpy, blobs(1, count=3))
    with NothingLeaves():
        everything(maps, masks)
        image_metrics(maps, masks)


@pytest.mark.parametrize("call", ["cpu()", "numpy()", "tolist()", "to('cpu')"])
def test_the_guard_against_leaving_a_device_can_fail(call):
    with NothingLeaves(), pytest.raises(AssertionError, match="2000 numbers"):
        eval(f"tensor.{call}", {"tensor": torch.zeros(2000)})


def test_values_of_other_devices_are_those_of_the_cpu(monkeypatch):
    maps, masks = blobs(1)
    expected = everything(maps, masks)
    monkeypatch.setattr(ranks, "_on_cpu", lambda tensor: False)
    assert everything(maps, masks) == pytest.approx(expected, abs=NEAR)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_values_of_the_cpu_and_takes_labels_from_there():
    maps, masks = map(torch.from_numpy, blobs(1))
    assert aupimo_per_image(maps.cuda(), masks).device.type == "cuda"
    assert everything(maps.cuda(), masks) == pytest.approx(everything(maps, masks), abs=NEAR)


# not defined


SOME = np.arange(18.0).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        *[(lambda f=f: f([0.1, 0.2], [0, 0]), NO_ANOMALOUS) for f in (auroc, average_precision)],
        (lambda: f1_max([0.1, 0.2], [0, 0])[0], NO_ANOMALOUS),
        (lambda: f1_at([0.1, 0.2], [0, 0], 0.15), NO_ANOMALOUS),
        (lambda: iou_at([0.1, 0.2], [0, 0], 0.3), NO_ANOMALOUS),
        (lambda: auroc([0.1, 0.2], [1, 1]), NO_NORMAL),
        (lambda: auroc(0.5, 1), NO_NORMAL),
        (lambda: auroc([], []), NO_ANOMALOUS),
        (lambda: f1_at([], [], 0.0), NO_ANOMALOUS),
        *[(lambda m=m: aupro(SOME, np.ones_like(SOME), mode=m), NO_NORMAL) for m in ("exact", "released")],
        *[(lambda m=m: aupro(SOME, np.zeros_like(SOME), mode=m), NO_ANOMALOUS) for m in ("exact", "released")],
        *[(lambda m=m: aupro(SOME, None, mode=m), NO_ANOMALOUS) for m in ("exact", "released")],
        (lambda: pixel_metrics(SOME, np.ones_like(SOME))["aupro"], NO_NORMAL),
    ],
)
def test_a_value_that_is_not_defined_says_why(call, reason):
    value = call()
    assert math.isnan(value) and value.reason == reason and value.error == 0


def test_the_threshold_of_an_f1_that_is_not_defined_is_nan():
    assert math.isnan(f1_max([0.1, 0.2], [0, 0])[1])


def test_ap_and_f1_without_normals_are_one():
    assert average_precision([0.1, 0.2], [1, 1]) == 1
    assert f1_max([0.1, 0.2], [1, 1]) == (1, 0.1)


@pytest.mark.parametrize("masks", [None, np.zeros((2, 3, 3)), np.zeros((2, 3, 3), dtype=bool)])
def test_without_regions_all_pixel_metrics_are_nan(masks):
    values = pixel_metrics(SOME, masks).values()
    assert all(math.isnan(value) and value.reason == NO_ANOMALOUS for value in values)


def test_without_labels_nothing_is_anomalous():
    assert auroc([1.0, 2.0], None).reason == f1_at([1.0, 2.0], None, 0.5).reason == NO_ANOMALOUS


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_without_pixels_everything_is_nan(shape):
    values = [*pixel_metrics(np.zeros(shape), np.zeros(shape)).values()]
    values += [aupro(np.zeros(shape), None, mode="released"), auroc(np.zeros(shape), np.zeros(shape))]
    assert all(math.isnan(value) and value.reason == NO_ANOMALOUS for value in values)


def test_a_single_number_is_one_element():
    assert average_precision(0.5, 1) == 1
    assert f1_max(torch.tensor(0.5), True) == (1, 0.5)


# what comes out


@pytest.mark.parametrize(
    "kept",
    [
        *[lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)],
        copy.copy,
        copy.deepcopy,
    ],
)
@pytest.mark.parametrize("value", [Value(0.25, error=1e-5), Value(math.nan, reason="no mask")])
def test_a_value_that_was_stored_or_copied_says_the_same(kept, value):
    again = kept(value)
    assert type(again) is Value and (again.error, again.reason) == (value.error, value.reason)
    np.testing.assert_equal(float(again), float(value))


def test_a_value_is_written_as_a_float_is():
    value, table = Value(0.25, error=1e-5), io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_NONNUMERIC).writerow([value])
    assert json.dumps({"ap": value}) == '{"ap": 0.25}' and table.getvalue() == "0.25\r\n"
    assert f"{value} {value!r} {value:.1%} {100 * value}" == "0.25 0.25 25.0% 25.0"
    assert (
        np.array([value]).dtype == np.float64 and torch.tensor([value]).tolist() == [0.25] and hash(value) == hash(0.25)
    )


@pytest.mark.parametrize("wrong", [lambda: Value(math.nan), lambda: Value(0.5, reason="no mask")])
def test_only_nan_has_a_reason_and_always(wrong):
    with pytest.raises(AssertionError, match="NaN comes with a reason"):
        wrong()


# errors


def test_scores_that_are_not_finite_are_counted_and_placed():
    maps = np.zeros((2, 3, 4), dtype=np.float32)
    maps[0, 1, 2], maps[1, 0, 3] = np.nan, -np.inf
    with pytest.raises(ZsadError, match=r"2 of 24 scores .*nan at \[0, 1, 2\], -inf at \[1, 0, 3\]"):
        pixel_metrics(maps, np.zeros((2, 3, 4)))


def test_only_the_first_places_are_shown():
    with pytest.raises(ZsadError, match=r"5 of 5 .*: inf at \[0\], inf at \[1\], inf at \[2\], \.\.\."):
        auroc([math.inf] * 5, [0] * 5)


@pytest.mark.parametrize("form", [np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float16)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error(bad, form):
    with pytest.raises(ZsadError, match="1 of 2 scores"):
        auroc(form([bad, 0.5]), [0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([1.0, 2.0], [1]), r"\(1,\) do not fit scores of shape \(2,\)"),
        (lambda: auroc([1.0, 2.0], [[0, 1]]), r"\(1, 2\) do not fit"),
        (lambda: auroc([1.0, 2.0], 1), r"\(\) do not fit"),
        (lambda: aupro(np.zeros((1, 4, 4)), np.zeros((1, 4, 5))), r"masks .* \(1, 4, 5\) do not fit"),
        (lambda: aupro(np.zeros((4, 4)), np.zeros((4, 4))), r"\[N, H, W\], got shape \(4, 4\)"),
        (lambda: pixel_metrics(np.zeros((1, 1, 4, 4)), None), r"\[N, H, W\]"),
        (lambda: auroc([1.0, 2.0], [0, 255]), r"must be 0 or 1, got 255; .*labels > 0"),
        (lambda: auroc([1.0, 2.0], [0, -1]), "must be 0 or 1, got -1; leave out"),
        (lambda: auroc([1.0, 2.0], [0, 0.5]), "must be 0 or 1, got 0.5"),
        (lambda: auroc([1.0, 2.0], [0, math.nan]), "must be 0 or 1, got nan; leave out what has no label"),
        (lambda: auroc(["a", "b"], [0, 1]), "scores must be real numbers"),
        (lambda: auroc(None, [0, 1]), "scores must be real numbers"),
        (lambda: auroc([1.0, 2.0], ["good", "bad"]), "labels must be real numbers, got list of <U4; .*== 'anomalous'"),
        (lambda: auroc([1j, 2j], [0, 1]), "scores must be real numbers, got torch.complex128"),
        (lambda: auroc([[1.0], [2.0, 3.0]], [0, 1]), "scores must be one array, got parts of different sizes"),
        (lambda: aupro([torch.zeros(2, 2), torch.zeros(2, 3)], None), "maps must be one array, got parts of different"),
        (lambda: aupro(np.zeros((1, 2, 2)), None, limit=0), r"\(0, 1\], got 0"),
        (lambda: pixel_metrics(np.zeros((1, 2, 2)), None, limit=30), r"\(0, 1\], got 30"),
        (lambda: aupro(np.zeros((1, 2, 2)), None, mode="exakt"), 'did you mean "exact"'),
        (lambda: f1_at([1.0, 2.0], [0, 1], math.nan), "a finite number, got nan"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ZsadError, match=message):
        call()


# memory and imports

CHILD = """
import json, re, sys
import numpy as np
from zsad.metrics import pixel_metrics, ranks

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def ratio(share):
    maps, masks = np.random.default_rng(0).random((60, 256, 256), dtype=np.float32), np.zeros((60, 256, 256), bool)
    masks[:, : round(256 * share)] = True
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    pixel_metrics(maps, masks)
    return 1024 * (kilobytes("VmHWM") - before) / maps.nbytes

ranks.BLOCK = 2**13  # what does not grow with the maps shall not count
ratio(0.1)  # loads what is loaded at the first call
print(json.dumps({share: ratio(share) for share in (0, 0.03, 0.5, 1)}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory that Linux counts")
def test_pixel_metrics_need_the_memory_of_the_maps_once_more_at_any_anomalous_share():
    alone = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, env=alone)
    assert all(ratio < 1.3 for ratio in json.loads(done.stdout).values()), done.stdout


def test_importing_metrics_imports_no_library_of_the_tests():
    code = "import sys, zsad.metrics; sys.exit(any(name in sys.modules for name in ('scipy', 'sklearn', 'skimage')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
