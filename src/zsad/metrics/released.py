"""AUPRO as the papers' repositories compute it, to the last bit.

Their function is ``cal_pro_score``: metrics.py of github.com/zqhang/AnomalyCLIP, commit
45ed4dd35c05797d854294b5e8d585c545920089, lines 5-29. ViP2-CLIP, FAPrompt, APRIL-GAN and AnoVL have copies that give the
same bits; the scripts of VisualAD and CLIP-AD have one as well, but print 0 instead of calling it.
What it does differently from the exact AUPRO:

1. It takes about 200 thresholds, evenly spaced from the lowest to the highest score of all maps, the highest left out.
   One outlier stretches the spacing, so most of the thresholds may fall where no score is.
2. A pixel is found where ``score > threshold``.
3. It keeps the thresholds whose false positive rate (FPR) is below the limit, and stretches their rates to [0, 1]:
   the smallest becomes 0 and the largest 1. Nothing is interpolated at 0 or at the limit, and the value is an area up
   to the last rate below the limit, not up to the limit.

What decides the last bits is kept as well: the step between thresholds has the precision of the maps; overlaps are
averaged in the order of the regions' first pixels; the scripts pass masks as float32, so that the number of normal
pixels is a sum in float32, which rounds from 2**24 pixels on (63 maps of 518 x 518).

The bits are those of the function under NumPy 2, whichever version runs here. NumPy 1, for which the scikit-learn 1.2.2
of AnomalyCLIP's requirements.txt was built, takes the step in float64 and rounds each threshold to the nearest float32,
so scores next to a threshold may change sides; it also adds float32 in another order. The copy that Crane runs on the
GPU takes these thresholds too: utils/metrics.py of github.com/AlirezaSalehy/Crane, commit
39181f9f718a28c1b06b5aa72bfb81e74b9a2cc3, lines 97-138. tests/parity/golden/aupro.json has values of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsad.metrics.ranks import chosen
from zsad.metrics.regions import region_ids
from zsad.metrics.values import NO_ANOMALOUS, NO_NORMAL, Value, undefined

STEPS = 200
WHOLE = 2**24  # up to here float32 holds every whole number

Counts = NDArray[np.int64]


def released_aupro(maps: Tensor, masks: Tensor, limit: float = 0.3) -> Value:
    """AUPRO of the released code: see the head of this module.

    Args:
        maps: [N, H, W] float32 or float64, finite. They stay on their device, and are looked at one by one.
        masks: [N, H, W] bool, on the same device.
        limit: False positive rate to integrate to, in (0, 1].

    Returns:
        In [0, 1], or NaN where the released code warns or fails: without an anomalous or a normal pixel, where all
        scores are the same, or where fewer than two different false positive rates lie below the limit.

    >>> released_aupro(torch.tensor([[[0.9, 0.2, 0.1, 0.3]]]), torch.tensor([[[True, False, False, False]]]), limit=0.5)
    1.0
    """
    anomalous = int(masks.count_nonzero())
    if not anomalous:
        return undefined(NO_ANOMALOUS)
    if anomalous == masks.numel():
        return undefined(NO_NORMAL)
    low, high = (float(extreme) for extreme in maps.aminmax())
    thresholds = released_thresholds(low, high, np.float64 if maps.dtype == torch.float64 else np.float32)
    if not len(thresholds):
        return undefined(f"no thresholds between the lowest score, {low:g}, and the highest, {high:g}")
    normal, pixels = _passed(maps, masks, thresholds)
    return released_area(_above(normal) / _float32_count(masks.reshape(-1)), _overlap(pixels, len(thresholds)), limit)


def released_thresholds(low: float, high: float, precise: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    """Evenly spaced from the lowest score of all maps; rounding of the step makes them 200 or 201.

    Args:
        low: Lowest score.
        high: Highest score.
        precise: Type of the scores, float32 or float64.

    Returns:
        Ascending, in the precision of the maps. The released thresholds are float64 even for float32 maps; rounded
        down they leave the same scores above them. Empty where all scores are the same, or infinitely far apart.

    >>> released_thresholds(0, 200)[:3]
    array([0., 1., 2.], dtype=float32)
    """
    with np.errstate(over="ignore"):
        step = (precise(high) - precise(low)) / precise(STEPS)  # a plain 200 would make it float64 under NumPy 1
    if not 0 < step < math.inf:
        return np.zeros(0, precise)
    thresholds = np.arange(precise(low), precise(high), step)  # float64, whatever the precision of the maps
    rounded = thresholds.astype(precise)
    return np.where(rounded > thresholds, np.nextafter(rounded, precise(-math.inf)), rounded)


def released_area(fpr: NDArray[np.float64], overlap: NDArray[np.float64], limit: float = 0.3) -> Value:
    """The last step: rates at each threshold to one number.

    Args:
        fpr: [T] false positive rate at each threshold, lowest threshold first.
        overlap: [T] share of a region found at each threshold, averaged over the regions.
        limit: Rates below it are kept.

    >>> released_area(np.array([0.6, 0.2, 0.1]), np.array([1.0, 0.75, 0.25]))
    0.5
    """
    kept, found = fpr[fpr < limit], overlap[fpr < limit]
    if np.unique(kept).size < 2:
        return undefined(f"fewer than two different false positive rates below {limit}")
    stretched = (kept - kept.min()) / (kept.max() - kept.min())
    return Value(0.0 - float((np.diff(stretched) * (found[1:] + found[:-1]) / 2.0).sum()))  # rates fall; 0.0, not -0.0


def _passed(maps: Tensor, masks: Tensor, thresholds: NDArray[Any]) -> tuple[Counts, Counts]:
    """Pixels by the number of thresholds that they exceed, map by map.

    Returns:
        Normal pixels [T + 1]; and anomalous ones as rows of region, number of thresholds and pixels, [3, K], regions
        counted through all maps.
    """
    bins, total = len(thresholds) + 1, 0
    grid = torch.from_numpy(thresholds).to(maps.device)
    normal, pixels = torch.zeros(bins, dtype=torch.int64, device=maps.device), []
    for scores, mask in zip(maps, masks, strict=True):
        passed = torch.searchsorted(grid, scores.contiguous(), out_int32=True)
        found = chosen(passed, mask, True)
        normal += passed.reshape(-1).bincount(minlength=bins) - found.bincount(minlength=bins)
        ids, count = region_ids(mask)
        keys, times = torch.unique((ids + total) * bins + found, return_counts=True)
        pixels.append(torch.stack((keys // bins, keys % bins, times)).cpu().numpy())
        total += count
    return normal.cpu().numpy(), np.concatenate(pixels, axis=1)


def _above(passed: Counts) -> Counts:
    """[T] pixels above each threshold, of the numbers of pixels [T + 1] that exceed so many thresholds."""
    return np.asarray(passed[::-1].cumsum()[-2::-1])


def _overlap(pixels: Counts, thresholds: int) -> NDArray[np.float64]:
    """[T] share of a region above each threshold, averaged over regions in the order of their first pixels."""
    ids, passed, times = pixels[:, np.argsort(pixels[1])]
    areas = np.bincount(ids, weights=times)
    bounds = np.searchsorted(passed, np.arange(thresholds + 2))
    hits, overlap = np.zeros(len(areas)), np.empty(thresholds)
    for i in reversed(range(thresholds)):
        new = slice(bounds[i + 1], bounds[i + 2])
        hits += np.bincount(ids[new], weights=times[new], minlength=len(areas))
        overlap[i] = (hits / areas).mean()
    return overlap


def _float32_count(masks: Tensor) -> float:
    """Normal pixels of masks [P] as NumPy adds them up in float32: by halves, which begin at multiples of 8."""
    if len(masks) <= WHOLE:
        return float(len(masks) - int(masks.count_nonzero()))
    half = len(masks) // 16 * 8
    return float(np.float32(_float32_count(masks[:half]) + _float32_count(masks[half:])))
