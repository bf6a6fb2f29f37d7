"""Counts of scores in bounded memory, the same to the last bit in whatever order the scores came.

A bin is what scores share once the lowest bits of their keys are dropped, and a page is 1024 bins in a row; memory is
spent on the pages in which there is a score. How many bits are dropped, the level, depends on nothing but the set of
all scores: it is the smallest number that leaves no more than so many pages. It can only grow with the set, so
histograms of parts, however they were cut and in whatever order they are merged, give the histogram of the whole. All
sums are of whole numbers, and do not depend on an order either.

A bin also knows its lowest and its highest score. Where these are one, as in scores that repeat, nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zsad.metrics.keys import keys_of

BITS = 10
PAGE = 2**BITS  # bins
PAGES = 2**11  # two million bins: 32 MiB where there is one sum
BLOCK = 2**19  # scores that are counted at once, so that little memory is needed beside them


@dataclass(frozen=True)
class Table:
    """Bins in which there is any score, lowest first."""

    low: Tensor  # [K] lowest score in each bin, float32 or float64
    high: Tensor  # [K] highest score in each bin
    sums: Tensor  # [S, K] int64, over the elements in each bin
    level: int  # how many low bits of a key do not tell bins apart

    def bins(self, level: int) -> Tensor:
        """[K] int32 numbers of the bins once so many bits are dropped: of several that become one, the same."""
        return keys_of(self.low) >> level

    def at(self, level: int) -> Table:
        """With more bits dropped, or as many."""
        if level == self.level:
            return self
        bins = self.bins(level)
        last = torch.ones_like(bins, dtype=torch.bool)
        last[:-1] = bins[1:] != bins[:-1]
        sums = self.sums.cumsum(1)[:, last]
        sums[:, 1:] -= sums[:, :-1].clone()
        return Table(self.low[last.roll(1)], self.high[last], sums, level)

    def from_bin(self) -> Tensor:
        """[S, K + 1] sums over each bin and all above it; 0 at the end.

        >>> Table(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 5.0]), torch.tensor([[2, 1]]), level=0).from_bin()
        tensor([[3, 1, 0]])
        """
        sums = self.sums.new_zeros(len(self.sums), self.sums.shape[1] + 1)
        torch.cumsum(self.sums.flip(1), 1, out=sums[:, 1:])
        return sums.flip(1)

    def passed(self, thresholds: Tensor, above: bool = False) -> Tensor:
        """[2, S, T] sums over the elements that reach each of [T] float64 thresholds, or are above: least and most.

        They are the same, unless the threshold lies among the scores of a bin.
        """
        sums = self.from_bin()
        ends = (torch.searchsorted(scores.double(), thresholds, right=above) for scores in (self.low, self.high))
        return torch.stack([sums[:, end] for end in ends])


class Histogram:
    """Sums over elements, by bins of their scores; on the device of the first scores.

    >>> histogram = Histogram()
    >>> histogram.add(torch.tensor([0.7, 0.5, 0.7]))
    >>> histogram.table().low, histogram.table().sums
    (tensor([0.5000, 0.7000]), tensor([[1, 2]]))
    """

    def __init__(self, sums: int = 1, pages: int = PAGES) -> None:
        """With room for so many sums over each bin, and so many pages, 2 at least. It costs memory only as it fills."""
        self.level, self.room = 0, pages
        self.pages = torch.empty(0, dtype=torch.int32)  # [P] their numbers, in the order in which they came
        self.low = torch.empty(pages, PAGE, dtype=torch.float32)
        self.high = torch.empty_like(self.low)
        self.sums = torch.empty(sums, pages, PAGE, dtype=torch.int64)
        self.zero, self.slots = self._index()

    @classmethod
    def of(cls, table: Table, pages: int = PAGES) -> Histogram:
        """Of a table that a histogram of so many pages gave."""
        histogram = cls(len(table.sums), pages)
        histogram._include(table)
        return histogram

    def add(self, scores: Tensor, weights: Tensor | None = None) -> None:
        """Count scores [n] float32 or float64; with weights [S, n] int64, sum these up instead."""
        one = torch.ones(1, 1, dtype=torch.int64, device=scores.device)
        for part in blocks(len(scores)):
            some = scores[part] + 0.0  # there is no -0.0 any more
            self._add(some, some, one.expand(1, len(some)) if weights is None else weights[:, part])

    def merge(self, *others: Histogram) -> None:
        """Add what others have counted; they stay as they are."""
        for other in others:
            self._include(other.table())

    def table(self) -> Table:
        """What has been counted."""
        order = self.pages.argsort()
        low = self.low[order].view(-1)
        used = low < torch.inf
        sums = torch.stack([some[order].view(-1)[used] for some in self.sums])
        return Table(low[used], self.high[order].view(-1)[used], sums, self.level)

    def _include(self, table: Table) -> None:
        while self.level < table.level:
            self._coarsen()
        for part in blocks(len(table.low)):
            self._add(table.low[part], table.high[part], table.sums[:, part])

    def _add(self, low: Tensor, high: Tensor, sums: Tensor) -> None:
        """Elements, or groups of elements that lie in one bin here: [n], [n], [S, n]."""
        low, high, sums = self._alike(low, high, sums)
        keys = keys_of(low)
        place = self._slots(keys) * PAGE + ((keys >> self.level) & (PAGE - 1))
        self.low.view(-1).scatter_reduce_(0, place, low, "amin")
        self.high.view(-1).scatter_reduce_(0, place, high, "amax")
        for mine, more in zip(self.sums.view(len(self.sums), -1), sums, strict=True):
            mine.index_add_(0, place, more)

    def _alike(self, low: Tensor, high: Tensor, sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All on one device and in one precision: the device of what came first, the higher precision."""
        if low.device != self.pages.device and not len(self.pages):
            self.pages, self.slots, self.sums = (t.to(low.device) for t in (self.pages, self.slots, self.sums))
        device, precision = self.pages.device, torch.promote_types(low.dtype, self.low.dtype)
        self.low, self.high = (mine.to(device, precision) for mine in (self.low, self.high))
        return low.to(device, precision), high.to(device, precision), sums.to(device)

    def _slots(self, keys: Tensor) -> Tensor:
        """Where the page of each key lies, [n] int64; by then there is one."""
        while True:
            numbers = keys >> (self.level + BITS)
            slots = self.slots[(numbers + self.zero).long()]
            fresh = torch.unique(numbers[slots < 0])
            if not len(fresh):
                return slots.long()
            if len(self.pages) + len(fresh) > self.room:
                self._coarsen()
            else:
                self._append(fresh)

    def _append(self, numbers: Tensor) -> None:
        """Blank pages."""
        old, new = len(self.pages), len(self.pages) + len(numbers)
        self.pages = torch.cat([self.pages, numbers])
        self.low[old:new], self.high[old:new], self.sums[:, old:new] = torch.inf, -torch.inf, 0
        self.slots[(numbers + self.zero).long()] = torch.arange(old, new, dtype=torch.int32, device=numbers.device)

    def _coarsen(self) -> None:
        """Drop one bit more: two bins become one, and two pages, where there are both."""
        pairs = (len(self.pages), PAGE // 2, 2)
        low = self.low[: pairs[0]].view(pairs).amin(2)
        high = self.high[: pairs[0]].view(pairs).amax(2)
        sums = self.sums[:, : pairs[0]].view(len(self.sums), *pairs).sum(3)
        numbers, side = self.pages >> 1, self.pages & 1
        self.level, self.pages = self.level + 1, self.pages[:0]
        self.zero, self.slots = self._index()
        self._append(torch.unique(numbers))
        half = self.slots[(numbers + self.zero).long()].long() * 2 + side
        self.low.view(-1, PAGE // 2)[half] = low
        self.high.view(-1, PAGE // 2)[half] = high
        self.sums.view(len(self.sums), -1, PAGE // 2)[:, half] = sums

    def _index(self) -> tuple[int, Tensor]:
        """List that tells where the page of each number lies, or -1; first the place of number 0 in this list."""
        zero = 2 ** (31 - self.level - BITS)  # half of the numbers are negative
        return zero, torch.full((2 * zero,), -1, dtype=torch.int32, device=self.pages.device)


def blocks(length: int, size: int = BLOCK) -> list[slice]:
    """Slices of at most so many.

    >>> blocks(5, 3)
    [slice(0, 3, None), slice(3, 6, None)]
    """
    return [slice(i, i + size) for i in range(0, length, size)]
