"""Sentences: fixed ensembles, and learnable ones of trained word vectors and tokens in the text tower's blocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import TextTower
from zsad.backbones.tokenizer import Tokenizer
from zsad.backbones.vit import Edit, splice
from zsad.errors import ZsadError


def sentence_parts(name: str) -> dict[str, list[str]]:
    """The lists in `sentences/<name>.json` beside this file; "source" there says where they were published.

    >>> len(sentence_parts("winclip")["templates"])
    22
    """
    text = (files("zsad.methods") / "sentences" / f"{name}.json").read_text(encoding="utf-8")
    return {key: parts for key, parts in json.loads(text).items() if key != "source"}


def composed(states: Sequence[str], templates: Sequence[str], class_name: str, by_state: bool = True) -> list[str]:
    """Every state of an object in every template, state by state or template by template.

    >>> composed(["{}", "damaged {}"], ["a photo of a {}."], "gear")
    ['a photo of a gear.', 'a photo of a damaged gear.']
    """
    named = [state.format(class_name) for state in states]
    if by_state:
        return [template.format(state) for state in named for template in templates]
    return [template.format(state) for template in templates for state in named]


def one_name_each(class_names: Sequence[str] | None, count: int) -> list[str]:
    """The class names of `count` images; "object" for each where none are given.

    Raises:
        ZsadError: If there are more or fewer names than images.
    """
    if class_names is None:
        return ["object"] * count
    if len(class_names) != count:
        raise ZsadError(f"{len(class_names)} class names for {count} images; give one per image")
    return list(class_names)


class Ensemble:
    """Text features of fixed sentences, averaged per state; encoded once per class name, never in less than the tower's
    precision, and kept.

    Args:
        text: The frozen text tower.
        tokenizer: Its tokenizer.
        sentences: The sentences of a class name, one list per state, in the order (normal, anomalous).
        normalised: Whether each sentence's feature is brought to length 1 before the mean.
        averaged: False keeps the features of all S sentences of a state: [B, states, S, E].
    """

    def __init__(
        self,
        text: TextTower,
        tokenizer: Tokenizer,
        sentences: Callable[[str], Sequence[Sequence[str]]],
        normalised: bool = True,
        averaged: bool = True,
    ) -> None:
        self.text, self.tokenizer, self.sentences = text, tokenizer, sentences
        self.normalised, self.averaged = normalised, averaged
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, class_names: Sequence[str]) -> Tensor:
        """Mean features [B, states, E], not normalised, one row per class name given."""
        return torch.stack([self.of(name) for name in class_names])

    def of(self, class_name: str) -> Tensor:
        """Mean features [states, E] of one class name, not normalised."""
        place, key = self.text.positions.device, (class_name, self.text.positions.dtype)
        if key not in self._kept:
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(place.type, enabled=False):
                lists = self.sentences(class_name)
                self._kept[key] = torch.stack([self._state(sentences) for sentences in lists])
        return self._kept[key].to(place)

    def _state(self, sentences: Sequence[str]) -> Tensor:
        ids, end = self.tokenizer(sentences)
        place = self.text.positions.device
        features = self.text(ids.to(place), end.to(place))
        features = F.normalize(features, dim=-1) if self.normalised else features
        return features.mean(0) if self.averaged else features


class HalfGradient(torch.autograd.Function):
    """Rounds values and gradients to half precision, as a cast to float16 and back does."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.half().to(x.dtype)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0].half().to(grads[0].dtype)


class DeepTokens(nn.Module):
    """Vectors that overwrite positions 1..n of the input of text blocks 2..depth (text prompt tuning).

    Args:
        width: Of the text tower.
        length: Vectors per block.
        depth: Number of blocks counted with the first one, which keeps its input: there are depth - 1 sets.
        half: Round to half precision before insertion, as the released code does.
    """

    def __init__(self, width: int, length: int, depth: int, half: bool = True) -> None:
        super().__init__()
        sets = max(depth - 1, 0) if length else 0
        self.sets = nn.ParameterList([nn.Parameter(torch.randn(length, width) * 0.02) for _ in range(sets)])
        self.rounded = half

    def edit(self) -> Edit:
        """For :func:`zsad.backbones.vit.walk`."""

        def insert(i: int, x: Tensor) -> Tensor:
            if not 2 <= i <= len(self.sets) + 1:
                return x
            tokens = self.sets[i - 2].expand(len(x), -1, -1)  # first, so that each sentence's gradient is rounded
            return splice(x, 1, HalfGradient.apply(tokens) if self.rounded else tokens)  # type: ignore[no-untyped-call]

        return insert


def encode_with_context(
    text: TextTower,
    tokenizer: Tokenizer,
    contexts: Sequence[Tensor],
    endings: Sequence[str],
    edit: Edit | None = None,
    tails: Sequence[Tensor] | None = None,
) -> Tensor:
    """Features of sentences "START, context vectors, ending, tail vectors, END".

    Args:
        text: The frozen text tower.
        tokenizer: Its tokenizer.
        contexts: Per sentence, word vectors [n, width], the same number for all.
        endings: Per sentence, the words after the context, such as "damaged object.".
        edit: Deep tokens, see :class:`DeepTokens`.
        tails: Per sentence, word vectors [m, width] after the ending, the same number for all; None for none.

    Returns:
        [S, E], not normalised. Sentences are cut at the longest END, which under the causal mask changes nothing.
    """
    ids, end = tokenizer(endings)
    words = text.token_embedding(ids.to(text.positions.device))
    none = words.new_zeros(0, words.shape[-1])
    rows = [
        torch.cat([row[:1], context, row[1:at], tail, row[at:]])
        for row, at, context, tail in zip(words, end.tolist(), contexts, tails or [none] * len(words), strict=True)
    ]
    added = len(contexts[0]) + (len(tails[0]) if tails else 0)
    return text.encode(torch.stack(rows), end.to(words.device) + added, edit)


#: names in the checkpoints of AnomalyCLIP and Crane, and what is in them but never used
RELEASED = {"ctx_pos": "normal_context", "ctx_neg": "anomalous_context", "compound_prompts_text": "deep.sets"}
UNUSED = ("token_prefix", "token_suffix", "tokenized_prompts", "compound_prompt_projections")


def released_prompts(checkpoint: Any, method: str) -> dict[str, Tensor]:
    """The learned tensors of {"prompt_learner": state}, under our names; contexts lose two leading axes of length 1.

    Raises:
        ZsadError: If the layout is another one; `method` is how the message names it.
    """
    state = checkpoint.get("prompt_learner") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise ZsadError(f'not a released {method} checkpoint: expected {{"prompt_learner": ...}}')
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        head, _, rest = name.partition(".")
        if head in RELEASED:
            ours[f"{RELEASED[head]}.{rest}".rstrip(".")] = tensor.float().reshape(tensor.shape[-2:])
        elif not name.startswith(UNUSED):
            raise ZsadError(f'not a released {method} checkpoint: unexpected tensor "{name}"')
    return ours


def released_lengths(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The switches that tensors of :func:`released_prompts` tell: lengths of contexts and deep tokens, and depth.

    >>> released_lengths({"normal_context": torch.zeros(12, 8), "deep.sets.0": torch.zeros(4, 8)})
    {'deep_length': 4, 'deep_depth': 2, 'context_length': 12}
    """
    sets = [len(tensor) for name, tensor in state.items() if name.startswith("deep.sets.")]
    lengths = {"deep_length": max(sets, default=0), "deep_depth": len(sets) + 1}
    return lengths | ({"context_length": len(state["normal_context"])} if "normal_context" in state else {})
