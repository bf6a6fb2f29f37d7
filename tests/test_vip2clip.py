"""The arithmetic of ViP²-CLIP by hand, its switches and its released files; test_parity.py has its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.check_vip2clip import config as released_config
from tests.parity.check_vip2clip import method as released_method
from tests.parity.golden import FOLDER, Golden, Words
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.vit import ViT, ViTSize
from zsad.backbones.weights import load
from zsad.errors import ZsadError
from zsad.methods.checkpoints import load_strictly
from zsad.methods.features import TowerFeatures
from zsad.methods.vip2clip import Config, FineGrainedPerception, ViP2CLIP, most_anomalous


@cache
def golden() -> Golden:
    return Golden.read(FOLDER / "golden", "vip2clip")


@cache
def reference() -> ViP2CLIP:
    return released_method(golden())


@cache
def features() -> TowerFeatures:
    return reference().encode(golden().images())


def switched(**switches: object) -> ViP2CLIP:
    """The reference under another Config, with those of its tensors that are still there."""
    base = reference()
    model = ViP2CLIP(base.backbone, Config(**(vars(base.config) | switches)))  # type: ignore[arg-type]
    own = model.state_dict()
    model.load_state_dict(own | {k: v for k, v in base.state_dict().items() if k in own and v.shape == own[k].shape})
    return model


def test_the_defaults_are_the_published_settings() -> None:
    published = golden().notes["hyper_parameters"]["topk_published"]
    assert Config() == released_config(golden(), context_length=7, top_k=published)
    rates, recipe = golden().notes["hyper_parameters"]["train"], ViP2CLIP.recipe
    assert recipe.rate == rates["lr_prompt_learner"] and list(recipe.betas) == rates["betas"]
    assert recipe.rate * recipe.share("fgp.query.weight") == pytest.approx(rates["lr_fgp"])


# ViP-VCA


def test_the_prompts_of_an_image_see_it_and_no_other() -> None:
    image = torch.cat([features().image, features().image.flip(0)])
    with torch.no_grad():
        text = reference().text_features(image)
        alone = reference().text_features(image[:1])
    assert not torch.allclose(text[0], text[1], atol=1e-2)
    torch.testing.assert_close(text[0], text[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(text[:1], alone, atol=1e-5, rtol=0)


def test_dynamic_tokens_do_not_depend_on_the_length_of_the_global_feature() -> None:
    image = features().image
    torch.testing.assert_close(reference().tokens(image * 3), reference().tokens(image))


def test_without_vca_the_prompts_are_static() -> None:
    model = switched(vca=False)
    with torch.no_grad():
        text = model.text_features(features().image)
    torch.testing.assert_close(text[0], text[1], atol=1e-5, rtol=0)
    assert model.tokens(features().image).shape == (2, 3, 128)


def test_only_the_normal_prompt_changes_with_the_normal_word() -> None:
    image = features().image
    with torch.no_grad():
        released, corrected = reference().text_features(image), switched(normal_word="good").text_features(image)
    assert not torch.allclose(released[:, 0], corrected[:, 0], atol=1e-3)
    torch.testing.assert_close(released[:, 1], corrected[:, 1], atol=1e-5, rtol=0)


def test_prompts_can_name_the_object_instead() -> None:
    model = switched(class_name=True)
    assert model.vca is None and model.object_tokens.shape == (0, 128)
    assert model.score(features(), ["object", "good"]).score.shape == (2,)
    with pytest.raises(ZsadError, match="give one per image"):
        model.score(features(), ["object"])


# ViP-FGP


@pytest.mark.parametrize("scaled", [False, True])
def test_fine_grained_perception_by_hand(scaled: bool) -> None:
    torch.manual_seed(0)
    fgp, bias = FineGrainedPerception(4, heads=2, scaled=scaled), torch.randn(4)  # the keys' bias cancels
    text, patches = torch.randn(1, 2, 4) * 3, torch.randn(1, 3, 4) * 3
    rows = []
    for prompt in F.normalize(text[0], dim=-1):
        q, joined = fgp.query(prompt), []
        for head in (slice(0, 2), slice(2, 4)):
            weights, total = [], torch.zeros(2)
            for patch in F.normalize(patches[0], dim=-1):
                logit = (q[head] * (fgp.key(patch) + bias)[head]).sum() / (math.sqrt(2) if scaled else 1)
                weights.append(logit.exp())
                total = total + weights[-1] * fgp.value(patch)[head]
            joined.append(total / torch.stack(weights).sum())
        out = fgp.out(torch.cat(joined))
        rows.append(out / out.norm())
    torch.testing.assert_close(fgp(text, patches)[0], torch.stack(rows))


# UTPA


class Plain(ViP2CLIP):
    """With the two axes as prompts, so that the cosines of a patch of length 1 are its coordinates."""

    def text_features(self, image: Tensor, class_names: Sequence[str] | None = None) -> Tensor:
        return torch.eye(2).expand(len(image), 2, 2)


def at(*degrees: float) -> Tensor:
    """Unit vectors at angles from the normal prompt; 90 is the anomalous one."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], -1)


