"""The meta.json of the research repositories: AnomalyCLIP, AdaCLIP, Crane, VisualAD, ViP2-CLIP and others.

Split -> class -> one entry per image, as zqhang/AnomalyCLIP, commit 45ed4dd35c05797d854294b5e8d585c545920089, writes in
generate_dataset_json/*.py and reads in dataset.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zsad.data.tables.places import below
from zsad.errors import ZsadError
from zsad.types import Sample
from zsad.writing import whole

_SHAPE = '{"train": {"bottle": [{"img_path": ..., "mask_path": ..., "anomaly": 0 or 1, ...}]}, "test": {...}}'


def flat(data: Any, path: Path) -> list[Mapping[str, Any]]:
    """The entries of a meta.json one after the other, each with its split and its class.

    Raises:
        ZsadError: If the data have another shape.
    """
    try:
        return [
            {"split": split, "cls_name": name, **entry}
            for split, classes in data.items()
            for name, entries in classes.items()
            for entry in entries
        ]
    except (AttributeError, TypeError) as error:
        raise ZsadError(f"{path}: neither a list of rows nor a meta.json, which is {_SHAPE}") from error


def write_meta(samples: Sequence[Sample], path: str | Path) -> None:
    """Write the file that the dataset classes of the research repositories read, whole or not at all.

    It keeps neither `dataset` nor `prompt_name`. Every class is in both splits, for AdaCLIP asks for that
    (caoyunkang/AdaCLIP, commit e27ee32bf19be149795c8c8972d4c3c88cd5a496, dataset/base_dataset.py).

    Args:
        samples: In the order of the file, within split and class.
        path: In a folder that all images and masks lie in or below; those classes ask for the name meta.json.

    Raises:
        ZsadError: If the file cannot hold a sample, or cannot be written.
    """
    path = Path(path)
    names = dict.fromkeys(sample.class_name for sample in samples)
    meta: dict[str, dict[str, list[dict[str, Any]]]] = {
        split: {name: [] for name in names} for split in ("train", "test")
    }
    for sample in samples:
        if reason := _unfit(sample, path.parent):
            raise ZsadError(f"{sample.image}: {reason}, which a meta.json cannot say; leave it out, or write a .jsonl")
        meta[sample.split][sample.class_name].append(_entry(sample, path.parent))
    with whole(path) as part:
        part.write_text(json.dumps(meta, indent=4) + "\n", encoding="utf-8")


def _unfit(sample: Sample, folder: Path) -> str:
    """Why the file cannot hold a sample, "" where it can."""
    if sample.label is None:
        return "its label is not known"
    if sample.part is not None:
        return "it is a part of a file"
    if sample.split not in ("train", "test"):
        return f"its split is {sample.split!r}, neither train nor test"
    if sample.mask is not None and sample.mask.is_dir():
        return "its mask is a folder"
    outside = [file for file in (sample.image, sample.mask) if file is not None and below(file, folder) is None]
    return f"{outside[0]} is not below {folder}" if outside else ""


def _entry(sample: Sample, folder: Path) -> dict[str, Any]:
    return {
        "img_path": below(sample.image, folder),
        "mask_path": below(sample.mask, folder) if sample.mask else "",
        "cls_name": sample.class_name,
        "specie_name": sample.defect,
        "anomaly": sample.label,
    }
