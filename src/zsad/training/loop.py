"""The one training loop."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch

from zsad.data.dataset import Notes
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method, nothing_to_learn
from zsad.methods.recipe import make_optimizer, set_rates
from zsad.training.augment import drawn
from zsad.training.hardware import Hardware
from zsad.training.images import READ, Encoded, Images, check
from zsad.training.opening import open_source
from zsad.training.plan import Course, Plan, Report, Step, courses
from zsad.training.source import Cache, Progress, Source
from zsad.training.step import share_of, take_step
from zsad.training.thresholds import best_thresholds
from zsad.types import Sample


class Keeper(Protocol):
    """What keeps a training, so that it can go on after it was stopped."""

    stopping: bool  # whether nothing may come after the next save

    def load(self) -> dict[str, Any] | None:
        """What the last save was given; None at the beginning."""
        ...

    def due(self) -> bool:
        """Whether it is time to save amid an epoch."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, whole or not at all; state["number"] steps are done."""
        ...

    def log(self, step: Step) -> None:
        """Called after each step."""
        ...

    def epoch_done(self, method: Method, stage: int, epoch: int, stages: int, terms: Mapping[str, float]) -> None:
        """Called after an epoch, before its state is saved: numbers from 1, mean terms; again if it is done again."""
        ...

    def final(self, method: Method) -> None:
        """Called after the last step, before the thresholds are set; may put other weights in place."""
        ...