def seen() -> TowerFeatures:
    """One image, two layers of three patches each, in no order; the lengths of patches differ."""
    lengths = torch.tensor([1.0, 2.0, 3.0])[:, None]
    patches = torch.stack([at(10, 50, 30) * lengths, at(80, 20, 60) * lengths])
    return TowerFeatures((1, 3), (1, 3), at(40), patches[None])


def plain(**switches: object) -> Plain:
    return Plain(reference().backbone, Config(**({"fgp": False, "top_k": 2, "sigma": 0.0} | switches)))  # type: ignore[arg-type]


def anomalous(cosines: Tensor) -> Tensor:
    return (cosines / 0.07).softmax(-1)[..., 1]


def test_the_image_score_averages_the_cosines_of_the_k_most_anomalous_patches_of_all_layers() -> None:
    said = plain().score(seen())
    torch.testing.assert_close(said.score, anomalous(at(50, 30, 80, 60).mean(0, keepdim=True)))


def test_one_score_per_layer_averages_features_and_then_probabilities() -> None:
    averages = torch.stack([at(50) * 2 + at(30) * 3, at(80) + at(60) * 3])
    said = plain(score_by_layer=True).score(seen())
    torch.testing.assert_close(said.score, anomalous(F.normalize(averages.sum(1), dim=-1)).mean(0, keepdim=True))


def test_dual_branch_alignment_scores_the_global_feature() -> None:
    torch.testing.assert_close(plain(utpa=False).score(seen()).score, anomalous(at(40)))


def test_dual_branch_alignment_compares_the_global_feature_with_prompts_that_saw_no_patches() -> None:
    with torch.no_grad():
        both, one = switched(utpa=False).score(features()), switched(utpa=False, fgp=False).score(features())
    torch.testing.assert_close(both.score, one.score)


def test_the_map_is_the_mean_over_the_layers() -> None:
    expected = (anomalous(at(10, 50, 30)) + anomalous(at(80, 20, 60))) / 2
    torch.testing.assert_close(plain().score(seen()).map, expected[None, None])


def test_all_patches_count_where_there_are_fewer_than_k() -> None:
    assert sorted(most_anomalous(torch.tensor([0.1, 0.9, 0.5]), 50).tolist()) == [0, 1, 2]
    assert sorted(most_anomalous(torch.tensor([0.1, 0.9, 0.5]), 2).tolist()) == [1, 2]
    torch.testing.assert_close(plain(top_k=50).score(seen()).score, plain(top_k=3).score(seen()).score)


def test_the_global_loss_is_one_cross_entropy_or_the_sum_over_the_layers() -> None:
    masks, labels = torch.zeros(1, 1, 3, dtype=torch.bool), torch.tensor([1])
    one = plain().loss(seen(), masks, labels)["global"]
    torch.testing.assert_close(one, -anomalous(at(50, 30, 80, 60).mean(0)).log())
    model = plain(score_by_layer=True)
    _, image = model.align(seen())
    torch.testing.assert_close(model.loss(seen(), masks, labels)["global"], -anomalous(image[0]).log().sum())


