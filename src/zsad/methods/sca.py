"""Spatial-aware cross-attention of VisualAD (Sec. 3.2), and the six ways to tell it where a patch is (Table 5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.errors import ZsadError

POSITIONS = ("none", "learnable-1d", "fixed-1d", "learnable-2d", "fixed-2d", "relative-2d")


def waves(places: Tensor, width: int) -> Tensor:
    """Sinusoids of places [N], wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017, Sec. 3.5): [N, width].

    >>> waves(torch.arange(3.0), 4)[0]
    tensor([0., 0., 1., 1.])
    """
    half = -(-width // 2)
    rates = 10_000 ** (-torch.arange(half, device=places.device) / half)
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width]


class Positions(nn.Module):
    """Where the patches are; docs/methods/visualad.md defines the six ways.

    Args:
        kind: Of :data:`POSITIONS`.
        width: Channels of a patch.
        length: Rows of the learnable 1D table; tables of 2D have its root per side.
        anchors: Number of anchors, which have learned places in "relative-2d".
    """

    def __init__(self, kind: str, width: int, length: int, anchors: int) -> None:
        super().__init__()
        self.kind, self.width, side = kind, width, math.isqrt(length)
        shapes = {
            "learnable-1d": (length, width),
            "learnable-2d": (2, width // 2, side),
            "relative-2d": (1, 2 * side - 1, 2 * side - 1),
        }
        self.table = nn.Parameter(torch.randn(shapes[kind]) * 0.02) if kind in shapes else None
        self.places = nn.Parameter(torch.rand(anchors, 2)) if kind == "relative-2d" else None

    def add(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches [B, n, D] of a grid of rows and columns, each with its position added (Eq. 2).

        Raises:
            ZsadError: If there are more patches than rows in the learnable 1D table.
        """
        if self.kind in ("none", "relative-2d"):
            return patches
        if self.kind.endswith("1d"):
            return patches + self._of_index(patches)
        rows, columns = (self._of_side(axis, n, patches.device) for axis, n in enumerate(grid))
        encoding = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns.expand(grid[0], -1, -1)], -1)
        return patches + encoding.flatten(0, 1)

    def _of_index(self, patches: Tensor) -> Tensor:
        """[n, D] by the number of the patch."""
        count = patches.shape[1]
        if self.table is None:
            return waves(torch.arange(count, device=patches.device), self.width)
        if count > len(self.table):
            raise ZsadError(
                f"{count} patches, but learnable positions for {len(self.table)}: take smaller images, "
                f"or train with position_length={count} or positions=learnable-2d"
            )
        return self.table[:count]

    def _of_side(self, axis: int, count: int, device: torch.device) -> Tensor:
        """[count, D / 2] by the number of the row (axis 0) or of the column (axis 1)."""
        if self.table is None:
            return waves(torch.arange(count, device=device), self.width // 2)
        return F.interpolate(self.table[axis : axis + 1], count, mode="linear")[0].T

    def bias(self, grid: tuple[int, int]) -> Tensor | None:
        """What is added to the logits of each anchor, [m, n]: a learned function of the way from it to the patch."""
        if self.table is None or self.places is None:
            return None
        sides = [(torch.arange(n, device=self.places.device) + 0.5) / n for n in grid]
        patches = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1)
        ways = (patches - self.places[:, None, None]).flip(-1)  # [m, rows, columns, 2], x first, in -1..1
        table = self.table.expand(len(ways), 1, -1, -1)
        return F.grid_sample(table, ways, padding_mode="border", align_corners=True).flatten(1)


class SCA(nn.Module):
    """A few anchors look at one layer's patches; each token takes from them what its gate lets through.

    Args:
        width: Channels of a token.
        positions: Where the patches are.
        anchors: Number of anchor queries m.
        projections: Whether q, k, v and the output are projected, q and k normalised, and the gate biased, as released;
            without, Eqs. 3 to 5 as printed.
        scale: Where alpha of Eq. 5 starts.
        dropout: Of the attention and of the output, in training.
    """

    def __init__(
        self, width: int, positions: Positions, anchors: int, projections: bool, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.positions = positions
        self.anchors = nn.Parameter(torch.randn(anchors, width) * 0.02)
        self.q_proj, self.k_proj, self.v_proj = (linear(width, False) if projections else nn.Identity() for _ in "qkv")
        self.q_norm = nn.LayerNorm(width) if projections else nn.Identity()
        self.k_norm = nn.LayerNorm(width, bias=False) if projections else nn.Identity()
        self.gate = nn.Linear(width, anchors, projections)
        self.out_proj = linear(width) if projections else nn.Identity()
        self.scale = nn.Parameter(torch.full((1,), scale))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B, T, D] enhanced by patches [B, n, D] of a grid of rows and columns: [B, T, D]."""
        q = self.q_norm(self.q_proj(self.anchors)).expand(len(patches), -1, -1)
        k = self.k_norm(self.k_proj(self.positions.add(patches, grid)))  # Eq. 2
        lost = self.dropout.p if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, self.v_proj(patches), self.positions.bias(grid), lost)  # Eq. 3
        gates = self.gate(tokens).sigmoid()  # Eq. 4: [B, T, m]
        enhanced: Tensor = tokens + self.scale * self.dropout(self.out_proj(gates @ seen))  # Eq. 5
        return enhanced


def linear(width: int, bias: bool = True) -> nn.Linear:
    """A square linear map that starts as in the released code: Xavier's uniform weights, no bias."""
    made = nn.Linear(width, width, bias)
    nn.init.xavier_uniform_(made.weight)
    if bias:
        nn.init.zeros_(made.bias)
    return made
