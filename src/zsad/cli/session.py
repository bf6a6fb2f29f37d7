"""A training of the command line: looked up and checked, run or only estimated, and what is told of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from zsad.cli.screen import bar, err, out, plain, tell_how, tell_notes, workers_for
from zsad.cli.watch import Watch, tell_plan
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from accelerate import PartialState

    from zsad.methods.base import Method
    from zsad.training.config import TrainConfig
    from zsad.training.run import Run
    from zsad.types import Sample


@dataclass(frozen=True)
class _Training:
    """Everything that a training needs, looked up, checked and built."""

    given: TrainConfig
    config: TrainConfig  # resolved
    samples: list[Sample]
    targets: dict[str, Path]
    method: Method
    size: int


def _prepared(config: TrainConfig) -> _Training:
    import torch

    from zsad.api import choose_device, input_size
    from zsad.backbones.weights import load as load_backbone
    from zsad.methods.base import nothing_to_learn
    from zsad.methods.table import build, method_class
    from zsad.training.config import resolved
    from zsad.training.images import check

    if method_class(config.method).learns_nothing(config.method_config):
        raise nothing_to_learn(config.method, config.method_config)
    samples, targets = _samples(config), _targets(config)
    check(samples)
    _refuse_seen(samples, targets, config)
    state = _processes(config.device)
    device = choose_device(config.device) if state.num_processes == 1 else str(state.device)
    towers = load_backbone(config.backbone, device=device)
    torch.manual_seed(config.seed)
    method = build(config.method, towers, **config.switches)
    size = config.size or input_size(method)
    return _Training(config, resolved(config, method, size), samples, targets, method, size)


def _samples(config: TrainConfig) -> list[Sample]:
    """What is trained on: the datasets of the protocol, or of several folders each image once."""
    from zsad.data.index import samples_of
    from zsad.training.protocols import protocol, training_samples

    if bool(config.data) == bool(config.protocol):
        raise ZsadError(
            "expected what to train on: either ROOT, a labelled folder, or --protocol NAME (zsad protocols); got "
            + (f"both, {', '.join(config.data)} and {config.protocol}" if config.data else "neither")
        )
    if config.protocol:
        return training_samples(protocol(config.protocol), Path(config.root), tell_how)
    found = [sample for root in config.data for sample in samples_of(root, dataset=config.dataset, say=tell_how)]
    once = {(sample.image.absolute(), sample.part): sample for sample in reversed(found)}
    if twice := len(found) - len(once):
        err.print(f"{twice} images are in several of these folders; each is taken once")
    return list(reversed(once.values()))


def _targets(config: TrainConfig) -> dict[str, Path]:
    """Folders of which no image may be trained on, by dataset or as they were given."""
    from zsad.training.protocols import protocol, target_folders

    named = {path: Path(path) for path in config.targets}
    return {**target_folders(protocol(config.protocol), Path(config.root)), **named} if config.protocol else named


def _refuse_seen(samples: list[Sample], targets: dict[str, Path], config: TrainConfig) -> None:
    """Refuse tested images, and say what was compared and what could not be."""
    from zsad.training.leaks import refuse_seen
    from zsad.training.protocols import protocol

    count = 0
    if targets:
        with bar("comparing with what will be tested", None) as advance:
            count = refuse_seen(samples, targets.values(), advance)
        tell_how(f"no training image is among the {count:,} of {', '.join(targets)}")
    wanted = protocol(config.protocol).targets if config.protocol else ()
    if lacking := [name for name in wanted if name not in targets]:
        tell_how(f"not in {config.root}, so not compared: {', '.join(lacking)}")


def _processes(device: str) -> PartialState:
    """What accelerate knows of the processes of this training, of which the main one speaks and writes."""
    from accelerate import PartialState

    from zsad.api import choose_device

    return PartialState(cpu=choose_device(device) == "cpu")


def train(config: TrainConfig, to: Path, overwrite: bool) -> None:
    """Train, or go on, and write the checkpoint."""
    began, state = time.perf_counter(), _processes(config.device)
    with _only_main_speaks(state.is_main_process):
        ready = _prepared(config)
        with _begun(ready, to, overwrite, state) as kept:
            if kept.finished and to.exists():
                out.print(f"{plain(to)} is finished; --overwrite trains again, --out names another", soft_wrap=True)
                return
            steps = _run(ready, kept, alone=state.num_processes == 1)
            if state.is_main_process:
                ready.method.save(to)
                kept.finish()
        said = f"{steps} steps, " if steps else ""
        took = timedelta(seconds=round(time.perf_counter() - began))
        out.print(f"{plain(to)}: {said}{took}; try it: {plain(_next(ready, to))}", soft_wrap=True)


def _run(ready: _Training, kept: Run, alone: bool) -> int:
    """Train, with what there is to see of it; the steps of the whole training."""
    from zsad.data.dataset import Notes
    from zsad.training.leaks import seen_digest
    from zsad.training.loop import train as run

    notes, config = Notes(), ready.config
    ready.method.seen = seen_digest(ready.samples)  # before the run: checkpoints of epochs tell it as well
    with Watch() as watch, _stoppable(kept, watch, alone):
        run(
            ready.method,
            ready.samples,
            ready.size,
            config.plan,
            watch.step,
            config.reading,
            workers_for(ready.method, config.workers),
            notes,
            config.kept,
            kept,
            watch.encoding,
            tell_how,
        )
    tell_notes(notes)
    return watch.steps


@contextmanager
def _stoppable(kept: Run, watch: Watch, alone: bool) -> Iterator[None]:
    """Ctrl-C ends the training after the step under way, which is saved; a second one, or one before any step, at once.

    Of several processes each would end after another step; they end at once.
    """

    def stop(*_: object) -> None:
        if kept.stopping or not watch.done:
            raise KeyboardInterrupt
        kept.stopping = True

    before = signal.signal(signal.SIGINT, stop) if alone else None
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"stopped after step {kept.steps}; the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _begun(ready: _Training, to: Path, overwrite: bool, state: PartialState) -> Run:
    """The folder of the run, beside its result; begun by the main process before the others look at it."""
    from zsad.cache import sample_keys
    from zsad.training.run import Run

    config, learnable = ready.config, sum(parameter.numel() for parameter in ready.method.parameters())
    folder = to.with_suffix(".run")
    if to.exists() and not overwrite and not (folder / "run.json").exists():
        raise ZsadError(f"{to} is there, and no run in {folder} made it; --overwrite replaces it, --out names another")
    err.print(
        f"training {config.method} on {plain(config.backbone)}: {len(ready.samples)} images, "
        f"{learnable:,} learnable parameters; run: {plain(folder)}",
        soft_wrap=True,
    )
    kept = Run.begin(
        folder,
        config.values(),
        ready.samples,
        sample_keys(ready.samples),
        overwrite=overwrite,
        save_every=config.save_every,
        keep=config.keep,
        final=config.final,
        device=ready.method.backbone.logit_scale.device,
        main=state.is_main_process,
        say=tell_how,
    )
    state.wait_for_everyone()
    return kept


def dry_run(config: TrainConfig, to: Path | None) -> None:
    """Say what would be trained, and what is there of it."""
    from zsad.cache import sample_keys
    from zsad.training.estimate import estimate
    from zsad.training.run import outlook

    ready = _prepared(config)
    with err.status("measuring one image and two steps"):
        found = estimate(ready.method, ready.samples, ready.size, config.plan, config.reading, config.kept)
    tell_plan(ready.given, ready.config, ready.samples, found)
    if to is not None:
        there = outlook(to.with_suffix(".run"), ready.config.values(), ready.samples, sample_keys(ready.samples))
        out.print(plain(there), soft_wrap=True)
    out.print("nothing was written")


def _next(ready: _Training, to: Path) -> str:
    """What to type to test the new weights."""
    from zsad.api import input_size
    from zsad.data.reading import Reading
    from zsad.options import shown

    folder = quote(str(next(iter(ready.targets.values())))) if ready.targets else "FOLDER"
    words = [f"zsad evaluate {folder} --weights {quote(str(to))} --backbone {quote(ready.config.backbone)}"]
    words += [] if ready.size == input_size(ready.method) else [f"--size {ready.size}"]
    usual = asdict(Reading())
    read = {key: value for key, value in asdict(ready.config.reading).items() if value != usual[key]}
    return " ".join([*words, *(f"--read {quote(f'{key}={shown(value)}')}" for key, value in read.items())])


@contextmanager
def _only_main_speaks(main: bool) -> Iterator[None]:
    """Every other process is silent, but for an error that ends it."""
    out.quiet = err.quiet = not main
    try:
        yield
    finally:
        out.quiet = err.quiet = False
