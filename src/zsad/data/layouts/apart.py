"""Layouts that keep normal and anomalous images in folders of their own, or just images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from zsad.data.files import ABNORMAL_NAMES, NORMAL_NAMES, PAIRED_NAMES, existing, folders, many, means, natural, scan
from zsad.data.found import IGNORED, Found
from zsad.data.layouts.words import Words
from zsad.data.pairing import Folders, Place, Role, assembled
from zsad.types import Sample


def normal_abnormal(
    root: Path,
    *,
    normal: Collection[str] = NORMAL_NAMES,
    abnormal: Collection[str] = ABNORMAL_NAMES,
    ignored: Collection[str] = (),
) -> Found | None:
    """Normal and anomalous images in folders of their own, told by their names, normal first.

    ``good/`` and ``bad/``, with ``masks/`` beside them, in the root, or in each class of it: ``bolt/good``,
    ``nut/bad``. Folders inside them are searched as well, and name the defect, or the class where both have them:
    ``good/nut``, ``bad/nut``; one called "images" does not count. Where no folder says "anomalous", those beside the
    normal one are kinds of defect: ``good/``, ``scratch/``, ``dent/``.

    The mask of ``bad/7.jpg`` is ``masks/7.png`` or ``masks/7_mask.png``, ``bad/masks/7.png``, or ``bad/7_mask.png``
    beside it, with any image suffix. Masks of normal images are not used, nor are masks inside folders of images where
    normal ones have some as well: they mark other things, such as lungs. Without masks no sample has one.

    Args:
        root: The folder; it names the dataset, and the class where there are no folders of classes.
        normal: Names of folders with normal images, in any case.
        abnormal: Names of folders with anomalous images. One that is not among `ABNORMAL_NAMES` names the defect.
        ignored: Names of folders to leave out.
    """
    name = existing(root).resolve().name
    below = folders(root)
    words = Words(below, normal, abnormal, ignored)

    def place(inside: Folders) -> Place:
        return words.place(name, inside)

    told = {role: [path for path in below if place(path).role is role] for role in Role}
    labelled = told[Role.NORMAL] + told[Role.ANOMALOUS]
    alone = not told[Role.ANOMALOUS] or not told[Role.NORMAL]
    weak = alone and all(means(folder, PAIRED_NAMES) for path in labelled for folder in path[-1:])
    if not labelled or weak or words.has_images_apart(told):
        return None
    samples, problems, notes = assembled(root, name, place, masked=bool(told[Role.MASK]))
    lost = any(problem.kind == IGNORED and problem.path.parent != root for problem in problems)
    if not samples or (lost and alone and min(map(len, labelled)) > 1):
        return None
    order = {name: i for i, name in enumerate(dict.fromkeys(sample.class_name for sample in samples))}
    samples.sort(key=lambda sample: (order[sample.class_name], sample.split, sample.label))
    count = many(len(order), "class")
    return Found(samples, f"names of folders tell the label: {words.told(told)}; {count}{notes}", problems)


def unlabelled(root: Path) -> Found | None:
    """Any folder with images in it, at any depth: nothing is known about them."""
    name = existing(root).resolve().name
    files = scan(root)
    samples = [Sample(file.path, dataset=name) for file in files]
    said = _unknown(Counter(file.folders[-1] for file in files if file.folders))
    return Found(samples, f"{many(len(samples), 'image')} without labels{said}") if samples else None


def _unknown(counts: Counter[str], most: int = 4) -> str:
    """Which folders there are, and which names would have told something."""
    seen = sorted(counts, key=natural)
    listed = ", ".join(f"{name} ({many(counts[name], 'image')})" for name in seen[:most])
    more = f" and {len(seen) - most} more" if seen[most:] else ""
    which = "the folder" if len(seen) == 1 else "the folders"
    known = f"known are {', '.join(NORMAL_NAMES[:4])}, ... and {', '.join(ABNORMAL_NAMES[:4])}, ..."
    return f"; {which} {listed}{more}: not known as normal or anomalous ({known})" if seen else ""
