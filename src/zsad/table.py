"""Scored samples to a table of metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Context
from itertools import groupby
from math import isnan, nan
from pathlib import Path

import torch
from torch import Tensor

from zsad.data.catalog import USUAL_LIMIT, aupro_limit
from zsad.evaluate import Scored
from zsad.metrics import PixelStream, Value, aupro, image_metrics, pixel_metrics, undefined
from zsad.writing import whole

#: key and heading of every column of a table, as the papers order them
COLUMNS = (
    ("image_auroc", "image AUROC"),
    ("image_ap", "image AP"),
    ("image_f1_max", "image F1-max"),
    ("pixel_auroc", "pixel AUROC"),
    ("pixel_ap", "pixel AP"),
    ("pixel_aupro", "AUPRO"),
    ("pixel_aupro_released", "AUPRO released"),
    ("pixel_f1_max", "pixel F1-max"),
)

PIXEL_KEYS = tuple(key.removeprefix("pixel_") for key, _ in COLUMNS if key.startswith("pixel_"))
NO_LABEL = "no labelled image"
KEPT_BYTES = 2**30  # maps of a class up to this size are kept for the exact metrics: 1,000 maps of 518 x 518


@dataclass(frozen=True)
class Row:
    """The numbers of one class, or of their mean; NaN where a metric is not defined."""

    class_name: str
    images: int
    values: dict[str, Value]  # keys of COLUMNS, in [0, 1]; each says how exact it is or why it is NaN
    limit: float = USUAL_LIMIT  # false positive rate up to which AUPRO goes; NaN in a mean over several
    empty: int = 0  # anomalous images whose mask has no pixel at the size of the maps


def table(scored: Iterable[Scored], limit: float | None = None) -> list[Row]:
    """One row per class, and their mean as the last.

    Args:
        scored: Sorted by dataset and class, as :func:`zsad.data.index.samples_of` gives them; taken one by one.
        limit: False positive rate up to which AUPRO goes; None takes what is usual for a dataset.

    Returns:
        Rows in the order of the classes, called dataset/class where there are several datasets; the mean is over
        classes, as in the papers, leaving NaN out.
    """
    groups = groupby(scored, key=lambda s: (s.sample.dataset, s.sample.class_name))
    named = [
        (where, class_row(name, (s for s in group if not s.error), aupro_limit(where) if limit is None else limit))
        for (where, name), group in groups
    ]
    several = len({where for where, _ in named}) > 1
    rows = [replace(row, class_name=f"{where}/{row.class_name}") if several else row for where, row in named]
    return [*rows, mean_row(rows)]


def class_row(name: str, scored: Iterable[Scored], limit: float = USUAL_LIMIT) -> Row:
    """The numbers of one class; image metrics over labelled images, pixel metrics where all their masks are known.

    Args:
        name: Of the class.
        scored: Without errors. Maps are dropped once they are counted: see :class:`PixelTally`.
        limit: False positive rate up to which AUPRO goes.

    Returns:
        The image metrics are NaN where there is one label only: AP and F1-max would be 1, whatever the method.
    """
    count, empty, scores, labels, pixels = 0, 0, [], [], PixelTally(limit)
    for one in scored:
        count += 1
        if one.sample.label is not None:
            scores.append(one.score)
            labels.append(one.sample.label)
            pixels.add(one.map, one.mask)
            empty += one.sample.label == 1 and one.mask is not None and not one.mask.any()
    image = image_metrics(scores, labels)
    if reason := image["auroc"].reason:
        image = dict.fromkeys(image, undefined(reason if labels else NO_LABEL))
    values = {f"image_{key}": value for key, value in image.items()}
    values |= {f"pixel_{key}": value for key, value in pixels.metrics().items()}
    return Row(name, count, {key: values[key] for key, _ in COLUMNS}, limit, empty)


class PixelTally:
    """The pixel metrics of one class: exact while its maps fit into memory, counted in a stream beyond."""

    def __init__(self, limit: float = USUAL_LIMIT, kept_bytes: int = KEPT_BYTES) -> None:
        """Of no images yet.

        Args:
            limit: False positive rate up to which AUPRO goes.
            kept_bytes: Size of all maps from which on they are streamed, with the errors that each value then has.
        """
        self.limit, self.room = limit, kept_bytes
        self.kept: list[tuple[Tensor, Tensor]] = []  # map and mask, each [H, W]
        self.stream: PixelStream | None = None
        self.unknown = 0  # images without a known mask

    def add(self, map: Tensor, mask: Tensor | None) -> None:
        """One map [H, W] and its mask, None where the truth is not known."""
        if mask is None or self.unknown:
            self.unknown += mask is None
            self.kept, self.stream = [], None
            return
        self.kept.append((map, mask))
        self.room -= map.nbytes
        if self.room < 0 and (self.stream is None or len(self.kept) == 16):
            self._spill()

    def metrics(self) -> dict[str, Value]:
        """Keys of :func:`zsad.metrics.pixel_metrics`, and "aupro_released"."""
        if self.unknown:
            return dict.fromkeys(PIXEL_KEYS, undefined(f"no known mask for {self.unknown} of the images"))
        if self.stream is not None:
            self._spill()
            return self.stream.metrics(self.limit) | {"aupro_released": self.stream.aupro(self.limit, "released")}
        if not self.kept:
            return dict.fromkeys(PIXEL_KEYS, undefined(NO_LABEL))
        maps, masks = (torch.stack(part) for part in zip(*self.kept, strict=True))
        self.kept = list(zip(maps, masks, strict=True))  # now parts of the stacks, so that nothing is held twice
        return pixel_metrics(maps, masks, self.limit) | {"aupro_released": aupro(maps, masks, self.limit, "released")}

    def _spill(self) -> None:
        self.stream = self.stream or PixelStream()
        for i in range(0, len(self.kept), 16):
            maps, masks = zip(*self.kept[i : i + 16], strict=True)
            self.stream.add(torch.stack(maps), torch.stack(masks))
        self.kept = []


def mean_row(rows: Sequence[Row]) -> Row:
    """Mean over classes, leaving NaN out; its error is the mean of theirs."""
    keys = rows[0].values if rows else {key: undefined("no image") for key, _ in COLUMNS}
    columns = {key: [row.values[key] for row in rows if not isnan(row.values[key])] for key in keys}
    means = {key: _mean(column) for key, column in columns.items()}
    limits = {row.limit for row in rows}
    limit = limits.pop() if len(limits) == 1 else nan
    return Row("mean", sum(row.images for row in rows), means, limit, sum(row.empty for row in rows))


def _mean(values: Sequence[Value]) -> Value:
    if not values:
        return undefined("no class has a value")
    return Value(sum(values) / len(values), error=sum(value.error for value in values) / len(values))


def remarks(rows: Sequence[Row]) -> list[str]:
    """What a table does not show: where AUPRO ends, why a number is missing, how exact one is that is not.

    Args:
        rows: Of :func:`table`, the mean as the last.
    """
    classes, mean = rows[:-1], rows[-1]
    said = [*_limits(classes), *_missing(classes)]
    if mean.empty:
        names = _some([row for row in classes if row.empty])
        said.append(f"{mean.empty} anomalous images whose mask is empty at this size count as normal pixels ({names})")
    if largest := max((value.error for row in classes for value in row.values.values()), default=0.0):
        names = _some([row for row in classes if any(value.error for value in row.values.values())])
        points = float(Context(prec=1, rounding=ROUND_UP).create_decimal_from_float(100 * largest))
        said.append(f"too many maps to keep: up to {points:g} percentage points from the exact number ({names})")
    return said


def _limits(classes: Sequence[Row]) -> list[str]:
    """Where AUPRO ends, and for which classes if not for all at the same rate."""
    limits = sorted({row.limit for row in classes}, reverse=True)
    said = [f"AUPRO up to a false positive rate of {limit:g}" for limit in limits]
    if len(limits) == 1:
        return said
    return [
        f"{one} ({_some([row for row in classes if row.limit == end])})" for one, end in zip(said, limits, strict=True)
    ]


def _missing(classes: Sequence[Row]) -> list[str]:
    """Which numbers are missing, why, and of which classes."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in classes:
        for reason in dict.fromkeys(value.reason for value in row.values.values() if value.reason):
            headings = ", ".join(heading for key, heading in COLUMNS if row.values[key].reason == reason)
            found.setdefault((headings, reason), []).append(row)
    return [f"no {headings}: {reason} ({_some(rows)})" for (headings, reason), rows in found.items()]


def _some(rows: Sequence[Row], most: int = 4) -> str:
    """The first names of many.

    >>> _some([Row(name, 1, {}) for name in "abc"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(row.class_name for row in rows[:most]) + more


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """A table as CSV, values in [0, 1] and the limit of AUPRO; whole or not at all."""
    keys = list(rows[0].values) if rows else []
    with whole(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", *keys, "aupro_limit"])
        for row in rows:
            writer.writerow([row.class_name, row.images, *(f"{row.values[key]:.6f}" for key in keys), f"{row.limit:g}"])
