"""zsad weights: backbones and published checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zsad.cli.screen import BackboneName, MethodOfWeights, Switches, columns, must_be_new_checkpoint, out, plain
from zsad.errors import ZsadError

app = typer.Typer(help="Backbones and published checkpoints.", no_args_is_help=True)


@app.command("list", epilog="Example: zsad weights list")
def weights_list() -> None:
    """Backbones and published checkpoints that can be named on the command line."""
    from urllib.parse import urlsplit

    from zsad.backbones.registry import BACKBONES
    from zsad.methods.released import RELEASED

    shown = columns("backbone", "text", "licence", "sha256", "source", names=True)
    for row in BACKBONES.values():
        source = row.hub.repository if row.hub else urlsplit(row.url.url).netloc if row.url else "in the package"
        known = (row.hub and row.hub.sha256) or (row.url and row.url.sha256) or ""
        shown.add_row(row.name, "yes" if row.text else "no", row.licence, known[:12], source)
    out.print(shown)
    out.print()
    shown = columns("checkpoint", "MB", "hash", "backbone", "trained on", "licence", "reproduces", names=True)
    for kept in RELEASED.values():
        size = f"{kept.file.size / 1e6:.1f}" if kept.file.size else "?"
        known = f"sha256 {kept.file.sha256[:12]}" if kept.file.sha256 else f"git {(kept.blob or '')[:12]}"
        shown.add_row(kept.name, size, known, kept.backbone, kept.trained_on, kept.licence, kept.reproduces)
    out.print(shown)
    out.print()
    for kept in RELEASED.values():
        out.print(f"{kept.name}: {kept.file.url}", soft_wrap=True)


@app.command("convert", epilog="Example: zsad weights convert epoch_5.pth --method crane --out mvtec.safetensors")
def weights_convert(
    file: Annotated[str, typer.Argument(help="A checkpoint in its authors' layout, or a name of `zsad weights list`.")],
    to: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write (.safetensors).")],
    method: MethodOfWeights = None,
    backbone: BackboneName = "clip-vit-l-14-336",
    switches: Switches = None,
) -> None:
    """Turn a released checkpoint into one of zsad; read safely, every tensor accounted for.

    The backbone is read as well: the tensors must fit it, and its hash is noted in the checkpoint.
    """
    from zsad.api import checkpoint_file
    from zsad.backbones.weights import load as load_backbone
    from zsad.methods.conversion import belongs_to, convert, left_out
    from zsad.methods.table import method_class, parse_switches

    must_be_new_checkpoint(to)
    path = checkpoint_file(file, backbone, method)
    name = belongs_to(path, method)
    chosen = parse_switches(method_class(name), switches or [])
    unused = left_out(path, name)  # also tells what is wrong with the file before the backbone is read
    try:
        towers = load_backbone(backbone)
    except ZsadError as error:
        raise ZsadError(
            f"{file} needs its backbone to be converted: shapes are checked against it, its hash is noted.\n{error}"
        ) from error
    made = convert(path, name, towers, **chosen)
    made.save(to)
    taken = sum(parameter.numel() for parameter in made.parameters())
    out.print(f"{name}: {len(made.state_dict())} tensors taken, {taken:,} numbers")
    out.print(f"left out, as {name} never uses them: {plain(', '.join(unused)) or 'nothing'}", soft_wrap=True)
    out.print(f"{plain(to)}: use it with --weights {plain(to)} --backbone {plain(backbone)}")
