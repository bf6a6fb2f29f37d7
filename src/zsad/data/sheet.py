"""A contact sheet: what a dataset looks like, class by class, with its masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from zsad.data.images import read_sample, read_sample_mask
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.pictures import DECISIONS, EDGE, INK, PAPER, QUIET, TRUTH, font, outlined
from zsad.types import Sample

_KINDS = {0: "normal", 1: "anomalous", None: "unlabelled"}
_COLOURS = {**DECISIONS, "unlabelled": (150, 154, 162)}
_BLANK = (236, 237, 240)  # a tile without a photograph
_MARGIN, _GAP = 24, 14  # around the sheet, between tiles
_TINT = 0.18  # of the colour of masks over what they mark
_BAR = 5  # height of the strip that tells the label, below a photograph
_BLOT = 24  # width of that strip at least
_WORDS = 40  # height of the two lines below that
_ROOM = 36  # height of a heading
_TALL = 1.5  # a photograph is at most this many sides high
_NARROW = 640  # no sheet is less wide
_ROWS = 4  # for a single class, where nobody says how many examples

T = TypeVar("T")


@dataclass(frozen=True)
class _Tile:
    """A photograph, small, and the two lines below it."""

    picture: Image.Image
    kind: str
    first: str
    second: str


def contact_sheet(
    samples: Sequence[Sample],
    *,
    title: str = "",
    per_class: int | None = None,
    columns: int = 8,
    side: int = 168,
    most_classes: int = 20,
    reading: Reading = Reading(),
) -> Image.Image:
    """Examples of each class: normal, then anomalous, then unlabelled ones, spread evenly over defects and files.

    The strip below a photograph tells its label, a tinted area with a contour its mask. A file that cannot be read is a
    grey tile that says why. Files are read one at a time, and only small pictures are kept.

    Args:
        samples: Of one or several classes; the same samples give the same sheet.
        title: Heading; "" takes the name of the dataset.
        per_class: Examples of a class at most; None fills four rows with a single class, two each with two classes, one
            each with more. Of several rows, each has one label.
        columns: Tiles in a row.
        side: Width of a tile in pixels. Aspect ratios are kept; a tall photograph is up to 1.5 times as high.
        most_classes: Classes that are shown; the last line names others.
        reading: How files are read.

    Returns:
        RGB on white.

    Raises:
        ZsadError: If there are no samples, or a number is too small.
    """
    if not samples or columns < 1 or side < 32 or most_classes < 1 or (per_class is not None and per_class < 1):
        raise ZsadError(
            "a contact sheet needs samples, at least 1 column, class and example, and a side of 32 pixels or more; got "
            f"{len(samples)} samples, {columns} columns, {most_classes} classes, {per_class} examples, side {side}"
        )
    classes: dict[str, list[Sample]] = {}
    for sample in samples:
        classes.setdefault(sample.class_name, []).append(sample)
    shown = list(classes)[:most_classes]
    most = per_class or columns * max(1, _ROWS // len(shown))
    chosen = {name: choose(classes[name], most, columns if most > columns else 1) for name in shown}
    columns = min(columns, max(map(len, chosen.values())))
    width = max(_NARROW, 2 * _MARGIN + columns * (side + _GAP) - _GAP)
    drawn = sum(map(len, chosen.values()))
    bands = [_head(samples, title or _dataset(samples), _described(samples, len(classes), drawn), width)]
    for name in shown:
        bands += [_heading(name, classes[name], width)] if len(classes) > 1 else []
        names = _file_names(classes[name])
        tiles = [_tile(sample, names[sample.image], side, reading) for sample in chosen[name]]
        bands += [_band(row, side, width) for row in _rows(tiles, columns)]
    return _stacked([*bands, *_others(list(classes)[most_classes:], width)])


def choose(samples: Sequence[Sample], most: int, by: int = 1) -> list[Sample]:
    """At most so many of the samples: normal, then anomalous, then unlabelled, in their order.

    Where there are enough, two are anomalous for each that is normal and each that is unlabelled, `by` of a label are
    taken at a time, and every defect has as many as any other.

    >>> samples = [Sample(Path(f"{i}.png"), label=int(i > 5), defect="crack" if i > 8 else "hole") for i in range(20)]
    >>> [sample.image.name for sample in choose(samples, 6)]
    ['1.png', '4.png', '6.png', '8.png', '11.png', '17.png']
    """
    kinds = {label: [sample for sample in samples if sample.label == label] for label in _KINDS}
    shares = _dealt({label: len(own) for label, own in kinds.items()}, most, (1, 0, 1, None), by)
    return [sample for label, own in kinds.items() for sample in _spread(own, shares[label])]


def _spread(samples: list[Sample], most: int) -> list[Sample]:
    """Samples of one label, taken evenly from its defects; of too many defects, some, evenly again."""
    defects: dict[str, list[Sample]] = {}
    for sample in samples:
        defects.setdefault(sample.defect, []).append(sample)
    names = _evenly(list(defects), most)
    shares = _dealt({name: len(defects[name]) for name in names}, most, names)
    return [sample for name in names for sample in _evenly(defects[name], shares[name])]


def _dealt(there: dict[T, int], most: int, turns: Sequence[T], by: int = 1) -> Counter[T]:
    """How many to take of each, when they are taken in turns, `by` at a time, and fewer than `by` count as many."""
    taken: Counter[T] = Counter()
    left = most
    for key in [*turns] * most:
        if left > 0 and taken[key] < there[key]:
            taken[key] += min(by, left, there[key] - taken[key])
            left -= by
    return taken


def _evenly(items: Sequence[T], most: int) -> list[T]:
    """The middles of `most` equal stretches, or all items where there are fewer."""
    n = min(most, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]


def _file_names(samples: Sequence[Sample]) -> dict[Path, str]:
    """What each file is called; with its folder, if several folders of a defect have a file of one name."""
    folders: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        folders.setdefault((sample.defect, sample.image.name), set()).add(sample.image.parent.name)
    alone = all(len(names) == 1 for names in folders.values())
    paths = (sample.image for sample in samples)
    return {path: path.name if alone else f"{path.parent.name}/{path.name}" for path in paths}


def _tile(sample: Sample, name: str, side: int, reading: Reading) -> _Tile:
    """A sample as it is shown; it never fails over a file."""
    kind = _KINDS[sample.label]
    part = f"{sample.part[0]} of {sample.part[1]}, " if sample.part else ""
    first, second = sample.defect or kind, part + name
    try:
        picture = _small(read_sample(sample, reading).image, side)
    except ZsadError as error:
        return _Tile(_blank(side), kind, second, _reason(error, sample.image))
    if sample.mask is not None:
        try:
            picture = _marked(picture, read_sample_mask(sample, None, reading))
        except ZsadError as error:
            first, second = second, f"mask: {_reason(error, sample.mask)}"
    return _Tile(picture, kind, first, second)


def _reason(error: ZsadError, path: Path) -> str:
    """The first words of a message about a file, without its path."""
    return str(error).removeprefix(f"{path}: ").partition(";")[0]


def _marked(picture: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """A photograph with the area of a mask tinted, so that inside and outside differ, and its contour."""
    veil = Image.fromarray((mask * round(255 * _TINT)).astype(np.uint8)).resize(picture.size, Image.Resampling.BOX)
    tinted = Image.composite(Image.new("RGB", picture.size, TRUTH), picture, veil)
    return outlined(tinted, mask)


def _small(image: Image.Image, side: int) -> Image.Image:
    scale = min(side / image.width, _TALL * side / image.height)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _blank(side: int) -> Image.Image:
    blank = Image.new("RGB", (side, side * 3 // 4), _BLANK)
    ImageDraw.Draw(blank).text((side // 2, side * 3 // 8), "cannot be read", fill=QUIET, font=font(14), anchor="mm")
    return blank


def _rows(tiles: list[_Tile], columns: int) -> Iterator[list[_Tile]]:
    """All tiles where one row is enough, else rows of one label each."""
    if len(tiles) <= columns:
        yield tiles
        return
    for _, group in groupby(tiles, lambda tile: tile.kind):
        own = list(group)
        yield from (own[i : i + columns] for i in range(0, len(own), columns))


def _band(tiles: list[_Tile], side: int, width: int) -> Image.Image:
    """Tiles side by side on one ground line, as high as the highest of them."""
    ground = max(tile.picture.height for tile in tiles)
    band = Image.new("RGB", (width, ground + _BAR + _WORDS + _GAP), PAPER)
    draw = ImageDraw.Draw(band)
    for i, tile in enumerate(tiles):
        left, wide = _MARGIN + i * (side + _GAP), max(tile.picture.width, _BLOT)
        band.paste(tile.picture, (left, ground - tile.picture.height))
        draw.rectangle((left, ground, left + wide - 1, ground + _BAR - 1), fill=_COLOURS[tile.kind])
        for line, colour, y in ((tile.first, INK, 19), (tile.second, QUIET, 35)):
            draw.text((left, ground + _BAR + y), _short(line, side, 13), fill=colour, font=font(13), anchor="ls")
    return band


def _head(samples: Sequence[Sample], title: str, words: str, width: int) -> Image.Image:
    """The title, how many there are of what, and what the colours say."""
    band = Image.new("RGB", (width, 84), PAPER)
    draw = ImageDraw.Draw(band)
    colours = {kind: _COLOURS[kind] for label, kind in _KINDS.items() if any(s.label == label for s in samples)}
    colours |= {"mask": TRUTH} if any(s.mask for s in samples) else {}
    x = width - _MARGIN
    for word, colour in reversed(colours.items()):
        x -= round(draw.textlength(word, font(14)))
        draw.text((x, 42), word, fill=QUIET, font=font(14), anchor="ls")
        draw.rectangle((x - 24, 35, x - 8, 38), fill=colour)
        x -= 44
    draw.text((_MARGIN, 44), _short(title, x - _MARGIN, 26), fill=INK, font=font(26), anchor="ls")
    draw.text((_MARGIN, 68), _short(words, width - 2 * _MARGIN, 15), fill=QUIET, font=font(15), anchor="ls")
    return band


def _heading(name: str, samples: Sequence[Sample], width: int) -> Image.Image:
    band = Image.new("RGB", (width, _ROOM), PAPER)
    draw = ImageDraw.Draw(band)
    draw.line((_MARGIN, 0, width - _MARGIN, 0), fill=EDGE)
    words = _short(name, width // 2, 17)
    draw.text((_MARGIN, 25), words, fill=INK, font=font(17), anchor="ls")
    x = _MARGIN + round(draw.textlength(words, font(17))) + 12
    draw.text((x, 25), _counted(samples), fill=QUIET, font=font(14), anchor="ls")
    return band


def _others(names: list[str], width: int) -> Iterator[Image.Image]:
    """A line about the classes that are not shown, where there are any."""
    if names:
        band = Image.new("RGB", (width, _ROOM), PAPER)
        words = f"and {len(names)} more: {', '.join(names)}"
        line = _short(words, width - 2 * _MARGIN, 14, end=0)
        ImageDraw.Draw(band).text((_MARGIN, 20), line, fill=QUIET, font=font(14), anchor="ls")
        yield band


def _stacked(bands: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (bands[0].width, sum(band.height for band in bands) + _GAP), PAPER)
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet


def _described(samples: Sequence[Sample], classes: int, drawn: int) -> str:
    """Which split, how many classes and samples, and how many of them are drawn.

    >>> _described([Sample(Path(f"{i}.png"), label=0) for i in range(5000)], 1, 32)
    'test split: 5,000 normal; 32 of 5,000 shown'
    """
    splits = " and ".join(dict.fromkeys(sample.split for sample in samples))
    of_classes = f"{classes} classes, " if classes > 1 else ""
    some = f"; {drawn:,} of {len(samples):,} shown" if drawn < len(samples) else ""
    return f"{splits} split: {of_classes}{_counted(samples)}{some}"


def _counted(samples: Sequence[Sample]) -> str:
    counts = Counter(_KINDS[sample.label] for sample in samples)
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS.values() if counts[kind])


def _dataset(samples: Sequence[Sample]) -> str:
    return ", ".join(dict.fromkeys(sample.dataset for sample in samples if sample.dataset)) or "images"


def _short(text: str, width: int, size: int, end: int = 10) -> str:
    """Text no wider than `width` pixels; something before its last `end` letters gives way to an ellipsis."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    words, letters = text, len(text)
    while font(size).getlength(words) > width and letters > 1:
        letters -= 1
        tail = min(end, letters // 3)
        words = f"{text[: letters - tail]}…{text[len(text) - tail :]}"
    return words
