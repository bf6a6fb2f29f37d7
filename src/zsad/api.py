"""The few calls that most programs need: load a method, prepare images, predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import constants
from PIL import Image
from torch import Tensor

from zsad.backbones.registry import BACKBONES
from zsad.backbones.registry import backbone as backbone_row
from zsad.backbones.weights import is_path
from zsad.backbones.weights import load as load_backbone
from zsad.data.images import preprocess, read_image, to_rgb
from zsad.download import cache_folder, fetch
from zsad.errors import ZsadError
from zsad.methods.base import Method, nothing_to_learn
from zsad.methods.checkpoints import load as load_checkpoint
from zsad.methods.checkpoints import must_fit
from zsad.methods.conversion import agree, belongs_to, convert
from zsad.methods.released import RELEASED, Released, hashes, released
from zsad.methods.table import METHODS, build, make_config, method_class

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_BACKBONE = "tiny"
DEFAULT_METHOD = "anomalyclip"


def load(
    method: str | None = None,
    weights: str | Path | None = None,
    backbone: str | Path = DEFAULT_BACKBONE,
    device: str = "auto",
    **switches: Any,
) -> Method:
    """A method ready to predict.

    Args:
        method: A name of `zsad methods`. None takes the one that the weights belong to, without weights anomalyclip.
        weights: A checkpoint of `zsad train`, a name of `zsad weights list` such as "anomalyclip/mvtec", or a released
            .pth file. None takes what ships with the embedded backbone; a method that learns nothing needs none.
        backbone: A name of `zsad weights list`, or a file or folder with weights.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto": the first accelerator there is, else the CPU.
        switches: Fields of the method's Config, in place of the weights' own; see `zsad methods NAME`.

    Raises:
        ZsadError: If a name is unknown, a file does not fit, or nothing was trained for this backbone.

    >>> load().name, load("anomalyclip", sigma=2.0).config.sigma
    ('anomalyclip', 2.0)
    """
    if method is not None:
        method_class(method)  # what can be wrong is told before anything large is loaded
    if not is_path(str(backbone)):
        backbone_row(str(backbone))
    if weights is None:
        own = method or DEFAULT_METHOD
        kind = method_class(own)
        if kind.reads_text and str(backbone) in BACKBONES and not BACKBONES[str(backbone)].text:
            raise ZsadError(f"{own} reads prompts, and {backbone} has no text tower; choose a CLIP (zsad weights list)")
        if kind.learns_nothing(make_config(kind, switches)):
            return build(own, load_backbone(backbone, device=choose_device(device)), **switches)
        file = embedded_weights(own, str(backbone))
    else:
        file = checkpoint_file(weights, str(backbone), method)
    name = belongs_to(file, method)
    if file.suffix == ".safetensors":
        must_fit(file, str(backbone))
    towers = load_backbone(backbone, device=choose_device(device))
    read = (
        load_checkpoint(file, towers, **switches)
        if file.suffix == ".safetensors"
        else convert(file, name, towers, **switches)
    )
    return read.eval()


def method_name(method: str | None, weights: str | Path | None, backbone: str | Path) -> str:
    """The method that :func:`load` gives for these: the one named, else the weights' own, else the default.

    Raises:
        ZsadError: If the weights do not tell, or belong to another method.
    """
    if weights is None:
        return method or DEFAULT_METHOD
    return belongs_to(checkpoint_file(weights, str(backbone), method), method)


def checkpoint_file(weights: str | Path, backbone: str, method: str | None = None) -> Path:
    """The file of a checkpoint: a path as it is, a published name downloaded and checked.

    Raises:
        ZsadError: If it is neither, or the published one belongs to another backbone or method, or cannot be had.
    """
    if Path(weights).is_file():
        return Path(weights)
    return _downloaded(published(str(weights), backbone, method))


def published(name: str, backbone: str, method: str | None = None) -> Released:
    """The row of a published checkpoint, which must belong to the method and, where that is a named one, the backbone.

    Raises:
        ZsadError: If there is no file and no row of that name, or it belongs to another method or backbone.
    """
    if Path(name).suffix:
        raise ZsadError(f"no checkpoint {name}; `zsad weights list` shows the published ones, `zsad train` makes one")
    own = name.partition("/")[0]
    if own in METHODS and (kind := method_class(own)).learns_nothing(config := kind.config_class()):
        raise nothing_to_learn(own, config)
    if own in METHODS and own not in {row.method for row in RELEASED.values()}:
        raise ZsadError(
            f"no weights {name}: none were published for {own}; "
            f"`zsad train --method {own}` makes some, `zsad weights list` shows those of other methods"
        )
    row = released(name)
    agree(row.name, row.method, method)
    row.must_fit(backbone)
    return row


def suggested_weights(method: str) -> str:
    """What to give as weights for a method on a real backbone: a published checkpoint, or one of the user's own.

    >>> suggested_weights("crane"), suggested_weights("afrclip")
    ('crane/mvtec', 'OWN.safetensors')
    """
    return next((row.name for row in RELEASED.values() if row.method == method), "OWN.safetensors")


def embedded_weights(method: str, backbone: str) -> Path:
    """The checkpoint that ships with the embedded backbone.

    Raises:
        ZsadError: If there is none for this method and backbone.
    """
    path = Path(str(files("zsad"))) / "backbones" / "tiny" / f"{method}.safetensors"
    if backbone == DEFAULT_BACKBONE and path.is_file():
        return path
    published = [row.name for row in RELEASED.values() if row.method == method]
    free = _learning_nothing(method)
    raise ZsadError(
        f"nothing trained for {method} on {backbone} is at hand; give --weights: "
        f"a checkpoint that `zsad train --method {method} --backbone {backbone}` made"
        + (f", or a published one ({', '.join(published)})" if published else "")
        + (f"; or --set {free}, with which it learns nothing" if free else "")
    )


def _learning_nothing(method: str) -> str:
    """The switch, as typed, with which a method needs no weights; "" if there is none."""
    kind = method_class(method)
    flags = [field for field in fields(kind.config_class) if isinstance(field.default, bool)]
    for field in flags:
        if kind.learns_nothing(make_config(kind, {field.name: not field.default})):
            return f"{field.name}={str(not field.default).lower()}"
    return ""


def _downloaded(row: Released) -> Path:
    """The file of a published checkpoint, from the cache or its address, its content checked."""
    try:
        path, _ = fetch(row.file, cache_folder() / "released" / row.name, offline=constants.HF_HUB_OFFLINE)
    except (OSError, HTTPException, ZsadError) as error:
        raise ZsadError(
            f"no {row.name}: tried {row.file.url} ({error}).\n"
            f"  Copy the file from a machine with network and give it with --weights PATH,\n"
            f"  or leave out --weights and --backbone for the embedded model."
        ) from error
    if difference := row.difference(*hashes(path)):
        path.unlink()
        raise ZsadError(f"{row.file.url} gave another file than {row.name} ({difference}); it was removed, try again")
    return path


def choose_device(name: str = "auto") -> str:
    """The device to compute on.

    Raises:
        ZsadError: If torch cannot use it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ZsadError(f'torch cannot use the device "{name}" here; --device cpu always works') from error
    return name


