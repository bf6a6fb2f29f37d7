"""What the released trainings change at random: mosaics of four images; turns, shifts, mirrors and colours.

Mosaics replace an image by four of its class, drawn from the images of the training (:class:`zsad.data.mosaic.Mosaic`).
How, is a row of :data:`WAYS`; whose images, says :attr:`zsad.methods.recipe.Recipe.mosaic_of`:

- "kinds", ByChelsea/VAND-APRIL-GAN at f13b8a6, dataset.py:98-144: a kind of defect (or "good"), each as likely, and an
  image of it, four times; a fifth of the images of MVTec AD, none of VisA (train.py:81-85 and 170, train.sh). hq-deng/
  AnoVL has the same function at a rate of -1, which is never.
- "images", caoyunkang/AdaCLIP at e27ee32, dataset/base_dataset.py:54-109: four different images; a fifth of those of
  MVTec AD, none of other sets (dataset/mvtec.py:15). The label stays that of the image that was replaced, whatever the
  four show; its classification loss reads it (method/trainer.py:120-126).
- "alike", AlirezaSalehy/Crane at 39181f9, dataset/dataset.py:86-128 and 262-266: four normal images in four cases of
  five, else four anomalous ones (the kind is drawn once, though half of them normal, as the comment says, fits four
  draws); of seven classes of MVTec AD; off (train.py:187).

The release of AA-CLIP alters every image anew in every epoch (Mwxinnn/AA-CLIP at 53db195, dataset/__init__.py:30-94):
"moves" in both of its trainings, "colours" in the second (:class:`zsad.data.altered.Altered`).

The numbers drawn depend on the seed and the place in the list alone, in every process and on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from zsad.data.altered import Altered
from zsad.data.mosaic import Mosaic
from zsad.training.plan import Course
from zsad.types import Sample

T = TypeVar("T")

TURN = 30.0  # degrees at most, to either side
SHIFT = 0.15  # share of the input's side at most, in each direction
COLOUR = 0.5  # how far a factor goes from 1
MOVED, COLOURED = 0.5, 0.7  # chances of each movement, and of each change of colour
NORMAL = 0.8  # chance that the four of "alike" are normal


@dataclass
class Pool:
    """The images of one class."""

    samples: list[Sample] = field(default_factory=list)
    kinds: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))  # "good" and kinds of defects
    halves: dict[bool, list[Sample]] = field(default_factory=lambda: defaultdict(list))  # anomalous, and not

    def add(self, sample: Sample) -> None:
        """Take one more image."""
        self.samples.append(sample)
        self.kinds[sample.defect if sample.known_anomalous else "good"].append(sample)
        self.halves[sample.known_anomalous].append(sample)


def of_kinds(sample: Sample, pool: Pool, random: Random) -> Mosaic:
    """As APRIL-GAN: each of a kind that is drawn first, so that rare kinds are as frequent as others."""
    kinds = list(pool.kinds.values())
    return _labelled(sample, [_one(_one(kinds, random), random) for _ in range(4)])


def of_images(sample: Sample, pool: Pool, random: Random) -> Mosaic:
    """As AdaCLIP: four different images, as long as there are as many; the label stays as it was."""
    places: list[int] = []
    while len(places) < min(4, len(pool.samples)):
        place = _one(range(len(pool.samples)), random)
        places += [place] if place not in places else []
    tiles = [pool.samples[places[i % len(places)]] for i in range(4)]
    return Mosaic.of(sample, tiles, sample.label)


def of_alike(sample: Sample, pool: Pool, random: Random) -> Mosaic:
    """As Crane: all four normal, or all four anomalous; where a class has only one of both, those."""
    anomalous = random.random() >= NORMAL
    half = pool.halves.get(anomalous) or pool.samples
    return _labelled(sample, [_one(half, random) for _ in range(4)])


#: name in Recipe.mosaic_way -> the mosaic in place of an image, made of the images of its class
WAYS: Mapping[str, Callable[[Sample, Pool, Random], Mosaic]] = {
    "kinds": of_kinds,
    "images": of_images,
    "alike": of_alike,
}


def moves(random: Random) -> dict[str, Any]:
    """As both trainings of AA-CLIP: each movement with chance MOVED."""
    changes: dict[str, Any] = {}
    if random.random() < MOVED:
        changes["turn"] = _between(-TURN, TURN, random)
    if random.random() < MOVED:
        changes["shift"] = _between(-SHIFT, SHIFT, random), _between(-SHIFT, SHIFT, random)
    return changes | {name: True for name in ("mirrored", "flipped") if random.random() < MOVED}


def colours(random: Random) -> dict[str, Any]:
    """As the second training of AA-CLIP: each change with chance COLOURED."""
    names = ("brightness", "contrast", "saturation")
    return {name: _between(1 - COLOUR, 1 + COLOUR, random) for name in names if random.random() < COLOURED}


#: name in Recipe.alter -> changes that are drawn, as Altered has them; none is a possible draw
ALTERATIONS: Mapping[str, Callable[[Random], dict[str, Any]]] = {
    "moves": moves,
    "colours": colours,
}


def drawn(samples: Sequence[Sample], course: Course, seed: int) -> list[Sample]:
    """The samples of one epoch, in their order; one that the draw leaves as it is, is the very object of `samples`.

    Args:
        samples: The images of the training; mosaics are made of these.
        course: Chances, ways and what is altered.
        seed: Of the epoch. Equal seeds give equal lists; no other random numbers matter, and none change.
    """
    if not course.mosaic and not course.alter:
        return list(samples)
    pools = _pools(samples, course) if course.mosaic else {}
    return [_drawn(sample, course, pools, Random(f"{seed} {place}")) for place, sample in enumerate(samples)]


def _drawn(sample: Sample, course: Course, pools: Mapping[tuple[str, str], Pool], random: Random) -> Sample:
    pool = pools.get((sample.dataset, sample.class_name))
    if pool and random.random() < course.mosaic:
        sample = WAYS[course.recipe.mosaic_way](sample, pool, random)
    changes = {key: value for name in course.alter for key, value in ALTERATIONS[name](random).items()}
    return Altered.of(sample, **changes) if changes else sample


def _pools(samples: Sequence[Sample], course: Course) -> Mapping[tuple[str, str], Pool]:
    """The classes, by dataset and name, whose images may be replaced."""
    pools: dict[tuple[str, str], Pool] = defaultdict(Pool)
    for sample in samples:
        pools[sample.dataset, sample.class_name].add(sample)
    named = course.recipe.mosaic_of
    meant = {key: pool for key, pool in pools.items() if not named or set(key) & set(named)}
    return meant or (dict(pools) if course.mosaic_asked else {})


def _labelled(sample: Sample, tiles: Sequence[Sample]) -> Mosaic:
    """A mosaic that is anomalous where a tile is."""
    return Mosaic.of(sample, tiles, label=int(any(tile.known_anomalous for tile in tiles)))


def _between(low: float, high: float, random: Random) -> float:
    return low + (high - low) * random.random()


def _one(choices: Sequence[T], random: Random) -> T:
    """One of them; `random()` is the method of Random whose numbers stay the same in later versions of Python."""
    return choices[int(len(choices) * random.random())]
