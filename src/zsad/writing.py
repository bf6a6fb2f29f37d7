"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zsad.errors import ZsadError


class NameTooLongError(ZsadError):
    """A file cannot be written because the file system allows no name of its length."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, and disappears otherwise.

    Whenever the process is killed or the power fails, `path` is as it was before or as it shall be: the data reach the
    disk before the name does. One process at a time may write to a path. Folders are made where absent.

    Raises:
        NameTooLongError: If the file system allows no name of this length.
        ZsadError: If it cannot be written or renamed for another reason.

    >>> import tempfile
    >>> note = Path(tempfile.mkdtemp()) / "folder" / "note.txt"
    >>> with whole(note) as part:
    ...     _ = part.write_text("all of it")
    >>> note.read_text(), part.exists()
    ('all of it', False)
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`, in which an error of the system becomes one for a person.

    Raises:
        NameTooLongError: If the file system allows no name of this length.
        ZsadError: If it cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NameTooLongError(f"cannot write {path}: the name is too long; choose a shorter one") from error
        reason = error.strerror or error
        raise ZsadError(f"cannot write {path}: {reason}; make room for it there, or name another place") from error