def input_size(method: Method) -> int:
    """Side of the network input in pixels, to a whole number of patches: the papers' 518, for `tiny` 192."""
    known, patch = BACKBONES.get(method.backbone.name), method.backbone.visual.size.patch
    return (known.input if known else 518) // patch * patch


def prepare(
    method: Method, images: Sequence[str | Path | Image.Image | NDArray[np.uint8]], size: int | None = None
) -> Tensor:
    """Images as a method's input.

    Args:
        method: Tells the size, mean and standard deviation.
        images: Files, PIL images, or uint8 arrays [H, W, 3].
        size: Side in pixels; None = :func:`input_size`.

    Returns:
        [B, 3, size, size] float32 on the method's device.

    Raises:
        ZsadError: If a file cannot be read.
    """
    if isinstance(images, str | Path) or not len(images):
        raise ZsadError("prepare takes a list with at least one image, such as [image]")
    side, towers = size or input_size(method), method.backbone
    rows = [torch.from_numpy(preprocess(_image(image), side, towers.mean, towers.std)) for image in images]
    return torch.stack(rows).to(towers.logit_scale.device)


def _image(image: str | Path | Image.Image | NDArray[np.uint8]) -> Image.Image:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return to_rgb(image) if isinstance(image, Image.Image) else Image.fromarray(image)
