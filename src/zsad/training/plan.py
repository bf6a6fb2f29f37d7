"""How a training goes: what the plan says, and what the method's recipe says where the plan is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from zsad.errors import ZsadError, unknown
from zsad.methods.base import Method, Stage
from zsad.methods.recipe import Recipe

PRECISIONS = ("float32", "bf16", "fp16")


@dataclass(frozen=True)
class Plan:
    """How to train, in every stage; None takes what the method's numbers were published with."""

    epochs: int | None = None
    batch_size: int | None = None  # images per step, of all processes together
    rate: float | None = None
    slow: float | None = None  # share of the rate for parameters that the recipe gives less
    mosaic: float | None = None  # chance that an image is replaced by a mosaic of four
    alter: bool = True  # alter images at random where the method's release does (AA-CLIP); False: never
    accumulate: int = 1  # parts that a batch is computed in, one after the other; the step is that of the whole batch
    clip: float = 0.0  # norm that the gradient of all parameters together is cut to; 0: as published
    precision: str = "float32"  # of what can do with less: "bf16", or on a GPU "fp16"; parameters stay float32
    seed: int = 111  # that of most released code

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "rate", "slow"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ZsadError(f"training needs {name} above 0, got {value}")
        if not -(2**63) <= self.seed < 2**63:
            raise ZsadError(f"a seed has 64 bits; got {self.seed}")
        if self.accumulate < 1 or not 0 <= self.clip < inf:
            raise ZsadError(f"accumulate is 1 or more, clip 0 or more; got {self.accumulate} and {self.clip}")
        if self.mosaic is not None and not 0 <= self.mosaic <= 1:
            raise ZsadError(f"mosaic is a chance from 0 to 1, got {self.mosaic}")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS, "zsad train --help")


@dataclass(frozen=True)
class Course:
    """A stage of a method with what the plan says of it."""

    stage: Stage
    recipe: Recipe
    epochs: int
    batch_size: int
    rate: float
    per_epoch: int  # steps of the optimizer
    mosaic: float  # chance of one
    mosaic_asked: bool  # the plan names that chance: if the recipe's `mosaic_of` is of other data, it is for all images
    alter: tuple[str, ...]  # see Recipe

    @property
    def steps(self) -> int:
        """Of the optimizer, over all epochs."""
        return self.epochs * self.per_epoch


def courses(method: Method, plan: Plan, count: int) -> list[Course]:
    """One per stage of the method, for a set of `count` images.

    Raises:
        ZsadError: If the plan does not fit the method.
    """
    return [_course(stage, plan, method.name, count) for stage in method.stages]


def _course(stage: Stage, plan: Plan, name: str, count: int) -> Course:
    recipe = stage.recipe
    if plan.slow is not None:
        if not recipe.slow:
            raise ZsadError(f"{name} trains everything at one rate; leave --slow out, or change --rate")
        recipe = recipe.with_slow(plan.slow)
    epochs, batch_size = plan.epochs or recipe.epochs, plan.batch_size or recipe.batch_size
    return Course(
        stage,
        recipe,
        epochs,
        batch_size,
        rate=plan.rate or recipe.rate,
        per_epoch=-(-count // batch_size),
        mosaic=recipe.mosaic if plan.mosaic is None else plan.mosaic,
        mosaic_asked=plan.mosaic is not None,
        alter=recipe.alter if plan.alter else (),
    )


@dataclass(frozen=True)
class Step:
    """What is told after each step of the optimizer."""

    number: int  # from 1, through all stages
    total: int
    stage: int  # from 1
    epoch: int  # from 1 in each stage
    terms: Mapping[str, float]  # of the loss before the step, over the whole batch
    rate: float  # the highest learning rate of the step
    images_per_second: float  # since the last step, the reading and encoding included
    seconds_left: float  # for the steps that are left, judged by those of this stage

    @property
    def loss(self) -> float:
        """What was minimised: the sum of the terms."""
        return sum(self.terms.values())


Report = Callable[[Step], None]
