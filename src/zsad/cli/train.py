"""zsad train: from options and a file to what is trained; :mod:`zsad.cli.session` trains it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from zsad.cli import session
from zsad.cli.screen import must_be_new_checkpoint

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
        Path | None, typer.Option("--config", "-c", help="YAML with keys of docs/training.md; options overrule it.")
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
        session.dry_run(chosen, to)
    elif to is None:
        raise typer.BadParameter("missing; expected a file to write, such as own.safetensors", param_hint="--out")
    else:
        session.train(chosen, to, overwrite)


def _texts(paths: list[Path] | None) -> list[str] | None:
    return [str(path) for path in paths] if paths else None


def _reading(words: list[str] | None) -> dict[str, Any] | None:
    """The switches of reading that were given, from key=value words."""
    from dataclasses import asdict

    from zsad.data.reading import Reading
    from zsad.options import parse

    return parse(words, asdict(Reading()), "--read", "switch of reading", "docs/data.md") if words else None
