"""Samples to batches of tensors; a file that cannot be read becomes an error beside the batch, never an exception."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from zsad.data.images import preprocess, read_image, read_mask
from zsad.errors import ZsadError
from zsad.types import Sample

UNKNOWN = -1  # label of a sample that has none


class Item(TypedDict, total=False):
    """One sample as tensors, or `index` and `error` only where a file cannot be read."""

    index: int  # place in the sequence of samples
    image: Tensor  # [3, H, W] float32, normalised
    mask: Tensor  # [H, W] bool, absent where masks were not asked for or are not known
    label: int  # 0 normal, 1 anomalous, -1 unknown
    error: str  # what is wrong with which file


@dataclass(frozen=True)
class Batch:
    """Samples as tensors; B may be less than asked for, even 0, where files could not be read."""

    images: Tensor  # [B, 3, H, W] float32, normalised
    masks: Tensor | None  # [B, H, W] bool; None in every batch of a run, or in none
    labels: Tensor  # [B] int64, 0 normal, 1 anomalous, -1 unknown
    samples: list[Sample]  # B, in the order of the tensors
    errors: list[tuple[Sample, str]]  # samples that could not be read, with the reason


class ImageDataset(TorchDataset[Item]):
    """Samples as a torch dataset of :class:`Item`, read and preprocessed when asked for.

    Args:
        samples: Normal ones get an empty mask.
        size: Side, or height and width, of the network input.
        mean: Three values, RGB, as in :func:`zsad.data.images.preprocess`.
        std: Three values, RGB.
        with_masks: Whether to read masks. Without effect unless :func:`masks_known`: a made-up empty mask would count
            as ground truth.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int | tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        with_masks: bool = True,
    ) -> None:
        self.samples = list(samples)
        self.size = (size, size) if isinstance(size, int) else size
        self.mean, self.std = tuple(mean), tuple(std)
        self.with_masks = with_masks and masks_known(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        label = UNKNOWN if sample.label is None else sample.label
        try:
            image = preprocess(read_image(sample.image), self.size, self.mean, self.std)
            item = Item(index=index, image=torch.from_numpy(image), label=label)
            if self.with_masks:
                item["mask"] = self._mask(sample)
        except ZsadError as error:
            return Item(index=index, error=str(error))
        return item

    def _mask(self, sample: Sample) -> Tensor:
        if sample.mask is None:
            return torch.zeros(self.size, dtype=torch.bool)
        return torch.from_numpy(read_mask(sample.mask, self.size))

    def collate(self, items: Sequence[Item]) -> Batch:
        """Items of this dataset as one batch, in their order."""
        good = [item for item in items if "error" not in item]
        images = [item["image"] for item in good]
        masks = [item["mask"] for item in good] if self.with_masks else []
        return Batch(
            images=torch.stack(images) if good else torch.zeros(0, 3, *self.size),
            masks=_masks(masks, self.size) if self.with_masks else None,
            labels=torch.tensor([item["label"] for item in good], dtype=torch.int64),
            samples=[self.samples[item["index"]] for item in good],
            errors=[(self.samples[item["index"]], item["error"]) for item in items if "error" in item],
        )


def _masks(masks: list[Tensor], size: tuple[int, int]) -> Tensor:
    return torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)


def masks_known(samples: Sequence[Sample]) -> bool:
    """Whether every sample has a mask or is labelled normal, so that every pixel's truth is known."""
    return all(sample.mask is not None or sample.label == 0 for sample in samples)


def batches(
    samples: Sequence[Sample],
    size: int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    workers: int = 0,
    with_masks: bool = True,
) -> Iterator[Batch]:
    """All samples once, in their order, `batch_size` at a time; the last batch may be smaller.

    Args:
        samples: What to read; an unreadable one appears in `errors` of the batch that it would have been in.
        size: Side, or height and width, of the network input.
        mean: Three values, RGB, as in :func:`zsad.data.images.preprocess`.
        std: Three values, RGB.
        batch_size: At least 1.
        workers: Processes that decode ahead; 0 decodes in this one. The batches are the same.
        with_masks: Whether to read masks, where they are known for all samples: see :func:`masks_known`.
    """
    dataset = ImageDataset(samples, size, mean, std, with_masks)
    generator = torch.Generator()  # of its own, so that reading leaves the global random numbers alone
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=dataset.collate, generator=generator)
    yield from loader
