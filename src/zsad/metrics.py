"""AUROC, average precision, F1-max and AUPRO of anomaly scores: pure functions on arrays and tensors.

Scores are finite real numbers, higher is more anomalous; labels and masks hold 0 (normal) or 1 (anomalous) and have
the shape of the scores. An element counts as predicted anomalous when ``score >= threshold``; equal scores always
change sides together, so no value depends on the order of the input. Every value lies in [0, 1].

NaN means "not defined for this input", never "bad":

==================  =========================================================================
AUROC               without a normal or without an anomalous element (also: without elements)
AP, F1-max          without an anomalous element; with anomalous ones only, both are 1
AUPRO, exact        without a region or without a normal pixel (also: ``masks=None``)
AUPRO, released     the same, and where fewer than two different FPRs lie below the limit,
                    as with a constant map: the released code divides by zero there
==================  =========================================================================

A constant map is one big tie: AUROC 0.5, AP the share of anomalous pixels, exact AUPRO half the limit.

Sources: AUPRO is Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021. The released variant is
``cal_pro_score`` in metrics.py of github.com/zqhang/AnomalyCLIP, commit 45ed4dd35c05797d854294b5e8d585c545920089.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsad.arrays import Array, as_array, binary, finite, same_shape
from zsad.errors import ZsadError, unknown
from zsad.regions import region_ids, region_weights

Mode: TypeAlias = Literal["exact", "released"]


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
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
    return _curve(scores, labels).auroc()


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Precision averaged over the steps in recall, without interpolation: the definition of scikit-learn.

    Args, errors: as :func:`auroc`.

    Returns:
        In (0, 1], or NaN without an anomalous element (scikit-learn gives 0 there).

    >>> average_precision([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.8333333333333333
    """
    return _curve(scores, labels).average_precision()


