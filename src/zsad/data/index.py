"""Any folder, table or named dataset to samples, with a sentence on how it was understood."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from zsad.data.catalog import Dataset, by_classes, by_folder, find, name_samples
from zsad.data.files import find_images
from zsad.data.found import Found, Layout, must_be_sound
from zsad.data.layouts import class_folders, dagm, images_and_masks, normal_abnormal, real_iad, siblings, unlabelled
from zsad.data.tables import csv_table, meta_json, read_table
from zsad.data.tables.formats import SUFFIXES
from zsad.errors import ZsadError
from zsad.types import Sample

#: Tried in this order where the dataset is not known; what names its files most exactly comes first.
LAYOUTS: tuple[Layout, ...] = (
    meta_json,
    real_iad,
    csv_table,
    dagm,
    class_folders,
    normal_abnormal,
    images_and_masks,
    siblings,
    unlabelled,
)


def index(root: str | Path, dataset: str | None = None) -> Found:
    """The samples of all splits of a folder or a table, and what is wrong with them.

    A dataset of the catalog is read by the layouts of its row: it is known by `dataset`, by the name of the folder, or
    afterwards by its classes. Any other folder is tried with :data:`LAYOUTS`.

    Args:
        root: A folder, or a table of images: a manifest of zsad, anybody's CSV, JSON lines or Parquet, a meta.json.
        dataset: Name of a row of the catalog.

    Raises:
        ZsadError: If there is no such dataset or folder, or nothing in it can be understood.
    """
    root = Path(root)
    if dataset:
        row, found = find(dataset), read_table(root) if root.is_file() else None
        return _named(found or placed(row, _folder(root))[1], row, "as you say")
    if root.is_file():
        return read_table(root)
    row_of_name = by_folder(_folder(root))
    if row_of_name and (found := _first(row_of_name.layouts, root)):
        return _named(found, row_of_name, "by the name of the folder")
    if not (found := _first(LAYOUTS, root)):
        raise ZsadError(f"{root}: no images in it; expected a dataset, or photographs at any depth")
    row_of_classes = by_classes(found)
    return _named(found, row_of_classes, "by its classes") if row_of_classes else found


def samples_of(root: str | Path, split: str = "test", dataset: str | None = None) -> list[Sample]:
    """The samples of one split of a sound dataset: no mask missing or left over, nothing that belongs to nothing.

    Args:
        root: As in :func:`index`.
        split: "train" or "test".
        dataset: As in :func:`index`.

    Raises:
        ZsadError: As in :func:`index`; also if something is wrong, or the split has no images.
    """
    found = index(root, dataset)
    chosen = [sample for sample in must_be_sound(found, Path(root)) if sample.split == split]
    classes = {sample.class_name for sample in found.samples} - {sample.class_name for sample in chosen}
    if not chosen or classes:
        splits = ", ".join(sorted({sample.split for sample in found.samples}))
        which = f" of {', '.join(sorted(classes))}" if chosen else ""
        raise ZsadError(
            f"{root}: {found.understood}; but no image in the {split} split{which} (there is: {splits or 'nothing'}). "
            "Add images, or leave out what is not meant: zsad data index writes a table that can be edited"
        )
    return chosen


def images_and_names(paths: Sequence[str | Path], name: str = "object") -> dict[Path, str]:
    """The image files that paths stand for, in their order, each with the name of what it shows.

    Args:
        paths: Manifests, whose samples have names of their own; anything else as in :func:`find_images`.
        name: For images that no manifest names.

    Raises:
        ZsadError: As in :func:`find_images`; also for an image that a manifest names and that is not there.
    """
    named: dict[Path, str] = {}
    for path in paths:
        if Path(path).suffix.lower() in SUFFIXES and Path(path).is_file():
            listed = must_be_sound(read_table(Path(path)), Path(path).parent)
            named |= {sample.image: sample.prompt_name or sample.class_name for sample in listed}
        else:
            named |= dict.fromkeys(find_images([path]), name)
    return named


def placed(row: Dataset, root: Path) -> tuple[Path, Found]:
    """The folder in which a dataset lies, and what is there: `root`, or the only folder in it, as archives have one.

    Raises:
        ZsadError: If its files lie otherwise than the row says.
    """
    folders = [root]
    while len(folders) == 1:
        if found := _first(row.layouts, folder := folders[0]):
            return folder, found
        folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    listed = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if there[8:] else "")
    raise ZsadError(
        f"{root} does not hold {row.title} as expected:\n{indent(row.tree.strip(), ' ' * 4)}\n"
        f"  Found in {folder}: {listed or 'nothing'}\n"
        f"  Move the files to fit, then: zsad data check {row.name} {shlex.quote(str(root))}"
    )


def _first(layouts: tuple[Layout, ...], root: Path) -> Found | None:
    return next((found for layout in layouts if (found := layout(root)) and found.samples), None)


def _named(found: Found, row: Dataset, why: str) -> Found:
    named = name_samples(found.samples, row)
    return dataclasses.replace(found, samples=named, understood=f"{row.title}, {why}: {found.understood}")


def _folder(root: Path) -> Path:
    if not root.is_dir():
        raise ZsadError(f"{root}: no such file or folder; expected a folder of images, or a table that lists them")
    return root
