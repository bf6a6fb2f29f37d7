"""The one open Transformer: blocks whose attention can be mixed anew, walked by a loop that the method owns.

CLIP's two towers and DINOv2 are the same blocks with other sizes. Nothing here is ever replaced, hooked or edited: a
method that wants another attention passes a :data:`Mix`, one that wants other tokens passes an `edit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.errors import ZsadError

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v: [B, H, N, d] -> [B, H, N', d]
Edit = Callable[[int, Tensor], Tensor]  # number of the block (from 1) and its input -> its input


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Ordinary attention, softmax(q k^T / sqrt(d)) v."""
    return F.scaled_dot_product_attention(q, k, v)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention that never looks right of itself, as in CLIP's text tower."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def quick_gelu(x: Tensor) -> Tensor:
    """The GELU approximation that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class MLP(nn.Module):
    """Two linear maps with an activation between them; [..., width] -> [..., width]."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """The gated MLP of DINOv2's giant; [..., width] -> [..., width]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)  # type: ignore[no-any-return]


class Block(nn.Module):
    """A pre-norm Transformer block that shows its branches. Blocks never change their input in place."""

    def __init__(self, width: int, heads: int, mlp: nn.Module, eps: float = 1e-5, layer_scale: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = mlp
        self.scale1 = nn.Parameter(torch.ones(width)) if layer_scale else None
        self.scale2 = nn.Parameter(torch.ones(width)) if layer_scale else None

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, D] -> q, k and v, each [B, H, N, d], of the normalised tokens."""
        packed = self.in_proj(self.norm1(x))
        q, k, v = packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def out(self, mixed: Tensor) -> Tensor:
        """[B, H, N, d] -> [B, N, D]: heads joined, projected and, where the block has it, scaled."""
        x: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return x if self.scale1 is None else x * self.scale1

    def attend(self, x: Tensor, mix: Mix = plain) -> Tensor:
        """The attention branch, residual not added; [B, N, D] -> [B, N, D]."""
        return self.out(mix(*self.qkv(x)))

    def feed(self, x: Tensor) -> Tensor:
        """The MLP branch, residual not added; [B, N, D] -> [B, N, D]."""
        x = self.mlp(self.norm2(x))
        return x if self.scale2 is None else x * self.scale2

    def forward(self, x: Tensor, mix: Mix = plain) -> Tensor:
        x = x + self.attend(x, mix)
        return x + self.feed(x)


def walk(
    blocks: Iterable[nn.Module], x: Tensor, taps: Collection[int] = (), mix: Mix = plain, edit: Edit | None = None
) -> tuple[Tensor, dict[int, Tensor]]:
    """Run tokens through the blocks, counted from 1 as in the papers.

    Args:
        blocks: The blocks of a tower, or some of them.
        x: [B, N, D].
        taps: Numbers of the blocks whose output is wanted.
        mix: The attention of every block.
        edit: Called as `edit(i, x)` on the input of block i; returns the input to use.

    Returns:
        The last block's output [B, N, D], and {number: output [B, N, D]} for the taps.
    """
    tapped: dict[int, Tensor] = {}
    for i, block in enumerate(blocks, start=1):
        x = block(x if edit is None else edit(i, x), mix)
        if i in taps:
            tapped[i] = x
    return x, tapped


def splice(x: Tensor, at: int, tokens: Tensor) -> Tensor:
    """A copy of x [B, N, D] whose tokens at..at+n are `tokens`, [n, D] or [B, n, D]."""
    tokens = tokens.expand(len(x), -1, -1)
    return torch.cat([x[:, :at], tokens, x[:, at + tokens.shape[1] :]], dim=1)


def layer_numbers(layers: Iterable[int], depth: int) -> tuple[int, ...]:
    """Block numbers that the papers give for 24 blocks, on a tower of another depth (rounded up).

    >>> layer_numbers((6, 12, 18, 24), 24), layer_numbers((6, 12, 18, 24), 12), layer_numbers((6, 24), 6)
    ((6, 12, 18, 24), (3, 6, 9, 12), (2, 6))
    """
    return tuple(math.ceil(i * depth / 24) for i in layers)


def resize_positions(positions: Tensor, grid: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Position embeddings for another grid of patches.

    Args:
        positions: [1 + g*g, D]; the first row belongs to CLS and is kept.
        grid: Rows and columns of patches that are wanted.
        mode: "bilinear", "bicubic", "bicubic_antialias", or "dinov2": bicubic whose scale factor carries DINOv2's
            offset of 0.1 (facebookresearch/dinov2, vision_transformer.py, `interpolate_pos_encoding`).

    Returns:
        [1 + rows*columns, D]; the input itself where the grid is the trained one.

    >>> resize_positions(torch.zeros(1 + 16, 8), (6, 5)).shape
    torch.Size([31, 8])
    """
    cls, patches = positions[:1], positions[1:]
    side = math.isqrt(len(patches))
    if grid == (side, side):
        return positions
    image = patches.T.reshape(1, -1, side, side)
    if mode == "dinov2":
        factor = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        image = F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)
    else:
        kind, _, antialias = mode.partition("_")
        image = F.interpolate(image, size=grid, mode=kind, align_corners=False, antialias=bool(antialias))
    return torch.cat([cls, image.flatten(2)[0].T])


