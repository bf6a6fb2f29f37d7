"""What speaks against a table: other rows, the folders of its images, and images that it does not list."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zsad.data.files import ABNORMAL_NAMES, MASK_NAMES, NORMAL_NAMES, cut_end, one_of, scan
from zsad.data.found import CONTRADICTION, DUPLICATE, IGNORED, Problem
from zsad.types import Sample


def undecided(samples: Sequence[Sample]) -> tuple[list[Sample], list[Problem]]:
    """The samples, without the labels of those that are listed both as normal and as anomalous."""
    labels: dict[_Shown, set[int]] = {}
    for sample in samples:
        if sample.label is not None:
            labels.setdefault(_shown(sample), set()).add(sample.label)
    torn = {key for key, said in labels.items() if len(said) == 2}
    problems = [Problem(DUPLICATE, key[0], "listed as normal and as anomalous") for key in labels if key in torn]
    return [replace(sample, label=None) if _shown(sample) in torn else sample for sample in samples], problems


_Shown = tuple[Path, "tuple[int, int] | None", str]


def _shown(sample: Sample) -> _Shown:
    return sample.image, sample.part, sample.class_name


def contradictions(samples: Sequence[Sample]) -> list[Problem]:
    """Labels that the names of folders contradict; folders that all images lie in say nothing of one."""
    if not samples:
        return []
    paths = [Path(os.path.abspath(sample.image.parent)).parts for sample in samples]
    shared = len(Path(os.path.commonpath([Path(*path) for path in set(paths)])).parts)
    said = {path: _label_of(path[shared:]) for path in set(paths)}
    words = ("normal", "anomalous")
    return [
        Problem(CONTRADICTION, sample.image, f"{words[sample.label]} in the table")
        for sample, path in zip(samples, paths, strict=True)
        if sample.label is not None and said[path] == {1 - sample.label}
    ]


def _label_of(folders: Sequence[str]) -> set[int]:
    return {
        value for value, names in enumerate((NORMAL_NAMES, ABNORMAL_NAMES)) for name in folders if one_of(name, names)
    }


def unlisted(root: Path, samples: Sequence[Sample], table: Path) -> Iterator[Problem]:
    """The images below a folder that its table does not name; no masks: what lies in a folder for them is one."""
    named = {_key(file) for sample in samples for file in (sample.image, sample.mask) if file is not None}
    for file in scan(root):
        masks = any(cut_end(folder, MASK_NAMES) is not None for folder in file.folders)
        if not masks and not named & {_key(file.path), _key(file.path.parent)}:
            yield Problem(IGNORED, file.path, f"not in {table.name}")


def _key(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.normcase(os.path.abspath(path)))
