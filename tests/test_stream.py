"""Streams against the exact metrics: errors that hold, and states that depend on nothing but the images."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from scipy.ndimage import gaussian_filter

from zsad import metrics
from zsad.errors import ZsadError
from zsad.metrics import stream as module
from zsad.metrics.bounds import _extremes
from zsad.metrics.histogram import PAGE, Histogram
from zsad.metrics.keys import keys_of
from zsad.metrics.released import released_area, released_thresholds
from zsad.metrics.stream import ImageStream, PixelStream

many = settings(max_examples=40, deadline=None, derandomize=True, database=None)
NEAR = 1e-12  # float64 sums of at most a few thousand terms below 1
FEW = st.integers(2, 40)  # pages: so few that bins have to be coarse
SEEDS = st.integers(0, 2**32 - 1)

SIZES = [(3, "f4"), (5, "f2"), (1, "f8"), (9, "f4")]
DRAWS = {
    "noise": lambda rng, shape: rng.normal(size=shape),
    "tenths": lambda rng, shape: rng.integers(0, 5, shape) / 10,  # ties, which float32 does not hold exactly
    "whole": lambda rng, shape: rng.integers(-3, 4, shape),
    "constant": lambda rng, shape: np.full(shape, 0.3),
    "probabilities": lambda rng, shape: 1 / (1 + np.exp(-10 * rng.normal(size=shape))),
    "close to 1": lambda rng, shape: 1 - 10 ** rng.uniform(-6, 0, shape),
    "many magnitudes": lambda rng, shape: 10 ** rng.uniform(-4, 4, shape) * rng.choice([-1, 1], shape),
    "half zeros": lambda rng, shape: np.where(rng.random(shape) < 0.5, 0, rng.normal(size=shape)),
    "narrow": lambda rng, shape: 0.2 + 1e-3 * rng.normal(size=shape),
}
draws = st.sampled_from(list(DRAWS))
types = st.sampled_from(["f2", "f4", "f8"])


def drawn(seed, kind, dtype, sides=(1, 60)):
    """Maps and masks: no, few, some or only anomalous pixels, raised or not; some images without any."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 5)), *(int(side) for side in rng.integers(*sides, 2)))
    masks = rng.random(shape) < rng.choice([0, 0.02, 0.1, 0.5, 1])
    masks[rng.random(len(masks)) < 0.4] = False
    maps = DRAWS[kind](rng, shape) + rng.choice([0, 0.3]) * masks
    return maps.astype(dtype), masks


def streamed(maps, masks, pages, parts=1):
    stream = PixelStream(pages)
    for some in np.array_split(np.arange(len(maps)), parts):
        stream.add(maps[some], masks[some])
    return stream


def same_state(one, other):
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].equal(b[k]) for k in a)


def holds(value, exact):
    """Within its error; and not defined, for the same reason, where the exact one is not."""
    if math.isnan(exact):
        return value.reason == exact.reason
    return abs(value - exact) <= value.error + NEAR


# values


@many
@given(SEEDS, draws, types, FEW, st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([(1e-5, 1e-4), (1e-3, 0.5)]))
def test_every_value_is_within_its_error_of_the_exact_one(seed, kind, dtype, pages, limit, rates):
    maps, masks = drawn(seed, kind, dtype)
    stream = streamed(maps, masks, pages, parts=3)
    exact = metrics.pixel_metrics(maps, masks, limit)
    assert stream.metrics(limit).keys() == exact.keys()
    assert all(holds(value, exact[name]) for name, value in stream.metrics(limit).items())
    assert holds(stream.aupimo(*rates), metrics.aupimo(maps, masks, *rates))
    for threshold in (float(np.median(maps)), 0.1, -1e300):
        assert holds(stream.f1_at(threshold), metrics.f1_at(maps, masks, threshold))
        assert holds(stream.iou_at(threshold), metrics.iou_at(maps, masks, threshold))


