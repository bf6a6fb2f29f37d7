"""Golden files: numbers of the released code on deterministic random weights, and what made them.

A golden file is `<name>.npz` with its arrays and `<name>.json`, which tells the seed, the image size and the name,
shape and spread of every learnable tensor. The functions here rebuild the inputs; `check_<method>.py` beside this file
computes our numbers and lays them against the arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.parity import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.weights import from_tensors

FOLDER = Path(__file__).parent

#: Largest difference allowed: absolute for features, maps and scores in float32; relative for losses; relative in L2
#: for gradients and for the change of the first optimizer step.
TOLERANCES = {"value": 1e-4, "loss": 1e-4, "gradient": 1e-3, "step": 1e-3}

START, END = 49406, 49407


@dataclass(frozen=True)
class Quantity:
    """One comparison."""

    name: str
    difference: float  # largest absolute, or relative, as the rule says
    rule: str  # a key of TOLERANCES

    @property
    def holds(self) -> bool:
        """Whether the difference is allowed; NaN is not."""
        return self.difference <= TOLERANCES[self.rule]


@dataclass
class Golden:
    """One golden file, and which of its arrays were compared."""

    name: str
    notes: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    compared: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path, name: str) -> Golden:
        with np.load(folder / f"{name}.npz") as arrays:
            return cls(name, json.loads((folder / f"{name}.json").read_text()), dict(arrays))

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> Tensor:
        """An array as a float32 tensor (integers stay)."""
        value = torch.from_numpy(np.asarray(self.arrays[name]))
        return value.float() if value.is_floating_point() else value

    def has(self, beginning: str) -> bool:
        """Whether any array's name begins so."""
        return any(name.startswith(beginning) for name in self.arrays)

    def against(self, name: str, ours: Tensor | float, rule: str = "value", scale: float = 1.0) -> Iterator[Quantity]:
        """Compare with an array (times `scale`); nothing where the file does not hold it."""
        if name not in self.arrays:
            return
        self.compared.add(name)
        theirs = self.array(name) * scale
        mine = torch.as_tensor(ours, dtype=torch.float32).detach().reshape(theirs.shape)
        yield Quantity(name, difference(mine, theirs, rule), rule)

    # Inputs

    @property
    def seed(self) -> int:
        """Of weights and images."""
        return int(self._told("seed", r"seed=(\d+)", 0))

    @property
    def side(self) -> int:
        """Height and width of the images, in pixels."""
        return int(self._told("side", r"\(\d+, ?3, ?\d+, ?(\d+)\)", 84))

    def _told(self, key: str, pattern: str, default: int) -> int:
        if key in self.notes:
            return int(self.notes[key])
        found = re.search(pattern, json.dumps(self.notes.get("input", {})))
        return int(found[1]) if found else default

    def clip(self, words: Words | None = None) -> CLIP:
        """The narrow random CLIP; its tokenizer knows the words of words.json unless another is given."""
        model = small_clip(self.seed)
        return CLIP(model.visual, model.text, words or Words(), name="narrow", digest="")  # type: ignore[arg-type]

    def images(self) -> Tensor:
        """[2, 3, side, side], normalised."""
        return torch.from_numpy(weights.image_batch(side=self.side, seed=self.seed))

    def truth(self) -> tuple[Tensor, Tensor]:
        """Masks [2, side, side] bool, the first one empty, and labels (0, 1)."""
        told = re.search(r"seed=(\d+)", str((self.notes.get("inputs") or self.notes.get("input") or {}).get("mask")))
        drawn = weights.tensor("mask", (2, 1, self.side, self.side), seed=int(told[1]) if told else 0)
        mask = torch.from_numpy(drawn)[:, 0] > 1.0
        mask[0] = False
        return mask, torch.tensor([0, 1])

    def learned(self) -> dict[str, Tensor]:
        """Every learnable tensor of the run under its released name; groups are joined by a dot."""
        rows = self.notes["learnables"]
        flat = {row["name"]: row for row in rows} if isinstance(rows, list) else dict(_flat(rows))
        return {name: _drawn(row) for name, row in flat.items()}


def difference(ours: Tensor, theirs: Tensor, rule: str) -> float:
    """The difference that a rule looks at; see TOLERANCES."""
    gap = (ours - theirs).double()
    if rule == "value":
        return float(gap.abs().max())
    return float(gap.norm() / theirs.double().norm())


def _flat(rows: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, row in rows.items():
        if "shape" in row:
            yield before + name, row
        else:
            yield from _flat(row, f"{before}{name}.")


def _drawn(row: Mapping[str, Any]) -> Tensor:
    name = row.get("draw_name") or row["tensor_name"]
    return torch.from_numpy(weights.tensor(name, tuple(row["shape"]), row["std"], row["mean"], row["seed"]))


class Words:
    """A tokenizer for the sentences of the golden runs: CLIP's own ids of the words in words.json, without its merges.

    CLIP cuts a sentence into words, digits and punctuation first, so the ids of a sentence are those of its words.
    `python -m tests.parity.words FOLDER SENTENCE...` adds words.
    """

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [[START, *(i for word in pieces(text) for i in self.ids(word)), END] for text in texts]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return ids, torch.tensor([len(row) - 1 for row in rows])

    def ids(self, word: str) -> list[int]:
        if word not in word_ids():
            raise KeyError(f"no ids of {word!r}; add them: python -m tests.parity.words FOLDER {word!r}")
        return word_ids()[word]


def pieces(text: str) -> list[str]:
    """What CLIP takes a sentence apart into before it looks at merges (openai/CLIP d05afc43, simple_tokenizer.py)."""
    return re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", text.lower())


@cache
def word_ids() -> dict[str, list[int]]:
    """Token ids by word."""
    return json.loads((FOLDER / "words.json").read_text())  # type: ignore[no-any-return]


@cache
def small_clip(seed: int = 0) -> CLIP:
    """The narrow random CLIP of `weights.py`: 24 image blocks of width 128, patch 14, 12 text blocks of width 128."""
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in weights.clip_state_dict(seed=seed).items()}
    return from_tensors(state)
