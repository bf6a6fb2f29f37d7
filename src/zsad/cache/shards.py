"""One file of features: written whole or not at all, read row by row without reading the file.

A shard is a safetensors file of tensors [n, ...]. Its metadata say which space it belongs to, the key of each row, and
a checksum of each row.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zsad.errors import ZsadError

try:
    import fcntl
except ImportError:  # on Windows a file that is open cannot be removed, which is as good as a lock
    fcntl = None  # type: ignore[assignment]

SUFFIX, PART = ".safetensors", ".part"
DAY = 86_400  # seconds
HALF_MAX = torch.finfo(torch.float16).max  # 65504


class Damaged(Exception):
    """A file that is not, or no longer, a shard of its space."""


class Shard:
    """An open shard; its data are mapped into memory, and stay there when another process removes the file.

    Args:
        path: The file.
        space: That it must belong to.

    Raises:
        Damaged: If it does not, is cut short, or is no shard at all. Rows may still be damaged: :meth:`sound`.
        OSError: If it cannot be opened now.
    """

    def __init__(self, path: Path, space: str) -> None:
        self.path = path
        with path.open("rb"):  # what cannot be opened now is not damaged
            pass
        try:
            file: Any = safe_open(path, "pt")
            note = file.metadata() or {}
            self.keys: list[str] = json.loads(note["keys"])
            self._sums: list[int] = json.loads(note["sums"])
            self._columns = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            lengths = {len(self._sums), *(column.get_shape()[0] for column in self._columns.values())}
        except (SafetensorError, KeyError, IndexError, ValueError, TypeError) as error:
            raise Damaged(f"{path}: {error}") from error
        if note.get("space") != space or lengths != {len(self.keys)}:
            raise Damaged(f"{path}: of another space")

    def row(self, i: int) -> dict[str, Tensor]:
        """Views [1, ...] of one row; only its own bytes are read, when they are first looked at."""
        return {name: column[i : i + 1] for name, column in self._columns.items()}

    def sound(self, i: int) -> bool:
        """Whether a row is what was written."""
        return _checksum(self.keys[i], self.row(i)) == self._sums[i]


def write_shard(folder: Path, space: str, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> Path:
    """A new shard in a folder.

    Args:
        folder: Made where absent.
        space: That it belongs to.
        keys: [n].
        tensors: [n, ...] each.

    Raises:
        OSError: If it cannot be written; nothing is left then.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sums = [_checksum(key, {name: x[i : i + 1] for name, x in plain.items()}) for i, key in enumerate(keys)]
    path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    publish(path, save(plain, {"space": space, "keys": json.dumps(list(keys)), "sums": json.dumps(sums)}))
    return path


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Numbers as they are kept; those that are no floating-point numbers as they are.

    float16 has 11 bits: a number of at least 2**-14 changes by up to 2**-11 of itself (1 in 2,048), a smaller one by up
    to 2**-25.

    Raises:
        ZsadError: If a number is beyond ±65504, the end of float16.

    >>> float(rounded({"x": torch.tensor(1 + 2**-11)}, torch.float16)["x"])
    1.0
    """
    kept = {name: x.to(dtype) if x.is_floating_point() else x for name, x in tensors.items()}
    for name, x in tensors.items():
        if kept[name].dtype == torch.float16 and x.numel() and x.abs().max() > HALF_MAX:
            raise ZsadError(
                f'"{name}" has a value of {float(x.abs().max()):g}, and float16 ends at {HALF_MAX:.0f}; keep features '
                "as they are: --set cache_dtype=float32"
            )
    return kept


def publish(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever else is writing it at the same time.

    The data gather under a name of their own, which is locked as long as the writer lives: see :func:`sweep`.

    Raises:
        OSError: If it cannot be written.
    """
    part, file = _begun(path)
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if fcntl:  # under the lock; on Windows a file that is open cannot be renamed
                part.replace(path)
        if not fcntl:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers have left in a folder; a living one loses nothing."""
    for part in folder.glob(f"*{PART}"):
        with suppress(OSError):
            if fcntl is None or time.time() - part.stat().st_mtime > DAY:
                part.unlink()
            else:
                _unlink_unlocked(part)


def _unlink_unlocked(part: Path) -> None:
    """Remove a file under its lock.

    Raises:
        OSError: If its writer lives, or there are no locks on this file system.
    """
    with part.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def _begun(path: Path) -> tuple[Path, IO[bytes]]:
    """A new locked file beside `path`, and its name; begun again where it, or its folder, was removed meanwhile."""
    for left in (4, 3, 2, 1, 0):
        part = path.with_name(f"{uuid.uuid4().hex}{PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("xb")
        except FileNotFoundError:
            if not left:
                raise
            continue
        with suppress(OSError):  # some file systems have no locks; there nothing is swept for a day
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists():
            return part, file
        file.close()
    raise FileNotFoundError(f"{path.parent}: removed again and again by another process")


def _checksum(key: str, row: Mapping[str, Tensor]) -> int:
    """CRC-32 of a key and its tensors [1, ...], with their names, types and shapes."""
    total = crc32(key.encode())
    for name, tensor in sorted(row.items()):
        total = crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, total)
    return total
