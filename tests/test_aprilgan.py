"""APRIL-GAN: its rules worked out by hand; the contract and the released numbers are tested elsewhere."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.check_aprilgan import quantities
from tests.parity.golden import FOLDER, Golden
from tests.test_released import aprilgan_layout
from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import walk
from zsad.errors import ZsadError
from zsad.methods.aprilgan import APRILGAN, Config, LayerFeatures, sentences
from zsad.methods.conversion import convert


@cache
def backbone() -> CLIP:
    return weights.load("tiny")


def method(**switches: Any) -> APRILGAN:
    torch.manual_seed(0)
    return APRILGAN(backbone(), Config(**switches)).eval()


def images(count: int = 2, height: int = 64, width: int = 80) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def silent(model: APRILGAN) -> APRILGAN:
    """With adapters that say nothing: every cosine is 0, every probability 1/2."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


# Sentences


@pytest.mark.parametrize("name", ["bottle", "metal nut", "metal_nut"])
def test_the_sentences_are_the_released_ones_in_their_order(name: str) -> None:
    told = Golden.read(FOLDER / "golden", "aprilgan").notes["prompts"][name]
    for theirs, ours in zip(("normal", "abnormal"), sentences(name), strict=True):
        assert len(ours) == told[f"{theirs}_count"]
        assert hashlib.sha256("\n".join(ours).encode()).hexdigest() == told[f"{theirs}_sha256"]


def test_every_image_is_compared_with_the_sentences_of_its_own_name() -> None:
    model = method()
    features = model.encode(images())
    mixed, gears = model.score(features, ["gear", "cork"]), model.score(features, ["gear", "gear"])
    assert torch.equal(mixed.map[0], gears.map[0]) and torch.equal(mixed.score[0], gears.score[0])
    assert not torch.equal(mixed.map[1], gears.map[1]) and not torch.equal(mixed.score[1], gears.score[1])


def test_without_names_the_word_is_object() -> None:
    model = method()
    features = model.encode(images())
    assert torch.equal(model.score(features).map, model.score(features, ["object", "object"]).map)


def test_training_reads_the_names_too() -> None:
    model = method()
    features, masks, labels = model.encode(images()), torch.zeros(2, 64, 80, dtype=torch.bool), torch.tensor([0, 0])
    named, other = (model.loss(features, masks, labels, [name, "cork"]) for name in ("gear", "screw"))
    assert named["focal"] != other["focal"] and named["dice"] != other["dice"]


# Features


def test_patches_are_what_the_blocks_give_and_cls_has_norm_and_projection() -> None:
    model, visual = method(), backbone().visual
    features = model.encode(images())
    x, taps = walk(visual.blocks, visual.embed(images(), resize="bicubic_antialias"), (2, 3, 5, 6))
    for i, block in enumerate((2, 3, 5, 6)):
        assert torch.equal(features.patches[:, i], taps[block][:, 1:])
    assert torch.equal(features.image, visual.norm(x[:, 0]) @ visual.proj)


def test_adapters_follow_the_order_of_the_layers() -> None:
    one, other = method(layers=(6, 24)).encode(images()), method(layers=(24, 6)).encode(images())
    assert torch.equal(one.patches, other.patches.flip(1))


def test_openai_s_towers_run_with_the_exact_gelu_unless_switched_off() -> None:
    openai = backbone().acting("quick_gelu")
    for switch, acting in (("gelu", "gelu"), ("quick_gelu", "quick_gelu"), ("", "quick_gelu")):
        towers = APRILGAN(openai, Config(activation=switch)).backbone
        assert (towers.visual.size.activation, towers.text.size.activation) == (acting, acting)
        assert towers.visual.proj is openai.visual.proj
    assert openai.visual.size.activation == "quick_gelu"


# Score and map


def test_the_image_score_is_the_softmax_of_cls_and_no_adapter_changes_it() -> None:
    model = method()
    features = model.encode(images())
    text = F.normalize(model.text_features(2, ["gear", "gear"])[0], dim=-1)
    logits = 100 * F.normalize(features.image, dim=-1) @ text.T
    score = model.score(features, ["gear", "gear"]).score
    torch.testing.assert_close(score, logits.softmax(-1)[:, 1])
    assert torch.equal(silent(model).score(features, ["gear", "gear"]).score, score)


