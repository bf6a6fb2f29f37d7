"""A backbone by name, file or folder: `load` finds the weights, checks them and builds the towers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from zsad.backbones.clip import CLIP, HF_CLIP, OPENAI, build_clip
from zsad.backbones.dinov2 import HF_DINOV2, HUB_DINOV2, build_dinov2
from zsad.backbones.download import download
from zsad.backbones.files import is_torchscript, read_json, read_tensors, weight_files
from zsad.backbones.keys import Checkpoint, KeyTable
from zsad.backbones.registry import BACKBONES, MERGES, Backbone, backbone
from zsad.backbones.tokenizer import Tokenizer, clip_tokenizer_from_merges
from zsad.download import cache_folder, sha256
from zsad.errors import ZsadError

_BUILDERS: tuple[tuple[KeyTable, Callable[[Checkpoint, Mapping[str, Any], str], CLIP]], ...] = (
    (OPENAI, build_clip),
    (HF_CLIP, build_clip),
    (HF_DINOV2, build_dinov2),
    (HUB_DINOV2, build_dinov2),
)
_OPENAI_FILES = re.compile(r"openai|quick_?gelu|^ViT-(B-32|B-16|L-14|L-14-336px)\.pt$", re.IGNORECASE)


def load(
    source: str | Path = "tiny",
    *,
    device: str | torch.device = "cpu",
    activation: str | None = None,
    offline: bool | None = None,
) -> CLIP:
    """A frozen backbone, ready for use.

    Args:
        source: A name of `zsad weights list`, a weight file, or a folder with one: OpenAI's .pt (TorchScript archive or
            state dict), open_clip's files, a Hugging Face CLIPModel or Dinov2Model folder, DINOv2's hub .pth. A name
            goes before a path; write ./tiny for a folder of that name.
        device: Where the parameters go.
        activation: "quick_gelu" or "gelu" in place of what the source says. State dicts under OpenAI's names do not say
            it: they get "gelu", as open_clip's, unless their name has "openai" or "quickgelu" or is one of OpenAI's.
        offline: True uses no network; None as HF_HUB_OFFLINE says.

    Returns:
        float32, eval mode, no gradients. `digest` is the SHA-256 of the weight file (of all shards, one after the
        other). A DINOv2 has no `text` and no `tokenizer`.

    Raises:
        ZsadError: If there is no such name or path, the download fails, the file is damaged, a tensor is missing or
            left over, or a CLIP's tokenizer is nowhere to be found.
    """
    if isinstance(source, str) and (source in BACKBONES or not is_path(source)):
        return _load_row(backbone(source), device, activation, offline)
    return _load_files(Path(source), device, activation)


def is_path(source: str) -> bool:
    return "/" in source or "\\" in source or bool(Path(source).suffix) or Path(source).exists()


def _load_row(row: Backbone, device: str | torch.device, activation: str | None, offline: bool | None) -> CLIP:
    if row.hub is None and row.url is None:
        model = _load_files(Path(__file__).parent / row.name, device, activation)
    else:
        path, digest = download(row, offline)
        model = _load_files(path, device, activation or row.activation, digest)
    model.name, model.mean, model.std = row.name, row.mean, row.std
    return model


def _load_files(path: Path, device: str | torch.device, activation: str | None, digest: str | None = None) -> CLIP:
    files = weight_files(path)
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_tensors(file)
    model = from_tensors(state, _config(files[0], state), activation or "", str(path))
    model.name, model.digest = path.stem if path.is_file() else path.name, digest or sha256(files)
    if model.text is not None:
        model.tokenizer = _tokenizer(files[0].parent, model.text.size.vocabulary)
    _normalisation(model, files[0].parent)
    return model.to(device).eval().requires_grad_(False)


def from_tensors(
    state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None, activation: str = "", source: str = "state"
) -> CLIP:
    """A backbone, without tokenizer, of tensors under any of the published names.

    Args:
        state: Under the names of OpenAI's CLIP, Hugging Face's CLIPModel or Dinov2Model, or DINOv2's hub files.
        config: config.json of a Hugging Face model; needed for those, whose number of heads no tensor tells.
        activation: In place of the config's; OpenAI's names without either get "quick_gelu".
        source: What error messages call the tensors.

    Raises:
        ZsadError: If the names are of no known kind, or do not fit it one to one.
    """
    for table, build in _BUILDERS:
        if not table.fits(state):
            continue
        if config is None and table in (HF_CLIP, HF_DINOV2):
            raise ZsadError(f"{source} has the names of {table.kind} but no config.json; put it beside the weights")
        return build(Checkpoint(table, state, source), config or {}, activation)
    kinds = "\n".join(f"  {table.kind}, with {table.marker}" for table, _ in _BUILDERS)
    names = ", ".join(list(state)[:5]) or "none"
    raise ZsadError(
        f"{source} is no backbone that zsad knows.\n  Its first tensors: {names}\n  Expected one of:\n{kinds}"
    )


def _config(file: Path, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What the file's neighbours and name say about the activation, and for Hugging Face's files about the heads."""
    if not OPENAI.fits(state):
        return read_json(file.parent / "config.json") or None
    described = read_json(file.parent / "open_clip_config.json").get("model_cfg", {})
    quick = described.get("quick_gelu") or is_torchscript(file) or "input_resolution" in state
    hidden_act = "quick_gelu" if quick or _OPENAI_FILES.search(file.name) else "gelu"
    return {"vision_config": {"hidden_act": hidden_act}, "text_config": {"hidden_act": hidden_act}}


def _normalisation(model: CLIP, folder: Path) -> None:
    """Mean and standard deviation from the files that Hugging Face and open_clip write beside the weights."""
    found = read_json(folder / "preprocessor_config.json")
    told = read_json(folder / "open_clip_config.json").get("preprocess_cfg", {})
    mean, std = found.get("image_mean") or told.get("mean"), found.get("image_std") or told.get("std")
    if mean and std:
        model.mean, model.std = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer beside the weights, or for CLIP's own vocabulary one from a cache."""
    places = [folder / "tokenizer.json", folder / MERGES.file_name]
    if vocabulary == 49408:
        places += [cache_folder() / row.name / MERGES.file_name for row in BACKBONES.values() if row.text]
        hubs = [row.hub for row in BACKBONES.values() if row.text and row.hub]
        cached = [try_to_load_from_cache(hub.repository, "tokenizer.json", revision=hub.revision) for hub in hubs]
        places += [Path(path) for path in cached if isinstance(path, str)]
    for place in places:
        if place.is_file():
            return Tokenizer.load(place) if place.suffix == ".json" else clip_tokenizer_from_merges(place)
    raise ZsadError(
        f"no tokenizer for the weights in {folder}: they hold none, and no cache has OpenAI's.\n"
        f"  Put tokenizer.json or {MERGES.file_name} beside them; the latter is at\n  {MERGES.url}"
    )
