"""What the folders that lead to a file say about it, and which mask belongs to which image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zsad.data.files import MASK_ENDS, natural, scan
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


_LABELS = {Role.NORMAL: 0, Role.ANOMALOUS: 1, Role.UNLABELLED: None}


@dataclass(frozen=True)
class Place:
    """What the folders that lead to a file say about it."""

    role: Role
    key: Key = ()  # what an image shares with its mask
    class_name: str = ""
    defect: str = ""
    split: str = "test"


def assemble(
    root: Path, dataset: str, place: Callable[[Folders], Place], masked: bool, ends: Sequence[str] = MASK_ENDS
) -> tuple[list[Sample], list[Problem]]:
    """The samples of a folder, sorted by class, split and path in natural order, and what is wrong with them.

    Args:
        root: Where the images are.
        dataset: Its name.
        place: What the folders between `root` and an image say about it.
        masked: Whether anomalous images should have masks; where not, no sample has one.
        ends: As in :func:`pair`.
    """
    files = scan(root)
    places = {folders: place(folders) for folders in {file.folders for file in files}}
    placed = [(places[file.folders], file) for file in files]

    def named(role: Role) -> list[tuple[Key, Path]]:
        return [((*place.key, file.stem), file.path) for place, file in placed if place.role is role]

    spare = [key for key, _ in named(Role.NORMAL)]
    mates, problems = pair(named(Role.ANOMALOUS), named(Role.MASK), spare, ends) if masked else ({}, [])
    samples = [
        Sample(
            file.path, mates.get(file.path), _LABELS[place.role], place.class_name, place.defect, place.split, dataset
        )
        for place, file in placed
        if place.role in _LABELS
    ]
    order = {place.class_name: natural(place.class_name) for place in places.values()}
    samples.sort(key=lambda sample: (order[sample.class_name], sample.split))
    return samples, [*problems, *(Problem(IGNORED, path) for _, path in named(Role.LOST))]


def pair(
    images: Sequence[tuple[Key, Path]],
    masks: Sequence[tuple[Key, Path]],
    spare: Iterable[Key] = (),
    ends: Sequence[str] = MASK_ENDS,
) -> tuple[dict[Path, Path], list[Problem]]:
    """Masks to images by name: the mask of x is x_mask (or x with another of `ends`), else x itself.

    Where no mask has the name of an image, but a folder of masks has, the folder is the mask: all that is marked in
    any file in it.

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
    used = {*own.values(), *(name for key in spare for name in (ended.get(key), key))}
    left = [key for key in named if key not in used]
    folders = {key[:-1]: named[key].parent for key in left if key[:-1] in own and own[key[:-1]] not in named}
    found = {key: named.get(own[key]) or folders.get(key) for key in own}
    problems = [Problem(MISSING_MASK, path) for key, path in images if not found[key]]
    problems += [Problem(SPARE_MASK, named[key]) for key in left if key[:-1] not in folders]
    return {path: mask for key, path in images if (mask := found[key])}, [*problems, *_unique(images)[1], *twice]


def without_end(key: Key, ends: Sequence[str]) -> Key | None:
    """The name of the image that a mask with this name marks, None where it has none of the ends.

    >>> without_end(("crack", "000_GT"), ["_mask", "_gt"]), without_end(("crack", "000"), ["_mask", "_gt"])
    (('crack', '000'), None)
    """
    stem = key[-1].lower()
    return next(((*key[:-1], key[-1][: -len(end)]) for end in ends if stem.endswith(end.lower())), None)


def _unique(files: Sequence[tuple[Key, Path]]) -> tuple[dict[Key, Path], list[Problem]]:
    """Each name with its first file, and the other files of that name as problems."""
    named: dict[Key, Path] = {}
    for key, path in files:
        named.setdefault(key, path)
    return named, [Problem(SAME_NAME, path, f"as {named[key].name}") for key, path in files if named[key] != path]
