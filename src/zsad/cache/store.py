"""The cache folder: one folder of shards for all features that are made in one way, and a limit for the whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from zsad.cache.shards import SUFFIX, Damaged, Shard, sweep
from zsad.cache.space import ABOUT, Space, as_json, digest_of, read_about
from zsad.download import cache_folder
from zsad.errors import ZsadError, unknown

LIMIT = 200 * 10**9  # bytes of all features on disk
RESERVE = 2**30  # bytes of the disk that are left free
DIGITS = 16  # of a space's digest that name its folder; its shards hold the whole digest


@dataclass(frozen=True)
class SpaceInfo:
    """What there is of features that are made in one way."""

    name: str  # of its folder
    about: Mapping[str, Any]  # how they are made; empty where that is not known any more
    entries: int  # images
    bytes: int
    last_used: datetime


class FeatureCache:
    """All features on disk. Nothing is ever removed on its own, but what is damaged.

    Args:
        folder: Made when something is written; None: "features" in the folder of plain downloads.
        limit: Bytes of everything in it. Processes that write at the same time may cross it by one file each.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder or cache_folder() / "features", limit

    def space(self, about: Mapping[str, Any]) -> Space:
        """The features that are made as `about` says: values of JSON, everything they depend on beside the sample."""
        return Space(self.folder / digest_of(as_json(about))[:DIGITS], about, self.room)

    def spaces(self) -> list[SpaceInfo]:
        """What there is, last used first."""
        return sorted(map(_info, self._folders()), key=lambda info: info.last_used, reverse=True)

    def clear(self, names: Sequence[str] = ()) -> int:
        """Remove spaces; what another process is writing at this moment stays.

        Args:
            names: Of spaces, or the beginnings of their names; none: all.

        Returns:
            Bytes that are given back.

        Raises:
            ZsadError: If there is no such space, or more than one, or a file cannot be removed.
        """
        folders = list(self._folders())
        chosen = [_named(folders, name) for name in names] if names else folders
        return sum(_removed(folder) for folder in dict.fromkeys(chosen))

    def used(self) -> int:
        """Bytes of all features."""
        return sum(_size(path) for folder in self._folders() for path in folder.iterdir())

    def room(self) -> int:
        """Bytes that may still be written: of the limit, and of the disk less :data:`RESERVE`."""
        there = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.is_dir())
        return max(0, min(self.limit - self.used(), shutil.disk_usage(there).free - RESERVE))

    def _folders(self) -> Iterator[Path]:
        names = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return (path for path in found if names.fullmatch(path.name) and path.is_dir())


def _info(folder: Path) -> SpaceInfo:
    about, keys = read_about(folder / ABOUT), set[str]()
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(Damaged, OSError, RuntimeError):
            keys.update(Shard(path, digest_of(about)).keys)
    noted = folder / ABOUT if about else folder
    used = datetime.fromtimestamp(noted.stat().st_mtime, timezone.utc)
    return SpaceInfo(folder.name, about, len(keys), sum(map(_size, folder.iterdir())), used)


def _named(folders: Sequence[Path], name: str) -> Path:
    found = [folder for folder in folders if name and folder.name.startswith(name)]
    if len(found) > 1:
        raise ZsadError(f'"{name}" is the beginning of {", ".join(folder.name for folder in found)}; type more of it')
    if not found:
        raise unknown("kept features", name, [folder.name for folder in folders], "zsad cache list")
    return found[0]


def _removed(folder: Path) -> int:
    """Remove a space but what is being written; bytes that are given back."""
    sweep(folder)
    ours = [path for path in folder.iterdir() if path.suffix == SUFFIX or path.name == ABOUT]
    given = 0
    for path in sorted(ours, key=lambda path: path.name == ABOUT):  # that last: until then `list` knows what it is
        size = _size(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise ZsadError(f"cannot remove {path}: {reason}; end the training that reads it, and try again") from error
        given += size
    with suppress(OSError):  # somebody else's files, or somebody who is writing
        folder.rmdir()
    return given


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0