@dataclass(frozen=True)
class ViTSize:
    """All that is needed to build a :class:`ViT`; read from a checkpoint's tensors, never typed in."""

    width: int
    depth: int
    heads: int
    patch: int
    grid: int  # patches per side of the trained position embedding
    output: int = 0  # width of the projection, 0 without one
    hidden: int = 0  # width inside the MLP; 0 = 4 x width
    registers: int = 0
    activation: str = "quick_gelu"  # or "gelu", "swiglu"
    eps: float = 1e-5
    pre_norm: bool = True  # CLIP normalises the embedded tokens, DINOv2 does not
    patch_bias: bool = False
    layer_scale: bool = False
    resize: str = "bicubic"  # how the model's own code resizes its positions, see resize_positions


def build_blocks(
    width: int, depth: int, heads: int, hidden: int, activation: str, eps: float, layer_scale: bool = False
) -> nn.ModuleList:
    """`depth` blocks of one size."""

    def mlp() -> nn.Module:
        return SwiGLU(width, hidden) if activation == "swiglu" else MLP(width, hidden, activation)

    return nn.ModuleList(Block(width, heads, mlp(), eps, layer_scale) for _ in range(depth))


class ViT(nn.Module):
    """An image tower: tokens in the order (extra, CLS, registers, patches row by row)."""

    def __init__(self, size: ViTSize) -> None:
        super().__init__()
        self.size = size
        width, hidden = size.width, size.hidden or 4 * size.width
        self.patch_embed = nn.Conv2d(3, width, size.patch, size.patch, bias=size.patch_bias)
        self.cls = nn.Parameter(torch.zeros(width))
        self.registers = nn.Parameter(torch.zeros(size.registers, width)) if size.registers else None
        self.positions = nn.Parameter(torch.zeros(1 + size.grid**2, width))
        self.norm_pre = nn.LayerNorm(width, size.eps) if size.pre_norm else nn.Identity()
        self.blocks = build_blocks(width, size.depth, size.heads, hidden, size.activation, size.eps, size.layer_scale)
        self.norm = nn.LayerNorm(width, size.eps)
        self.proj = nn.Parameter(torch.zeros(width, size.output)) if size.output else None

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.size.depth

    @property
    def width(self) -> int:
        """Channels of a token inside the tower."""
        return self.size.width

    @property
    def output(self) -> int:
        """Channels of a token after :meth:`head`."""
        return self.size.output or self.size.width

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of an image [B, 3, H, W]; rest pixels at the right and bottom are not seen."""
        rows, columns = (side // self.size.patch for side in image.shape[-2:])
        if rows == 0 or columns == 0:
            height, width = image.shape[-2:]
            raise ZsadError(f"an image of {height} x {width} pixels is smaller than one patch of {self.size.patch}")
        return rows, columns

    def embed(self, image: Tensor, extra: Tensor | None = None, resize: str | None = None) -> Tensor:
        """Tokens before the first block.

        Args:
            image: [B, 3, H, W], normalised.
            extra: [E, D] or [B, E, D] tokens put before CLS; they get no position.
            resize: How positions are resized to another grid than the trained one; None = as the model's own code.

        Returns:
            [B, E + 1 + registers + rows*columns, D].
        """
        positions = resize_positions(self.positions, self.grid(image), resize or self.size.resize)
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(patches), 1, -1), patches], dim=1) + positions
        if self.registers is not None:
            x = torch.cat([x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        if extra is not None:
            x = torch.cat([extra.expand(len(x), -1, -1), x], dim=1)
        return self.norm_pre(x)  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> Tensor:
        """The projection alone, [..., D] -> [..., output]; the input where the model has none."""
        return x if self.proj is None else x @ self.proj

    def head(self, x: Tensor) -> Tensor:
        """Final norm and projection, token by token; [..., D] -> [..., output]."""
        return self.project(self.norm(x))

    def patches(self, x: Tensor) -> Tensor:
        """The patch tokens of [B, 1 + registers + n, D] (no extra tokens): [B, n, D]."""
        return x[:, 1 + self.size.registers :]
