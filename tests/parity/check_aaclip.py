"""AA-CLIP against its released code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Golden, Quantity, difference
from tests.parity.steps import first_step
from zsad.backbones.vit import resize_positions
from zsad.methods.aaclip import AACLIP, BLURS, Config, TokenFeatures, blur, our_name, patch_scores

FOUR = (6, 12, 18, 24)


def names_of(golden: Golden) -> tuple[str, list[str]]:
    """The class of the test, and those of both images in training; the notes say them in words."""
    tested, trained = golden.notes.get("class_names", ("bottle", "candle for image 0, pcb2 for image 1"))
    return tested.split()[0], re.findall(r"(\S+) for image \d", trained)


def theirs(golden: Golden) -> dict[str, str]:
    """Released names of the learned tensors by ours."""
    last = sum(name.startswith("text_adapter.") for name in golden.learned()) - 1
    return {our_name(name, last): name for name in golden.learned()}


def method(golden: Golden, **switches: object) -> AACLIP:
    """With the learned tensors of the run."""
    model = AACLIP(golden.clip(), Config(**switches))  # type: ignore[arg-type]
    learned = golden.learned()
    model.load_state_dict({ours: learned[name] for ours, name in theirs(golden).items()})
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, anchors, maps and scores in both domains; then one step of both stages."""
    model, (tested, trained) = method(golden), names_of(golden)
    features = model.encode(golden.images())
    yield from towers(golden, model, features)
    yield from inference(golden, model, features, tested)
    if golden.has("medical/"):
        yield from inference(golden, method(golden, domain="medical"), features, "Brain", "medical/")
    if golden.has("stage1/") or "train_losses_stage1" in golden.notes:
        yield from surgery(golden)
        yield from stage_1(golden, trained)
    if golden.has("stage2/") or "train_losses_stage2" in golden.notes:
        yield from stage_2(golden, model, features, trained)


@torch.no_grad()
def towers(golden: Golden, model: AACLIP, features: TokenFeatures) -> Iterator[Quantity]:
    """What the image side says before it is compared."""
    visual = model.backbone.visual
    resized = resize_positions(visual.positions, features.grid, "bicubic_antialias")
    yield from golden.against("pos_embed_interpolated", resized)
    patches, image = model.look(features.tokens)
    yield from golden.against("patch_features", patches.transpose(0, 1))
    yield from golden.against("det_feature", image)


@torch.no_grad()
def inference(golden: Golden, model: AACLIP, features: TokenFeatures, name: str, group: str = "") -> Iterator[Quantity]:
    """What a test run of the released code gives; it rescales by the extremes of both images."""
    names, (patches, _) = [name] * len(features), model.look(features.tokens)
    anchors, smoothing = model.fixed_anchors(names), BLURS[model.config.domain]
    yield from golden.against(f"{group}text_features", anchors[0].T)
    scores = patch_scores(patches, anchors).transpose(0, 1).reshape(-1, *features.grid)
    smooth = blur(scores, *smoothing)
    for when, planes in (("before", scores), ("after", smooth)):
        yield from golden.against(
            f"{group}layer_patch_maps_{when}_blur", planes.reshape(-1, len(features), *features.grid)
        )
    made = model.score(features, names)
    yield from golden.against(f"{group}map_sum_upsampled", made.map)
    yield from golden.against(f"{group}image_score_raw", made.score)
    share, map = 1.0 if group else 0.5, rescaled(made.map)
    yield from golden.against(f"{group}map_final_minmax_per_class", map)
    final = torch.lerp(rescaled(made.score), map.amax((1, 2)), share)
    yield from golden.against(f"{group}image_score_final", final)


def rescaled(values: Tensor) -> Tensor:
    """To 0..1 by the extremes of all images, as the released metrics do."""
    return (values - values.min()) / (values.max() - values.min())


