"""Features that are made in one way: a folder of shards, and a mapping from keys to rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsad.cache.shards import SUFFIX, Damaged, Shard, publish, rounded, sweep, write_shard
from zsad.errors import ZsadError

ABOUT = "about.json"

_WAYS_OUT = "`zsad cache list` shows what is there and `zsad cache clear NAME` removes it; or use --cache none"


class Space:
    """Features that are made in one way, by key; a mapping that only grows, shared with other processes.

    What has been found stays readable when another process clears the space: its data are mapped into memory, and the
    disk has its room back when the last reader ends. (On Windows a file that is mapped cannot be removed, so that
    clearing fails.) Any number of threads may read; one at a time may add.

    Args:
        folder: Of its shards.
        about: How the features are made; "dtype" says what they are kept as.
        room: Bytes that may be written.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], room: Callable[[], int]) -> None:
        self.folder, self.about, self._room = folder, as_json(about), room
        self._digest = digest_of(self.about)
        self._dtype: torch.dtype = getattr(torch, self.about.get("dtype", "float32"))
        self._seen: set[str] = set()  # names of files
        self._places: dict[str, tuple[Shard, int]] = {}
        self._sound: set[str] = set()  # keys whose rows were compared with their checksums
        if folder.is_dir():
            sweep(folder)
            self._describe()

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that are not here, in their order and each once.

        Looks anew at what other processes have added. A row that is not what was written counts as missing, and its
        file is removed.
        """
        self._look()
        return [key for key in dict.fromkeys(keys) if self._place(key) is None]

    def add(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Write rows as one file, whole or not at all; those whose key is here already are left out.

        Args:
            keys: [n]; of one that comes twice, the first row counts.
            tensors: [n, ...] each, rounded to what the space keeps: see :func:`zsad.cache.shards.rounded`.

        Raises:
            ZsadError: If there is no room within the limit or on the disk, the disk refuses, or a value does not fit.
        """
        new = self.missing(keys)
        if not new:
            return
        if len(new) < len(keys):
            first = {key: i for i, key in reversed([*enumerate(keys)])}
            tensors = {name: tensor[[first[key] for key in new]] for name, tensor in tensors.items()}
        kept = rounded(tensors, self._dtype)
        self._must_fit(sum(tensor.nbytes for tensor in kept.values()))
        try:
            path = write_shard(self.folder, self._digest, new, kept)
            self._describe()
        except OSError as error:
            reason = error.strerror or error
            raise ZsadError(f"cannot write features to {self.folder}: {reason}. {_WAYS_OUT}") from error
        self._open(path)
        self._sound.update(key for key in new if key in self._places and self._places[key][0].path == path)

    def read(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Rows [n, ...] in the order of the keys, of which there is at least one, as they are kept.

        Raises:
            KeyError: For a key that is not here; :meth:`missing` tells.
            ZsadError: If rows have different shapes.
        """
        rows = [shard.row(i) for shard, i in map(self._found, keys)]
        try:
            return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        except RuntimeError as error:
            raise ZsadError(
                "features of images of several shapes cannot stand in one batch; fit pad or stretch gives one shape"
            ) from error

    def _found(self, key: str) -> tuple[Shard, int]:
        place = self._place(key)
        if place is None:
            self._look()
            place = self._place(key)
        if place is None:
            raise KeyError(key)
        return place

    def _place(self, key: str) -> tuple[Shard, int] | None:
        """Where a row lies, compared with its checksum when it is first asked for."""
        place = self._places.get(key)
        if place is None or key in self._sound:
            return place
        shard, i = place
        if not shard.sound(i):
            self._forget(shard)
            return None
        self._sound.add(key)
        return place

    def _look(self) -> None:
        """Open the shards that are new."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name not in self._seen:
                self._open(path)

    def _open(self, path: Path) -> None:
        try:
            shard = Shard(path, self._digest)
        except Damaged:
            _unlink(path)
        except (OSError, RuntimeError):  # gone, not ours to read, no memory to map it: there may be a next time
            return
        else:
            for i, key in enumerate(shard.keys):
                self._places.setdefault(key, (shard, i))
        self._seen.add(path.name)

    def _forget(self, damaged: Shard) -> None:
        """Remove a shard; rows that were found sound before stay readable."""
        _unlink(damaged.path)
        for key in damaged.keys:
            if key not in self._sound and self._places.get(key, (None,))[0] is damaged:
                del self._places[key]

    def _describe(self) -> None:
        """Note how the features are made, and by the time of the file, that they were used."""
        path = self.folder / ABOUT
        if read_about(path) == self.about:
            with suppress(OSError):
                os.utime(path)
        else:
            with suppress(OSError):
                publish(path, (json.dumps(self.about, indent=2) + "\n").encode())

    def _must_fit(self, needed: int) -> None:
        if needed > (room := self._room()):
            raise ZsadError(
                f"{needed / 1e9:.3g} GB of features do not fit into {self.folder.parent}, which has room for "
                f"{room / 1e9:.3g} GB. {_WAYS_OUT}, --set cache_dtype=float16, or a larger --set cache_limit"
            )


def as_json(about: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(dict(about)))  # type: ignore[no-any-return]


def digest_of(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def read_about(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it is absent or damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
