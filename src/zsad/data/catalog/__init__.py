"""The datasets of the field: one row each. A row says what the files look like; :mod:`zsad.data.layouts` reads them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from zsad.data.found import Found, Layout
from zsad.download import UrlFile
from zsad.errors import ZsadError, unknown
from zsad.types import Sample

USUAL_LIMIT = 0.3  # false positive rate up to which AUPRO goes where nobody says otherwise


@dataclass(frozen=True)
class Count:
    """How many images somebody counted in one split."""

    split: str  # "train" or "test"
    normal: int
    anomalous: int
    source: str  # who counted: a paper with its table, or the dataset's own page


@dataclass(frozen=True)
class Dataset:
    """One row of the catalog."""

    name: str  # how it is called on the command line
    title: str  # how the papers call it
    domain: str  # "industrial" or "medical"
    modality: str  # "photography", "endoscopy", "radiology (MRI)", ...
    classes: Mapping[str, str]  # class -> its name for prompts; a single class names all samples, whatever their folder
    counts: tuple[Count, ...]  # several for one split where sources or packagings differ: each is right for its own
    metrics: tuple[str, ...]  # "image" where there are normal and anomalous images, "pixel" where there are masks
    page: str  # where its authors publish it
    licence: str  # as its authors name it, "not stated" where they name none
    layouts: tuple[Layout, ...]  # tried in this order; the first is as published
    tree: str  # how the files lie, as published; one line per folder or kind of file
    aliases: tuple[str, ...] = ()  # other names, of papers, archives and repositories
    aupro_limit: float = USUAL_LIMIT  # false positive rate up to which its AUPRO is usually given
    papers: tuple[str, ...] = ()  # which of the five papers use it: "anomalyclip", "crane", "visualad", ...
    archives: tuple[UrlFile, ...] = ()  # what `zsad data fetch` downloads; empty: see page
    notes: tuple[str, ...] = field(default=())  # what to know before comparing numbers


@cache
def catalog() -> Mapping[str, Dataset]:
    """All rows by name, in the order of the papers' tables."""
    from zsad.data.catalog import industrial, later, medical

    return {row.name: row for row in (*industrial.ROWS, *medical.ROWS, *later.ROWS)}


def find(name: str) -> Dataset:
    """The row of a dataset by its name or an alias, in any case and with any punctuation.

    Raises:
        ZsadError: If there is none; the message proposes the nearest.

    >>> find("MVTec-AD").name
    'mvtec'
    """
    rows = {_plain(word): row for row in catalog().values() for word in (row.name, row.title, *row.aliases)}
    if _plain(name) not in rows:
        raise unknown("dataset", name, catalog(), "zsad data list")
    return rows[_plain(name)]


def aupro_limit(name: str) -> float:
    """The false positive rate up to which the AUPRO of a dataset is given; 0.3 for one that is not in the catalog.

    >>> aupro_limit("mvtec"), aupro_limit("mvtec-ad-2"), aupro_limit("my parts")
    (0.3, 0.05, 0.3)
    """
    return catalog()[name].aupro_limit if name in catalog() else USUAL_LIMIT


def by_classes(found: Found) -> Dataset | None:
    """The row with exactly the classes of some samples, where it has several."""
    classes = {sample.class_name for sample in found.samples}
    if all(name.lower().removeprefix("class").isdigit() for name in classes):  # as BTAD's and DAGM's, and many others
        return None
    return next((row for row in catalog().values() if len(row.classes) > 1 and classes == set(row.classes)), None)


def by_folder(root: Path) -> Dataset | None:
    """The row whose name or alias a folder has."""
    try:
        return find(Path(os.path.abspath(root)).name)
    except ZsadError:
        return None


def name_samples(samples: list[Sample], row: Dataset) -> list[Sample]:
    """The same samples under the names of a row: dataset, class where there is one only, name for prompts."""
    only = next(iter(row.classes)) if len(row.classes) == 1 else None
    return [
        dataclasses.replace(
            sample,
            dataset=row.name,
            class_name=only or sample.class_name,
            prompt_name=row.classes.get(only or sample.class_name, ""),
        )
        for sample in samples
    ]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
