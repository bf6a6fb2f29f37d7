"""Folders to samples: each layout is a pure function; masks are paired by name, never by order."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from zsad.errors import ZsadError
from zsad.types import Sample

IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
})  # fmt: skip
NORMAL_NAMES = ("normal", "good", "ok", "no")  # folder names, in any case
ABNORMAL_NAMES = ("anomaly", "abnormal", "defect", "bad", "ng", "yes")
MASK_NAMES = ("masks", "ground_truth", "mask")
_KNOWN = f"{'/'.join(NORMAL_NAMES)} or {'/'.join(ABNORMAL_NAMES)}"


def folder(root: str | Path, split: str = "test") -> list[Sample]:
    """The samples of a folder in whichever layout of this module it has.

    Args:
        root: A dataset for :func:`mvtec`, or one class of it, or a folder for :func:`normal_abnormal`.
        split: "train" or "test"; the second layout has a test split only and does not look at this.

    Raises:
        ZsadError: If the folder has none of the layouts, or breaks the rules of the one it has.
    """
    root = _existing(root)
    if _mvtec_classes(root):
        return mvtec(root, split)
    if _named(root, NORMAL_NAMES + ABNORMAL_NAMES):
        return normal_abnormal(root)
    raise ZsadError(
        f"{root}: no known dataset layout. Looked for\n"
        "  MVTec AD: [class/]test/good, [class/]test/<defect>, [class/]ground_truth/<defect>\n"
        f"  two folders: {_KNOWN}; masks in {'/'.join(MASK_NAMES)}\n"
        f"  Found: {', '.join(path.name for path in _folders(root)) or 'no folders'}. Rename the folders to fit."
    )


def mvtec(root: str | Path, split: str = "test") -> list[Sample]:
    """The samples of one split in the layout of MVTec AD, in natural order of class, defect and file name.

    A class has ``train/good``, ``test/<defect>`` and ``ground_truth/<defect>``; the defect "good", "ok", "normal" or
    "no" is normal. The mask of ``test/crack/000.png`` is ``ground_truth/crack/000_mask.png`` or ``000.png``, with any
    image suffix. Where no class has a ``ground_truth`` folder, the dataset is read as one without masks.

    Args:
        root: A folder of classes, or a single class; a sample has the same class and dataset name either way.
        split: "train" or "test".

    Raises:
        ZsadError: If there is no class, a class has no images in the split, or masks and images do not match.
    """
    root = _existing(root)
    if split not in ("train", "test"):
        raise ZsadError(f'no split "{split}" in the layout of MVTec AD; use "train" or "test"')
    classes = {path: path.resolve().name for path in _mvtec_classes(root)}
    images = [(path, defect, file) for path in classes for defect, file in _by_folder(path / split)]
    filled = {path for path, _, _ in images}
    if empty := [path for path in classes or [root] if path not in filled]:
        raise ZsadError(f"no images in {split}/<defect> of {_some(empty)}; expected the layout of MVTec AD")
    dataset = (root.resolve().parent if root in classes else root.resolve()).name
    masks = _mvtec_masks(root, list(classes), images, complete=split == "test")
    return [
        Sample(file, masks.get(file), int(not _is_normal(defect)), classes[path], defect, split, dataset)
        for path, defect, file in images
    ]


def _mvtec_masks(
    root: Path, classes: list[Path], images: list[tuple[Path, str, Path]], complete: bool
) -> dict[Path, Path]:
    if not any((path / "ground_truth").is_dir() for path in classes):
        return {}
    truth = [(path, defect, file) for path in classes for defect, file in _by_folder(path / "ground_truth")]
    named_images, named_masks = (
        [(f"{path}/{defect}/{file.stem}", file) for path, defect, file in files if not _is_normal(defect)]
        for files in (images, truth)
    )
    return _pair(root, named_images, named_masks, complete=complete)


def normal_abnormal(root: str | Path) -> list[Sample]:
    """The samples of a folder that keeps normal and abnormal images apart, normal first, each in natural order.

    Folder names count in any case: see `NORMAL_NAMES`, `ABNORMAL_NAMES` and `MASK_NAMES`; folders inside them are
    searched as well, and name the defect. The mask of ``anomaly/7.jpg`` is ``masks/7.png`` or ``masks/7_mask.png``,
    with any image suffix; masks of normal images are not used. Without a masks folder no sample has a mask. The class
    and the dataset are named after `root`.

    Raises:
        ZsadError: If neither folder has images, another folder has some, or masks and abnormal images do not match.
    """
    root = _existing(root)
    normal, abnormal, masks = (_named(root, names) for names in (NORMAL_NAMES, ABNORMAL_NAMES, MASK_NAMES))
    if others := [path for path in _folders(root) if path not in normal + abnormal + masks and _scan(path)]:
        raise ZsadError(f"{_some(others)}: normal or abnormal? Rename to {_KNOWN}, or move the images away")
    good, bad = _stems(normal), _stems(abnormal)
    if not good and not bad:
        raise ZsadError(f"{root}: no images in folders named {_KNOWN}")
    paired = _pair(root, bad, _stems(masks), spare=good) if masks else {}
    name = root.resolve().name
    return [Sample(file, None, 0, name, "good", dataset=name) for _, file in good] + [
        Sample(file, paired.get(file), 1, name, "" if file.parent in abnormal else file.parent.name, dataset=name)
        for _, file in bad
    ]


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files that paths, folders and glob patterns stand for, in the order given, each once.

    A file named explicitly is kept whatever its suffix. Folders are searched to any depth; folders and patterns give
    files with one of `IMAGE_SUFFIXES`, none hidden, in natural order (2 before 10).

    Raises:
        ZsadError: If there are no paths, or one of them does not exist or stands for no image.
    """
    if not paths:
        raise ZsadError("no images: expected at least one file, folder or pattern such as 'photos/*.png'")
    return list(dict.fromkeys(image for path in paths for image in _expand(path)))


