"""The branches, guidance and switches of Crane; test_parity.py has its numbers."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.parity.golden import FOLDER, Golden, Words
from tests.test_weights import dinov2_state
from zsad.backbones import weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from zsad.backbones.vit import Block, ViT, ViTSize, walk
from zsad.backbones.weights import from_tensors
from zsad.errors import ZsadError
from zsad.methods.checkpoints import load
from zsad.methods.crane import Config, Crane, dattn, eattn
from zsad.methods.guidance import guide_image, guide_patches, similarity_weights

REAL = Path(__file__).parents[2] / "shared" / "parity" / "released" / "crane"


@cache
def tiny() -> CLIP:
    return weights.load("tiny")


@cache
def narrow() -> CLIP:
    """Another ViT than tiny: patch 14 instead of 8."""
    return Golden.read(FOLDER / "golden", "crane").clip()


def method(given: CLIP | None = None, /, **switches: object) -> Crane:
    torch.manual_seed(0)
    return Crane(tiny(), Config(**switches), given).eval()  # type: ignore[arg-type]


def images(count: int = 2, height: int = 64, width: int = 64) -> Tensor:
    """Coarse squares, so that patches differ."""
    coarse = torch.randn(count, 3, height // 16 + 1, width // 16 + 1, generator=torch.Generator().manual_seed(1))
    return coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)[..., :height, :width]


def truth(count: int = 2, side: int = 64) -> tuple[Tensor, Tensor]:
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[1:, 10:30, 20:50] = True
    return masks, masks.flatten(1).any(1).long()


def last_block(model: CLIP) -> Block:
    block = model.visual.blocks[-1]
    assert isinstance(block, Block)
    return block


# E-Attn


def test_eattn_applies_the_sum_of_its_self_correlations_to_the_values() -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)
    parts = {kind: (x @ x.mT / math.sqrt(8)).softmax(-1) for kind, x in (("qq", q), ("kk", k), ("vv", v))}
    torch.testing.assert_close(eattn(("qq", "kk", "vv"))(q, k, v), sum(parts.values()) @ v)
    torch.testing.assert_close(eattn(("kk",))(q, k, v), parts["kk"] @ v)


def test_summed_in_place_all_layers_are_the_last_one_and_weigh_as_many() -> None:
    four, one, apart = method(), method(layers=(24,)), method(in_place=False)
    features = four.encode(images())
    assert torch.equal(features.patches, one.encode(images()).patches)
    assert len(apart.encode(images()).patches[0]) == 4
    many, single = four.loss(features, *truth()), one.loss(features, *truth())
    torch.testing.assert_close(many["focal"], 4 * single["focal"])
    torch.testing.assert_close(many["dice"], 4 * single["dice"])
    torch.testing.assert_close(many["global"], single["global"])


# D-Attn


def test_dattn_weights_on_a_grid_of_four_patches_by_hand() -> None:
    similarity = torch.eye(4)
    similarity[0, 1] = similarity[1, 0] = 0.5  # the mean is 5/16, epsilon 6/16
    similarity[2, 3] = similarity[3, 2] = 0.375  # now the mean is 5.75/16 and below it, epsilon 6.9/16 and above it
    much, less = math.exp(3 * 1.0), math.exp(3 * 0.5)
    expected = torch.eye(4)
    expected[0, :2] = torch.tensor([much, less]) / (much + less)
    expected[1, :2] = torch.tensor([less, much]) / (much + less)
    torch.testing.assert_close(similarity_weights(similarity[None], 1.2, 3.0)[0], expected)


def test_each_image_has_its_own_mean_similarity() -> None:
    pair = torch.stack([torch.eye(3) * 0.3 + 0.7, torch.eye(3)])  # epsilon of the first is 0.96, of both 0.68
    both = similarity_weights(pair, 1.2, 3.0)
    for i in range(2):
        assert torch.equal(both[i], similarity_weights(pair[i : i + 1], 1.2, 3.0)[0])


def test_a_patch_that_is_similar_to_none_attends_to_itself() -> None:
    alike = torch.full((1, 4, 4), 0.95) + 0.05 * torch.eye(4)  # epsilon is above 1
    assert torch.equal(similarity_weights(alike, 1.2, 3.0)[0], torch.eye(4))


def test_dattn_mixes_the_values_of_patches_and_never_those_of_cls() -> None:
    block, stream = last_block(tiny()), torch.randn(1, 5, tiny().visual.width)
    turned = torch.eye(4)[[1, 2, 3, 0]][None]
    mixed = dattn(block, stream, turned)
    value = block.qkv(stream)[2]
    torch.testing.assert_close(mixed, block.out(value[:, :, [2, 3, 4, 1]]))
    stream[:, 0] = 7
    torch.testing.assert_close(dattn(block, stream, turned), mixed)


def test_a_guide_sees_the_same_colours_on_the_same_grid() -> None:
    other = CLIP(narrow().visual, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (tiny().mean, tiny().std))
    mean_there, std_there = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    colours = torch.tensor([0.2, 0.5, 1.5]).view(3, 1, 1).expand(1, 3, 67, 77)
    seen = guide_image((colours - mean) / std, tiny(), other)
    assert other.visual.grid(seen) == tiny().visual.grid(colours) == (8, 9)
    assert seen.shape == (1, 3, 8 * 14, 9 * 14)
    expected = torch.tensor([0.2, 0.5, 1.0]).view(3, 1, 1).expand_as(seen)
    torch.testing.assert_close(seen * std_there + mean_there, expected)
    assert guide_image(images(), tiny(), tiny()).shape == images().shape


def test_a_guide_sees_nothing_of_the_rest_that_has_no_patch() -> None:
    x = images(1, 67, 77)
    marked = x.clone()
    marked[..., 64:, :] = marked[..., 72:] = 9
    assert torch.equal(guide_image(x, tiny(), narrow()), guide_image(marked, tiny(), narrow()))


def test_the_guides_patches_are_those_of_its_last_block_after_the_final_norm() -> None:
    visual = tiny().visual
    with torch.no_grad():
        x, _ = walk(visual.blocks, visual.embed(guide_image(images(), tiny(), tiny())))
        assert torch.equal(guide_patches(images(), tiny(), tiny()), visual.norm(x)[:, 1:])


@pytest.mark.parametrize("guide", ["tiny", "other patch size", "registers"])
def test_any_vit_guides_without_being_registered(guide: str) -> None:
    registers = ViTSize(32, 1, 2, 16, 2, registers=3, pre_norm=False)
    guides = {"tiny": None, "other patch size": narrow(), "registers": CLIP(ViT(registers))}
    model = method(guides[guide], guide="tiny")
    assert model.state_dict().keys() == method().state_dict().keys()
    features = model.encode(images(2, 40, 72))
    assert features.patches.shape == (2, 4 + 1, 5 * 9, tiny().visual.output)
    assert model.score(features).map.isfinite().all()


def test_a_guide_of_the_name_of_the_backbone_is_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("zsad.methods.crane.load")
    alone = method(guide="tiny").predict(images())
    given = method(tiny(), guide="tiny").predict(images())
    assert torch.equal(alone.map, given.map)


def test_another_image_never_changes_a_map_with_a_guide() -> None:
    model, x = method(guide="tiny"), images(3)
    x[2] = 0.3  # uniform: its patches are alike
    alone, together = model.predict(x[:1]), model.predict(x)
    torch.testing.assert_close(together.map[:1], alone.map, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.score[:1], alone.score, atol=1e-6, rtol=0)


def test_a_guide_that_sees_no_difference_gives_a_finite_map() -> None:
    flat = {name: tensor for name, tensor in dinov2_state().items() if ".ls" not in name}  # DINO has no layer scale
    made = method(from_tensors(flat), guide="dino-b-8", branches=("D-Attn",)).predict(images())
    assert made.map.isfinite().all() and made.score.isfinite().all()


def test_a_guided_method_is_saved_and_loaded_with_its_guide(tmp_path: Path) -> None:
    model = method(guide="tiny", layers=(24,))
    model.save(tmp_path / "kept.safetensors")
    again = load(tmp_path / "kept.safetensors", tiny())
    assert again.config == model.config
    assert torch.equal(again.predict(images()).map, model.predict(images()).map)


def test_a_guided_map_in_bfloat16_stays_close() -> None:
    """Eight bits of mantissa through both towers: probabilities move by a few percent at most."""
    model = method(guide="tiny", layers=(24,))
    exact = model.predict(images())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.predict(images())
    torch.testing.assert_close(rough.map.float(), exact.map, atol=0.1, rtol=0)


# Context-guided prompts


@pytest.mark.parametrize("last", [False, True])
def test_guided_prompts_are_each_images_own(last: bool) -> None:
    model = method(context_last=last)
    image = model.encode(images()).image
    with torch.no_grad():
        own, none = model.text_features(image), model.text_features()
        torch.testing.assert_close(model.text_features(5 * image[1:])[0], own[1])  # only its direction matters
    assert none.shape == (1, 2, tiny().visual.output) and own.shape == (2, 2, tiny().visual.output)
    assert not torch.allclose(own[0], own[1], atol=1e-3)
    assert not torch.allclose(own[0], none[0], atol=1e-3)


def test_g_i_stands_before_the_words_as_released_and_after_them_as_in_the_paper() -> None:
    text, tokenizer = method().text_parts()
    g = torch.nn.functional.normalize(torch.ones(1, 128), dim=-1)
    for last in (False, True):
        model = method(context_last=last, deep_length=0)
        ids, end = tokenizer(["object."])
        row, at = text.token_embedding(ids)[0], int(end[0])
        words = (row[1:at], g) if last else (g, row[1:at])
        sentence = torch.cat([row[:1], model.normal_context, *words, row[at : at + 1]])[None]
        expected = text.encode(sentence, torch.tensor([sentence.shape[1] - 1]))
        torch.testing.assert_close(model.text_features(torch.ones(1, 128))[0, 0], expected[0])


def test_a_backbone_whose_words_are_not_as_wide_as_its_image_features_is_refused_or_unguided() -> None:
    text = TextTower(TextSize(width=128, depth=2, heads=2, vocabulary=8, context=20, output=64))
    other = CLIP(ViT(ViTSize(32, 2, 2, 8, 2, output=64)), text, Words(), name="other")  # type: ignore[arg-type]
    with pytest.raises(ZsadError, match=r"64 channels.*128.*other; set context_in_training=false"):
        Crane(other)
    Crane(other, Config(context_in_training=False))


# Switches

MAPS: list[dict[str, object]] = [
    *({"attention": kinds} for kinds in (("kk",), ("vv",), ("qq",), ("qq", "kk"))),  # Table 3c
    {"guide": "tiny"},  # Table 3d: both
    {"guide": "tiny", "branches": ("D-Attn",)},
    {"context_in_inference": True},  # Table 3b
    {"context_in_inference": True, "context_last": True},
    {"in_place": False},
    {"in_place": False, "soft_mean": False},
    {"guide": "tiny", "layers": (24,)},
    {"guide": "tiny", "layers": (24,), "in_place": False},
    {"guide": "tiny", "beta": 0.5},
    {"guide": "tiny", "gamma": 30.0},
    {"start": 16},
    {"deep_length": 0},
    {"deep_depth": 2},
    {"temperature": 0.01},
    {"sigma": 1.0},
]


def test_a_checkpoint_with_another_guide_is_refused(tmp_path: Path) -> None:
    method(guide="tiny").save(tmp_path / "kept.safetensors")
    assert load(tmp_path / "kept.safetensors", tiny()).backbones == [tiny(), tiny()]
    with safe_open(tmp_path / "kept.safetensors", "pt") as file:
        note, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert note["backbone"] == "tiny + tiny"
    note["backbone_sha256"] = f"{tiny().digest}+{'0' * 64}"
    save_file(state, tmp_path / "other.safetensors", metadata=note)
    with pytest.raises(ZsadError, match=r"\+ 000000000000\.\.\.\), not on tiny \+ tiny"):
        load(tmp_path / "other.safetensors", tiny())


def test_everything_that_is_frozen_moves_and_is_noted() -> None:
    model = Crane(tiny(), Config(guide="narrow"), narrow())
    assert model.frozen == [tiny(), narrow()]
    assert model.trained_on == {"backbone": "tiny + narrow", "backbone_sha256": f"{tiny().digest}+"}


def test_a_guide_that_cannot_be_loaded_says_how_to_give_one() -> None:
    with pytest.raises(ZsadError, match=r"--set guide=PATH(.|\n)*no backbone"):
        method(guide="nothing-of-that-name")


def test_every_switch_gives_a_map_of_its_own() -> None:
    """Contexts are drawn larger than at the start of a training, so that the sentences differ."""
    made = []
    for switches in [{}, *MAPS]:
        model = method(**switches)
        for i, p in enumerate(model.parameters()):
            p.data = 0.5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        made.append(model.predict(images()).map)
    for i, one in enumerate(made):
        for j, other in enumerate(made[:i]):
            assert not torch.allclose(one, other, atol=1e-5), ([{}, *MAPS][i], [{}, *MAPS][j])


def test_branches_without_dattn_need_no_guide() -> None:
    plain, named = method(), method(guide="no such backbone", branches=("E-Attn",))
    assert torch.equal(plain.predict(images()).map, named.predict(images()).map)


def test_without_pooling_the_score_is_that_of_cls() -> None:
    """Table 3a."""
    model, pooled = method(pooling=False), method()
    features = model.encode(images())
    logits, _ = model.logits(features, False)
    cls = torch.nn.functional.normalize(features.image, dim=-1)
    assert torch.equal(model.global_feature(features, logits), cls)
    assert not torch.allclose(model.score(features).score, pooled.score(features).score, atol=1e-4)
    assert torch.equal(model.score(features).map, pooled.score(features).map)


@pytest.mark.parametrize(
    ("switches", "changed"),
    [
        ({"context_in_training": False}, {"global", "focal", "dice"}),  # Table 3b
        ({"pooling": False}, {"global"}),
        ({"upsampling": "bilinear"}, {"focal", "dice"}),
        ({"training_temperature": 0.02}, {"global"}),
        ({"local_weight": 1.0}, {"focal", "dice"}),
        ({"global_weight": 1.0}, {"global"}),
        ({"context_in_inference": True}, set()),
        ({"soft_mean": False}, set()),
    ],
)
def test_switches_of_the_training_change_the_terms_that_they_name(
    switches: dict[str, object], changed: set[str]
) -> None:
    features = method().encode(images())
    ours, theirs = method(**switches).loss(features, *truth()), method().loss(features, *truth())
    assert {name for name in ours if not torch.allclose(ours[name], theirs[name], rtol=1e-5)} == changed


@pytest.mark.parametrize(
    "bad",
    [
        {"attention": ("qk",)},
        {"attention": ("qq", "qq")},
        {"branches": ()},
        {"branches": ("D-Attn",)},
        {"layers": (25,)},
        {"start": 0},
        {"context_length": 3},
        {"temperature": 0.0},
        {"sigma": -1.0},
        {"upsampling": "bicubic"},
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match="crane"):
        Config(**bad)  # type: ignore[arg-type]


def test_a_guide_that_the_config_does_not_name_is_refused() -> None:
    with pytest.raises(ZsadError, match="guide=tiny"):
        method(tiny())


# Released checkpoints


def released_file(width: int = 128) -> dict[str, dict[str, Tensor]]:
    state = {f"ctx_{kind}": torch.rand(1, 1, 12, width) for kind in ("pos", "neg")}
    state |= {f"compound_prompts_text.{i}": torch.rand(4, width) for i in range(3)}
    for kind in ("pos", "neg"):
        state[f"token_prefix_{kind}"] = torch.rand(1, 1, 1, width)
        state[f"token_suffix_{kind}"] = torch.rand(1, 1, 64, width)
        state[f"tokenized_prompts_{kind}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
    return {"prompt_learner": state}


def test_a_released_checkpoint_fits_without_its_unused_tensors_and_tells_its_lengths() -> None:
    checkpoint = released_file()
    told = Crane.released_switches(checkpoint)
    assert told == {"context_length": 12, "deep_length": 4, "deep_depth": 4}
    model = method(**told)
    model.load_state_dict(Crane.released_state(checkpoint))
    torch.testing.assert_close(model.anomalous_context.detach(), checkpoint["prompt_learner"]["ctx_neg"][0, 0])
    torch.testing.assert_close(model.deep.sets[2].detach(), checkpoint["prompt_learner"]["compound_prompts_text.2"])


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    checkpoint = released_file()
    checkpoint["prompt_learner"]["surprise"] = torch.zeros(1)
    with pytest.raises(ZsadError, match='Crane checkpoint: unexpected tensor "surprise"'):
        Crane.released_state(checkpoint)


def full_width() -> CLIP:
    """The widths of CLIP ViT-L/14, with tensors that hold no values."""
    with torch.device("meta"):
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
        visual = ViT(ViTSize(1024, 1, 16, 14, 24, output=768))
    return CLIP(visual, text, Words(), name="clip-vit-l-14-336")  # type: ignore[arg-type]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the authors' files")
@pytest.mark.parametrize("name", ["trained_on_mvtec_crane_epoch_5", "trained_on_visa_cranep_epoch_5"])
def test_the_authors_files_load_strictly_at_full_width(name: str) -> None:
    checkpoint = torch.load(REAL / f"{name}.pth", map_location="cpu", weights_only=True)
    assert Crane.released_switches(checkpoint) == {"context_length": 12, "deep_length": 4, "deep_depth": 9}
    model = Crane(full_width())
    model.load_state_dict(Crane.released_state(checkpoint), strict=True)
    theirs = checkpoint["prompt_learner"]
    assert torch.equal(model.normal_context, theirs["ctx_pos"][0, 0])
    assert torch.equal(model.anomalous_context, theirs["ctx_neg"][0, 0])
    for i, tokens in enumerate(model.deep.sets):
        assert torch.equal(tokens, theirs[f"compound_prompts_text.{i}"])
