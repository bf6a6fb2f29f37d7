"""zsad train: from options and a file to a training, what is told while it runs, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsad.cli.screen import (
    bar,
    err,
    must_be_new_checkpoint,
    out,
    plain,
    tell_how,
    tell_notes,
    workers_for,
)
from zsad.cli.watch import Watch, tell_plan
from zsad.errors import ZsadError

if TYPE_CHECKING:
    from accelerate import PartialState

    from zsad.methods.base import Method
    from zsad.training.config import TrainConfig
    from zsad.training.run import Run
    from zsad.types import Sample

app = typer.Typer()

_what = partial(typer.Option, rich_help_panel="What is trained, and on what")
_how = partial(typer.Option, rich_help_panel="How it is trained")
_where = partial(typer.Option, rich_help_panel="Where it runs, and what it keeps")


@app.command(epilog="Example: zsad train data/auxiliary --out my.safetensors")
def train(
    roots: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ROOT", help="Labelled folders, see `zsad data index`, or manifests; taken together."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", "-o", help="The checkpoint (.safetensors); its run lies in NAME.run.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML with keys of docs/training.md; options go before it.")
    ] = None,
    switches: Annotated[
        list[str] | None,
        typer.Option("--set", help="A switch of the method, such as layers=6,12, or any key of a --config file."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, how large and how long it is; write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again where a run is there already.")] = False,
    method: Annotated[
        str | None, _what("--method", "-m", help="A name of `zsad methods`; default: anomalyclip.")
    ] = None,
    backbone: Annotated[
        str | None, _what("--backbone", "-b", help="A name of `zsad weights list`, a file or a folder; default: tiny.")
    ] = None,
    protocol: Annotated[str | None, _what(help="A name of `zsad protocols`, in place of ROOT.")] = None,
    root: Annotated[Path | None, _what(help="Where the datasets of the protocol lie; default: data.")] = None,
    targets: Annotated[
        list[Path] | None, _what("--targets", help="A folder that will be tested: no image of it may be trained on.")
    ] = None,
    dataset: Annotated[
        str | None, _what(help="Read ROOT as this one of `zsad data list`; default: recognised.")
    ] = None,
    reading: Annotated[
        list[str] | None, _what("--read", help="A switch of reading, such as fit=pad; see docs/data.md.")
    ] = None,
    size: Annotated[
        int | None, _what(help="Side of the network input in pixels; default: as published.", min=8)
    ] = None,
    epochs: Annotated[int | None, _how(help="Default: as published.", min=1)] = None,
    batch_size: Annotated[
        int | None, _how(help="Images per step, of all processes; default: as published.", min=1)
    ] = None,
    rate: Annotated[float | None, _how(help="Learning rate; default: as published.")] = None,
    slow: Annotated[
        float | None, _how(help="Share of the rate for parameters that the method gives less; 1 = the same.")
    ] = None,
    mosaic: Annotated[
        float | None, _how(help="Chance that an image becomes a mosaic of four; default: as published.")
    ] = None,
    seed: Annotated[int | None, _how(help="The same seed gives the same weights on one machine; default: 111.")] = None,
    device: Annotated[str | None, _where(help="cpu, cuda, cuda:1, mps, or auto.")] = None,
    precision: Annotated[str | None, _where(help="float32, bf16, or on a GPU fp16.")] = None,
    cache: Annotated[
        str | None, _where(help="Frozen features: memory, disk, none (computed in every epoch), or auto.")
    ] = None,
    workers: Annotated[
        int | None, _where(help="Processes that decode ahead; 0: none; default: by the device.", min=0)
    ] = None,
) -> None:
    """Train a method on auxiliary data: labelled folders, or those of a paper's protocol.

    The test split is used, as in the papers. A training that was stopped goes on with the same command. Of several
    values the last counts: default, protocol, --config, option, --set.
    """
    from zsad.training.config import read_config

    said: dict[str, Any] = {
        "method": method,
        "backbone": backbone,
        "data": _texts(roots),
        "dataset": dataset,
        "protocol": protocol,
    }
    said |= {"root": root and str(root), "targets": _texts(targets), "size": size, "reading": _reading(reading)}
    said |= {"epochs": epochs, "batch_size": batch_size, "rate": rate, "slow": slow, "mosaic": mosaic, "seed": seed}
    said |= {"device": device, "precision": precision, "cache": cache, "workers": workers}
    chosen = read_config(config, said, switches or [])
    if to is not None:
        must_be_new_checkpoint(to)
    if dry_run:
        _dry_run(chosen)
    elif to is None:
        raise typer.BadParameter("missing; expected a file to write, such as own.safetensors", param_hint="--out")
    else:
        _train(chosen, to, overwrite)


def _texts(paths: list[Path] | None) -> list[str] | None:
    return [str(path) for path in paths] if paths else None


def _reading(words: list[str] | None) -> dict[str, Any] | None:
    """The switches of reading that were given, from key=value words."""
    from dataclasses import asdict

    from zsad.data.reading import Reading
    from zsad.options import parse

    return parse(words, asdict(Reading()), "--read", "switch of reading", "docs/data.md") if words else None


@dataclass(frozen=True)
class _Training:
    """Everything that a training needs, looked up, checked and built."""

    given: TrainConfig
    config: TrainConfig  # resolved
    samples: list[Sample]
    targets: list[Path]
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
    _refuse_seen(samples, targets)
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


def _targets(config: TrainConfig) -> list[Path]:
    """Folders of which no image may be trained on."""
    from zsad.training.protocols import protocol, target_folders

    named = [Path(path) for path in config.targets]
    if not config.protocol:
        return named
    return [*target_folders(protocol(config.protocol), Path(config.root)).values(), *named]


def _refuse_seen(samples: list[Sample], targets: list[Path]) -> None:
    from zsad.training.leaks import refuse_seen

    if targets:
        with bar("comparing with what will be tested", None) as advance:
            refuse_seen(samples, targets, advance)


def _processes(device: str) -> PartialState:
    """What accelerate knows of the processes of this training, of which the main one speaks and writes."""
    from accelerate import PartialState

    from zsad.api import choose_device

    return PartialState(cpu=choose_device(device) == "cpu")


def _train(config: TrainConfig, to: Path, overwrite: bool) -> None:
    from zsad.data.dataset import Notes
    from zsad.training.leaks import seen_digest
    from zsad.training.loop import train as run

    began, notes, state = time.perf_counter(), Notes(), _processes(config.device)
    with _only_main_speaks(state.is_main_process):
        ready = _prepared(config)
        with _begun(ready, to, overwrite, state) as kept:
            if kept.finished and to.exists():
                out.print(f"{plain(to)} is finished; --overwrite trains again, --out names another", soft_wrap=True)
                return
            ready.method.seen = seen_digest(ready.samples)  # before the run: checkpoints of epochs tell it as well
            with Watch() as watch:
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
            if state.is_main_process:
                ready.method.save(to)
                kept.finish()
        tell_notes(notes)
        steps = f"{watch.steps} steps, " if watch.steps else ""
        took = timedelta(seconds=round(time.perf_counter() - began))
        out.print(f"{plain(to)}: {steps}{took}; try it: {plain(_next(ready, to))}", soft_wrap=True)


def _begun(ready: _Training, to: Path, overwrite: bool, state: PartialState) -> Run:
    """The folder of the run, beside its result; begun by the main process before the others look at it."""
    from zsad.cache import sample_keys
    from zsad.training.run import Run

    config, learnable = ready.config, sum(parameter.numel() for parameter in ready.method.parameters())
    folder = to.with_suffix(".run")
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


def _dry_run(config: TrainConfig) -> None:
    from zsad.training.estimate import estimate

    ready = _prepared(config)
    with err.status("measuring one image and two steps"):
        found = estimate(ready.method, ready.samples, ready.size, config.plan, config.reading, config.kept)
    tell_plan(ready.given, ready.config, ready.samples, found)


def _next(ready: _Training, to: Path) -> str:
    """What to type to test the new weights."""
    from zsad.api import input_size

    folder = ready.targets[0] if ready.targets else "FOLDER"
    size = "" if ready.size == input_size(ready.method) else f" --size {ready.size}"
    return f"zsad evaluate {folder} --weights {to} --backbone {ready.config.backbone}{size}"


@contextmanager
def _only_main_speaks(main: bool) -> Iterator[None]:
    """Every other process is silent, but for an error that ends it."""
    out.quiet = err.quiet = not main
    try:
        yield
    finally:
        out.quiet = err.quiet = False
