"""FAPrompt against its released code."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step
from zsad.maps import upsample
from zsad.methods.faprompt import RELEASED, Config, FAPrompt, overlap
from zsad.methods.features import TowerFeatures


def checkpoint(golden: Golden) -> dict[str, dict[str, Tensor]]:
    """The learned tensors of the run in the layout of the released code."""
    return {"prompt_learner": golden.learned()}


def method(golden: Golden, **switches: object) -> FAPrompt:
    """With the learned tensors of the run."""
    told = FAPrompt.released_switches(checkpoint(golden)) | {"sigma": float(golden.notes.get("sigma", 10))}
    model = FAPrompt(golden.clip(), Config(**{**told, **switches}))  # type: ignore[arg-type]
    model.load_state_dict(FAPrompt.released_state(checkpoint(golden)))
    return model


def released_name(ours: str) -> str:
    """The released name of a tensor of ours."""
    theirs, (own, _) = next(row for row in RELEASED.items() if ours.startswith(row[1][0]))
    return theirs + ours.removeprefix(own)


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, prompts, maps and scores; then the recorded training step."""
    model = method(golden)
    features = model.encode(golden.images())
    yield from inference(golden, model, features)
    yield from training(golden, model, features)


@torch.no_grad()
def inference(golden: Golden, model: FAPrompt, features: TowerFeatures) -> Iterator[Quantity]:
    """What a test run of the released code gives; it goes through the images one by one."""
    stages, patches = model.look(features), features.patches[:, 0]
    yield from golden.against("global_feature_raw", features.image)
    yield from golden.against("patch_features_raw", patches)
    for i, (text, p) in enumerate(zip(stages.texts, stages.patches, strict=True), start=1):
        each = F.normalize(text, dim=-1).expand(len(features), -1, -1)
        yield from golden.against(f"text_features_stage{i}", each)
        yield from golden.against(f"patch_prob_stage{i}", p)
    yield from golden.against("selected_tokens", model.chosen(patches, stages.patches[0][..., 1]))
    if stages.prior is not None:
        yield from golden.against("bias", stages.prior)
    mean = torch.stack(stages.patches).mean(0)[..., 1]
    yield from golden.against("map_before_gaussian", upsample(mean, features.grid, features.size))
    made = model.score(features)
    yield from golden.against("map_after_gaussian", made.map)
    yield from golden.against("image_score", made.score)


def training(golden: Golden, model: FAPrompt, features: TowerFeatures) -> Iterator[Quantity]:
    """Losses, gradients and the first step; of large gradients the file holds the beginning, the notes the norm."""
    terms = model.loss(features, *golden.truth())
    yield from losses(golden, model, terms)
    gradients, changes = golden.notes.get("train_grads", {}), golden.notes.get("train_step_change_l2", {})
    for ours, (gradient, change) in first_step(model, terms).items():
        name = released_name(ours)
        if f"grad/{name}" in golden:
            beginning = gradient.flatten()[: golden.arrays[f"grad/{name}"].size]
            yield from golden.against(f"grad/{name}", beginning, "gradient")
        if name in gradients:
            yield noted(f"train_grads/{name}", gradient.norm(), gradients[name]["l2"], "gradient")
        if name in changes:
            yield noted(f"train_step_change_l2/{name}", change.norm(), changes[name], "step")


def losses(golden: Golden, model: FAPrompt, terms: dict[str, Tensor]) -> Iterator[Quantity]:
    """Each term; those of the second stage's map count half, and Dice is told in both directions."""
    told: dict[str, list[float]] = {}
    for kind, value in golden.notes.get("train_losses", []):
        told.setdefault(kind, []).append(value)
    if not told:
        return
    first, second = told["FocalLoss"]
    yield noted("train_losses/focal", terms["focal"], first + second / 2, "loss")
    dice = told["BinaryDiceLoss"]
    yield noted("train_losses/dice", terms["dice"], sum(dice[:2]) + sum(dice[2:]) / 2, "loss")
    for name, kind in (("global", "ce"), ("score", "BinaryFocalLoss"), ("prior", "mse_bias")):
        yield noted(f"train_losses/{name}", terms[name], sum(told[kind]), "loss")
    yield noted("train_losses/total", torch.stack(list(terms.values())).sum(), told["total"][0], "loss")
    if "loss_ab_sum_of_45_pairs_derived" in golden.notes:
        pairs = overlap(model.anomalous_features()[0])
        yield noted("loss_ab", pairs, golden.notes["loss_ab_sum_of_45_pairs_derived"], "loss")


def noted(name: str, ours: Tensor, theirs: float, rule: str) -> Quantity:
    """Compare with a number that stands in the notes."""
    return Quantity(name, abs(float(ours.detach()) / theirs - 1), rule)
