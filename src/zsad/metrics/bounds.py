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
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zsad.metrics import formulas
from zsad.metrics.histogram import Table, blocks
from zsad.metrics.released import WHOLE, released_area
from zsad.metrics.values import NO_ANOMALOUS, NO_NORMAL, Value, undefined

ROWS = 2**16  # bins that are looked at together

Rates = NDArray[np.float64]


class Order(NamedTuple):
    """Where anomalous elements stand: normal elements above them, and at their score or above; [k] both."""

    above: Tensor
    alarms: Tensor


class Bins(NamedTuple):
    """Some bins with anomalous elements, [k] each, lowest first."""

    sums: Tensor  # [S, k] over their anomalous elements
    found: Tensor  # anomalous elements here and above
    tied: Tensor  # whether the anomalous elements here score the same
    best: Order  # of all orders of the elements here
    worst: Order
    start: Tensor  # a score that all those found reach, and ...
    alarms: Tensor  # so many normal elements


class Evidence:
    """What is known of normal and of anomalous elements."""

    def __init__(self, normal: Sequence[Table], anomalous: Table) -> None:
        """Of tables of one level, for parts of the normal elements and for the anomalous ones.

        The first sum over elements is their number; further ones weigh anomalous elements.
        """
        self.normal = [_Normal(table) for table in normal]
        self.anomalous = anomalous
        self.counts = sum(int(part.table.sums.sum()) for part in self.normal), int(anomalous.sums[0].sum())

    def ends(self) -> tuple[float, float]:
        """Lowest and highest score; infinite without any."""
        tables = [table for table in (*(part.table for part in self.normal), self.anomalous) if len(table.low)]
        low = min((float(table.low[0]) for table in tables), default=math.inf)
        return low, max((float(table.high[-1]) for table in tables), default=-math.inf)

    def mean(self, share: Callable[[Tensor, Tensor, int], Tensor], weight: int = 0) -> Value:
        """Of what anomalous elements add, given above, alarms and the number of normal ones; weighed by a sum."""
        normal, anomalous = self.counts
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
        if not (total := self.counts[1]):
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
        if not (total := self.counts[1]):
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
        if not (total := self.counts[1]):
            return undefined(NO_ANOMALOUS)
        alarms, hits = (passed[:, 0] for passed in self._passed(np.array([threshold])))
        least, most = twice * hits / ((twice - 1) * hits + alarms[::-1] + total)
        return _between(float(least), float(most))

    def released(self, thresholds: NDArray[Any], limit: float) -> Value:
        """Area that the released code finds with these thresholds, ascending.

        Its curve is stretched from the first rate that it keeps to the last. The area grows with all overlaps and with
        these two rates, and falls with those between. Where a rate may be kept or not, either is tried.
        """
        normal, anomalous = self.counts
        if not (normal and anomalous):
            return undefined(NO_NORMAL if anomalous else NO_ANOMALOUS)
        alarms, weights = self._passed(thresholds, above=True, weight=1)
        rates, overlaps = alarms / normal, weights / int(self.anomalous.sums[1].sum())
        unsure = 2.0**-24 * ((normal + anomalous) // WHOLE).bit_length()  # the released code counts in float32
        first, last = (rates >= limit * (1 + unsure * np.array([[1], [-1]]))).sum(1)
        curves = [curve for i in range(first, last + 1) for curve in _extremes(rates[:, i:], overlaps[:, i:])]
        ends = [released_area(*curve, math.inf) for curve in curves]
        if any(end.reason for end in ends):
            doubt = "" if np.array_equal(*rates) else ", as far as bins can tell"
            return undefined(f"fewer than two different false positive rates below {limit}{doubt}")
        return _between(min(ends), max(ends), self._slack(1))

    def _slack(self, weight: int) -> float:
        """What the rounding of weights to whole numbers, by one half at most, can change in a mean."""
        return self.counts[1] / (2 * int(self.anomalous.sums[weight].sum())) if weight else 0.0

    def _passed(self, thresholds: NDArray[Any], above: bool = False, weight: int = 0) -> tuple[Rates, Rates]:
        """Normal elements that pass each of [T] thresholds, and sums of anomalous ones: least and most, [2, T] each."""
        at = torch.from_numpy(thresholds).double().to(self.anomalous.low.device)
        normal = torch.stack([part.table.passed(at, above) for part in self.normal]).sum(0)
        anomalous = self.anomalous.passed(at, above, weight)
        return normal.double().cpu().numpy(), anomalous.double().cpu().numpy()

    def _bins(self) -> Iterator[Bins]:
        found = self.anomalous.from_bin()
        for part in blocks(len(self.anomalous.low), ROWS):
            low, high = self.anomalous.low[part].double(), self.anomalous.high[part].double()
            beside = [normal.beside(low, high, self.anomalous.bins(low)) for normal in self.normal]
            rest, here, over, under, ties = torch.stack([counts for counts, _ in beside]).sum(0)
            cut = torch.stack([(counts[3] < counts[1]) & (least < low) for counts, least in beside]).any(0)
            lowest = torch.stack([least for _, least in beside]).amin(0)
            yield Bins(
                self.anomalous.sums[:, part],
                found[:-1][part],
                low == high,
                Order(rest + over, rest + over + ties),
                Order(rest + here - under - ties, rest + here - under),
                torch.where(cut, lowest, low),
                torch.where(cut, rest + here, rest + here - under),
            )


class _Normal:
    """A table of normal elements, ready to be searched."""

    def __init__(self, table: Table) -> None:
        self.table, self.bins, self.alarms = table, table.bins(table.low), table.from_bin()
        self.low, self.high = F.pad(table.low, (0, 1), value=math.inf), F.pad(table.high, (0, 1), value=-math.inf)

    def beside(self, low: Tensor, high: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
        """Normal elements around anomalous ones, of which the lowest and highest scores and the bins are given, [k].

        Returns:
            [5, k] how many are in higher bins; in the same bin; and, of these, higher than all anomalous ones, lower,
            and of the same score as all anomalous ones. [k] the lowest score in the bin, or in the next if it is empty.
        """
        row, following = torch.searchsorted(self.bins, bins), torch.searchsorted(self.bins, bins, right=True)
        rest, here = self.alarms[following], self.alarms[row] - self.alarms[following]
        least, most = self.low[row].double(), self.high[row].double()
        over, under, ties = least > high, most < low, (least == high) & (most == low)
        return torch.stack([rest, here, here * over, here * under, here * ties]), least


def _between(least: float, most: float, slack: float = 0.0) -> Value:
    """The middle, and how far off it may be."""
    return Value((least + most) / 2, max(0.0, most - least) / 2 + slack)


def _extremes(rates: Rates, overlaps: Rates) -> list[tuple[Rates, Rates]]:
    """Rates and overlaps with the least released area, and with the most; of least and most of all, [2, T], falling."""
    if not rates.size:
        return [(rates[0], overlaps[0])]
    low, high = np.minimum(rates[1], rates[0, 0]), np.maximum(rates[0], rates[1, -1])
    low[-1], high[0] = rates[0, -1], rates[1, 0]
    return [(low, overlaps[0]), (high, overlaps[1])]
