"""The arithmetic of FAPrompt by hand, its switches and its released layout; test_parity.py has its numbers."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.parity.check_faprompt import method as released_method
from tests.parity.golden import FOLDER, Golden
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.vit import ViT, ViTSize
from zsad.backbones.weights import load
from zsad.errors import ZsadError
from zsad.maps import cosines, probabilities, smooth, upsample
from zsad.methods.conversion import convert, left_out
from zsad.methods.faprompt import Config, FAPrompt, Stages, overlap, score_focal
from zsad.methods.features import TowerFeatures


@cache
def golden() -> Golden:
    return Golden.read(FOLDER / "golden", "faprompt")


@cache
def reference() -> FAPrompt:
    return released_method(golden())


@cache
def features() -> TowerFeatures:
    return reference().encode(golden().images())


@cache
def stages() -> Stages:
    with torch.no_grad():
        return reference().look(features())


def switched(**switches: object) -> FAPrompt:
    """The reference under another Config, with those of its tensors that are still there."""
    base = reference()
    model = FAPrompt(base.backbone, Config(**(vars(base.config) | switches)))  # type: ignore[arg-type]
    own = model.state_dict()
    model.load_state_dict(own | {k: v for k, v in base.state_dict().items() if k in own and v.shape == own[k].shape})
    return model


def losses(model: FAPrompt, labels: tuple[int, int] = (0, 1)) -> dict[str, float]:
    masks, _ = golden().truth()
    terms = model.loss(features(), masks, torch.tensor(labels))
    return {name: float(term.detach()) for name, term in terms.items()}


def test_the_defaults_are_those_of_the_released_run() -> None:
    assert Config() == reference().config


def test_the_recipe_is_that_of_the_released_run() -> None:
    told, recipe = golden().notes["train_optimizer"], FAPrompt.recipe
    assert (recipe.rate, list(recipe.betas), recipe.batch_size) == (told["lr"], told["betas"], told["batch"])
    assert told["epochs"].startswith(f"train.sh {recipe.epochs} ")
    assert (recipe.weight_decay, recipe.schedule, told["schedule"]) == (0.0, "constant", "none")


def test_words_and_tokens_begin_near_zero_as_released() -> None:
    torch.manual_seed(0)
    model = FAPrompt(golden().clip())
    for words in (model.normal_context, model.anomalous_contexts, model.deep.sets[0]):
        assert words.std().item() == pytest.approx(0.02, rel=0.1)


# Features


def test_the_start_of_the_vv_stream_changes_patches_only() -> None:
    later = switched(start=12).encode(golden().images())
    torch.testing.assert_close(later.image, features().image)
    assert not torch.allclose(later.patches, features().patches, atol=0.1)


# CAP: compound abnormality prompts


def test_every_abnormal_prompt_reads_the_normal_words_then_its_own() -> None:
    model = switched(deep_length=0)
    text, tokenizer = model.text_parts()
    ids, end = tokenizer(["damaged object."])
    words = text.token_embedding(ids)[0]
    with torch.no_grad():
        rows = [torch.cat([words[:1], model.normal_context, own, words[1:]]) for own in model.anomalous_contexts]
        expected = text.encode(torch.stack(rows), end + 7)
        torch.testing.assert_close(model.anomalous_features()[0], expected)


def test_the_abnormal_text_is_the_mean_of_features_that_keep_their_lengths() -> None:
    with torch.no_grad():
        expected = reference().anomalous_features()[0].mean(0)
    torch.testing.assert_close(stages().texts[0][1], expected)


def test_prompts_overlap_by_the_cosine_of_every_pair_once_whatever_its_sign() -> None:
    made = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 3.0]])
    assert overlap(made).item() == pytest.approx(2 * math.sqrt(0.5))
    assert overlap(made[:1]).item() == 0


def test_number_and_lengths_of_the_prompts_are_switches() -> None:
    model = switched(prompts=3, normal_length=6, anomalous_length=4, deep_length=2)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert (shapes["normal_context"], shapes["anomalous_contexts"]) == ((6, 128), (3, 4, 128))
    assert shapes["deep.sets.0"] == (2, 128)
    seen = model.look(features())
    assert seen.anomalous.shape == (3, 128) and seen.texts[1].shape == (2, 2, 128)


def test_deep_tokens_are_rounded_to_half_and_reach_as_deep_as_told() -> None:
    plain, other = FAPrompt(golden().clip()), FAPrompt(golden().clip(), Config(half_deep_tokens=False, deep_depth=4))
    assert (len(plain.deep.sets), len(other.deep.sets)) == (8, 3)
    for model, expected in ((plain, plain.deep.sets[0].half().float()), (other, other.deep.sets[0])):
        assert torch.equal(model.deep.edit()(2, torch.zeros(1, 6, 128))[0, 1:5], expected)


# DAP: data-dependent abnormality prior


def test_the_prior_is_added_to_every_abnormal_word_of_every_prompt() -> None:
    prior = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = reference().anomalous_features(prior)
        for row, added in zip(together, prior, strict=True):
            model = switched()
            model.anomalous_contexts += added
            torch.testing.assert_close(row, model.anomalous_features()[0], atol=1e-5, rtol=1e-5)


def test_as_released_the_prior_is_made_of_the_first_patches_whatever_they_show() -> None:
    patches = features().patches[:, 0]
    expected = F.normalize(patches[:, :10], dim=-1)
    for anomalous in (torch.zeros(2, 36), torch.arange(36.0).expand(2, -1)):
        torch.testing.assert_close(reference().chosen(patches, anomalous), expected)
    torch.testing.assert_close(stages().prior, reference().prior_network(expected.flatten(1)))


def test_top_takes_the_patches_that_the_released_code_finds_and_forgets_in_their_order() -> None:
    index = torch.tensor(golden().notes["checks"]["topk_indices"])
    patches = features().patches[:, 0]
    expected = torch.stack([F.normalize(own, dim=-1)[at] for own, at in zip(patches, index, strict=True)])
    model = switched(selection="top")
    torch.testing.assert_close(model.chosen(patches, stages().patches[0][..., 1]), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.look(features()).prior, model.prior_network(expected.flatten(1)))


def test_fewer_patches_than_the_prior_is_made_of_are_refused_with_what_to_do() -> None:
    small = golden().images()[:, :, :42, :42]  # 3 x 3 patches
    for model in (reference(), switched(selection="top")):
        with pytest.raises(ZsadError, match=r"made of 10 patches.*have 9.*--set selected=9"):
            model.predict(small)
    assert switched(selected=9).predict(small).map.shape == (2, 42, 42)
    assert switched(prior=False).predict(small).map.shape == (2, 42, 42)


def test_a_row_of_ten_patches_is_enough() -> None:
    assert reference().predict(torch.randn(1, 3, 14, 140)).map.shape == (1, 14, 140)


def test_without_prior_there_is_one_stage() -> None:
    model = switched(prior=False)
    assert not any(name.startswith("prior") for name, _ in model.named_parameters())
    p, image = stages().patches[0][..., 1], features().image
    with torch.no_grad():
        made = model.score(features())
        expected = (probabilities(image, stages().texts[0])[:, 1] + p.amax(1)) / 2
    torch.testing.assert_close(made.score, expected)
    torch.testing.assert_close(made.map, smooth(upsample(p, features().grid, features().size), 10.0))
    terms, first = losses(model), losses(switched(second_weight=0.0))
    assert terms.keys() == first.keys() - {"prior"}
    assert (terms["focal"], terms["dice"]) == pytest.approx((first["focal"], first["dice"]))


# Scores


def test_the_map_is_the_mean_of_both_stages_and_blurred_once() -> None:
    mean = (stages().patches[0][..., 1] + stages().patches[1][..., 1]) / 2
    for sigma in (0.0, 3.0):
        with torch.no_grad():
            made = switched(sigma=sigma).score(features()).map
        torch.testing.assert_close(made, smooth(upsample(mean, features().grid, features().size), sigma))


def test_the_image_score_is_half_cls_and_half_the_highest_patches_the_first_stage_twice() -> None:
    eye, flat = torch.eye(2, 128), torch.full((2, 36), 0.1)
    first, last = flat.clone(), flat.clone()
    first[:, 7], last[:, 30] = 0.9, 0.3
    made = Stages(eye, None, [eye.flip(0), eye.expand(2, -1, -1)], [torch.stack([1 - p, p], -1) for p in (first, last)])
    image = torch.stack([eye[0], eye[0] + eye[1]])
    seen = TowerFeatures((6, 6), (84, 84), image, features().patches)
    cls = torch.tensor([1 / (1 + math.exp(1 / 0.07)), 0.5])  # by the prompts of the last stage
    torch.testing.assert_close(reference().image_score(seen, made), (cls + (2 * 0.9 + 0.3) / 3) / 2)


def test_the_temperature_divides_every_cosine() -> None:
    model = switched(temperature=0.5)
    with torch.no_grad():
        seen = model.look(features())
        expected = (cosines(features().patches[:, 0], seen.texts[0]) / 0.5).softmax(-1)
        torch.testing.assert_close(seen.patches[0], expected)
        half = (cosines(features().image, seen.texts[1]) / 0.5).softmax(-1)[:, 1]
        highest = [p[..., 1].amax(1) for p in seen.patches]
        torch.testing.assert_close(model.score(features()).score, (half + (2 * highest[0] + highest[1]) / 3) / 2)


# Loss


def test_the_focal_loss_reads_the_score_as_a_logit() -> None:
    p = 1 / (1 + math.exp(-0.8))
    for label, pt in ((1, p), (0, 1 - p)):
        found = score_focal(torch.tensor([0.8]), torch.tensor([label]))
        assert found.item() == pytest.approx(-((1 - pt) ** 2) * math.log(pt), rel=1e-5)


def test_the_prior_of_normal_images_is_summed_and_that_of_others_is_free() -> None:
    assert stages().prior is not None
    squares = stages().prior.square().mean(1).tolist()
    assert losses(reference(), (0, 0))["prior"] == pytest.approx(sum(squares), rel=1e-5)
    assert losses(reference(), (1, 0))["prior"] == pytest.approx(squares[1], rel=1e-5)
    assert losses(reference(), (1, 1))["prior"] == 0


def test_weights_scale_their_terms_and_no_other() -> None:
    plain = losses(reference())
    for switch, name in (("orthogonal_weight", "orthogonal"), ("prior_weight", "prior")):
        changed = losses(switched(**{switch: 0.25}))
        share = 0.25 / getattr(Config(), switch)
        assert changed == pytest.approx(plain | {name: share * plain[name]}, rel=1e-5)
        assert losses(switched(**{switch: 0.0}))[name] == 0


def test_the_second_map_weighs_half_of_the_first() -> None:
    none, half, all_of_it = (losses(switched(second_weight=weight)) for weight in (0.0, 0.5, 1.0))
    for name in ("focal", "dice"):
        assert none[name] < half[name] == pytest.approx((none[name] + all_of_it[name]) / 2, rel=1e-5)
    assert half == losses(reference())


@pytest.mark.parametrize(
    "bad",
    [
        {"selection": "last"},
        {"selected": 0},
        {"prompts": 0},
        {"anomalous_length": 0},
        {"normal_length": 3},
        {"deep_depth": -1},
        {"prior_weight": -1.0},
        {"temperature": 0.0},
        {"start": 25},
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ZsadError, match="faprompt"):
        Config(**bad)


# The layout of the released code's checkpoints


def layout(width: int = 768, sets: int = 8) -> dict[str, dict[str, Tensor]]:
    """All that train.py writes; shapes as in FAPrompt.py:75-145."""
    hidden = 10 * width // 16
    state = {"ctx_pos": torch.randn(1, 1, 5, width), "ctx_neg": torch.randn(1, 10, 2, width)}
    for name, rows, columns in (("linear1", hidden, 10 * width), ("linear2", width, hidden)):
        state[f"patch_meta_net.{name}.weight"] = torch.randn(rows, columns)
        state[f"patch_meta_net.{name}.bias"] = torch.randn(rows)
    for i in range(sets):
        state[f"compound_prompts_text.{i}"] = torch.randn(4, width)
        state[f"compound_prompt_projections.{i}.weight"] = torch.randn(896, width)
        state[f"compound_prompt_projections.{i}.bias"] = torch.randn(896)
    for kind, count, words in (("pos", 1, 5), ("neg", 10, 7)):
        state[f"token_prefix_{kind}"] = torch.randn(1, count, 1, width)
        state[f"token_suffix_{kind}"] = torch.randn(1, count, 76 - words, width)
        state[f"tokenized_prompts_{kind}"] = torch.zeros(1, count, 77, dtype=torch.int32)
    return {"prompt_learner": state}


@pytest.fixture(scope="module")
def l14() -> CLIP:
    """Towers of the widths of CLIP ViT-L/14@336, four image blocks deep, with nothing in them."""
    with torch.device("meta"):
        visual = ViT(ViTSize(width=1024, depth=4, heads=16, patch=14, grid=24, output=768))
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
    visual.norm = nn.LayerNorm(1024)
    return CLIP(visual, text, load("tiny").tokenizer, name="clip-vit-l-14-336", digest="0")


def test_a_file_of_the_released_layout_converts_at_full_width_and_tells_what_it_leaves_out(
    l14: CLIP, tmp_path: Path
) -> None:
    made = layout()
    theirs, path = made["prompt_learner"], tmp_path / "epoch_15.pth"
    torch.save(made, path)
    model = convert(path, "faprompt", l14)
    assert isinstance(model, FAPrompt) and model.config == Config()
    assert torch.equal(model.normal_context, theirs["ctx_pos"][0, 0])
    assert torch.equal(model.anomalous_contexts, theirs["ctx_neg"][0])
    assert model.prior_network is not None
    for at, name in ((0, "linear1"), (2, "linear2")):
        assert torch.equal(model.prior_network[at].weight, theirs[f"patch_meta_net.{name}.weight"])
        assert torch.equal(model.prior_network[at].bias, theirs[f"patch_meta_net.{name}.bias"])
    assert all(torch.equal(model.deep.sets[i], theirs[f"compound_prompts_text.{i}"]) for i in range(8))
    unused = left_out(path, "faprompt")
    assert {name.split(".")[1].rpartition("_")[0] for name in unused} == {
        "compound_prompt",
        "token_prefix",
        "token_suffix",
        "tokenized_prompts",
    }
    assert len(unused) + len(model.state_dict()) == len(theirs)
    assert sum(p.numel() for p in model.parameters()) == 4_100_064


def test_the_file_tells_how_many_prompts_words_and_patches_there_are() -> None:
    state = layout(64)["prompt_learner"]
    state["ctx_pos"], state["ctx_neg"] = torch.randn(1, 1, 6, 64), torch.randn(1, 3, 4, 64)
    state["patch_meta_net.linear1.weight"] = torch.randn(5 * 64 // 16, 5 * 64)
    told = FAPrompt.released_switches({"prompt_learner": state})
    expected = {"prompts": 3, "normal_length": 6, "anomalous_length": 4, "selected": 5}
    assert told == expected | {"deep_length": 4, "deep_depth": 9}


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    for surprise in ("surprise", "patch_meta_net.linear3.weight", "ctx_negative"):
        made = layout(8)
        made["prompt_learner"][surprise] = torch.zeros(1)
        with pytest.raises(ZsadError, match=surprise):
            FAPrompt.released_state(made)
    for other in ({}, {"prompt_learner": 3}, [torch.zeros(1)]):
        with pytest.raises(ZsadError, match="prompt_learner"):
            FAPrompt.released_state(other)


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = layout(128, sets=3)
    del made["prompt_learner"]["ctx_neg"]
    torch.save(made, tmp_path / "a.pth")
    with pytest.raises(ZsadError, match=r"missing \(1\).*anomalous_contexts"):
        convert(tmp_path / "a.pth", "faprompt", load("tiny"))
