"""Learnable sentences: word vectors that are trained, and tokens put into the text tower's blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zsad.backbones.clip import TextTower
from zsad.backbones.tokenizer import Tokenizer
from zsad.backbones.vit import Edit, splice


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
    text: TextTower, tokenizer: Tokenizer, contexts: Sequence[Tensor], endings: Sequence[str], edit: Edit | None = None
) -> Tensor:
    """Features of sentences "START, context vectors, ending, END".

    Args:
        text: The frozen text tower.
        tokenizer: Its tokenizer.
        contexts: Per sentence, learnable word vectors [n, width].
        endings: Per sentence, the words after the context, such as "damaged object.".
        edit: Deep tokens, see :class:`DeepTokens`.

    Returns:
        [S, E], not normalised. Sentences are cut at the longest END, which under the causal mask changes nothing.
    """
    ids, end = tokenizer(endings)
    words = text.token_embedding(ids.to(text.positions.device))
    rows = torch.stack([torch.cat([row[:1], context, row[1:]]) for row, context in zip(words, contexts, strict=True)])
    return text.encode(rows, end.to(rows.device) + len(contexts[0]), edit)