def test_lambda_weighs_the_local_loss_only() -> None:
    truth = golden().truth()
    one, three = reference().loss(features(), *truth), switched(local_weight=3.0).loss(features(), *truth)
    torch.testing.assert_close(three["global"], one["global"])
    torch.testing.assert_close(three["focal"] + three["dice"], 3 * (one["focal"] + one["dice"]))


# Ablations

ABLATIONS: list[tuple[dict[str, object], bool, bool]] = [  # switches; whether the score changes, and the map
    ({"vca": False}, True, True),
    ({"fgp": False}, True, True),
    ({"utpa": False}, True, False),
    ({"utpa": False, "vca": False, "fgp": False}, True, True),
    ({"top_k": 1}, True, False),
    ({"top_k": 20}, True, False),
    ({"score_by_layer": True}, True, False),
    ({"normal_word": "good"}, True, True),
    ({"normal_word": "good", "anomaly_word": "object"}, True, True),
    ({"class_name": True}, True, True),
    ({"heads": 1}, True, True),
    ({"scaled": True}, True, True),
    ({"layers": (12, 24)}, True, True),
    ({"temperature": 0.1}, True, True),
    ({"sigma": 2.0}, False, True),
    ({"context_length": 5}, True, True),
    ({"dynamic_length": 2}, True, True),
]


@pytest.mark.parametrize(("switches", "score", "map_"), ABLATIONS, ids=lambda value: str(value))
def test_each_ablation_changes_what_it_should(switches: dict[str, object], score: bool, map_: bool) -> None:
    torch.manual_seed(0)
    model, base = switched(**switches), reference()
    names = ["object"] * 2
    with torch.no_grad():
        ours, theirs = model.predict(golden().images(), names), base.score(features())
    assert torch.allclose(ours.score, theirs.score, atol=1e-5) != score
    assert torch.allclose(ours.map, theirs.map, atol=1e-5) != map_


@pytest.mark.parametrize(
    "pair", [("good", "damaged"), ("normal", "abnormal"), ("perfect", "flawed"), ("flawless", "imperfect")]
)
def test_every_pair_of_state_adjectives_makes_prompts(pair: tuple[str, str]) -> None:
    model = ViP2CLIP(load("tiny"), Config(normal_word=pair[0], anomaly_word=pair[1]))
    text = model.text_features(torch.randn(1, 128))
    assert text.shape == (1, 2, 128) and not torch.allclose(text[0, 0], text[0, 1], atol=1e-3)


def test_without_any_module_the_two_words_are_left_and_nothing_learns() -> None:
    model = ViP2CLIP(
        reference().backbone, Config(normal_word="good", context_length=0, dynamic_length=0, fgp=False, utpa=False)
    )
    assert sum(p.numel() for p in model.parameters()) == 0
    assert model.score(features()).map.isfinite().all()


@pytest.mark.parametrize(
    "bad",
    [
        {"layers": ()},
        {"layers": (25,)},
        {"context_length": -1},
        {"top_k": 0},
        {"heads": 0},
        {"temperature": 0},
        {"context_length": 0},  # two equal prompts
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match="vip2clip"):
        Config(**bad)  # type: ignore[arg-type]


def test_heads_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ZsadError, match="5 heads"):
        ViP2CLIP(reference().backbone, Config(heads=5))


# Released files


@cache
def large() -> CLIP:
    """The sizes of CLIP ViT-L/14@336, without weights."""
    with torch.device("meta"):
        visual = ViT(ViTSize(width=1024, depth=24, heads=16, patch=14, grid=24, output=768))
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
        return CLIP(visual, text, Words(), name="clip-vit-l-14-336")  # type: ignore[arg-type]


