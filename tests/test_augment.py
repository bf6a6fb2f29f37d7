"""What is drawn for an epoch: whose images are replaced, by which four, and what is altered."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zsad.backbones.weights import load
from zsad.data.altered import Altered
from zsad.data.mosaic import Mosaic
from zsad.methods.recipe import Recipe
from zsad.methods.table import build
from zsad.training.augment import COLOUR, SHIFT, TURN, drawn
from zsad.training.plan import Course, Plan, courses
from zsad.types import Sample


def course(mosaic: float = 0.0, asked: bool = False, **recipe: object) -> Course:
    """The first training of CLIP-AD, with another recipe."""
    [first] = courses(build("clipad", load("tiny")), Plan(), count=100)
    made = Recipe(**recipe)  # type: ignore[arg-type]
    return replace(first, recipe=made, mosaic=mosaic, mosaic_asked=asked, alter=made.alter)


def images(count: int = 200, class_name: str = "nut", dataset: str = "mvtec") -> list[Sample]:
    """Every fifth is anomalous, half of these scratched; the other kinds of defects have one image each."""
    samples = []
    for i in range(count):
        defect = "good" if i % 5 else "scratch" if i % 10 else f"rare {i}"
        path = Path(class_name) / f"{i}.png"
        mask = None if i % 5 else Path(class_name) / f"{i}_mask.png"
        samples.append(Sample(path, mask, int(i % 5 == 0), class_name, defect, dataset=dataset))
    return samples


def mosaics(samples: list[Sample]) -> list[Mosaic]:
    return [sample for sample in samples if isinstance(sample, Mosaic)]


def alterations(samples: list[Sample]) -> list[Altered]:
    return [sample for sample in samples if isinstance(sample, Altered)]


def test_without_chances_every_sample_is_itself() -> None:
    samples = images()
    assert all(a is b for a, b in zip(drawn(samples, course(), 1), samples, strict=True))


def test_as_many_images_are_replaced_as_the_chance_says_and_the_others_are_themselves() -> None:
    samples = images(2000)
    assert len(mosaics(drawn(samples, course(1.0), 1))) == 2000
    some = drawn(samples, course(0.2), 1)
    assert 330 < len(mosaics(some)) < 470  # 400, and four standard deviations to either side
    assert all(a is b for a, b in zip(some, samples, strict=True) if not isinstance(a, Mosaic))


def test_equal_seeds_draw_alike_whatever_other_random_numbers_do() -> None:
    samples, rule = images(), course(0.5, alter=("moves", "colours"))
    before = drawn(samples, rule, 7)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert drawn(samples, rule, 7) == before != drawn(samples, rule, 8)
    assert states[0] == random.getstate() and states[1] == np.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.get_rng_state())


def test_every_process_draws_the_same() -> None:
    code = (
        "from tests.test_augment import course, drawn, images, summary\n"
        "print(summary(drawn(images(), course(0.5, alter=('moves', 'colours')), 7)))"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True).stdout
    assert told.strip() == summary(drawn(images(), course(0.5, alter=("moves", "colours")), 7))


def summary(samples: list[Sample]) -> str:
    """Something that tells lists of samples from each other, in every process alike."""
    return ascii([repr(sample) for sample in samples])


def test_the_numbers_drawn_stay_those_of_this_release() -> None:
    replaced = [i for i, sample in enumerate(drawn(images(60), course(0.2), 111)) if isinstance(sample, Mosaic)]
    assert replaced == [1, 10, 15, 17, 37, 42, 50, 53], (
        "a training that was interrupted under an older version would go on differently"
    )


def test_tiles_are_of_the_class_and_dataset_of_the_image() -> None:
    samples = [*images(40), *images(40, "cable"), *images(40, dataset="own")]
    made = mosaics(drawn(samples, course(1.0), 1))
    assert len(made) == 120
    for mosaic in made:
        assert {(tile.class_name, tile.dataset) for tile in mosaic.tiles} == {(mosaic.class_name, mosaic.dataset)}


def test_kinds_are_equally_likely_however_rare_and_the_label_is_that_of_the_tiles() -> None:
    samples = [s for s in images(1000) if s.defect in ("good", "scratch", "rare 0", "rare 10")]
    made = mosaics(drawn(samples, course(1.0, mosaic_way="kinds"), 1))
    counts = Counter(tile.defect for mosaic in made for tile in mosaic.tiles)
    share = sum(counts.values()) / 4
    assert len(counts) == 4 and all(0.9 * share < count < 1.1 * share for count in counts.values())
    assert all(mosaic.label == max(tile.label or 0 for tile in mosaic.tiles) for mosaic in made)


def test_images_are_four_different_ones_under_the_label_of_the_one_replaced() -> None:
    samples = images(10)
    made = mosaics(drawn(samples, course(1.0, mosaic_way="images"), 1))
    assert all(len({tile.image for tile in mosaic.tiles}) == 4 for mosaic in made)
    assert [mosaic.label for mosaic in made] == [sample.label for sample in samples]


def test_a_class_of_fewer_than_four_images_repeats_some() -> None:
    made = mosaics(drawn(images(2), course(1.0, mosaic_way="images"), 1))
    assert all(len({tile.image for tile in mosaic.tiles}) == 2 for mosaic in made)


def test_alike_is_all_normal_in_four_cases_of_five_else_all_anomalous() -> None:
    made = mosaics(drawn(images(2000), course(1.0, mosaic_way="alike"), 1))
    assert all({tile.label for tile in mosaic.tiles} == {mosaic.label} for mosaic in made)
    assert 0.76 < sum(mosaic.label == 0 for mosaic in made) / len(made) < 0.84


@pytest.mark.parametrize("anomalous", [True, False])
def test_alike_takes_the_half_that_a_class_has(anomalous: bool) -> None:
    half = [sample for sample in images(50) if sample.known_anomalous == anomalous]
    made = mosaics(drawn(half, course(1.0, mosaic_way="alike"), 1))
    assert len(made) == len(half) and all(mosaic.known_anomalous == anomalous for mosaic in made)


@pytest.mark.parametrize("named", ["mvtec", "nut"])
def test_only_the_named_datasets_and_classes_are_replaced(named: str) -> None:
    samples = [*images(50), *images(50, "cable", "own")]
    for asked in (False, True):
        made = mosaics(drawn(samples, course(1.0, asked, mosaic_of=(named,)), 1))
        assert {mosaic.class_name for mosaic in made} == {"nut"} and len(made) == 50


def test_other_data_are_replaced_only_where_the_plan_asks() -> None:
    samples = images(50, dataset="own")
    assert not mosaics(drawn(samples, course(1.0, asked=False, mosaic_of=("mvtec",)), 1))
    assert len(mosaics(drawn(samples, course(1.0, asked=True, mosaic_of=("mvtec",)), 1))) == 50


def test_moves_are_within_their_bounds_and_each_is_made_half_of_the_time() -> None:
    made = drawn(images(2000), course(alter=("moves",)), 1)
    altered = alterations(made)
    assert 0.92 < len(altered) / 2000 < 0.955  # 15 of 16; what is not altered is not replaced
    for change in (lambda a: a.turn != 0, lambda a: any(a.shift), lambda a: a.mirrored, lambda a: a.flipped):
        assert 0.45 < sum(map(change, altered)) / 2000 < 0.55
    assert 0.95 * TURN < max(a.turn for a in altered) <= TURN and -TURN <= min(a.turn for a in altered) < -0.95 * TURN
    shifts = [share for a in altered for share in a.shift]
    assert 0.95 * SHIFT < max(shifts) <= SHIFT and -SHIFT <= min(shifts) < -0.95 * SHIFT
    assert {(a.brightness, a.contrast, a.saturation) for a in altered} == {(1, 1, 1)}


def test_colours_are_within_their_bounds_and_each_is_changed_seven_times_of_ten() -> None:
    altered = alterations(drawn(images(2000), course(alter=("colours",)), 1))
    for name in ("brightness", "contrast", "saturation"):
        factors = [getattr(a, name) for a in altered if getattr(a, name) != 1]
        assert 0.65 < len(factors) / 2000 < 0.75
        assert 1 - COLOUR <= min(factors) < 1 - 0.95 * COLOUR and 1 + 0.95 * COLOUR < max(factors) <= 1 + COLOUR
    assert not any(a.moves for a in altered)


def test_each_method_augments_as_its_release_does() -> None:
    backbone = load("tiny")
    told = {name: courses(build(name, backbone), Plan(), 100) for name in ("aprilgan", "adaclip", "crane", "aaclip")}
    assert [c.mosaic for name in ("aprilgan", "adaclip", "crane") for c in told[name]] == [0.2, 0.2, 0.0]
    assert [c.alter for c in told["aaclip"]] == [("moves",), ("colours", "moves")]
    assert [c.mosaic for c in told["aaclip"]] == [0.0, 0.0]


def test_a_plan_overrides_the_release() -> None:
    backbone = load("tiny")
    [april] = courses(build("aprilgan", backbone), Plan(mosaic=0.0), 100)
    assert not mosaics(drawn(images(), april, 1))
    assert [c.alter for c in courses(build("aaclip", backbone), Plan(alter=False), 100)] == [(), ()]
    [crane] = courses(build("crane", backbone), Plan(mosaic=0.5), 100)
    made = mosaics(drawn([*images(), *images(class_name="bottle")], crane, 1))
    assert made and {mosaic.class_name for mosaic in made} == {"bottle"}
    assert all(len({tile.label for tile in mosaic.tiles}) == 1 for mosaic in made)
