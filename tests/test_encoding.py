"""The rule that keeps features from going stale: what the cache takes for equal is equal to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.cnn import ResNet18
from zsad.cache import about
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.methods import afrclip
from zsad.methods.anomalyclip import AnomalyCLIP
from zsad.methods.base import Method, Stage
from zsad.methods.encoding import encoding
from zsad.methods.features import Features
from zsad.methods.table import METHODS, build, describe, method_class

LEARNING = [name for name in METHODS if describe(name).trains]

#: what each method is changed from: a switch may matter only beside another one
STARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in LEARNING),
    ("afrclip", {"cnn": "resnet18"}),
    ("afrclip", {"image_prompts": False}),
    ("anomalyclip", {"attention": ("vv", "qk"), "layers": (6, 24)}),
    ("crane", {"guide": "tiny"}),
    ("crane", {"guide": "tiny", "in_place": False, "branches": ("D-Attn",)}),
    ("coop", {"attention": "vv"}),
    ("aaclip", {"surgery": "vv"}),
    ("aaclip", {"surgery": "batch"}),
)

#: other values of a switch, tried one after the other; the Config says which are valid
WORDS = (
    *("vv", "qq", "kk", "plain", "value", "batch", "bilinear", "bicubic", "bicubic_antialias", "nearest"),
    *("top", "all", "first", "rows", "images", "gelu", "quick_gelu", "small", "resnet18", "medical", "tiny"),
    *("mean", "pca", "kde", "trained", "frozen", "sine-1d", "none", "broken"),
)


@cache
def backbone() -> CLIP:
    return weights.load("tiny")


@pytest.fixture(autouse=True)
def drawn_cnn(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    cnn = ResNet18().eval()
    monkeypatch.setattr(afrclip, "load_resnet18", lambda device: cnn)


def images() -> Tensor:
    return torch.randn(1, 3, 48, 56, generator=torch.Generator().manual_seed(1))


def others(value: Any) -> list[Any]:
    """Values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [1, 2, 3, 12, 18]
    if isinstance(value, float):
        return [0.0, value / 2, value + 0.3]
    if isinstance(value, str):
        return [*WORDS, "a photo of a", "", f"{value} {{}}"]
    if value and isinstance(value[0], int):
        return [(1,), (1, 2), (12, 24), (3, 9, 15, 21)]
    return [value[:1], value[::-1], value[1:], *((word,) for word in WORDS), tuple(f"{word} one" for word in value)]


def changed(name: str, start: dict[str, Any], field: str) -> Iterator[Method]:
    """The method with each other valid value of a switch; what it learns is drawn anew."""
    first = method_class(name).config_class(**start)
    for value in others(getattr(first, field)):
        if value != getattr(first, field):
            try:
                yield build(name, backbone(), **{**start, field: value})
            except ZsadError:
                continue


def key(method: Method, stage: Stage) -> str:
    return str(about(method, stage, 64, Reading(), "float32", "float32"))


def must_be_equal(one: Features, other: Features) -> None:
    assert type(one) is type(other) and (one.grid, one.size) == (other.grid, other.size)
    assert one.tensors().keys() == other.tensors().keys()
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), f"{name} differs"


@pytest.mark.parametrize(("name", "start"), STARTS, ids=str)
def test_a_switch_that_changes_features_changes_what_they_are_known_by(name: str, start: dict[str, Any]) -> None:
    model = build(name, backbone(), **start)
    known = [(key(model, stage), stage.encode(images())) for stage in model.stages]
    for field in dataclasses.fields(model.config):
        tried = 0
        for other in islice(changed(name, start, field.name), 3):
            tried += 1
            for (before, features), stage in zip(known, other.stages, strict=False):
                if key(other, stage) == before:
                    must_be_equal(features, stage.encode(images()))
        assert tried or start, f"no other value of {field.name} was valid: name one in WORDS"


def test_methods_that_the_cache_takes_for_equal_have_equal_features() -> None:
    found: dict[str, Features] = {}
    for name, switches in (*STARTS, *(one for pair in SHARED for one in pair)):
        method = build(name, backbone(), **switches)
        for stage in method.stages:
            features = stage.encode(images())
            must_be_equal(found.setdefault(key(method, stage), features), features)


#: trainings that go through the tower once
SHARED: tuple[tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]], ...] = (
    (("anomalyclip", {}), ("faprompt", {})),
    (("anomalyclip", {"attention": ("qk",), "layers": (6, 12, 18, 24)}), ("vip2clip", {})),
    (("anomalyclip", {}), ("anomalyclip", {"context_length": 8, "deep_depth": 3, "shared_context": True})),
    (("coop", {}), ("coop", {"attention": "vv", "layers": (6, 12), "class_specific": True})),
    (("crane", {}), ("crane", {"pooling": False, "soft_mean": False, "context_last": True})),
    (("visualad", {}), ("visualad", {"layers": (24,), "sca": False})),
    (("adaclip", {}), ("adaclip", {"layers": (24,), "length": 2})),
    (("aprilgan", {}), ("aprilgan", {"temperature": 0.07})),
    (("clipad", {}), ("clipad", {"representative": "mean"})),
    (("afrclip", {}), ("afrclip", {"cmfr": False, "neighborhood": 1})),
    (("aaclip", {}), ("aaclip", {"layers": (24,), "text_global": True, "real_names": False})),
)


@pytest.mark.parametrize("pair", SHARED, ids=lambda pair: " ".join(f"{name} {switches}" for name, switches in pair))
def test_methods_share_features_where_they_can(pair: Any) -> None:
    one, other = (build(name, backbone(), **switches) for name, switches in pair)
    assert [key(one, stage) for stage in one.stages] == [key(other, stage) for stage in other.stages]


def test_two_stages_have_features_of_their_own() -> None:
    text, image = build("aaclip", backbone()).stages
    assert text.encoding != image.encoding


def test_where_nothing_is_said_every_switch_counts() -> None:
    class Silent(AnomalyCLIP):
        def encode(self, images: Tensor) -> Any:
            return super().encode(images)

    one, other = Silent(backbone()), Silent(backbone(), dataclasses.replace(Silent(backbone()).config, sigma=1.0))
    assert encoding(one.encode) != encoding(other.encode)
    assert encoding(one.encode)["function"] != encoding(build("anomalyclip", backbone()).encode)["function"]


@pytest.mark.parametrize("name", LEARNING)
def test_every_method_that_learns_says_what_its_features_depend_on(name: str) -> None:
    for stage in build(name, backbone()).stages:
        assert hasattr(stage.encode, "reads")
