"""From the names of a published file to ours, strict both ways, and the sizes that can be read from the tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zsad.backbones.vit import ACTIVATIONS
from zsad.errors import ZsadError, unknown

_BLOCK_NUMBER = re.compile(r"(?:\.\d+)+(?=\.)")  # of `blocks.0.7.norm1` (blocks in chunks) the last number counts
_PARTS = ("q", "k", "v")


@dataclass(frozen=True)
class KeyTable:
    """How one kind of file names the tensors of a backbone.

    `{i}` in a name is the number of a block. Our name may end in a mark: `/q`, `/k`, `/v` are the three parts of one
    packed tensor, `/T` is stored transposed.
    """

    kind: str  # for messages
    marker: str  # a tensor that every such file has, and no other kind
    names: tuple[tuple[str, str], ...]  # (name in the file, our name)
    unneeded: tuple[str, ...] = ()  # tensors in such files that inference does not need
    wrapping: tuple[str, ...] = ()  # prefixes that some writers put before the names

    def unwrapped(self, name: str) -> str:
        """A name of the file without the prefixes of its writer."""
        for prefix in self.wrapping:
            name = name.removeprefix(prefix)
        return name

    def template(self, name: str) -> tuple[str, str]:
        """A name of the file, unwrapped and with `{i}` for the number of the block, and that number."""
        name = self.unwrapped(name)
        found = _BLOCK_NUMBER.search(name)
        number = found.group().rpartition(".")[2] if found else ""
        return _BLOCK_NUMBER.sub(".{i}", name), number

    def fits(self, names: Iterable[str]) -> bool:
        """Whether these are the tensors of a file of this kind."""
        return any(self.template(name)[0] == self.marker for name in names)

    def theirs(self, ours: str) -> list[str]:
        """What the file calls one of our tensors: one name, or three where we pack q, k and v."""
        number = _BLOCK_NUMBER.search(ours)
        wanted = _BLOCK_NUMBER.sub(".{i}", ours)
        found = [theirs for theirs, name in self.names if name.partition("/")[0] == wanted]
        return [name.replace("{i}", number.group()[1:] if number else "") for name in found] or [ours]


def pair(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Both rows of a layer that has a weight and a bias.

    >>> pair("self_attn.q_proj", "in_proj/q")[1]
    ('self_attn.q_proj.bias', 'in_proj.bias/q')
    """
    name, slash, mark = ours.partition("/")
    return tuple((f"{theirs}.{end}", f"{name}.{end}{slash}{mark}") for end in ("weight", "bias"))


def within(theirs: str, ours: str, *rows: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Rows under a common prefix on each side."""
    return tuple((theirs + source, ours + name) for row in rows for source, name in row)


class Checkpoint:
    """The tensors of a file under our names.

    Args:
        table: The kind of file.
        state: Its tensors.
        source: What the messages call it.

    Raises:
        ZsadError: If it has a tensor that the table does not know.
    """

    def __init__(self, table: KeyTable, state: Mapping[str, Tensor], source: str) -> None:
        self.table, self.source = table, source
        self.present = {table.unwrapped(name) for name in state}
        ours = dict(table.names)
        found: dict[str, dict[str, Tensor]] = {}
        leftover: list[str] = []
        for name, tensor in state.items():
            template, number = table.template(name)
            target, _, mark = ours.get(template, "").replace("{i}", number).partition("/")
            if target and mark not in found.setdefault(target, {}):
                found[target][mark] = tensor
            elif target or template not in table.unneeded:
                leftover.append(name)
        self.require(unexpected=leftover)
        self.tensors = {name: _joined(parts) for name, parts in found.items() if _whole(parts)}

    def require(self, missing: Iterable[str] = (), unexpected: Iterable[str] = (), shapes: Iterable[str] = ()) -> None:
        """Raise one error with up to five of each kind of misfit, unless there is none; `missing` are our names."""
        theirs = [name for ours in missing for name in self.table.theirs(ours) if name not in self.present]
        lines = [
            f"  {what} ({len(names)}): {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for what, names in (("missing", theirs), ("not expected", list(unexpected)), ("other shape", list(shapes)))
            if names
        ]
        if lines:
            hint = "  The file may be incomplete or of another architecture; `zsad weights list` shows what fits."
            raise ZsadError("\n".join([f"{self.source} does not fit {self.table.kind}:", *lines, hint]))

    def shape(self, name: str) -> torch.Size:
        """The shape of one of our tensors, without leading axes of length 1."""
        if name not in self.tensors:
            self.require(missing=[name])
        return _bare(self.tensors[name].shape)

    def depth(self, tower: str) -> int:
        """Number of blocks of a tower, "visual" or "text"."""
        numbers = (re.match(rf"{tower}\.blocks\.(\d+)\.", name) for name in self.tensors)
        return 1 + max((int(found.group(1)) for found in numbers if found), default=-1)

    def side(self, name: str = "visual.positions") -> int:
        """Patches per side of the position embedding, whose first row belongs to CLS."""
        rows = self.shape(name)[0]
        side = math.isqrt(rows - 1)
        if side**2 != rows - 1:
            raise ZsadError(f"{self.source}: {rows} positions are not 1 + a square; only square grids are known")
        return side

    def fill(self, model: nn.Module) -> None:
        """Put the tensors into a model, as float32. The model's own values, which may be on "meta", are dropped."""
        wanted = model.state_dict()
        both = [name for name in wanted if name in self.tensors]
        self.require(
            missing=[name for name in wanted if name not in self.tensors],
            unexpected=[their for ours in self.tensors if ours not in wanted for their in self.table.theirs(ours)],
            shapes=[
                f"{self.table.theirs(name)[0]} {tuple(self.tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
                for name in both
                if _bare(self.tensors[name].shape) != _bare(wanted[name].shape)
            ],
        )
        state = {name: self.tensors[name].reshape(wanted[name].shape).to(torch.float32) for name in wanted}
        model.load_state_dict(state, strict=True, assign=True)


def _whole(parts: Mapping[str, Tensor]) -> bool:
    return not set(parts) & set(_PARTS) or set(parts) == set(_PARTS)


def _joined(parts: Mapping[str, Tensor]) -> Tensor:
    """One tensor of its marked parts."""
    if "T" in parts:
        return parts["T"].T.contiguous()
    return parts[""] if "" in parts else torch.cat([parts[part] for part in _PARTS])


def _bare(shape: torch.Size) -> torch.Size:
    """A shape without leading axes of length 1, which published files have before CLS, positions and registers."""
    first = next((axis for axis, length in enumerate(shape) if length != 1), len(shape))
    return shape[first:]


def checked_activation(name: str, known: Iterable[str] = ACTIVATIONS) -> str:
    """The name of an activation that a block can have."""
    if name not in known:
        raise unknown("activation", name, known, "known: " + ", ".join(known))
    return name


def checked_heads(width: int, heads: int, source: str) -> int:
    """A number of heads that divides the width."""
    if heads < 1 or width % heads:
        raise ZsadError(f"{source}: {heads} heads do not divide a width of {width}; check config.json")
    return heads
