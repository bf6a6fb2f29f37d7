"""Losses on probability maps that several methods share. Inputs are probabilities, not logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def focal(probabilities: Tensor, target: Tensor, gamma: float = 2.0, smooth: float = 1e-5) -> Tensor:
    """Focal loss (Lin et al. 2017) without class weights, averaged over all pixels.

    The released code of this field clamps the one-hot target to [smooth, 1 - smooth] and adds `smooth` before the
    logarithm; both are kept (zqhang/AnomalyCLIP 45ed4dd, loss.py:21-28 and 72-86).

    Args:
        probabilities: [B, 2, H, W], order (normal, anomalous), summing to 1.
        target: [B, H, W], bool or 0/1; 1 is anomalous.
        gamma: How much well-classified pixels are discounted.
        smooth: See above.

    Returns:
        A scalar >= 0.
    """
    truth = target.to(probabilities.dtype).clamp(smooth, 1 - smooth)
    normal, anomalous = probabilities.unbind(1)
    pt = normal * (1 - truth) + anomalous * truth + smooth
    return -((1 - pt).pow(gamma) * pt.log()).mean()


def dice(probability: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice loss (Li et al. 2019) per image, averaged over the batch (zqhang/AnomalyCLIP 45ed4dd, loss.py:93-106).

    Args:
        probability: [B, H, W] in [0, 1].
        target: [B, H, W], bool or 0/1.
        smooth: Added to both sides of the ratio, so that an empty mask is defined.

    Returns:
        A scalar in [0, 1].

    >>> import torch
    >>> float(dice(torch.ones(1, 2, 2), torch.ones(1, 2, 2)))
    0.0
    """
    p, t = probability.flatten(1), target.to(probability.dtype).flatten(1)
    return (1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)).mean()


def local(
    maps: Sequence[Tensor], masks: Tensor, both: bool, dice: Callable[[Tensor, Tensor], Tensor] = dice
) -> dict[str, Tensor]:
    """Sums over maps: `focal`, and `dice` of the anomalous side.

    Args:
        maps: Each [B, 2, H, W], probabilities of (normal, anomalous).
        masks: [B, H, W] bool.
        both: Dice of the normal side is added.
        dice: Of a side's probability and mask.
    """
    sides = [dice(p[:, 1], masks) + dice(p[:, 0], ~masks) if both else dice(p[:, 1], masks) for p in maps]
    return {"focal": torch.stack([focal(p, masks) for p in maps]).sum(), "dice": torch.stack(sides).sum()}
