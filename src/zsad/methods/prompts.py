"""Learnable sentences: word vectors that are trained, and tokens put into the text tower's blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zsad.backbones.clip import TextTower
from zsad.backbones.tokenizer import Tokenizer
from zsad.backbones.vit import Edit, splice
from zsad.errors import ZsadError


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
