"""zsad.data.sheet: which samples are shown, and what each tile says of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import zsad.data.sheet as sheets
from tests.miniatures import mask
from zsad.data.reading import Reading
from zsad.data.sheet import choose, contact_sheet
from zsad.errors import ZsadError
from zsad.pictures import DECISIONS, PAPER, TRUTH
from zsad.types import Sample

COLOUR = (60, 60, 200)  # of the photographs, nowhere else on a sheet
SIDE = 100


def photo(path: Path, size: tuple[int, int] = (60, 40), **known: Any) -> Sample:
    """A sample with a file of one colour; `size` is (width, height)."""
    Image.new("RGB", size, COLOUR).save(path)
    return Sample(path, **known)


def photos(folder: Path, normal: int, anomalous: int, unlabelled: int = 0, **known: Any) -> list[Sample]:
    labels = [0] * normal + [1] * anomalous + [None] * unlabelled
    return [photo(folder / f"{i}.png", label=label, **known) for i, label in enumerate(labels)]


def pixels(samples: list[Sample], **options: Any) -> NDArray[np.uint8]:
    return np.asarray(contact_sheet(samples, **{"side": SIDE, **options}))


def is_colour(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((sheet == colour).all(-1))


def runs(row: NDArray[np.bool_], least: int = 24) -> int:
    """How many stretches of at least so many marked pixels a row has."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], row, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2] >= least).sum())


def tiles(sheet: NDArray[np.uint8], kind: str) -> list[int]:
    """How many tiles of a label each row of tiles has that has some, top to bottom, by the strips below them."""
    colour = {**DECISIONS, "unlabelled": sheets._COLOURS["unlabelled"]}[kind]
    counts = [0, *(runs(row) for row in is_colour(sheet, colour)), 0]
    return [after for before, after in pairwise(counts) if after and not before]


def box(marked: NDArray[np.bool_]) -> tuple[int, int]:
    """Width and height of what is marked."""
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


# --- which samples


def test_two_anomalous_samples_are_shown_for_a_normal_and_an_unlabelled_one() -> None:
    samples = [Sample(Path(f"{i}.png"), label=(0, 1, None)[i % 3]) for i in range(90)]
    assert Counter(sample.label for sample in choose(samples, 8)) == {1: 4, 0: 2, None: 2}
    assert Counter(sample.label for sample in choose(samples[:5], 8)) == {1: 2, 0: 2, None: 1}


def test_where_one_label_has_few_the_others_fill_up() -> None:
    samples = [Sample(Path(f"{i}.png"), label=int(i < 2)) for i in range(90)]
    assert Counter(sample.label for sample in choose(samples, 8)) == {1: 2, 0: 6}


def test_every_defect_is_shown_however_rare() -> None:
    samples = [Sample(Path(f"{i}.png"), label=1, defect="rare" if i == 40 else "often") for i in range(41)]
    assert Counter(sample.defect for sample in choose(samples, 4)) == {"rare": 1, "often": 3}


def test_of_more_defects_than_tiles_an_even_choice_is_shown() -> None:
    samples = [Sample(Path(f"{i}.png"), label=1, defect=f"{i // 10}") for i in range(90)]
    assert [sample.defect for sample in choose(samples, 3)] == ["1", "4", "7"]


def test_files_are_spread_evenly_and_each_is_shown_once() -> None:
    samples = [Sample(Path(f"{i}.png"), label=0) for i in range(100)]
    numbers = [samples.index(sample) for sample in choose(samples, 10)]
    assert np.diff(numbers).tolist() == [10] * 9
    assert choose(samples, 200) == samples


# --- tiles


def test_there_is_a_tile_for_each_chosen_sample_with_the_strip_of_its_label(tmp_path: Path) -> None:
    sheet = pixels(photos(tmp_path, 5, 9, 2), per_class=8)
    assert tiles(sheet, "anomalous") == [4] and tiles(sheet, "normal") == [2] and tiles(sheet, "unlabelled") == [2]


