"""AFR-CLIP: every equation of the paper on numbers worked out by hand, and every switch."""

from __future__ import annotations

import hashlib
from functools import cache
from math import exp
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

from zsad.backbones import cnn, weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, UrlFile
from zsad.backbones.vit import ViT, ViTSize, walk
from zsad.errors import ZsadError
from zsad.methods.afrclip import AFRCLIP, Config, PrefixFeatures, Rectification, SelfPrompting, aggregate

GEAR = ["gear"]


@cache
def towers() -> CLIP:
    """24 image blocks of width 8 on 4 x 4 patches, one text block, a joint space of two dimensions."""
    torch.manual_seed(3)
    visual = ViT(ViTSize(width=8, depth=24, heads=2, patch=4, grid=4, output=2))
    text = TextTower(TextSize(width=8, depth=1, heads=1, vocabulary=1024, context=77, output=2))
    for p in (visual.cls, visual.positions, visual.proj, text.positions, text.proj):
        torch.nn.init.normal_(p)
    return CLIP(visual, text, weights.load("tiny").tokenizer).eval().requires_grad_(False)


def method(**switches: object) -> AFRCLIP:
    torch.manual_seed(0)
    return AFRCLIP(towers(), Config(**switches))  # type: ignore[arg-type]


def images(count: int = 2, side: int = 16) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def fill(module: torch.nn.Module, **values: object) -> None:
    """Give parameters the numbers of a hand case."""
    for name, value in values.items():
        module.get_parameter(name.replace("__", ".")).data = torch.tensor(value, dtype=torch.float32)


def worked(tokens: Tensor, text: Tensor, size: tuple[int, int], **switches: object) -> tuple[AFRCLIP, PrefixFeatures]:
    """A method whose adapted tokens [4, 1 + n, 2] and text features [3, 2] are given; one image of 2 x 2 patches."""
    model = method(**switches)
    model.visual_features = lambda features: tokens[None]  # type: ignore[method-assign]
    model.text_features = lambda names: text[None]  # type: ignore[method-assign]
    return model, PrefixFeatures((2, 2), size, torch.zeros(1, 1, 1, 1))


def sigma(x: float) -> float:
    return 1 / (1 + exp(-x))


# Cross-Modal Feature Rectification


def test_eq_1_adapts_the_normalised_tokens_of_every_stage_by_its_own_linear_map() -> None:
    model = method(neighborhood=1)
    token = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])  # mean 0, deviation 1: its own norm
    model.stage_features = lambda features: [token.repeat(1, 2, 1) * k for k in (1, 2, 3, 4)]  # type: ignore[method-assign]
    for k, adapter in enumerate(model.visual_adapters):
        fill(adapter, weight=[[k + 1.0] + [0.0] * 7, [0.0, 1.0] + [0.0] * 6], bias=[10.0, 20.0])
    found = model.visual_features(PrefixFeatures((1, 1), (4, 4), torch.zeros(1, 1, 2, 8)))
    expected = torch.tensor([[11.0, 19.0], [12.0, 19.0], [13.0, 19.0], [14.0, 19.0]])
    torch.testing.assert_close(found, expected[None, :, None].expand(1, 4, 2, 2), atol=1e-3, rtol=0)


def test_eq_1_begins_as_the_projection_of_the_tower() -> None:
    model, x = method(image_prompts=False, unified_prompts=False, neighborhood=1), images()
    last = walk(towers().visual.blocks, towers().visual.embed(x))[0]
    torch.testing.assert_close(model.visual_features(model.encode(x))[:, 3], towers().visual.head(last))


def test_eq_2_adapts_a_normal_an_abnormal_and_a_stateless_sentence() -> None:
    model = method()
    fill(model.text_adapter, weight=[[0.0, 2.0], [1.0, 0.0]], bias=[0.5, -1.0])
    sentences = ["a photo of a normal metal nut", "a photo of a defective metal nut", "a photo of a metal nut"]
    x, y = towers().text(*towers().tokenizer(sentences)).unbind(1)
    expected = torch.stack([2 * y + 0.5, x - 1], 1)
    torch.testing.assert_close(model.text_features(["metal_nut"])[0], expected)


