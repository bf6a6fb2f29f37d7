"""Tables that name images: manifests of zsad, anybody's CSV, JSON lines and Parquet, meta.json of the repositories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zsad.data.found import Found
from zsad.data.tables import formats
from zsad.data.tables.columns import FIELDS
from zsad.data.tables.folders import csv_table, meta_json, unused
from zsad.data.tables.meta import write_meta
from zsad.data.tables.places import below
from zsad.data.tables.rows import to_samples
from zsad.errors import ZsadError
from zsad.types import Sample

__all__ = ["csv_table", "manifest_row", "meta_json", "read_table", "unused", "write_meta", "write_table"]


def read_table(path: str | Path, images: str | Path | None = None) -> Found:
    """The samples of a table, in the order of its rows.

    Columns are known by their names: see :data:`zsad.data.tables.columns.NAMES`. For what their values mean, and what
    becomes of rows that are not sound, see :func:`zsad.data.tables.rows.to_samples`; for how paths and bare names are
    found, see :class:`zsad.data.tables.places.Places`. Without a column for it, the class is named after the folder of
    the images: the first that paths may be relative to.

    Args:
        path: A .csv, .tsv, .jsonl, .parquet, or a .json with a list of rows or in the shape of a meta.json.
        images: Folder that its paths are relative to. None tells it by the files: the folder of the table or, but not
            for a meta.json, one of the two above.

    Raises:
        ZsadError: If the file is no table, or no column, or more than one, can be the images.
    """
    path = Path(path)
    table = formats.read(path)
    above = () if table.kind == "meta.json" else Path(os.path.abspath(path.parent)).parents[:2]
    bases = [Path(images)] if images else [path.parent, *above]
    return to_samples(table, bases, Sample(path, class_name=bases[0].resolve().name or "object"))


def write_table(samples: Sequence[Sample], path: str | Path) -> None:
    """Write a manifest, whole or not at all: one row per sample, one column per field.

    Paths are relative to the manifest for files in its folder and below, so that the folder can be moved, and absolute
    for others. :func:`read_table` gives the same samples.

    Args:
        samples: At least one.
        path: The suffix tells the format: .jsonl, .parquet, .csv or .tsv; .json for :func:`write_meta`.

    Raises:
        ZsadError: If there are no samples, the format is not known or cannot hold them, or the file cannot be written.
    """
    path = Path(path)
    if not samples:
        raise ZsadError(f"{path}: no samples to write; expected at least one image")
    if path.suffix.lower() == ".json":
        write_meta(samples, path)
    else:
        formats.write([manifest_row(sample, path.parent) for sample in samples], path)


def manifest_row(sample: Sample, folder: Path) -> dict[str, Any]:
    """A sample as a manifest in `folder` has it: field -> text, number or None."""
    row: dict[str, Any] = {field: getattr(sample, field) for field in FIELDS}
    for field in ("image", "mask"):
        file = row[field]
        row[field] = file if file is None else below(file, folder) or Path(os.path.abspath(file)).as_posix()
    return {**row, "part": "{}/{}".format(*sample.part) if sample.part else None}
