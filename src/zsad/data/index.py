"""Any folder, table or named dataset to samples, with a sentence on how it was understood."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import indent

from zsad.data.catalog import Dataset, by_classes, by_folder, find, name_samples
from zsad.data.files import find_images
from zsad.data.found import MISSING_IMAGE, Found, Layout, must_be_sound
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


def index(root: str | Path, dataset: str | None = None, images: str | Path | None = None) -> Found:
    """The samples of all splits of a folder or a table, and what is wrong with them.

    A dataset of the catalog is read by the layouts of its row: it is known by `dataset`, by the name of the folder, or
    afterwards by its classes. Any other folder is tried with :data:`LAYOUTS`.

    Args:
        root: A folder, or a table of images: a manifest of zsad, anybody's CSV, JSON lines or Parquet, a meta.json.
        dataset: Name of a row of the catalog.
        images: Folder that the paths in a table are relative to; None finds it beside the table.

    Raises:
        ZsadError: If there is no such dataset or folder, or nothing in it can be understood.
    """
    root = Path(root)
    if images is not None or root.is_file():
        found = read_table(root, images)
        return _named(found, find(dataset), "as you say") if dataset else found
    if not root.is_dir():
        raise ZsadError(f"{root}: no such file or folder; expected a folder of images, or a table that lists them")
    if dataset:
        return _named(placed(find(dataset), root)[1], find(dataset), "as you say")
    row = by_folder(root)
    if row and (there := _inner(row.layouts, root)):
        return _named(there[1], row, "by the name of the folder")
    if not (found_anyhow := _first(LAYOUTS, root)):
        raise ZsadError(f"{root}: no images in it; expected a dataset, or photographs at any depth")
    if row_of_classes := by_classes(found_anyhow):
        return _named(found_anyhow, row_of_classes, "by its classes")
    if row:
        why = f"{found_anyhow.understood} (not {row.title} in any layout that zsad knows, in spite of its name)"
        return dataclasses.replace(found_anyhow, understood=why)
    return found_anyhow


def samples_of(
    root: str | Path, split: str = "test", dataset: str | None = None, say: Callable[[str], object] | None = None
) -> list[Sample]:
    """The samples of one split of a sound dataset, sorted by dataset and class.

    Sound means: no mask missing or left over, nothing that belongs to nothing.

    Args:
        root: As in :func:`index`.
        split: "train", "test", or another that the dataset has.
        dataset: As in :func:`index`.
        say: Told how the folder was understood.

    Raises:
        ZsadError: As in :func:`index`; also if something is wrong, or the split has no images.
    """
    found = index(root, dataset)
    if say:
        say(found.understood)
    chosen = [sample for sample in must_be_sound(found, Path(root)) if sample.split == split]
    classes = {sample.class_name for sample in found.samples} - {sample.class_name for sample in chosen}
    if not chosen or classes:
        splits = ", ".join(sorted({sample.split for sample in found.samples}))
        which = f" of {', '.join(sorted(classes))}" if chosen else ""
        raise ZsadError(
            f"{root}: {found.understood}; but no image in the {split} split{which} (there is: {splits or 'nothing'}). "
            "Add images, or leave out what is not meant: zsad data index writes a table that can be edited"
        )
    place = {key: i for i, key in enumerate(dict.fromkeys((sample.dataset, sample.class_name) for sample in chosen))}
    return sorted(chosen, key=lambda sample: place[sample.dataset, sample.class_name])


def images_and_names(
    paths: Sequence[str | Path], name: str = "object", prompt_names: bool = False
) -> tuple[dict[Path, str], list[Path]]:
    """The image files that paths stand for, in their order, each with the name of what it shows; and what is left out.

    Args:
        paths: Manifests, whose samples have names of their own; anything else as in :func:`find_images`.
        name: For images that no manifest names.
        prompt_names: Whether manifests give what a person would call the object where they know it, not the class.

    Returns:
        Images with their names, those that a manifest names and that are not there included; and the masks of folders,
        which are no photographs.

    Raises:
        ZsadError: As in :func:`find_images`.
    """
    named: dict[Path, str] = {}
    masks: list[Path] = []
    for path in map(Path, paths):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            table = read_table(path)
            listed = {s.image: (prompt_names and s.prompt_name) or s.class_name for s in table.samples}
            lost = {problem.path: name for problem in table.problems if problem.kind == MISSING_IMAGE}
            named = {**named, **listed, **lost}
            continue
        known = {sample.mask for sample in index(path).samples} if path.is_dir() else set()
        for image in find_images([path]):
            if image in known or image.parent in known:
                masks.append(image)
            else:
                named.setdefault(image, name)
    return named, masks


def placed(row: Dataset, root: Path) -> tuple[Path, Found]:
    """The folder in which a dataset lies, and what is there: `root`, or the only folder in it, as archives have one.

    Raises:
        ZsadError: If its files lie otherwise than the row says.
    """
    if placed_there := _inner(row.layouts, root):
        return placed_there
    folder = list(_nested(root))[-1]
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    listed = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if there[8:] else "")
    raise ZsadError(
        f"{root} does not hold {row.title} as expected:\n{indent(row.tree.strip(), ' ' * 4)}\n"
        f"  Found in {folder}: {listed or 'nothing'}\n"
        f"  Move the files to fit, then: zsad data check {row.name} {shlex.quote(str(root))}"
    )


def _inner(layouts: tuple[Layout, ...], root: Path) -> tuple[Path, Found] | None:
    return next(((folder, found) for folder in _nested(root) if (found := _first(layouts, folder))), None)


def _nested(root: Path) -> Iterator[Path]:
    """A folder, the only folder in it, the only one in that, and so on."""
    folders = [root]
    while len(folders) == 1:
        yield folders[0]
        folders = [path for path in folders[0].iterdir() if path.is_dir() and not path.name.startswith(".")]


def _first(layouts: tuple[Layout, ...], root: Path) -> Found | None:
    return next((found for layout in layouts if (found := layout(root)) and found.samples), None)


def _named(found: Found, row: Dataset, why: str) -> Found:
    named = name_samples(found.samples, row)
    understood = f"{row.title}, {why}: {found.understood}"
    return dataclasses.replace(found, samples=named, understood=understood, dataset=row.name)