def test_of_several_rows_each_has_one_label(tmp_path: Path) -> None:
    sheet = pixels(photos(tmp_path, 2, 9), columns=3, per_class=12)
    assert tiles(sheet, "normal") == [2] and tiles(sheet, "anomalous") == [3, 3, 3]


@pytest.mark.parametrize(("classes", "rows"), [(1, 4), (2, 2), (3, 1)])
def test_few_classes_fill_more_rows(tmp_path: Path, classes: int, rows: int) -> None:
    samples = photos(tmp_path, 30, 0)
    named = [dataclasses.replace(sample, class_name=str(i % classes)) for i, sample in enumerate(samples)]
    assert tiles(pixels(named, columns=2, side=60), "normal") == [2] * rows * classes


@pytest.mark.parametrize(
    ("size", "shown"), [((60, 40), (100, 67)), ((50, 70), (100, 140)), ((10, 40), (38, 150)), ((900, 3), (100, 1))]
)
def test_the_aspect_ratio_is_kept_up_to_one_and_a_half_sides(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert box(is_colour(pixels([photo(tmp_path / "x.png", size, label=0)]), COLOUR)) == shown


def test_the_contour_runs_around_the_mask_and_nowhere_else(tmp_path: Path) -> None:
    mask(tmp_path / "mask.png", size=(100, 100), rows=slice(40, 60))  # columns 4 to 11
    samples = [
        photo(tmp_path / "0.png", (100, 100), label=0),
        photo(tmp_path / "1.png", (100, 100), mask=tmp_path / "mask.png", label=1),
    ]
    sheet = pixels(samples).astype(int)
    top, left = (int(np.flatnonzero(is_colour(sheet, COLOUR).any(axis))[0]) for axis in (1, 0))
    line = np.abs(sheet - TRUTH).sum(-1) < 150
    line[:top] = False  # the legend
    rows, columns = np.nonzero(line)
    second = left + SIDE + sheets._GAP
    assert 36 <= rows.min() - top <= 40 and 59 <= rows.max() - top <= 63
    assert 0 <= columns.min() - second <= 4 and 11 <= columns.max() - second <= 15


def test_an_image_in_parts_shows_its_part_and_the_mask_of_it(tmp_path: Path) -> None:
    halves = Image.new("RGB", (40, 80))
    halves.paste(COLOUR, (0, 0, 40, 40))
    halves.save(tmp_path / "x.png")
    mask(tmp_path / "mask.png", size=(40, 80), rows=slice(50, 60))
    upper, lower = (Sample(tmp_path / "x.png", tmp_path / "mask.png", i, part=(i + 1, 2)) for i in (0, 1))
    assert box(is_colour(pixels([upper]), COLOUR)) == (SIDE, SIDE)
    assert not is_colour(pixels([lower]), COLOUR).any()
    contours = [(np.abs(pixels([part])[84:].astype(int) - TRUTH).sum(-1) < 150).any() for part in (upper, lower)]
    assert contours == [False, True]


def test_what_a_mask_marks_is_tinted_and_the_rest_is_not(tmp_path: Path) -> None:
    square = np.zeros((100, 100), np.uint8)
    square[30:70, 30:70] = 255
    normal, marked = photo(tmp_path / "0.png", (100, 100), label=0), photo(tmp_path / "1.png", (100, 100), label=1)
    for turned in (False, True):
        Image.fromarray(255 - square if turned else square).save(tmp_path / "mask.png")
        sheet = pixels([normal, dataclasses.replace(marked, mask=tmp_path / "mask.png")])
        rows, columns = np.nonzero(is_colour(sheet, COLOUR))
        tile = sheet[rows.min() :, columns.min() + SIDE + sheets._GAP :]
        inside, outside = tuple(tile[50, 50].tolist()), tuple(tile[15, 85].tolist())
        tinted = tuple(round(0.82 * colour + 0.18 * full) for colour, full in zip(COLOUR, TRUTH, strict=True))
        plain, other = (inside, outside) if turned else (outside, inside)
        assert plain == COLOUR and np.abs(np.subtract(other, tinted)).max() <= 2


def test_a_tile_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    sample = photo(tmp_path / "x.png", label=1, defect="crack")
    (tmp_path / "mask.png").write_bytes(b"")
    masked = sheets._tile(dataclasses.replace(sample, mask=tmp_path / "mask.png"), "x.png", SIDE, Reading())
    assert masked.first == "x.png" and masked.second.startswith("mask: ") and "empty" in masked.second
    sample.image.write_bytes(b"")
    tile = sheets._tile(sample, "x.png", SIDE, Reading())
    assert tile.first == "x.png" and "empty" in tile.second and str(tmp_path) not in tile.second


def test_the_head_says_which_split_and_how_many_are_shown() -> None:
    samples = [Sample(Path(f"{i}.png"), label=int(i > 44)) for i in range(77)]
    assert sheets._described(samples, 1, 32) == "test split: 45 normal, 32 anomalous; 32 of 77 shown"
    assert sheets._described(samples, 2, 77) == "test split: 2 classes, 45 normal, 32 anomalous"
    train = [dataclasses.replace(sample, split="train") for sample in samples]
    assert sheets._described(train + samples, 1, 154).startswith("train and test split: 90 normal")


def test_a_file_that_cannot_be_read_is_a_grey_tile(tmp_path: Path) -> None:
    samples = photos(tmp_path, 2, 2)
    before = pixels(samples)
    samples[3].image.write_bytes(b"")
    after = pixels(samples)
    assert not is_colour(before, sheets._BLANK).any()
    assert is_colour(after, sheets._BLANK).sum() > 0.8 * SIDE * SIDE * 3 / 4  # the rest are the words on it
    assert tiles(after, "anomalous") == [2]


def test_a_mask_that_cannot_be_read_does_not_hide_the_photograph(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"")
    sheet = pixels([photo(tmp_path / "x.png", mask=tmp_path / "mask.png", label=1)])
    assert box(is_colour(sheet, COLOUR)) == (100, 67)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/0.png", "b/0.png"], ["0.png", "0.png"]),
        (["c/1/2.png", "c/2/2.png", "c/4.png"], ["1/2.png", "2/2.png", "c/4.png"]),
    ],
)
def test_files_are_named_with_their_folders_where_a_name_alone_does_not_tell(
    files: list[str], names: list[str]
) -> None:
    samples = [Sample(Path(name), defect=name[0]) for name in files]
    assert list(sheets._file_names(samples).values()) == names


