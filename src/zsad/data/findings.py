"""What a check of a dataset has found, for a person and for a program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from zsad.data.catalog import Count
from zsad.data.found import DUPLICATE, EMPTY_MASK, Problem, shown, told

ACROSS_SPLITS = "files with the same content in several splits"
OTHER_LABEL = "files with the same content and different labels"
DUPLICATES = (DUPLICATE, ACROSS_SPLITS, OTHER_LABEL)  # the worst last
MOST_MARKED = "masks that mark more than half of their image"
FAINT = "masks with values between black and white; --read mask_above=127 leaves faint pixels out"
TWICE = "many files are there twice"

#: What published datasets have as well: worth knowing, but a user cannot put it right. An anomalous image with an empty
#: mask is one in everybody's numbers: anomalous for the image metrics, without anomalous pixels for the others.
#: All that commands refuse, see :func:`zsad.data.found.must_be_sound`, is wrong.
TOLD_ONLY = frozenset({DUPLICATE, EMPTY_MASK, MOST_MARKED, FAINT})

UNLABELLED = "no image has a label: there will be no metrics"


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
        """Whether somebody counted the same, nobody counted, or it is not there and not what is tested."""
        absent = self.normal == self.anomalous == 0 and self.split != "test"
        return bool(self.sources) or self.nearest is None or absent


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
    limits: tuple[str, ...] = ()  # what cannot be evaluated, though it may be as it should be
    files: int = 0  # of images

    @property
    def copies(self) -> list[tuple[Path, Path]]:
        """Files beyond the first with their content, and the first, where neither split nor label differs."""
        return [(path, own.paths[0]) for own in self.duplicates if own.kind == DUPLICATE for path in own.paths[1:]]

    @property
    def twice(self) -> bool:
        """Whether more than a third of the files are copies, and it is not a dataset that others counted the same."""
        return 3 * len(self.copies) > self.files and not any(match.sources for match in self.matches)

    @property
    def reasons(self) -> list[str]:
        """What is wrong, in a few words each; TOLD_ONLY is not."""
        kinds = [problem.kind for problem in self.problems] + [same.kind for same in self.duplicates]
        found = {
            "no images": not self.tallies,
            "other counts than expected": not all(match.right for match in self.matches),
            "missing classes": bool(self.missing_classes),
            TWICE: self.twice,
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
        said = [] if self.tallies else [(True, "no images")]
        said += [(not match.right, f"{match.split}: {_compared(match)}") for match in self.matches]
        for wrong, what, names in ((True, "missing", self.missing_classes), (False, "unknown", self.unknown_classes)):
            said += [(wrong, f"{what} classes ({len(names)}): {', '.join(names)}")] if names else []
        said += [(True, f"{TWICE}: {self._folders(root, most)}")] if self.twice else []
        said += self._by_kind(root, most)
        for note in self.notes:
            many = f"{note.files:,} files, first" if note.files > 1 else "1 file,"
            said.append((False, f"{note.rule}: {many} {shown(note.first, root)}"))
        said += [(False, limit) for limit in self.limits]
        said.sort(key=lambda line: not line[0])
        verdict = self._verdict(sum(wrong for wrong, _ in said))
        return [*(f"{'wrong' if wrong else 'note'}: {line}" for wrong, line in said), verdict]

    def _by_kind(self, root: Path | None, most: int) -> Iterator[tuple[bool, str]]:
        problems = [*self.problems, *(copy for same in self.duplicates for copy in _copies(same, root))]
        for kind in dict.fromkeys(problem.kind for problem in problems):
            own = [problem for problem in problems if problem.kind == kind]
            names = told(own, root, most)[0].partition(": ")[2]
            if not (kind == DUPLICATE and self.twice):
                yield kind not in TOLD_ONLY, f"{kind} ({len(own):,}): {names}"

    def _folders(self, root: Path | None, most: int) -> str:
        """How many files are copies, and which folders hold what others hold."""
        pairs = Counter((copy.parent, first.parent) for copy, first in self.copies)
        named = [f"{n:,} of {shown(b, root)} in {shown(a, root)}" for (a, b), n in pairs.most_common(most)]
        return f"{len(self.copies):,} of {self.files:,} are copies: {', '.join(named)}" + (
            f" and {len(pairs) - most} more" if len(pairs) > most else ""
        )

    def _verdict(self, wrong: int) -> str:
        if wrong:
            return "1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong"
        if UNLABELLED in self.limits:
            return "nothing is wrong with the files; without labels there is nothing to evaluate"
        if self.limits:
            return "nothing is wrong with the files; the notes say what cannot be evaluated"
        return "nothing is wrong"

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
