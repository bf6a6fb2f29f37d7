"""Where anomalous scores stand among the normal ones: one sort that every exact metric uses.

Beside the scores, their copy in order is all that grows with them; everything else is done block by block. On a GPU
the sort needs the memory of an order as well, eight bytes for each score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2**16  # elements that are looked at together


def ascending(scores: Tensor) -> Tensor:
    """Sorted, lowest first; on the CPU in place, by numpy, which needs no memory for an order."""
    if not _on_cpu(scores):
        return scores.sort().values
    scores.numpy().sort()
    return scores


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def counted(ordered: Tensor, scores: Tensor, *, above: bool = False) -> Tensor:
    """[K] how many of the ordered scores are not lower than each score; with ``above``, are higher.

    >>> counted(torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 6.0]))
    tensor([3, 0])
    """
    return len(ordered) - torch.searchsorted(ordered, scores, right=above)


def parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one length, a block at a time.

    >>> [len(some) for some, _ in parts(torch.zeros(BLOCK + 3), torch.ones(BLOCK + 3))] == [BLOCK, 3]
    True
    """
    return zip(*(torch.split(tensor, BLOCK) for tensor in tensors), strict=True)


def chosen(scores: Tensor, labels: Tensor, label: bool) -> Tensor:
    """[K] scores of the elements with this label, in their order, always in memory of their own.

    >>> chosen(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[True, False, True]]), True)
    tensor([3., 2.])
    """
    flat, which = scores.reshape(-1), labels.reshape(-1)
    count = int(which.count_nonzero())
    found = flat.new_empty(count if label else len(which) - count)
    start = 0
    for some, truth in parts(flat, which):
        part = _picked(some, truth if label else ~truth)
        found[start : start + len(part)] = part
        start += len(part)
    return found


def _picked(scores: Tensor, which: Tensor) -> Tensor:
    if not _on_cpu(scores):
        return scores.masked_select(which)
    return torch.from_numpy(scores.numpy()[which.numpy()])  # several times faster


def top(ordered: Tensor, rate: float) -> Tensor:
    """The highest of the ordered scores: as few as possible, but more than this share of them, and ties as a whole.

    Below them a false positive rate is over, so that no more is needed to count ``above`` and ``alarms`` up to there.

    >>> top(torch.tensor([1.0, 2.0, 2.0, 3.0, 4.0]), 0.4)
    tensor([2., 2., 3., 4.])
    """
    lowest = ordered[max(0, len(ordered) - 1 - int(rate * len(ordered)))]
    return ordered[int(torch.searchsorted(ordered, lowest)) :]


@dataclass(frozen=True)
class Ranks:
    """Where distinct anomalous scores stand, lowest first; all [K] but the scores int64. See :mod:`.formulas`."""

    scores: Tensor
    count: Tensor  # anomalous elements with this score
    above: Tensor
    alarms: Tensor
    found: Tensor


@dataclass(frozen=True)
class Split:
    """Scores by their label, each part sorted, lowest first."""

    normal: Tensor  # [N]
    anomalous: Tensor  # [P], of the same type and device

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor) -> Split:
        """Scores [...] float32 or float64, all finite; labels [...] bool."""
        return cls(ascending(chosen(scores, labels, False)), ascending(chosen(scores, labels, True)))

    def blocks(self) -> Iterator[Ranks]:
        """Distinct anomalous scores, highest block first; one that lies in two blocks comes twice."""
        start = len(self.anomalous)
        for block in reversed(torch.split(self.anomalous, BLOCK)):
            start -= len(block)
            scores, count = torch.unique_consecutive(block, return_counts=True)
            first = start + count.cumsum(0) - count
            first[:1] = torch.searchsorted(self.anomalous, scores[:1])  # which may have begun in the block before
            above, alarms = counted(self.normal, scores, above=True), counted(self.normal, scores)
            yield Ranks(scores, count, above, alarms, len(self.anomalous) - first)