def train(
    method: Method,
    samples: Sequence[Sample],
    size: int,
    plan: Plan | None = None,
    report: Report | None = None,
    reading: Reading = Reading(),
    workers: int = 0,
    notes: Notes | None = None,
    cache: Cache = Cache(),
    keeper: Keeper | None = None,
    encoding: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> None:
    """Train what a method learns, in place; its backbone stays as it is.

    The frozen tower runs once per image where its features are kept, else once per epoch. All that is random depends on
    the seed and on the number of the step or epoch alone, so that a training that was stopped goes on as if it had not
    been. The decision thresholds are set to the best F1 on the same samples at the end. What a program has told
    accelerate of this process before, such as a precision, is forgotten.

    Args:
        method: On the device to train on.
        samples: Labelled, with a mask for every anomalous one.
        size: Side of the network input in pixels.
        plan: How long, how fast, how precisely.
        report: Called after each step.
        reading: How files become pixels. What its fit fills counts as normal; with "keep" all images need one shape.
        workers: Processes that read ahead; 0 reads in this one.
        notes: Takes the rules that were applied in reading.
        cache: How features are kept.
        keeper: Keeps states of the training, and gives the last one back.
        encoding: Called after each image that is encoded to be kept.
        say: Told in words where the features are.

    Raises:
        ZsadError: If labels or masks are missing, a file cannot be read, the plan does not fit the method or the
            device, there is no room for features, images of several shapes are to be kept as they are, or the loss is
            no finite number.
    """
    plan = plan or Plan()
    check(samples)
    planned = courses(method, plan, len(samples))
    if not planned:
        raise nothing_to_learn(method.name, method.config)
    hardware = Hardware(method.backbone.logit_scale.device, plan.precision)
    images = Images(method, method.encode, size, reading, workers, notes, hardware.computing, cache.dtype)
    told = _Told(report, encoding, say, keeper)
    with torch.random.fork_rng(devices=[hardware.device] if hardware.device.type == "cuda" else []):
        _Training(method, samples, plan, planned, hardware, images, cache, told).run()


@dataclass(frozen=True)
class _Told:
    """Who is told what."""

    report: Report | None
    encoding: Progress | None
    say: Callable[[str], object] | None
    keeper: Keeper | None

    def step(self, step: Step) -> None:
        if self.report:
            self.report(step)
        if self.keeper:
            self.keeper.log(step)


@dataclass(frozen=True)
class _At:
    """How far a training is."""

    stage: int = 0  # stages that are done
    epoch: int = 0  # epochs of the next stage that are done
    step: int = 0  # steps of the next epoch that are done
    number: int = 0  # steps of all stages that are done
    sums: Mapping[str, float] = field(default_factory=dict)  # of the terms, over the images of the next epoch


@dataclass(frozen=True)
class _Running:
    """A stage under way."""

    course: Course
    source: Source
    optimizer: torch.optim.Optimizer
    clock: Clock


@dataclass(frozen=True)
class _Training:
    """A training under way."""

    method: Method
    samples: Sequence[Sample]
    plan: Plan
    courses: Sequence[Course]
    hardware: Hardware
    images: Images
    cache: Cache
    told: _Told

    def run(self) -> None:
        """From the last saved state to the thresholds."""
        state = self.told.keeper.load() if self.told.keeper else None
        self.hardware.wait()  # nobody goes on, and saves, before everybody has loaded
        at, source = _At(**state["at"]) if state else _At(), None
        if state:
            self.method.load_state_dict(state["method"])
        for course in self.courses[at.stage :]:
            source = None  # what an earlier stage kept goes before this one's is computed
            source = self._source(course)
            at, state = self._stage(course, source, at, state), None
        if self.told.keeper:
            self.hardware.wait()  # what the main process has written, all may read
            self.told.keeper.final(self.method)
        self.method.thresholds = best_thresholds(self.method.eval(), self._all(source))

    def _source(self, course: Course) -> Source:
        images = replace(self.images, encode=course.stage.encode)
        source = open_source(self.samples, images, course, self.cache, self.hardware, self.told.encoding)
        if self.told.say:
            self.told.say(f"features: {source.where}")
        return source

    def _all(self, source: Source | None) -> Iterator[Encoded]:
        """Every sample as a score needs it, which may be more than the last stage did."""
        if source is None or source.images.encode != self.method.encode:
            source = Source(self.samples, self.images)
        every = range(len(self.samples))
        return source.epoch(self.samples, [every[i : i + READ] for i in range(0, len(every), READ)])

    def _stage(self, course: Course, source: Source, at: _At, state: dict[str, Any] | None) -> _At:
        """Train one stage to its end."""
        parameters = course.stage.parameters(self.method)
        optimizer = self.hardware.prepared(make_optimizer(parameters, course.recipe, course.rate))
        if state and state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
        self.hardware.restore_scaler(state["scaler"] if state else {})
        running = _Running(course, source, optimizer, Clock())
        stage = at.stage
        self.method.train()
        try:
            while at.stage == stage:
                at = self._epoch(running, at)
        finally:
            self.method.eval().zero_grad()
        return at

    def _epoch(self, running: _Running, at: _At) -> _At:
        """Take the steps that are left of an epoch, whose order and augmentation are its own."""
        course, here = running.course, self.hardware
        seed = seed_of(self.plan.seed, at.stage, at.epoch)
        seen = drawn(self.samples, course, seed)
        order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed)).tolist()
        batches = [order[i : i + course.batch_size] for i in range(0, len(order), course.batch_size)][at.step :]
        shares = [share_of(batch, here.rank, here.processes, self.plan.accumulate) for batch in batches]
        data = running.source.epoch(seen, [part for share in shares for part, _ in share])
        for batch, share in zip(batches, shares, strict=True):
            at = self._step(running, at, ((next(data), weight) for _, weight in share), len(batch))
        if self.told.keeper:
            means = {name: total / len(order) for name, total in at.sums.items()}
            self.told.keeper.epoch_done(self.method, at.stage + 1, at.epoch + 1, len(self.courses), means)
        return self._next_epoch(running, at)

    def _next_epoch(self, running: _Running, at: _At) -> _At:
        """Where the next epoch begins, saved; it may be in the next stage."""
        if at.epoch + 1 < running.course.epochs:
            return self._saved(_At(at.stage, at.epoch + 1, number=at.number), running.optimizer)
        return self._saved(_At(at.stage + 1, number=at.number), None)

    def _step(self, running: _Running, at: _At, parts: Iterable[tuple[Encoded, float]], count: int) -> _At:
        """One step on a batch of `count` images."""
        course, optimizer = running.course, running.optimizer
        done = at.epoch * course.per_epoch + at.step
        set_rates(optimizer, course.recipe, at.epoch, course.epochs, course.rate, done)
        torch.manual_seed(seed_of(self.plan.seed, at.stage, at.epoch, at.step, self.hardware.rank))
        terms = take_step(self.method, course.stage, optimizer, parts, self.hardware, self.plan.clip)
        if not all(map(math.isfinite, terms.values())):
            raise _diverged(at.number + 1, terms)
        sums = {name: at.sums.get(name, 0.0) + count * value for name, value in terms.items()}
        after = _At(at.stage, at.epoch, at.step + 1, at.number + 1, sums)
        self.told.step(self._report(running, after, terms, count))
        keeper = self.told.keeper
        if keeper and keeper.due():
            self._saved(after, optimizer)
            if keeper.stopping:
                raise KeyboardInterrupt
        return after

    def _report(self, running: _Running, at: _At, terms: Mapping[str, float], count: int) -> Step:
        total = sum(course.steps for course in self.courses)
        seconds, mean = running.clock.lap()
        rate = max(group["lr"] for group in running.optimizer.param_groups)
        left = mean * (total - at.number)
        return Step(at.number, total, at.stage + 1, at.epoch + 1, terms, rate, count / seconds, left)

    def _saved(self, at: _At, optimizer: torch.optim.Optimizer | None) -> _At:
        """The same, after the keeper has it; without an optimizer where a stage begins."""
        if self.told.keeper:
            state = {
                "number": at.number,
                "at": asdict(at),
                "method": {name: value.detach().cpu() for name, value in self.method.state_dict().items()},
                "optimizer": optimizer.state_dict() if optimizer else None,
                "scaler": self.hardware.scaler_state(),
            }
            self.told.keeper.save(state)
        return at


def _diverged(step: int, terms: Mapping[str, float]) -> ZsadError:
    words = ", ".join(f"{name} {value}" for name, value in terms.items())
    return ZsadError(
        f"the loss is not a finite number in step {step} ({words}); train with a smaller --rate, with cut gradients "
        "(--set clip=1), or in --precision float32"
    )


class Clock:
    """Seconds between steps."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._laps = 0

    def lap(self) -> tuple[float, float]:
        """Seconds since the last call, and their mean over all calls."""
        now, self._laps = time.perf_counter(), self._laps + 1
        seconds, self._last = now - self._last, now
        return seconds, (now - self._began) / self._laps


def seed_of(*numbers: int) -> int:
    """A seed that depends on all of some numbers, such as a training's seed, stage, epoch and step.

    >>> seed_of(111, 0, 1) == seed_of(111, 0, 1), seed_of(111, 0, 1) == seed_of(111, 1, 0)
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7], "big")
