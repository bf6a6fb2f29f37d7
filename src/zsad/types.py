"""The two nouns that every part of zsad exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zsad.errors import ZsadError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    >>> Sample(Path("bottle/test/crack/000.png"), class_name="bottle", label=1).known_anomalous
    True
    """

    image: Path  # file to decode
    mask: Path | None = None  # ground truth, non-zero = anomalous; None for a normal image or where none exists
    label: int | None = None  # 0 normal, 1 anomalous, None unknown
    class_name: str = "object"  # row of the result table, and what released code puts into prompts
    defect: str = ""  # kind of defect, "good" for a normal image, "" where unknown
    split: str = "test"  # "train", "test", or another that a dataset has, such as "validation"
    dataset: str = ""  # name of the dataset, "" for loose files
    prompt_name: str = ""  # what a person would call the object, for prompts; "" where class_name says it
    part: tuple[int, int] | None = None  # (i, n): the i-th of n equal parts, top to bottom, from 1; None = all of it

    def __post_init__(self) -> None:
        if self.label not in (0, 1, None):
            raise ZsadError(f"{self.image}: a label is 0, 1 or None, got {self.label!r}")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise ZsadError(f"{self.image}: a part is (i, n) with i from 1 to n, got {self.part}")

    @property
    def known_anomalous(self) -> bool:
        """Whether the image is labelled anomalous."""
        return self.label == 1


@dataclass(frozen=True)
class Prediction:
    """What a method says about a batch of images."""

    score: Tensor  # [B], higher is more anomalous; the range is the method's
    map: Tensor  # [B, H, W], higher is more anomalous, at the size of the network input
