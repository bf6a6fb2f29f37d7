"""AnomalyCLIP against its released code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from zsad.methods.anomalyclip import AnomalyCLIP, Config
from zsad.methods.base import TowerFeatures
from zsad.methods.recipe import make_optimizer

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
    """Features, text, maps and scores; then each recorded training step."""
    four, one = method(golden, layers=FOUR), method(golden)
    features = four.encode(golden.images())
    yield from inference(golden, four, one, features)
    for group, switches in TRAININGS.items():
        if golden.has(f"{group}/"):
            model, seen = method(golden, **switches), features if "layers" in switches else last(features)
            yield from training(golden, group, model, seen, FOUR if "layers" in switches else (24,))
    if "train_last_layer_only/total_loss_before_step_1_to_6" in golden:
        totals = totals_of_steps(method(golden), last(features), golden.truth(), 6)
        yield from golden.against("train_last_layer_only/total_loss_before_step_1_to_6", totals, "loss")


@torch.no_grad()
def inference(golden: Golden, four: AnomalyCLIP, one: AnomalyCLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """What a test run of the released code gives."""
    yield from golden.against("image_feature/raw", features.image)
    for i, layer in enumerate(FOUR):
        name = f"patch_features/layer{layer}"
        if name in golden:  # CLS is the first row there
            cls = golden.array(name)[:, :1]
            yield from golden.against(name, torch.cat([cls, features.patches[:, i]], 1))
    yield from golden.against("text_features/raw", four.text_features(["object"])[0])
    said, said_by_one = four.score(features), one.score(last(features))
    yield from golden.against("image_score", said.score)
    yield from golden.against("map/after_gaussian", said.map)
    yield from golden.against("map_last_layer_only/after_gaussian", said_by_one.map)


def training(
    golden: Golden, group: str, model: AnomalyCLIP, features: TowerFeatures, layers: tuple[int, ...]
) -> Iterator[Quantity]:
    """Losses, gradients and the first step; local terms are sums over the layers, times 4."""
    terms = model.loss(features, *golden.truth())
    yield from golden.against(f"{group}/loss/image_cross_entropy", terms["global"], "loss")
    yield from golden.against(f"{group}/loss/total", torch.stack(list(terms.values())).sum(), "loss")
    for ours, theirs in (("focal", ["focal"]), ("dice", ["dice_abnormal", "dice_normal"])):
        names = [f"{group}/loss/{kind}/layer{layer}" for kind in theirs for layer in layers]
        told = torch.stack([golden.array(name) for name in names]).sum()
        gap = abs(terms[ours].item() / 4 / told.item() - 1)
        golden.compared.update(names)
        yield Quantity(f"{group}/loss/{ours}", gap, "loss")
    optimizer = make_optimizer(model, model.recipe)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        assert p.grad is not None
        yield from golden.against(f"{group}/grad/{LEARNED[name]}", p.grad, "gradient")
        yield from golden.against(f"{group}/grad.l2/{LEARNED[name]}", p.grad.norm(), "gradient")
        change = (p.detach() - before[name]).norm()
        yield from golden.against(f"{group}/step_delta_l2/{LEARNED[name]}", change, "step")


def totals_of_steps(model: AnomalyCLIP, features: TowerFeatures, truth: tuple[Tensor, Tensor], steps: int) -> Tensor:
    """The total loss before each of some training steps."""
    optimizer = make_optimizer(model, model.recipe)
    totals = []
    for _ in range(steps):
        total = torch.stack(list(model.loss(features, *truth).values())).sum()
        totals.append(total.detach())
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return torch.stack(totals)
