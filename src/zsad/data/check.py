"""What is wrong with a dataset, file by file: all is decoded, measured, and compared with what others counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zsad.data.catalog import Count, Dataset
from zsad.data.contents import file_sha256
from zsad.data.files import part_rows
from zsad.data.findings import (
    ACROSS_SPLITS,
    DUPLICATES,
    FAINT,
    MOST_MARKED,
    OTHER_LABEL,
    UNLABELLED,
    Match,
    Note,
    Report,
    Same,
    Tally,
)
from zsad.data.found import DUPLICATE, EMPTY_MASK, MISSING_IMAGE, OTHER_SIZE, UNREADABLE, Found, Problem
from zsad.data.images import decode, read_mask
from zsad.data.reading import Reading
from zsad.data.workers import ordered
from zsad.errors import ZsadError
from zsad.types import Sample

Job = tuple[Sample, ...]  # of one image file
Look = Callable[[Job], "Seen"]


class Seen(NamedTuple):
    """What a look at an image file and its masks gave."""

    digest: str = ""  # hexadecimal SHA-256, "" where the image cannot be read
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def check(
    found: Found,
    row: Dataset | None = None,
    reading: Reading = Reading(),
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Decode every file of a dataset and compare it with its row of the catalog.

    A file that several samples share is decoded once. Kept in memory are a few hundred bytes for every file.

    Args:
        found: The dataset.
        row: What is expected; None checks what can be checked in any folder.
        reading: How files are read.
        workers: Processes that decode. A file that ends its process is told, and the others are read; with 0 it would
            end this one.
        progress: Called after every image file, with the number of samples that it holds.
    """
    jobs, seen = _by_file(found.samples), list[Seen]()
    for job, one in zip(jobs, looks(partial(look, reading=reading), jobs, workers), strict=True):
        seen.append(one)
        if progress:
            progress(len(job))
    classes = dict.fromkeys(sample.class_name for sample in found.samples)
    expected = row.classes if row and len(row.classes) > 1 else classes
    return Report(
        dataset=row.name if row else "",
        understood=found.understood,
        tallies=tuple(_tallies(found.samples)),
        matches=tuple(_matches(found.samples, row.counts)) if row else (),
        missing_classes=tuple(name for name in expected if name not in classes),
        unknown_classes=tuple(name for name in classes if name not in expected),
        problems=tuple(_problems(found.problems, seen)),
        duplicates=tuple(_duplicates(jobs, seen)),
        notes=tuple(_notes(jobs, seen)),
        limits=tuple(_limits(found.samples, row.metrics if row else ("image", "pixel"))),
        files=len(jobs),
    )


def look(samples: Job, reading: Reading) -> Seen:
    """Read an image file and the masks of all samples in it; it raises nothing over a file."""
    path, digest, size = samples[0].image, "", None
    notes: tuple[str, ...] = ()
    problems: list[Problem] = []
    try:
        decoded = decode(path, reading)
        digest, size, notes = file_sha256(path), decoded.image.size, decoded.notes
    except (ZsadError, OSError) as error:
        problems.append(_unreadable(path, error))
    for mask in dict.fromkeys(sample.mask for sample in samples):
        if mask is not None:
            problems += _mask_problems(mask, [sample for sample in samples if sample.mask == mask], size, reading)
    return Seen(digest, notes, tuple(problems))


def looks(look: Look, jobs: Sequence[Job], workers: int) -> Iterator[Seen]:
    """A look at each job, in order; one over which its process ends is tried again alone, then told."""
    done = 0
    while done < len(jobs):
        try:
            for seen in ordered(look, jobs[done:], workers, ahead=8 * workers):
                done += 1
                yield seen
        except ZsadError:
            yield _alone(look, jobs[done])
            done += 1


def _alone(look: Look, job: Job) -> Seen:
    try:
        return next(ordered(look, [job], workers=1, ahead=1))
    except ZsadError as error:
        return Seen(problems=(Problem(UNREADABLE, job[0].image, f"tried twice: {str(error).partition(';')[0]}"),))


def _by_file(samples: Iterable[Sample]) -> list[Job]:
    jobs: dict[Path, list[Sample]] = {}
    for sample in samples:
        jobs.setdefault(sample.image, []).append(sample)
    return [tuple(job) for job in jobs.values()]


def _mask_problems(
    path: Path, samples: Iterable[Sample], size: tuple[int, int] | None, reading: Reading
) -> Iterator[Problem]:
    """What is wrong with a mask of samples of one image; `size` is the image's (width, height), upright."""
    try:
        mask = read_mask(path, reading=reading)
    except ZsadError as error:
        yield _unreadable(path, error)
        return
    height, width = mask.shape
    if size not in (None, (width, height)):
        yield Problem(OTHER_SIZE, path, f"{width} x {height}, its image {' x '.join(map(str, size or ()))}")
    if (share := mask.mean()) > 0.5:
        yield Problem(MOST_MARKED, path, f"{share:.0%}")
    if mask.any() and _is_faint(path, mask, reading):
        yield Problem(FAINT, path)
    for sample in samples:
        if sample.label == 1 and not mask[part_rows(height, sample.part)].any():
            part = "part {} of {}".format(*sample.part) if sample.part else ""
            yield Problem(EMPTY_MASK, sample.image, part)


