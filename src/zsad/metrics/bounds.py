"""What metrics can be, at least and at most, if all that is known of the scores is tables of their bins.

Elements of different bins are in order. Within a bin they are if the highest score of one kind is below the lowest of
the other, or if all are the same; otherwise every order is taken for possible. What an anomalous element adds to AUROC,
AUPRO and AUPIMO falls with its ranks ``above`` and ``alarms`` (:mod:`zsad.metrics.formulas`), so the extremes of these
metrics are at the extremes of the ranks: every normal element of the bin below all anomalous ones, or above them. Where
the order is known, both are the exact value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zsad.metrics import formulas
from zsad.metrics.histogram import Table, blocks
from zsad.metrics.keys import keys_of
from zsad.metrics.released import WHOLE, released_area
from zsad.metrics.values import NO_ANOMALOUS, NO_NORMAL, Value, undefined

ROWS = 2**16  # bins that are looked at together

Rates = NDArray[np.float64]


class Ranks(NamedTuple):
    """Normal elements above anomalous ones, and at their score or above; [k] both."""

    above: Tensor
    alarms: Tensor


class Bins(NamedTuple):
    """Some bins with anomalous elements, [k] each, lowest first."""

    sums: Tensor  # [S, k] over their anomalous elements
    found: Tensor  # anomalous elements here and above
    tied: Tensor  # whether the anomalous elements here score the same
    best: Ranks  # of all orders of the elements here
    worst: Ranks
    start: Tensor  # a score that all those found reach, and ...
    alarms: Tensor  # so many normal elements


@dataclass(frozen=True)
class Evidence:
    """Tables of normal and of anomalous elements. The first sum is their number; others weigh anomalous elements."""

    normal: Sequence[Table]  # of parts of the normal elements
    anomalous: Table

    def mean(self, share: Callable[[Tensor, Tensor, int], Tensor], weight: int = 0) -> Value:
        """Of what anomalous elements add, given above, alarms and the number of normal ones; weighed by a sum."""
        normal, anomalous = self._counts()
        if not (normal and anomalous):
            return undefined(NO_NORMAL if anomalous else NO_ANOMALOUS)
        least = most = 0.0
        for bins in self._bins():
            least += float((bins.sums[weight] * share(*bins.worst, normal)).sum())
            most += float((bins.sums[weight] * share(*bins.best, normal)).sum())
        total = int(self.anomalous.sums[weight].sum())
        return _between(least / total, most / total, self._slack(weight))

    def average_precision(self) -> Value:
        """See :func:`zsad.metrics.average_precision`.

        At worst the anomalous elements of a bin come one by one after its normal ones, and their precision is a concave
        function of how many have come: its mean is not less than that of its ends. At best they come all at once.
        """
        if not (total := self._counts()[1]):
            return undefined(NO_ANOMALOUS)
        least = most = 0.0
        for bins in self._bins():
            first = torch.where(bins.tied, bins.found, bins.found - bins.sums[0] + 1)
            ends = formulas.precision(first, bins.worst.alarms) + formulas.precision(bins.found, bins.worst.alarms)
            least += float((bins.sums[0] * ends).sum()) / 2
            most += float((bins.sums[0] * formulas.precision(bins.found, bins.best.alarms)).sum())
        return _between(least / total, most / total)

    def f1_max(self) -> tuple[Value, float]:
        """See :func:`zsad.metrics.f1_max`. The value is what the threshold reaches; another one may reach more."""
        if not (total := self._counts()[1]):
            return undefined(NO_ANOMALOUS), math.nan
        reached = most = 0.0
        threshold = math.nan
        for bins in self._bins():
            f1 = formulas.f1(bins.found, bins.alarms, total)
            if (highest := float(f1.max())) >= reached:
                reached, threshold = highest, float(bins.start[f1 == highest][-1])
            most = max(most, float(formulas.f1(bins.found, bins.best.alarms, total).max()))
        return Value(reached, most - reached), threshold

    def overlap_at(self, threshold: float, twice: int) -> Value:
        """F1 (twice=2) or IoU (twice=1) of the elements with ``score >= threshold``."""
        if not (total := self._counts()[1]):
            return undefined(NO_ANOMALOUS)
        alarms, hits = (passed[:, 0] for passed in self._passed(np.array([threshold])))
        least, most = twice * hits / ((twice - 1) * hits + alarms[::-1] + total)
        return _between(float(least), float(most))

    def released(self, thresholds: NDArray[Any], limit: float) -> Value:
        """Area that the released code finds with these thresholds, ascending.

        Its curve is stretched from the first rate that it keeps to the last. The area grows with all overlaps and with
        these two rates, and falls with those between. Where a rate may be kept or not, either is tried.
        """
        normal, anomalous = self._counts()
        if not (normal and anomalous):
            return undefined(NO_NORMAL if anomalous else NO_ANOMALOUS)
        alarms, weights = self._passed(thresholds, above=True, weight=1)
        rates, overlaps = alarms / normal, weights / int(self.anomalous.sums[1].sum())
        unsure = 2.0**-24 * ((normal + anomalous) // WHOLE).bit_length()  # the released code counts in float32
        first, last = (rates >= limit * (1 + unsure * np.array([[1], [-1]]))).sum(1)
        ends = [end for i in range(first, last + 1) for end in _ends(rates[:, i:], overlaps[:, i:])]
        if not ends:
            return released_area(rates[0, :0], overlaps[0, :0], limit)
        return _between(min(ends), max(ends), self._slack(1))

    def _counts(self) -> tuple[int, int]:
        """Normal and anomalous elements."""
        return sum(int(table.sums[0].sum()) for table in self.normal), int(self.anomalous.sums[0].sum())

    def _slack(self, weight: int) -> float:
        """What the rounding of weights to whole numbers, by one half at most, can change in a mean."""
        return self._counts()[1] / (2 * int(self.anomalous.sums[weight].sum())) if weight else 0.0

    def _passed(self, thresholds: NDArray[Any], above: bool = False, weight: int = 0) -> tuple[Rates, Rates]:
        """Normal elements that pass each of [T] thresholds, and sums of anomalous ones: least and most, [2, T] each."""
        at = torch.from_numpy(thresholds).double().to(self.anomalous.low.device)
        normal = [table.passed(at, above)[:, 0].double().cpu().numpy() for table in self.normal]
        return sum(normal, np.zeros((2, len(at)))), self.anomalous.passed(at, above)[:, weight].double().cpu().numpy()

    def _bins(self) -> Iterator[Bins]:
        level = max(table.level for table in (*self.normal, self.anomalous))
        normal, anomalous = [_Normal(table.at(level)) for table in self.normal], self.anomalous.at(level)
        found = anomalous.from_bin()[0]
        for part in blocks(len(anomalous.low), ROWS):
            low, high = anomalous.low[part].double(), anomalous.high[part].double()
            counts, lowest = zip(*(some.beside(low, high) for some in normal), strict=True)
            rest, here, over, under, ties = torch.stack(counts).sum(0)
            cut = torch.stack([(c[3] < c[1]) & (least < low) for c, least in zip(counts, lowest, strict=True)]).any(0)
            yield Bins(
                anomalous.sums[:, part],
                found[:-1][part],
                low == high,
                Ranks(rest + over, rest + over + ties),
                Ranks(rest + here - under - ties, rest + here - under),
                torch.where(cut, torch.stack(lowest).amin(0).minimum(low), low),
                torch.where(cut, rest + here, rest + here - under),
            )


class _Normal:
    """A table of normal elements, ready to be searched."""

    def __init__(self, table: Table) -> None:
        self.level, self.bins, self.alarms = table.level, table.bins(table.level), table.from_bin()[0]
        self.low = F.pad(table.low.double(), (0, 1), value=math.inf)
        self.high = F.pad(table.high.double(), (0, 1), value=-math.inf)

    def beside(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Normal elements around anomalous ones, which have the lowest and highest scores low and high in each bin.

        Returns:
            [5, k] how many are in higher bins; in the same bin; and, of these, higher than all anomalous ones, lower,
            and of the same score as all anomalous ones. [k] the lowest score in the bin, or in the next if it is empty.
        """
        bins = keys_of(low) >> self.level
        row, following = torch.searchsorted(self.bins, bins), torch.searchsorted(self.bins, bins, right=True)
        rest, here = self.alarms[following], self.alarms[row] - self.alarms[following]
        least, most = self.low[row], self.high[row]
        over, under, ties = least > high, most < low, (least == high) & (most == low)
        return torch.stack([rest, here, here * over, here * under, here * ties]), least


def _between(least: float, most: float, slack: float = 0.0) -> Value:
    """The middle, and how far off it may be."""
    return Value((least + most) / 2, max(0.0, most - least) / 2 + slack)


def _ends(rates: Rates, overlaps: Rates) -> list[float]:
    """Least and most of the released area, from least and most of its rates and overlaps, [2, T], all falling.

    Nothing if it is not defined. Where that is not sure, it lies between the overlaps.
    """
    if not rates.size or rates.max() == rates.min():
        return []
    low, high = np.minimum(rates[1], rates[0, 0]), np.maximum(rates[0], rates[1, -1])
    low[-1], high[0] = rates[0, -1], rates[1, 0]
    least, most = released_area(low, overlaps[0], math.inf), released_area(high, overlaps[1], math.inf)
    return [overlaps[0, -1], overlaps[1, 0]] if least.reason or most.reason else [least, most]
