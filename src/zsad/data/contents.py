"""What files hold, as hashes: by these two files are known to be the same whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from zsad.data.files import scan
from zsad.data.workers import ordered
from zsad.download import sha256
from zsad.errors import ZsadError


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Of a folder, which stands for the masks in it (:func:`zsad.data.images.read_mask`), it is the SHA-256 of its images'
    hashes in their order. Names do not count.

    Raises:
        ZsadError: If it cannot be read.
    """
    try:
        if path.is_dir():
            return hashlib.sha256("".join(file_sha256(file.path) for file in scan(path)).encode()).hexdigest()
        return sha256([path])
    except OSError as error:
        raise ZsadError(f"{path} cannot be read ({error.strerror}); it was there when its folder was listed") from error


def contents(
    paths: Iterable[Path], workers: int = 0, progress: Callable[[int], object] | None = None
) -> dict[Path, str]:
    """The hash of each file, as :func:`file_sha256` gives it; each is read once.

    Args:
        paths: Files, and folders of masks; any may be named more than once.
        workers: Processes that read.
        progress: Called with 1 after every file.

    Raises:
        ZsadError: If one cannot be read.
    """
    files, found = list(dict.fromkeys(paths)), dict[Path, str]()
    for path, digest in zip(files, ordered(file_sha256, files, workers, ahead=16 * workers), strict=True):
        found[path] = digest
        if progress:
            progress(1)
    return found