@pytest.mark.parametrize(
    ("visual", "weight"),
    [
        (2.0, 4 * sigma(0) + 1),  # 3 * 2 - 5 + 1 = 2; 0.5 * 2 - 1 = 0
        (-2.0, 4 * sigma(-1) + 1),  # 3 * -2 - 5 + 1 = -10, cut to 0; -1
    ],
)
def test_eq_3_to_6_rectify_the_stateless_text_by_what_the_image_says(visual: float, weight: float) -> None:
    module = Rectification(1)
    fill(module, conv1__weight=[[3.0, 5.0]], conv1__bias=[1.0], conv2__weight=[[0.5]], conv2__bias=[-1.0])
    fill(module, linear__weight=[[4.0]], linear__bias=[1.0])
    found = module(torch.tensor([[[[visual]]]]), torch.tensor([[-1.0]]))
    assert found.item() == pytest.approx(-1 + visual * weight)


def test_eq_5_computes_only_the_half_that_is_read_one_weight_per_channel() -> None:
    module = Rectification(2)
    fill(module, linear__weight=[[0.0, 0.0], [0.0, 0.0]], linear__bias=[2.0, 3.0])
    found = module(torch.tensor([[[[10.0, 100.0]]]]), torch.tensor([[1.0, 1.0]]))
    assert found.flatten().tolist() == [21.0, 301.0]
    assert Rectification(2).linear.weight.shape == (2, 2)  # M_v alone; with M_t it would be (4, 2)


def test_eq_6_and_10_every_image_has_its_own_stateless_text() -> None:
    module = Rectification(2)
    fill(module, linear__weight=[[0.0, 0.0], [0.0, 0.0]], linear__bias=[1.0, 1.0])
    found = module(torch.ones(2, 4, 3, 2), torch.tensor([[1.0, 0.0], [5.0, 7.0]]))
    assert found[0].unique(dim=0).shape[0] == 1 and found[0, 0, 0].tolist() == [2.0, 1.0]
    assert found[1, 3, 2].tolist() == [6.0, 8.0]


# Text-on-text anomaly scoring

NORMAL_ABNORMAL_STATELESS = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])  # cosines are the unit coordinates
TOKENS = torch.tensor([[2.0, 3.0], [0.0, -1.0], [2.0, -1.0], [-1.0, 2.0], [-1.0, -1.0 + 1e-4]])  # CLS, four patches


def rectified(**switches: object) -> tuple[AFRCLIP, PrefixFeatures]:
    """Tokens of all stages are TOKENS and M_v is 1: the rectified texts are TOKENS + (1, 1)."""
    model, features = worked(TOKENS.expand(4, 5, 2), NORMAL_ABNORMAL_STATELESS, (2, 2), **switches)
    assert model.rectification is not None
    fill(model.rectification, linear__weight=[[0.0, 0.0], [0.0, 0.0]], linear__bias=[1.0, 1.0])
    return model, features


def test_eq_7_to_9_score_the_rectified_cls_against_both_texts() -> None:
    model, features = rectified()
    score = model.score(features, GEAR).score.item()
    assert score == pytest.approx(sigma(4 / 5 - 3 / 5), abs=1e-6)  # (2, 3) + (1, 1) = (3, 4): cosines 3/5 and 4/5


def test_eq_10_to_13_score_every_rectified_patch_against_both_texts() -> None:
    model, features = rectified()
    p = model.score(features, GEAR).map.flatten().tolist()  # at patch resolution
    assert p[:3] == pytest.approx([sigma(-1), sigma(-1), sigma(1)], abs=1e-6)  # (1, 0), (3, 0), (0, 3)
    assert p[3] == pytest.approx(sigma(1), abs=1e-3)  # (0, 1e-4)