def surgery(golden: Golden) -> Iterator[Quantity]:
    """Patches of stage 1: both images as one batch, and each alone, which is also what "value" gives."""
    features = {}
    for kind, ending in (("batch", "batch2"), ("value", "single")):
        model = method(golden, surgery=kind, text_layers=FOUR)
        seen = model.operated(model.embedded(golden.images()))
        features[kind] = F.normalize(seen.patches, dim=-1).transpose(0, 1)
        yield from golden.against(f"stage1/surgery_patch_features_{ending}", features[kind])
    told = golden.notes.get("checks", {}).get("surgery_batch_vs_single_maxdiff")
    if told is not None:
        found = difference(features["batch"], features["value"], "value")
        yield Quantity("checks/surgery_batch_vs_single_maxdiff", abs(found - told), "value")


def stage_1(golden: Golden, names: list[str]) -> Iterator[Quantity]:
    """Losses of each layer, of which the last one's are learned from, and the first step."""
    told = golden.notes.get("train_losses_stage1", [])
    for at, layer in enumerate(FOUR):
        model = method(golden, surgery="batch", text_layers=(layer,))
        terms = model.text_loss(model.encode_for_text(golden.images()), *golden.truth(), names)
        if told:
            yield from layer_losses("stage1", layer, told[3 * at : 3 * at + 3], terms)
    if told:
        yield relative("train_losses_stage1/total", sum(terms.values()), told[-1][1])
    yield from step(golden, "stage1", model, terms)


def stage_2(golden: Golden, model: AACLIP, features: TokenFeatures, names: list[str]) -> Iterator[Quantity]:
    """Anchors and image logits of both classes, losses of each layer, and the first step."""
    told, anchors = golden.notes.get("train_losses_stage2", []), model.fixed_anchors(names)
    image = model.look(features.tokens)[1]
    yield from golden.against("stage2/text_features", anchors.transpose(1, 2))
    yield from golden.against("stage2/cls_logits", torch.einsum("be,bke->bk", image, anchors))
    terms = model.loss(features, *golden.truth(), names)
    if told:
        yield relative("train_losses_stage2/ce", terms["global"], told[0][1])
        yield relative("train_losses_stage2/total", sum(terms.values()), told[-1][1])
        for kind in ("focal", "dice"):
            summed = sum(value for name, value in told if name == kind)
            yield relative(f"train_losses_stage2/{kind}", terms[kind], summed)
    yield from step(golden, "stage2", model, terms)


def layer_losses(stage: str, layer: int, told: list[list[object]], terms: dict[str, Tensor]) -> Iterator[Quantity]:
    """Focal and both Dice losses of one layer."""
    (_, focal), (_, normal), (_, anomalous) = told
    yield relative(f"train_losses_{stage}/focal/layer{layer}", terms["focal"], focal)
    yield relative(f"train_losses_{stage}/dice/layer{layer}", terms["dice"], normal + anomalous)  # type: ignore[operator]


def step(golden: Golden, stage: str, model: AACLIP, terms: dict[str, Tensor]) -> Iterator[Quantity]:
    """Gradients and the first step of one stage."""
    chosen = model.stages[0 if stage == "stage1" else 1]
    gradients = golden.notes.get(f"train_grads_{stage}", {})
    changes = golden.notes.get(f"train_step_change_l2_{stage}", {})
    released = theirs(golden)
    for ours, (gradient, change) in first_step(model, terms, chosen).items():
        name = released[ours]
        yield from golden.against(f"grad/{name}", gradient, "gradient")
        if name in gradients:
            yield relative(f"train_grads_{stage}/{name}", gradient.norm(), gradients[name]["l2"], "gradient")
        if name in changes:
            yield relative(f"train_step_change_l2_{stage}/{name}", change.norm(), changes[name], "step")


def relative(name: str, ours: Tensor | int, told: object, rule: str = "loss") -> Quantity:
    """One number against one that the notes tell."""
    return Quantity(name, abs(float(torch.as_tensor(ours).detach()) / float(told) - 1), rule)  # type: ignore[arg-type]
