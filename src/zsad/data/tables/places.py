"""The names in a table to the files they stand for."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from zsad.data.files import MASK_NAMES, one_of, scan

_PROBES = 32  # names, spread over the table, that tell where its paths begin


class Places:
    """Finds what a table names: each folder is listed once, so that a row costs no look at the disk.

    Where the paths begin is settled by up to 32 of the names, spread over the table. It is whichever base holds most
    of them, the first of equals. Where no base holds any, the paths are of another machine: then the longest tail of
    a path that lies below a base counts, and what is before it is cut from all paths. A tail is more than the file
    name alone, unless all names share one folder.

    Args:
        names: The images of the table, one per row.
        bases: Folders that the names may be relative to.
    """

    def __init__(self, names: Sequence[str], bases: Sequence[Path]) -> None:
        self._listed: dict[str, dict[str, bool]] = {}
        self.ways: set[str] = set()  # how bare names were found: "name", "stem", "number"
        distinct = list(dict.fromkeys(names))
        probes = distinct[:: len(distinct) // _PROBES + 1]
        held = {base: sum(self._holds(base, name) for name in probes) for base in bases}
        self.base = max(bases, key=held.__getitem__)
        self.cut: tuple[str, ...] = ()  # leading folders that are cut from the paths
        if not held[self.base]:
            self.base, self.cut = self._tail(probes, bases) or (bases[0], ())

    def image(self, name: str) -> list[Path]:
        """The image with this name: a path, or a file name, stem or number that one image below the base has.

        Returns:
            One, or none where there is none, or several where it could be any of them.
        """
        path = next((path for path in self._paths(name) if self._is_file(self.base, path)), None)
        return self._bare(name, masks=False) if path is None else [Path(self.base, path)]

    def mask(self, name: str, image: Path) -> list[Path]:
        """The mask of an image, or a folder of masks; as :meth:`image`, but bare names are looked up among masks."""
        paths = [self.base / path for path in self._paths(name) if self._entry(self.base, path) is not None]
        return [path for path in paths if path != image][:1] or self._bare(name, masks=True)

    def _paths(self, name: str) -> Iterator[str]:
        for path in _spellings(name):
            if self.cut and (parts := _parts(path))[: len(self.cut)] == self.cut:
                yield "/".join(parts[len(self.cut) :])
            yield path

    def _holds(self, base: Path, name: str) -> bool:
        return any(self._is_file(base, path) for path in _spellings(name))

    def _is_file(self, base: Path, path: str) -> bool:
        return self._entry(base, path) is False

    def _entry(self, base: Path, path: str) -> bool | None:
        """Whether a path is a folder; None where there is nothing."""
        folder, name = os.path.split(os.path.join(base, path))
        if folder not in self._listed:
            self._listed[folder] = _listing(folder)
        found = self._listed[folder].get(name)
        if found is None and os.path.exists(os.path.join(folder, name)):  # "..", or a system that knows no case
            return os.path.isdir(os.path.join(folder, name))
        return found

    def _tail(self, probes: Sequence[str], bases: Sequence[Path]) -> tuple[Path, tuple[str, ...]] | None:
        bare = [name.strip().replace("\\", "/") for name in probes]
        least = 1 if len({_parts(name)[:-1] for name in bare}) == 1 else 2
        paths = [_parts(form) for name in bare for form in _forms(name)]
        held = Counter(
            (base, path[:cut]) for base in bases for path in paths if (cut := self._longest(base, path, least))
        )
        return held.most_common(1)[0][0] if held else None

    def _longest(self, base: Path, path: tuple[str, ...], least: int) -> int | None:
        """How many leading folders to cut so that the longest tail remains that is a file below the base."""
        cuts = range(1, len(path) - least + 1)
        return next((cut for cut in cuts if self._is_file(base, "/".join(path[cut:]))), None)

    def _bare(self, name: str, masks: bool) -> list[Path]:
        """The files below the base with a name that is not a path."""
        name = name.strip()
        if not name or "/" in name or "\\" in name:
            return []
        for way, key in _keys(name, name):
            if found := self._scanned[masks].get((way, key)):
                self.ways.add(way)
                return found
        return []

    @cached_property
    def _scanned(self) -> tuple[dict[_Key, list[Path]], dict[_Key, list[Path]]]:
        """Images and masks below the base, by name, stem and number."""
        found: tuple[dict[_Key, list[Path]], dict[_Key, list[Path]]] = ({}, {})
        files = scan(self.base) if self.base.is_dir() else []
        places = {file.folders for file in files}
        of_masks = {folders: any(one_of(name, MASK_NAMES) for name in folders) for folders in places}
        for file in files:
            for key in _keys(file.path.name, file.stem):
                found[of_masks[file.folders]].setdefault(key, []).append(file.path)
        return found


def below(path: Path, folder: Path) -> str | None:
    """The path of a file relative to a folder that it lies in, with "/"; None where it does not.

    >>> below(Path("set/bottle/1.png"), Path("set"))
    'bottle/1.png'
    """
    top, full = os.path.join(os.path.abspath(folder), ""), os.path.abspath(path)
    return Path(full[len(top) :]).as_posix() if full.startswith(top) else None


_Key = tuple[str, "str | int"]


def _keys(name: str, stem: str) -> Iterator[_Key]:
    yield "name", unicodedata.normalize("NFC", name).casefold()
    yield "stem", unicodedata.normalize("NFC", stem).casefold()
    if stem.isdecimal() and len(stem) < 20:
        yield "number", int(stem)


def _spellings(name: str) -> tuple[str, ...]:
    """A path as it is, without blanks around it, and with "/" for "\\", and in each form of its accents."""
    bare = name.strip()
    spellings = (name, bare, bare.replace("\\", "/"))
    return tuple(dict.fromkeys((*spellings, *(form for path in spellings for form in _forms(path)))))


def _forms(text: str) -> tuple[str, ...]:
    """A text as it is, and with its accents as most systems and as macOS write them; those that differ."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts


def _listing(folder: str) -> dict[str, bool]:
    """What is in a folder, and whether it is a folder itself; nothing where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir() for entry in entries}
    except (OSError, ValueError):
        return {}
