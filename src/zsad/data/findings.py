"""What a check of a dataset has found, for a person and for a program."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zsad.data.catalog import Count
from zsad.data.found import DUPLICATE, EMPTY_MASK, IGNORED, Problem, shown, told

ACROSS_SPLITS = "files with the same content in several splits"
OTHER_LABEL = "files with the same content and different labels"
DUPLICATES = (DUPLICATE, ACROSS_SPLITS, OTHER_LABEL)  # the worst last

#: What published datasets have as well: worth knowing, but a user cannot put it right. An anomalous image with an empty
#: mask is one in everybody's numbers: anomalous for the image metrics, without anomalous pixels for the others.
TOLD_ONLY = frozenset({DUPLICATE, EMPTY_MASK, IGNORED})


@dataclass(frozen=True)
class Tally:
    """How many samples of a class there are in a split."""

    split: str
    class_name: str
    normal: int
    anomalous: int
    unlabelled: int
    masks: int


@dataclass(frozen=True)
class Match:
    """The images of a split beside what others counted."""

    split: str
    normal: int
    anomalous: int
    nearest: Count | None  # None where nobody counted this split
    sources: tuple[str, ...]  # whose counts are equal

    @property
    def right(self) -> bool:
        """Whether somebody counted the same, or nobody counted."""
        return bool(self.sources) or self.nearest is None


@dataclass(frozen=True)
class Note:
    """A rule of reading that is worth a word, see :mod:`zsad.data.decoding.rules`."""

    rule: str
    files: int  # that it was applied to
    first: Path


@dataclass(frozen=True)
class Same:
    """Image files with the same bytes; a single path is listed more than once."""

    kind: str  # DUPLICATE, ACROSS_SPLITS or OTHER_LABEL, the worst that is true
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Report:
    """What :func:`zsad.data.check.check` has found."""

    dataset: str  # the row that was compared with, "" without one
    understood: str  # as in Found
    tallies: tuple[Tally, ...]
    matches: tuple[Match, ...]  # a row's splits, then others; none without a row, or where nobody counted
    missing_classes: tuple[str, ...]  # of the row, where it has several
    unknown_classes: tuple[str, ...]  # that the row does not have
    problems: tuple[Problem, ...]  # those of Found first
    duplicates: tuple[Same, ...]
    notes: tuple[Note, ...]

    @property
    def reasons(self) -> list[str]:
        """What is wrong, in a few words each; TOLD_ONLY is not."""
        kinds = [problem.kind for problem in self.problems] + [same.kind for same in self.duplicates]
        found = {
            "no images": not self.tallies,
            "other counts than expected": not all(match.right for match in self.matches),
            "missing classes": bool(self.missing_classes),
            **{kind: kind not in TOLD_ONLY for kind in kinds},
        }
        return [reason for reason, wrong in found.items() if wrong]

    @property
    def wrong(self) -> bool:
        """Whether it is not the whole and sound dataset."""
        return bool(self.reasons)

    def lines(self, root: Path | None = None, most: int = 5) -> list[str]:
        """A line for each finding, what is wrong before what is only told, and the verdict last.

        Args:
            root: Files below it are named from there.
            most: Files of a kind that are named.
        """
        said = [(not match.right, f"{match.split}: {_compared(match)}") for match in self.matches]
        for wrong, what, names in ((True, "missing", self.missing_classes), (False, "unknown", self.unknown_classes)):
            said += [(wrong, f"{what} classes ({len(names)}): {', '.join(names)}")] if names else []
        problems = [*self.problems, *(copy for same in self.duplicates for copy in _copies(same, root))]
        for kind in dict.fromkeys(problem.kind for problem in problems):
            own = (problem for problem in problems if problem.kind == kind)
            said += [(kind not in TOLD_ONLY, line) for line in told(own, root, most)]
        for note in self.notes:
            many = f"{note.files:,} files, first" if note.files > 1 else "1 file,"
            said.append((False, f"{note.rule}: {many} {shown(note.first, root)}"))
        verdict = f"wrong: {'; '.join(self.reasons)}" if self.wrong else "nothing is wrong"
        said.sort(key=lambda line: not line[0])
        return [*(f"{'wrong' if wrong else 'note'}: {line}" for wrong, line in said), verdict]

    def to_json(self) -> str:
        """Everything, as one JSON object; paths as they were given."""
        return json.dumps({**asdict(self), "wrong": self.wrong, "reasons": self.reasons}, indent=2, default=str)


def _copies(same: Same, root: Path | None) -> list[Problem]:
    """A problem for each file beyond the first."""
    first, *others = same.paths
    copies = [Problem(same.kind, path, f"as {shown(first, root)}") for path in others]
    return copies or [Problem(same.kind, first, "listed more than once")]


def _compared(match: Match) -> str:
    counted = f"{match.normal:,} normal, {match.anomalous:,} anomalous"
    if match.nearest is None:
        return f"{counted}; the catalog has no count of this split"
    if match.sources:
        return f"{counted}, as in {'; '.join(match.sources)}"
    lack = {"normal": match.nearest.normal - match.normal, "anomalous": match.nearest.anomalous - match.anomalous}
    off = " and ".join(f"{abs(n):,} {kind} {'missing' if n > 0 else 'too many'}" for kind, n in lack.items() if n)
    expected = f"{match.nearest.normal:,} and {match.nearest.anomalous:,}"
    return f"{counted}; expected {expected} ({match.nearest.source}): {off}"
