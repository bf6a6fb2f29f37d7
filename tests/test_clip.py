"""CLIP and CLIP-AC against Hugging Face's CLIP and SciPy, on random weights, in float32.

Tolerance 1e-5: both sides compute the same sums in another order.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from tests.parity.golden import pieces
from tests.test_backbones import clip_model, ours
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import resize_positions
from zsad.errors import ZsadError
from zsad.methods.anomalyclip import AnomalyCLIP
from zsad.methods.anomalyclip import Config as AnomalyCLIPConfig
from zsad.methods.clip import CLIPAC, ACConfig, Config, ZeroShotCLIP
from zsad.methods.prompts import sentence_parts

START, END = 97, 98  # of 99 tokens


class Hashed:
    """A tokenizer whose ids are drawn from the words themselves."""

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [[START, *(zlib.crc32(word.encode()) % START for word in pieces(text)), END] for text in texts]
        ids = torch.tensor([row + [0] * (max(map(len, rows)) - len(row)) for row in rows])
        return ids, torch.tensor([len(row) - 1 for row in rows])


@cache
def theirs() -> nn.Module:
    model = clip_model()
    model.logit_scale.data.fill_(4.0)
    return model


@cache
def towers() -> CLIP:
    model = ours(theirs())
    model.tokenizer = Hashed()  # type: ignore[assignment]
    return model


def images(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))


def their_logits(*texts: str) -> Tensor:
    """[2, texts]: cosines times the trained scale, of Hugging Face's whole model."""
    return theirs()(input_ids=Hashed()(texts)[0], pixel_values=images()).logits_per_image  # type: ignore[no-any-return]


def their_patches() -> Tensor:
    """[2, 16, 40], normalised: each patch as the model treats CLS."""
    tower = theirs().vision_model
    x = tower.post_layernorm(tower(pixel_values=images()).last_hidden_state[:, 1:])
    return F.normalize(theirs().visual_projection(x), dim=-1)  # type: ignore[operator]


def their_text(*texts: str) -> Tensor:
    """[texts, 40], normalised."""
    made = theirs().get_text_features(input_ids=Hashed()(texts)[0])  # type: ignore[operator]
    return F.normalize(getattr(made, "pooler_output", made), dim=-1)


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_score_is_the_softmax_of_image_and_two_sentences() -> None:
    logits = their_logits("a photo of a normal metal nut", "a photo of an anomalous metal nut")
    own = ZeroShotCLIP(towers(), Config(temperature=0)).predict(images(), ["metal_nut"] * 2)
    same(own.score, logits.softmax(-1)[:, 1])
    fixed = ZeroShotCLIP(towers()).predict(images(), ["metal_nut"] * 2)
    same(fixed.score, (logits / theirs().logit_scale.exp() / 0.07).softmax(-1)[:, 1])


def test_the_map_is_the_same_of_each_patch_enlarged_and_blurred() -> None:
    text = their_text("a photo of a normal cork", "a photo of an anomalous cork")
    patches = (their_patches() @ text.T / 0.07).softmax(-1)[..., 1].reshape(2, 1, 4, 4)
    large = F.interpolate(patches, (32, 32), mode="bilinear", align_corners=False)[:, 0].numpy()
    expected = np.stack([gaussian_filter(one, 4) for one in large])
    same(ZeroShotCLIP(towers()).predict(images(), ["cork"] * 2).map, torch.from_numpy(expected))


@pytest.mark.parametrize("templates", ["imagenet", "imagenet_7"])
def test_the_text_of_clip_ac_is_the_mean_over_its_templates(templates: str) -> None:
    method = CLIPAC(towers(), ACConfig(templates=templates))
    for state, made in zip(("normal", "anomalous"), method.texts(["metal_nut"])[0], strict=True):
        sentences = [part.format(f"{state} metal nut") for part in sentence_parts("imagenet")[templates]]
        same(made, their_text(*sentences).mean(0))


