"""Words on the command line to one call of the library; the only part that prints. Heavy imports are local."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zsad import __version__
from zsad.cli import cache, data, protocols, run, train, weights
from zsad.cli.screen import err, out, plain
from zsad.errors import ZsadError

app = typer.Typer(
    help="Zero-shot anomaly detection: find defects and lesions in images of objects nobody trained on.",
    epilog="Start with: zsad demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run.app)
app.add_typer(train.app)
app.add_typer(protocols.app)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Entry point: an error of zsad ends with its message and exit code 1, wrong usage with 2."""
    try:
        app()
    except ZsadError as error:
        err.print(f"[bold red]zsad:[/] {plain(error)}", soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False) -> None:
    """Zero-shot anomaly detection: find defects and lesions in images of objects nobody trained on."""
    if show:
        out.print(f"zsad {__version__}")
        raise typer.Exit
