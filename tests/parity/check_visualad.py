"""VisualAD against its released code."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step
from zsad.methods.visualad import Config, TokenFeatures, VisualAD, released_names, top_mean


def checkpoint(golden: Golden) -> dict[str, object]:
    """The learned tensors of the run in the layout of the released files."""
    learned = {name.split()[0]: tensor for name, tensor in golden.learned().items()}  # a remark may follow the name
    norm = golden.clip().visual.norm
    found: dict[str, object] = {"ln_post_weight": norm.weight, "ln_post_bias": norm.bias, **learned}
    return {**found, "features_list": sorted({int(n) for n in map(layer, learned) if n})}


def layer(name: str) -> str:
    """The number of the layer in a released name, or nothing."""
    return name.partition("layer_attentions.layer_")[2].partition(".")[0]


def method(golden: Golden, **switches: object) -> VisualAD:
    """With the learned tensors of the run; its training starts at the final norm of the backbone."""
    told = VisualAD.released_switches(checkpoint(golden)) | {"sigma": float(golden.notes.get("test_sigma", 4))}
    model = VisualAD(golden.clip(), Config(**{**told, **switches}))  # type: ignore[arg-type]
    state = VisualAD.released_state(checkpoint(golden))
    if model.config.final_norm == "released":
        state |= {f"norm.{name}": value for name, value in golden.clip().visual.norm.state_dict().items()}
    model.load_state_dict(state)
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, maps and scores with either final norm; then the recorded training step."""
    model = method(golden)
    features = model.encode(golden.images())
    yield from inference(golden, "", model, features)
    if golden.has("lnpost/"):
        yield from inference(golden, "lnpost/", method(golden, final_norm="trained"), features)
    if golden.has("train/") or golden.has("grad/"):
        yield from training(golden, model, features)


@torch.no_grad()
def inference(golden: Golden, group: str, model: VisualAD, features: TokenFeatures) -> Iterator[Quantity]:
    """What a test run of the released code gives."""
    learned = model.config.final_norm == "trained"
    tokens, patches = model.look(features, learned)
    enhanced, scores = model.compare(tokens, patches, features.grid)
    aligned = [saf(layer) for saf, layer in zip(model.saf, patches, strict=True)]
    yield from golden.against(f"{group}anomaly_features", tokens[:, 0])
    yield from golden.against(f"{group}normal_features", tokens[:, 1])
    if group + "class_features" in golden:  # CLS stands third; the method has no use for it
        yield from golden.against(f"{group}class_features", model.backbone.visual.norm(model.stream(features)[0][:, 2]))
    yield from golden.against(f"{group}patch_tokens", torch.stack(patches, 1))
    yield from golden.against(f"{group}saf_patch_features", torch.stack(aligned, 1))
    for i, kind in enumerate(("anomaly", "normal")):
        yield from golden.against(f"{group}enhanced_{kind}", enhanced[:, :, i].transpose(0, 1))
    yield from golden.against(f"{group}layer_patch_maps", scores)
    yield from golden.against(f"{group}map_before_gaussian", model.maps(features, learned)[0].sum(0))
    made = model.score(features)
    yield from golden.against(f"{group}map_after_gaussian", made.map)
    yield from golden.against(f"{group}image_score", made.score)


def training(golden: Golden, model: VisualAD, features: TokenFeatures) -> Iterator[Quantity]:
    """Losses, gradients before clipping, and the first step after it. Dropout was off in the recorded run."""
    summed = model.maps(features, learned=True)[0].sum(0)
    yield from golden.against("train/image_score_topk", top_mean(summed, model.config.top_share))
    terms = model.loss(features, *golden.truth())
    yield from losses(golden, terms)
    theirs = {ours: name for name, ours in released_names(model.layers).items()}
    theirs |= {"norm.weight": "ln_post.weight", "norm.bias": "ln_post.bias"}
    norms = golden.notes.get("train_step_change_l2", {})
    for name, (gradient, change) in first_step(model, terms).items():
        yield from beginning(golden, f"grad/{theirs[name]}", gradient, "gradient")
        yield from beginning(golden, f"step/{theirs[name]}", change, "step")
        if theirs[name] in norms:
            gap = abs(float(change.norm()) / norms[theirs[name]] - 1)
            yield Quantity(f"train_step_change_l2/{theirs[name]}", gap, "step")


def losses(golden: Golden, terms: dict[str, Tensor]) -> Iterator[Quantity]:
    """Each term; `focal` and `dice` are told layer by layer and summed here."""
    told = golden.notes.get("train_losses", {})
    ours = {"image_bce": "cls", "focal": "focal", "dice": "dice", "contrastive": "ctr"}
    sums = {name: (sum(told[name]), terms[term]) for name, term in ours.items() if name in told}
    if "total" in told:
        sums["total"] = (sum(told["total"]), torch.stack(list(terms.values())).sum())
    for name, (expected, found) in sums.items():
        gap = abs(float(found.detach()) - expected) / (abs(expected) or 1.0)
        yield Quantity(f"train_losses/{name}", gap, "loss")


def beginning(golden: Golden, name: str, ours: Tensor, rule: str) -> Iterator[Quantity]:
    """Compare with an array that may hold only the first values of a large tensor."""
    if name in golden:
        yield from golden.against(name, ours.flatten()[: golden.arrays[name].size], rule)
