"""A dataset and a method to predictions, and predictions to numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan
from pathlib import Path

import torch
from torch import Tensor

from zsad.data.dataset import Batch, Notes, batches
from zsad.data.fit import restore
from zsad.data.reading import Reading
from zsad.methods.base import Method
from zsad.metrics import image_metrics, pixel_metrics
from zsad.results import whole
from zsad.types import Sample

#: key and heading of every column of a table, as the papers order them
COLUMNS = (
    ("image_auroc", "image AUROC"),
    ("image_ap", "image AP"),
    ("image_f1_max", "image F1-max"),
    ("pixel_auroc", "pixel AUROC"),
    ("pixel_ap", "pixel AP"),
    ("pixel_aupro", "AUPRO"),
    ("pixel_f1_max", "pixel F1-max"),
)


@dataclass(frozen=True)
class Scored:
    """One sample and what a method says about it."""

    sample: Sample
    score: float
    map: Tensor  # [H, W] float32 on the CPU, of the whole image at the size of a stretched network input
    mask: Tensor | None  # [H, W] bool, None where the truth is not known
    error: str = ""  # why there is no prediction; then score is NaN and map empty


@dataclass(frozen=True)
class Row:
    """The numbers of one class, or of their mean; NaN where a metric is not defined."""

    class_name: str
    images: int
    values: dict[str, float]  # keys of COLUMNS, in [0, 1]


def score_samples(
    method: Method,
    samples: Sequence[Sample],
    size: int,
    batch_size: int = 16,
    workers: int = 0,
    reading: Reading = Reading(),
    prompt_names: bool = False,
    notes: Notes | None = None,
) -> Iterator[Scored]:
    """Every sample once, in order, one batch in memory at a time; an unreadable one comes with its error.

    Args:
        method: On the device to compute on.
        samples: Any; labels and masks are passed on where they are known.
        size: Side of the network input in pixels.
        batch_size: Images that go through the tower at once; the predictions do not depend on it.
        workers: Processes that read ahead; 0 reads in this one.
        reading: How files become pixels. Maps and masks are those of the stretched image, whatever its fit.
        prompt_names: Tell the method what a person would call the object where that is known, not the class name.
        notes: Takes the rules that were applied in reading.
    """
    towers = method.backbone
    multiple = towers.visual.size.patch
    read = batches(samples, size, towers.mean, towers.std, batch_size, workers, reading=reading, multiple=multiple)
    for batch in read:
        if notes is not None:
            notes.add(batch)
        said = {id(sample): _failed(sample, error) for sample, error in batch.errors}
        said |= {id(scored.sample): scored for scored in _scored(method, batch, size, prompt_names)}
        yield from (said[id(sample)] for sample in batch.covers)


@torch.inference_mode()
def _scored(method: Method, batch: Batch, size: int, prompt_names: bool) -> list[Scored]:
    if not batch.samples:
        return []
    names = [(prompt_names and sample.prompt_name) or sample.class_name for sample in batch.samples]
    made = method.predict(batch.images.to(method.backbone.logit_scale.device), names)
    scores, maps = made.score.cpu().tolist(), restore(made.map.float().cpu(), batch.boxes, (size, size))
    assert batch.masks is not None
    masks = [mask if known else None for mask, known in zip(batch.masks, batch.known, strict=True)]
    return [Scored(*one) for one in zip(batch.samples, scores, maps, masks, strict=True)]


def _failed(sample: Sample, error: str) -> Scored:
    return Scored(sample, float("nan"), torch.zeros(0, 0), None, error)


def table(scored: Iterable[Scored]) -> list[Row]:
    """One row per class, and their mean as the last.

    Args:
        scored: Sorted by dataset and class, as :func:`zsad.data.index.samples_of` gives them; the maps of one class
            are held at a time.

    Returns:
        Rows in the order of the classes, called dataset/class where there are several datasets; the mean is over
        classes, as in the papers, leaving NaN out.
    """
    groups = groupby(scored, key=lambda s: (s.sample.dataset, s.sample.class_name))
    named = [(where, class_row(name, [s for s in group if not s.error])) for (where, name), group in groups]
    several = len({where for where, _ in named}) > 1
    rows = [replace(row, class_name=f"{where}/{row.class_name}") if several else row for where, row in named]
    return [*rows, mean_row(rows)]


def class_row(name: str, scored: Sequence[Scored]) -> Row:
    """The numbers of one class; image metrics over labelled images, pixel metrics where all masks are known."""
    values = {key: float("nan") for key, _ in COLUMNS}
    known = [s for s in scored if s.sample.label is not None]
    if known:
        found = image_metrics([s.score for s in known], [s.sample.label == 1 for s in known])
        values |= {f"image_{key}": value for key, value in found.items()}
    masks = [s.mask for s in known if s.mask is not None]
    if masks and len(masks) == len(known):
        found = pixel_metrics(torch.stack([s.map for s in known]), torch.stack(masks))
        values |= {f"pixel_{key}": value for key, value in found.items()}
    return Row(name, len(scored), values)


def mean_row(rows: Sequence[Row]) -> Row:
    """Mean over classes."""
    keys = rows[0].values if rows else {key: 0.0 for key, _ in COLUMNS}
    columns = {key: [row.values[key] for row in rows if not isnan(row.values[key])] for key in keys}
    means = {key: sum(column) / len(column) if column else float("nan") for key, column in columns.items()}
    return Row("mean", sum(row.images for row in rows), means)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """A table as CSV, values in [0, 1]; whole or not at all."""
    keys = list(rows[0].values) if rows else []
    with whole(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", *keys])
        writer.writerows([row.class_name, row.images, *(f"{row.values[key]:.6f}" for key in keys)] for row in rows)
