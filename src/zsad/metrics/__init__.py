"""Metrics of anomaly scores: exact functions of arrays, lists and tensors, and streams that need little memory.

Scores are finite real numbers, higher is more anomalous. Labels and masks hold 0 (normal) or 1 (anomalous) and have
the shape of the scores. An element is found by a threshold when ``score >= threshold``. Scores are elements on their
own, usually one per image; maps and masks are [N, H, W], and their pixels are the elements, those of all images
together.

=================  =====================================================================================================
auroc              probability that an anomalous element scores higher than a normal one; a tie counts one half
average_precision  precision averaged over the steps in recall, not interpolated, as in scikit-learn; key "ap"
f1_max             highest F1 of all thresholds, and the highest threshold that reaches it
f1_at              F1 of a given threshold, 2 TP / (2 TP + FP + FN)
iou_at             intersection over union of a given threshold, TP / (TP + FP + FN)
aupro              share of a region that is found, averaged over all regions (8-connected) and then over the false
                   positive rates from 0 to a limit; or, with ``mode="released"``, what the papers' code prints for it
aupimo             share of an image's anomalous pixels that is found, averaged over the anomalous images and then over
                   the false positive rates between two bounds, on a logarithmic scale; pixels of normal images alone
                   make this rate
=================  =====================================================================================================

``image_metrics`` and ``pixel_metrics`` give the usual ones together, from one sort. ``ImageStream`` and ``PixelStream``
have a method for each, take scores in parts, and can be merged. Tensors stay on their device.

Every value lies in [0, 1] and is a :class:`Value`: a float that says how far from the exact value it may be (only that
of a stream may), and, if it is NaN, why. NaN means "not defined for this input", never "bad":

=================  =====================================================================================================
all of them        without an anomalous element: also without masks, and without any element
auroc, aupro       without a normal element
aupimo             without an image that has no anomalous pixel
aupro, released    where fewer than two different false positive rates lie below the limit, as with constant maps: the
                   code of the papers divides by zero there
=================  =====================================================================================================

With anomalous elements only, average precision and F1-max are 1.

Ties: equal scores change sides together, so no value depends on the order of the input. The curves of AUROC, AUPRO and
AUPIMO are straight lines over the false positive rate from one distinct score to the next. A constant map is one big
tie: AUROC 0.5, AP the share of anomalous pixels, AUPRO half its limit, AUPIMO (high - low) / ln(high / low).

Sources: AUPRO is Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021; its released variant is described
in :mod:`zsad.metrics.released`. AUPIMO is Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with
High Speed and Low Tolerance", BMVC 2024; see :mod:`zsad.metrics.aupimo`.
"""

from __future__ import annotations

from zsad.metrics.aupimo import aupimo, aupimo_per_image
from zsad.metrics.exact import (
    aupro,
    auroc,
    average_precision,
    f1_at,
    f1_max,
    image_metrics,
    iou_at,
    pixel_metrics,
)
from zsad.metrics.stream import ImageStream, PixelStream
from zsad.metrics.values import Value, undefined

__all__ = [
    "ImageStream",
    "PixelStream",
    "Value",
    "aupimo",
    "aupimo_per_image",
    "aupro",
    "auroc",
    "average_precision",
    "f1_at",
    "f1_max",
    "image_metrics",
    "iou_at",
    "pixel_metrics",
    "undefined",
]
