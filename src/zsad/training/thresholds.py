"""Where a decision is made: the best F1 on the images of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from zsad.methods.base import Method, Thresholds
from zsad.metrics import ImageStream, PixelStream
from zsad.training.images import Encoded


@torch.inference_mode()
def best_thresholds(method: Method, parts: Iterable[Encoded]) -> Thresholds:
    """Thresholds of the best image F1 and the best pixel F1.

    Args:
        method: Trained.
        parts: Features with their truth, a batch at a time; their maps are not kept.
    """
    images, pixels = ImageStream(), PixelStream()
    device = method.backbone.logit_scale.device
    for part in parts:
        made = method.score(part.features.to(device), part.class_names)
        images.add(made.score, part.labels == 1)
        pixels.add(made.map, part.masks)
    low, high = method.map_range
    return Thresholds(images.f1_max()[1], (pixels.f1_max()[1] - low) / (high - low))
