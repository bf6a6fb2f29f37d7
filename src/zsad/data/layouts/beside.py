"""Layouts that keep masks beside the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zsad.data.files import MASK_ENDS, MASK_STARTS, SPLITS, existing, folders, many, part_rows, plain, scan
from zsad.data.found import MISSING_MASK, SPARE_MASK, UNREADABLE, Found, Problem
from zsad.data.pairing import Folders, Place, Role, assemble, beside, without_end
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
    files = scan(root)
    mates: dict[Path, Path] = {}
    problems: list[Problem] = []
    for mask, image in beside(files, ends).items():
        if mates.setdefault(image, mask) != mask:
            problems.append(Problem(SPARE_MASK, mask, f"a further mask of {image.name}"))
    used = {*mates.values(), *(problem.path for problem in problems)}
    if not mates:
        return None
    samples: list[Sample] = []
    for file in files:
        if file.path in used:
            continue
        if file.path not in mates and without_end((file.stem,), ends) and not file.stem.lower().startswith(MASK_STARTS):
            problems.append(Problem(SPARE_MASK, file.path))
            continue
        if file.path not in mates:
            problems.append(Problem(MISSING_MASK, file.path))
        split = next((SPLITS[plain(folder)] for folder in file.folders if plain(folder) in SPLITS), "test")
        samples.append(Sample(file.path, mates.get(file.path), None, name, "", split, name))
    samples, unreadable = label_by_masks(samples, parts)
    image, mask = min(mates.items())
    told = f"the mask of {image.name} is {mask.name} beside it, and so on{told_empty(samples)}"
    told += f"; {parts} parts of each image" if parts > 1 else ""
    return Found(samples, told, sorted([*problems, *unreadable], key=lambda problem: problem.kind))


def label_by_masks(samples: Iterable[Sample], parts: int = 1) -> tuple[list[Sample], list[Problem]]:
    """Samples with the labels that the pixels of their masks tell, and as problems masks that cannot be read.

    One is anomalous where its mask marks a pixel, else normal; without a mask that can be read its label is not known.
    """
    labelled: list[Sample] = []
    problems = []
    for sample in samples:
        try:
            labelled += _labelled(sample, parts)
        except ZsadError as error:
            problems.append(Problem(UNREADABLE, sample.mask or sample.image, str(error)))
            labelled += _labelled(replace(sample, mask=None, label=None), parts)
    return labelled, problems


def told_empty(samples: Iterable[Sample]) -> str:
    """How many samples are normal because their mask is empty."""
    normal = sum(sample.label == 0 for sample in samples)
    return f"; {many(normal, 'empty mask')} taken as normal" if normal else ""


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
