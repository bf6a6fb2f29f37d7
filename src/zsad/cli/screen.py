"""What every command needs: the two consoles, tables, progress, options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from zsad.errors import ZsadError, unknown

if TYPE_CHECKING:
    from zsad.data.dataset import Notes
    from zsad.data.reading import Reading
    from zsad.methods.base import Method

out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 250)  # wide where it is piped
err = Console(stderr=True, highlight=False, emoji=False)

MethodOfWeights = Annotated[
    str | None,
    typer.Option("--method", "-m", help="A name of `zsad methods`; default: the one that the weights belong to."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        help="A checkpoint of zsad, a name of `zsad weights list`, or an authors' .pth file; default: embedded.",
    ),
]
Switches = Annotated[list[str] | None, typer.Option("--set", help="A switch of the method, such as layers=6,12,18,24.")]
BackboneName = Annotated[
    str, typer.Option("--backbone", "-b", help="A name of `zsad weights list`, a file or a folder.")
]
Root = Annotated[Path, typer.Argument(help="A labelled folder, see `zsad data index`, or a manifest of one.")]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Read the folder as this one of `zsad data list`; default: recognised.")
]
ReadingSwitches = Annotated[
    list[str] | None, typer.Option("--read", help="A switch of reading, such as fit=pad; see docs/data.md.")
]
Names = Annotated[
    str, typer.Option(help="For prompts: class, as released code has it, or prompt, what a person would say.")
]
Workers = Annotated[
    int | None, typer.Option(help="Processes that decode ahead; 0: none; default: by the device.", min=0)
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
Size = Annotated[int | None, typer.Option(help="Side of the network input in pixels; default: as published.", min=8)]
BatchSize = Annotated[int, typer.Option(help="Images that go through the tower at once.", min=1)]


def plain(text: object) -> str:
    """Text as it stands: brackets are no markup, bytes of file names that are no text become question marks."""
    return escape(str(text).encode("utf-8", "replace").decode())


@contextmanager
def bar(text: str, total: int | None) -> Iterator[Any]:
    """A progress bar on the error stream; `progress.advance(task)` through the function that is yielded."""
    parts = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=err, transient=True) as progress:
        task = progress.add_task(text, total=total)

        def advance(step: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=step, description=f"{text}  {note}" if note else text)

        yield advance


def columns(first: str, *others: str, names: bool = False) -> Table:
    """A table without lines: what is too long is folded, but not the first column where it has names to be copied."""
    shown = Table(box=None)
    shown.add_column(first, no_wrap=names, overflow="fold")
    for heading in others:
        shown.add_column(heading, overflow="fold")
    return shown


def load(method: str | None, weights: str | None, backbone: str, device: str, switches: list[str] | None) -> Method:
    """A method ready to predict, with one line about the embedded model where that is what it is."""
    from zsad import api
    from zsad.methods.table import method_class, parse_switches

    with err.status(plain(f"loading {weights or method or api.DEFAULT_METHOD} on {backbone}")):
        kind = method_class(api.method_name(method, weights, backbone))
        found = api.load(method, weights, backbone, device, **parse_switches(kind, switches or []))
    if backbone == api.DEFAULT_BACKBONE:
        trained = f" --weights {api.suggested_weights(found.name)}" if found.stages else ""
        err.print(
            f"[dim]{api.DEFAULT_BACKBONE} is the small embedded backbone, for trying things out. For real work: "
            f"--backbone {found.reference.backbone}{trained}[/]"
        )
    return found


def must_be_new_checkpoint(to: Path) -> None:
    """Complain about a name that no checkpoint could be read back from."""
    if to.suffix != ".safetensors" or to.is_dir():
        raise ZsadError(f"--out {to} must be a file that ends in .safetensors")


def tell(errors: list[str]) -> None:
    """Say which files were left out, and end with exit code 1 if any was."""
    for error in errors:
        err.print(f"[red]left out:[/] {plain(error)}")
    if errors:
        raise typer.Exit(1)


def must_be_names(names: str) -> None:
    """Complain about a kind of name that does not exist."""
    if names not in ("class", "prompt"):
        raise unknown("kind of name", names, ("class", "prompt"), "--names")


def reading_of(switches: list[str] | None) -> Reading:
    """The switches of reading from key=value words."""
    from dataclasses import asdict

    from zsad.data.reading import Reading
    from zsad.options import parse

    return Reading(**parse(switches or [], asdict(Reading()), "--read", "switch of reading", "docs/data.md"))


def workers_for(method: Method, chosen: int | None) -> int:
    """How many processes read: as chosen, or what suits the device of a method."""
    from zsad.data.workers import default_workers

    return default_workers(str(method.backbone.logit_scale.device)) if chosen is None else chosen


def tell_notes(notes: Notes) -> None:
    """Say once per run which rules were applied in reading files that are not ordinary photographs."""
    for line in notes.lines():
        err.print(f"[dim]{plain(line)}[/]", soft_wrap=True)


def tell_how(understood: str) -> None:
    """Say how a folder was understood, beside the results."""
    err.print(f"[dim]{plain(understood)}[/]", soft_wrap=True)
