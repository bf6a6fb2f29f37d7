"""The contract: every rule x every method. A new method is covered by its line in the table of methods."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.methods.base import Method, Thresholds, nothing_to_learn
from zsad.methods.checkpoints import load
from zsad.methods.recipe import make_optimizer
from zsad.methods.table import METHODS, build, describe, make_config, method_class, parse_switches
from zsad.training.hardware import Hardware
from zsad.training.images import Encoded
from zsad.training.step import take_step

every_method = pytest.mark.parametrize("name", METHODS)


@cache
def backbone() -> CLIP:
    return weights.load("tiny")


def method(name: str, **switches: Any) -> Method:
    """As drawn, then moved: what begins at zero or near its end takes part, as it does in a trained method."""
    torch.manual_seed(0)
    model = build(name, backbone(), **switches)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


#: What computes otherwise than a default Config: held to the rule that is broken most easily
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("winclip", {"scales": (2, 0), "aggregation": "anomaly", "image_score": "cls", "halved": False}),
    ("clip", {"attention": "vv", "temperature": 0.0}),
    ("clipad", {"linear": False}),
    ("anovl", {"augment": False, "adapt_steps": 2}),
    ("adaclip", {"clustered": "all"}),
    ("adaclip", {"hsf": False, "branches": ("visual",)}),
    ("faprompt", {"selection": "top"}),
    ("aaclip", {"surgery": "vv", "map_share": 0.5}),
)


def images(count: int = 3, height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def truth(count: int = 3, side: int = 64) -> tuple[Tensor, Tensor, list[str]]:
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[1:, 10:30, 20:50] = True
    return masks, masks.flatten(1).any(1).long(), ["gear"] * count


@pytest.mark.parametrize(
    ("name", "switches"), [*((name, {}) for name in METHODS), *VARIANTS], ids=lambda value: str(value)
)
def test_the_score_of_an_image_does_not_depend_on_the_batch_or_its_order(name: str, switches: dict[str, Any]) -> None:
    model, x, names = method(name, **switches), images(), ["gear", "screw", "cork"]
    together, turned = model.predict(x, names), model.predict(x.flip(0), names[::-1])
    alone = [model.predict(x[i : i + 1], names[i : i + 1]) for i in range(3)]
    for i, one in enumerate(alone):
        torch.testing.assert_close(together.score[i], one.score[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.map[i], one.map[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(turned.map[2 - i], one.map[0], atol=1e-5, rtol=0)


@every_method
def test_only_methods_whose_prompts_name_the_object_listen_to_names(name: str) -> None:
    model, x = method(name), images(1)
    one, other, none = (model.predict(x, names) for names in (["gear"], ["cork"], None))
    assert torch.equal(one.map, other.map) != model.reads_names
    assert torch.equal(none.map, model.predict(x, ["object"]).map)


@every_method
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 96), (67, 77)])
def test_maps_have_image_size_and_are_finite_and_in_range(name: str, height: int, width: int) -> None:
    model = method(name)
    made = model.predict(images(2, height, width), ["gear"] * 2)
    assert made.map.shape == (2, height, width)
    assert made.score.shape == (2,)
    assert made.score.isfinite().all()
    low, high = model.map_range
    assert made.map.min() >= low - 1e-6 and made.map.max() <= high + 1e-6


@every_method
def test_predict_leaves_backbone_and_inputs_alone(name: str) -> None:
    model, x = method(name), images()
    before = {key: value.clone() for key, value in backbone().state_dict().items()}
    kept = x.clone()
    model.predict(x, ["gear"] * 3)
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[key]) for key, value in backbone().state_dict().items())


@every_method
def test_only_its_own_parameters_train_and_each_gets_a_gradient(name: str) -> None:
    model = method(name)
    masks, labels, names = truth()
    trained = set()
    for stage in model.stages:
        model.zero_grad()
        sum(stage.loss(stage.encode(images()), masks, labels, names).values()).backward()  # type: ignore[union-attr]
        for key, p in stage.parameters(model).items():
            assert p.grad is not None and p.grad.abs().sum() > 0, key
            trained.add(key)
    assert trained == {key for key, _ in model.named_parameters()}
    assert all(p.grad is None and not p.requires_grad for p in backbone().parameters())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in backbone().parameters()}


@every_method
def test_a_method_that_learns_nothing_is_ready_and_says_so_when_it_is_to_be_trained(name: str) -> None:
    model = method(name)
    assert bool(model.stages) == bool(list(model.parameters()))
    if not model.stages:
        with pytest.raises(ZsadError, match=f"learns nothing.* zsad predict PHOTOS --method {name}"):
            model.loss(model.encode(images()), *truth())


@every_method
def test_training_steps_lower_the_loss_on_a_fixed_batch(name: str) -> None:
    model = method(name)
    for stage in model.stages:
        features, (masks, labels, names) = stage.encode(images()), truth()
        optimizer = make_optimizer(stage.parameters(model), stage.recipe)
        totals = []
        for _ in range(8):
            total = torch.stack(list(stage.loss(features, masks, labels, names).values())).sum()
            totals.append(total.item())
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert totals[-1] < totals[0]


@every_method
def test_two_trainings_from_one_seed_end_in_the_same_weights(name: str) -> None:
    """Also where training draws at random, as dropout does."""

    def trained() -> dict[str, Tensor]:
        model, hardware = method(name).train(), Hardware(torch.device("cpu"))
        for stage in model.stages:
            data = Encoded(stage.encode(images()), *truth())
            optimizer = hardware.prepared(make_optimizer(stage.parameters(model), stage.recipe))
            for _ in range(2):
                take_step(model, stage, optimizer, [(data, 1.0)], hardware)
        return model.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_method
def test_saved_and_loaded_gives_the_same_map_and_thresholds(name: str, tmp_path: Path) -> None:
    model = method(name)
    model.thresholds = Thresholds(0.25, 0.75)
    model.save(tmp_path / "kept.safetensors")
    again = load(tmp_path / "kept.safetensors", backbone())
    assert [path.name for path in tmp_path.iterdir()] == ["kept.safetensors"]
    assert again.config == model.config and again.thresholds == model.thresholds
    assert torch.equal(again.predict(images(), ["gear"] * 3).map, model.predict(images(), ["gear"] * 3).map)


@every_method
def test_the_same_seed_gives_the_same_method(name: str) -> None:
    a, b = method(name), method(name)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@every_method
def test_bfloat16_stays_close(name: str) -> None:
    """Eight bits of mantissa through six blocks: maps move by a few percent of their largest value at most."""
    model, x = method(name), images()
    exact = model.predict(x, ["gear"] * 3)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.predict(x, ["gear"] * 3)
    torch.testing.assert_close(rough.score.float(), exact.score, atol=0.1, rtol=0)
    torch.testing.assert_close(rough.map.float(), exact.map, atol=0.1 * float(exact.map.abs().max()), rtol=0)


@every_method
def test_a_backbone_without_text_is_enough_or_refused_with_what_to_do(name: str) -> None:
    blind = CLIP(backbone().visual, name="dinov2-s-14")
    if not method_class(name).reads_text:
        assert build(name, blind).predict(images()).map.isfinite().all()
        return
    with pytest.raises(ZsadError, match=r"dinov2-s-14 has no text tower; choose a CLIP"):
        build(name, blind)


@every_method
def test_an_image_smaller_than_a_patch_is_refused_with_its_size(name: str) -> None:
    with pytest.raises(ZsadError, match=r"7 x 7 pixels is smaller than one patch"):
        method(name).predict(torch.randn(1, 3, 7, 7))


@every_method
def test_a_switch_of_another_kind_or_without_end_is_refused(name: str) -> None:
    for field in dataclasses.fields(method_class(name).config_class):
        wrong = {float: float("nan"), tuple: 3, bool: "yes", int: 1.5, str: 2}[type(field.default)]
        with pytest.raises(ZsadError, match=f"{name}: {field.name}="):
            make_config(method_class(name), {field.name: wrong})


@every_method
def test_an_unknown_switch_gets_the_nearest_proposed(name: str) -> None:
    key = describe(name).switches[0].partition("=")[0]
    with pytest.raises(ZsadError, match=f'did you mean "{key}"'):
        make_config(method_class(name), {key + "x": 1})
    with pytest.raises(ZsadError, match=f'did you mean "{key}"'):
        parse_switches(method_class(name), [f"{key}x=1"])


def test_a_switch_without_a_value_is_refused_and_sentences_may_have_commas() -> None:
    clip = method_class("clip")
    with pytest.raises(ZsadError, match=r"--set sigma: expected sigma=VALUE, such as sigma=4\.0"):
        parse_switches(clip, ["sigma"])
    assert parse_switches(clip, ["normal=a clean, whole {}; a {}"])["normal"] == ("a clean, whole {}", "a {}")


def test_what_learns_nothing_with_a_switch_says_how_to_use_it_so() -> None:
    config = make_config(method_class("clipad"), {"linear": False})
    with pytest.raises(ZsadError, match=r"--method clipad --set linear=false$"):
        raise nothing_to_learn("clipad", config)


def test_a_checkpoint_of_another_backbone_is_refused(tmp_path: Path) -> None:
    name = next(iter(METHODS))
    method(name).save(tmp_path / "kept.safetensors")
    other = CLIP(backbone().visual, backbone().text, backbone().tokenizer, name="other", digest="0" * 64)
    with pytest.raises(ZsadError, match=r"was trained on tiny .* not on other"):
        load(tmp_path / "kept.safetensors", other)


def test_an_unknown_method_gets_the_nearest_proposed() -> None:
    with pytest.raises(ZsadError, match='did you mean "anomalyclip"'):
        method_class("anomalyclp")


def test_a_file_that_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    with pytest.raises(ZsadError, match="no checkpoint"):
        load(path, backbone())
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ZsadError, match="not a safetensors file"):
        load(path, backbone())


@every_method
def test_pictures_put_the_contour_in_the_middle_of_their_scale_and_never_leave_the_range(name: str) -> None:
    model = method(name)
    low, high = model.map_range
    model.thresholds = Thresholds(pixel=0.0)
    assert model.shown_range[0] < model.shown_range[1]
    for share in (0.1, 0.5, 0.9):
        model.thresholds = Thresholds(pixel=share)
        first, last = model.shown_range
        assert low <= first < model.contour < last <= high
        if share == 0.1:
            assert model.contour == pytest.approx((first + last) / 2)
