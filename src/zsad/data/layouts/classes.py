"""MVTec AD's layout, and those of the datasets that follow it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from zsad.data.files import (
    ABNORMAL_NAMES,
    CARRIER_NAMES,
    MASK_NAMES,
    NORMAL_NAMES,
    SPLITS,
    cut_end,
    existing,
    folders,
    many,
    means,
    one_of,
    plain,
)
from zsad.data.found import Found
from zsad.data.pairing import Folders, Place, Role, assembled

_TRUTH = ("ground_truth", "groundtruth", "gt", "masks")
_ASIDE = ("xyz",)  # point clouds beside rgb/ and gt/ in MVTec 3D-AD
_LABELS = (*NORMAL_NAMES, *ABNORMAL_NAMES)


def class_folders(root: Path, *, normal: Collection[str] = NORMAL_NAMES) -> Found | None:
    """MVTec AD's layout and its relatives: ``[class/]<split>/<defect>/...``, ``[class/]ground_truth/<defect>/...``.

    The defect with a name in `normal` is normal, every other is anomalous. The mask of ``test/crack/000.png`` is
    ``ground_truth/crack/000_mask.png`` or ``000.png``, with any image suffix, or else the folder
    ``ground_truth/crack/000`` (MVTec LOCO), which stands for all that is marked in any mask in it. Masks may also lie
    in ``test/crack/gt`` (MVTec 3D-AD), ``test/Ungood/label`` or ``test/label/Ungood`` (BMAD) and
    ``test_public/ground_truth`` (MVTec AD 2). Folders inside a defect's are mirrored by the masks. Masks of normal
    images are not used. Where no class has a folder for masks, the dataset is one without. Images in
    ``test_private`` and ``test_private_mixed`` have no label.

    Args:
        root: A folder of classes, or one class; a sample has the same class and dataset name either way.
        normal: Names of normal "defects", in any case.
    """
    below = folders(existing(root))
    classes = _classes(below, normal)
    shared = {path[:-1] for path in below if plain(path[-1]) in _TRUTH}
    name = root.resolve().name

    def place(inside: Folders) -> Place:
        at = next((n for n in range(len(inside) + 1) if inside[:n] in classes), -1)
        if at < 0:
            return Place(Role.LOST)
        return _place(inside[:at] or (name,), inside[at:], inside[:at] in shared, normal)

    masked = any(place(path).role is Role.MASK for path in below)
    dataset = root.resolve().parent.name if () in classes else name
    samples, problems, notes = assembled(root, dataset, place, masked) if classes else ([], [], "")
    count = many(len({sample.class_name for sample in samples}), "class")
    truth = "ground_truth/<defect>" if shared else "masks in its folder" if masked else "no masks"
    told = f"MVTec AD's layout: {count} with <split>/<defect> and {truth}{notes}"
    return Found(samples, told, problems) if samples else None


def _classes(below: list[Folders], normal: Collection[str]) -> set[Folders]:
    """The folders that have normal images in a split, or masks beside one, as near to the root as there are some."""
    splits = {path[:-1] for path in below if plain(path[-1]) in SPLITS}
    found = {path[:-1] for path in below if plain(path[-1]) in _TRUTH} & splits
    for path in below:
        if len(path) > 1 and plain(path[-2]) in SPLITS and means(path[-1], normal):
            found.add(next(path[:n] for n in range(len(path)) if plain(path[n]) in SPLITS))
    return {path for path in found if len(path) == min(map(len, found))}


def _place(prefix: Folders, inside: Folders, shared: bool, normal: Collection[str]) -> Place:
    """What a folder in the class `prefix` is; `shared`: the masks of all its splits lie in one folder."""
    at = next((i for i, folder in enumerate(inside) if plain(folder) not in SPLITS), len(inside))
    split = SPLITS[plain(inside[at - 1])] if at else ""
    if split.startswith("test_private"):
        return Place(Role.UNLABELLED, inside, prefix[-1], split=split)
    role, rest = _kind(inside[at:])
    defect = rest[0] if rest else ""
    if not (split and defect) and not (inside and plain(inside[0]) in _TRUTH):
        return Place(Role.LOST)
    if role is not Role.ASIDE and means(defect, normal):
        role, defect = Role.UNUSED if role is Role.MASK else Role.NORMAL, "good"
    return Place(role, (*prefix, "" if shared else split, *rest), prefix[-1], defect, split)


def _kind(inside: Folders) -> tuple[Role, Folders]:
    """What the files below a split are, and their folders without the one that tells it.

    >>> [_kind(folders)[0].name for folders in (("Ungood", "img"), ("label", "Ungood"), ("label",), ("gt", "crack"))]
    ['ANOMALOUS', 'MASK', 'ANOMALOUS', 'MASK']
    """
    if inside and plain(inside[0]) in _TRUTH:
        return Role.MASK, _kind(inside[1:])[1]
    for at in (1, 0) if len(inside) > 1 else ():
        word, rest = plain(inside[at]), inside[:at] + inside[at + 1 :]
        if word in (*_ASIDE, *CARRIER_NAMES):
            return Role.ASIDE if word in _ASIDE else Role.ANOMALOUS, rest
        if cut_end(word, MASK_NAMES) in ("", *SPLITS, *ABNORMAL_NAMES) and (at or one_of(rest[0], _LABELS)):
            return Role.MASK, rest  # Ungood/label, Ungood/anomaly_mask; label/Ungood, test_label/Ungood
    return Role.ANOMALOUS, inside