@many
@given(SEEDS, draws, types, FEW, st.sampled_from([0.05, 0.3, 1.0]) | st.integers(0, 150))
def test_released_aupro_is_within_its_error_of_the_exact_one(seed, kind, dtype, pages, limit):
    maps, masks = drawn(seed, kind, dtype)
    if isinstance(limit, int):  # the rate at one of the thresholds: the bins leave open whether it is kept
        ends = float(maps.min()), float(maps.max())
        thresholds = [*released_thresholds(*ends, np.float64 if dtype == "f8" else np.float32), ends[0]]
        threshold = thresholds[limit % len(thresholds)]
        limit = max(0.01, (maps[~masks] > threshold).sum() / max(1, (~masks).sum()))
    value = streamed(maps, masks, pages).aupro(limit, mode="released")
    exact = metrics.aupro(maps, masks, limit, mode="released")
    assert abs(value - exact) <= value.error + NEAR or value.reason
    assert value.reason or not exact.reason


@many
@given(SEEDS, draws, types, FEW)
def test_the_threshold_of_f1_max_reaches_its_value_and_no_other_one_more_than_its_error_more(seed, kind, dtype, pages):
    maps, masks = drawn(seed, kind, dtype)
    stream = streamed(maps, masks, pages)
    value, threshold = stream.f1_max()
    best, highest = metrics.f1_max(maps, masks)
    assert value.reason == best.reason
    if not value.reason:
        assert metrics.f1_at(maps, masks, threshold) == value == stream.f1_at(threshold)
        assert value <= best <= value + value.error
        assert value.error or threshold == highest


@many
@given(SEEDS, draws, types)
def test_scores_that_stay_apart_give_the_exact_values(seed, kind, dtype):
    maps, masks = drawn(seed, kind, dtype, sides=(1, 12))
    scores, labels = maps.ravel(), masks.ravel()
    stream, pixels = ImageStream(), streamed(maps, masks, 2048)
    stream.add(scores, labels)
    exact = metrics.image_metrics(scores, labels)
    assert all(value.error < NEAR and holds(value, exact[name]) for name, value in stream.metrics().items())
    assert stream.f1_max()[1] == metrics.f1_max(scores, labels)[1] or not labels.any()
    assert holds(pixels.aupro(), metrics.aupro(maps, masks))
    assert pixels.aupro().error < 1e-9 and pixels.aupimo().error < 1e-9  # of weights, which are whole numbers


def test_the_order_is_known_where_the_scores_of_a_bin_do_not_overlap():
    for labels, auroc in (([0, 0, 1, 1], 1), ([1, 1, 0, 0], 2 / 3)):
        stream = ImageStream(2)
        stream.add([-1e30, -1e-30, 1e30], [0, 0, 1])  # all scores from 1 to 1.25 share a bin
        stream.add([1.0, 1.05, 1.1, 1.15], labels)
        values = stream.metrics()
        assert len(stream._histograms["normal"].table().low) == 3
        assert values["auroc"] == pytest.approx(auroc, abs=NEAR) and values["auroc"].error == 0


def test_f1_max_gives_the_highest_of_several_best_thresholds(monkeypatch):
    monkeypatch.setattr("zsad.metrics.bounds.ROWS", 1)
    stream = ImageStream()
    stream.add([4, 3, 2, 1], [1, 0, 0, 1])
    assert stream.f1_max() == (2 / 3, 4)


def test_a_threshold_is_rounded_as_the_scores_are():
    single, double = ImageStream(), ImageStream()
    single.add(np.float32([0.7]), [1]), double.add([0.7], [1])
    assert single.f1_at(0.7) == double.f1_at(0.7) == 1
    assert single.f1_at(0.7 + 1e-12) == 1 and double.f1_at(0.7 + 1e-12) == 0


def test_weights_add_up_to_the_same_for_every_region_but_for_their_rounding():
    areas = torch.arange(1, 3000)
    assert ((module._weight(areas) * areas - module.UNIT).abs() <= areas / 2).all()


def test_a_rate_at_the_limit_may_be_kept_or_not_once_the_released_code_rounds_its_number_of_pixels(monkeypatch):
    maps, masks = realistic("noise", count=2, side=60)
    stream = streamed(maps, masks, 2048)
    threshold = released_thresholds(float(maps.min()), float(maps.max()))[130]
    limit = (maps[~masks] > threshold).mean() * (1 + 1e-7)
    assert stream.aupro(limit, mode="released").error < 1e-8
    monkeypatch.setattr("zsad.metrics.bounds.WHOLE", 1)
    assert stream.aupro(limit, mode="released").error > 1e-4


