"""The few calls that most programs need: load a method, prepare images, predict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import constants
from PIL import Image
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.download import cache_folder, fetch
from zsad.backbones.registry import BACKBONES
from zsad.backbones.registry import backbone as backbone_row
from zsad.backbones.weights import is_path
from zsad.backbones.weights import load as load_backbone
from zsad.data.images import preprocess, read_image, to_rgb
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.checkpoints import load as load_checkpoint
from zsad.methods.checkpoints import load_strictly
from zsad.methods.released import RELEASED, Released, released
from zsad.methods.table import build, method_class

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_BACKBONE = "tiny"


def load(
    method: str = "anomalyclip",
    weights: str | Path | None = None,
    backbone: str | Path = DEFAULT_BACKBONE,
    device: str = "auto",
) -> Method:
    """A method ready to predict.

    Args:
        method: A name of `zsad methods`.
        weights: A checkpoint of `zsad train`, a name of `zsad weights list` such as "anomalyclip/mvtec", or a released
            .pth file. None takes what ships with the embedded backbone.
        backbone: A name of `zsad weights list`, or a file or folder with weights.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto": the first accelerator there is, else the CPU.

    Raises:
        ZsadError: If a name is unknown, a file does not fit, or nothing was trained for this backbone.

    >>> load().name
    'anomalyclip'
    """
    method_class(method)  # what can be wrong is told before anything large is loaded
    if not is_path(str(backbone)):
        backbone_row(str(backbone))
    row = None if weights is None or Path(weights).exists() else published(str(weights), str(backbone))
    file = embedded_weights(method, str(backbone)) if weights is None else _downloaded(row) if row else Path(weights)
    towers = load_backbone(backbone, device=choose_device(device))
    if file.suffix in (".pth", ".pt"):
        found = convert(file, row.method if row else method, towers)
    else:
        found = load_checkpoint(file, towers)
    if found.name != method:
        raise ZsadError(f"{weights} belongs to {found.name}, not to {method}; say --method {found.name}")
    return found.eval()


def published(name: str, backbone: str) -> Released:
    """The row of a published checkpoint, which must belong to the backbone where that is a named one.

    Raises:
        ZsadError: If there is no file and no row of that name, or it belongs to another backbone.
    """
    if Path(name).suffix:
        raise ZsadError(f"no checkpoint {name}; `zsad weights list` shows the published ones, `zsad train` makes one")
    row = released(name)
    if backbone in BACKBONES and backbone != row.backbone:
        raise ZsadError(f"{name} was trained on {row.backbone}, not on {backbone}; add --backbone {row.backbone}")
    return row


def embedded_weights(method: str, backbone: str) -> Path:
    """The checkpoint that ships with the embedded backbone.

    Raises:
        ZsadError: If there is none for this method and backbone.
    """
    path = Path(str(files("zsad"))) / "backbones" / "tiny" / f"{method}.safetensors"
    if backbone == DEFAULT_BACKBONE and path.is_file():
        return path
    published = [name for name in RELEASED if name.startswith(f"{method}/")]
    raise ZsadError(
        f"nothing trained for {method} on {backbone} is at hand; give --weights: "
        f"a checkpoint that `zsad train --method {method} --backbone {backbone}` made"
        + (f", or a published one ({', '.join(published)})" if published else "")
    )


def convert(path: Path, method: str, backbone: CLIP) -> Method:
    """A method from a checkpoint file in its authors' layout, read with `weights_only=True`.

    Raises:
        ZsadError: If the file is unreadable, of another layout, or does not fit the backbone.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        raise ZsadError(
            f"{path} is not a checkpoint that can be read safely: it is damaged, or holds more than tensors. "
            "A checkpoint of zsad ends in .safetensors."
        ) from error
    found = build(method, backbone)
    load_strictly(found, found.released_state(checkpoint), str(path))
    return found


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
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if blob != row.blob:
        path.unlink()
        raise ZsadError(f"{row.file.url} gave another file (git SHA-1 {blob}, expected {row.blob}); it was removed")
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