def test_eq_14_lays_patches_out_row_by_row_and_interpolates_between_their_centres() -> None:
    model, features = worked(TOKENS.expand(4, 5, 2), NORMAL_ABNORMAL_STATELESS, (4, 4), cmfr=False)
    values = torch.tensor([[-2.0, 0.0], [-1.0, 2.0]])
    model.logits = lambda *_: torch.stack(  # type: ignore[method-assign]
        [torch.zeros(1, 4, 5), torch.cat([torch.zeros(1), values.flatten()]).expand(1, 4, 5)], -1
    )
    (a, b), (c, d) = values.sigmoid().tolist()
    found = model.score(features, GEAR).map[0]
    assert found[0, 0].item() == pytest.approx(a) and found[0, 3].item() == pytest.approx(b)
    assert found[3, 0].item() == pytest.approx(c) and found[3, 3].item() == pytest.approx(d)
    assert found[0, 1].item() == pytest.approx(0.75 * a + 0.25 * b)
    assert found[1, 0].item() == pytest.approx(0.75 * a + 0.25 * c)


def test_the_result_is_the_mean_of_the_probabilities_of_four_stages() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])[:, None].expand(4, 5, 2)
    model, features = worked(rows, NORMAL_ABNORMAL_STATELESS, (2, 2), cmfr=False)
    made = model.score(features, GEAR)
    assert made.score.item() == pytest.approx((sigma(-1) + 3 * sigma(1)) / 4)
    assert made.map.flatten().tolist() == pytest.approx([(sigma(-1) + 3 * sigma(1)) / 4] * 4)


# Self Prompting


