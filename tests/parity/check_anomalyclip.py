"""AnomalyCLIP against its released code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step, later_steps
from zsad.backbones.vit import resize_positions
from zsad.maps import probabilities, upsample
from zsad.methods.anomalyclip import AnomalyCLIP, Config
from zsad.methods.features import TowerFeatures
from zsad.methods.streams import SELF_ATTENTION, side_streams

FOUR = (6, 12, 18, 24)
LEARNED = {"normal_context": "ctx_pos", "anomalous_context": "ctx_neg"} | {
    f"deep.sets.{i}": f"compound_prompts_text.{i}" for i in range(8)
}
TRAININGS = {
    "train": {"layers": FOUR},
    "train_last_layer_only": {},
    "train_without_half_cast": {"layers": FOUR, "half_deep_tokens": False},
}


def method(golden: Golden, **switches: object) -> AnomalyCLIP:
    """With the learned tensors of the run."""
    model = AnomalyCLIP(golden.clip(), Config(**switches))  # type: ignore[arg-type]
    theirs = golden.learned()
    model.load_state_dict({ours: theirs[name].reshape(theirs[name].shape[-2:]) for ours, name in LEARNED.items()})
    return model


def last(features: TowerFeatures) -> TowerFeatures:
    """The same features with the patches of the last layer only."""
    return replace(features, patches=features.patches[:, -1:])


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, text, maps and scores; the inside of both towers; then each recorded training."""
    four, one = method(golden, layers=FOUR), method(golden)
    features = four.encode(golden.images())
    yield from inference(golden, four, one, features)
    yield from inside(golden, one)
    for group, switches in TRAININGS.items():
        if golden.has(f"{group}/"):
            model, seen = method(golden, **switches), features if "layers" in switches else last(features)
            yield from training(golden, group, model, seen, FOUR if "layers" in switches else (24,))
            yield from later_steps(golden, group, method(golden, **switches), seen)


@torch.no_grad()
def inference(golden: Golden, four: AnomalyCLIP, one: AnomalyCLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """What a test run of the released code gives."""
    text = four.text_features(["object"])[0]
    yield from golden.against("image_feature/raw", features.image)
    yield from golden.against("image_feature/normalised", F.normalize(features.image, dim=-1))
    yield from golden.against("text_features/raw", text)
    yield from golden.against("text_features/normalised", F.normalize(text, dim=-1))
    yield from golden.against("image_probability", probabilities(features.image, text))
    for layer, patches in zip(FOUR, features.patches.unbind(1), strict=True):
        p = probabilities(patches, text)
        yield from golden.against(f"patch_probability/layer{layer}", p)
        yield from golden.against(f"upsampled_map/layer{layer}", upsample(p, features.grid, features.size)[:, 1])
    yield from golden.against("image_score", four.score(features).score)
    for name, model, seen in (("map", four, features), ("map_last_layer_only", one, last(features))):
        raw = AnomalyCLIP(model.backbone, replace(model.config, sigma=0.0))
        raw.load_state_dict(model.state_dict())
        yield from golden.against(f"{name}/before_gaussian", raw.score(seen).map)
        yield from golden.against(f"{name}/after_gaussian", model.score(seen).map)
    four_times_the_last = 4 * one.score(last(features)).map
    yield from golden.against("initial_release/map_after_gaussian", four_times_the_last)


@torch.no_grad()
def inside(golden: Golden, model: AnomalyCLIP) -> Iterator[Quantity]:
    """Both streams of the image tower, and the text tower block by block."""
    visual, images = model.backbone.visual, golden.images()
    x, resized = visual.embed(images, resize="bilinear"), resize_positions(visual.positions, visual.grid(images))
    yield from golden.against("vision/positional_embedding_resized", resized)
    yield from golden.against("vision/ln_pre_out", x[:1])
    for step in side_streams(visual.blocks, x, {"vv": SELF_ATTENTION["vv"]}, 6):
        i, side = step.number, step.sides["vv"]
        yield from golden.against(f"vision/block{i}_single", step.after[:1])
        yield from golden.against(f"vision/block{i}_original_stream", step.after[:1])
        yield from golden.against(f"vision/block{i}_patch_stream", side[:1])
        yield from golden.against(f"patch_features/layer{i}", visual.head(side))


def training(
    golden: Golden, group: str, model: AnomalyCLIP, features: TowerFeatures, layers: tuple[int, ...]
) -> Iterator[Quantity]:
    """Losses, gradients and the first step; local terms are sums over the layers, times 4."""
    terms = model.loss(features, *golden.truth())
    yield from golden.against(f"{group}/loss/image_cross_entropy", terms["global"], "loss")
    local = terms["focal"] + terms["dice"]
    yield from golden.against(f"{group}/loss/local_sum_times_lambda", local, "loss")
    yield from golden.against(f"{group}/loss/local_sum_unweighted", local / 4, "loss")
    yield from golden.against(f"{group}/loss/total", torch.stack(list(terms.values())).sum(), "loss")
    for ours, theirs in (("focal", ["focal"]), ("dice", ["dice_abnormal", "dice_normal"])):
        names = [f"{group}/loss/{kind}/layer{layer}" for kind in theirs for layer in layers]
        if not all(name in golden for name in names):
            continue
        told = torch.stack([golden.array(name) for name in names]).sum()
        gap = abs(terms[ours].item() / 4 / told.item() - 1)
        golden.compared.update(names)
        yield Quantity(f"{group}/loss/{ours}", gap, "loss")
    for name, (gradient, change) in first_step(model, terms).items():
        yield from golden.against(f"{group}/grad/{LEARNED[name]}", gradient, "gradient")
        yield from golden.against(f"{group}/grad.l2/{LEARNED[name]}", gradient.norm(), "gradient")
        yield from golden.against(f"{group}/step_delta_l2/{LEARNED[name]}", change.norm(), "step")
