"""zsad data: what datasets there are, what a folder holds, the synthetic set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zsad.cli.screen import Root, bar, columns, out, plain

app = typer.Typer(help="Datasets: make the synthetic one, look at what a folder holds.", no_args_is_help=True)


@app.command("synth", epilog="Example: zsad data synth data/unseen --half unseen")
def synth(
    root: Annotated[Path, typer.Argument(help="Folder to make.")],
    half: Annotated[
        str, typer.Option(help="unseen, or auxiliary (what the embedded model was trained on).")
    ] = "unseen",
    normal: Annotated[int, typer.Option(help="Normal test images per category.", min=0)] = 10,
    anomalous: Annotated[int, typer.Option(help="Anomalous test images per category.", min=0)] = 20,
    size: Annotated[int, typer.Option(help="Side in pixels.", min=32)] = 224,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pixels.", min=0)] = 0,
) -> None:
    """Draw the synthetic dataset, with exact masks, in MVTec AD's layout."""
    from zsad.data import synthetic
    from zsad.errors import unknown

    if half not in ("unseen", "auxiliary"):
        raise unknown("half", half, ("unseen", "auxiliary"), "zsad data synth --help")
    with bar(f"drawing {plain(root)}", synthetic.total(half, normal, anomalous, 0)) as advance:  # type: ignore[arg-type]
        synthetic.write(
            root,
            half,  # type: ignore[arg-type]
            normal=normal,
            anomalous=anomalous,
            size=size,
            seed=seed,
            workers=2,
            progress=advance,
        )
    out.print(f"{plain(root)}: try it: zsad evaluate {plain(root)}")


@app.command("show", epilog="Example: zsad data show data/unseen")
def show(root: Root) -> None:
    """What a folder holds, as zsad reads it: classes, normal and anomalous images, masks."""
    from zsad.data.layouts import folder

    samples = folder(root)
    shown = columns("class", "normal", "anomalous", "unlabelled", "masks")
    for name in sorted({s.class_name for s in samples}):
        own = [s for s in samples if s.class_name == name]
        counts = [sum(s.label == label for s in own) for label in (0, 1, None)]
        shown.add_row(plain(name), *map(str, counts), str(sum(s.mask is not None for s in own)))
    out.print(shown)
