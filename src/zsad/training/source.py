"""Where a training gets the features of its images from: memory, the cache on disk, or the tower once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from zsad.cache import LIMIT, Space
from zsad.errors import ZsadError, unknown
from zsad.methods.features import Features
from zsad.training.images import DTYPES, Encoded, Images
from zsad.types import Sample

MODES = ("auto", "memory", "disk", "none")

Progress = Callable[[int, int], None]  # images encoded, and how many are to be encoded
Rows = dict[str, Tensor]  # of some samples: the tensors of their features, and "mask", each row's bits in bytes


@dataclass(frozen=True)
class Cache:
    """How frozen features are kept between epochs, and between trainings."""

    mode: str = "auto"  # "memory", "disk", "none"; "auto": see zsad.training.opening
    folder: Path | None = None  # of the cache on disk; None: that of zsad.cache
    limit: int = LIMIT  # bytes of everything on disk
    dtype: str = "float32"  # of kept features; "float16" takes half the room and rounds by up to 1 in 2,048

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("kind of cache", self.mode, MODES, "zsad train --help")
        if self.dtype not in DTYPES:
            raise unknown("type of kept features", self.dtype, DTYPES, "zsad train --help")


class Kept(Protocol):
    """The features and masks of all samples of a training."""

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Those of some samples, in that order."""


class InMemory:
    """Rows in memory, allocated once.

    Args:
        like: Rows of one sample.
        count: How many samples there are.
    """

    def __init__(self, like: Mapping[str, Tensor], count: int) -> None:
        self._rows = {name: tensor.new_empty(count, *tensor.shape[1:]) for name, tensor in like.items()}

    def put(self, first: int, rows: Mapping[str, Tensor]) -> None:
        """Take the rows of consecutive samples."""
        for name, tensor in rows.items():
            self._rows[name][first : first + len(tensor)] = tensor

    def rows(self, chosen: Sequence[int]) -> Rows:
        """See :class:`Kept`."""
        return {name: tensor[list(chosen)] for name, tensor in self._rows.items()}


@dataclass(frozen=True)
class OnDisk:
    """Rows in a space of the cache, each under the key of its sample."""

    space: Space
    keys: Sequence[str]

    def rows(self, chosen: Sequence[int]) -> Rows:
        """See :class:`Kept`."""
        return self.space.read([self.keys[i] for i in chosen])


@dataclass(frozen=True)
class Source:
    """Features of the samples of a training, epoch by epoch."""

    samples: Sequence[Sample]
    images: Images
    kept: Kept | None = None  # None encodes in every epoch
    like: Features | None = None  # of any sample, for what is the same in all
    where: str = "computed again in every epoch"  # in words

    def epoch(self, samples: Sequence[Sample], groups: Sequence[Sequence[int]]) -> Iterator[Encoded]:
        """The features of each group of positions.

        Args:
            samples: What is seen at each position in this epoch: the training's own, or something else in its place.
            groups: Positions; none is empty.
        """
        new = [[i for i in group if not self._is_kept(i, samples)] for group in groups]
        encoded = self.images.encoded([[samples[i] for i in group] for group in new])
        for group, others in zip(groups, new, strict=True):
            held = [i for i in group if i not in others]
            parts = [self._held(held)] if held else []
            parts += [next(encoded)] if others else []
            yield parts[0] if len(parts) == 1 else _in_order(parts, [*held, *others], group)

    def _is_kept(self, index: int, samples: Sequence[Sample]) -> bool:
        return self.kept is not None and samples[index] is self.samples[index]

    def _held(self, chosen: Sequence[int]) -> Encoded:
        assert self.kept is not None and self.like is not None
        rows, seen = self.kept.rows(chosen), [self.samples[i] for i in chosen]
        masks = torch.from_numpy(np.unpackbits(rows.pop("mask").numpy(), axis=2, count=self.like.size[1]).astype(bool))
        if masks.shape[1:] != self.like.size:
            raise other_shape(seen[0])
        tensors: dict[str, Any] = {name: tensor.float() for name, tensor in rows.items()}
        labels = torch.tensor([sample.label for sample in seen])
        return Encoded(replace(self.like, **tensors), masks, labels, [sample.class_name for sample in seen])


def other_shape(sample: Sample) -> ZsadError:
    """What is said of an image whose input has another shape than those before it."""
    return ZsadError(
        f"{sample.image}: with fit keep its input has another shape than that of the first image; training needs one "
        "shape, which fit pad or stretch gives"
    )


def _in_order(parts: Sequence[Encoded], have: Sequence[int], wanted: Sequence[int]) -> Encoded:
    """Parts as one, from the order of the positions `have` to that of `wanted`."""
    order = [have.index(i) for i in wanted]
    names = [name for part in parts for name in part.class_names]
    return Encoded(
        Features.joined([part.features for part in parts])[order],
        torch.cat([part.masks for part in parts])[order],
        torch.cat([part.labels for part in parts])[order],
        [names[i] for i in order],
    )
