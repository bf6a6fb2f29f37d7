"""Archives to folders: plain files below the folder and nothing else, whatever the archive asks for."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from zsad.download import Progress
from zsad.errors import ZsadError

_BROKEN = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class _Member:
    """A file or folder in an archive; only its name and its data are ever used, never its rights or links."""

    name: str
    size: int  # bytes, as declared; no more are read
    is_folder: bool
    is_plain: bool  # a file or a folder; no link, no device
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Write the files of an archive below a folder, which is made where it is absent.

    Everything is checked before the first file is written. What macOS adds under ``__MACOSX`` is left out. Stopped in
    the middle, it leaves what it has written.

    Args:
        archive: .zip, .tar, .tar.gz, .tar.xz or .tar.bz2, known by its content, not its name.
        folder: May hold files of other archives of the same set; a file that comes twice must be the same.
        progress: Told the bytes written and their total after every file.

    Raises:
        ZsadError: If a name leads out of the folder, a member is a link or a device, the files would not fit on the
            disk, a file comes twice and differs, or the archive is damaged, encrypted or of another kind.
    """
    try:
        with _members(archive) as members:
            _must_be_safe(archive, members)
            total, done = sum(member.size for member in members), 0
            folder.mkdir(parents=True, exist_ok=True)
            _must_fit(archive, total, folder)
            for member in members:
                _write(archive, member, folder)
                done += member.size
                if progress:
                    progress(done, total)
    except _BROKEN as error:
        raise ZsadError(f"{archive} cannot be unpacked: {error or type(error).__name__}") from error


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            infos = tar.getmembers()
            while tar.fileobj and tar.fileobj.read(1 << 20):
                pass  # to the very end, where gzip keeps its checksum
            yield [
                _Member(
                    info.name, info.size, info.isdir(), info.isreg() or info.isdir(), partial(tar.extractfile, info)
                )
                for info in infos
            ]
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [
                _Member(
                    info.filename,
                    info.file_size,
                    info.is_dir(),
                    not stat.S_ISLNK(info.external_attr >> 16),
                    partial(zipped.open, info),
                )
                for info in zipped.infolist()
                if not info.filename.startswith("__MACOSX/")
            ]
    else:
        raise ZsadError(f"{archive} is neither a zip nor a tar file; it may be damaged, or a page in its place")


def _must_be_safe(archive: Path, members: list[_Member]) -> None:
    for member in members:
        path = PureWindowsPath(member.name)  # understands both slashes, and drives
        if path.anchor or ".." in path.parts:
            raise ZsadError(f"{archive} was not unpacked: {member.name!r} in it leads out of the folder")
        if not member.is_plain:
            raise ZsadError(f"{archive} was not unpacked: {member.name!r} in it is a link or a device, not a file")


def _must_fit(archive: Path, total: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ZsadError(
            f"{archive} was not unpacked: its files take {total / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free "
            f"on the disk of {folder}; make room, or name a folder on another disk"
        )


def _write(archive: Path, member: _Member, folder: Path) -> None:
    target = folder / PurePosixPath(member.name.replace("\\", "/"))  # some zips are packed with Windows' slashes
    if member.is_folder:
        return target.mkdir(parents=True, exist_ok=True)
    data = member.open()
    assert data is not None  # it is for folders and devices
    with data:
        if target.is_file():
            if target.stat().st_size != member.size or target.read_bytes() != data.read():
                raise ZsadError(f"{archive} was not unpacked: {member.name} comes twice, and the two differ")
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(data, file, 1 << 20)
    return None
