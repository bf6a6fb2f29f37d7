"""The rows of a table to samples."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from zsad.data.files import SPLITS, many, plain
from zsad.data.found import MISSING_IMAGE, MISSING_MASK, SAME_NAME, UNKNOWN_LABEL, Found, Problem
from zsad.data.tables.columns import Table, not_used, part, recognised
from zsad.data.tables.doubts import contradictions, undecided
from zsad.data.tables.labels import label, settled
from zsad.data.tables.places import Places
from zsad.types import Sample

_WORDS = ("class_name", "defect", "split", "dataset", "prompt_name")  # fields of a sample that are text as it stands


def to_samples(table: Table, bases: Sequence[Path], default: Sample) -> Found:
    """The samples of a table, in the order of its rows; a row whose image is not there is left out.

    Labels are read as in :func:`zsad.data.tables.labels.settled`. In a table without, an image with a mask is
    anomalous, any other of unknown label; so is one that is listed as both. A mask that is named must
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
    texts, read, wrong = settled({field: table.texts(index) for field, index in chosen.items()})
    places = Places(texts["image"], bases)
    samples: list[Sample] = []
    problems = [Problem(UNKNOWN_LABEL, table.path, wrong)] if wrong else []
    for row in _rows(table, texts):
        images = places.image(row["image"])
        if len(images) == 1:
            samples.append(_sample(row, images[0], places, problems, default))
        else:
            problems.append(_not_one(row["image"].strip(), images, places.base, table.path))
    samples, torn = undecided(samples)
    against = [] if table.is_manifest else contradictions(samples)  # manifests are there to be edited
    by_mask = "anomalous is what has a mask" if "mask" in texts and "label" not in texts else ""
    lost = not samples and not any(problem.kind == SAME_NAME for problem in problems)
    notes = [note for note in (read, by_mask, table.note, _nowhere(table, bases) if lost else "") if note]
    return Found(samples, _understood(table, chosen, places, notes), [*problems, *torn, *against])


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


def _not_one(name: str, images: Sequence[Path], base: Path, table: Path) -> Problem:
    if "://" in name:  # a path would keep one of the two slashes
        return Problem(MISSING_IMAGE, table, f"{name} is an address; download it, and name the file")
    return Problem(SAME_NAME, base / name, _among(images)) if images else Problem(MISSING_IMAGE, base / name)


def _nowhere(table: Table, bases: Sequence[Path]) -> str:
    """Where images were looked for, and what to do, where none was found."""
    looked = f"none of them was found below {' or '.join(map(str, bases))}"
    how = f"zsad data index {shlex.quote(str(table.path))} --images FOLDER"
    return f"{looked}; paths are taken relative to the table: put it where they begin, or say where that is: {how}"


def _among(files: Sequence[Path]) -> str:
    """What stands in the way of taking one of several files, or the only one of none."""
    return f"could be {' or '.join(map(str, files[:3]))}" if files else "no such file"


def _understood(table: Table, chosen: dict[str, int], places: Places, notes: Sequence[str]) -> str:
    kind, told = "manifest" if table.is_manifest else table.kind, []
    if kind == "table":  # the columns of the others are no news
        ways = f" (by {' and '.join(sorted(places.ways))})" if places.ways else ""
        told = [f"{field} from {table.names[i]!r}" + ways * (field == "image") for field, i in chosen.items()]
        told += filter(None, [not_used(table, chosen)])
    told += notes
    if places.base != table.path.parent:
        told.append(f"paths below {places.base}")
    if places.cut:
        cut = str(PurePosixPath(*places.cut))
        told.append(re.sub("^([a-z]{2,}):/", r"\1://", cut) + " cut from its paths")  # an address has two slashes
    return f"a {kind} of {many(len(table), 'image')}" + f": {', '.join(told)}" * bool(told)
