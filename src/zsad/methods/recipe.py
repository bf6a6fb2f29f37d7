"""How a method was trained when its numbers were published: optimizer, rates, schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

SCHEDULES = ("constant", "cosine", "harmonic")


@dataclass(frozen=True)
class Recipe:
    """The optimizer, and how its rate changes from epoch to epoch."""

    rate: float = 1e-3  # learning rate at the start
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    slow: tuple[tuple[str, float], ...] = ()  # beginnings of parameter names, and the share of the rate that they get
    schedule: str = "constant"  # or "cosine" down to `floor`, "harmonic": rate / (epoch + 1)
    milestones: tuple[int, ...] = ()  # optimizer steps after each of which the rate is halved
    floor: float = 0.0  # where "cosine" ends for every parameter, as a share of the rate
    clipped: tuple[str, ...] = ()  # parameters whose gradients are cut to norm 1, each on its own
    batch_size: int = 8
    epochs: int = 15
    optimizer: str = "adam"  # AdamW where weights decay; "sgd": momentum 0.9, weights decay as part of the gradient
    warmup: float = 0.0  # share of the rate in the first epoch, after which "cosine" begins; 0 for none
    mosaic: float = 0.0  # chance that an image is replaced by a mosaic of four of its class
    mosaic_way: str = "kinds"  # how the four are chosen, a row of WAYS in zsad.training.augment
    mosaic_of: tuple[str, ...] = ()  # datasets or classes whose images are replaced; () for all
    alter: tuple[str, ...] = ()  # how images are altered at random: "moves", "colours"; see zsad.training.augment

    def share(self, name: str) -> float:
        """The part of the rate that a parameter gets.

        >>> Recipe(slow=(("sca.", 0.1),)).share("sca.gate.weight")
        0.1
        """
        return next((share for beginning, share in self.slow if name.startswith(beginning)), 1.0)

    def with_slow(self, share: float) -> Recipe:
        """The same recipe with another share of the rate for every parameter that gets less than all of it."""
        return replace(self, slow=tuple((beginning, share) for beginning, _ in self.slow))

    def rate_at(self, epoch: int, epochs: int, rate: float, share: float = 1.0, step: int = 0) -> float:
        """The learning rate in an epoch and step, both counted from 0, for parameters that get `share` of it.

        >>> [round(Recipe(schedule="cosine", floor=0.1).rate_at(epoch, 2, 1.0), 3) for epoch in (0, 1)]
        [1.0, 0.55]
        >>> [Recipe(milestones=(10, 20)).rate_at(0, 1, 1.0, step=step) for step in (9, 10, 20)]
        [1.0, 0.5, 0.25]
        >>> [Recipe(schedule="cosine", warmup=0.01).rate_at(epoch, 2, 1.0) for epoch in (0, 1)]
        [0.01, 1.0]
        """
        if self.warmup and epoch == 0:
            return rate * share * self.warmup
        rate = rate * 0.5 ** sum(step >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            lowest = self.floor * rate
            return lowest + (rate * share - lowest) * (1 + math.cos(math.pi * (epoch - bool(self.warmup)) / epochs)) / 2
        return rate * share / (epoch + 1) if self.schedule == "harmonic" else rate * share


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, rate: float | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimizer, at the rates of the first epoch.

    Args:
        parameters: What is trained, by name.
        recipe: Of the training.
        rate: In place of the recipe's.
    """
    shares: dict[float, list[Tensor]] = {}
    for name, parameter in parameters.items():
        shares.setdefault(recipe.share(name), []).append(parameter)
    start = recipe.rate if rate is None else rate
    groups = [{"params": found, "lr": start * share, "share": share} for share, found in shares.items()]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, start, momentum=0.9, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(groups, start, recipe.betas, weight_decay=recipe.weight_decay)


def set_rates(
    optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, epochs: int, rate: float, step: int = 0
) -> None:
    """Give the optimizer the rates of an epoch and step, both counted from 0."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate_at(epoch, epochs, rate, group["share"], step)


def clip_gradients(parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
    """Cut the gradients that the recipe names to norm 1, each on its own."""
    for name, parameter in parameters.items():
        if name in recipe.clipped and parameter.grad is not None:
            nn.utils.clip_grad_norm_(parameter, 1.0)
