"""No image that is tested was trained on: known by what files hold, not by what they are called. Imports no torch."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from zsad.data.contents import contents, file_sha256
from zsad.data.index import index
from zsad.data.tables.formats import SUFFIXES
from zsad.errors import ZsadError
from zsad.types import Sample

Progress = Callable[[int], object]  # called with 1 after every file that was read

_BYTES = 8  # of a hash in a record: of 10,000 images one looks like one of 10,000 others with a chance of 5e-12
_NAMED = 5  # pairs in a message


def refuse_seen(
    samples: Sequence[Sample],
    targets: Iterable[Sample | Path],
    progress: Progress | None = None,
    workers: int = 0,
) -> int:
    """Complain about images that are trained on and tested.

    Only files of equal size are read. A sample that is part of a file stands for the file.

    Args:
        samples: What is trained on.
        targets: What is tested: samples, image files, and manifests and folders, whose samples of all splits count.
        progress: Called after every file that was read.
        workers: Processes that read.

    Returns:
        How many images are tested.

    Raises:
        ZsadError: Naming the first pairs of files with the same bytes, and what to do; or a file that cannot be read.
    """
    trained = [sample.image for sample in samples]
    tested = [path for target in targets for path in _images(target)]
    pairs = _same(trained, tested, progress, workers)
    if pairs:
        lines = [f"{path} = {other}" for path, other in pairs[:_NAMED]]
        lines += [f"and {len(pairs) - _NAMED:,} more"] if pairs[_NAMED:] else []
        raise ZsadError(
            "\n  ".join([f"{len(pairs):,} of the images to train on are also tested, byte for byte:", *lines])
            + "\n  No tested image may be trained on. Train on another set, test on another, or leave these out: "
            "`zsad data index FOLDER --out set.csv` writes a list that can be edited and trained on"
        )
    return len({*tested})


def _images(target: Sample | Path) -> list[Path]:
    if isinstance(target, Sample):
        return [target.image]
    if target.is_dir() or target.suffix.lower() in SUFFIXES:
        return [sample.image for sample in index(target).samples]
    return [target]


def _same(
    ours: Iterable[Path], theirs: Iterable[Path], progress: Progress | None, workers: int
) -> list[tuple[Path, Path]]:
    """Each file of ours that has the bytes of one of theirs, with the first such."""
    our_sizes, their_sizes = _sizes(ours), _sizes(theirs)
    both = {*our_sizes.values()} & {*their_sizes.values()}
    files = [path for sizes in (our_sizes, their_sizes) for path, size in sizes.items() if size in both]
    digests = contents(files, workers, progress)
    there = {digests[path]: path for path in reversed(their_sizes) if path in digests}
    return [(path, there[digests[path]]) for path in our_sizes if digests.get(path) in there]


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    try:
        return {path: path.stat().st_size for path in paths}
    except OSError as error:
        raise ZsadError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable, or remove it"
        ) from error


def seen_digest(samples: Iterable[Sample], progress: Progress | None = None, workers: int = 0) -> str:
    """A record of images by which they can be known again: 11 characters for each.

    Raises:
        ZsadError: If one cannot be read.
    """
    digests = contents((sample.image for sample in samples), workers, progress).values()
    return b64encode(b"".join(sorted({_short(digest) for digest in digests}))).decode()


def seen_in(record: str, samples: Iterable[Sample], progress: Progress | None = None) -> list[Sample]:
    """Those samples whose image is in a record of :func:`seen_digest`; one that cannot be read is in none.

    Raises:
        ZsadError: If it is no such record.
    """
    known, found, samples = _parts(record), dict[Path, bool](), list(samples)
    for path in dict.fromkeys(sample.image for sample in samples):
        found[path] = _known(path, known)
        if progress:
            progress(1)
    return [sample for sample in samples if found[sample.image]]


def _parts(record: str) -> set[bytes]:
    try:
        stored = b64decode(record, validate=True)
    except ValueError:
        stored = b"?"
    if len(stored) % _BYTES:
        raise ZsadError("the record of what these weights were trained on is damaged; copy their file anew")
    return {stored[i : i + _BYTES] for i in range(0, len(stored), _BYTES)}


def _known(path: Path, known: set[bytes]) -> bool:
    try:
        return _short(file_sha256(path)) in known
    except ZsadError:
        return False


def _short(digest: str) -> bytes:
    return bytes.fromhex(digest)[:_BYTES]
