"""The golden numbers of the released code, and the random CLIP they were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.parity import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.weights import from_tensors

FOLDER = Path(__file__).parent


class Words:
    """A tokenizer that knows the token ids which the golden file holds for a few sentences."""

    def __init__(self, known: dict[str, list[int]]) -> None:
        self.known = known

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        rows = [self.known[text] for text in texts]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return ids, torch.tensor([len(row) - 1 for row in rows])


def small_clip() -> CLIP:
    """The narrow random CLIP of `weights.py`: 24 image blocks of width 128, patch 14, 12 text blocks of width 128."""
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in weights.clip_state_dict().items()}
    return from_tensors(state)


def tensor(name: str, shape: tuple[int, ...], std: float) -> Tensor:
    """A learnable tensor of the golden run."""
    return torch.from_numpy(weights.tensor(name, shape, std))
