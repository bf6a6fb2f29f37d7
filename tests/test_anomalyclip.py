"""AnomalyCLIP against the numbers of its released code (tests/parity/anomalyclip.npz), and its switches."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity import weights
from tests.parity.golden import FOLDER, Words, small_clip, tensor
from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.methods.anomalyclip import AnomalyCLIP, Config
from zsad.methods.base import Features

FOUR = (6, 12, 18, 24)
LEARNED = {"normal_context": "ctx_pos", "anomalous_context": "ctx_neg"} | {
    f"deep.sets.{i}": f"compound_prompts_text.{i}" for i in range(8)
}


@cache
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / "anomalyclip.npz"))


@cache
def backbone() -> CLIP:
    model = small_clip()
    known = {}
    for kind, ending in (("normal", "object."), ("abnormal", "damaged object.")):
        ids = golden()[f"tokens/{kind}"].tolist()
        known[ending] = [ids[0], *ids[13 : ids.index(49407) + 1]]  # without the 12 placeholders
    model.tokenizer = Words(known)  # type: ignore[assignment]
    return model


def method(**switches: object) -> AnomalyCLIP:
    model = AnomalyCLIP(backbone(), Config(**switches))  # type: ignore[arg-type]
    state = {}
    for ours, theirs in LEARNED.items():
        shape = (4, 128) if theirs[-1].isdigit() else (1, 1, 12, 128)
        state[ours] = tensor(f"anomalyclip.{theirs}", shape, 0.3).reshape(shape[-2:])
    model.load_state_dict(state)
    return model


def images() -> Tensor:
    return torch.from_numpy(weights.image_batch())


def truth() -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(weights.tensor("mask", (2, 1, 84, 84)))[:, 0] > 1.0
    mask[0] = False
    return mask, torch.tensor([0, 1])


@cache
def features() -> Features:
    return method(layers=FOUR).encode(images())


def close(ours: Tensor, name: str, atol: float = 1e-4) -> None:
    torch.testing.assert_close(ours.detach(), torch.from_numpy(golden()[name]).float(), atol=atol, rtol=0)


def last(f: Features) -> Features:
    return Features(f.image, f.patches[:, -1:], f.grid, f.size)


def test_image_and_patch_features_are_the_released_ones() -> None:
    close(features().image, "image_feature/raw")
    for i, layer in enumerate(FOUR):
        torch.testing.assert_close(
            features().patches[:, i],
            torch.from_numpy(golden()[f"patch_features/layer{layer}"])[:, 1:],
            atol=1e-4,
            rtol=0,
        )


def test_text_features_are_the_released_ones() -> None:
    close(method().text_features(["object"])[0], "text_features/raw")


def test_maps_and_scores_are_the_released_ones() -> None:
    with torch.no_grad():
        four, one = method(layers=FOUR).score(features()), method().score(last(features()))
    close(four.score, "image_score")
    close(four.map, "map/after_gaussian")
    close(one.map, "map_last_layer_only/after_gaussian")


@pytest.mark.parametrize(
    ("group", "switches"),
    [
        ("train", {"layers": FOUR}),
        ("train_last_layer_only", {}),
        ("train_without_half_cast", {"layers": FOUR, "half_deep_tokens": False}),
    ],
)
def test_losses_gradients_and_the_first_step_are_the_released_ones(group: str, switches: dict[str, object]) -> None:
    model = method(**switches)
    seen = features() if "layers" in switches else last(features())
    optimizer = torch.optim.Adam(model.parameters(), model.recipe.rate, model.recipe.betas)
    terms = model.loss(seen, *truth())
    layers = (24,) if group == "train_last_layer_only" else FOUR

    def told(term: str) -> float:
        return sum(float(golden()[f"{group}/loss/{term}/layer{layer}"]) for layer in layers)

    assert terms["global"].item() == pytest.approx(float(golden()[f"{group}/loss/image_cross_entropy"]), rel=1e-4)
    assert terms["focal"].item() == pytest.approx(4 * told("focal"), rel=1e-4)
    assert terms["dice"].item() == pytest.approx(4 * (told("dice_abnormal") + told("dice_normal")), rel=1e-4)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.norm().item() == pytest.approx(float(golden()[f"{group}/grad.l2/{LEARNED[name]}"]), rel=1e-4)
        if group == "train":
            expected = torch.from_numpy(golden()[f"train/grad/{LEARNED[name]}"]).reshape(p.shape)
            assert (p.grad - expected).norm() <= 2e-4 * expected.norm()
    optimizer.step()
    if group != "train_without_half_cast":
        for name, p in model.named_parameters():
            step = (p.detach() - before[name]).norm().item()
            assert step == pytest.approx(float(golden()[f"{group}/step_delta_l2/{LEARNED[name]}"]), rel=1e-4)


def test_six_training_steps_follow_the_released_losses() -> None:
    model = method()
    optimizer = torch.optim.Adam(model.parameters(), model.recipe.rate, model.recipe.betas)
    totals = []
    for _ in range(6):
        total = torch.stack(list(model.loss(last(features()), *truth()).values())).sum()
        totals.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert totals == pytest.approx(golden()["train_last_layer_only/total_loss_before_step_1_to_6"].tolist(), rel=1e-4)


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

    visual = backbone().visual
    with torch.no_grad():
        x, _ = walk(visual.blocks, visual.embed(images(), resize="bilinear"))
        expected = visual.patches(visual.head(x))
    torch.testing.assert_close(method(attention=("qk",)).encode(images()).patches[:, 0], expected)


def test_shared_context_is_one_tensor_for_both_sentences() -> None:
    model = AnomalyCLIP(backbone(), Config(shared_context=True))
    assert "anomalous_context" not in model.state_dict()
    assert model.text_features(["object"]).shape == (1, 2, 128)


def test_object_aware_prompts_need_a_class_name_per_image() -> None:
    model = AnomalyCLIP(backbone(), Config(object_agnostic=False))
    assert model.sentences("metal_nut") == ("metal nut.", "damaged metal nut.")
    with pytest.raises(ZsadError, match="one class name per image"):
        model.score(last(features()))


def test_loss_terms_can_be_left_out() -> None:
    assert method(losses=("global",)).loss(last(features()), *truth()).keys() == {"global"}
    assert method(losses=("focal", "dice")).loss(last(features()), *truth()).keys() == {"focal", "dice"}


def test_deep_length_zero_has_no_deep_tokens() -> None:
    model = AnomalyCLIP(backbone(), Config(deep_length=0))
    assert {name for name, _ in model.named_parameters()} == {"normal_context", "anomalous_context"}


@pytest.mark.parametrize(
    "bad", [{"attention": ("vq",)}, {"losses": ()}, {"layers": (0,)}, {"layers": ()}, {"context_length": 3}]
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
    model = AnomalyCLIP(backbone())
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
