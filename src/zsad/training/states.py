"""States of a training on disk, by the number of steps that are done: the newest that is sound counts."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zsad.writing import whole

_DAMAGED = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError),
    *(struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError),
)


class States:
    """Records in a folder, of which the newest ones are kept.

    Args:
        folder: Made where absent.
        keep: How many stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep

    @property
    def there(self) -> bool:
        """Whether there is any, sound or not."""
        return bool(self._numbers())

    def kept(self, steps: int) -> list[int]:
        """Which are there once that of `steps` is written: it, and those before it that stay."""
        return sorted({steps, *(number for number in self._numbers() if number < steps)})[-self._keep :]

    def write(self, steps: int, record: dict[str, Any]) -> None:
        """Write a record, and when it is in place remove those that do not stay; also later ones, which are damaged.

        Args:
            steps: How many are done.
            record: Numbers, text, tensors, lists and mappings.

        Raises:
            ZsadError: If there is no room.
        """
        kept = self.kept(steps)
        data = io.BytesIO()  # torch writing to a full disk tells nothing of the disk
        torch.save(record, data)
        with whole(self._file(steps)) as part:
            part.write_bytes(data.getbuffer())
        for number in set(self._numbers()) - set(kept):
            self._file(number).unlink(missing_ok=True)

    def newest(self, say: Callable[[str], object]) -> dict[str, Any] | None:
        """The newest record that can be read, its tensors on the CPU; None where there is none.

        `say` is told of damaged ones.
        """
        for steps in sorted(self._numbers(), reverse=True):
            try:
                return _read(self._file(steps))
            except _DAMAGED as error:
                say(f"{self._file(steps)} is damaged ({error}); going on from before it")
        return None

    def _numbers(self) -> list[int]:
        return [int(file.stem) for file in self.folder.glob("*.pt") if file.stem.isdigit()]

    def _file(self, steps: int) -> Path:
        return self.folder / f"{steps:08d}.pt"


def _read(path: Path) -> dict[str, Any]:
    """The record in a file, every byte of it checked, which torch leaves out."""
    with zipfile.ZipFile(path) as archive:
        if (member := archive.testzip()) is not None:
            raise ValueError(f"{member} is not as it was written")
    record: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return record
