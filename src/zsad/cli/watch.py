"""What is shown of a training: before it, while it runs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column, Table

from zsad.cli.data import counts_table
from zsad.cli.screen import columns, err, out, plain

if TYPE_CHECKING:
    from zsad.training.config import TrainConfig
    from zsad.training.estimate import Estimate
    from zsad.training.plan import Step
    from zsad.types import Sample


class Watch:
    """One bar: first of the images that are encoded, then of the steps, with what there is to know about the last."""

    def __init__(self) -> None:
        self.steps = 0  # of the whole training
        numbers = TextColumn("{task.fields[numbers]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        parts = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), numbers)
        self._progress = Progress(*parts, console=err, transient=True, expand=True)
        self._task = self._progress.add_task("preparing", total=None, numbers="")

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def encoding(self, done: int, total: int) -> None:
        """An image was encoded."""
        self._show("encoding", done, total, "")

    def step(self, step: Step) -> None:
        """A step was taken; the first one tells whether the training went on."""
        if not self.steps and step.number > 1:
            err.print(f"[dim]going on after step {step.number - 1} of {step.total}[/]")
        self.steps = step.total
        left = timedelta(seconds=round(step.seconds_left))
        terms = " + ".join(f"{name} {value:.3f}" for name, value in step.terms.items())
        numbers = f"{left} left  {step.images_per_second:.1f} images/s  rate {step.rate:.2g}  loss {step.loss:.3f}"
        self._show(f"epoch {step.epoch}", step.number, step.total, f"{numbers} = {terms}")

    def _show(self, what: str, done: int, total: int, numbers: str) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total, numbers=plain(numbers))


def tell_plan(given: TrainConfig, config: TrainConfig, samples: list[Sample], found: Estimate) -> None:
    """What would be trained on what, how large the features are and how long it takes."""
    out.print(config_table(given, config))
    out.print(counts_table(samples))
    for line in found.lines():
        out.print(plain(line), soft_wrap=True)
    out.print("nothing was written; without --dry-run it is trained")


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