def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Best F1 over all thresholds, and the highest threshold that reaches it.

    Args, errors: as :func:`auroc`.

    Returns:
        F1 in (0, 1] and a threshold that is one of the scores; both NaN without an anomalous element.

    >>> f1_max([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    (0.8, 0.4)
    """
    return _curve(scores, labels).f1_max()


def aupro(maps: ArrayLike, masks: ArrayLike | None, limit: float = 0.3, mode: Mode = "exact") -> float:
    """Area under the per-region overlap (PRO) curve up to a false positive rate, divided by that rate.

    PRO is the share of a region above the threshold, averaged over the regions of all masks together; regions are
    8-connected. "exact" takes every distinct score as a threshold and interpolates linearly at the limit.
    "released" gives what the code of the papers' repositories returns, to the last bit: about 200 evenly spaced
    thresholds, ``score > threshold``, FPRs below the limit stretched to [0, 1]. It is usually lower, and not
    comparable with exact values. The bits are those of that code under NumPy 2, whatever version runs here; under
    NumPy 1 it spaced the thresholds in float64 and compared in float32, which moves values by some 1e-6.

    Args:
        maps: [N, H, W], array or tensor.
        masks: [N, H, W], 0 or 1; an empty mask is a normal image; None where no ground truth exists.
        limit: False positive rate to integrate to, in (0, 1]. 0.3 is usual, MVTec AD 2 uses 0.05.
        mode: "exact" or "released".

    Returns:
        In [0, 1], or NaN: see the head of this module.

    Raises:
        ZsadError: As :func:`auroc`, and for maps that are not [N, H, W], a limit out of range or an unknown mode.

    >>> aupro([[[0.9, 0.2, 0.1, 0.3]]], [[[1, 0, 0, 0]]])
    1.0
    """
    if not 0 < limit <= 1:
        raise ZsadError(f"the FPR limit of AUPRO must lie in (0, 1], got {limit}; usual are 0.3 and 0.05.")
    if mode not in ("exact", "released"):
        raise unknown("AUPRO mode", str(mode), ("exact", "released"), 'mode="exact" or mode="released"')
    pixels, truth = _pixels(maps, masks)
    if mode == "released":
        return _released_aupro(pixels, truth, limit)
    return Curve.of(pixels, truth, region_weights(truth)).aupro(limit)


def image_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """All image metrics, "auroc", "ap" and "f1_max", from one sort.

    Args, errors: as :func:`auroc`, usually of shape [N].

    >>> image_metrics([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    {'auroc': 0.875, 'ap': 0.8333333333333333, 'f1_max': 0.8}
    """
    curve = _curve(scores, labels)
    return {"auroc": curve.auroc(), "ap": curve.average_precision(), "f1_max": curve.f1_max()[0]}


def pixel_metrics(maps: ArrayLike, masks: ArrayLike | None) -> dict[str, float]:
    """All pixel metrics, "auroc", "ap", "f1_max" and exact "aupro" up to FPR 0.3, from one sort.

    Args, errors: as :func:`aupro`. With ``masks=None`` every value is NaN.

    >>> pixel_metrics([[[0.9, 0.2, 0.1, 0.3]]], [[[1, 0, 0, 0]]])
    {'auroc': 1.0, 'ap': 1.0, 'f1_max': 1.0, 'aupro': 1.0}
    """
    pixels, truth = _pixels(maps, masks)
    curve = Curve.of(pixels, truth, region_weights(truth))
    return {
        "auroc": curve.auroc(),
        "ap": curve.average_precision(),
        "f1_max": curve.f1_max()[0],
        "aupro": curve.aupro(),
    }


@dataclass(frozen=True)
class Curve:
    """What every metric needs: counts at each distinct score of an anomalous element, highest score first.

    Scores that only normal elements have are left out, and nothing is lost: such a threshold adds false alarms
    alone, so it never gives the best F1, adds no step to the AP, and lies on a level stretch of the ROC and PRO
    curves. So the normal scores are sorted without their indices, and never merged with the others.
    """

    thresholds: Array  # [K] scores, descending, all different
    found: NDArray[np.int64]  # [K] anomalous elements with score >= threshold
    alarms_above: NDArray[np.int64]  # [K] normal elements with score > threshold
    alarms: NDArray[np.int64]  # [K] normal elements with score >= threshold
    overlap: NDArray[np.float64]  # [K] weighted share of the anomalous elements found, ends with 1
    anomalous: int  # all anomalous elements
    normal: int  # all normal elements

    @classmethod
    def of(cls, scores: Array, labels: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> Curve:
        """Count. Scores are finite, labels have their shape; weights [number of True labels], in raster order."""
        thresholds, found, overlap = _ranked(scores[labels], weights)
        normal = scores[~labels]
        normal.sort()
        return cls(
            thresholds=thresholds,
            found=found,
            alarms_above=normal.size - np.searchsorted(normal, thresholds, side="right"),
            alarms=normal.size - np.searchsorted(normal, thresholds, side="left"),
            overlap=overlap,
            anomalous=int(found[-1]) if found.size else 0,
            normal=normal.size,
        )

    def auroc(self) -> float:
        """See :func:`auroc`; the counts are whole numbers, so only the last division rounds."""
        if not (self.anomalous and self.normal):
            return math.nan
        twice_below = 2 * self.normal - self.alarms - self.alarms_above
        return int(np.diff(self.found, prepend=0) @ twice_below) / (2 * self.anomalous * self.normal)

    def average_precision(self) -> float:
        """See :func:`average_precision`."""
        if not self.anomalous:
            return math.nan
        precision = self.found / (self.found + self.alarms)
        return float(np.diff(self.found, prepend=0) @ precision) / self.anomalous

    def f1_max(self) -> tuple[float, float]:
        """See :func:`f1_max`."""
        if not self.anomalous:
            return math.nan, math.nan
        f1 = 2 * self.found / (self.found + self.alarms + self.anomalous)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def aupro(self, limit: float = 0.3) -> float:
        """See :func:`aupro`; the weights that were given decide what a region is."""
        if not (self.anomalous and self.normal):
            return math.nan
        rise = np.diff(self.overlap, prepend=0.0)
        before = limit - self.alarms_above / self.normal  # from the foot of each step of the curve to the limit
        after = limit - self.alarms / self.normal  # and from its head
        whole = int(np.count_nonzero(after >= 0))
        area = float(rise[:whole] @ (before[:whole] + after[:whole])) / 2
        if whole < rise.size and before[whole] > 0:  # a tie that straddles the limit
            area += float(rise[whole] * before[whole] ** 2 / (before[whole] - after[whole])) / 2
        return min(1.0, area / limit)


def _ranked(scores: Array, weights: NDArray[np.float64] | None) -> tuple[Array, Array, Array]:
    """Distinct scores, highest first; number of scores, and share of the weights, at or above each."""
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: ranked.size])  # of each group of ties
    gathered = last + 1.0 if weights is None else np.cumsum(weights[order])[last]
    return ranked[last], last + 1, gathered / gathered[-1:]


def _released_aupro(maps: Array, masks: NDArray[np.bool_], limit: float) -> float:
    thresholds = _released_thresholds(maps)
    normal = masks.size - np.count_nonzero(masks)
    if not (thresholds.size and normal and normal < masks.size):
        return math.nan
    fpr = _alarms_over(maps, masks, thresholds) / normal
    kept = fpr < limit
    if np.unique(fpr[kept]).size < 2:
        return math.nan
    low, high = fpr[kept].min(), fpr[kept].max()
    return -_trapezoid((fpr[kept] - low) / (high - low), _overlap_over(maps, masks, thresholds)[kept])


def _released_thresholds(maps: Array) -> NDArray[np.float64]:
    """Evenly spaced from the lowest score, in the maps' own precision; rounding makes them 200 or 201."""
    if not maps.size:
        return np.zeros(0)
    low, high = maps.min(), maps.max()
    with np.errstate(over="ignore"):
        step = (high - low) / maps.dtype.type(200)  # a plain 200 would make it float64 under NumPy 1
    return np.arange(low, high, step) if 0 < step < math.inf else np.zeros(0)


def _alarms_over(maps: Array, masks: NDArray[np.bool_], thresholds: Array) -> NDArray[np.int64]:
    """[T] normal pixels above each threshold; map by map, so that little memory is needed."""
    passed = np.zeros(len(thresholds) + 1, dtype=np.int64)  # pixels by the number of thresholds that they exceed
    for scores, mask in zip(maps, masks, strict=True):
        passed += np.bincount(np.searchsorted(thresholds, scores[~mask]), minlength=len(passed))
    return np.asarray(passed[::-1].cumsum()[-2::-1])


def _overlap_over(maps: Array, masks: NDArray[np.bool_], thresholds: Array) -> NDArray[np.float64]:
    """[T] share of a region above each threshold, averaged over regions in the order in which they were found."""
    ids, count = region_ids(masks)
    areas = np.bincount(ids, minlength=count)
    passed = np.searchsorted(thresholds, maps[masks])  # thresholds that each pixel exceeds
    order = np.argsort(passed)
    bounds = np.searchsorted(passed[order], np.arange(len(thresholds) + 2))
    hits, overlap = np.zeros(count, dtype=np.int64), np.empty(len(thresholds))
    for i in reversed(range(len(thresholds))):
        hits += np.bincount(ids[order[bounds[i + 1] : bounds[i + 2]]], minlength=count)
        overlap[i] = (hits / areas).mean()
    return overlap


def _trapezoid(x: Array, y: Array) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2.0).sum())


def _curve(scores: ArrayLike, labels: ArrayLike) -> Curve:
    values = finite(as_array(scores))
    return Curve.of(values, binary(same_shape(as_array(labels), values), "labels"))


def _pixels(maps: ArrayLike, masks: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    """Checked maps and masks, both [N, H, W]; without masks nothing is anomalous."""
    values = finite(as_array(maps))
    if values.ndim != 3:
        hint = "maps[None] makes a stack of one map, maps[:, 0] drops a channel axis."
        raise ZsadError(f"maps must be [N, H, W], got shape {values.shape}; {hint}")
    if masks is None:
        return values, np.zeros(values.shape, dtype=bool)
    return values, binary(same_shape(as_array(masks), values), "masks")
