"""Layouts that list their images in files of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from zsad.data.files import existing, many, natural
from zsad.data.found import MISSING_IMAGE, MISSING_MASK, UNREADABLE, Found, Problem
from zsad.types import Sample

_SIZES = ("realiad_1024", "realiad_512", "realiad_256", "realiad_raw")


def real_iad(root: Path) -> Found | None:
    """Real-IAD: ``realiad_jsons/realiad_jsons/audiojack.json`` lists the images of ``realiad_1024/audiojack``.

    The files say which image is in which split and of which defect, and which file is its mask (anomalib 2.7,
    data/datasets/image/realiad.py). The images are those of 1024 pixels, or of 512, 256, raw, whichever is there first,
    or else in folders of classes in `root`.

    Args:
        root: The folder of ``realiad_jsons``, or the folder of one size beside it.
    """
    name = existing(root).resolve().name
    top = root.resolve().parent if name in _SIZES else root
    lists = _lists(top / "realiad_jsons" / "realiad_jsons") or _lists(top / "realiad_jsons")
    if not lists:
        return None
    images = root if name in _SIZES else next((root / size for size in _SIZES if (root / size).is_dir()), root)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in lists:
        try:
            for found in _listed(path, images / path.stem, top.resolve().name):
                samples.append(found) if isinstance(found, Sample) else problems.append(found)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            problems.append(Problem(UNREADABLE, path, f"expected a list of Real-IAD; {error!r}"))
    told = f"Real-IAD's layout: {many(len(lists), 'class')} listed in {lists[0].parent.name}, images of {images.name}"
    return Found(samples, told, problems)


def _lists(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"), key=lambda path: natural(path.name))


def _listed(path: Path, folder: Path, dataset: str) -> Iterator[Sample | Problem]:
    """The samples that a list names, and what it names that is not there."""
    content = json.loads(path.read_text(encoding="utf-8"))
    normal = content.get("meta", {}).get("normal_class", "OK")
    for split in ("train", "test"):
        for entry in content[split]:
            image = folder / entry["image_path"]
            mask = folder / entry["mask_path"] if entry.get("mask_path") else None
            kind = entry["anomaly_class"]
            if not image.is_file():
                yield Problem(MISSING_IMAGE, image)
                continue
            if kind != normal and not (mask and mask.is_file()):
                yield Problem(MISSING_MASK, image)
                mask = None
            good = kind == normal
            yield Sample(
                image, None if good else mask, int(not good), path.stem, "good" if good else kind, split, dataset
            )
