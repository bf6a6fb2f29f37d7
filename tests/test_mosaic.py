"""Four images as one, and images with another look: what read_item makes of them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from zsad.data.altered import Altered
from zsad.data.dataset import Batch, Notes, batches
from zsad.data.inputs import Form, Item, read_item
from zsad.data.mosaic import Mosaic
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.types import Sample

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
GREYS = (10, 60, 110, 160)


def stored(folder: Path, name: str, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def four(folder: Path, size: tuple[int, int] = (4, 6)) -> list[Sample]:
    """Four plain grey images; the second and the fourth have a mask with one marked pixel each."""
    samples = []
    for i, grey in enumerate(GREYS):
        image = stored(folder, f"{i}.png", np.full((*size, 3), grey, dtype=np.uint8))
        mask = np.zeros(size, dtype=np.uint8)
        mask[1, i] = 255
        anomalous = i % 2
        samples.append(Sample(image, stored(folder, f"{i}_mask.png", mask) if anomalous else None, label=anomalous))
    return samples


def item(sample: Sample, size: tuple[int, int], placed: bool = True, **reading: str) -> Item:
    made = read_item(sample, Form(size, Reading(**reading), placed=placed))  # type: ignore[arg-type]
    assert isinstance(made, Item), made
    return made


def read(samples: list[Sample], size: tuple[int, int], workers: int = 0, **reading: str) -> Batch:
    switches = Reading(**reading)  # type: ignore[arg-type]
    return next(batches(samples, size, MEAN, STD, 8, workers, reading=switches, placed_masks=True))


def test_the_four_lie_in_reading_order_and_their_masks_with_them(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    made = item(Mosaic.of(tiles[0], tiles, label=1), (8, 12))
    assert made.pixels[:4, :6].max() == made.pixels[:4, :6].min() == GREYS[0]
    assert made.pixels[:4, 6:].max() == made.pixels[:4, 6:].min() == GREYS[1]
    assert made.pixels[4:, :6].max() == made.pixels[4:, :6].min() == GREYS[2]
    assert made.pixels[4:, 6:].max() == made.pixels[4:, 6:].min() == GREYS[3]
    assert made.mask is not None and np.argwhere(made.mask).tolist() == [[1, 7], [5, 9]]


def test_a_mosaic_is_resized_as_a_whole_like_any_image(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    whole = Image.new("RGB", (12, 8))
    for i, tile in enumerate(tiles):
        whole.paste(Image.open(tile.image), (i % 2 * 6, i // 2 * 4))
    whole.save(tmp_path / "whole.png")
    made, plain = item(Mosaic.of(tiles[0], tiles, 1), (30, 20)), item(Sample(tmp_path / "whole.png", label=0), (30, 20))
    assert np.array_equal(made.pixels, plain.pixels)


def test_a_tile_of_another_size_fills_its_quarter_and_so_does_its_mask(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    mask = np.zeros((8, 3), dtype=np.uint8)
    mask[:, 0] = 255
    image = stored(tmp_path, "other.png", np.full((8, 3, 3), 77, dtype=np.uint8))
    tiles[3] = Sample(image, stored(tmp_path, "other_mask.png", mask), label=1)
    made = item(Mosaic.of(tiles[0], tiles, 1), (8, 12))
    assert (made.pixels[4:, 6:] == 77).all()
    assert made.mask is not None and made.mask[4:, 6:8].all() and not made.mask[4:, 8:].any()


@pytest.mark.parametrize("fit", ["pad", "keep"])
def test_a_mosaic_keeps_the_aspect_ratio_of_its_first_tile(tmp_path: Path, fit: str) -> None:
    tiles = four(tmp_path)
    made, plain = item(Mosaic.of(tiles[1], tiles, 1), (24, 24), fit=fit), item(tiles[0], (24, 24), fit=fit)
    assert (made.frame, made.box) == (plain.frame, plain.box)
    assert made.mask is not None and made.mask.any() and made.mask[made.box.inside].sum() == made.mask.sum()


def test_label_and_names_are_those_of_the_whole(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    stands_for = replace(tiles[0], class_name="nut", dataset="mvtec", prompt_name="metal nut")
    made = Mosaic.of(stands_for, tiles, label=1)
    assert (made.label, made.class_name, made.dataset, made.prompt_name) == (1, "nut", "mvtec", "metal nut")
    assert read([made], (8, 12)).labels.tolist() == [1]


def test_normal_tiles_make_an_empty_mask_and_an_unknown_one_makes_it_unknown(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    normal = read([Mosaic.of(tiles[0], [tiles[0], tiles[2]] * 2, 0)], (8, 12))
    assert normal.known == [True] and normal.masks is not None and not normal.masks.any()
    assert read([Mosaic.of(tiles[0], [*tiles[:3], replace(tiles[3], mask=None)], 1)], (8, 12)).known == [False]


def test_an_unreadable_tile_is_named(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no image")
    (_, error), *_ = read([Mosaic.of(tiles[0], tiles, 1)], (8, 12)).errors
    assert str(tmp_path / "2.png") in error


def test_a_note_names_the_tile_that_it_is_about(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    Image.new("RGBA", (6, 4), (1, 2, 3, 0)).save(tmp_path / "3.png")
    notes = Notes()
    notes.add(read([Mosaic.of(tiles[0], tiles, 1)], (8, 12)))
    assert len(notes.lines()) == 1 and str(tmp_path / "3.png") in notes.lines()[0]


def test_a_mosaic_needs_four() -> None:
    with pytest.raises(ZsadError, match="four"):
        Mosaic.of(Sample(Path("a.png")), [Sample(Path("a.png"))] * 3, label=0)


def test_worker_processes_read_the_same(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    mosaic = Mosaic.of(tiles[0], tiles, 1)
    samples = [mosaic, Altered.of(mosaic, turn=20.0, contrast=0.7), tiles[1]]
    assert pickle.loads(pickle.dumps(samples)) == samples
    alone, helped = read(samples, (28, 28)), read(samples, (28, 28), workers=2)
    assert torch.equal(alone.images, helped.images)
    assert alone.masks is not None and helped.masks is not None and torch.equal(alone.masks, helped.masks)


def varied(folder: Path) -> Sample:
    """An image whose pixels all differ, with a mask."""
    pixels = np.arange(12 * 12 * 3, dtype=np.uint32).reshape(12, 12, 3) % 251
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[2:5, 7:11] = 255
    image = stored(folder, "varied.png", pixels.astype(np.uint8))
    return Sample(image, stored(folder, "varied_mask.png", mask), label=1, class_name="nut")


def test_nothing_drawn_changes_nothing(tmp_path: Path) -> None:
    sample = varied(tmp_path)
    altered, plain = item(Altered.of(sample), (12, 12)), item(sample, (12, 12))
    assert np.array_equal(altered.pixels, plain.pixels) and altered.blank is None
    assert Altered.of(sample).class_name == "nut" and Altered.of(sample).label == 1


@pytest.mark.parametrize(("change", "axis"), [("mirrored", 1), ("flipped", 0)])
def test_mirrors_take_the_mask_along(tmp_path: Path, change: str, axis: int) -> None:
    sample = varied(tmp_path)
    made, plain = item(Altered.of(sample, **{change: True}), (12, 12)), item(sample, (12, 12))
    assert plain.mask is not None and made.mask is not None
    assert np.array_equal(made.pixels, np.flip(plain.pixels, axis)) and np.array_equal(
        made.mask, np.flip(plain.mask, axis)
    )


def test_a_shift_goes_right_and_down_and_leaves_nothing_behind(tmp_path: Path) -> None:
    sample = varied(tmp_path)
    made, plain = read([Altered.of(sample, shift=(0.25, -1 / 6))], (12, 12)), read([sample], (12, 12))
    assert torch.equal(made.images[..., :10, 3:], plain.images[..., 2:, :9])
    assert not made.images[..., 10:, :].any() and not made.images[..., :3].any()  # 0 after normalisation, not black
    assert made.masks is not None and plain.masks is not None
    assert torch.equal(made.masks[..., :10, 3:], plain.masks[..., 2:, :9]) and not made.masks[..., :3].any()


def test_a_turn_is_counter_clockwise_about_the_middle(tmp_path: Path) -> None:
    sample = varied(tmp_path)
    made, plain = item(Altered.of(sample, turn=90.0), (12, 12)), item(sample, (12, 12))
    assert np.array_equal(made.pixels, np.rot90(plain.pixels))
    assert made.mask is not None and plain.mask is not None and np.array_equal(made.mask, np.rot90(plain.mask))


def test_a_turned_image_is_blank_at_the_corners_only(tmp_path: Path) -> None:
    made = read([Altered.of(varied(tmp_path), turn=30.0)], (24, 24)).images[0]
    blank = (made == 0).all(dim=0)
    assert blank[0, 0] and blank[-1, -1] and not blank[4:20, 4:20].any()


def test_colours_change_in_the_stored_image_one_after_the_other(tmp_path: Path) -> None:
    sample = varied(tmp_path)
    image = Image.open(sample.image)
    for enhance, factor in ((ImageEnhance.Brightness, 0.6), (ImageEnhance.Contrast, 1.4), (ImageEnhance.Color, 0.5)):
        image = enhance(image).enhance(factor)
    image.save(tmp_path / "coloured.png")
    made = item(Altered.of(sample, brightness=0.6, contrast=1.4, saturation=0.5), (20, 16))
    assert np.array_equal(made.pixels, item(Sample(tmp_path / "coloured.png", label=0), (20, 16)).pixels)


def test_what_a_fit_fills_moves_along(tmp_path: Path) -> None:
    tiles = four(tmp_path)  # 4 x 6: lies in rows 2 to 9 of a square of 12
    made, plain = (read([s], (12, 12), fit="pad") for s in (Altered.of(tiles[1], flipped=True), tiles[1]))
    assert torch.equal(made.images, plain.images.flip(2)) and not made.images[..., :2, :].any()
    assert made.masks is not None and plain.masks is not None and torch.equal(made.masks, plain.masks.flip(1))


def test_an_altered_mosaic_is_the_mosaic_altered(tmp_path: Path) -> None:
    tiles = four(tmp_path)
    mosaic = Mosaic.of(tiles[0], tiles, 1)
    made, plain = item(Altered.of(mosaic, mirrored=True), (8, 12)), item(mosaic, (8, 12))
    assert np.array_equal(made.pixels, plain.pixels[:, ::-1])
    assert made.mask is not None and plain.mask is not None and np.array_equal(made.mask, plain.mask[:, ::-1])


def test_what_is_altered_must_be_said() -> None:
    with pytest.raises(ZsadError, match=r"Altered\.of"):
        Altered(Path("a.png"))
