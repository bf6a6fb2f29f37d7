"""Layouts that keep masks beside the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zsad.data.files import MASK_ENDS, SPLITS, existing, folders, many, part_rows, plain, scan
from zsad.data.found import MISSING_MASK, UNREADABLE, Found, Problem
from zsad.data.pairing import Folders, Key, Place, Role, assemble, pair, without_end
from zsad.errors import ZsadError
from zsad.types import Sample


def siblings(root: Path, *, ends: Sequence[str] = MASK_ENDS, parts: int = 1) -> Found | None:
    """The mask of ``x.jpg`` lies beside it: ``x_label.bmp`` (KolektorSDD), ``x_GT.png`` (KolektorSDD2), ``x_mask.png``.

    Masks are read: an image is anomalous where its mask marks a pixel, else normal. Where the mask cannot be read, or
    is missing, the label is not known. A folder named after a split tells the split; without one it is "test".

    Args:
        root: The folder; it names the dataset and the class.
        ends: Ends of a mask's name, in any case.
        parts: How many equal parts an image is cut into, top to bottom, each a sample with a label of its own.
    """
    name = existing(root).resolve().name
    images: list[tuple[Key, Path]] = []
    masks: list[tuple[Key, Path]] = []
    for file in scan(root):
        key = (*file.folders, file.stem)
        (masks if without_end(key, ends) else images).append((key, file.path))
    mates, problems = pair(images, masks, ends=ends)
    if not mates:
        return None
    samples: list[Sample] = []
    for key, path in images:
        split = next((SPLITS[plain(folder)] for folder in key[:-1] if plain(folder) in SPLITS), "test")
        try:
            samples += _labelled(Sample(path, mates.get(path), None, name, "", split, name), parts)
        except ZsadError as error:
            problems.append(Problem(UNREADABLE, mates[path], str(error)))
            samples += _labelled(Sample(path, None, None, name, "", split, name), parts)
    first = min(mates.items())
    told = f"the mask of {first[0].name} is {first[1].name} beside it, and so on"
    return Found(samples, f"{told}; {parts} parts of each image" if parts > 1 else told, problems)


def _labelled(sample: Sample, parts: int) -> list[Sample]:
    """The parts of an image, each with its label where there is a mask."""
    from zsad.data.images import read_mask

    cut = [replace(sample, part=(i, parts) if parts > 1 else None) for i in range(1, parts + 1)]
    if sample.mask is None:
        return cut
    mask = read_mask(sample.mask)
    marked = [bool(mask[part_rows(len(mask), part.part)].any()) for part in cut]
    return [
        replace(part, label=1) if bad else replace(part, label=0, mask=None, defect="good")
        for part, bad in zip(cut, marked, strict=True)
    ]


def dagm(root: Path) -> Found | None:
    """DAGM 2007: ``Class1/Train/0576.PNG`` is anomalous where there is a ``Class1/Train/Label/0576_label.PNG``.

    Args:
        root: The folder of the classes, or one class; a sample has the same class and dataset name either way.
    """
    name = existing(root).resolve().name

    def place(inside: Folders) -> Place:
        label = bool(inside) and plain(inside[-1]) == "label"
        above = inside[:-1] if label else inside
        split = SPLITS.get(plain(above[-1])) if above else None
        if split is None:
            return Place(Role.LOST)
        return Place(Role.MASK if label else Role.ANOMALOUS, above, (name, *above)[-2], "", split)

    masked = [path for path in folders(root) if place(path).role is Role.MASK]
    dataset = root.resolve().parent.name if any(len(path) == 2 for path in masked) else name
    samples, problems = assemble(root, dataset, place, masked=True) if masked else ([], [])
    samples = [sample if sample.mask else replace(sample, label=0, defect="good") for sample in samples]
    problems = [problem for problem in problems if problem.kind != MISSING_MASK]
    count = many(len({sample.class_name for sample in samples}), "class")
    told = f"DAGM's layout: {count} with Train/Label and Test/Label, whose masks tell which images are anomalous"
    return Found(samples, told, problems) if samples else None
