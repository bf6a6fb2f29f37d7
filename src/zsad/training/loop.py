"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zsad.data.dataset import Batch, Notes, batches
from zsad.data.inputs import mask_known
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method, Stage, Thresholds, nothing_to_learn
from zsad.methods.features import Features
from zsad.methods.recipe import Recipe, clip_gradients, make_optimizer, set_rates
from zsad.metrics import ImageStream, PixelStream
from zsad.types import Sample

KEPT_BYTES = 4 * 2**30  # features of this size are kept in memory; larger ones are computed again in every epoch
ENCODED = 16  # images that go through the frozen tower at once

Report = Callable[[int, int, dict[str, float]], None]  # step, number of steps, the terms of the loss


@dataclass(frozen=True)
class Plan:
    """How to train, in every stage; None takes what the method's numbers were published with."""

    epochs: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    slow: float | None = None  # share of the rate for parameters that the recipe gives less
    seed: int = 111  # that of the released code

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "rate", "slow"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ZsadError(f"training needs {name} above 0, got {value}")


@dataclass(frozen=True)
class Encoded:
    """Frozen features of some images, with their truth; all on the CPU."""

    features: Features
    masks: Tensor  # [N, H, W] bool
    labels: Tensor  # [N] int64
    class_names: list[str]


@dataclass(frozen=True)
class _Images:
    """The images of a training, and how they are read."""

    samples: Sequence[Sample]
    size: int
    reading: Reading
    workers: int
    notes: Notes | None


def train(
    method: Method,
    samples: Sequence[Sample],
    size: int,
    plan: Plan | None = None,
    report: Report | None = None,
    reading: Reading = Reading(),
    workers: int = 0,
    notes: Notes | None = None,
) -> None:
    """Train what a method learns, in place; its backbone stays as it is.

    The frozen tower runs once per image where its features fit in memory (see KEPT_BYTES), else once per epoch. The
    decision thresholds are set to the best F1 on the same samples at the end.

    Args:
        method: On the device to train on.
        samples: Labelled, with a mask for every anomalous one.
        size: Side of the network input in pixels.
        plan: How long and how fast.
        report: Called after each step.
        reading: How files become pixels. What its fit fills counts as normal; with "keep" all images need one shape.
        workers: Processes that read ahead; 0 reads in this one.
        notes: Takes the rules that were applied in reading.

    Raises:
        ZsadError: If labels or masks are missing, a file cannot be read, the plan does not fit the method, or images
            of several shapes are to be kept as they are.
    """
    plan = plan or Plan()
    check(samples)
    images = _Images(samples, size, reading, workers, notes)
    torch.manual_seed(plan.seed)
    courses = [_course(stage, plan, method, len(samples)) for stage in method.stages]
    if not courses:
        raise nothing_to_learn(method.name, method.config)
    kept: Encoded | None = None
    for number, course in enumerate(courses):
        before, total = sum(course.steps for course in courses[:number]), sum(course.steps for course in courses)
        kept = None  # what an earlier stage kept goes before this one's is computed
        if fits(course.stage, method, len(samples), size):
            kept = encode_all(method, samples, size, course.stage, ENCODED, reading, workers, notes)
        for done, terms in enumerate(_trained(method, course, images, kept), start=before + 1):
            if report:
                report(done, total, terms)
    chunks = (range(len(samples))[i : i + ENCODED] for i in range(0, len(samples), ENCODED))
    same = courses[-1].stage.encode == method.encode  # a stage may need less of an image than a score does
    parts = (take(kept, chunk) for chunk in chunks) if kept and same else _encoded(method, images, ENCODED)
    method.thresholds = best_thresholds(method, parts)


@dataclass(frozen=True)
class _Course:
    """A stage of a method with what the plan says of it."""

    stage: Stage
    recipe: Recipe
    epochs: int
    batch_size: int
    rate: float
    steps: int


