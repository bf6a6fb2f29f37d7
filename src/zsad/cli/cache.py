"""zsad cache: frozen features on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zsad.cli.screen import columns, out, plain
from zsad.errors import ZsadError

app = typer.Typer(help="Frozen features on disk, which trainings share.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option(help="Of the cache; default: features in $ZSAD_HOME, or in ~/.cache/zsad.")
]


@app.command("list", epilog="Example: zsad cache list")
def cache_list(folder: Folder = None) -> None:
    """What features are kept, how they were made, and how much room they take."""
    from zsad.cache import LIMIT, FeatureCache

    kept = FeatureCache(folder)
    shown = columns("name", "made by", "backbone", "input", "dtype", "images", "GB", "last used", names=True)
    for info in kept.spaces():
        used = info.last_used.astimezone().strftime("%Y-%m-%d %H:%M")
        made = (_made_by(info.about), _backbones(info.about), *(info.about.get(key, "?") for key in ("size", "dtype")))
        shown.add_row(info.name, *(plain(value) for value in made), f"{info.entries:,}", _gigabytes(info.bytes), used)
    if shown.row_count:
        out.print(shown)
    out.print(
        f"{plain(kept.folder)}: {_gigabytes(kept.used())} GB, room for {_gigabytes(kept.room())}; a training fills up "
        f"to {_gigabytes(LIMIT)} GB unless told otherwise",
        soft_wrap=True,
    )


@app.command("clear", epilog="Example: zsad cache clear 3f9a")
def cache_clear(
    names: Annotated[list[str] | None, typer.Argument(help="As in `zsad cache list`, or their beginnings.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all features.")] = False,
    folder: Folder = None,
) -> None:
    """Remove kept features; they are computed again when they are needed.

    A training that reads them goes on, and the disk has its room back when it ends.
    """
    from zsad.cache import FeatureCache

    if bool(names) == everything:
        raise ZsadError("zsad cache clear takes names, which `zsad cache list` shows, or --all")
    given = FeatureCache(folder).clear(names or ())
    out.print(f"{_gigabytes(given)} GB given back")


def _made_by(about: Mapping[str, Any]) -> str:
    """The function that encodes, and what it was told."""
    told = dict(about.get("encoding", {}))
    function = str(told.pop("function", "?")).removeprefix("zsad.methods.")
    return f"{function}({', '.join(_words(told))})"


def _words(told: Mapping[str, Any]) -> list[str]:
    """key=value for every value, of whatever they are part of."""
    words = []
    for key, value in told.items():
        if isinstance(value, Mapping):
            words += _words(value)
        else:
            listed = "+".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            words.append(f"{key.rpartition('.')[2]}={listed}")
    return words


def _backbones(about: Mapping[str, Any]) -> str:
    return " + ".join(str(towers["name"] or towers["sha256"][:12]) for towers in about.get("backbones", ())) or "?"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.3f}" if count < 1e9 else f"{count / 1e9:,.1f}"