def test_embeddings_can_be_averaged_as_they_are() -> None:
    states = {"normal": ("a whole {}", "a {} without flaw"), "anomalous": ("a broken {}",)}
    made = ZeroShotCLIP(towers(), Config(**states, normalised=False)).texts(["cork"])[0, 0]
    ids, end = Hashed()(["a whole cork", "a cork without flaw"])
    same(made, towers().text(ids, end).mean(0))  # type: ignore[misc]


def test_the_templates_are_the_published_ones() -> None:
    parts = sentence_parts("imagenet")
    digest = hashlib.sha256("\n".join(parts["imagenet"]).encode()).hexdigest()
    assert len(parts["imagenet"]) == 80
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    assert len(parts["imagenet_7"]) == 7 and set(parts["imagenet_7"]) < set(parts["imagenet"])


def test_a_sentence_names_the_object_without_underscores() -> None:
    assert ZeroShotCLIP(towers()).sentences("metal_nut") == [
        ["a photo of a normal metal nut"],
        ["a photo of an anomalous metal nut"],
    ]
    normal, anomalous = CLIPAC(towers()).sentences("metal_nut")
    assert normal[0] == "a bad photo of a normal metal nut." and anomalous[-1] == "a tattoo of the anomalous metal nut."


@pytest.mark.parametrize("kind", ["vv", "qq", "kk"])
def test_other_attention_gives_the_patches_of_anomalyclip(kind: str) -> None:
    """With CLS unnormed, these are all features of AnomalyCLIP; side streams begin in block 2 of 3 here."""
    x, layers = images(48), (8, 16, 24)
    config = Config(attention=kind, layers=layers, start=16, final_norm=False)
    features = ZeroShotCLIP(towers(), config).encode(x)
    expected = AnomalyCLIP(towers(), AnomalyCLIPConfig(attention=(kind,), layers=layers, start=16)).encode(x)
    same(features.patches, expected.patches)
    same(features.image, expected.image)
    plain = ZeroShotCLIP(towers(), Config(layers=layers)).encode(x)
    same(plain.patches[:, 0], features.patches[:, 0])
    assert (plain.patches[:, 1] - features.patches[:, 1]).abs().max() > 0.1


def test_maps_of_several_blocks_are_summed() -> None:
    maps = [ZeroShotCLIP(towers(), Config(layers=layers)).predict(images()).map for layers in ((8,), (24,), (8, 24))]
    same(maps[2], maps[0] + maps[1])
    assert ZeroShotCLIP(towers(), Config(layers=(8, 24))).map_range == (0.0, 2.0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "bicubic_antialias"])
def test_positions_are_resized_as_the_switch_says(mode: str) -> None:
    visual = towers().visual
    positions = resize_positions(visual.positions, (2, 2), mode)
    tokens = visual.patch_embed(images(16)).flatten(2).transpose(1, 2)
    x = visual.norm_pre(torch.cat([visual.cls.expand(2, 1, -1), tokens], 1) + positions)
    for block in visual.blocks:
        x = block(x)
    same(ZeroShotCLIP(towers(), Config(positions=mode)).encode(images(16)).image, visual.head(x[:, 0]))


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ({"attention": "qk"}, "attention is one of plain, vv, qq, kk"),
        ({"positions": "area"}, "positions is one of bilinear"),
        ({"templates": "cifar"}, "templates is one of imagenet, imagenet_7"),
        ({"layers": ()}, "layers takes different blocks, counted from 1 to 24"),
        ({"start": 0}, "start takes different blocks, counted from 1 to 24"),
        ({"temperature": -1.0}, "temperature and sigma are 0 or more"),
        ({"normal": ()}, "at least one sentence per state"),
        ({"normal": ("whole {}", "without flaw")}, r"every sentence has \{\} .* got 'without flaw'\. On .* \";\""),
        ({"anomalous": ("broken {name}",)}, r"every sentence has \{\} .* got 'broken \{name\}'"),
    ],
)
def test_a_switch_that_cannot_be_is_refused_with_what_can(switches: dict[str, object], told: str) -> None:
    with pytest.raises(ZsadError, match=f"clipac: {told}"):
        ACConfig(**switches)  # type: ignore[arg-type]
