"""The rows of a table to samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from zsad.data.files import SPLITS, many, plain
from zsad.data.found import MISSING_IMAGE, MISSING_MASK, SAME_NAME, UNKNOWN_LABEL, Found, Problem
from zsad.data.tables.columns import Table, label, part, recognised
from zsad.data.tables.places import Places
from zsad.types import Sample

_WORDS = ("class_name", "defect", "split", "dataset", "prompt_name")  # fields of a sample that are text as it stands


def to_samples(table: Table, bases: Sequence[Path], default: Sample) -> Found:
    """The samples of a table, in the order of its rows; a row whose image is not there is left out.

    In a table without labels, an image with a mask is anomalous, any other of unknown label. A mask that is named must
    be there, unless the image is normal. A normal image has the defect "good" where the table names none. The texts of
    a manifest mean what they say; in other tables blanks around them do not count.

    Args:
        table: Its rows.
        bases: Folders that its paths may be relative to; bare names are looked up below the one that holds most.
        default: Gives the fields that a row does not.

    Raises:
        ZsadError: As in :func:`zsad.data.tables.columns.recognised`; also if a value is neither text nor a
            number, or a part of an image is not like 1/2.
    """
    chosen = recognised(table)
    texts = {field: table.texts(index) for field, index in chosen.items()}
    places = Places(texts["image"], bases)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for row in _rows(table, texts):
        images = places.image(row["image"])
        if len(images) == 1:
            samples.append(_sample(row, images[0], places, problems, default))
        else:
            problems.append(_not_one(places.base / row["image"].strip(), images))
    return Found(samples, _understood(table, chosen, places), problems)


def _rows(table: Table, texts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Field to text; what a row does not say is missing, except in a manifest."""
    rows = (dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True))
    return rows if table.is_manifest else map(_cleaned, rows)


def _cleaned(row: dict[str, str]) -> dict[str, str]:
    said = {field: bare for field, text in row.items() if (bare := text.strip()) or field == "label"}
    if "split" in said:
        said["split"] = SPLITS.get(plain(said["split"]), said["split"])
    if label(said.get("mask", "")) is None:  # "nan" and the like
        said["mask"] = ""
    if label(said.get("label", "")) == 0:
        said.setdefault("defect", "good")
    return {**said, "image": row["image"]}


def _sample(row: Mapping[str, str], image: Path, places: Places, problems: list[Problem], default: Sample) -> Sample:
    """A sample from its row; what is wrong with the row goes to `problems`."""
    mask = row.get("mask", "")
    said = label(row["label"]) if "label" in row else (1 if mask else None)
    if isinstance(said, str):
        problems.append(Problem(UNKNOWN_LABEL, image, repr(said)))
    masks = places.mask(mask, image) if mask else []
    if mask and len(masks) != 1 and said != 0:
        problems.append(Problem(MISSING_MASK, image, f"{mask}: {_among(masks)}"))
    return dataclasses.replace(
        default,
        image=image,
        mask=masks[0] if len(masks) == 1 else None,
        label=said if isinstance(said, int) else None,
        part=part(row["part"]) if row.get("part") else None,
        **{field: row[field] for field in _WORDS if field in row},
    )


def _not_one(name: Path, images: Sequence[Path]) -> Problem:
    return Problem(SAME_NAME, name, _among(images)) if images else Problem(MISSING_IMAGE, name)


def _among(files: Sequence[Path]) -> str:
    """What stands in the way of taking one of several files, or the only one of none."""
    return f"could be {' or '.join(map(str, files[:3]))}" if files else "no such file"


def _understood(table: Table, chosen: Mapping[str, int], places: Places) -> str:
    kind, told = "manifest" if table.is_manifest else table.kind, []
    if kind == "table":  # the columns of the others are no news
        ways = f" (by {' and '.join(sorted(places.ways))})" if places.ways else ""
        told = [f"{field} from {table.names[i]!r}" + ways * (field == "image") for field, i in chosen.items()]
    if "mask" in chosen and "label" not in chosen:
        told.append("anomalous is what has a mask")
    if places.base != table.path.parent:
        told.append(f"paths below {places.base}")
    if places.cut:
        told.append(f"{PurePosixPath(*places.cut)} cut from its paths")
    return f"a {kind} of {many(len(table), 'image')}" + f": {', '.join(told)}" * bool(told)
