"""What benchmarks/metrics.py measures: the pixel metrics of zsad, and each of the others that gives some of them.

Maps are [N, H, W] float32, masks bool. Imports of what may be missing stand inside the functions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsad.metrics import PixelStream, aupimo, aupro, f1_at, iou_at, pixel_metrics

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]
Values = dict[str, float]
THRESHOLD = 0.5  # of F1 and IoU


def exact(maps: Maps, masks: Masks) -> Values:
    """AUROC, AP, F1-max and exact AUPRO by zsad."""
    return dict(pixel_metrics(maps, masks))


def exact_tensors(maps: Maps, masks: Masks) -> Values:
    """The same of tensors."""
    return dict(pixel_metrics(torch.from_numpy(maps), torch.from_numpy(masks)))


def per_image(maps: Maps, masks: Masks) -> Values:
    """AUPIMO by zsad."""
    return {"aupimo": aupimo(maps, masks)}


def at_threshold(maps: Maps, masks: Masks) -> Values:
    """Segmentation F1 and IoU by zsad."""
    return {"f1": f1_at(maps, masks, THRESHOLD), "iou": iou_at(maps, masks, THRESHOLD)}


def zsad_released(maps: Maps, masks: Masks) -> Values:
    """Released AUPRO by zsad."""
    return {"aupro_released": aupro(maps, masks, mode="released")}


def stream(batches: Iterable[tuple[Tensor, Tensor]]) -> Values:
    """All of them by zsad, from maps that are not kept."""
    pixels = PixelStream()
    for maps, masks in batches:
        pixels.add(maps, masks)
    others = {"aupro_released": pixels.aupro(mode="released"), "aupimo": pixels.aupimo()}
    return {**pixels.metrics(), **others, "f1": pixels.f1_at(THRESHOLD), "iou": pixels.iou_at(THRESHOLD)}


def scikit_learn(maps: Maps, masks: Masks) -> Values:
    """AUROC, AP and F1-max by scikit-learn."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    scores, labels = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    found = roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max()
    return dict(zip(("auroc", "ap", "f1_max"), map(float, found), strict=True))


def released(maps: Maps, masks: Masks) -> Values:
    """AUPRO by the released arithmetic: every threshold labels every mask again."""
    from skimage.measure import label, regionprops
    from sklearn.metrics import auc

    rates, overlaps = [], []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / 200):
        above = maps > threshold
        shares = [
            hit[region.coords[:, 0], region.coords[:, 1]].sum() / region.area
            for hit, mask in zip(above, masks, strict=True)
            for region in regionprops(label(mask))
        ]
        rates.append(np.logical_and(~masks, above).sum() / (~masks).sum())
        overlaps.append(np.mean(shares))
    fpr, kept = np.array(rates), np.array(rates) < 0.3
    fpr = fpr[kept]
    return {"aupro_released": float(auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), np.array(overlaps)[kept]))}


def adeval(maps: Maps, masks: Masks) -> Values:
    """AUROC, AP and AUPRO by ADEval: 1,000 even thresholds, trapezoids."""
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # type: ignore[attr-defined]  # NumPy 2.4 dropped the name that ADEval 1.1.0 uses
    from adeval import auroc_aupr_aupro

    found = auroc_aupr_aupro(maps, masks.view(np.uint8))
    return dict(zip(("auroc", "ap", "aupro"), found, strict=True))


def anomalib(maps: Maps, masks: Masks) -> Values:
    """AUPRO by anomalib."""
    from anomalib.metrics.aupro import _AUPRO  # AUPRO without its wrapper for batches of anomalib

    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return {"aupro": float(metric.compute())}
