"""What was found in a folder or a table: samples, how they were understood, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from zsad.errors import ZsadError
from zsad.types import Sample

MISSING_IMAGE = "images that are named but not there"
MISSING_MASK = "anomalous images without a mask"
SPARE_MASK = "masks without an anomalous image"
SAME_NAME = "files with one name up to the suffix"
UNKNOWN_LABEL = "labels that are neither normal nor anomalous"
CONTRADICTION = "labels that their folder contradicts"
OTHER_SIZE = "masks of another size than their image"
EMPTY_MASK = "anomalous images with an empty mask"
UNREADABLE = "files that cannot be read"
DUPLICATE = "files with the same content"
IGNORED = "images that belong to nothing"  # in folders whose meaning is not known


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file."""

    kind: str  # one of the constants above
    path: Path
    note: str = ""  # what came, what was expected; "" where kind and path say it


@dataclass(frozen=True)
class Found:
    """The samples of all splits, in natural order of class, defect and file name within a split."""

    samples: list[Sample]
    understood: str  # one sentence: which layout, and what told it
    problems: list[Problem] = field(default_factory=list)
    dataset: str = ""  # name of the row of the catalog that it was recognised as, "" for any other folder


#: A folder to its samples, or None where the folder does not have this layout. It reads names, not pixels, unless
#: it says so, and never raises over what is in the folder: that goes into `problems`.
Layout = Callable[[Path], Found | None]


def told(problems: Iterable[Problem], root: Path | None = None, most: int = 5) -> list[str]:
    """One line per kind of problem: how many, and the first few by name, relative to `root` where that is possible.

    >>> told([Problem(MISSING_MASK, Path("set/1.png")), Problem(MISSING_MASK, Path("set/2.png"))], Path("set"), most=1)
    ['anomalous images without a mask (2): 1.png and 1 more']
    """
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        name = shown(problem.path, root)
        kinds.setdefault(problem.kind, []).append(f"{name} ({problem.note})" if problem.note else name)
    return [
        f"{kind} ({len(names)}): {', '.join(names[:most])}" + (f" and {len(names) - most} more" if names[most:] else "")
        for kind, names in kinds.items()
    ]


def shown(path: Path, root: Path | None) -> str:
    """A path as seen from `root`, or as it is where it does not lie there."""
    return str(path.relative_to(root) if root is not None and path.is_relative_to(root) else path)


def must_be_sound(found: Found, root: Path) -> list[Sample]:
    """The samples, where nothing is wrong with them.

    Raises:
        ZsadError: Naming what is wrong.
    """
    if found.problems:
        advice = "add, rename or remove files; zsad data index writes a list of what can be used"
        if any(problem.kind == UNKNOWN_LABEL for problem in found.problems):
            advice = "write labels as 0 and 1, normal and anomalous, or good and bad; or leave the column out"
        raise ZsadError("\n  ".join([f"{root}: {found.understood}, but", *told(found.problems, root), advice]))
    return found.samples
