"""A layout of an inner folder, for archives that hold other datasets as well, or the same images twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zsad.data.files import folders, one_of
from zsad.data.found import Found, Layout


def inside(root: Path, *, layout: Layout, names: Sequence[str]) -> Found | None:
    """A layout of the folder with one of some names, one in the other, where there is one; else of the root.

    Args:
        root: The folder to begin in; what else is in it is left out.
        layout: Reads the folder.
        names: In any case; of several that are there the first counts.
    """
    there = [name for (name,) in folders(root, deep=1)]
    inner = next((name for wanted in names for name in there if one_of(name, [wanted])), None)
    return inside(root / inner, layout=layout, names=names) if inner else layout(root)