def test_eq_15_is_one_linear_map_per_prompt_of_the_cnns_vector() -> None:
    module = SelfPrompting(Config(prompt_count=2, cnn="resnet18", unified_prompts=False), torch.zeros(2, 1))
    for k, adapter in enumerate(module.adapters):
        fill(adapter, weight=[[1.0 + k, 10.0]], bias=[0.5])
    found = module(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    assert found.tolist() == [[[21.5], [22.5]], [[3.5], [6.5]]]


def test_eq_16_adds_the_learned_prompts() -> None:
    module = SelfPrompting(Config(prompt_count=2, cnn="resnet18"), torch.zeros(2, 1))
    for adapter in module.adapters:
        fill(adapter, weight=[[1.0]], bias=[0.0])
    fill(module, unified=[[0.25], [0.75]])
    assert module(torch.tensor([[1.0], [2.0]])).tolist() == [[[1.25], [1.75]], [[2.25], [2.75]]]


def prompted_by_hand(model: AFRCLIP, x: Tensor, numbers: range) -> list[Tensor]:
    """The tower block by block, the last five tokens before the blocks `numbers` overwritten."""
    visual = towers().visual
    prompts = model.prompting(images())  # type: ignore[misc]
    tokens, ends = visual.embed(x, resize="bilinear"), []
    for i, block in enumerate(visual.blocks, start=1):
        if i in numbers:
            tokens = torch.cat([tokens[:, : 17 - 5], prompts], 1)
        tokens = block(tokens)
        if i % 6 == 0:
            ends.append(tokens)
    return ends


def test_eq_17_leaves_the_first_block_as_it_is_and_keeps_its_output() -> None:
    visual = towers().visual
    kept = method().encode(images()).tokens
    torch.testing.assert_close(kept, visual.blocks[0](visual.embed(images()))[:, None])


@pytest.mark.parametrize(("stages", "last"), [((1,), 6), ((1, 2), 12), ((1, 2, 3), 18), ((1, 2, 3, 4), 24)])
def test_eq_18_overwrites_the_last_tokens_before_every_later_block_of_the_prompted_stages(
    stages: tuple[int, ...], last: int
) -> None:
    model = method(prompted_stages=stages)
    fill(model.prompting, unified=torch.randn(5, 8).tolist())  # type: ignore[arg-type]
    found = model.stage_features(model.encode(images()))
    for ours, expected in zip(found, prompted_by_hand(model, images(), range(2, last + 1)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_later_stage_alone_keeps_the_stages_before_it() -> None:
    model = method(prompted_stages=(2,))
    features = model.encode(images())
    assert features.tokens.shape == (2, 1, 17, 8)  # after block 6, the end of stage 1
    for ours, expected in zip(
        model.stage_features(features), prompted_by_hand(model, images(), range(7, 13)), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("switches", [{}, {"unified_prompts": False}, {"image_prompts": False}])
def test_prompts_begin_as_what_is_there_in_a_blank_image(switches: dict[str, bool]) -> None:
    model, blank = method(**switches), torch.zeros(1, 3, 16, 16)
    assert model.prompting is not None
    prompts = model.prompting(blank if model.config.image_prompts else None)
    torch.testing.assert_close(prompts.reshape(5, 8), model.encode(blank).tokens[0, 0, -5:], atol=0.05, rtol=0)


# Multi-Patch Feature Aggregation


def test_eq_19_to_21_average_the_neighbours_that_there_are_row_by_row() -> None:
    patches = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 6, 1) * torch.tensor([1.0, 10.0])
    found = aggregate(patches, (2, 3), 3)[0]
    expected = [3.0, 3.5, 4.0, 3.0, 3.5, 4.0]  # corners (1+2+4+5)/4 and (2+3+5+6)/4, the middle 21/6
    assert found[:, 0].tolist() == pytest.approx(expected)
    assert found[:, 1].tolist() == pytest.approx([10 * value for value in expected])


def test_eq_20_with_m_5_reaches_two_patches_far() -> None:
    patches = torch.zeros(1, 7, 1)
    patches[0, 0] = 12.0
    assert aggregate(patches, (1, 7), 5).flatten().tolist() == pytest.approx([4.0, 3.0, 2.4, 0, 0, 0, 0])


def test_cls_is_not_aggregated() -> None:
    one, three = (method(neighborhood=m) for m in (1, 3))
    features = one.encode(images())
    a, b = one.visual_features(features), three.visual_features(features)
    assert torch.equal(a[:, :, 0], b[:, :, 0])
    torch.testing.assert_close(b[:, 3, 1:], aggregate(a[:, 3, 1:], (4, 4), 3))


# Switches of the ablation tables


def test_without_cmfr_the_image_itself_is_compared_with_the_texts() -> None:
    model, features = worked(TOKENS.expand(4, 5, 2), NORMAL_ABNORMAL_STATELESS, (2, 2), cmfr=False)
    assert model.rectification is None
    p = model.score(features, GEAR).map.flatten().tolist()
    assert p[0] == pytest.approx(sigma(-1)) and p[2] == pytest.approx(sigma(3 / 5**0.5))  # (0, -1) and (-1, 2)


def test_without_both_prompts_the_tower_is_as_it_is_and_wholly_kept() -> None:
    model = method(image_prompts=False, unified_prompts=False)
    assert model.prompting is None
    features = model.encode(images())
    visual = towers().visual
    _, tapped = walk(visual.blocks, visual.embed(images()), (6, 12, 18, 24))
    torch.testing.assert_close(features.tokens, torch.stack(list(tapped.values()), 1))
    assert features.local is None


def test_either_kind_of_prompt_can_be_left_out_and_begins_alike() -> None:
    image, unified = method(unified_prompts=False), method(image_prompts=False)
    assert not any("unified" in name for name in image.state_dict())
    assert {name for name in unified.state_dict() if "prompting" in name} == {"prompting.unified"}
    assert unified.encode(images()).local is None
    a, b = (model.stage_features(model.encode(images()))[0] for model in (image, unified))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)  # P_v begins with weights near zero


def test_the_number_of_prompts_is_that_of_the_tokens_and_adapters() -> None:
    model = method(prompt_count=3)
    assert model.prompting is not None and model.prompting.unified is not None
    assert model.prompting.unified.shape == (3, 8) and len(model.prompting.adapters) == 3


def test_more_prompts_than_patches_are_refused() -> None:
    with pytest.raises(ZsadError, match=r"prompt_count=5 .* only 2 x 2"):
        method().encode(images(side=8))
    with pytest.raises(ZsadError, match=r"only 4 x 4"):
        method(prompt_count=17).encode(images())


def test_a_tower_without_room_in_a_stage_is_refused() -> None:
    visual = ViT(ViTSize(width=8, depth=4, heads=2, patch=4, grid=4, output=2))
    with pytest.raises(ZsadError, match="prompted_stages"):
        AFRCLIP(CLIP(visual, towers().text, towers().tokenizer))
    AFRCLIP(CLIP(visual, towers().text, towers().tokenizer), Config(prompted_stages=(2,)))


def test_temperature_divides_the_cosines_and_sigma_blurs_the_map() -> None:
    model, features = rectified(temperature=0.1)
    assert model.score(features, GEAR).score.item() == pytest.approx(sigma(2.0), abs=1e-5)
    plain, _ = rectified()
    blurred, _ = rectified(sigma=1.0)
    assert plain.score(features, GEAR).map.std() > 2 * blurred.score(features, GEAR).map.std() > 0


def test_loss_terms_can_be_left_out() -> None:
    masks, labels = torch.zeros(2, 16, 16, dtype=torch.bool), torch.tensor([0, 1])
    for losses in (("image",), ("focal", "dice")):
        model = method(losses=losses)
        assert set(model.loss(model.encode(images()), masks, labels)) == set(losses)


def test_the_image_loss_is_the_mean_cross_entropy_of_cls_over_the_stages() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])[:, None].expand(4, 5, 2)
    model, features = worked(rows, NORMAL_ABNORMAL_STATELESS, (2, 2), cmfr=False)
    loss = model.loss(features, torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([1]), GEAR)["image"]
    assert loss.exp().item() ** 4 == pytest.approx(1 / (sigma(-1) * sigma(1) ** 3), rel=1e-5)


