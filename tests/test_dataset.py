"""Samples to batches: the published input to the bit, the same from every worker, every sample told of once."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zsad.data.dataset import Batch, Notes, batches
from zsad.data.fit import Box
from zsad.data.images import preprocess, read_image
from zsad.data.inputs import mask_known
from zsad.data.reading import FITS, Reading
from zsad.types import Sample

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

every_fit = pytest.mark.parametrize("fit", FITS)


def photo(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def drawn(folder: Path, *sizes: tuple[int, int]) -> list[Sample]:
    """Normal samples of these widths and heights."""
    samples = [Sample(folder / f"{i}.png", label=0) for i in range(len(sizes))]
    for i, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        photo(*size, seed=i).save(sample.image)
    return samples


@pytest.fixture
def mixed(tmp_path: Path) -> list[Sample]:
    """A normal image, a damaged one, an anomalous one with its mask, and an unlabelled one."""
    good, crack, loose = drawn(tmp_path, (60, 40), (60, 40), (60, 40))
    (tmp_path / "broken.png").write_bytes(b"")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:45] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return [
        good,
        Sample(tmp_path / "broken.png", label=0),
        Sample(crack.image, tmp_path / "mask.png", label=1),
        Sample(loose.image),
    ]


def read(samples: list[Sample], size: int | tuple[int, int] = 14, batch_size: int = 4, **how: object) -> list[Batch]:
    return list(batches(samples, size, MEAN, STD, batch_size, **how))  # type: ignore[arg-type]


# --- the network's input


def test_every_value_of_every_channel_is_that_of_preprocess_to_the_bit(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(np.stack([values, values.T, 255 - values], axis=-1)).save(tmp_path / "all.png")
    (batch,) = read([Sample(tmp_path / "all.png")], 16)
    assert torch.equal(batch.images[0], torch.from_numpy(preprocess(read_image(tmp_path / "all.png"), 16, MEAN, STD)))


@pytest.mark.parametrize("size", [14, (14, 28), (77, 51)])
def test_stretched_input_is_that_of_preprocess_to_the_bit(tmp_path: Path, size: int | tuple[int, int]) -> None:
    samples = drawn(tmp_path, (60, 40), (33, 90))
    (batch,) = read(samples, size)
    for image, sample in zip(batch.images, samples, strict=True):
        assert torch.equal(image, torch.from_numpy(preprocess(read_image(sample.image), size, MEAN, STD)))
    assert batch.images.dtype == torch.float32 and batch.boxes == [Box(0, 0, *batch.images.shape[2:])] * 2


def test_padded_input_is_the_smaller_image_and_zero_around_it(tmp_path: Path) -> None:
    samples = drawn(tmp_path, (60, 40))
    (batch,) = read(samples, 30, reading=Reading(fit="pad"))
    assert batch.boxes == [Box(5, 0, 20, 30)]
    image, expected = batch.images[0], preprocess(read_image(samples[0].image), (20, 30), MEAN, STD)
    assert torch.equal(image[:, 5:25], torch.from_numpy(expected))
    assert not image[:, :5].any() and not image[:, 25:].any()


def test_kept_input_has_the_aspect_ratio_of_the_image_in_whole_patches(tmp_path: Path) -> None:
    samples = drawn(tmp_path, (90, 40))
    (batch,) = read(samples, 24, reading=Reading(fit="keep"), multiple=4)
    assert torch.equal(batch.images[0], torch.from_numpy(preprocess(photo(90, 40), (16, 36), MEAN, STD)))


# --- masks


def test_a_normal_image_has_an_empty_mask_an_anomalous_one_its_own(mixed: list[Sample]) -> None:
    (batch,) = read(mixed[:3], (40, 60))
    assert batch.masks is not None and batch.masks.dtype == torch.bool and batch.labels.tolist() == [0, 1]
    assert not batch.masks[0].any() and batch.masks[1, 10:20, 30:45].all() and batch.masks[1].sum() == 150


def test_a_mask_of_another_size_than_its_image_is_told(mixed: list[Sample], tmp_path: Path) -> None:
    Image.new("L", (7, 9), 255).save(tmp_path / "other.png")
    (batch,) = read([dataclasses.replace(mixed[0], mask=tmp_path / "other.png", label=1)])
    assert batch.notes == [(batch.samples[0], "mask of another size than its image, stretched over it")]


def test_a_mask_is_known_sample_by_sample(mixed: list[Sample]) -> None:
    (batch,) = read(mixed)
    assert batch.masks is not None and batch.known == [mask_known(sample) for sample in batch.samples]
    assert {True, False} == set(batch.known)
    assert all(batch.masks is None for batch in read(mixed[:3], with_masks=False))


@every_fit
def test_masks_are_stretched_whatever_the_fit_of_the_image(mixed: list[Sample], fit: str) -> None:
    (batch,) = read(mixed[2:3], 20, reading=Reading(fit=fit), multiple=4)
    (stretched,) = read(mixed[2:3], 20)
    assert batch.masks is not None and stretched.masks is not None and torch.equal(batch.masks, stretched.masks)


@every_fit
@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (200, 30)])
def test_a_placed_mask_marks_the_pixels_that_show_what_is_marked(
    tmp_path: Path, fit: str, width: int, height: int
) -> None:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :, width // 4 : width // 2] = 255
    Image.fromarray(mask).convert("RGB").save(tmp_path / "image.png")  # white where marked, black elsewhere
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sample = Sample(tmp_path / "image.png", tmp_path / "mask.png", label=1)
    (batch,) = batches([sample], 32, (0, 0, 0), (1, 1, 1), 1, reading=Reading(fit=fit), multiple=4, placed_masks=True)
    assert batch.masks is not None and batch.masks.shape[1:] == batch.images.shape[2:]
    shown = batch.images[:, 0] > 0.5
    assert shown.any() and (batch.masks ^ shown).sum() <= 0.5 * sum(
        shown.shape[1:]
    )  # bicubic against nearest, at edges
    outside = torch.ones_like(batch.masks[0])
    outside[batch.boxes[0].inside] = False
    assert not batch.masks[0, outside].any()


# --- the order of a run


@every_fit
@pytest.mark.parametrize("count", [0, 2])
def test_batches_keep_the_order_and_report_unreadable_files(mixed: list[Sample], fit: str, count: int) -> None:
    first, second = read(mixed, batch_size=2, workers=count, reading=Reading(fit=fit))
    assert first.samples == mixed[:1] and [sample for sample, _ in first.errors] == mixed[1:2]
    assert "broken.png" in first.errors[0][1] and first.covers == mixed[:2]
    assert second.samples == second.covers == mixed[2:] and second.labels.tolist() == [1, -1]
    assert second.labels.dtype == torch.int64


def test_an_unreadable_mask_is_an_error_too(mixed: list[Sample], tmp_path: Path) -> None:
    (batch,) = read([Sample(mixed[0].image, tmp_path / "none.png", label=1)])
    assert "none.png" in batch.errors[0][1] and not batch.samples


def test_a_batch_of_unreadable_files_only_is_empty(mixed: list[Sample]) -> None:
    (batch,) = read(mixed[1:2])
    assert batch.images.shape == (0, 3, 14, 14) and batch.masks is not None and batch.masks.shape == (0, 14, 14)
    assert len(batch.errors) == 1 and batch.samples == batch.boxes == [] and batch.covers == mixed[1:2]


def test_only_neighbours_of_one_shape_share_a_batch_and_the_order_stays(tmp_path: Path) -> None:
    square, wide = (40, 40), (90, 40)
    samples = drawn(tmp_path, square, square, square, wide, square, wide, wide)
    samples[5].image.write_bytes(b"")
    made = read(samples, 28, 2, reading=Reading(fit="keep"), multiple=4)
    assert [len(batch.covers) for batch in made] == [2, 1, 1, 2, 1]
    assert [sample for batch in made for sample in batch.covers] == samples
    assert [batch.images.shape[2:] for batch in made] == [(28, 28), (28, 28), (20, 40), (28, 28), (20, 40)]


@every_fit
def test_workers_read_the_same_batches(tmp_path: Path, mixed: list[Sample], fit: str) -> None:
    samples = [*mixed[:3], *drawn(tmp_path, (90, 40), (40, 90), (90, 40))]
    how = {"batch_size": 2, "reading": Reading(fit=fit), "multiple": 4, "placed_masks": True}
    for here, there in zip(read(samples, 28, **how), read(samples, 28, **how, workers=2), strict=True):  # type: ignore[arg-type]
        assert torch.equal(here.images, there.images) and torch.equal(here.labels, there.labels)
        assert here.masks is not None and there.masks is not None and torch.equal(here.masks, there.masks)
        assert (here.covers, here.errors, here.boxes) == (there.covers, there.errors, there.boxes)
        assert here.notes == there.notes


def test_a_batch_is_given_before_more_files_are_read(mixed: list[Sample]) -> None:
    taken = batches(mixed, 14, MEAN, STD, 2)
    next(taken)
    mixed[2].image.unlink()
    assert next(taken).errors[0][0] == mixed[2]


def test_parts_of_one_file_are_samples_of_their_own(tmp_path: Path) -> None:
    (whole,) = drawn(tmp_path, (20, 40))
    (batch,) = read([dataclasses.replace(whole, part=(i, 2)) for i in (1, 2)], 20)
    for image, top in zip(batch.images, (0, 20), strict=True):
        half = read_image(whole.image).crop((0, top, 20, top + 20))
        assert torch.equal(image, torch.from_numpy(preprocess(half, 20, MEAN, STD)))


# --- what else reading must not do


def test_batches_leave_global_random_numbers_alone(mixed: list[Sample]) -> None:
    before = torch.get_rng_state()
    read(mixed, batch_size=2)
    assert torch.equal(before, torch.get_rng_state())


def test_workers_end_with_batches_that_are_not_read_to_the_end(mixed: list[Sample]) -> None:
    before = set(multiprocessing.active_children())
    taken = batches(mixed * 5, 14, MEAN, STD, 1, workers=2)
    next(taken)
    assert set(multiprocessing.active_children()) - before
    taken.close()
    assert not set(multiprocessing.active_children()) - before


# --- the rules of reading


def test_a_batch_tells_which_rules_were_applied_to_which_samples(tmp_path: Path) -> None:
    samples = drawn(tmp_path, (8, 8), (8, 8))
    Image.new("RGBA", (8, 8), (0, 0, 0, 9)).save(samples[1].image)
    (batch,) = read(samples)
    assert [sample for sample, _ in batch.notes] == samples[1:]


def test_notes_name_each_rule_once_with_its_files_and_the_first_of_them(mixed: list[Sample]) -> None:
    (batch,) = read(mixed[:1])
    a, b, c = (Sample(Path(name)) for name in ("a.png", "b.png", "c.png"))
    notes = Notes()
    for told in ([(b, "alpha over white")], [(a, "alpha over white"), (c, "first frame"), (a, "alpha over white")]):
        batch.notes[:] = told
        notes.add(batch)
    assert notes.lines() == ["alpha over white: 2 files, first b.png", "first frame: c.png"]
    assert Notes().lines() == []