def _course(stage: Stage, plan: Plan, method: Method, count: int) -> _Course:
    recipe = stage.recipe
    if plan.slow is not None:
        if not recipe.slow:
            raise ZsadError(f"{method.name} trains everything at one rate; leave --slow out, or change --rate")
        recipe = recipe.with_slow(plan.slow)
    epochs, batch_size = plan.epochs or recipe.epochs, plan.batch_size or recipe.batch_size
    return _Course(stage, recipe, epochs, batch_size, plan.rate or recipe.rate, epochs * -(-count // batch_size))


def _trained(method: Method, course: _Course, images: _Images, kept: Encoded | None) -> Iterator[dict[str, float]]:
    """Train one stage; the terms of the loss before each step."""
    parameters = course.stage.parameters(method)
    optimizer = make_optimizer(parameters, course.recipe, course.rate)
    method.train()
    done = 0
    for epoch in range(course.epochs):
        for data in _epoch(method, course, images, kept):
            set_rates(optimizer, course.recipe, epoch, course.epochs, course.rate, done)
            yield step(method, data, optimizer, course.stage)
            done += 1
    method.eval()


def _epoch(method: Method, course: _Course, images: _Images, kept: Encoded | None) -> Iterator[Encoded]:
    """All images once, in an order of its own; from what was kept, or else read and encoded again."""
    order = torch.randperm(len(images.samples)).tolist()
    if kept is None:
        mixed = replace(images, samples=[images.samples[i] for i in order])
        return _encoded(method, mixed, course.batch_size, course.stage)
    return (take(kept, order[i : i + course.batch_size]) for i in range(0, len(order), course.batch_size))


def step(method: Method, data: Encoded, optimizer: torch.optim.Optimizer, stage: Stage) -> dict[str, float]:
    """One step of the optimizer on one batch; the terms of the loss before it."""
    device = next(method.parameters()).device
    terms = stage.loss(data.features.to(device), data.masks.to(device), data.labels.to(device), data.class_names)
    method.zero_grad()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    clip_gradients(stage.parameters(method), stage.recipe)
    optimizer.step()
    return {name: float(term.detach()) for name, term in terms.items()}


def check(samples: Sequence[Sample]) -> None:
    """Raise a ZsadError unless every sample has a label and every anomalous one a mask."""
    if not samples:
        raise ZsadError("nothing to train on: the folder has no labelled images")
    lacking = [sample for sample in samples if sample.label is None or not mask_known(sample)]
    if lacking:
        raise ZsadError(
            f"training needs a label for every image and a mask for every anomalous one; {len(lacking)} of "
            f"{len(samples)} lack it, first {lacking[0].image}; zsad data check names what is missing"
        )
    if len({sample.label for sample in samples}) < 2:
        only = "anomalous" if samples[0].label else "normal"
        raise ZsadError(f"training needs normal and anomalous images; all {len(samples)} are {only}. Add some others")


def fits(stage: Stage, method: Method, count: int, size: int) -> bool:
    """Whether the features of `count` images are small enough to be kept."""
    one = stage.encode(torch.zeros(1, 3, size, size, device=method.backbone.logit_scale.device))
    return count * one.nbytes <= KEPT_BYTES


def encode_all(
    method: Method,
    samples: Sequence[Sample],
    size: int,
    stage: Stage | None = None,
    batch_size: int = ENCODED,
    reading: Reading = Reading(),
    workers: int = 0,
    notes: Notes | None = None,
) -> Encoded:
    """The frozen features of all samples; those of a stage where one is given. For the rest see :func:`train`.

    Raises:
        ZsadError: If a file cannot be read: a training set with holes would not be the one that was named.
    """
    parts = list(_encoded(method, _Images(samples, size, reading, workers, notes), batch_size, stage))
    features = Features.joined([part.features for part in parts])
    names = [name for part in parts for name in part.class_names]
    return Encoded(features, torch.cat([p.masks for p in parts]), torch.cat([p.labels for p in parts]), names)


def _encoded(method: Method, images: _Images, batch_size: int, stage: Stage | None = None) -> Iterator[Encoded]:
    """Frozen features, `batch_size` images at a time."""
    encode, device = stage.encode if stage else method.encode, method.backbone.logit_scale.device
    shape: torch.Size | None = None
    for batch in _read(method, images, batch_size):
        shape = shape or batch.images.shape[2:]
        if batch.images.shape[2:] != shape:
            raise _other_shape(batch, shape)
        assert batch.masks is not None
        parts = torch.split(batch.images, ENCODED)
        features = Features.joined([encode(part.to(device)).to(torch.device("cpu")) for part in parts])
        yield Encoded(features, batch.masks, batch.labels, [sample.class_name for sample in batch.samples])


def _read(method: Method, images: _Images, batch_size: int) -> Iterator[Batch]:
    """Batches without an unreadable file, with masks that lie where the images lie."""
    towers = method.backbone
    for batch in batches(
        images.samples,
        images.size,
        towers.mean,
        towers.std,
        batch_size,
        images.workers,
        reading=images.reading,
        multiple=towers.visual.size.patch,
        placed_masks=True,
    ):
        if batch.errors:
            raise ZsadError(f"the training set has an unreadable file; mend or remove it:\n  {batch.errors[0][1]}")
        if images.notes is not None:
            images.notes.add(batch)
        yield batch


def _other_shape(batch: Batch, shape: torch.Size) -> ZsadError:
    height, width = batch.images.shape[2:]
    return ZsadError(
        f"{batch.samples[0].image}: with fit keep it makes an input of {height} x {width} pixels, images before it "
        f"made {shape[0]} x {shape[1]}; training needs one shape, which fit pad or stretch gives"
    )


def take(data: Encoded, chosen: Sequence[int]) -> Encoded:
    """Some of the images."""
    index = list(chosen)
    return Encoded(data.features[index], data.masks[index], data.labels[index], [data.class_names[i] for i in index])


@torch.inference_mode()
def best_thresholds(method: Method, parts: Iterable[Encoded]) -> Thresholds:
    """Thresholds of the best image F1 and the best pixel F1.

    Args:
        method: Trained.
        parts: Features with their truth, a batch at a time; their maps are not kept.
    """
    images, pixels = ImageStream(), PixelStream()
    device = method.backbone.logit_scale.device
    for part in parts:
        made = method.score(part.features.to(device), part.class_names)
        images.add(made.score, part.labels == 1)
        pixels.add(made.map, part.masks)
    low, high = method.map_range
    return Thresholds(images.f1_max()[1], (pixels.f1_max()[1] - low) / (high - low))