def realistic(kind, count=12, side=160):
    """Smooth noise, raised inside ellipses, as the scores that methods give."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    maps, masks = np.empty((count, side, side)), np.zeros((count, side, side), bool)
    for scores, mask in zip(maps, masks, strict=True):
        for _ in range(rng.integers(0, 4)):
            (cy, cx), (a, b) = rng.random(2), rng.uniform(0.02, 0.15, 2)
            mask |= ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1
        scores[:] = gaussian_filter(0.5 * mask + 2 * rng.normal(size=(side, side)), side / 65)
    shape = {
        "noise": lambda z: z,
        "probabilities": lambda z: 1 / (1 + np.exp(-6 * z)),
        "saturated": lambda z: 1 / (1 + np.exp(-40 * (z - 0.2))),
        "cosines": lambda z: 0.2 + 0.005 * z,
        "distances": lambda z: 0.5 * (1 + z / 10),
        "half precision": lambda z: z.astype(np.float16),
    }
    return shape[kind](maps).astype(np.float32), masks


@pytest.mark.parametrize("kind", ["noise", "probabilities", "saturated", "cosines", "distances", "half precision"])
def test_errors_are_below_1e_4_on_realistic_maps(kind):
    maps, masks = realistic(kind)
    stream = streamed(maps, masks, 2048, parts=12)
    exact = metrics.pixel_metrics(maps, masks)
    values = stream.metrics() | {
        "aupro 0.05": stream.aupro(0.05),
        "released": stream.aupro(mode="released"),
        "aupimo": stream.aupimo(),
    }
    exact |= {
        "aupro 0.05": metrics.aupro(maps, masks, 0.05),
        "released": metrics.aupro(maps, masks, mode="released"),
        "aupimo": metrics.aupimo(maps, masks),
    }
    assert all(value.error <= 1e-4 and holds(value, exact[name]) for name, value in values.items())


@pytest.mark.parametrize("spread", [3, 12])
def test_errors_are_below_1e_4_for_millions_of_probabilities_close_to_0_and_1(spread):
    rng = np.random.default_rng(0)
    labels = rng.random(2**21) < 0.03
    logits = rng.standard_normal(2**21, dtype=np.float32) * (spread / 2) + (labels - np.float32(0.5)) * spread
    probabilities = torch.from_numpy(logits).sigmoid()
    stream = ImageStream()
    stream.add(probabilities, labels)
    exact = metrics.image_metrics(probabilities, labels)
    assert all(value.error <= 1e-4 and holds(value, exact[name]) for name, value in stream.metrics().items())


def test_maps_of_different_sizes_and_types_add_up():
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(2, side, 7)).astype(dtype), rng.random((2, side, 7)) < 0.2) for side, dtype in SIZES]
    stream = PixelStream()
    for part in parts:
        stream.add(*part)
    scores, labels = (np.concatenate([some.ravel() for some in side]) for side in zip(*parts, strict=True))
    exact = metrics.image_metrics(scores, labels)
    assert stream.images == 8
    assert all(abs(value - exact[name]) < NEAR for name, value in list(stream.metrics().items())[:3])


def test_the_released_area_is_bounded_whichever_rates_and_overlaps_are_true():
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = rng.integers(2, 6)
        rates, overlaps = -np.sort(-rng.integers(0, 6, (2, 2, count)) / 6, axis=2)
        rates.sort(axis=0), overlaps.sort(axis=0)  # least and most of each
        share = rng.random((2, count))
        true = [
            np.minimum.accumulate(low + s * (high - low))
            for (low, high), s in zip((rates, overlaps), share, strict=True)
        ]
        value = released_area(*true, math.inf)
        least, most = (released_area(*curve, math.inf) for curve in _extremes(rates, overlaps))
        assert value.reason or least.reason or most.reason or least - NEAR <= value <= most + NEAR


# the same state, whatever the order


@many
@given(SEEDS, draws, types, FEW, st.permutations(range(6)), st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_any_parts_merged_in_any_order_give_the_state_of_one_pass(seed, kind, dtype, pages, order, pairs):
    maps, masks = drawn(seed, kind, dtype)
    maps, masks = np.concatenate([maps, 3 * maps, -maps])[:6], np.concatenate([masks] * 3)[:6]
    streams = [streamed(maps[i : i + 1], masks[i : i + 1], pages) for i in order if i < len(maps)]
    for pair in pairs[: len(streams) - 1]:
        other = streams.pop((pair + 1) % len(streams))
        streams[pair % len(streams)].merge(other)
    whole = streamed(maps, masks, pages)
    assert len(streams) == 1 and same_state(streams[0], whole)
    assert str(streams[0].metrics()) == str(whole.metrics())
    assert streams[0].aupro(mode="released") == whole.aupro(mode="released") or whole.aupro(mode="released").reason


def test_blocks_of_one_map_give_the_state_of_the_whole(monkeypatch):
    scores, labels = np.random.default_rng(0).normal(size=(2, 3000))
    whole, parts = ImageStream(4), ImageStream(4)
    whole.add(scores, labels > 1)
    monkeypatch.setattr("zsad.metrics.histogram.BLOCK", 7)
    parts.add(scores[::-1], labels[::-1] > 1)
    assert same_state(whole, parts)


def test_inference_mode_makes_no_difference():
    maps, masks = drawn(4, "noise", "f8")
    with torch.inference_mode():
        stream = PixelStream(4)
        stream.add(torch.from_numpy(maps).float(), masks)
    stream.add(torch.from_numpy(maps).requires_grad_(), masks)
    with torch.inference_mode():
        stream.add(torch.from_numpy(maps), masks)
    whole = streamed(maps.astype(np.float32), masks, 4)
    for _ in range(2):
        whole.merge(streamed(maps, masks, 4))
    assert same_state(stream, whole)


def test_zeros_of_either_sign_give_the_same_state():
    plus, minus = ImageStream(), ImageStream()
    plus.add([0.0, -0.0], [0, 0]), minus.add([-0.0, 0.0], [0, 0])
    assert save(plus.state()) == save(minus.state())


def test_an_empty_batch_changes_nothing():
    stream = ImageStream()
    stream.add(np.float32([0.7, 0.6]), [1, 0])
    before = save(stream.state())
    stream.add([], [])
    assert save(stream.state()) == before and stream.f1_at(0.7) == 1
    pixels = PixelStream()
    pixels.add(np.zeros((2, 0, 3)), np.zeros((2, 0, 3)))
    assert pickle.loads(pickle.dumps(pixels)).images == 2


@pytest.mark.parametrize("kind", [ImageStream, PixelStream])
def test_what_has_no_truth_is_refused(kind):
    with pytest.raises(ZsadError, match="got None; leave out"):
        kind().add(np.zeros((1, 2, 2)), None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0, 0.2, 1])
def test_a_stream_on_a_gpu_gives_the_state_of_one_on_the_cpu(share):
    maps, masks = torch.randn(3, 40, 40), torch.rand(3, 40, 40) < share
    here, there = PixelStream(), PixelStream()
    here.add(maps, masks), there.add(maps.cuda(), masks.cuda())
    assert same_state(here, there) and here.metrics() == pytest.approx(there.metrics(), nan_ok=True)


def test_merging_leaves_the_other_stream_as_it_was():
    one, other = streamed(*drawn(1, "noise", "f4"), 4), streamed(*drawn(2, "noise", "f8"), 4)
    before = copy.deepcopy(other)
    one.merge(other)
    assert same_state(other, before) and not same_state(one, before)


def test_a_stream_merged_with_itself_counts_everything_twice():
    maps, masks = drawn(3, "noise", "f4")
    one, twice = streamed(maps, masks, 4), streamed(np.concatenate([maps] * 2), np.concatenate([masks] * 2), 4)
    one.merge(one)
    assert same_state(one, twice)


def test_streams_of_another_kind_or_size_are_not_merged():
    stream = PixelStream(4)
    with pytest.raises(ZsadError, match="expected another PixelStream, got ImageStream"):
        stream.merge(ImageStream(4))
    with pytest.raises(ZsadError, match="expected a stream of 4 pages, got 5"):
        stream.merge(PixelStream(5))
    with pytest.raises(ZsadError, match="2 pages or more, got 1"):
        PixelStream(1)


# no number, and what is refused


def test_an_empty_stream_has_no_values_and_says_why():
    values = [*PixelStream().metrics().values(), *ImageStream().metrics().values(), PixelStream().aupimo()]
    values += [PixelStream().f1_at(0.5), PixelStream().iou_at(0.5), PixelStream().aupro(mode="released")]
    assert {value.reason for value in values} == {"no anomalous element"}
    assert math.isnan(PixelStream().f1_max()[1])


@pytest.mark.parametrize("share", [0, 1])
def test_one_class_only_gives_what_the_exact_form_gives(share):
    maps, masks = np.random.default_rng(0).random((2, 5, 5)), np.full((2, 5, 5), share)
    stream = streamed(maps, masks, 4)
    exact = metrics.pixel_metrics(maps, masks)
    assert [v.reason for v in stream.metrics().values()] == [v.reason for v in exact.values()]
    assert stream.aupimo().reason == metrics.aupimo(maps, masks).reason
    assert stream.aupro(mode="released").reason == metrics.aupro(maps, masks, mode="released").reason


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (1, 0, 0)])
def test_images_without_pixels_change_no_value(shape):
    stream = streamed(*drawn(1, "noise", "f4"), 4)
    before, images = stream.metrics(), stream.images
    stream.add(np.zeros(shape), np.zeros(shape, bool))
    assert stream.metrics() == before and stream.images == images + shape[0]
    only = streamed(np.zeros(shape), np.zeros(shape, bool), 4)
    assert same_state(PixelStream.of(only.state()), only)


def test_a_constant_map_gives_what_the_exact_form_gives():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = True
    stream = streamed(np.full((2, 4, 4), 0.1), masks, 2048)
    exact = metrics.pixel_metrics(np.full((2, 4, 4), 0.1), masks)
    assert all(abs(value - exact[name]) <= value.error + NEAR for name, value in stream.metrics().items())
    assert abs(stream.aupimo() - metrics.aupimo(np.full((2, 4, 4), 0.1), masks)) < NEAR
    assert stream.aupro(mode="released").reason


BAD = {
    "not finite": ([[[0.5, np.nan]]], [[[0, 1]]]),
    "do not fit": ([[[0.5, 0.5]]], [[[0, 1, 0]]]),
    "must be 0 or 1": ([[[0.5, 0.5]]], [[[0, 2]]]),
    r"must be \[N, H, W\]": ([[0.5, 0.5]], [[0, 1]]),
    "needs masks": ([[[0.5, 0.5]]], None),
    "takes 3 regions": (np.zeros((2, 1, 3)), [[[1, 0, 1]]] * 2),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_refused_leaves_the_stream_as_it_was(message, monkeypatch):
    monkeypatch.setattr(module, "REGIONS", 3)
    stream = streamed(np.random.default_rng(0).random((2, 5, 5)), np.zeros((2, 5, 5), bool), 4)
    before = copy.deepcopy(stream)
    with pytest.raises(ZsadError, match=message):
        stream.add(*BAD[message])
    assert same_state(stream, before)
    with pytest.raises(ZsadError, match="not finite"):
        ImageStream().add([math.inf], [1])


def test_as_many_regions_as_there_is_room_for_are_taken(monkeypatch):
    monkeypatch.setattr(module, "REGIONS", 2)
    one, other = PixelStream(), PixelStream()
    one.add(np.zeros((1, 1, 5)), [[[1, 1, 0, 1, 1]]]), other.add(np.zeros((1, 1, 5)), [[[1, 1, 1, 1, 1]]])
    before = copy.deepcopy(one)
    with pytest.raises(ZsadError, match="takes 2 regions, got 2 and 1 more"):
        one.merge(other)
    assert same_state(one, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.metrics(limit=0), "FPR limit of AUPRO"),
        (lambda s: s.aupro(limit=1.5), "FPR limit of AUPRO"),
        (lambda s: s.aupro(mode="relaesed"), 'did you mean "released"'),
        (lambda s: s.aupimo(low=0), "FPR bounds of AUPIMO"),
        (lambda s: s.f1_at(math.nan), "finite number"),
        (lambda s: s.iou_at(math.inf), "finite number"),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(ZsadError, match=message):
        call(PixelStream())


# states


@many
@given(SEEDS, draws, types, FEW)
def test_a_state_comes_back_from_a_file_and_goes_on(seed, kind, dtype, pages):
    maps, masks = drawn(seed, kind, dtype)
    stream = streamed(maps, masks, pages)
    for back in (PixelStream.of(load(save(stream.state()))), pickle.loads(pickle.dumps(stream))):
        assert same_state(back, stream) and back.images == stream.images and back.pages == pages
        back.add(maps, masks)
        assert same_state(back, streamed(np.concatenate([maps, maps]), np.concatenate([masks, masks]), pages))


TEN = torch.arange(10.0)
WRONG = {
    "lacks": lambda s: s.pop("sound.low"),
    "nothing to do with": lambda s: s.update(more=TEN),
    '"images"': lambda s: s.update(images=torch.tensor(-1)),
    '"regions"': lambda s: s.update(regions=torch.tensor(-1)),
    '"sound.pages"': lambda s: s.update({"sound.pages": torch.tensor(1)}),
    '"sound.low"': lambda s: s.update({"sound.low": [1.0]}),
    '"around.pages"': lambda s: s.update({"around.pages": torch.tensor(2**40)}),
    '"sound.level"': lambda s: s.update({"sound.level": torch.tensor(40)}),
    '"around.level" .* lowest for 2 pages': lambda s: s.update({"around.pages": torch.tensor(2)}),
    '"around.level" .* lowest for 99 pages': lambda s: s.update({"around.pages": torch.tensor(99)}),
    '"around.low" .* ascend': lambda s: s.update({"around.low": s["around.low"].flip(0)}),
    '"around.low" .*float32': lambda s: s.update({"around.low": s["around.low"].int()}),
    '"around.high" .* bins': lambda s: s.update({"around.high": s["around.high"].flip(0)}),
    '"around.high" .* shape': lambda s: s.update({"around.high": s["around.high"][1:]}),
    '"anomalous.sums" .* positive': lambda s: s.update({"anomalous.sums": -s["anomalous.sums"]}),
    '"anomalous.sums" .*int64': lambda s: s.update({"anomalous.sums": s["anomalous.sums"].double()}),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_damaged_state_is_refused(message):
    rng = np.random.default_rng(0)
    state = streamed(rng.normal(size=(3, 30, 30)), rng.random((3, 30, 30)) < 0.3, 8).state()
    WRONG[message](state)
    with pytest.raises(ZsadError, match=message):
        PixelStream.of(state)


def test_the_state_of_another_kind_of_stream_is_refused():
    with pytest.raises(ZsadError, match="the state of this kind of stream"):
        ImageStream.of(PixelStream().state())


# memory


def test_memory_does_not_grow_with_the_images():
    rng = np.random.default_rng(0)
    stream = PixelStream(8)
    for scale in 10.0 ** np.arange(-6, 6):
        stream.add(scale * rng.normal(size=(2, 50, 50)), rng.random((2, 50, 50)) < np.array([[[0.3]], [[0]]]))
        for histogram in stream._histograms.values():
            assert len(histogram.pages) <= 8 == len(histogram.low)
            assert len(histogram.table().low) <= 8 * PAGE


# keys, bins


@many
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_keys_are_in_the_order_of_the_scores(scores):
    keys = keys_of(torch.tensor(sorted(scores), dtype=torch.float64)).tolist()
    assert all(a <= b for a, b in pairwise(keys))


@many
@given(st.floats(-(2.0**99), 2.0**99, width=32))
def test_every_float32_has_a_key_of_its_own(score):
    near = torch.tensor([score, np.nextafter(np.float32(score), np.float32(math.inf))], dtype=torch.float32)
    assert len(keys_of(near).unique()) == 2


def test_bins_close_to_1_are_as_narrow_as_those_close_to_0():
    small = torch.tensor([2.0**-20, 2.0**-20 * 1.25])
    assert keys_of(small).diff() == keys_of(1 - small).diff().abs()


@pytest.mark.parametrize("pages", [2, 3, 5])
def test_the_level_is_the_smallest_that_leaves_so_many_pages(pages):
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=500))
    histogram = Histogram(pages=pages)
    histogram.add(scores)
    fits = [len((keys_of(scores) >> (level + 10)).unique()) <= pages for level in range(22)]
    assert histogram.level == fits.index(True)
