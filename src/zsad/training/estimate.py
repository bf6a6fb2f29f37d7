"""How large a training is and how long it takes, measured on one image and two steps; nothing is written."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch

from zsad.data.reading import Reading
from zsad.methods.base import Method
from zsad.methods.recipe import make_optimizer
from zsad.training.augment import drawn
from zsad.training.hardware import Hardware
from zsad.training.images import READ, Encoded, Images
from zsad.training.opening import Opening, look, mode_of
from zsad.training.plan import Course, Plan, courses
from zsad.training.source import Cache
from zsad.training.step import take_step
from zsad.training.thresholds import best_thresholds
from zsad.types import Sample

T = TypeVar("T")


@dataclass(frozen=True)
class StageEstimate:
    """One training of a method."""

    epochs: int
    batch_size: int
    steps: int
    encoded: int  # times that an image as it is goes through the tower
    image_seconds: float  # to read and encode one
    changed: int  # mosaics and altered images, over all epochs
    changed_seconds: float  # to make and encode one
    step_seconds: float  # for one step, without reading and encoding
    once_seconds: float  # for what only the first steps do, such as fixed sentences for every class name
    one_bytes: int  # of the kept features of one image
    kept: bool  # whether features are kept
    where: str  # of the features, in words

    @property
    def seconds(self) -> float:
        """For the whole stage."""
        tower = self.encoded * self.image_seconds + self.changed * self.changed_seconds
        return tower + self.once_seconds + self.steps * self.step_seconds


@dataclass(frozen=True)
class Estimate:
    """A training before it is done; times are those of this machine, for one process that reads by itself."""

    images: int
    learnable: int
    stages: tuple[StageEstimate, ...]
    thresholds_seconds: float  # to set the thresholds at the end

    @property
    def seconds(self) -> float:
        """From the first image that is encoded to the thresholds."""
        return sum(stage.seconds for stage in self.stages) + self.thresholds_seconds

    def lines(self) -> list[str]:
        """The same for a person."""
        found = [f"learnable parameters: {self.learnable:,}"]
        for number, stage in enumerate(self.stages, start=1):
            name = f"stage {number}, " if len(self.stages) > 1 else ""
            found.append(f"{name}steps: {stage.steps:,}; {stage.epochs} epochs, batches of {stage.batch_size}")
            size = f"{_megabytes(stage.one_bytes)} for an image, {_megabytes(self.images * stage.one_bytes)} for all"
            found.append(f"{name}features: {size}; {stage.where}")
            times = [f"{stage.encoded:,} images through the tower, {stage.image_seconds:.3f} s each"]
            times += [f"{stage.changed:,} changed ones, {stage.changed_seconds:.3f} s each"] if stage.changed else []
            found.append(f"{name}time: {', '.join([*times, f'steps, {stage.step_seconds:.3f} s each'])}")
        total = timedelta(seconds=max(1, round(self.seconds)))
        return [*found, f"about {total} in all (h:mm:ss), on this machine as it is now"]


def _megabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def estimate(
    method: Method,
    samples: Sequence[Sample],
    size: int,
    plan: Plan | None = None,
    reading: Reading = Reading(),
    cache: Cache = Cache(),
) -> Estimate:
    """Measure what :func:`zsad.training.train` would take, on a copy of the method.

    Of the cache on disk is read which images are there. Reading ahead in other processes makes a training faster than
    this; files that are slow to read, or other work on the machine, slower.

    Args:
        method: As `train` gets it; it is left alone.
        samples: As `train` gets them.
        size: As `train` gets it.
        plan: As `train` gets it.
        reading: As `train` gets it.
        cache: As `train` gets it.

    Raises:
        ZsadError: If the plan does not fit the method or the device, or the first image cannot be read.
    """
    plan, mine = plan or Plan(), _copied(method)
    hardware = Hardware(method.backbone.logit_scale.device, plan.precision)
    images = Images(mine, mine.encode, size, reading, precision=hardware.computing, dtype=cache.dtype)
    with torch.random.fork_rng(devices=[hardware.device] if hardware.device.type == "cuda" else []):
        planned = courses(mine, plan, len(samples))
        found = [_Measured(course, samples, images, plan, cache, hardware).stage() for course in planned]
        last = _closing(samples, images, found[-1], planned[-1])
    learnable = sum(parameter.numel() for parameter in method.parameters())
    return Estimate(len(samples), learnable, tuple(found), last)


def _copied(method: Method) -> Method:
    """A copy of what learns, on the same frozen models."""
    shared: list[object] = [module for frozen in method.frozen for module in frozen.modules()]
    tensors = [tensor for frozen in method.frozen for tensor in (*frozen.parameters(), *frozen.buffers())]
    return copy.deepcopy(method, {id(item): item for item in (*shared, *tensors)})


@dataclass(frozen=True)
class _Measured:
    """One stage that is measured."""

    course: Course
    samples: Sequence[Sample]
    images: Images
    plan: Plan
    cache: Cache
    hardware: Hardware

    def stage(self) -> StageEstimate:
        course, count = self.course, len(self.samples)
        images = replace(self.images, encode=course.stage.encode)
        opening = look(self.samples, images, course, self.cache, self.hardware)
        seconds, data = _timed(lambda: next(images.encoded([self.samples[:1]])))
        mode, changed = mode_of(opening), self._changed()
        once, step = self._step(data)
        new = {"none": course.epochs * count - len(changed), "memory": count + 1}.get(mode, len(opening.missing) + 1)
        return StageEstimate(
            course.epochs,
            course.batch_size,
            course.steps,
            encoded=new,
            image_seconds=seconds,
            changed=len(changed),
            changed_seconds=_timed(lambda: next(images.encoded([changed[:1]])))[0] if changed else 0.0,
            step_seconds=step,
            once_seconds=once,
            one_bytes=opening.one,
            kept=mode != "none",
            where=_where(mode, opening),
        )

    def _changed(self) -> list[Sample]:
        """What is seen in place of images over all epochs, as they are drawn for the first one."""
        seen = drawn(self.samples, self.course, self.plan.seed)
        return self.course.epochs * [new for new, old in zip(seen, self.samples, strict=True) if new is not old]

    def _step(self, one: Encoded) -> tuple[float, float]:
        """Seconds of what is done once for every class name, and of the second of two steps on a batch of one image."""
        course, processes = self.course, self.hardware.processes
        batch = -(-min(course.batch_size, len(self.samples)) // processes)
        parts = min(self.plan.accumulate, batch)
        data = [(_repeated(one, self.samples, -(-batch // parts)), 1 / parts)] * parts
        method = self.images.method
        optimizer = make_optimizer(course.stage.parameters(method), course.recipe, course.rate)
        optimizer = self.hardware.prepared(optimizer)
        method.train()
        took = [
            _timed(lambda: take_step(method, course.stage, optimizer, data, self.hardware, self.plan.clip))[0]
            for _ in range(2)
        ]
        method.eval()
        names = {sample.class_name for sample in self.samples} if method.reads_names else {""}
        seen = set(data[0][0].class_names) if method.reads_names else {""}
        return max(0.0, took[0] - took[1]) * len(names) / len(seen), took[1]


def _where(mode: str, opening: Opening) -> str:
    if mode == "none":
        return "computed again in every epoch"
    if opening.space is None:
        return "kept in memory"
    there = f"{len(opening.samples) - len(opening.missing):,} of {len(opening.samples):,} images are there"
    where = "kept in memory; on disk" if mode == "memory" else "kept on disk"
    return f"{where} in {opening.space.folder}, {there}"


def _closing(samples: Sequence[Sample], images: Images, stage: StageEstimate, course: Course) -> float:
    """Seconds to set the thresholds, judged by one batch of the method as it is."""
    encoding, one = _timed(lambda: next(images.encoded([samples[:1]])))
    count = min(READ, len(samples))
    data = _repeated(one, samples, count)
    best_thresholds(images.method, [data])
    scoring, _ = _timed(lambda: best_thresholds(images.method, [data]))
    again = course.stage.encode != images.encode or not stage.kept
    return len(samples) * (scoring / count + (encoding if again else 0.0))


def _repeated(one: Encoded, samples: Sequence[Sample], count: int) -> Encoded:
    """A batch: the first image several times, normal and anomalous in turn, with the names of images far apart."""
    index = [0] * count
    labels = torch.arange(count) % 2
    masks = one.masks[index].clone()
    masks[:, : masks.shape[1] // 4] = True
    masks &= (labels == 1)[:, None, None]
    names = [samples[i * len(samples) // count].class_name for i in range(count)]
    return Encoded(one.features[index], masks, labels, names)


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found
