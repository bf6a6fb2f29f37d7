"""What the frozen part of a method says about images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound="Features")


@dataclass(frozen=True)
class Features:
    """What the frozen part of a method says about a batch of images; kept, it need not be computed again.

    A method derives from it and adds its tensors, each with the batch as its first axis.
    """

    grid: tuple[int, int]  # rows and columns of patches
    size: tuple[int, int]  # height and width of the input in pixels

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def each(self: F, change: Callable[[Tensor], Tensor]) -> F:
        """The same features with every tensor changed."""
        changed: dict[str, Any] = {name: change(value) for name, value in self.tensors().items()}
        return dataclasses.replace(self, **changed)

    def to(self: F, device: torch.device) -> F:
        """The same features on another device."""
        return self.each(lambda tensor: tensor.to(device))

    def __getitem__(self: F, index: Any) -> F:
        """The features of some images of the batch."""
        return self.each(lambda tensor: tensor[index])

    def __len__(self) -> int:
        """Number of images."""
        return len(next(iter(self.tensors().values())))

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @staticmethod
    def joined(parts: Sequence[F]) -> F:
        """The features of several batches as one."""
        tensors: dict[str, Any] = {
            name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()
        }
        return dataclasses.replace(parts[0], **tensors)


@dataclass(frozen=True)
class TowerFeatures(Features):
    """What a whole image tower says, for methods that learn behind it."""

    image: Tensor  # [B, E], not normalised
    patches: Tensor  # [B, M, n, E], M maps' worth of patch features, row by row, not normalised; n = rows * columns
