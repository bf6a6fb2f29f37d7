"""The layout that keeps images and their masks in folders of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from zsad.data.files import (
    IMAGE_NAMES,
    MASK_NAMES,
    NORMAL_NAMES,
    SPLITS,
    cut_end,
    existing,
    folders,
    means,
    natural,
    plain,
)
from zsad.data.found import Found
from zsad.data.layouts.beside import label_by_masks, told_empty
from zsad.data.pairing import Folders, Place, Role, assembled


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

    Where there is a `good` folder, its images are normal, and those with a mask are anomalous. Where there is none, the
    masks are read: an image is anomalous where its mask marks a pixel, else normal. Of any other image the label is
    not known; it is reported as one without a mask, or with one that cannot be read.

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
        both = [inside[: i + 1] in truth & other for i in range(len(inside))]  # Segmentation/images, Segmentation/masks
        names = zip(inside, both, strict=True)
        told = [
            (Role.NORMAL, "") if means(folder, good) else (None, folder) if above else _told(folder, words)
            for folder, above in names
        ]
        return _apart(name, inside, told, bare=inside in truth - other)

    samples, problems, notes = assembled(root, name, place, masked=True) if truth else ([], [], "")
    if not any(sample.mask for sample in samples):
        return None
    samples = [sample if sample.mask or sample.label == 0 else replace(sample, label=None) for sample in samples]
    seen = sorted({path[-1] for path in below if place(path).role is Role.MASK}, key=natural)
    said = f"masks of the same names in {', '.join(seen)}" if seen else "masks"
    if any(sample.label == 0 for sample in samples):
        return Found(samples, f"anomalous images, with {said}{notes}", problems)
    samples, unreadable = label_by_masks(samples)
    return Found(samples, f"images, with {said}{told_empty(samples)}{notes}", [*problems, *unreadable])


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
    role = Role.UNUSED if leads is Role.MASK and Role.NORMAL in roles else leads or Role.ANOMALOUS
    defect = "good" if role is Role.NORMAL else under[0] if under else ""
    return Place(role, tuple(rest for _, rest in told if rest), "/".join(above) or name, defect, split)
