"""What the folders that lead to a file say about it, and which mask belongs to which image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from zsad.data.files import MASK_ENDS, MASK_NAMES, MASK_STARTS, File, composed, many, natural, one_of, scan
from zsad.data.found import IGNORED, MISSING_MASK, SAME_NAME, SPARE_MASK, Problem
from zsad.types import Sample

Folders = tuple[str, ...]  # names that lead from the root to a file
Key = tuple[str, ...]  # what an image and its mask have in common: folders, and the name up to the suffix


class Role(Enum):
    """What the images in a folder are."""

    NORMAL = 0
    ANOMALOUS = 1
    UNLABELLED = 2
    MASK = 3
    ASIDE = 4  # known not to be wanted
    LOST = 5  # of unknown meaning
    UNUSED = 6  # masks of normal images


_LABELS = {Role.NORMAL: 0, Role.ANOMALOUS: 1, Role.UNLABELLED: None}


@dataclass(frozen=True)
class Place:
    """What the folders that lead to a file say about it."""

    role: Role
    key: Key = ()  # what an image shares with its mask
    class_name: str = ""
    defect: str = ""
    split: str = "test"


class Assembled(NamedTuple):
    """What is in a folder."""

    samples: list[Sample]  # by class, split and path in natural order
    problems: list[Problem]
    notes: str  # what a user should know of the masks, after "; ", or nothing


def assemble(
    root: Path, dataset: str, place: Callable[[Folders], Place], masked: bool, ends: Sequence[str] = MASK_ENDS
) -> tuple[list[Sample], list[Problem]]:
    """The samples of a folder, sorted by class, split and path in natural order, and what is wrong with them.

    Args:
        root: Where the images are.
        dataset: Its name.
        place: What the folders between `root` and an image say about it.
        masked: Whether anomalous images should have masks; where not, only those have one beside which it lies.
        ends: As in :func:`pair`.
    """
    return assembled(root, dataset, place, masked, ends)[:2]


def assembled(
    root: Path, dataset: str, place: Callable[[Folders], Place], masked: bool, ends: Sequence[str] = MASK_ENDS
) -> Assembled:
    """As :func:`assemble`, with notes on the masks."""
    files = scan(root)
    places = {folders: place(folders) for folders in {file.folders for file in files}}
    near = beside([file for file in files if places[file.folders].role in (Role.NORMAL, Role.ANOMALOUS)], ends)
    placed = [(places[file.folders], file) for file in files if file.path not in near]

    def named(role: Role) -> list[tuple[Key, Path]]:
        return [((*composed(place.key), file.stem), file.path) for place, file in placed if place.role is role]

    bad = named(Role.ANOMALOUS)
    mates, problems = _nearest({path for _, path in bad}, near)
    if masked or mates:
        others = [(key, path) for key, path in bad if path not in mates]
        spare = [key for key, _ in named(Role.NORMAL)]
        paired, wrong = pair(others, named(Role.MASK), spare, ends)
        mates, problems = mates | paired, [*problems, *wrong]
    samples = [
        Sample(
            file.path, mates.get(file.path), _LABELS[place.role], place.class_name, place.defect, place.split, dataset
        )
        for place, file in placed
        if place.role in _LABELS
    ]
    order = {place.class_name: natural(place.class_name) for place in places.values()}
    samples.sort(key=lambda sample: (order[sample.class_name], sample.split))
    lost = [Problem(IGNORED, path) for _, path in named(Role.LOST)]
    unused = bool(named(Role.UNUSED)) or not {path for _, path in bad}.issuperset(near.values())
    return Assembled(samples, [*problems, *lost], _notes(near, unused or _shares(named)))


def _shares(named: Callable[[Role], list[tuple[Key, Path]]]) -> bool:
    """Whether a folder of masks has some of normal images only."""
    masks = {bare or key for key, _ in named(Role.MASK) for bare in (key, without_end(key, MASK_ENDS)) if bare}
    normal, bad = ({key for key, _ in named(role)} for role in (Role.NORMAL, Role.ANOMALOUS))
    return bool(masks & (normal - bad))


def _notes(near: dict[Path, Path], unused: bool) -> str:
    said = ""
    if near:
        mask, image = next(iter(near.items()))
        said = f"; {many(len(near), 'mask')} beside the images, as {mask.name} of {image.name}"
    return said + ("; masks of normal images are not used" if unused else "")


def beside(files: Iterable[File], ends: Sequence[str] = MASK_ENDS) -> dict[Path, Path]:
    """The masks that lie in one folder with their image, each with that image.

    The mask of x is x_mask, x_mask_1 (or another of `ends`) or mask_x; or it is called "mask" alone, beside one other.
    """
    inside: dict[Folders, dict[str, Path]] = {}
    for file in files:
        inside.setdefault(file.folders, {}).setdefault(file.stem, file.path)
    near: dict[Path, Path] = {}
    for named in inside.values():
        rest = [stem for stem in named if not one_of(stem, MASK_NAMES)]
        for stem, path in named.items():
            image = rest[0] if len(rest) == 1 and len(named) == 2 and stem not in rest else bare(stem, ends)
            if image in named and image != stem:
                near[path] = named[image]
    return near


def _nearest(bad: set[Path], near: dict[Path, Path]) -> tuple[dict[Path, Path], list[Problem]]:
    """Anomalous images with the first mask beside them; further masks as problems."""
    mates: dict[Path, Path] = {}
    again = []
    for mask, image in near.items():
        if image in bad and mates.setdefault(image, mask) != mask:
            again.append(Problem(SPARE_MASK, mask, f"a further mask of {image.name}, which has {mates[image].name}"))
    return mates, again


def pair(
    images: Sequence[tuple[Key, Path]],
    masks: Sequence[tuple[Key, Path]],
    spare: Iterable[Key] = (),
    ends: Sequence[str] = MASK_ENDS,
) -> tuple[dict[Path, Path], list[Problem]]:
    """Masks to images by name: the mask of x is x_mask (or x with another of `ends`, or mask_x), else x itself.

    Where no mask has the name of an image, but a folder of masks has, the folder is the mask: all that is marked in
    any file in it. What is left over then belongs to the only image of its name, in any case, in folders further down.

    Args:
        images: Images that should have a mask, each under the name that counts.
        masks: Masks, each under the name that counts.
        spare: Names of images that need no mask; one that they have may be left over.
        ends: Ends of a mask's name, in any case.

    Returns:
        Image -> mask; and as problems images without a mask, masks left over, and names used twice. Of masks with one
        name the first is taken.
    """
    named, twice = _unique(masks)
    ended = {bare: key for key in reversed(named) if (bare := without_end(key, ends))}
    own = {key: ended.get(key, key) for key, _ in images}
    folders = {key[:-1]: named[key].parent for key in named if key[:-1] in own and own[key[:-1]] not in named}
    taken = set(own.values())
    free = [key for key in named if key not in taken and key[:-1] not in folders]
    own |= _further_down([key for key in own if own[key] not in named and key not in folders], list(own), free, ends)
    used = {*own.values(), *(name for key in spare for name in (ended.get(key), key))}
    found = {key: named.get(own[key]) or folders.get(key) for key in own}
    problems = [Problem(MISSING_MASK, path) for key, path in images if not found[key]]
    problems += [Problem(SPARE_MASK, named[key]) for key in free if key not in used]
    return {path: mask for key, path in images if (mask := found[key])}, [*problems, *_unique(images)[1], *twice]


def _further_down(lone: list[Key], images: list[Key], masks: list[Key], ends: Sequence[str]) -> dict[Key, Key]:
    """Images to masks whose folders are some of theirs, in order, where no other image and no other mask would fit."""
    stems: dict[str, list[Key]] = {}
    for key in images:
        stems.setdefault(re.sub("_0000$", "", key[-1]).casefold(), []).append(key)  # the first channel of nnU-Net
    fits: dict[Key, list[Key]] = {}
    for mask in masks:
        below = [key for name in {mask[-1], bare(mask[-1], ends) or ""} for key in stems.get(name.casefold(), ())]
        below = [key for key in below if _leads(mask[:-1], key[:-1])]
        if len(below) == 1:
            fits.setdefault(below[0], []).append(mask)
    return {key: fits[key][0] for key in lone if len(fits.get(key, ())) == 1}


def _leads(some: Folders, all_folders: Folders) -> bool:
    """Whether some folders are among all folders, in order."""
    rest = iter(all_folders)
    return all(folder in rest for folder in some)


def without_end(key: Key, ends: Sequence[str]) -> Key | None:
    """The name of the image that a mask with this name marks, None where it has none of the ends.

    >>> without_end(("crack", "000_GT"), ["_mask", "_gt"]), without_end(("crack", "000"), ["_mask", "_gt"])
    (('crack', '000'), None)
    """
    image = bare(key[-1], ends)
    return None if image is None else (*key[:-1], image)


def bare(stem: str, ends: Sequence[str] = MASK_ENDS) -> str | None:
    """The name of the image that a mask with this name marks, None where its name does not say so.

    >>> bare("7_mask"), bare("7-label"), bare("7_mask_1"), bare("mask_7"), bare("mask")
    ('7', '7', '7', '7', None)
    """
    any_of = ("|".join(map(re.escape, words)) for words in (MASK_STARTS, ends))
    match = re.fullmatch("(?:{})(.+)|(.+?)(?:{})(?:[_-][0-9]+)?".format(*any_of), stem, re.IGNORECASE)
    return next(filter(None, match.groups()), None) if match else None


def _unique(files: Sequence[tuple[Key, Path]]) -> tuple[dict[Key, Path], list[Problem]]:
    """Each name with its first file, and the other files of that name as problems."""
    named: dict[Key, Path] = {}
    for key, path in files:
        named.setdefault(key, path)
    return named, [Problem(SAME_NAME, path, f"as {named[key].name}") for key, path in files if named[key] != path]
