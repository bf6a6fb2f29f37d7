"""The synthetic dataset as files, in MVTec AD's folder layout."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from zsad.errors import ZsadError, unknown

from .categories import CATEGORIES, Category, Half
from .rendering import render


@dataclass(frozen=True)
class _Job:
    """One image to render and where it goes."""

    folder: Path  # the category's
    split: str
    number: int
    category: str
    defect: str | None
    seed: int
    size: int


def _seed(seed: int, number: int, *words: str) -> int:
    """A seed of its own for every image."""
    return int(np.random.SeedSequence([seed, number, *(crc32(word.encode()) for word in words)]).generate_state(1)[0])


def _defects(category: Category, count: int) -> Iterator[tuple[str, int]]:
    """Defects spread evenly over `count` images, each with its number in its own folder."""
    names = [category.defects[i * len(category.defects) // count] for i in range(count)]
    return ((name, i - names.index(name)) for i, name in enumerate(names))


def _jobs(
    root: Path, category: Category, normal: int, anomalous: int, train: int, size: int, seed: int
) -> Iterator[_Job]:
    wanted: list[tuple[str, str | None, int]] = [("train", None, i) for i in range(train)]
    wanted += [("test", None, i) for i in range(normal)]
    wanted += [("test", name, i) for name, i in _defects(category, anomalous)]
    for split, defect, i in wanted:
        own = _seed(seed, i, category.name, split, defect or "good")
        yield _Job(root / category.name, split, i, category.name, defect, own, size)


def _make(job: _Job) -> None:
    drawn = render(job.category, job.defect, job.seed, job.size)
    kind = job.defect or "good"
    files = {job.folder / job.split / kind / f"{job.number:03}.png": drawn.image}
    if job.defect:
        files[job.folder / "ground_truth" / kind / f"{job.number:03}_mask.png"] = drawn.mask.astype(np.uint8) * 255
    for path, pixels in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def _run(jobs: list[_Job], workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_make, jobs, chunksize=8)


@contextmanager
def _whole_or_not(root: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of `root` when the block ends well, and disappears when it does not."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ZsadError(f"{root} exists and is not an empty folder; name another folder or remove it first.")
    root.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        yield made
        made.chmod(0o755)
        if root.exists():
            root.rmdir()
        made.replace(root)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write(
    root: Path | str,
    half: Half = "unseen",
    *,
    normal: int = 10,
    anomalous: int = 20,
    train: int = 0,
    size: int = 224,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[], object] | None = None,
) -> None:
    """Write one half of the dataset as `root/<category>/{train,test,ground_truth}/...`, the layout of MVTec AD.

    Test images are test/good/000.png and test/<defect>/000.png; masks are ground_truth/<defect>/000_mask.png, 8-bit,
    255 where damaged. The folder appears whole at the end, or not at all.

    Args:
        root: The folder to make; it may exist if it is empty.
        half: "auxiliary" (to learn from) or "unseen" (to be measured on).
        normal: Whole images per category for testing.
        anomalous: Damaged images per category for testing, spread evenly over the category's defects.
        train: Whole images per category in train/good.
        size: Height and width in pixels.
        seed: The same seed gives the same pixels, with any number of workers.
        workers: Processes that draw.
        progress: Called after each finished image, without arguments; :func:`total` tells how often.

    Raises:
        ZsadError: If the half is unknown, or `root` exists and is not an empty folder.
    """
    root = Path(root)
    categories = _of(half)
    with _whole_or_not(root) as made:
        jobs = [job for kind in categories for job in _jobs(made, kind, normal, anomalous, train, size, seed)]
        _count(_run(jobs, workers), progress)


def total(half: Half, normal: int = 10, anomalous: int = 20, train: int = 0) -> int:
    """Images that :func:`write` makes for these counts per category; masks are not counted.

    >>> total("unseen", normal=1, anomalous=2)
    30
    """
    return len(_of(half)) * (normal + anomalous + train)


def _of(half: str) -> list[Category]:
    chosen = [category for category in CATEGORIES.values() if category.half == half]
    if not chosen:
        raise unknown("half of the synthetic dataset", half, ("auxiliary", "unseen"), "zsad data synth --help")
    return chosen


def _count(steps: Iterable[None], progress: Callable[[], object] | None) -> None:
    for _ in steps:
        if progress is not None:
            progress()
