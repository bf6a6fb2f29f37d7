"""AUPIMO: how much of each anomalous image is found while the images without an anomaly stay almost free of alarms.

Source: Bertoldo, Ameln, Vaidya and Akçay, "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and
Low Tolerance", BMVC 2024, arXiv 2401.01984. Their code is github.com/jpcbertoldo/aupimo, commit
188ec86b5b7d6badad9aa1ae2bc25f94e98a92ca, src/aupimo/pimo_numpy.py; anomalib has it in metrics/pimo/functional.py.

The definition is theirs, and so is ``score >= threshold``. The arithmetic is not: they take evenly spaced thresholds
between the lowest and the highest score of the normal images, move both bounds to the nearest rate that one of these
reaches, join the points by straight lines in log(FPR), and refuse data that leaves too few of them. Here every
distinct score is a threshold, the bounds are kept, and a tie is a straight line in FPR, as in AUPRO. Without ties, and
with bounds that are whole numbers of pixels, theirs tends to this value as their thresholds get denser.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zsad.errors import ZsadError
from zsad.metrics.formulas import log_area
from zsad.metrics.inputs import stack
from zsad.metrics.ranks import ascending, counted
from zsad.metrics.values import NO_ANOMALOUS, Value, undefined

NO_NORMAL_IMAGE = "no image without anomalous pixels"


def aupimo(maps: Any, masks: Any, low: float = 1e-5, high: float = 1e-4) -> Value:
    """Area under the per-image overlap (PIMO) curve between two false positive rates, averaged over anomalous images.

    Overlap is the share of an image's anomalous pixels that score at or above a threshold. The rate, on a logarithmic
    scale, is that of the pixels of normal images alone: of images with an empty mask, so one that is anomalous and has
    no mask must be left out. Normal pixels of anomalous images play no part. Ties between an anomalous and normal
    pixels are a straight line of the curve.

    With fewer normal pixels than 1 / low the curve is still defined, in coarse steps: below the rate of one single
    pixel, a pixel counts as found if it scores higher than every normal one.

    Args:
        maps: [N, H, W], array or tensor.
        masks: [N, H, W], 0 or 1; an empty mask is a normal image; None where no ground truth exists.
        low: False positive rate to integrate from.
        high: False positive rate to integrate to; 0 < low < high <= 1.

    Returns:
        In [0, 1], or NaN unless there is an image with and an image without anomalous pixels.

    Raises:
        ZsadError: If the shapes differ or are not [N, H, W], a score is not finite, a mask is not 0 or 1, or the bounds
            are out of range.

    >>> aupimo([[[0.1, 0.2, 0.3, 0.4]], [[0.9, 0.1, 0.1, 0.1]]], [[[0, 0, 0, 0]], [[1, 1, 0, 0]]])
    0.5
    """
    shares, anomalous = _shares(maps, masks, low, high)
    if not any(anomalous):
        return undefined(NO_ANOMALOUS)
    if all(anomalous):
        return undefined(NO_NORMAL_IMAGE)
    return Value(float(shares.nanmean()))


def aupimo_per_image(maps: Any, masks: Any, low: float = 1e-5, high: float = 1e-4) -> Tensor:
    """AUPIMO of every single image; the mean over the anomalous ones is :func:`aupimo`.

    Args, errors: as :func:`aupimo`.

    Returns:
        [N] float64 on the device of the maps, in [0, 1]; NaN for a normal image, and for all without a normal image.

    >>> aupimo_per_image([[[0.1, 0.2, 0.3, 0.4]], [[0.9, 0.1, 0.1, 0.1]]], [[[0, 0, 0, 0]], [[1, 1, 0, 0]]])
    tensor([   nan, 0.5000], dtype=torch.float64)
    """
    return _shares(maps, masks, low, high)[0]


def check_rates(low: float, high: float) -> None:
    """Raise unless AUPIMO is defined between these rates."""
    if not 0 < low < high <= 1:
        hint = "1e-5 and 1e-4 are usual."
        raise ZsadError(f"the FPR bounds of AUPIMO must satisfy 0 < low < high <= 1, got {low} and {high}; {hint}")


def _shares(maps: Any, masks: Any, low: float, high: float) -> tuple[Tensor, list[bool]]:
    """[N] AUPIMO of each image, NaN where it is not defined; and for each image whether it is anomalous."""
    check_rates(low, high)
    values, truth = stack(maps, masks)
    anomalous: list[bool] = truth.any(dim=2).any(dim=1).tolist()
    shares = values.new_full((len(values),), torch.nan, dtype=torch.float64)
    if any(anomalous) and not all(anomalous):
        images = [image for image, found in zip(values, anomalous, strict=True) if not found]
        normal = sum(image.numel() for image in images)
        tail = _tail(images, math.ceil(high * normal))
        for i in range(len(values)):
            if anomalous[i]:
                shares[i] = _share(values[i][truth[i]], tail, normal, low, high)
    return shares, anomalous


def _tail(images: list[Tensor], count: int) -> Tensor:
    """The highest scores of all images, sorted: that many, and all that equal the lowest of these."""
    highest = torch.cat([image.reshape(-1).topk(min(count, image.numel())).values for image in images])
    lowest = ascending(highest)[-count]
    return ascending(torch.cat([image[image >= lowest] for image in images]))


def _share(scores: Tensor, tail: Tensor, normal: int, low: float, high: float) -> Tensor:
    """AUPIMO of an image from its anomalous scores; those below the tail are found past the bounds, and add nothing."""
    ranked = ascending(scores[scores >= tail[0]])
    above, alarms = counted(tail, ranked, above=True), counted(tail, ranked)
    return log_area(above, alarms, normal, low, high).sum() / len(scores)