def released_file(contexts: int, *, corrected: bool = False) -> dict[str, dict[str, Tensor]]:
    """Random tensors in the recorded layout."""
    words = torch.rand(2, 1, 1, 768)
    prompts = {"ctx_pos": torch.rand(contexts, 768), "ctx_neg": torch.rand(contexts, 768)}
    prompts |= {"cls_ctx": torch.rand(3, 768), "cls_prompter.bias": torch.rand(1, 768)}
    for i in range(3):
        prompts[f"cls_prompter.fc.{i}.0.weight"], prompts[f"cls_prompter.fc.{i}.0.bias"] = _linear(768, 384)
        prompts[f"cls_prompter.fc.{i}.2.weight"], prompts[f"cls_prompter.fc.{i}.2.bias"] = _linear(384, 768)
    for i, kind in enumerate(("pos", "neg")):
        prompts[f"token_prefix_{kind}"] = torch.rand(1, 1, 768)
        prompts[f"token_middle_{kind}"] = words[i if corrected else 0].clone()
        prompts[f"token_suffix_{kind}"] = torch.rand(1, 72 - contexts, 768)
        prompts[f"tokenized_prompts_{kind}"] = torch.zeros(1, 77, dtype=torch.int32)
    perception = {"prompt_temp_l1": torch.tensor(2.66)}
    for name in ("q_proj_pre", "k_proj_pre_1", "v_proj_pre_1", "proj_post_t"):
        weight, perception[f"{name}.bias"] = _linear(768, 768)
        perception[f"{name}.weight"] = weight[..., None]
    return {"prompt_learner": prompts, "Zero_try": perception}


def _linear(width: int, out: int) -> tuple[Tensor, Tensor]:
    return torch.rand(out, width), torch.rand(out)


def test_the_made_files_have_the_recorded_size() -> None:
    file = released_file(7)
    assert sum(tensor.nbytes for part in file.values() for tensor in part.values()) == 17_008_748


@pytest.mark.parametrize("contexts", [7, 9])
def test_a_released_checkpoint_fits_at_full_width(contexts: int, tmp_path: Path) -> None:
    torch.save(released_file(contexts), tmp_path / "epoch_10.pth")
    file = torch.load(tmp_path / "epoch_10.pth", weights_only=True)
    model = ViP2CLIP(large(), Config(**ViP2CLIP.released_switches(file)))
    load_strictly(model, ViP2CLIP.released_state(file), "epoch_10.pth")
    prompts, perception, fgp, vca = file["prompt_learner"], file["Zero_try"], model.fgp, model.vca
    assert fgp is not None and vca is not None
    assert torch.equal(model.normal_context, prompts["ctx_pos"])
    assert torch.equal(model.anomalous_context, prompts["ctx_neg"])
    assert torch.equal(vca.bias, prompts["cls_prompter.bias"][0])
    assert torch.equal(model.get_parameter("vca.nets.2.2.weight"), prompts["cls_prompter.fc.2.2.weight"])
    convolved = F.conv1d(torch.ones(1, 768, 1), perception["v_proj_pre_1.weight"], perception["v_proj_pre_1.bias"])
    torch.testing.assert_close(fgp.value(torch.ones(768)), convolved[0, :, 0])
    assert torch.equal(fgp.key.weight, perception["k_proj_pre_1.weight"][..., 0])


def test_the_file_tells_its_lengths_and_which_words_its_normal_prompt_was_built_from() -> None:
    told = {"context_length": 9, "dynamic_length": 3, "hidden": 384}
    assert ViP2CLIP.released_switches(released_file(9)) == told | {"normal_word": "damaged"}
    assert ViP2CLIP.released_switches(released_file(9, corrected=True)) == told | {"normal_word": "good"}


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    file = released_file(7)
    file["Zero_try"]["surprise"] = torch.zeros(1)
    with pytest.raises(ZsadError, match=r"Zero_try\.surprise"):
        ViP2CLIP.released_state(file)
    for other in ({}, [], {"prompt_learner": {}}, {"prompt_learner": torch.zeros(1), "Zero_try": {}}):
        with pytest.raises(ZsadError, match=r"expected .*Zero_try"):
            ViP2CLIP.released_state(other)
