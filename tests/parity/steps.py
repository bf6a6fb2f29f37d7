"""One and several training steps of a method by its own recipe, as the golden runs took them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from zsad.methods.base import Method, Stage
from zsad.methods.recipe import clip_gradients, make_optimizer


def first_step(model: Method, terms: dict[str, Tensor], stage: Stage | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Step once, in a stage, on the sum of its terms: gradients before they are clipped, and changes of parameters."""
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    found = {name: (p.grad.clone(), p.detach().clone()) for name, p in model.named_parameters() if p.grad is not None}
    stage = stage or model.stages[-1]
    named = stage.parameters(model)
    clip_gradients(named, stage.recipe)
    make_optimizer(named, stage.recipe).step()
    now = dict(model.named_parameters())
    return {name: (gradient, now[name].detach() - before) for name, (gradient, before) in found.items()}


def later_steps(
    golden: Golden, group: str, model: Method, features: Any, class_names: Sequence[str] | None = None
) -> Iterator[Quantity]:
    """The total loss before each of the first training steps."""
    name = f"{group}/total_loss_before_step_1_to_6"
    if name not in golden:
        return
    named = dict(model.named_parameters())
    optimizer, totals = make_optimizer(named, model.recipe), []
    for _ in range(golden.array(name).numel()):
        total = torch.stack(list(model.loss(features, *golden.truth(), class_names).values())).sum()
        totals.append(total.detach())
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        clip_gradients(named, model.recipe)
        optimizer.step()
    yield from golden.against(name, torch.stack(totals), "loss")
