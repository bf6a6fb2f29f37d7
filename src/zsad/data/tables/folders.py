"""The tables in a folder: which one lists its images, and why the others do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zsad.data.files import many, natural
from zsad.data.found import Found, told
from zsad.data.tables import formats
from zsad.data.tables.columns import Table, looks_like_results, not_used, recognised
from zsad.data.tables.doubts import unlisted
from zsad.data.tables.rows import to_samples
from zsad.errors import ZsadError
from zsad.types import Sample

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def csv_table(root: Path) -> Found | None:
    """A folder with one table of its images: VisA's split_csv/1cls.csv, else a table in it, or <folder>/labels.csv.

    A CSV, TSV, JSON lines or Parquet counts if a column names the images, and another says more about them; neither a
    manifest, which stands for itself, nor zsad's results. Where there are several, it is not known which is meant.
    Without columns for them, class and dataset are named after the folder. Images that it does not list are problems.
    """
    visa = root / "split_csv" / "1cls.csv"  # beside it lie 2cls_fewshot.csv and 2cls_highshot.csv
    inner = (*root.glob("*/labels.csv"), *root.glob("*/image_anno.csv"))  # the second as in VisA
    paths = [visa] if visa.is_file() else [*_files(root, _SUFFIXES), *inner]
    tables = [table for path in paths if isinstance(table := _fit(path), Table)]
    return _in_folder(root, tables[0]) if len(tables) == 1 else None


def meta_json(root: Path) -> Found | None:
    """A folder with the meta.json of the research repositories. Images that it does not list are problems."""
    table = _fit(root / "meta.json")
    return _in_folder(root, table) if isinstance(table, Table) else None


def unused(root: Path) -> list[str]:
    """Why tables in a folder are no list of its images: one sentence for each, none for one that is such a list."""
    fits = {path: _fit(path) for path in _files(root, (*_SUFFIXES, ".xlsx", ".json"))}
    several = [path for path, table in fits.items() if isinstance(table, Table) and path.suffix.lower() != ".json"]
    names = " and ".join(path.name for path in several)
    told: list[str] = []
    for path, table in fits.items():
        if isinstance(table, str):
            told.append(table)
        elif path in several and len(several) > 1:
            told.append(f"{path}: not used, since {names} each list images; give the one that is meant, or join them")
        elif why := _nothing_in(root, table):
            told.append(why)
    return told


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The tables in a folder by their names; not those that a system or a running spreadsheet hides."""
    found = [
        path
        for path in root.glob("*")
        if path.suffix.lower() in suffixes
        and not path.name.startswith((".", "~$"))
        and (path.suffix.lower() != ".json" or path.name == "meta.json")
    ]
    return sorted(found, key=lambda path: natural(path.name))


def _fit(path: Path) -> Table | str:
    """A table that says more about images than where they are, or why a file is no such table."""
    try:
        table = formats.read(path)
        chosen = recognised(table)
    except ZsadError as error:
        return str(error)
    if path.suffix.lower() == ".json":
        return table if table.kind == "meta.json" else f"{path}: not used, since it is a list of rows and no meta.json"
    if table.is_manifest:
        return f"{path}: not used, since it is a manifest; to use it, give it in place of the folder"
    if looks_like_results(table):
        return f"{path}: not used, since it holds results"
    if len(chosen) > 1:
        return table
    return f"{path}: tells only where images are{not_used(table, chosen, '; ')}; call the column of labels 'label'"


def _in_folder(root: Path, table: Table) -> Found | None:
    name = root.resolve().name
    bases = dict.fromkeys([root, table.path.parent])
    try:
        found = to_samples(table, list(bases), Sample(root, class_name=name, dataset=name))
        spare = unlisted(root, found.samples, table.path) if found.samples else ()
        return dataclasses.replace(found, problems=[*found.problems, *spare])
    except ZsadError:  # a value that is no text
        return None


def _nothing_in(root: Path, table: Table) -> str:
    """Why a table gives no image of the folder, "" where it gives some."""
    try:
        found = to_samples(table, [root], Sample(root))
    except ZsadError as error:
        return str(error)
    if found.samples:
        return ""
    return f"{table.path}: gives none of its {many(len(table), 'image')}: {told(found.problems, root, most=1)[0]}"
