"""AdaCLIP against its released code. Groups of patches are the released ones: scikit-learn drew them at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step
from zsad.backbones.vit import resize_positions, walk
from zsad.methods.adaclip import AdaCLIP, Config, inserted
from zsad.methods.hsf import fuse

#: beginnings of array names, and the switches of the run
VARIANTS: dict[str, dict[str, object]] = {
    "nohalf/": {"half_prompts": False},
    "quickgelu/": {"activation": "quick_gelu"},
    "nohsf/": {"hsf": False},
}


class Told(AdaCLIP):
    """With the patches, most anomalous first, and the groups of the released run, as far as they are given."""

    order: Tensor | None = None
    labels: Tensor

    def most_anomalous(self, local: Tensor) -> Tensor:
        return super().most_anomalous(local) if self.order is None else self.order

    def groups(self, points: Tensor) -> Tensor:
        return self.labels


def learned(golden: Golden) -> dict[str, Tensor]:
    """The learned tensors of the run, under our names."""
    return AdaCLIP.released_state(golden.learned())


def method(
    golden: Golden, state: dict[str, Tensor], beginning: str = "", at: slice = slice(None), **switches: object
) -> Told:
    """With the learned tensors of the run, and the groups of some of its images."""
    model = Told(golden.clip(), Config(**VARIANTS.get(beginning, {}), **switches))  # type: ignore[arg-type]
    model.load_state_dict(state)
    stored = beginning if f"{beginning}hsf_labels" in golden else ""
    model.labels = golden.array(f"{stored}hsf_labels").long()[at]
    golden.compared.add(f"{stored}hsf_labels")  # taken over; test_adaclip.py compares how good they are
    if f"{stored}hsf_topk_indices" in golden:
        model.order = golden.array(f"{stored}hsf_topk_indices")[at]
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, text, fusion, maps and scores of the run and its variants; then the training step."""
    state = learned(golden)
    model = method(golden, state)
    yield from inside(golden, model)
    yield from inference(golden, model)
    for beginning in ("", *VARIANTS):
        if golden.has(beginning):
            yield from ends(golden, state, beginning)
    if "train_losses_image1" in golden.notes:
        yield from training(golden, state, model)


@torch.no_grad()
def inside(golden: Golden, model: Told) -> Iterator[Quantity]:
    """Positions, the pass without prompts, the prompts, and the tower with them."""
    visual, images = model.backbone.visual, golden.images()
    features = model.encode(images)
    assert model.visual_prompts is not None and model.text_prompts is not None
    resized = resize_positions(visual.positions, visual.grid(images), "bicubic")
    yield from golden.against("pos_embed_interpolated", resized)
    yield from golden.against("dynamic_source_global_feature", features.source)
    for tower, prompts in (("visual", model.visual_prompts), ("text", model.text_prompts)):
        yield from golden.against(f"dynamic_{tower}_prompts", prompts.generated(features.source))
    if "dynamic_visual_prompts" not in golden:
        return
    released = golden.array("dynamic_visual_prompts")  # on from them: rounding to half makes 5e-4 of float32's 1e-6
    with patch.object(model.visual_prompts, "generated", return_value=released):
        edit = inserted(model.visual_prompts(features.source), features.tokens.shape[1])
    last, tapped = walk(visual.blocks, features.tokens, (6, 12, 18, 24), edit=edit)
    raw = torch.stack([x[:, 1 : features.tokens.shape[1]] for x in tapped.values()], 1)
    yield from golden.against("global_feature_prompted", visual.head(last[:, 0]))
    yield from golden.against("patch_tokens_raw", raw)