def test_pixel_losses_are_lower_where_the_map_agrees_with_the_mask() -> None:
    model, features = rectified()
    mask = torch.tensor([[[False, False], [True, True]]])  # as the map of TOKENS
    right, wrong = (model.loss(features, m, torch.tensor([1]), GEAR) for m in (mask, ~mask))
    assert right["focal"] < wrong["focal"] and right["dice"] < wrong["dice"]


def test_dice_counts_the_abnormal_and_the_normal_side() -> None:
    model, features = worked(torch.tensor([0.0, 1.0]).expand(4, 5, 2), NORMAL_ABNORMAL_STATELESS, (2, 2), cmfr=False)
    loss = model.loss(features, torch.tensor([[[True, True], [False, False]]]), torch.tensor([1]), GEAR)["dice"]
    sides = [1 - (2 * 2 * q + 1) / (4 * q + 2 + 1) for q in (sigma(1), sigma(-1))]
    assert loss.item() == pytest.approx(sum(sides))


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_images() -> None:
    model = method()
    features, labels = model.encode(images()), torch.tensor([0, 1])
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[1, :8] = True
    both = model.loss(features, masks, labels)
    single = [model.loss(features[i : i + 1], masks[i : i + 1], labels[i : i + 1]) for i in range(2)]
    for name, term in both.items():
        torch.testing.assert_close(term, (single[0][name] + single[1][name]) / 2)


@pytest.mark.parametrize(
    "bad",
    [
        *({"losses": ()}, {"losses": ("pixel",)}, {"cnn": "vgg"}, {"prompted_stages": ()}, {"prompted_stages": (5,)}),
        *({"neighborhood": 2}, {"neighborhood": 0}, {"prompt_count": 0}, {"temperature": 0.0}, {"sigma": -1.0}),
    ],
)
def test_impossible_switches_are_refused_by_name(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match=f"afrclip: {next(iter(bad))} takes"):
        Config(**bad)  # type: ignore[arg-type]


# Class names


def test_each_image_gets_the_prompts_of_its_own_class_whatever_its_batch_mates() -> None:
    torch.manual_seed(0)
    model = AFRCLIP(weights.load("tiny"))
    x = torch.randn(1, 3, 64, 64).repeat(3, 1, 1, 1)
    made = model.predict(x, ["wooden plank", "gear", "wooden plank"])
    assert not torch.allclose(made.map[0], made.map[1], atol=1e-5)
    torch.testing.assert_close(made.map[0], made.map[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.predict(x[:1], GEAR).map[0], made.map[1], atol=1e-6, rtol=0)


def test_without_names_and_without_class_awareness_the_word_is_object() -> None:
    model, blind = method(), method(class_aware=False, abnormal_word="broken")
    features = model.encode(images())
    assert torch.equal(model.score(features).map, model.score(features, ["object"] * 2).map)
    assert torch.equal(blind.score(features).map, blind.score(features, ["gear", "screw"]).map)
    assert blind.sentences("gear") == (
        "a photo of a normal object",
        "a photo of a broken object",
        "a photo of a object",
    )


def test_a_wrong_number_of_names_is_refused() -> None:
    model = method()
    with pytest.raises(ZsadError, match="1 class names for 2 images"):
        model.score(model.encode(images()), GEAR)


def test_the_texts_of_a_name_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = method(), []
    monkeypatch.setattr(type(model), "sentences", lambda self, name: asked.append(name) or (name, name, name))
    model.text_features(["gear", "screw", "gear", "gear"])
    assert sorted(asked) == ["gear", "screw"]


# CNNs


def test_the_small_cnn_is_small_learned_and_sees_each_image_alone() -> None:
    model = cnn.SmallCNN()
    assert sum(p.numel() for p in model.parameters()) < 100_000
    x = images(3, 40)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))
    assert model(x).shape == (3, cnn.SmallCNN.width)
    assert any(name.startswith("prompting.cnn.") for name, _ in method().named_parameters())


