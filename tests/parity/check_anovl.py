"""AnoVL against its released code.

Without a temperature the probabilities differ by thousandths, so they are compared times 100: 1e-4 means 1e-6 there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity import weights
from tests.parity.golden import Golden, Quantity, Words
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import resize_positions
from zsad.backbones.weights import from_tensors
from zsad.maps import cosines
from zsad.methods.anovl import AnoVL, Config, averaged
from zsad.methods.prompts import Ensemble

#: Image blocks of the variants; the published backbone has 12
DEPTHS = {"v12": 12, "v24": 24}


@cache
def towers(seed: int, depth: int) -> CLIP:
    """The narrow random CLIP with so many image blocks; exact GELU, as the published weights were trained with."""
    drawn = weights.clip_state_dict({**weights.SMALL, "vision_layers": depth}, seed)
    model = from_tensors({name: torch.as_tensor(value) for name, value in drawn.items()}).acting("gelu")
    return CLIP(model.visual, model.text, Words(), name="narrow", digest="")  # type: ignore[arg-type]


@cache
def ensemble(seed: int) -> Ensemble:
    """The sentences of every variant: text towers of one seed are the same. They are many, so they are encoded once."""
    return AnoVL(towers(seed, DEPTHS["v12"])).ensemble


def method(golden: Golden, variant: str, **switches: object) -> AnoVL:
    """On the backbone of a variant."""
    model = AnoVL(towers(golden.seed, DEPTHS[variant]), Config(**switches))  # type: ignore[arg-type]
    model.ensemble = ensemble(golden.seed)
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Positions, features, text, cosines, maps and scores of each variant."""
    for variant in DEPTHS:
        if golden.has(f"{variant}/"):
            yield from inference(golden, variant)


@torch.no_grad()
def inference(golden: Golden, variant: str) -> Iterator[Quantity]:
    """What a test run of the released code gives, without its adaptation."""
    model, images, names = method(golden, variant), golden.images(), golden.notes["class_names"]
    features, text = model.encode(images), model.ensemble(names).mean(2)

    def compared(name: str, ours: Tensor, scale: float = 1.0) -> Iterator[Quantity]:
        yield from golden.against(f"{variant}/{name}", scale * ours, scale=scale)

    visual = model.backbone.visual
    positions = resize_positions(visual.positions, visual.grid(images), "bicubic_antialias")
    yield from compared("pos_embed_interpolated", positions)
    yield from compared("text_features", F.normalize(text, dim=-1).transpose(1, 2))
    tokens = torch.cat([features.image[:, :1], features.patches], 1)
    yield from compared("image_tokens_normalised", F.normalize(tokens, dim=-1))
    patches = cosines(features.patches, text)
    yield from compared("patch_cosines", patches)
    yield from compared("patch_logit_diff", patches[..., 1] - patches[..., 0])
    yield from compared("cls_cosines", cosines(features.image[:, 0], text))
    p = patches.softmax(-1)[..., 1]
    yield from compared("map_patch_prob", p, 100)
    yield from compared("map_patch_after_pool", averaged(p, features.grid), 100)
    made, plain = model.score(features, names), method(golden, variant, augment=False)
    yield from compared("map_final", made.map, 100)
    yield from compared("image_score", made.score, 100)
    yield from compared("image_score_no_augmentation", plain.predict(images, names).score, 100)
