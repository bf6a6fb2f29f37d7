"""One step of the optimizer: losses, gradients of all parts and processes together, the change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch

from zsad.methods.base import Method, Stage
from zsad.training.hardware import Hardware
from zsad.training.images import Encoded

Share = list[tuple[Sequence[int], float]]  # parts of a batch, and the weight of each in its loss


def share_of(batch: Sequence[int], rank: int, processes: int, accumulate: int) -> Share:
    """What one process computes of a batch, in at most `accumulate` parts.

    The weights of all processes add up to 1. A process that is left without an image takes part with weight 0: so all
    have gradients of the same parameters, and can add them.

    >>> share_of([7, 3, 5], rank=0, processes=2, accumulate=2), share_of([7], rank=1, processes=2, accumulate=1)
    ([([7], 0.33...), ([3], 0.33...)], [([7], 0.0)])
    """
    parts = _split(_split(batch, processes)[rank], accumulate)
    return [(part, len(part) / len(batch)) for part in parts if part] or [(batch[:1], 0.0)]


def _split(items: Sequence[int], count: int) -> list[Sequence[int]]:
    """Consecutive parts whose lengths differ by 1 at most, longer ones first."""
    short, longer = divmod(len(items), count)
    ends = [short * i + min(i, longer) for i in range(count + 1)]
    return [items[start:end] for start, end in pairwise(ends)]


def take_step(
    method: Method,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    parts: Iterable[tuple[Encoded, float]],
    hardware: Hardware,
    clip: float = 0.0,
) -> dict[str, float]:
    """One step on a batch.

    Args:
        method: What learns.
        stage: Of the method.
        optimizer: As :meth:`Hardware.prepared` gave it.
        parts: What this process has of the batch, and the weight of each part in the loss.
        hardware: Where to compute.
        clip: See :class:`~zsad.training.plan.Plan`.

    Returns:
        The terms of the loss before the step, of the whole batch.
    """
    method.zero_grad()
    told: dict[str, float] = {}
    for data, weight in parts:
        here = data.to(hardware.device)
        with hardware.computing():
            terms = stage.loss(here.features, here.masks, here.labels, here.class_names)
        weights = {name: float(weight > 0) if name in stage.sums else weight for name in terms}
        hardware.backward(torch.stack([weights[name] * term.float() for name, term in terms.items()]).sum())
        for name, term in terms.items():
            told[name] = told.get(name, 0.0) + weights[name] * float(term.detach())
    hardware.step(optimizer, stage.parameters(method), stage.recipe, clip)
    values = hardware.summed(torch.tensor(list(told.values()), dtype=torch.float32, device=hardware.device))
    return dict(zip(told, values.tolist(), strict=True))
