"""Every metric as a mean over the anomalous elements: what one of them adds, given its rank.

Three whole numbers say where an anomalous element stands, and equal scores share them:

- ``above``: normal elements with a higher score
- ``alarms``: normal elements with this score or a higher one, the false alarms of a threshold here
- ``found``: anomalous elements with this score or a higher one, itself among them

AUROC is the mean of :func:`beaten`, AP of :func:`precision`, AUPRO of :func:`area`, AUPIMO of :func:`log_area`; F1-max
is the largest :func:`f1`. In AUROC and AP every element counts the same. In AUPRO every region does, so an element
weighs 1 / (area of its region): the PRO curve is the mean of one curve per region, hence the area under it is the mean
of theirs. In AUPIMO every anomalous image counts the same.

A tie between anomalous and normal elements is a straight line of the ROC and the PRO curve, from ``above`` to
``alarms``: the mean over all orders of the tied elements.

All functions take and give tensors [K] of one device; whole numbers in, float64 out, in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def beaten(above: Tensor, alarms: Tensor, normal: int) -> Tensor:
    """Share of the normal elements that score lower, ties counting one half.

    >>> beaten(torch.tensor([0, 1]), torch.tensor([0, 3]), normal=4)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    return 1 - (above + alarms).double() / (2 * normal)


def precision(found: Tensor, alarms: Tensor) -> Tensor:
    """Share of what a threshold at this score finds that is anomalous.

    >>> precision(torch.tensor([1, 2]), torch.tensor([0, 2]))
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    return found.double() / (found + alarms)


def f1(found: Tensor, alarms: Tensor, anomalous: int) -> Tensor:
    """F1 of a threshold at this score.

    >>> f1(torch.tensor([1, 2]), torch.tensor([0, 1]), anomalous=2)
    tensor([0.6667, 0.8000], dtype=torch.float64)
    """
    return 2 * found.double() / (found + alarms + anomalous)


def area(above: Tensor, alarms: Tensor, normal: int, limit: float) -> Tensor:
    """Share of the false positive rates from 0 to the limit at which the element is found.

    >>> area(torch.tensor([0, 1, 2, 4]), torch.tensor([0, 3, 6, 9]), normal=10, limit=0.4)
    tensor([1.0000, 0.5000, 0.1250, 0.0000], dtype=torch.float64)
    """
    before = limit - above.double() / normal  # from the foot of the element's step to the limit
    after = limit - alarms.double() / normal  # and from its head
    cut = before.clamp(min=0) ** 2 / (before - after).clamp(min=1e-300)  # a tie that straddles the limit
    return torch.where(after >= 0, before + after, cut) / (2 * limit)


def log_area(above: Tensor, alarms: Tensor, normal: int, low: float, high: float) -> Tensor:
    """Share of the false positive rates from low to high, on a logarithmic scale, at which the element is found.

    >>> log_area(torch.tensor([0, 10, 10]), torch.tensor([0, 10, 1000]), normal=1000, low=1e-3, high=1e-1)
    tensor([1.0000, 0.5000, 0.0147], dtype=torch.float64)
    """
    foot, head = above.double() / normal, alarms.double() / normal
    start, end = foot.clamp(low, high), head.clamp(low, high)
    width = end - start
    rising = (width - foot * (width / start).log1p()) / (head - foot).clamp(min=1e-300)  # along a tie
    share = (rising + (high / end).log()) / math.log(high / low)
    return torch.where(head <= low, 1.0, share.clamp(0, 1))
