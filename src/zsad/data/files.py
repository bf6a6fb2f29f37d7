"""Folders to image files: which files count, in which order, what their names say, and which mask belongs to which."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from zsad.errors import ZsadError

IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".dcm", ".dicom",
})  # fmt: skip

# Folder names, as `plain` writes them. Words that some use the other way round, such as "positive", are not among them.
NORMAL_NAMES = (
    "good", "ok", "normal", "no", "healthy", "pass", "passed", "intact", "undamaged", "non_defective", "nondefective",
    "non_defect", "defect_free", "no_defect", "no_defects", "without_defect", "without_defects", "anomaly_free",
    "no_anomaly", "no_anomalies", "fault_free", "no_fault", "inlier", "inliers", "accepted", "conforming", "gut", "io",
    "in_ordnung", "fehlerfrei", "unauffällig", "bon", "conforme", "bueno", "buono", "良品", "正常",
)  # fmt: skip
ABNORMAL_NAMES = (
    "bad", "ng", "abnormal", "anomaly", "anomalies", "anomalous", "defect", "defects", "defective", "yes", "ko", "nok",
    "not_ok", "not_good", "ungood", "not_normal", "unhealthy", "fail", "failed", "damage", "damaged", "broken", "fault",
    "faulty", "outlier", "outliers", "reject", "rejects", "rejected", "non_conforming", "schlecht", "nio", "n_i_o",
    "nicht_in_ordnung", "fehler", "fehlerhaft", "defekt", "ausschuss", "auffällig", "rebut", "non_conforme",
    "défectueux", "defectuoso", "difettoso", "不良品", "异常",
)  # fmt: skip
PAIRED_NAMES = ("no", "gut", "io", "bon", "bueno", "buono")  # mean "normal" only beside their opposite: gut, schlecht
IMAGE_NAMES = ("images", "image", "imgs", "img", "original", "data", "imagestr")
CARRIER_NAMES = (*IMAGE_NAMES, "rgb")  # only say that images are in them
WHOLE_MASK_NAMES = (  # of masks, but not at the end of a longer name, such as Kvasir-SEG
    "seg", "segs", "segmentation", "segmentations", "segmentationclass", "annotation", "annotations", "labelstr",
    "maske", "masken",
)  # fmt: skip
MASK_NAMES = ("masks", "mask", "ground_truth", "groundtruth", "gt", "labels", "label", *WHOLE_MASK_NAMES)
_MASK_WORDS = ("mask", "gt", "label", "segmentation", "seg")
MASK_ENDS = tuple(f"{sign}{word}" for word in _MASK_WORDS for sign in "_-")  # of a mask's name before the suffix
MASK_STARTS = ("mask_", "mask-", "gt_")
_DECORATION = frozenset({"parts", "images", "image", "samples", "pictures", "photos", "copy", "kopie", "bilder"})

SPLITS = {
    "train": "train", "training": "train", "trainval": "train",
    "test": "test", "testing": "test", "test_public": "test",
    "validation": "validation", "valid": "validation", "val": "validation",
    "test_private": "test_private", "test_private_mixed": "test_private_mixed",
}  # fmt: skip

_JUNK = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs", "thumbnails"})
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".cr2", ".nef", ".arw", ".dng", ".mov", ".mp4", ".avi", ".pdf", ".svg", ".psd", ".nii.gz", ".nii",
    ".mhd", ".zip",
)  # fmt: skip


class File(NamedTuple):
    """An image file, with the folders between it and where the search began."""

    path: Path
    folders: tuple[str, ...]
    stem: str  # its name up to the suffix, composed (NFC): "ü" is one letter, as another system may not write it


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files that paths, folders and glob patterns stand for, in the order given, each once.

    A file named explicitly is kept whatever its suffix. Folders are searched to any depth; folders and patterns give
    files with one of `IMAGE_SUFFIXES`, none hidden, in natural order (2 before 10).

    Raises:
        ZsadError: If there are no paths, or one of them does not exist or stands for no image.
    """
    if not paths:
        raise ZsadError("no images: expected at least one file, folder or pattern such as 'photos/*.png'")
    return list(dict.fromkeys(image for path in paths for image in _expand(Path(path))))


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        found = [file.path for file in scan(path)]
    elif path.exists():
        found = [path]
    else:
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=lambda match: _order(match.parts))
        found = [image for match in matches for image in _matched(match)]
    if not found:
        missing = not path.exists() and not glob.has_magic(str(path))
        what = f"no images; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        raise ZsadError(f"{path}: {'no such file or folder' if missing else what}")
    return found


