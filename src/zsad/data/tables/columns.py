"""The columns of anybody's table: which says what of an image."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsad.data.files import is_image
from zsad.data.tables.labels import label
from zsad.errors import ZsadError
from zsad.types import Sample

FIELDS = tuple(field.name for field in dataclasses.fields(Sample))  # the columns of a manifest

#: Field of a sample -> how its column may be called, in any case and with anything between the words. A name of the
#: second group counts where there is none of the first.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        ("image", "image_path", "image_file", "image_name", "img", "img_path", "img_file", "img_name",
         "path", "file", "file_path", "file_name"),
        ("id", "image_id", "img_id", "name"),
    ),
    "mask": (("mask", "mask_path", "mask_file", "mask_name", "gt_path", "gt_mask", "ground_truth_path"),),
    "label": (
        ("label", "anomaly", "anomalous", "abnormal", "is_anomaly", "is_anomalous", "is_abnormal", "is_defect",
         "is_defective", "target", "hemorrhage"),
        ("label_index",),  # beside "label" in tables of anomalib
    ),
    "class_name": (("class_name", "cls_name", "object", "category", "product"), ("class",)),
    "defect": (("defect", "defect_type", "defect_name", "specie_name", "anomaly_type"),),
    "split": (("split", "phase", "set", "subset"),),
    "dataset": (("dataset",),),
    "prompt_name": (("prompt_name",),),
    "part": (("part",),),
}  # fmt: skip
MAYBE_LABELS = ("class", "category", "defect")  # the label, where no column is called so and every value here is one

_PART = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, with the values that the file gives."""

    path: Path  # of the file
    names: list[str]
    columns: list[list[Any]]  # text, numbers, None
    kind: str = "table"  # what to call it
    note: str = ""  # on how the file was read
    nested: tuple[str, ...] = ()  # names of columns that hold neither text nor numbers, and were not read

    @property
    def is_manifest(self) -> bool:
        """Whether the columns are those that zsad writes."""
        return set(FIELDS) <= set(self.names)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def texts(self, index: int) -> list[str]:
        """The values of a column as text, "" for None and NaN.

        Raises:
            ZsadError: If a value is neither text nor a number.
        """
        values = self.columns[index]
        return [value if type(value) is str else self._text(value, index, row) for row, value in enumerate(values, 1)]

    def _text(self, value: Any, index: int, row: int) -> str:
        if value is None or value != value:
            return ""
        if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
            return str(int(value))
        if isinstance(value, (str, int, float)):
            return str(value)
        what = f"{self.path}: {self.names[index]!r} of row {row} is a {type(value).__name__}"
        raise ZsadError(f"{what}; expected text or a number")


def recognised(table: Table) -> dict[str, int]:
    """Field of a sample -> index of the column that gives it.

    Raises:
        ZsadError: If no column can be the images, or several can be the same field.
    """
    if table.is_manifest:
        return {field: table.names.index(field) for field in FIELDS}
    chosen = {field: index for field in NAMES if (index := _called(table, field)) is not None}
    if "label" not in chosen and (label := _by_value(table)) is not None:
        chosen = {field: index for field, index in chosen.items() if index != label} | {"label": label}
    if "part" in chosen and not all(text == "" or _PART.fullmatch(text) for text in table.texts(chosen["part"])):
        del chosen["part"]  # of something else
    if "image" not in chosen:
        raise ZsadError(_without_images(table))
    return chosen


def _without_images(table: Table) -> str:
    """What is wrong with a table in which no column names the images, and what to do."""
    keys = set(map(_key, NAMES["image"][0]))
    if inside := [name for name in table.nested if _key(name) in keys]:
        what = f"the column {inside[0]!r} holds no names of files; pictures inside a table cannot be read"
        return f"{table.path}: {what}: write each to a file, and their names to a column called image"
    found = ", ".join(name[:40] for name in table.names[:20]) or "none"
    names = f"call it {', '.join(NAMES['image'][0])} or id, in any case"
    if table.path.suffix.lower() in (".csv", ".tsv"):
        names = f"The first line names them: {names}"
        if any(is_image(name) for name in table.names):
            names += "; yours is a row already: write a line such as image,label above it"
    return f"{table.path}: no column names the images; found the columns {found}. {names[0].upper()}{names[1:]}"


def not_used(table: Table, chosen: dict[str, int], before: str = "") -> str:
    """The columns that give nothing, as a part of a sentence; "" where there are none."""
    names = [name for index, name in enumerate(table.names) if name and index not in chosen.values()]
    names = [*names, *table.nested]
    more = f" and {len(names) - 8} more" if names[8:] else ""
    return f"{before}not used: {', '.join(name[:40] for name in names[:8])}{more}" if names else ""


def looks_like_results(table: Table) -> bool:
    """Whether a table is of the kind that zsad writes about images: predictions.csv."""
    return "score" in table.names and not {"decision", "map_max"}.isdisjoint(table.names)


def _called(table: Table, field: str) -> int | None:
    """The column with one of the field's names."""
    for group in NAMES[field]:
        keys = set(map(_key, group))
        matches = [index for index, name in enumerate(table.names) if _key(name) in keys]
        if len(matches) > 1:
            several = " and ".join(repr(table.names[index]) for index in matches)
            raise ZsadError(f"{table.path}: the columns {several} can each be the {field}; keep one, rename the others")
        if matches:
            return matches[0]
    return None


def _by_value(table: Table) -> int | None:
    """The column that holds labels though it is not called so."""
    maybe = [index for index, name in enumerate(table.names) if _key(name) in MAYBE_LABELS]
    return next((index for index in maybe if all(label(text) in (0, 1) for text in set(table.texts(index)))), None)


def part(text: str) -> tuple[int, int]:
    """Which of how many equal parts of an image.

    Raises:
        ZsadError: If the text is not like 1/2.

    >>> part("1/2")
    (1, 2)
    """
    match = _PART.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ZsadError(f"{text!r} is no part of an image; expected 1/2 for the upper of two, nothing for all of it")
    return int(match[1]), int(match[2])


def _key(name: str) -> str:
    """The letters and digits of a column's name, for comparison.

    >>> _key("Image Path"), _key("image_path")
    ('imagepath', 'imagepath')
    """
    return "".join(filter(str.isalnum, name.lower()))
