"""A dataset and a method to scored samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from zsad.data.dataset import Batch, Notes, batches
from zsad.data.fit import restore
from zsad.data.reading import Reading
from zsad.methods.base import Method
from zsad.types import Sample

NOT_FINITE = "the score or the map is not a finite number; check the weights of the method"


@dataclass(frozen=True)
class Scored:
    """One sample and what a method says about it."""

    sample: Sample
    score: float
    map: Tensor  # [H, W] float32 on the CPU, of the whole image at the size of a stretched network input
    mask: Tensor | None  # [H, W] bool, None where the truth is not known
    error: str = ""  # why there is no prediction; then score is NaN and map empty


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
    """Every sample once, in order, one batch in memory at a time; one that cannot be read or scored has its error.

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
    return [_checked(Scored(*one)) for one in zip(batch.samples, scores, maps, masks, strict=True)]


def _checked(scored: Scored) -> Scored:
    if isfinite(scored.score) and scored.map.isfinite().all():
        return scored
    return _failed(scored.sample, f"{scored.sample.image}: {NOT_FINITE}")


def _failed(sample: Sample, error: str) -> Scored:
    return Scored(sample, float("nan"), torch.zeros(0, 0), None, error)
