"""The table of methods, and their switches by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any

import torch

from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.tokenizer import Tokenizer
from zsad.backbones.vit import ViT, ViTSize
from zsad.errors import ZsadError, unknown
from zsad.methods.base import Method, Reference
from zsad.options import parse, shown

#: name -> module and class; a new method is one file and one line here
METHODS = {
    "anomalyclip": "zsad.methods.anomalyclip:AnomalyCLIP",
    "crane": "zsad.methods.crane:Crane",
    "visualad": "zsad.methods.visualad:VisualAD",
    "afrclip": "zsad.methods.afrclip:AFRCLIP",
    "vip2clip": "zsad.methods.vip2clip:ViP2CLIP",
    "clip": "zsad.methods.clip:ZeroShotCLIP",
    "clipac": "zsad.methods.clip:CLIPAC",
    "winclip": "zsad.methods.winclip:WinCLIP",
    "coop": "zsad.methods.coop:CoOp",
    "aprilgan": "zsad.methods.aprilgan:APRILGAN",
    "clipad": "zsad.methods.clipad:CLIPAD",
    "anovl": "zsad.methods.anovl:AnoVL",
    "adaclip": "zsad.methods.adaclip:AdaCLIP",
    "faprompt": "zsad.methods.faprompt:FAPrompt",
    "aaclip": "zsad.methods.aaclip:AACLIP",
}

#: backbones that numbers were published on: openai/CLIP and open_clip, to count what a method learns there
_SIZES = {
    "clip-vit-l-14-336": (ViTSize(1024, 24, 16, 14, 24, 768), TextSize(768, 12, 12, 49408, 77, 768)),
    "clip-vit-b-16-plus-240": (ViTSize(896, 12, 14, 16, 15, 640), TextSize(640, 12, 10, 49408, 77, 640)),
    "clip-vit-b-16-plus-240-e31": (ViTSize(896, 12, 14, 16, 15, 640), TextSize(640, 12, 10, 49408, 77, 640)),
}


def method_class(name: str) -> type[Method]:
    """The class behind a name of the table.

    >>> method_class("anomalyclip").__name__
    'AnomalyCLIP'
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS, "zsad methods")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def build(name: str, backbone: CLIP, **switches: Any) -> Method:
    """A new, untrained method, set to evaluation; `switches` are fields of its Config.

    Raises:
        ZsadError: For an unknown method or switch.
    """
    kind = method_class(name)
    return kind(backbone, make_config(kind, switches)).to(backbone.logit_scale.device).eval()


def make_config(kind: type[Method], values: dict[str, Any]) -> Any:
    """A Config of a method from names and values; JSON's lists become tuples.

    Raises:
        ZsadError: For an unknown name, or a value of another kind than the default's.
    """
    fields = {field.name for field in dataclasses.fields(kind.config_class)}
    for key in values:
        if key not in fields:
            raise unknown(f"{kind.name} switch", key, fields, "zsad methods")
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    defaults = kind.config_class()
    for key, value in chosen.items():
        default = getattr(defaults, key)
        if not _alike(value, default):
            raise ZsadError(f"{kind.name}: {key}={value!r}; expected something like {key}={shown(default)}")
    return kind.config_class(**chosen)


def _alike(value: Any, default: Any) -> bool:
    """Whether a value is of the default's kind: finite where that is a number, and a tuple item by item."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_alike(item, default[0]) for item in value)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is type(default)


def parse_switches(kind: type[Method], pairs: Sequence[str]) -> dict[str, Any]:
    """Switches from "key=value" words; the type of the field's default decides how a value is read.

    >>> from zsad.methods.anomalyclip import AnomalyCLIP
    >>> parse_switches(AnomalyCLIP, ["layers=6,12", "object_agnostic=false", "sigma=2"])
    {'layers': (6, 12), 'object_agnostic': False, 'sigma': 2.0}
    """
    defaults = dataclasses.asdict(kind.config_class())
    return parse(pairs, defaults, "--set", f"{kind.name} switch", f"zsad methods {kind.name}")


@dataclass(frozen=True)
class Row:
    """A method in the table of `zsad methods`; `trains`, `reads_names` and `parameters` with its default Config."""

    name: str
    paper: str  # title, authors, year and arXiv number
    reference: Reference
    trains: bool  # needs auxiliary data
    reads_names: bool  # prompts name the object
    reads_text: bool  # the backbone must have a text tower
    parameters: int  # learned, on the backbone of its published numbers
    switches: tuple[str, ...]  # "name=default"


def describe(name: str) -> Row:
    """What there is to know about a method before it is used; nothing is loaded.

    >>> row = describe("anomalyclip")
    >>> row.reference.repository, f"{row.parameters:,}"
    ('zqhang/AnomalyCLIP', '43,008')
    """
    kind = method_class(name)
    paper = (import_module(kind.__module__).__doc__ or "").partition("\n")[0]
    switches = tuple(f"{field.name}={shown(field.default)}" for field in dataclasses.fields(kind.config_class))
    with torch.device("meta"):
        model = build(name, _sizes_only(kind.reference.backbone))
    learned = sum(parameter.numel() for parameter in model.parameters())
    trains = not kind.learns_nothing(model.config)
    return Row(name, paper, kind.reference, trains, kind.reads_names, kind.reads_text, learned, switches)


def _sizes_only(backbone: str) -> CLIP:
    """A CLIP of the sizes of a published backbone, with neither weights nor a tokenizer that fits."""
    visual, text = _SIZES[backbone]
    words = Tokenizer.load(str(files("zsad.backbones") / "tiny" / "tokenizer.json"))
    return CLIP(ViT(visual), TextTower(text), words, name=backbone)
