"""Samples to batches of tensors; a file that cannot be read becomes an error beside the batch, never an exception."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from zsad.data.fit import Box, Size
from zsad.data.inputs import Form, Item, read_item
from zsad.data.reading import Reading
from zsad.data.workers import ordered
from zsad.types import Sample

UNKNOWN = -1  # label of a sample that has none
AHEAD = 2  # batches that workers may be ahead

Run = list[tuple[Sample, Item | str]]  # a str says why the sample could not be read


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples as tensors; B may be less than asked for, even 0, where files could not be read."""

    images: Tensor  # [B, 3, H, W] float32, normalised
    masks: Tensor | None  # [B, H, W] bool; None where they were not asked for
    known: list[bool]  # B, whether a mask is the truth; else it is empty for want of one
    labels: Tensor  # [B] int64, 0 normal, 1 anomalous, -1 unknown
    samples: list[Sample]  # B, in the order of the tensors
    boxes: list[Box]  # B, where each image lies in the network's input; see zsad.data.fit.restore
    errors: list[tuple[Sample, str]]  # samples that could not be read, with the reason
    notes: list[tuple[Sample, str]]  # rules that were applied in reading a sample; see Notes
    covers: list[Sample]  # those of `samples` and `errors`, in the order of the run


class Notes:
    """What the rules of reading did in a run: each rule once, with the files that it was applied to."""

    def __init__(self) -> None:
        self._files: dict[str, dict[Path, None]] = {}  # in the order of the run, each once

    def add(self, batch: Batch) -> None:
        """Take the notes of a batch; the same file twice counts once."""
        for sample, rule in batch.notes:
            self._files.setdefault(rule, {})[sample.image] = None

    def lines(self) -> list[str]:
        """One line per rule: the rule, how many files, the first of them."""
        counted = ((rule, len(files), next(iter(files))) for rule, files in self._files.items())
        return [
            f"{rule}: {count} files, first {path}" if count > 1 else f"{rule}: {path}" for rule, count, path in counted
        ]


def batches(
    samples: Sequence[Sample],
    size: int | Size,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    workers: int = 0,
    with_masks: bool = True,
    reading: Reading = Reading(),
    multiple: int = 1,
    placed_masks: bool = False,
) -> Generator[Batch, None, None]:
    """All samples once, in their order, `batch_size` at a time; the last batch may be smaller.

    Images of different shapes, which only fit "keep" gives, are never in one batch: there a batch may be smaller too.
    The images are those of :func:`zsad.data.images.preprocess` to the bit, where `reading` is the default.

    Args:
        samples: What to read; an unreadable one appears in `errors` of the batch that it would have been in.
        size: Side, or height and width, of the network's input.
        mean: Three values, RGB, as in :func:`zsad.data.images.preprocess`.
        std: Three values, RGB.
        batch_size: At least 1.
        workers: Processes that read ahead, see :mod:`zsad.data.workers`; 0 reads in this one. The batches are the same.
            They hold an image each while they decode it, and for this process at most :data:`AHEAD` batches (or one
            image per worker, if that is more) of three bytes a pixel. They end when the iteration ends or is closed.
        with_masks: Whether to read masks.
        reading: How files become pixels.
        multiple: The side of a patch; matters to fit "keep", see :func:`zsad.data.fit.place`.
        placed_masks: Masks lie where the image lies in the network's input, as a loss needs them; what was filled is
            not marked. Else they are stretched to `size`, as :func:`zsad.data.fit.restore` does with maps.

    Raises:
        ZsadError: If a worker cannot be started or was killed.
    """
    pair = (size, size) if isinstance(size, int) else size
    form = Form(pair, reading, multiple, with_masks, placed_masks)
    with closing(ordered(partial(read_item, form=form), samples, workers, AHEAD * batch_size)) as items:
        for run in _runs(zip(samples, items, strict=True), batch_size):
            yield _batch(run, form, mean, std)


def _runs(pairs: Iterable[tuple[Sample, Item | str]], batch_size: int) -> Iterator[Run]:
    """Consecutive samples whose inputs have one shape; an unreadable one fits in anywhere."""
    run: Run = []
    for pair in pairs:
        frames = {item.frame for _, item in (*run, pair) if isinstance(item, Item)}
        if len(frames) > 1:
            yield run
            run = []
        run.append(pair)
        if len(run) == batch_size:
            yield run
            run = []
    if run:
        yield run


def _batch(run: Run, form: Form, mean: Sequence[float], std: Sequence[float]) -> Batch:
    good = [(sample, item) for sample, item in run if isinstance(item, Item)]
    items = [item for _, item in good]
    labels = [UNKNOWN if sample.label is None else sample.label for sample, _ in good]
    frame = items[0].frame if items else form.size
    masks = torch.zeros(len(items), *(frame if form.placed else form.size), dtype=torch.bool)
    for mask, item in zip(masks, items, strict=True):
        if item.mask is not None:
            mask.copy_(torch.from_numpy(item.mask))
    return Batch(
        images=_images(items, frame, mean, std),
        masks=masks if form.masks else None,
        known=[item.mask is not None for item in items],
        labels=torch.tensor(labels, dtype=torch.int64),
        samples=[sample for sample, _ in good],
        boxes=[item.box for item in items],
        errors=[(sample, item) for sample, item in run if isinstance(item, str)],
        notes=[note for item in items for note in item.notes],
        covers=[sample for sample, _ in run],
    )


def _images(items: list[Item], frame: Size, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[B, 3, H, W]: (value / 255 - mean) / std where the image is, and 0 around it."""
    images = torch.zeros(len(items), 3, *frame)
    shift, scale = (torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1) for values in (mean, std))
    for image, item in zip(images, items, strict=True):
        inside = image[item.box.inside]
        inside.copy_(torch.from_numpy(item.pixels).permute(2, 0, 1)).div_(255).sub_(shift).div_(scale)
        if item.blank is not None:
            inside.masked_fill_(torch.from_numpy(item.blank), 0)
    return images
