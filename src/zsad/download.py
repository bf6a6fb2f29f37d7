"""Files from plain addresses: continued where they were cut, checked, put in place in one step. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from zsad.errors import ZsadError

Progress = Callable[[int, int | None], object]  # bytes that are done, bytes of the whole where they are known

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_PAUSE = 1.0  # seconds before the second attempt, twice as many before each further one, 30 at most
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space on the disk, in the quota, in one file


@dataclass(frozen=True)
class UrlFile:
    """A file behind a plain address.

    >>> UrlFile("https://example.org/records/1/set.zip?download=1").file_name
    'set.zip'
    """

    url: str
    sha256: str | None = None  # None where nobody published it
    size: int | None = None  # bytes
    name: str = ""  # of the file, where the address does not end in it

    @property
    def file_name(self) -> str:
        """What the file is called on disk."""
        return self.name or unquote(PurePosixPath(urlsplit(self.url).path).name)


def cache_folder() -> Path:
    """Where plain downloads are kept: $ZSAD_HOME, else ~/.cache/zsad."""
    return Path(os.environ.get("ZSAD_HOME") or Path.home() / ".cache" / "zsad")


def sha256(paths: Iterable[Path]) -> str:
    """Hexadecimal SHA-256 of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def checked(path: Path, expected: str | None) -> str:
    """The SHA-256 of a file.

    Raises:
        ZsadError: If another one was expected.
    """
    found = sha256([path])
    if expected is not None and found != expected:
        raise ZsadError(f"{path} has SHA-256 {found}, expected {expected}; delete it and try again")
    return found


def fetch(
    source: UrlFile, folder: Path, *, offline: bool = False, attempts: int = 3, progress: Progress | None = None
) -> tuple[Path, str]:
    """One file over HTTPS. Data gather in NAME.part, which a later call continues; NAME appears only when checked.

    Where no hash is known, NAME.part.json tells which version of the file the data are of, so that two versions are
    never put together.

    Args:
        source: Address, and hash and size where known. Proxies come from the environment, as urllib reads them.
        folder: Where the file goes; made where absent.
        offline: Only look whether it is there.
        attempts: How many connections are tried, each taking up where the last was cut.
        progress: Told after every piece.

    Returns:
        The file and its SHA-256.

    Raises:
        ZsadError: If the file is absent and offline, its hash is wrong (the data are removed then), a web page or a
            file of another size is in its place (nothing is written then), or the disk is full (data are kept then).
        OSError: If the network fails.
    """
    target = folder / source.file_name
    if target.is_file():
        return target, checked(target, source.sha256)
    if offline:
        raise ZsadError(f"not in {folder}, and offline")
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for left in reversed(range(attempts)):
        try:
            _continue(source, part, progress or (lambda *_: None))
            break
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) in _FULL:
                raise ZsadError(f"{part} cannot grow ({error}); it is kept: make room and try again") from error
            busy = not isinstance(error, urllib.error.HTTPError) or error.code == 429 or error.code >= 500
            if not left or not busy:
                raise
            time.sleep(min(30.0, _PAUSE * 2 ** (attempts - left - 1)))
    found = sha256([part])
    if source.sha256 is not None and found != source.sha256:
        _forget(part)
        raise ZsadError(f"the data have SHA-256 {found}, expected {source.sha256}; they were removed, try again")
    part.replace(target)
    _note(part).unlink(missing_ok=True)
    return target, found


@dataclass(frozen=True)
class _Version:
    """What tells one version of a file at an address from another; None where the server does not say."""

    etag: str | None = None
    modified: str | None = None
    total: int | None = None  # bytes

    @classmethod
    def of(cls, headers: Message) -> _Version:
        """That of an answer; of a part of a file, Content-Range says how long the whole is."""
        length = headers["Content-Range"].rpartition("/")[2] if headers["Content-Range"] else headers["Content-Length"]
        return cls(headers["ETag"], headers["Last-Modified"], int(length) if (length or "").isdigit() else None)

    @classmethod
    def read(cls, note: Path) -> _Version:
        """That of the data in a .part; all None where it is not known."""
        try:
            values = json.loads(note.read_text(encoding="utf-8"))
            return cls(*(values[field.name] for field in fields(cls)))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def is_of(self, other: _Version) -> bool:
        """Whether both may be the same: something is known of both, and nothing differs."""
        pairs = [pair for pair in zip(asdict(self).values(), asdict(other).values(), strict=True) if None not in pair]
        return bool(pairs) and all(ours == theirs for ours, theirs in pairs)

    def condition(self) -> dict[str, str]:
        """The header that asks for the rest of this version only (RFC 9110, 13.1.5: no weak tag may stand there)."""
        strong = None if (self.etag or "W/").startswith("W/") else self.etag
        return {"If-Range": tag} if (tag := strong or self.modified) else {}


def _continue(source: UrlFile, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks of the file; start anew where what is there cannot be continued."""
    known = _Version.read(_note(part))
    done = part.stat().st_size if part.is_file() else 0
    if done and known.total == done:
        return
    asked = {"Range": f"bytes={done}-", **known.condition()} if done else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(source.url, headers=asked), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        if source.sha256 is not None:  # nothing left to send: complete, or not the same file; the hash tells
            return
        _forget(part)
        return _continue(source, part, progress)
    with response:
        continues = bool(done) and response.status == 206
        if continues and not _fits(source, response, known, done):
            _forget(part)
            return _continue(source, part, progress)
        _take(source, response, part, continues, progress)
    return None


def _fits(source: UrlFile, response: HTTPResponse, known: _Version, done: int) -> bool:
    """Whether an answer goes on where the data end, as Content-Range must say, and is of their version."""
    start = (response.headers["Content-Range"] or "").partition(" ")[2].partition("-")[0]
    return start == str(done) and (source.sha256 is not None or known.is_of(_Version.of(response.headers)))


def _take(source: UrlFile, response: HTTPResponse, part: Path, continues: bool, progress: Progress) -> None:
    """Write an answer to the end of `part`, or in its place."""
    version = _Version.of(response.headers)
    total, chunk = version.total or source.size, response.read(_CHUNK)
    if not continues:
        _must_be_the_file(source, response, chunk)
        _forget(part)
        if source.sha256 is None:
            _note(part).write_text(json.dumps(asdict(version)), encoding="utf-8")
    with part.open("ab", buffering=0) as file:
        done = part.stat().st_size
        while chunk:
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]
            done += len(chunk)
            progress(done, total)
            chunk = response.read(_CHUNK)
    if total is not None and done != total:
        raise ConnectionError(f"the connection was cut after {done} of {total} bytes")


def _must_be_the_file(source: UrlFile, response: HTTPResponse, start: bytes) -> None:
    """Complain before anything is written about a page to log in or confirm, and about a file of another size."""
    text = start[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if response.headers.get_content_type() == "text/html" or text.startswith((b"<!doctype html", b"<html")):
        raise ZsadError(
            f"{response.geturl()} gave a web page in place of {source.file_name}; "
            "open it in a browser: it may ask for a login or a confirmation, or say that the file has moved"
        )
    total = _Version.of(response.headers).total
    if None not in (total, source.size) and total != source.size:
        raise ZsadError(f"the file there has {total:,} bytes, expected {source.size:,}; it was replaced by another")


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