# --- the sheet


def test_the_same_samples_give_the_same_sheet(tmp_path: Path) -> None:
    samples = photos(tmp_path, 9, 9)
    assert np.array_equal(pixels(samples), pixels(samples))


def test_classes_beyond_the_limit_are_named_but_not_read(tmp_path: Path) -> None:
    shown, hidden = (photos(tmp_path, 1, 1, class_name=name) for name in ("nut", "bolt"))
    missing = [dataclasses.replace(sample, image=tmp_path / "no.png") for sample in hidden]
    sheet = pixels([*shown, *missing], most_classes=1, per_class=2)
    assert not is_colour(sheet, sheets._BLANK).any()
    assert len(sheet) == len(pixels(shown, per_class=2)) + 2 * sheets._ROOM  # a heading, and a line about the other


def test_words_of_any_length_and_kind_stay_on_their_tiles(tmp_path: Path) -> None:
    plain = photo(tmp_path / "x.png", label=1)
    odd = photo(tmp_path / f"a\nb\udcff[c]{'long' * 40} é.png", label=1, class_name="c" * 400, defect="d" * 200)
    short, long = pixels([plain]), pixels([odd], title="t" * 300)
    assert short.shape == long.shape
    right_of_the_tile, below = long[84:, 24 + SIDE + 1 :], long[-2 * sheets._GAP :]
    assert (right_of_the_tile == PAPER).all() and (below == PAPER).all()


@pytest.mark.parametrize("options", [{"columns": 0}, {"side": 5}, {"per_class": 0}, {"most_classes": 0}])
def test_numbers_that_are_too_small_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ZsadError, match="at least 1 column"):
        contact_sheet(photos(tmp_path, 1, 0), **options)  # type: ignore[arg-type]
    with pytest.raises(ZsadError, match="0 samples"):
        contact_sheet([])
