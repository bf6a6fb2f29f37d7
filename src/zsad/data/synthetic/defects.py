"""The table of defects. Each takes a clean scene and returns the damaged one; the mask is their difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import damage, marks
from .brush import Brush
from .noise import Scene

Draw = Callable[[Scene, Brush], Scene]


@dataclass(frozen=True)
class Defect:
    """A kind of damage: how it is drawn and what people call it."""

    name: str
    draw: Draw
    words: tuple[str, ...]  # with their article, for captions
    unseen_only: bool = False


_TABLE = (
    Defect("scratch", marks.scratch, ("a scratch", "a scratched surface", "scratches")),
    Defect("crack", marks.crack, ("a crack", "a fracture", "a cracked surface")),
    Defect("hole", damage.hole, ("a hole", "a puncture", "an opening")),
    Defect("stain", marks.stain, ("a stain", "a spot of dirt", "a liquid stain")),
    Defect("missing_part", damage.missing_part, ("a missing part", "a broken part", "a piece missing")),
    Defect("foreign_body", damage.foreign_body, ("a foreign body", "a foreign object", "something foreign on it")),
    Defect("colour_shift", marks.colour_shift, ("a discoloration", "a wrong color", "a faded patch")),
    Defect("bend", damage.bend, ("a bend", "a deformation", "a distorted part")),
    Defect("dent", damage.dent, ("a dent", "a bump", "a hollow")),
    Defect("contamination", marks.contamination, ("contamination", "dust", "dirt particles")),
    Defect("scuff", marks.scuff, ("a scuff", "a worn patch", "abrasion")),
    Defect("thread", damage.thread, ("a thread", "a loose fibre", "a hair"), unseen_only=True),
    Defect("burn", marks.burn, ("a burn", "a scorched patch", "a burn mark"), unseen_only=True),
)

DEFECTS: dict[str, Defect] = {defect.name: defect for defect in _TABLE}
