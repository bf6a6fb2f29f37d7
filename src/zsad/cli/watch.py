"""What is shown of a training: before it, while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from zsad.cli.data import counts_table
from zsad.cli.screen import columns, err, out, plain

if TYPE_CHECKING:
    from zsad.training.config import TrainConfig
    from zsad.training.estimate import Estimate
    from zsad.training.plan import Step
    from zsad.types import Sample


class Watch:
    """One bar, first of the images that are encoded, then of the steps, and the loss below it.

    Where nobody looks, a line for every epoch.
    """

    def __init__(self, console: Console = err) -> None:
        self.steps = 0  # of the whole training
        self.done = 0  # since this start
        self._last: Step | None = None
        self._progress = _Bar(console=console, transient=True, expand=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("preparing", total=None, numbers="")

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._epoch_ended()

    def encoding(self, done: int, total: int) -> None:
        """An image was encoded."""
        self._progress.update(self._task, description="encoding", completed=done, total=total)

    def step(self, step: Step) -> None:
        """A step was taken; the first one tells whether the training went on."""
        if not self.done and step.number > 1:
            self._progress.console.print(f"[dim]going on after step {step.number - 1} of {step.total}[/]")
        if self._last and (self._last.stage, self._last.epoch) != (step.stage, step.epoch):
            self._epoch_ended()
        self.steps, self.done, self._last = step.total, self.done + 1, step
        self._progress.below = _loss(step)
        self._progress.update(
            self._task,
            description=f"epoch {step.epoch}",
            completed=step.number,
            total=step.total,
            numbers=_pace(step),
        )

    def _epoch_ended(self) -> None:
        if self._last and self._progress.disable:
            step, said = self._last, f"{_pace(self._last)}  {plain(_loss(self._last))}"
            line = f"epoch {step.epoch}, step {step.number} of {step.total}  {said}"
            self._progress.console.print(line, soft_wrap=True)


class _Bar(Progress):
    """A bar with its numbers, and a line below it."""

    below = ""

    def get_default_columns(self) -> tuple[ProgressColumn, ...]:  # type: ignore[override]
        """See rich.progress.Progress."""
        numbers = TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True))
        return SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), numbers

    def get_renderables(self) -> Iterator[RenderableType]:
        """See rich.progress.Progress."""
        yield from super().get_renderables()
        yield Text(self.below, no_wrap=True, overflow="ellipsis")


def _pace(step: Step) -> str:
    left = timedelta(seconds=round(step.seconds_left))
    return f"{left} left  {step.images_per_second:.1f} images/s  rate {step.rate:.2g}"


def _loss(step: Step) -> str:
    return f"loss {step.loss:.3f} = {' + '.join(f'{name} {value:.3f}' for name, value in step.terms.items())}"


def tell_plan(given: TrainConfig, config: TrainConfig, samples: list[Sample], found: Estimate) -> None:
    """What would be trained on what, how large the features are and how long it takes."""
    out.print(config_table(given, config))
    out.print(counts_table(samples))
    for line in found.lines():
        out.print(plain(line), soft_wrap=True)


def config_table(given: TrainConfig, config: TrainConfig) -> Table:
    """Every key and switch with its value; marked is what was not given, but published with the method."""
    shown = columns("key", "value", "", names=True)
    said, known = _flat(given), _flat(config)
    for key, value in known.items():
        silent = said.get(key) is None and value is not None
        shown.add_row(key, plain(_text(value)), "[dim]as published[/]" if silent else "")
    return shown


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Keys with their values, those of switches and of reading with a dot."""
    found: dict[str, Any] = {}
    for key, value in config.values().items():
        inner = value if isinstance(value, dict) else None
        found.update({key: value} if inner is None else {f"{key}.{name}": item for name, item in inner.items()})
    return found


def _text(value: Any) -> str:
    from zsad.options import shown

    return "" if value is None else shown(value)
