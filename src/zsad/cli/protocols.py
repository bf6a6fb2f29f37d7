"""zsad protocols: what the papers train on and test on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zsad.cli.screen import columns, out, plain

if TYPE_CHECKING:
    from zsad.training.protocols import Protocol

app = typer.Typer()


@app.command(epilog="Example: zsad protocols mvtec")
def protocols(
    name: Annotated[str | None, typer.Argument(help="Show everything about this one, and what to type.")] = None,
) -> None:
    """What the papers train on and test on, by name."""
    from zsad.training.protocols import PROTOCOLS, protocol

    if name:
        _describe(protocol(name))
        return
    shown = columns("name", "trained on", "tested on", "published with", names=True)
    for row in PROTOCOLS.values():
        shown.add_row(row.name, plain(row.trained_on), ", ".join(row.targets), ", ".join(row.methods))
    out.print(shown)
    out.print(
        "Training takes the test splits, where anomalous images with masks are; no image of a tested set may be among "
        "them.\nzsad protocols NAME says where it is from and what to type.",
        soft_wrap=True,
    )


def _describe(row: Protocol) -> None:
    from zsad.data.catalog import find
    from zsad.methods.table import method_class

    out.print(f"[bold]{row.name}[/]: trained on {plain(row.trained_on)}", soft_wrap=True)
    titles = [f"{find(target).title} ({target})" for target in row.targets]
    out.print(f"tested on: {plain(', '.join(titles))}", soft_wrap=True)
    out.print(f"published with: {', '.join(row.methods)}", soft_wrap=True)
    for method, values in row.settings.items():
        said = ", ".join(f"{key} {value}" for key, value in values.items())
        out.print(f"{method} on this training set: {said}", soft_wrap=True)
    out.print(f"source: {plain(row.source)}", soft_wrap=True)
    for note in row.notes:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    places = ", ".join(f"DATA/{images.dataset}" for images in row.trains)
    out.print(
        f"with {places}, and what is to be tested beside: "
        f"zsad train --protocol {row.name} --root DATA --method {row.methods[0]} "
        f"--backbone {method_class(row.methods[0]).reference.backbone} --out own.safetensors",
        soft_wrap=True,
    )
