"""The exact metrics: every distinct score is a threshold.

Beside their arguments they need the memory of the scores once more, and a few times that of the largest single map; on
a GPU, see :mod:`zsad.metrics.ranks`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

from torch import Tensor

from zsad.errors import ZsadError, unknown
from zsad.metrics import formulas
from zsad.metrics.inputs import pair, stack
from zsad.metrics.ranks import Split, ascending, chosen, counted, parts, top
from zsad.metrics.regions import region_areas
from zsad.metrics.released import released_aupro
from zsad.metrics.values import NO_ANOMALOUS, NO_NORMAL, Value, undefined

Mode: TypeAlias = Literal["exact", "released"]


def auroc(scores: Any, labels: Any) -> Value:
    """Probability that an anomalous element scores higher than a normal one, ties counting one half.

    Args:
        scores: Array or tensor of any shape.
        labels: The same shape, 0 or 1.

    Returns:
        In [0, 1], or NaN unless both classes are present.

    Raises:
        ZsadError: If the shapes differ, a score is not finite or a label is not 0 or 1.

    >>> auroc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.875
    """
    return image_metrics(scores, labels)["auroc"]


def average_precision(scores: Any, labels: Any) -> Value:
    """Precision averaged over the steps in recall, without interpolation: the definition of scikit-learn.

    Args, errors: as :func:`auroc`.

    Returns:
        In (0, 1], or NaN without an anomalous element (scikit-learn gives 0 there).

    >>> average_precision([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.8333333333333333
    """
    return image_metrics(scores, labels)["ap"]


def f1_max(scores: Any, labels: Any) -> tuple[Value, float]:
    """Best F1 over all thresholds, and the highest threshold that reaches it.

    Args, errors: as :func:`auroc`.

    Returns:
        F1 in (0, 1] and a threshold that is one of the scores; both NaN without an anomalous element.

    >>> f1_max([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    (0.8, 0.4)
    """
    return _ranked(Split.of(*pair(scores, labels)))[2:]


def f1_at(scores: Any, labels: Any, threshold: float) -> Value:
    """F1 of the elements with ``score >= threshold``; of maps and masks, the segmentation F1 over all their pixels.

    Args, errors: as :func:`auroc`; the threshold is a finite number in the units of the scores, rounded to float32
    unless they are float64, so that 0.1 finds the float32 0.1.

    Returns:
        In [0, 1], or NaN without an anomalous element.

    >>> f1_at([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1], threshold=0.5)
    0.6666666666666666
    """
    hits, alarms, anomalous = _found_at(scores, labels, threshold)
    return Value(2 * hits / (hits + alarms + anomalous)) if anomalous else undefined(NO_ANOMALOUS)


def iou_at(scores: Any, labels: Any, threshold: float) -> Value:
    """Intersection over union of the labels and the elements with ``score >= threshold``, over all elements together.

    Args, errors, NaN: as :func:`f1_at`.

    >>> iou_at([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1], threshold=0.5)
    0.5
    """
    hits, alarms, anomalous = _found_at(scores, labels, threshold)
    return Value(hits / (alarms + anomalous)) if anomalous else undefined(NO_ANOMALOUS)


def aupro(maps: Any, masks: Any, limit: float = 0.3, mode: Mode = "exact") -> Value:
    """Area under the per-region overlap (PRO) curve up to a false positive rate, divided by that rate.

    PRO is the share of a region above the threshold, averaged over the regions of all masks together; regions are
    8-connected. "exact" takes every distinct score as a threshold and interpolates linearly at the limit.
    "released" gives what the code of the papers' repositories returns, to the last bit: see
    :mod:`zsad.metrics.released`. It is usually lower, and not comparable with exact values.

    Args:
        maps: [N, H, W], array or tensor.
        masks: [N, H, W], 0 or 1; an empty mask is a normal image; None where no ground truth exists.
        limit: False positive rate to integrate to, in (0, 1]. 0.3 is usual, MVTec AD 2 uses 0.05.
        mode: "exact" or "released".

    Returns:
        In [0, 1], or NaN: see the head of :mod:`zsad.metrics`.

    Raises:
        ZsadError: As :func:`auroc`, and for maps that are not [N, H, W], a limit out of range or an unknown mode.

    >>> aupro([[[0.9, 0.2, 0.1, 0.3]]], [[[1, 0, 0, 0]]])
    1.0
    """
    check_mode(mode)
    check_limit(limit)
    values, truth = stack(maps, masks)
    if mode == "released":
        return released_aupro(values, truth, limit)
    return _aupro(values, truth, ascending(chosen(values, truth, False)), limit)


def image_metrics(scores: Any, labels: Any) -> dict[str, Value]:
    """All image metrics, "auroc", "ap" and "f1_max", from one sort.

    Args, errors: as :func:`auroc`, usually of shape [N].

    >>> image_metrics([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    {'auroc': 0.875, 'ap': 0.8333333333333333, 'f1_max': 0.8}
    """
    return _named(_ranked(Split.of(*pair(scores, labels))))


def pixel_metrics(maps: Any, masks: Any, limit: float = 0.3) -> dict[str, Value]:
    """All pixel metrics, "auroc", "ap", "f1_max" and exact "aupro", from one sort.

    Args, errors: as :func:`aupro`. With ``masks=None`` every value is NaN.

    >>> pixel_metrics([[[0.9, 0.2, 0.1, 0.3]]], [[[1, 0, 0, 0]]])
    {'auroc': 1.0, 'ap': 1.0, 'f1_max': 1.0, 'aupro': 1.0}
    """
    check_limit(limit)
    values, truth = stack(maps, masks)
    normal = ascending(chosen(values, truth, False))
    pro = _aupro(values, truth, normal, limit)  # while the anomalous scores are not there yet: less memory at once
    return _named(_ranked(Split(normal, ascending(chosen(values, truth, True))))) | {"aupro": pro}


def check_limit(limit: float) -> None:
    """Raise unless AUPRO is defined up to this rate."""
    if not 0 < limit <= 1:
        raise ZsadError(f"the FPR limit of AUPRO must lie in (0, 1], got {limit}; usual are 0.3 and 0.05.")


def check_mode(mode: str) -> None:
    """Raise unless AUPRO has this mode."""
    if mode not in ("exact", "released"):
        raise unknown("AUPRO mode", str(mode), ("exact", "released"), 'mode="exact" or mode="released"')


def check_threshold(threshold: float) -> None:
    """Raise unless it is finite."""
    if not math.isfinite(threshold):
        raise ZsadError(f"a threshold must be a finite number, got {threshold}.")


def _named(found: tuple[Value, Value, Value, float]) -> dict[str, Value]:
    return dict(zip(("auroc", "ap", "f1_max"), found[:3], strict=True))


def _ranked(split: Split) -> tuple[Value, Value, Value, float]:
    """AUROC, AP, F1-max and its threshold."""
    normal, anomalous = len(split.normal), len(split.anomalous)
    if not anomalous:
        return undefined(NO_ANOMALOUS), undefined(NO_ANOMALOUS), undefined(NO_ANOMALOUS), math.nan
    beaten = precision = best = 0.0
    threshold = math.nan
    for at in split.blocks():
        beaten += float((formulas.beaten(at.above, at.alarms, normal or 1) * at.count).sum())
        precision += float((formulas.precision(at.found, at.alarms) * at.count).sum())
        f1 = formulas.f1(at.found, at.alarms, anomalous)
        if (highest := float(f1.max())) > best:
            best, threshold = highest, float(at.scores[f1 == highest][-1])
    auroc = Value(beaten / anomalous) if normal else undefined(NO_NORMAL)
    return auroc, Value(precision / anomalous), Value(best), threshold


def _aupro(maps: Tensor, masks: Tensor, normal: Tensor, limit: float) -> Value:
    """AUPRO from the sorted normal scores, image by image: the order of the anomalous pixels does not matter."""
    if len(normal) == masks.numel():
        return undefined(NO_ANOMALOUS)
    if not len(normal):
        return undefined(NO_NORMAL)
    total, regions, highest = 0.0, 0, top(normal, limit)
    for scores, mask in zip(maps, masks, strict=True):
        areas, count = region_areas(mask)
        for some, sizes in parts(chosen(scores, mask, True), areas):
            ranked, order = some.sort()  # the search is several times faster for scores in order
            share = formulas.area(counted(highest, ranked, above=True), counted(highest, ranked), len(normal), limit)
            total += float((share / sizes[order]).sum())
        regions += count
    return Value(min(1.0, total / regions))


def _found_at(scores: Any, labels: Any, threshold: float) -> tuple[int, int, int]:
    """Anomalous and normal elements from the threshold on, and all anomalous elements."""
    check_threshold(threshold)
    values, truth = pair(scores, labels)
    found = values >= threshold
    hits = int((found & truth).count_nonzero())
    return hits, int(found.count_nonzero()) - hits, int(truth.count_nonzero())
