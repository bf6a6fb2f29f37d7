"""The images of a training: how they are read, and how the frozen tower looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zsad.cache.shards import rounded
from zsad.data.dataset import Batch, Notes, batches
from zsad.data.inputs import mask_known
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.features import Features
from zsad.types import Sample

READ = 16  # images that are read at once
TOGETHER = 16  # images that go through the tower at once where it runs on an accelerator

DTYPES = {"float32": torch.float32, "float16": torch.float16}  # that features may be rounded to

Precision = Callable[[], AbstractContextManager[object]]  # a context in which the tower computes


@dataclass(frozen=True)
class Encoded:
    """Frozen features of some images, with their truth; all on one device."""

    features: Features
    masks: Tensor  # [N, H, W] bool
    labels: Tensor  # [N] int64
    class_names: list[str]

    def to(self, device: torch.device) -> Encoded:
        """The same on another device."""
        return Encoded(self.features.to(device), self.masks.to(device), self.labels.to(device), self.class_names)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.class_names)


@dataclass(frozen=True)
class Images:
    """How the images of a training become features."""

    method: Method
    encode: Callable[[Tensor], Features]  # of a stage, or the method's own
    size: int  # side of the network input in pixels
    reading: Reading = Reading()
    workers: int = 0
    notes: Notes | None = None
    precision: Precision = nullcontext
    dtype: str = "float32"  # that features are rounded to, whether they are kept or not

    @property
    def together(self) -> int:
        """Images that go through the tower at once."""
        return 1 if self.method.backbone.logit_scale.device.type == "cpu" else TOGETHER

    def encoded(self, groups: Sequence[Sequence[Sample]]) -> Iterator[Encoded]:
        """Features and truth of each group, on the CPU; empty groups are left out.

        On the CPU the tower looks at one image at a time, so that what it says of an image does not depend, not even in
        the last bit, on the others of a group.

        Raises:
            ZsadError: If a file cannot be read, images of several shapes are to be kept as they are, or a feature does
                not fit its type.
        """
        rows = self._rows([sample for group in groups for sample in group])
        for group in filter(None, groups):
            images, masks = zip(*(next(rows) for _ in group), strict=True)
            features = self._rounded(self._features(torch.stack(images)))
            labels = torch.tensor([sample.label for sample in group])
            yield Encoded(features, torch.stack(masks), labels, [sample.class_name for sample in group])

    def _rounded(self, features: Features) -> Features:
        kept: dict[str, Any] = rounded(features.tensors(), DTYPES[self.dtype])
        return replace(features, **kept).each(Tensor.float)

    def _features(self, images: Tensor) -> Features:
        device, parts = self.method.backbone.logit_scale.device, torch.split(images, self.together)
        with self.precision():
            return Features.joined([self.encode(part.to(device)).to(torch.device("cpu")) for part in parts])

    def _rows(self, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image [3, H, W] with its mask [H, W], all of one shape."""
        shape: torch.Size | None = None
        for batch in self._read(samples):
            shape = shape or batch.images.shape[2:]
            if batch.images.shape[2:] != shape:
                raise _other_shape(batch, shape)
            assert batch.masks is not None
            yield from zip(batch.images, batch.masks, strict=True)

    def _read(self, samples: Sequence[Sample]) -> Iterator[Batch]:
        """Batches without an unreadable file, with masks that lie where the images lie."""
        towers = self.method.backbone
        for batch in batches(
            samples,
            self.size,
            towers.mean,
            towers.std,
            READ,
            self.workers,
            reading=self.reading,
            multiple=towers.visual.size.patch,
            placed_masks=True,
        ):
            if batch.errors:
                raise ZsadError(f"the training set has an unreadable file; mend or remove it:\n  {batch.errors[0][1]}")
            if self.notes is not None:
                self.notes.add(batch)
            yield batch


def check(samples: Sequence[Sample]) -> None:
    """Raise a ZsadError unless every sample has a label and every anomalous one a mask."""
    if not samples:
        raise ZsadError("nothing to train on: the folder has no labelled images")
    lacking = [sample for sample in samples if sample.label is None or not mask_known(sample)]
    if lacking:
        raise ZsadError(
            f"training needs a label for every image and a mask for every anomalous one; {len(lacking)} of "
            f"{len(samples)} lack it, first {lacking[0].image}; zsad data check names what is missing"
        )
    if len({sample.label for sample in samples}) < 2:
        only = "anomalous" if samples[0].label else "normal"
        raise ZsadError(f"training needs normal and anomalous images; all {len(samples)} are {only}. Add some others")


def _other_shape(batch: Batch, shape: torch.Size) -> ZsadError:
    height, width = batch.images.shape[2:]
    return ZsadError(
        f"{batch.samples[0].image}: with fit keep it makes an input of {height} x {width} pixels, images before it "
        f"made {shape[0]} x {shape[1]}; training needs one shape, which fit pad or stretch gives"
    )
