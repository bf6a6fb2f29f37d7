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
import torch.nn.functional as F
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

    def bins(self, scores: Tensor) -> Tensor:
        """Numbers of the bins, int32, in which scores lie."""
        return keys_of(scores) >> self.level

    def to(self, device: torch.device) -> Table:
        """On another device, or on the same."""
        return Table(self.low.to(device), self.high.to(device), self.sums.to(device), self.level)

    def at(self, level: int) -> Table:
        """With more bits dropped, or as many."""
        if level == self.level:
            return self
        bins = keys_of(self.low) >> level
        last = torch.ones_like(bins, dtype=torch.bool)
        last[:-1] = bins[1:] != bins[:-1]
        ends = [F.pad(sums.cumsum(0)[last], (1, 0)) for sums in self.sums]
        return Table(self.low[last.roll(1)], self.high[last], torch.stack(ends).diff(), level)

    def from_bin(self, which: int = 0) -> Tensor:
        """[K + 1] one of the sums over each bin and all above it; 0 at the end.

        >>> Table(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 5.0]), torch.tensor([[2, 1]]), level=0).from_bin()
        tensor([3, 1, 0])
        """
        below = F.pad(self.sums[which].cumsum(0), (1, 0))
        return below[-1] - below

    def passed(self, thresholds: Tensor, above: bool, which: int = 0) -> Tensor:
        """[2, T] least and most of a sum over the elements that reach each of [T] float64 thresholds, or are above.

        They are the same, unless the threshold lies among the scores of a bin.
        """
        first = [torch.searchsorted(ends.double(), thresholds, right=above) for ends in (self.low, self.high)]
        return self.from_bin(which)[torch.stack(first)]


class Histogram:
    """Sums over elements, by bins of their scores; on the device of the first scores.

    >>> histogram = Histogram()
    >>> histogram.add(torch.tensor([0.7, 0.5, 0.7]))
    >>> histogram.table().low, histogram.table().sums
    (tensor([0.5000, 0.7000]), tensor([[1, 2]]))
    """

    @torch.inference_mode(False)  # or only inference mode could change the tensors that are made here
    def __init__(self, sums: int = 1, pages: int = PAGES) -> None:
        """With room for so many sums over each bin, and so many pages, 2 at least. It costs memory only as it fills."""
        self.level, self.room = 0, pages
        self.pages = torch.empty(0, dtype=torch.int32)  # [P] their numbers, in the order in which they came
        self.first, self.slots = 0, torch.full((1,), -1, dtype=torch.int32)  # see _append
        self.low = torch.empty(pages, PAGE, dtype=torch.float32)
        self.high = torch.empty_like(self.low)
        self.sums = torch.empty(sums, pages, PAGE, dtype=torch.int64)

    @classmethod
    def of(cls, table: Table, pages: int) -> Histogram:
        """The one that gave this table, if any of so many pages did; otherwise one of another level."""
        histogram = cls(len(table.sums), pages)
        histogram._include(table)
        return histogram

    def add(self, scores: Tensor, weights: Tensor | None = None) -> None:
        """Count scores [n] float32 or float64; with weights [S, n] int64, sum these up instead."""
        one = torch.ones(1, 1, dtype=torch.int64, device=scores.device)
        for part in blocks(len(scores), BLOCK):
            some = scores[part] + 0.0  # there is no -0.0 any more
            self._add(some, some, one.expand(1, len(some)) if weights is None else weights[:, part])

    def merge(self, other: Histogram) -> None:
        """Add what another one of as many pages has counted; it stays as it is."""
        self._include(other.table())

    def table(self) -> Table:
        """What has been counted."""
        order = self.pages.argsort()
        low = self.low[order].view(-1)
        used = low < torch.inf
        sums = torch.stack([some[order].view(-1)[used] for some in self.sums])
        return Table(low[used], self.high[order].view(-1)[used], sums, self.level)

    def _include(self, table: Table) -> None:
        """Add bins: being on more pages than there may be at any lower level, they bring this one up to theirs."""
        for part in blocks(len(table.low), BLOCK):
            self._add(table.low[part], table.high[part], table.sums[:, part])

    @torch.inference_mode(False)
    def _add(self, low: Tensor, high: Tensor, sums: Tensor) -> None:
        """Elements, or bins of elements, by their lowest scores [n] and highest scores [n]; and their sums [S, n]."""
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
            slots = self.slots.index_select(0, (numbers - self.first).clamp_(0, len(self.slots) - 1))
            fresh = torch.unique(numbers[slots < 0])
            if not len(fresh):
                return slots.long()
            if len(self.pages) + len(fresh) > self.room:
                self._coarsen()
            else:
                self._append(fresh)

    def _append(self, numbers: Tensor) -> None:
        """Blank pages, and the list that tells where the page of each number lies: -1 at its ends, and if nowhere."""
        new = slice(len(self.pages), len(self.pages) + len(numbers))
        self.low[new], self.high[new], self.sums[:, new] = torch.inf, -torch.inf, 0
        self.pages = torch.cat([self.pages, numbers])
        if not self.first < int(numbers.min()) <= int(numbers.max()) < self.first + len(self.slots) - 1:
            self.first = int(self.pages.min()) - 1
            self.slots = self.slots.new_full((int(self.pages.max()) - self.first + 2,), -1)
            numbers, new = self.pages, slice(len(self.pages))
        places = torch.arange(len(self.pages), dtype=torch.int32, device=self.pages.device)
        self.slots[(numbers - self.first).long()] = places[new]

    def _coarsen(self) -> None:
        """Drop one bit more: two bins become one, and two pages, where there are both."""
        pairs = (len(self.pages), PAGE // 2, 2)
        low, high = self.low[: pairs[0]].view(pairs).amin(2), self.high[: pairs[0]].view(pairs).amax(2)
        sums = self.sums[:, : pairs[0]].view(len(self.sums), *pairs).sum(3)
        side, numbers = self.pages & 1, self.pages >> 1
        self.level, self.pages, self.slots = self.level + 1, self.pages[:0], self.slots[:1].fill_(-1)
        if pairs[0]:
            self._append(torch.unique(numbers))
        half = self.slots.index_select(0, numbers - self.first).long() * 2 + side
        self.low.view(-1, PAGE // 2)[half] = low
        self.high.view(-1, PAGE // 2)[half] = high
        self.sums.view(len(self.sums), -1, PAGE // 2)[:, half] = sums


def blocks(length: int, size: int) -> list[slice]:
    """Slices of at most so many.

    >>> blocks(5, 3)
    [slice(0, 3, None), slice(3, 6, None)]
    """
    return [slice(i, i + size) for i in range(0, length, size)]