def huggingface_resnet() -> torch.nn.Module:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
    model = ResNetModel(config).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "normalization.weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "normalization.bias")):
            value.normal_(std=0.2)
    return model


def torchvision_name(name: str) -> str:
    """The name that torchvision gives to a tensor of Hugging Face's ResNetModel."""
    for old, new in (
        *(("embedder.embedder.convolution", "conv1"), ("embedder.embedder.normalization", "bn1")),
        *((f"encoder.stages.{i}.layers", f"layer{i + 1}") for i in range(4)),
        *((f"layer.{i}.convolution", f"conv{i + 1}") for i in range(2)),
        *((f"layer.{i}.normalization", f"bn{i + 1}") for i in range(2)),
        *(("shortcut.convolution", "downsample.0"), ("shortcut.normalization", "downsample.1")),
    ):
        name = name.replace(old, new)
    return name


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[UrlFile, torch.nn.Module]:
    """A file as torchvision publishes it, classifier included, and the model whose weights it holds."""
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    model = huggingface_resnet()
    state = {torchvision_name(name): value for name, value in model.state_dict().items()}
    path = tmp_path / "resnet18-made.pth"
    torch.save({**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, path)
    return UrlFile(path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()), model


def test_resnet_18_is_that_of_transformers_on_any_size(published: tuple[UrlFile, torch.nn.Module]) -> None:
    source, expected = published
    model = cnn.load_resnet18(torch.device("cpu"), source)
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    for height, width in ((64, 64), (67, 45)):
        x = torch.randn(2, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(model(x), expected(x).pooler_output.flatten(1), atol=1e-5, rtol=1e-5)


def test_the_frozen_resnet_reads_imagenet_colours_and_belongs_to_the_features(
    published: tuple[UrlFile, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, expected = published
    loaded = cnn.load_resnet18(torch.device("cpu"), source)
    monkeypatch.setattr("zsad.methods.afrclip.load_resnet18", lambda device: loaded)
    model = method(cnn="resnet18")
    own_mean, own_std = (torch.tensor(value)[:, None, None] for value in (towers().mean, towers().std))
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
    features = model.encode(images(side=32))
    with torch.no_grad():
        colours = images(side=32) * own_std + own_mean
        wanted = expected((colours - mean) / std).pooler_output.flatten(1)
    torch.testing.assert_close(features.local, wanted, atol=1e-4, rtol=1e-4)
    assert not any("cnn" in name for name in model.state_dict()) and len(features[:1].local) == 1  # type: ignore[arg-type]
    assert model.score(features, GEAR * 2).map.shape == (2, 32, 32)


def test_a_resnet_that_is_not_to_be_had_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ZsadError, match=r"resnet18-f37072fd.pth .*offline(.|\n)*cnn=small"):
        method(cnn="resnet18")


def test_a_file_with_other_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "cache"))
    torch.save({"surprise": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ZsadError, match="does not hold the tensors of ResNet-18"):
        cnn.load_resnet18(torch.device("cpu"), UrlFile((tmp_path / "other.pth").as_uri()))


def test_the_hash_of_the_published_file_begins_as_its_name_says() -> None:
    assert cnn.RESNET18.sha256 is not None and len(cnn.RESNET18.sha256) == 64
    assert cnn.RESNET18.url.endswith(f"-{cnn.RESNET18.sha256[:8]}.pth")
