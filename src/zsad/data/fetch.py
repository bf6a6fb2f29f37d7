"""A dataset of the catalog onto this machine: downloaded, checked, unpacked, and in its place whole or not at all.

The tests do all this with small archives from a server on the same machine; no address of the catalog was tried.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from textwrap import indent
from urllib.parse import urlsplit

from zsad import download
from zsad.data.catalog import Dataset
from zsad.data.index import placed
from zsad.data.unpack import unpack
from zsad.download import Progress, UrlFile
from zsad.errors import ZsadError

Say = Callable[[str], object]  # one thing to know, as it happens
_ATTEMPTS = 10  # connections per file: sets are large


def fetch(
    row: Dataset,
    root: Path,
    progress: Progress | None = None,
    say: Say | None = None,
    keep_archive: bool = False,
) -> Path:
    """Download and unpack a dataset. What was stopped goes on where it was when called again in the same way.

    Archives gather in ROOT.download beside `root`; a file put there by hand under an archive's name is taken as it. The
    files are unpacked there too, and become `root` in one step. Where nobody published an archive's hash, it is noted
    in ROOT.sha256, and an archive that is fetched later for the same `root` must be the same.

    Args:
        row: Row of the catalog.
        root: Folder to make; it must not be there yet, or be empty.
        progress: Told bytes done and their total (None where unknown), from 0 for each download and each unpacking.
        say: Told the licence before anything is downloaded, then each step.
        keep_archive: Leave the archives in ROOT.download.

    Returns:
        The folder that the row's layouts read: `root`, or the only folder in it.

    Raises:
        ZsadError: If `row` has no archives, with :func:`instructions`; if `root` has files; if an archive cannot be
            had, is not the expected one, or cannot be unpacked; if the files lie otherwise than the row says.
    """
    if not row.archives:
        raise ZsadError(instructions(row, root))
    place = Path(os.path.realpath(root))
    say = say or (lambda _: None)
    _must_be_free(place, root)
    say(f"{row.title}: {row.page}\n{_licence(row)}")
    work = place.with_name(f"{place.name}.download")
    files = [_archive(row, archive, root, work, progress, say) for archive in row.archives]
    try:
        _unpack_all(files, work / ".unpacked", place, progress, say)
    except (ZsadError, OSError) as error:
        raise ZsadError(
            f"{row.title}: {error}\n  The archive is kept: try again, unpack it yourself into {root}, "
            f"or delete {work} to download it again."
        ) from error
    if not keep_archive:
        _tidy(files, work)
    return placed(row, root)[0]


def instructions(row: Dataset, root: Path) -> str:
    """How to get a dataset by hand: where it is, under which licence, how it must lie, and what to type then."""
    where = shlex.quote(str(root))
    start = (
        f"`zsad data fetch {row.name} {where}` downloads and unpacks {row.title}. By hand:"
        if row.archives
        else f"zsad knows no address that gives {row.title} without a browser, so this needs you:"
    )
    return "\n".join(
        [
            start,
            "",
            f"  1. Get it from {row.page}",
            f"     {_licence(row)}",
            f"  2. Unpack it into {root}, so that it lies there like this, one line per kind of file:",
            "",
            indent(row.tree.strip("\n"), " " * 7),
            "",
            f"  3. Check it: zsad data check {row.name} {where}",
        ]
    )


def _licence(row: Dataset) -> str:
    if row.licence == "not stated":
        return "Licence: not stated; ask its authors before you pass it on or build on it."
    return f"Licence: {row.licence}"


def _must_be_free(place: Path, root: Path) -> None:
    if place.is_dir() and any(place.iterdir()):
        raise ZsadError(f"{root} has files already; name a new folder, or move that one away")
    if place.exists() and not place.is_dir():
        raise ZsadError(f"{root} is a file; name a new folder")
    if place.is_dir() and (place.samefile(Path.cwd()) or os.path.ismount(place)):
        raise ZsadError(f"{root} is where you are, or a whole disk, and cannot be replaced; name a new folder in it")


def _archive(row: Dataset, source: UrlFile, root: Path, work: Path, progress: Progress | None, say: Say) -> Path:
    """One archive, downloaded or there already, and the one that it was before."""
    size = f", {source.size / 1e9:,.1f} GB" if source.size else ""
    say(f"{source.file_name}{size}, from {urlsplit(source.url).netloc}")
    try:
        path, found = download.fetch(source, work, attempts=_ATTEMPTS, progress=progress)
    except (OSError, HTTPException, ZsadError) as error:
        raise ZsadError(
            f"{row.title}: tried {source.url}: {error}\n"
            f"  The same command goes on where it was cut. If that fails again, get the file in a browser from\n"
            f"  {row.page}\n"
            f"  and either save it as {work / source.file_name} and type the same command,\n"
            f"  or unpack it into {root} and type: zsad data check {row.name} {shlex.quote(str(root))}"
        ) from error
    if source.sha256 is None:
        _must_be_as_noted(path, found, work.with_suffix(".sha256"), say)
    return path


def _must_be_as_noted(path: Path, found: str, note: Path, say: Say) -> None:
    """Compare with the hash of an earlier fetch; the first one notes it, as sha256sum writes it."""
    lines = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    noted = next((line[:64] for line in lines if line[66:] == path.name), None)
    if noted is None:
        with note.open("a", encoding="utf-8") as file:
            file.write(f"{found}  {path.name}\n")
        say(f"SHA-256 of {path.name}: {found}. Nobody published one to compare with; noted in {note}")
    elif noted == found:
        say(f"SHA-256 of {path.name}: {found}, as at an earlier fetch")
    else:
        raise ZsadError(
            f"{path} has SHA-256 {found}, but an earlier fetch gave {noted}: it was replaced by another at its source, "
            f"or one of both is damaged. Delete {path} to download it again, or {note} to take it as it is."
        )


def _unpack_all(files: list[Path], inner: Path, place: Path, progress: Progress | None, say: Say) -> None:
    """Unpack all archives into one new folder, which then takes its place in one step."""
    shutil.rmtree(inner, ignore_errors=True)  # of a fetch that was killed
    try:
        for file in files:
            say(f"unpacking {file.name}")
            unpack(file, inner, progress)
        if place.is_dir():
            place.rmdir()  # Windows replaces no folder, not even an empty one
        inner.replace(place)
    finally:
        shutil.rmtree(inner, ignore_errors=True)


def _tidy(files: list[Path], work: Path) -> None:
    for file in files:
        file.unlink()
    with suppress(OSError):  # somebody's own files stay
        work.rmdir()
