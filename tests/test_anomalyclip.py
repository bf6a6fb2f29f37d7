"""The switches of AnomalyCLIP; test_parity.py has its numbers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.parity.check_anomalyclip import FOUR, last
from tests.parity.check_anomalyclip import method as released_method
from tests.parity.golden import FOLDER, Golden
from zsad.errors import ZsadError
from zsad.methods.anomalyclip import AnomalyCLIP, Config
from zsad.methods.features import TowerFeatures


@cache
def golden() -> Golden:
    return Golden.read(FOLDER / "golden", "anomalyclip")


def method(**switches: object) -> AnomalyCLIP:
    return released_method(golden(), **switches)


def images() -> Tensor:
    return golden().images()


def truth() -> tuple[Tensor, Tensor]:
    return golden().truth()


@cache
def features() -> TowerFeatures:
    return method(layers=FOUR).encode(images())


def test_every_kind_of_attention_gives_its_own_map_and_an_ensemble_their_mean() -> None:
    x = images()
    maps = {}
    with torch.no_grad():
        for kind in ("vv", "qq", "kk", "qk"):
            maps[kind] = method(attention=(kind,)).predict(x).map
        both = method(attention=("vv", "kk")).predict(x).map
    assert all(not torch.allclose(maps["vv"], maps[kind], atol=1e-3) for kind in ("qq", "kk", "qk"))
    torch.testing.assert_close(both, (maps["vv"] + maps["kk"]) / 2)


def test_qk_is_the_ordinary_stream_of_the_tower() -> None:
    from zsad.backbones.vit import walk

    visual = golden().clip().visual
    with torch.no_grad():
        x, _ = walk(visual.blocks, visual.embed(images(), resize="bilinear"))
        expected = visual.patches(visual.head(x))
    torch.testing.assert_close(method(attention=("qk",)).encode(images()).patches[:, 0], expected)


def test_shared_context_is_one_tensor_for_both_sentences() -> None:
    model = AnomalyCLIP(golden().clip(), Config(shared_context=True))
    assert "anomalous_context" not in model.state_dict()
    assert model.text_features(["object"]).shape == (1, 2, 128)


def test_object_aware_prompts_take_one_class_name_per_image_or_say_object() -> None:
    model = AnomalyCLIP(golden().clip(), Config(object_agnostic=False))
    assert model.sentences("metal_nut") == ("metal nut.", "damaged metal nut.")
    assert torch.equal(model.score(last(features())).map, model.score(last(features()), ["object"] * 2).map)
    with pytest.raises(ZsadError, match="give one per image"):
        model.score(last(features()), ["object"])


def test_loss_terms_can_be_left_out() -> None:
    assert method(losses=("global",)).loss(last(features()), *truth()).keys() == {"global"}
    assert method(losses=("focal", "dice")).loss(last(features()), *truth()).keys() == {"focal", "dice"}


def test_deep_length_zero_has_no_deep_tokens() -> None:
    model = AnomalyCLIP(golden().clip(), Config(deep_length=0))
    assert {name for name, _ in model.named_parameters()} == {"normal_context", "anomalous_context"}


@pytest.mark.parametrize(
    "bad",
    [
        {"attention": ("vq",)},
        {"attention": ("vv", "vv")},
        {"losses": ()},
        {"layers": (0,)},
        {"layers": ()},
        {"context_length": 3},
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match="anomalyclip"):
        Config(**bad)  # type: ignore[arg-type]


def released_file() -> dict[str, dict[str, Tensor]]:
    state = {"ctx_pos": torch.rand(1, 1, 12, 128), "ctx_neg": torch.rand(1, 1, 12, 128)}
    for i in range(8):
        state[f"compound_prompts_text.{i}"] = torch.rand(4, 128)
        state[f"compound_prompt_projections.{i}.weight"] = torch.rand(896, 128)
        state[f"compound_prompt_projections.{i}.bias"] = torch.rand(896)
    for kind in ("pos", "neg"):
        state[f"token_prefix_{kind}"] = torch.rand(1, 1, 1, 128)
        state[f"token_suffix_{kind}"] = torch.rand(1, 1, 64, 128)
        state[f"tokenized_prompts_{kind}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
    return {"prompt_learner": state}


def test_a_released_checkpoint_fits_without_its_unused_tensors() -> None:
    checkpoint = released_file()
    model = AnomalyCLIP(golden().clip())
    model.load_state_dict(AnomalyCLIP.released_state(checkpoint))
    torch.testing.assert_close(model.normal_context.detach(), checkpoint["prompt_learner"]["ctx_pos"][0, 0])
    torch.testing.assert_close(model.deep.sets[7].detach(), checkpoint["prompt_learner"]["compound_prompts_text.7"])


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    checkpoint = released_file()
    checkpoint["prompt_learner"]["surprise"] = torch.zeros(1)
    with pytest.raises(ZsadError, match="surprise"):
        AnomalyCLIP.released_state(checkpoint)
    with pytest.raises(ZsadError, match="prompt_learner"):
        AnomalyCLIP.released_state({})


def test_each_image_gets_the_prompts_of_its_own_class() -> None:
    from zsad.backbones.weights import load

    towers = load("tiny")
    torch.manual_seed(0)
    model = AnomalyCLIP(towers, Config(object_agnostic=False))
    x = torch.randn(1, 3, 64, 64).repeat(2, 1, 1, 1)
    made = model.predict(x, ["wooden plank", "gear"])
    assert not torch.allclose(made.map[0], made.map[1], atol=1e-4)
    torch.testing.assert_close(model.predict(x[:1], ["gear"]).map[0], made.map[1], atol=1e-5, rtol=0)


def test_the_local_losses_of_an_ensemble_are_the_mean_of_its_kinds() -> None:
    def focal(*kinds: str) -> float:
        model = method(attention=kinds)
        return float(model.loss(model.encode(images()), *truth())["focal"].detach())

    assert focal("vv", "kk") == pytest.approx((focal("vv") + focal("kk")) / 2)
