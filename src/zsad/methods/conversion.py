"""Checkpoints in their authors' layout: whose they are, what is in them, and a method made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.checkpoints import load_strictly, read_note
from zsad.methods.released import recognised
from zsad.methods.table import build, method_class


def agree(weights: str | Path, told: str, method: str | None) -> None:
    """Complain where weights that tell their method are said to be of another.

    Raises:
        ZsadError: Naming both.
    """
    if method not in (None, told):
        raise ZsadError(f"{weights} belongs to {told}, not to {method}; say --method {told} or leave --method out")


def belongs_to(file: Path, method: str | None = None) -> str:
    """The method of a checkpoint: its own note tells it, or its content where the authors published it.

    Args:
        file: A checkpoint of zsad (.safetensors), or one in its authors' layout.
        method: What it is said to be; other files in their authors' layout do not tell.

    Raises:
        ZsadError: If it is another one, or nothing tells.
    """
    if file.suffix == ".safetensors":
        told: str | None = read_note(file)["method"]
    else:
        row = recognised(file)
        told = row.method if row else method
    if told is None:
        raise ZsadError(f"{file} does not tell which method it belongs to; add --method NAME (zsad methods)")
    agree(file, told, method)
    return told


def convert(path: Path, method: str, backbone: CLIP, **switches: Any) -> Method:
    """A method from a checkpoint in its authors' layout, read with `weights_only=True`, every tensor accounted for.

    Args:
        path: The file.
        method: A name of `zsad methods`.
        backbone: The towers that it was trained on.
        switches: Fields of the method's Config. They go before those that a published checkpoint was tested with,
            and those before what the file itself tells.

    Raises:
        ZsadError: If the file is unreadable, of another layout, or does not fit the method or the backbone.
    """
    kind, checkpoint, row = method_class(method), read(path), recognised(path)
    if row is not None:
        agree(path, row.method, method)
        row.must_fit(backbone.name)
    state, told = _understood(path, kind, checkpoint)
    found = build(method, backbone, **{**told, **(row.switches if row else {}), **switches})
    load_strictly(found, state, str(path))
    return found


def left_out(path: Path, method: str) -> list[str]:
    """Names of the tensors of a file in its authors' layout that :func:`convert` has no use for.

    Raises:
        ZsadError: If the file is unreadable or of another layout.
    """
    checkpoint = read(path)
    tensors = dict(_named(checkpoint))
    floats = [tensor.requires_grad_() for tensor in tensors.values() if tensor.is_floating_point()]
    state, _ = _understood(path, method_class(method), checkpoint)
    total = torch.stack([torch.zeros(()), *(tensor.float().sum() for tensor in state.values())]).sum()
    if not total.requires_grad:
        return list(tensors)
    slopes = torch.autograd.grad(total, floats, allow_unused=True)  # None for a tensor that no result depends on
    used = {id(tensor) for tensor, slope in zip(floats, slopes, strict=True) if slope is not None}
    return [name for name, tensor in tensors.items() if id(tensor) not in used]


def _understood(path: Path, kind: type[Method], checkpoint: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint under our names, and the switches that it tells.

    Raises:
        ZsadError: Also where what is in the file has unexpected types or shapes.
    """
    try:
        return kind.released_state(checkpoint), kind.released_switches(checkpoint)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ZsadError(
            f"{path} is damaged, or not a checkpoint of {kind.name} in its authors' layout ({error}); "
            "`zsad weights list` has the addresses of those that are"
        ) from error


def _named(checkpoint: Any, above: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested dictionaries, by the names on the way to it."""
    for name, value in checkpoint.items() if isinstance(checkpoint, dict) else ():
        if isinstance(value, Tensor):
            yield f"{above}{name}", value
        else:
            yield from _named(value, f"{above}{name}.")


def read(path: Path) -> Any:
    """A PyTorch file, on the CPU; nothing in it is run.

    Raises:
        ZsadError: If it is damaged or holds more than tensors and plain values.
    """
    if path.suffix == ".safetensors":
        raise ZsadError(f"{path} is a checkpoint of zsad already; it needs no conversion")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        raise ZsadError(
            f"{path} is not a checkpoint that can be read safely: it is damaged, or holds more than tensors. "
            "Of a file that you trust, docs/methods may tell how to keep the tensors alone. "
            "A checkpoint of zsad ends in .safetensors."
        ) from error