def test_logits_are_upsampled_with_aligned_corners_before_the_softmax() -> None:
    model = method(layers=(24,), temperature=1.0)
    patches, text = torch.randn(1, 1, 6, 256), torch.randn(1, 2, 128)
    features = LayerFeatures((2, 3), (5, 9), torch.randn(1, 128), patches)
    adapted = F.normalize(model.adapters[0](patches[0, 0]), dim=-1)
    cosines = (adapted @ F.normalize(text[0], dim=-1).T).T.reshape(1, 2, 2, 3)
    pixels = F.interpolate(cosines, size=(5, 9), mode="bilinear", align_corners=True).softmax(1)
    torch.testing.assert_close(model.maps(features, text)[0], pixels)


def test_the_map_is_the_sum_of_those_of_the_layers() -> None:
    both, x = method(layers=(12, 24)), images()
    total = torch.zeros(2, 64, 80)
    for i, layer in enumerate((12, 24)):
        one = method(layers=(layer,))
        one.adapters[0] = both.adapters[i]
        total = total + one.predict(x).map
    torch.testing.assert_close(both.predict(x).map, total)
    assert both.map_range == (0.0, 2.0)


def test_the_temperature_divides_the_cosines_of_cls_and_patches() -> None:
    cold, warm = method(), method(temperature=1.0)
    features, text = cold.encode(images()), cold.text_features(2, None)
    torch.testing.assert_close(cold.logits(features, text)[0], 100 * warm.logits(features, text)[0])
    assert (warm.score(features).score - 0.5).abs().max() < (cold.score(features).score - 0.5).abs().max()


# Loss


def test_the_loss_is_focal_and_dice_of_the_anomalous_side_summed_over_the_layers() -> None:
    model = silent(method())
    masks = torch.zeros(1, 64, 80, dtype=torch.bool)
    masks[0, :16, :20] = True
    pixels, marked = 64 * 80, 16 * 20
    terms = model.loss(model.encode(images(1)), masks, torch.tensor([1]))
    assert terms.keys() == {"focal", "dice"}
    assert terms["focal"].item() == pytest.approx(4 * 0.25 * math.log(2), rel=1e-4)
    assert terms["dice"].item() == pytest.approx(4 * (1 - (marked + 1) / (pixels / 2 + marked + 1)), rel=1e-4)


# Config and released files


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ({"layers": ()}, "layers takes different blocks"),
        ({"layers": (6, 25)}, "counted from 1 to 24"),
        ({"layers": (6, 6)}, "different"),
        ({"temperature": 0.0}, "temperature is above 0"),
        ({"activation": "relu"}, 'activation is one of gelu, quick_gelu, or "" for the backbone.s own; got .relu'),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(switches: dict[str, Any], told: str) -> None:
    with pytest.raises(ZsadError, match=told):
        Config(**switches)


def test_a_file_with_another_number_of_layers_is_taken_when_they_are_told(tmp_path: Path) -> None:
    made = aprilgan_layout(256, 128, 2)
    torch.save(made, tmp_path / "a.pth")
    with pytest.raises(ZsadError, match=r"missing.*adapters\.2"):
        convert(tmp_path / "a.pth", "aprilgan", backbone())
    found = convert(tmp_path / "a.pth", "aprilgan", backbone(), layers=(12, 24))
    for i in range(2):
        assert torch.equal(found.adapters[i].weight, made["trainable_linearlayer"][f"fc.{i}.weight"])
        assert torch.equal(found.adapters[i].bias, made["trainable_linearlayer"][f"fc.{i}.bias"])


def test_an_unexpected_tensor_of_a_released_file_is_named_as_it_is_there() -> None:
    made = aprilgan_layout(256, 128, 2)
    made["trainable_linearlayer"]["fc.0.scale"] = torch.zeros(1)
    with pytest.raises(ZsadError, match=r'unexpected tensor "fc\.0\.scale"'):
        APRILGAN.released_state(made)


def test_a_folder_with_two_arrays_of_the_released_code_is_compared_as_far_as_it_goes() -> None:
    whole = Golden.read(FOLDER / "golden", "aprilgan")
    kept = {name: whole.arrays[name] for name in ("bottle/map", "quick_gelu/bottle/image_score")}
    rows = list(quantities(Golden("aprilgan", whole.notes, kept)))
    assert {row.name for row in rows} == kept.keys() and all(row.holds for row in rows)