def _matched(path: Path) -> list[Path]:
    if path.is_dir():
        return [file.path for file in scan(path)]
    return [path] if is_image(path.name) else []


def scan(root: Path) -> list[File]:
    """All images below a folder, at any depth and in natural order; no hidden file, and nothing in a hidden folder.

    Files without a suffix count where they are DICOM. What systems leave behind (``__MACOSX``, ``@eaDir``, thumbnails)
    and folders with results of zsad are left out. Links are followed, but not back into a folder that they lie in. A
    link to nothing counts as an image: reading it will say so.

    Raises:
        ZsadError: If `root` is not a folder, or a folder cannot be listed.
    """
    top = str(existing(root))
    found = sorted(_walk(top, (), frozenset()), key=lambda file: _order((*file[0], file[1])))
    return [File(Path(top, *folders, name), folders, _stem(name)) for folders, name in found]


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return composed([name if _may_be_dicom(suffix) else stem])[0]


def composed(names: Iterable[str]) -> tuple[str, ...]:
    """Names in which a letter with its accent is one character (NFC), however the system wrote them."""
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def _may_be_dicom(suffix: str) -> bool:
    """Whether a file with this suffix may be DICOM: with none, or the last number of a UID, as in 1.2.840.10008."""
    return not suffix.strip(".") or suffix[1:].isdigit()


