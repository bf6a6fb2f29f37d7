"""The table of categories: which half each belongs to, its words, its generator and what can happen to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from . import auxiliary_objects as ao
from . import auxiliary_textures as at
from . import unseen_objects as uo
from . import unseen_textures as ut
from .noise import Canvas, Scene

Half = Literal["auxiliary", "unseen"]
Kind = Literal["texture", "object"]


@dataclass(frozen=True)
class Category:
    """One kind of thing."""

    name: str
    prompt: str  # words for captions and prompts
    half: Half
    kind: Kind
    draw: Callable[[Canvas], Scene]
    defects: tuple[str, ...]


_MARKS = ("scratch", "crack", "hole", "stain", "foreign_body", "colour_shift", "contamination")
_BROKEN = (*_MARKS, "missing_part")


def _row(half: Half, kind: Kind, prompt: str, draw: Callable[[Canvas], Scene], *defects: str) -> Category:
    return Category(draw.__name__, prompt, half, kind, draw, defects)


_TABLE = (
    _row("auxiliary", "texture", "woven fabric", at.woven_fabric, *_MARKS, "bend", "scuff"),
    _row("auxiliary", "texture", "brushed metal", at.brushed_metal, *_MARKS, "dent", "scuff"),
    _row("auxiliary", "texture", "granite", at.granite, *_MARKS, "scuff", "dent"),
    _row("auxiliary", "texture", "leather", at.leather, *_MARKS, "scuff", "dent"),
    _row("auxiliary", "texture", "ceramic tiles", at.ceramic_tiles, *_BROKEN, "bend", "scuff", "dent"),
    _row("auxiliary", "texture", "wire grid", at.wire_grid, "missing_part", "bend", "foreign_body", "colour_shift"),
    _row("auxiliary", "texture", "cork", at.cork, *_MARKS, "scuff", "dent"),
    _row("auxiliary", "object", "gear", ao.gear, *_BROKEN, "bend", "dent", "scuff"),
    _row("auxiliary", "object", "washer", ao.washer, *_BROKEN, "bend", "dent", "scuff"),
    _row("auxiliary", "object", "capsule", ao.capsule, *_BROKEN, "bend", "dent", "scuff"),
    _row("auxiliary", "object", "circuit board", ao.circuit_board, *_BROKEN, "bend", "scuff"),
    _row(
        "auxiliary",
        "object",
        "screw",
        ao.screw,
        "scratch",
        "stain",
        "missing_part",
        "foreign_body",
        "bend",
        "colour_shift",
    ),
    _row("auxiliary", "object", "bottle cap", ao.bottle_cap, *_BROKEN, "bend", "dent", "scuff"),
    _row("auxiliary", "object", "biscuit", ao.biscuit, *_BROKEN, "bend", "scuff"),
    _row("unseen", "texture", "wood planks", ut.wood_planks, *_MARKS, "dent", "scuff", "burn", "thread"),
    _row("unseen", "texture", "marble", ut.marble, *_MARKS, "scuff", "burn", "thread"),
    _row("unseen", "texture", "knitted wool", ut.knit, *_MARKS, "bend", "burn", "thread"),
    _row(
        "unseen",
        "texture",
        "hexagon mesh",
        ut.hexagon_mesh,
        "missing_part",
        "bend",
        "foreign_body",
        "colour_shift",
        "thread",
    ),
    _row("unseen", "texture", "concrete", ut.concrete, *_MARKS, "dent", "scuff", "burn", "thread"),
    _row("unseen", "object", "hexagon nut", uo.hex_nut, *_BROKEN, "bend", "dent", "scuff", "thread"),
    _row("unseen", "object", "key", uo.key, *_BROKEN, "bend", "scuff", "thread"),
    _row("unseen", "object", "button", uo.button, *_BROKEN, "bend", "dent", "scuff", "burn", "thread"),
    _row("unseen", "object", "blister pack", uo.blister, *_BROKEN, "bend", "dent", "burn", "thread"),
    _row("unseen", "object", "leaf", uo.leaf, *_BROKEN, "bend", "burn", "thread"),
)

CATEGORIES: dict[str, Category] = {category.name: category for category in _TABLE}
