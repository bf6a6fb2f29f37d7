"""What the names of folders tell where normal and anomalous images lie apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from zsad.data.files import (
    ABNORMAL_NAMES,
    CARRIER_NAMES,
    IMAGE_NAMES,
    MASK_NAMES,
    NORMAL_NAMES,
    PAIRED_NAMES,
    SPLITS,
    core,
    cut_end,
    means,
    natural,
    one_of,
    plain,
)
from zsad.data.pairing import Folders, Place, Role

_LABELS = (Role.NORMAL, Role.ANOMALOUS)
_AFTER_ANYTHING = ("masks", "mask", "ground_truth", "groundtruth", "gt")  # bad_mask, scratch_masks
_NEITHER = frozenset({  # never a kind of defect, wherever they are
    "unlabeled", "unlabelled", "unknown", "unsure", "uncertain", "unsorted", "unclassified", "maybe", "overlay",
    "overlays", "result", "results", "output", "outputs", "predictions", "heatmaps", "maps", "raw", "other", "misc",
    "backup", "archive", "docs", "new", "tmp", "temp", "xyz", "depth",
})  # fmt: skip
_NEGATIONS = frozenset({"no", "non", "not", "without", "free", "ohne", "kein", "keine", "sans", "sin"})


class Words:
    """What each folder below a root is, from its own name, those above it and those beside it."""

    def __init__(
        self, below: list[Folders], normal: Collection[str], abnormal: Collection[str], ignored: Collection[str]
    ) -> None:
        self._names = {Role.ASIDE: ignored, Role.ANOMALOUS: abnormal, Role.NORMAL: normal}
        self._known: dict[str, Role | None] = {}
        self._inside: dict[Folders, list[str]] = {}
        for path in below:
            self._inside.setdefault(path[:-1], []).append(path[-1])
        self._kinds: set[Folders] = set()
        if not any(self._word(path[-1]) is Role.ANOMALOUS for path in below):
            self._kinds = {kind for parent in self._inside for kind in self._beside_normal(parent)}
        self._classes: set[Folders] = set()
        self._classes = self._first_inside(below, Role.NORMAL) & self._first_inside(below, Role.ANOMALOUS)
        self._lungs = any(self._at(path)[1] is Role.NORMAL and self._has_mask(path) for path in below)

    def _word(self, folder: str) -> Role | None:
        """What a name alone tells."""
        if folder not in self._known:
            self._known[folder] = self._read(folder)
        return self._known[folder]

    def _read(self, folder: str) -> Role | None:
        if told := next((role for role, names in self._names.items() if means(folder, names)), None):
            return told
        rest = "" if one_of(folder, MASK_NAMES) else cut_end(folder, _AFTER_ANYTHING)
        if rest is None and (label := cut_end(folder, MASK_NAMES)) and self._word(label) in _LABELS:  # bad_label
            rest = label
        return None if rest is None else Role.UNUSED if rest and means(rest, self._names[Role.NORMAL]) else Role.MASK

    def _role(self, path: Folders) -> Role | None:
        """What a folder is, from its name and from what is beside and inside it."""
        if path in self._kinds:
            return Role.ANOMALOUS
        role = self._word(path[-1])
        return None if role in (Role.MASK, Role.UNUSED) and self._is_product(path) else role

    def _is_product(self, path: Folders) -> bool:
        """Whether a folder called "label" is one of labels: it has normal and anomalous images, and none beside it."""
        inside = {self._word(name) for name in self._inside.get(path, ())}
        near = self._inside.get(path[:-1], ())
        apart = any(self._word(name) in _LABELS or one_of(name, CARRIER_NAMES) for name in near)
        return inside.issuperset(_LABELS) and not apart

    def _beside_normal(self, parent: Folders) -> list[Folders]:
        """The folders beside the only normal one that can be kinds of defect, as in good, scratch, dent."""
        near = self._inside[parent]
        normal = {core(name) for name in near if self._word(name) is Role.NORMAL}
        if len(normal) != 1 or normal & {*PAIRED_NAMES} or any(one_of(name, CARRIER_NAMES) for name in near):
            return []
        return [(*parent, name) for name in near if self._can_be_defect((*parent, name))]

    def _can_be_defect(self, path: Folders) -> bool:
        name = path[-1]
        tokens = {*plain(name).split("_")}
        known = self._word(name) or one_of(name, SPLITS) or cut_end(name, MASK_NAMES) is not None
        other = tokens & (_NEITHER | _NEGATIONS | {*NORMAL_NAMES}) or not any(map(str.isalpha, name))
        return not (known or other or self._has_normal(path))

    def _has_normal(self, path: Folders) -> bool:
        names = self._inside.get(path, ())
        return any(self._word(name) is Role.NORMAL or self._has_normal((*path, name)) for name in names)

    def _at(self, path: Folders) -> tuple[int, Role | None]:
        """Which folder of a path is the first that tells something, and what."""
        told = ((i, self._role(path[: i + 1])) for i in range(len(path)))
        return next(((i, role) for i, role in told if role), (len(path), None))

    def _has_mask(self, path: Folders) -> bool:
        return any(self._word(folder) is Role.MASK for folder in path[self._at(path)[0] + 1 :])

    def _first_inside(self, below: list[Folders], wanted: Role) -> set[Folders]:
        """The folders above a label with the first one inside it, in which images of one class may lie."""
        found = set()
        for path in below:
            at, role = self._at(path)
            under = self._meaning(path[at + 1 :])
            if role is wanted and under and path[: at + 1] not in self._kinds and not self._has_mask(path):
                found.add((*path[:at], plain(under[0])))
        return found

    def _meaning(self, inside: Folders) -> list[str]:
        """Folders without those that only say that images are in them, or in which split."""
        return [folder for folder in inside if not one_of(folder, (*CARRIER_NAMES, *SPLITS))]

    def place(self, name: str, inside: Folders) -> Place:
        """What a folder is; `name` is for a class without a folder."""
        at, role = self._at(inside)
        above, under = self._meaning(inside[:at]), self._meaning(inside[at + 1 :])
        if role is None or len(above) > 2:
            return Place(Role.LOST)
        splits = [SPLITS[plain(folder)] for folder in inside if plain(folder) in SPLITS]
        if role in _LABELS and under and (*inside[:at], plain(under[0])) in self._classes:  # good/nut, bad/nut
            above, under = [*above, under[0]], under[1:]
        named = inside[: at + 1] in self._kinds
        folder = Place(role, (), "/".join(above) or name, "good", splits[0] if splits else "test")
        role, under = self._masks(role, under)
        key = (*splits[:1], *above, *([inside[at]] if named and role is not Role.UNUSED else []), *under)
        own = inside[at] if named or not means(inside[at], ABNORMAL_NAMES) else ""
        defect = "good" if role is Role.NORMAL else own if named or not under else under[0]
        return replace(folder, role=role, key=key, defect=defect)

    def _masks(self, role: Role, under: list[str]) -> tuple[Role, list[str]]:
        """What a folder is in the end, and the folders that it shares with its masks or images."""
        inner = [self._word(folder) for folder in under]
        if role is Role.MASK and Role.NORMAL in inner:
            return Role.UNUSED, under
        if role in _LABELS and Role.MASK in inner:  # bad/masks/7.png
            role = Role.UNUSED if self._lungs or role is Role.NORMAL else Role.MASK
            return role, [folder for folder, kind in zip(under, inner, strict=True) if kind is not Role.MASK]
        if role is Role.MASK:  # masks/bad/7.png
            under = [folder for folder, kind in zip(under, inner, strict=True) if kind is not Role.ANOMALOUS]
        return role, under

    def has_images_apart(self, told: Mapping[Role, list[Folders]]) -> bool:
        """Whether this is rather for images_and_masks, which may have a folder of normal images as well."""
        apart = any(one_of(path[-1], IMAGE_NAMES) for path in told[Role.LOST])
        return apart and bool(told[Role.MASK]) and not told[Role.ANOMALOUS]

    def told(self, told: Mapping[Role, list[Folders]]) -> str:
        """Which names told normal from anomalous."""
        said = []
        for kind, role in (("normal", Role.NORMAL), ("anomalous", Role.ANOMALOUS), ("masks", Role.MASK)):
            if names := {path[-1] for path in told[role] if path[:-1] not in told[role]}:
                said.append(f"{kind} in {', '.join(sorted(names, key=natural))}")
        if kinds := sorted({path[-1] for path in self._kinds}, key=natural):
            said.append(f"{', '.join(kinds)} taken for {'kinds' if kinds[1:] else 'a kind'} of defect")
        if self._lungs:
            said.append("masks inside normal and anomalous folders alike are not used")
        return "; ".join(said)