def _expand(path: str | Path) -> list[Path]:
    if Path(path).is_dir():
        found = _scan(Path(path))
    elif Path(path).exists():
        found = [Path(path)]
    else:
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
        found = [image for match in matches for image in (_scan(match) if match.is_dir() else [match])]
        found = [image for image in found if _is_image(image)]
    if not found:
        missing = not Path(path).exists() and not glob.has_magic(str(path))
        what = (
            "no such file or folder"
            if missing
            else f"no images; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
        raise ZsadError(f"{path}: {what}")
    return found


def _pair(
    root: Path,
    images: list[tuple[str, Path]],
    masks: list[tuple[str, Path]],
    spare: Iterable[tuple[str, Path]] = (),
    complete: bool = True,
) -> dict[Path, Path]:
    """Anomalous image -> mask of the same name, with or without "_mask"; every image has one, every mask is used.

    Files come with the name that counts. Masks with the name of a `spare` file may be left over; where `images` are
    not `complete`, any may.
    """
    named_images, named_masks = _unique(root, images), _unique(root, masks)
    match = {name: next((n for n in (f"{name}_mask", name) if n in named_masks), "") for name in named_images}
    used = {*match.values(), *(f"{name}{end}" for name, _ in spare for end in ("", "_mask"))}
    alone = [file for name, file in named_images.items() if not match[name]]
    extra = [file for name, file in named_masks.items() if complete and name not in used]
    complaints = [
        f"{len(files)} {what}: {_some(files, root)}"
        for files, what in ((alone, "anomalous images without a mask"), (extra, "masks without an anomalous image"))
        if files
    ]
    if complaints:
        rule = "x.png has its mask in x_mask.png or x.png of the mask folder; add, rename or remove files"
        raise ZsadError("\n  ".join([f"{root}: masks and images do not match", *complaints, rule]))
    return {file: named_masks[match[name]] for name, file in named_images.items()}


def _unique(root: Path, files: list[tuple[str, Path]]) -> dict[str, Path]:
    named = dict(files)
    if doubles := [file for name, file in files if named[name] != file]:
        raise ZsadError(f"{root}: two files have the same name up to the suffix: {_some(doubles, root)}; rename one")
    return named


def _mvtec_classes(root: Path) -> list[Path]:
    """The root itself or its subfolders, where they look like a class: a split, and normal images or masks in it."""
    return [root] if _is_mvtec_class(root) else [path for path in _folders(root) if _is_mvtec_class(path)]


def _is_mvtec_class(path: Path) -> bool:
    splits = [path / name for name in ("train", "test") if (path / name).is_dir()]
    has_masks = (path / "ground_truth").is_dir()
    return bool(splits) and (has_masks or any(_named(split, NORMAL_NAMES) for split in splits))


def _by_folder(path: Path) -> list[tuple[str, Path]]:
    """(name of the subfolder, image directly in it), in natural order; nothing where there is no such folder."""
    subfolders = _folders(path) if path.is_dir() else []
    return [(sub.name, file) for sub in subfolders for file in sorted(filter(_is_image, sub.iterdir()), key=_natural)]


def _stems(folders: list[Path]) -> list[tuple[str, Path]]:
    """(path within its folder without suffix, image) for all images at any depth."""
    return [(file.relative_to(path).with_suffix("").as_posix(), file) for path in folders for file in _scan(path)]


def _scan(path: Path) -> list[Path]:
    """All images below a folder that are not hidden and in no hidden folder, in natural order."""
    found = [file.relative_to(path) for file in path.rglob("*") if _is_image(file)]
    return [path / file for file in sorted(found, key=_natural) if not any(p.startswith(".") for p in file.parts)]


def _natural(path: Path) -> tuple[list[list[int | str]], str]:
    """Sorting key under which a number in a name counts as a number, folder by folder."""
    parts = [re.split(r"(\d+)", part.lower()) for part in path.parts]  # text and digits take turns
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], str(path)


def _existing(root: str | Path) -> Path:
    if not Path(root).is_dir():
        raise ZsadError(f"{root}: expected a folder, found {'a file' if Path(root).exists() else 'nothing'}")
    return Path(root)


def _folders(path: Path) -> list[Path]:
    return sorted((sub for sub in path.iterdir() if sub.is_dir() and not sub.name.startswith(".")), key=_natural)


def _named(path: Path, names: Sequence[str]) -> list[Path]:
    return [sub for sub in _folders(path) if sub.name.lower() in names]


def _is_normal(defect: str) -> bool:
    return defect.lower() in NORMAL_NAMES


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")


def _some(files: Sequence[Path], root: Path | None = None) -> str:
    """Up to five names, relative to `root` where it is given, and how many more there are."""
    names = [str(file.relative_to(root) if root else file) for file in files[:5]]
    return ", ".join(names) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
