"""The ordinary stream of an image tower and, beside it, streams that sum attention of another kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from zsad.backbones.vit import Block, Mix, plain

#: Attention of one kind of vector to itself, over the values
SELF_ATTENTION: dict[str, Mix] = {
    "vv": lambda q, k, v: plain(v, v, v),
    "qq": lambda q, k, v: plain(q, q, v),
    "kk": lambda q, k, v: plain(k, k, v),
}


@dataclass(frozen=True)
class Step:
    """What one block made; every tensor is [B, N, D]."""

    number: int  # of the block, from 1
    block: Block
    before: Tensor  # the ordinary stream before the block
    attended: Tensor  # after its attention, before its MLP
    after: Tensor
    sides: dict[str, Tensor]  # the other streams after the block


def side_streams(blocks: Iterable[nn.Module], x: Tensor, mixes: Mapping[str, Mix], start: int) -> Iterator[Step]:
    """Walk the ordinary stream through the blocks; from block `start` on, side streams leave it, one per mix.

    A side stream sums the attention outputs of the ordinary stream's q, k, v; it is never normalised or fed forward.
    Before `start` it is the ordinary stream.

    Args:
        blocks: Of an image tower.
        x: [B, N, D] tokens before block 1.
        mixes: Attention of the side streams, by name.
        start: First block with side streams.

    Yields:
        One :class:`Step` per block.
    """
    sides = dict.fromkeys(mixes, x)
    for number, block in enumerate(blocks, start=1):
        assert isinstance(block, Block)
        q, k, v = block.qkv(x)
        attended = x + block.out(plain(q, k, v))
        after = attended + block.feed(attended)
        if number < start:
            sides = dict.fromkeys(mixes, after)
        else:
            sides = {name: sides[name] + block.out(mix(q, k, v)) for name, mix in mixes.items()}
        yield Step(number, block, x, attended, after, sides)
        x = after
