"""Layouts that keep normal and abnormal images, or images and masks, in folders of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from zsad.data.files import (
    ABNORMAL_NAMES,
    CARRIER_NAMES,
    IMAGE_NAMES,
    MASK_NAMES,
    NORMAL_NAMES,
    SPLITS,
    cut_end,
    existing,
    folders,
    many,
    natural,
    one_of,
    plain,
    scan,
)
from zsad.data.found import IGNORED, Found
from zsad.data.pairing import Folders, Place, Role, assemble
from zsad.types import Sample


def normal_abnormal(
    root: Path,
    *,
    normal: Collection[str] = NORMAL_NAMES,
    abnormal: Collection[str] = ABNORMAL_NAMES,
    ignored: Collection[str] = (),
) -> Found | None:
    """Normal and abnormal images in folders of their own, told by their names, normal first.

    ``good/`` and ``bad/``, with ``masks/`` beside them, in the root, or in each class of it: ``bolt/good``,
    ``nut/bad``. Folders inside them are searched as well, and name the defect; one called "images" does not count.
    The mask of ``bad/7.jpg`` is ``masks/7.png`` or ``masks/7_mask.png``, with any image suffix. Masks of normal
    images are not used, nor are masks inside a folder of images, which mark other things, such as lungs. Without a
    folder of masks no sample has one.

    Args:
        root: The folder; it names the dataset, and the class where there are no folders of classes.
        normal: Names of folders with normal images, in any case.
        abnormal: Names of folders with abnormal images. One that is not among `ABNORMAL_NAMES` names the defect.
        ignored: Names of folders to leave out.
    """
    words = dict.fromkeys(map(plain, MASK_NAMES), Role.MASK)
    for role, names in ((Role.NORMAL, normal), (Role.ANOMALOUS, abnormal), (Role.ASIDE, ignored)):
        words |= dict.fromkeys(map(plain, names), role)
    name = existing(root).resolve().name

    def place(inside: Folders) -> Place:
        at = next((i for i, folder in enumerate(inside) if plain(folder) in words), None)
        return Place(Role.LOST) if at is None else _beside(name, inside, at, words)

    below = folders(root)
    told = {role: [path for path in below if place(path).role is role] for role in Role}
    labelled = told[Role.NORMAL] + told[Role.ANOMALOUS]
    if not labelled or _has_images_apart(told):
        return None
    samples, problems = assemble(root, name, place, masked=bool(told[Role.MASK]))
    lost = any(problem.kind == IGNORED and problem.path.parent != root for problem in problems)
    if not samples or (lost and min(map(len, labelled)) > 1):
        return None
    order = {name: i for i, name in enumerate(dict.fromkeys(sample.class_name for sample in samples))}
    samples.sort(key=lambda sample: (order[sample.class_name], sample.split, sample.label))
    return Found(samples, _understood(samples, told), problems)


def _has_images_apart(told: Mapping[Role, list[Folders]]) -> bool:
    """Whether this is rather for :func:`images_and_masks`, which may have a folder of normal images as well."""
    apart = any(one_of(path[-1], IMAGE_NAMES) for path in told[Role.LOST])
    return apart and bool(told[Role.MASK]) and not told[Role.ANOMALOUS]


def _understood(samples: list[Sample], told: Mapping[Role, list[Folders]]) -> str:
    said = []
    for kind, role in (("normal", Role.NORMAL), ("abnormal", Role.ANOMALOUS), ("masks", Role.MASK)):
        if names := {path[-1] for path in told[role] if path[:-1] not in told[role]}:
            said.append(f"{kind} in {', '.join(sorted(names, key=natural))}")
    count = many(len({sample.class_name for sample in samples}), "class")
    return f"names of folders tell the label: {'; '.join(said)}; {count}"


def _beside(name: str, inside: Folders, at: int, words: Mapping[str, Role]) -> Place:
    """What a folder is whose `at`-th name tells its role; `name` is for a class without a folder."""
    role = words[plain(inside[at])]
    above = [folder for folder in inside[:at] if plain(folder) not in (*CARRIER_NAMES, *SPLITS)]
    split = next((SPLITS[plain(folder)] for folder in inside[:at] if plain(folder) in SPLITS), "test")
    under = [folder for folder in inside[at + 1 :] if plain(folder) not in CARRIER_NAMES]
    inner = {words.get(plain(folder)) for folder in under}
    if len(above) > 2:
        return Place(Role.LOST)
    if Role.MASK in inner or (role is Role.MASK and Role.NORMAL in inner):
        role = Role.ASIDE
    if role is Role.MASK:  # masks/bad/7.png
        under = [folder for folder in under if words.get(plain(folder)) is not Role.ANOMALOUS]
    own = "" if one_of(inside[at], ABNORMAL_NAMES) else inside[at]
    defect = "good" if role is Role.NORMAL else under[0] if under else own
    return Place(role, (*above, split, *under), "/".join(above) or name, defect, split)


def images_and_masks(
    root: Path,
    *,
    images: Collection[str] = IMAGE_NAMES,
    masks: Collection[str] = MASK_NAMES,
    good: Collection[str] = NORMAL_NAMES,
) -> Found | None:
    """Anomalous images in one folder and their masks in another: ``images/`` and ``masks/``, in any case.

    Their names may begin alike, which may tell the split: ``test-image`` and ``test-mask`` (TN3K),
    ``ISBI2016_ISIC_Part1_Test_Data`` and ``ISBI2016_ISIC_Part1_Test_GroundTruth``. Folders above them are splits or
    classes; folders in them are mirrored, and name the defect. Without a folder of images, the images beside the
    folder of masks are meant. The mask of ``images/x.jpg`` is ``masks/x.png`` or ``masks/x_Segmentation.png``, with
    any of `MASK_ENDS` and any image suffix.

    An image with a mask is taken for anomalous, one in a `good` folder is normal. Of any other image the label is not
    known; it is reported as one without a mask.

    Args:
        root: The folder; it names the dataset, and the class where there are no folders of classes.
        images: Ends of the names of folders with images.
        masks: Ends of the names of folders with masks.
        good: Names of folders with normal images.
    """
    name = existing(root).resolve().name
    below = folders(root)
    words = {Role.MASK: masks, Role.ANOMALOUS: images}
    truth, other = ({path[:-1] for path in below if cut_end(path[-1], ends) is not None} for ends in words.values())

    def place(inside: Folders) -> Place:
        told = [(Role.NORMAL, "") if one_of(folder, good) else _told(folder, words) for folder in inside]
        return _apart(name, inside, told, bare=inside in truth - other)

    samples, problems = assemble(root, name, place, masked=True) if truth else ([], [])
    if not any(sample.mask for sample in samples):
        return None
    samples = [sample if sample.mask or sample.label == 0 else replace(sample, label=None) for sample in samples]
    seen = sorted({path[-1] for path in below if place(path).role is Role.MASK}, key=natural)
    return Found(samples, f"anomalous images, with masks of the same names in {', '.join(seen)}", problems)


def _told(folder: str, words: Mapping[Role, Collection[str]]) -> tuple[Role | None, str]:
    """The role that the end of a name tells, and the name without it; None and the name where it tells none."""
    cuts = ((role, cut_end(folder, ends)) for role, ends in words.items())
    return next(((role, rest) for role, rest in cuts if rest is not None), (None, folder))


def _apart(name: str, inside: Folders, told: list[tuple[Role | None, str]], bare: bool) -> Place:
    """What a folder is, from what each of its names tells; `bare`: a folder of masks lies in it, and none of images."""
    roles = [role for role, _ in told]
    leads = next((role for role in (Role.MASK, Role.NORMAL, Role.ANOMALOUS) if role in roles), None)
    if leads is None and not bare:
        return Place(Role.LOST)
    at = roles.index(leads) if leads else len(roles)
    tokens = [token for own, rest in told for token in ([rest] if own is None else rest.split("_"))]
    split = next((SPLITS[plain(token)] for token in tokens if plain(token) in SPLITS), "test")
    free = [rest if own is None and plain(rest) not in SPLITS else "" for own, rest in told]
    above, under = (list(filter(None, part)) for part in (free[:at], free[at:]))
    role = Role.ASIDE if leads is Role.MASK and Role.NORMAL in roles else leads or Role.ANOMALOUS
    defect = "good" if role is Role.NORMAL else under[0] if under else ""
    return Place(role, tuple(rest for _, rest in told if rest), "/".join(above) or name, defect, split)


def unlabelled(root: Path) -> Found | None:
    """Any folder with images in it, at any depth: nothing is known about them."""
    name = existing(root).resolve().name
    samples = [Sample(file.path, dataset=name) for file in scan(root)]
    return Found(samples, f"{many(len(samples), 'image')} without labels") if samples else None