def _is_faint(path: Path, mask: NDArray[np.bool_], reading: Reading) -> bool:
    """Whether some marked pixels are nearly black, others nearly white: JPEG and smoothing leave such, indices do not.

    Small values alone are the numbers of kinds of defects, as in VisA.
    """
    if not read_mask(path, reading=replace(reading, mask_above=200)).any():
        return False
    return bool((mask & ~read_mask(path, reading=replace(reading, mask_above=30))).any())


def _unreadable(path: Path, error: Exception) -> Problem:
    return Problem(UNREADABLE, path, str(error).removeprefix(f"{path}: "))


def _tallies(samples: Iterable[Sample]) -> Iterator[Tally]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.split, sample.class_name), []).append(sample)
    for (split, name), own in groups.items():
        labels = Counter(sample.label for sample in own)
        masks = sum(sample.mask is not None for sample in own)
        yield Tally(split, name, labels[0], labels[1], labels[None], masks)


def _limits(samples: Sequence[Sample], metrics: Sequence[str]) -> Iterator[str]:
    """What of `metrics` the test split, or all where there is none, has no truth for: of all classes, or of which."""
    classes: dict[str, list[Sample]] = {}
    for sample in [sample for sample in samples if sample.split == "test"] or samples:
        classes.setdefault(sample.class_name, []).append(sample)
    limits: dict[str, list[str]] = {}
    for name, own in classes.items():
        for limit in _class_limits(own, metrics):
            limits.setdefault(limit, []).append(name)
    for limit, names in limits.items():
        named = ", ".join(names[:5]) + (f" and {len(names) - 5} more classes" if names[5:] else "")
        yield limit if len(names) == len(classes) else f"{named}: {limit}"


def _class_limits(samples: Sequence[Sample], metrics: Sequence[str]) -> Iterator[str]:
    labels = Counter(sample.label for sample in samples)
    if labels[None] == len(samples):
        yield UNLABELLED
        return
    if labels[None]:
        yield "labels are known for some images only: metrics are of these"
    if not labels[1]:
        yield "only normal images: there will be no metrics"
    elif not labels[0] and "image" in metrics:
        yield "only anomalous images: no image metrics"
    bare = sum(sample.label == 1 and sample.mask is None for sample in samples)
    if bare and "pixel" in metrics:
        masks = "no anomalous image has a mask" if bare == labels[1] else "some anomalous images have no mask"
        yield f"{masks}: no pixel metrics"


def _matches(samples: Sequence[Sample], counts: Sequence[Count]) -> Iterator[Match]:
    there = Counter((sample.split, sample.label) for sample in samples)
    splits = dict.fromkeys([*(count.split for count in counts), *(split for split, _ in there)])
    for split in splits if counts else ():
        normal, anomalous = there[split, 0], there[split, 1]
        far = {c: abs(c.normal - normal) + abs(c.anomalous - anomalous) for c in counts if c.split == split}
        equal = tuple(count.source for count, distance in far.items() if distance == 0)
        yield Match(split, normal, anomalous, min(far, key=lambda count: far[count], default=None), equal)


def _problems(found: Sequence[Problem], seen: Iterable[Seen]) -> Iterable[Problem]:
    """Each problem once; a file that is known to be missing is not also one that cannot be read."""
    known = {problem.path for problem in found if problem.kind in (MISSING_IMAGE, UNREADABLE)}
    new = (problem for one in seen for problem in one.problems)
    return dict.fromkeys([*found, *(p for p in new if p.kind != UNREADABLE or p.path not in known)])


def _notes(jobs: Iterable[Job], seen: Iterable[Seen]) -> Iterator[Note]:
    files: dict[str, list[Path]] = {}
    for job, one in zip(jobs, seen, strict=True):
        for rule in one.notes:
            files.setdefault(rule, []).append(job[0].image)
    return (Note(rule, len(paths), paths[0]) for rule, paths in files.items())


def _duplicates(jobs: Iterable[Job], seen: Iterable[Seen]) -> Iterator[Same]:
    """Files with the same bytes, and files that are listed twice; parts of one image are different things."""
    groups: dict[tuple[str, tuple[int, int] | None], list[Sample]] = {}
    for sample, digest in ((sample, one.digest) for job, one in zip(jobs, seen, strict=True) for sample in job):
        if digest:
            groups.setdefault((digest, sample.part), []).append(sample)
    worst: dict[tuple[Path, ...], str] = {}
    for own in groups.values():
        if len(own) > 1:
            paths = tuple(dict.fromkeys(sample.image for sample in own))
            worst[paths] = max(_kind(own), worst.get(paths, DUPLICATE), key=DUPLICATES.index)
    return (Same(kind, paths) for paths, kind in worst.items())


def _kind(same: list[Sample]) -> str:
    if {0, 1} <= {sample.label for sample in same}:
        return OTHER_LABEL
    return ACROSS_SPLITS if len({sample.split for sample in same}) > 1 else DUPLICATE
