"""What a method learned, read back from a file: every tensor or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.registry import BACKBONES
from zsad.errors import ZsadError
from zsad.methods.base import Method, Thresholds
from zsad.methods.table import build


def read_note(path: Path) -> dict[str, str]:
    """The note that :meth:`Method.save` wrote into a checkpoint.

    Raises:
        ZsadError: If the file is missing or not a checkpoint of zsad.
    """
    if not path.is_file():
        raise ZsadError(f"no checkpoint {path}; `zsad weights list` shows the published ones, `zsad train` makes one")
    try:
        with safe_open(path, "pt") as file:
            note = file.metadata() or {}
    except SafetensorError as error:
        raise ZsadError(f"{path} is not a safetensors file ({error}); convert it: zsad weights convert") from error
    if "method" not in note or "config" not in note:
        raise ZsadError(f"{path} was not written by zsad: it does not say which method it belongs to")
    return note


def must_fit(path: Path, backbone: str) -> None:
    """Complain about a checkpoint of another named backbone, before that one is loaded.

    Raises:
        ZsadError: Naming the right one.
    """
    own = read_note(path).get("backbone", "").partition(" + ")[0]
    if own != backbone and {own, backbone} <= BACKBONES.keys():
        raise ZsadError(f"{path} was trained on {own}, not on {backbone}; say --backbone {own}")


def load(path: str | Path, backbone: CLIP, **switches: Any) -> Method:
    """A trained method from a checkpoint of zsad.

    Args:
        path: The file.
        backbone: The towers that it was trained on.
        switches: Fields of the Config to be other than in the file, such as sigma; what was learned must still fit.

    Raises:
        ZsadError: If the file is not a checkpoint, or belongs to another backbone.
    """
    path = Path(path)
    note = read_note(path)
    method = build(note["method"], backbone, **{**json.loads(note["config"]), **switches})
    names, digest = method.trained_on.values()
    if note.get("backbone_sha256") != digest:
        raise ZsadError(
            f"{path} was trained on {note.get('backbone') or 'another backbone'} "
            f"(sha256 {_short(note.get('backbone_sha256', ''))}), not on {names} ({_short(digest)}); "
            "give that one with --backbone"
        )
    method.thresholds = Thresholds(**json.loads(note.get("thresholds", "{}")))
    method.seen = note.get("seen", "")
    with safe_open(path, "pt") as file:
        load_strictly(method, {key: file.get_tensor(key) for key in file.keys()}, str(path))  # noqa: SIM118
    return method


def _short(digests: str) -> str:
    return " + ".join(f"{digest[:12]}..." for digest in digests.split("+"))


def load_strictly(method: Method, state: dict[str, Tensor], source: str) -> None:
    """Load every tensor or none.

    Raises:
        ZsadError: Naming up to five missing, unexpected or differently shaped tensors.
    """
    own = method.state_dict()
    shapes = [
        f"{k} {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    found = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "other shape": shapes,
    }
    if any(found.values()):
        lines = [f"  {kind} ({len(names)}): {', '.join(names[:5])}" for kind, names in found.items() if names]
        head = f"{source} does not fit {method.name} on {method.backbone.name or 'this backbone'}:"
        raise ZsadError(
            "\n".join([head, *lines, "  The file may belong to another backbone or Config; see `zsad weights list`."])
        )
    method.load_state_dict(state)