def is_dicom(path: str | Path) -> bool:
    """Whether a file begins as DICOM does (PS3.10: "DICM" after 128 bytes) and is no list of other files."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM" and os.path.basename(path).upper() != "DICOMDIR"
    except OSError:
        return False


def unread(root: Path) -> dict[str, int]:
    """How many files below a folder look like pictures, films or archives but are not read, by suffix, most first."""
    names = (name.lower() for folder in _all_folders(str(existing(root))) for name in folder)
    ends = (next((end for end in UNREAD_SUFFIXES if name.endswith(end)), "") for name in names)
    return dict(Counter(end for end in ends if end).most_common())


def _all_folders(path: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[list[str]]:
    """The names of the files in each folder below a path."""
    status = os.stat(path)
    here = (status.st_dev, status.st_ino)
    entries = [] if here in above else _entries(path)
    yield [entry.name for entry in entries if not _leads_to_folder(entry)]
    for entry in entries:
        if _leads_to_folder(entry):
            yield from _all_folders(entry.path, above | {here})


def _walk(
    path: str, folders: tuple[str, ...], above: frozenset[tuple[int, int]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """(folders below the root, file name) of every image in a folder; `above` are the folders it lies in."""
    status = os.stat(path)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _entries(path):
        if _leads_to_folder(entry):
            yield from _walk(entry.path, (*folders, entry.name), above | {here})
        elif is_image(entry.name) or (_may_be_dicom(os.path.splitext(entry.name)[1]) and is_dicom(entry.path)):
            yield folders, entry.name


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and not _is_left_behind(entry)]
    except OSError as error:
        raise ZsadError(f"{path}: cannot be listed ({error.strerror}); make it readable, or move it away") from error


def _is_left_behind(entry: os.DirEntry[str]) -> bool:
    """Whether a folder holds nothing that a user means: thumbnails and the like, or results of zsad."""
    if entry.name.lower() in _JUNK:
        return _leads_to_folder(entry)
    there = partial(os.path.join, entry.path)
    return os.path.isfile(there("settings.json")) and any(
        os.path.isfile(there(f"predictions.{kind}")) for kind in ("csv", "jsonl")
    )


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def folders(root: Path, deep: int = 5) -> list[tuple[str, ...]]:
    """The folders below a folder that are not hidden, down to `deep` levels, as the names that lead there, sorted."""
    names = sorted((entry.name for entry in _entries(root) if _leads_to_folder(entry)), key=natural)
    return [(name, *rest) for name in names for rest in ((), *(folders(root / name, deep - 1) if deep > 1 else ()))]


def existing(root: str | Path) -> Path:
    """The path of a folder.

    Raises:
        ZsadError: If it is not one.
    """
    if not Path(root).is_dir():
        raise ZsadError(f"{root}: expected a folder, found {'a file' if Path(root).exists() else 'nothing'}")
    return Path(root)


def natural(name: str) -> tuple[list[int | str], str]:
    """Sorting key under which a number in a name counts as a number.

    >>> sorted(["x10.png", "X2.png", "x1.png"], key=natural)
    ['x1.png', 'X2.png', 'x10.png']
    """
    pieces = re.split(r"(\d+)", name.lower())  # text and digits take turns
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def _order(parts: Sequence[str]) -> list[tuple[list[int | str], str]]:
    return [natural(part) for part in parts]


def is_image(name: str) -> bool:
    """Whether a file name has one of `IMAGE_SUFFIXES`, in any case, and is not hidden."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A folder name for comparison: composed (NFC), in small letters, with "_" for blanks and hyphens.

    >>> plain("Ground Truth"), plain("test-image")
    ('ground_truth', 'test_image')
    """
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", name).strip().lower())


def means(name: str, names: Collection[str]) -> bool:
    """Whether a folder name is one of some names, perhaps with a number before it or a word such as "images" in it.

    >>> means("0_normal", NORMAL_NAMES), means("OK Parts", NORMAL_NAMES), means("i.O.", NORMAL_NAMES)
    (True, True, True)
    >>> means("very good", NORMAL_NAMES)
    False
    """
    return one_of(name, names) or one_of(core(name), names)


def core(name: str) -> str:
    """A folder name, plain, without a number before it, dots, and words that say nothing: parts, images, copy, (1)."""
    words = re.sub(r"\(\d+\)|\.", "", plain(name)).strip("_").split("_")
    words = words[1:] if words[0].isdigit() else words
    return "_".join(word for word in words if word and word not in _DECORATION) or plain(name)


def one_of(name: str, names: Iterable[str]) -> bool:
    """Whether a folder name is one of some names, in any case."""
    return plain(name) in map(plain, names)


def part_rows(height: int, part: tuple[int, int] | None) -> slice:
    """The rows of part (i, n) of an image: the i-th of n, top to bottom, from 1; all of them where there is no part.

    The parts cover every row once; they differ by one row at most where n does not divide the height.

    >>> part_rows(501, (1, 2)), part_rows(501, (2, 2))
    (slice(0, 250, None), slice(250, 501, None))
    """
    i, n = part or (1, 1)
    return slice(height * (i - 1) // n, height * i // n)


def many(count: int, noun: str) -> str:
    """A number with its noun.

    >>> many(1, "class"), many(2, "class"), many(1200, "image")
    ('1 class', '2 classes', '1,200 images')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def cut_end(folder: str, ends: Collection[str]) -> str | None:
    """A folder name without the first of some ends that it has; None where it has none.

    >>> cut_end("Test_GroundTruth", MASK_NAMES), cut_end("Masks", MASK_NAMES), cut_end("unmask", MASK_NAMES)
    ('test', '', None)
    """
    padded = f"_{plain(folder)}"
    fits = (end for end in map(plain, ends) if padded.endswith(f"_{end}"))
    return next(
        (padded[: -len(end) - 1][1:] for end in fits if end not in WHOLE_MASK_NAMES or padded == f"_{end}"), None
    )