@torch.no_grad()
def inference(golden: Golden, model: Told) -> Iterator[Quantity]:
    """What a test run of the released code gives, and the fusion step by step."""
    features, names = model.encode(golden.images()), golden.notes["class_names"]
    image, patches = model.visual_features(features)
    _, local = model.logits(features, names)
    yield from golden.against("cls_projected", image)
    yield from golden.against("patch_projected", patches)
    cosine = model.config.temperature  # logits are cosines times 100, so they are compared as cosines
    yield from golden.against("patch_logits", local * cosine, scale=cosine)
    anomaly = local.mean(1).softmax(-1)[..., 1]
    yield from golden.against("hsf_patch_prob", anomaly)
    ours, theirs = AdaCLIP.most_anomalous(model, local), model.most_anomalous(local)
    gap = anomaly.gather(1, ours) - anomaly.gather(1, theirs)  # of two that are equally anomalous either may come first
    yield Quantity("hsf_topk_indices", float(gap.abs().max()), "value")
    golden.compared.add("hsf_topk_indices")
    picked = torch.stack([patches[b, :, chosen] for b, chosen in enumerate(theirs)])
    yield from golden.against("hsf_feature", fuse(picked, model.labels))


@torch.no_grad()
def ends(golden: Golden, state: dict[str, Tensor], beginning: str) -> Iterator[Quantity]:
    """Text features, scores and maps of the run or a variant of it."""
    model = method(golden, state, beginning)
    features, names = model.encode(golden.images()), golden.notes["class_names"]
    text, made = F.normalize(model.text_features(features.source, names), dim=-1), model.score(features, names)
    yield from golden.against(f"{beginning}text_features", text.transpose(1, 2))
    yield from golden.against(f"{beginning}image_score", made.score)
    yield from golden.against(f"{beginning}map_after_gaussian", made.map)
    if f"{beginning}map_before_gaussian" in golden:
        sharp = method(golden, state, beginning, sigma=0.0).score(features, names)
        yield from golden.against(f"{beginning}map_before_gaussian", sharp.map)


def training(golden: Golden, state: dict[str, Tensor], model: Told) -> Iterator[Quantity]:
    """Losses of each image alone, as in the released batches of one; gradients and the first step for the second."""
    (masks, labels), features = golden.truth(), model.encode(golden.images())
    for at in (slice(0, 1), slice(1, 2)):
        alone = method(golden, state, at=at)
        terms = alone.loss(features[at], masks[at], labels[at], golden.notes["class_names"][at])
        yield from losses(f"train_losses_image{at.start}", terms, golden.notes[f"train_losses_image{at.start}"])
    grads, steps = golden.notes["train_grads"], golden.notes["train_step_change_l2"]
    names = {ours: name for name, x in golden.learned().items() for ours in AdaCLIP.released_state({name: x})}
    for name, (gradient, change) in first_step(alone, terms).items():
        theirs = names[name]
        yield from golden.against(f"grad/{theirs}", gradient, "gradient")
        yield from golden.against(f"step/{theirs}", change, "step")
        yield Quantity(f"grad_l2/{theirs}", relative(gradient.norm(), grads[theirs]["l2"]), "gradient")
        yield Quantity(f"step_l2/{theirs}", relative(change.norm(), steps[theirs]), "step")
    unused = "clip_model.text_prompter.static_prompts.0"  # ours has none
    yield from golden.against(f"step/{unused}", torch.zeros_like(golden.learned()[unused]))


def losses(beginning: str, terms: dict[str, Tensor], told: dict[str, Any]) -> Iterator[Quantity]:
    """Each kind of loss, summed over the layers, and the total."""
    layers = told["per_layer"]
    yield Quantity(f"{beginning}/image", relative(terms["image"], told["cls_focal"]), "loss")
    for ours, theirs in (("focal", ("focal",)), ("dice", ("dice_abnormal", "dice_normal"))):
        total = sum(layer[kind] for layer in layers for kind in theirs)
        yield Quantity(f"{beginning}/{ours}", relative(terms[ours], total), "loss")
    yield Quantity(f"{beginning}/total", relative(torch.stack(list(terms.values())).sum(), told["total"]), "loss")


def relative(ours: Tensor, theirs: float) -> float:
    """Relative difference of a number."""
    return abs(ours.item() / theirs - 1)
