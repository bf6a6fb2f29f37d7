"""What happened in each step: log.csv, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from zsad.training.plan import Step
from zsad.writing import whole, writing

COLUMNS = ("step", "stage", "epoch", "loss", "rate", "images_per_second", "seconds")  # the terms of the loss follow


class Log:
    """A table with one row per step. A kill loses none that was written; power that fails, those since `sync`.

    Loss, terms and rate have all their digits, so that equal trainings have equal columns. A term that only a later
    stage has is a further column, empty in the rows before.

    Args:
        path: The file; made where absent.
        steps: Rows of later steps are removed: they will be done again.
    """

    def __init__(self, path: Path, steps: int = 0) -> None:
        self.path = path
        self._open(*_read(path, steps))

    def add(self, step: Step, seconds: float) -> None:
        """A row; `seconds` since the run began, without the time between a kill and going on."""
        values: list[Any] = [step.number, step.stage, step.epoch, step.loss, step.rate]
        values += [f"{step.images_per_second:.1f}", f"{seconds:.1f}"]
        if not step.terms.keys() <= set(self._columns):
            self.close()
            columns, rows = _read(self.path, step.number)
            self._open([*columns, *(name for name in step.terms if name not in columns)], rows)
        with writing(self.path):
            self._writer.writerow({**step.terms, **dict(zip(COLUMNS, values, strict=True))})
            self._file.flush()

    def sync(self) -> None:
        """See to it that all rows are on the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Nothing is written after it."""
        self._file.close()

    def _open(self, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        """Write what is kept, and go on below it."""
        self._columns = columns
        with whole(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        with writing(self.path):
            self._file = self.path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, columns)


def _read(path: Path, steps: int) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The columns, and the rows up to a step without what a kill or a loss of power left of later ones."""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "") if path.exists() else ""
    lines = csv.DictReader(io.StringIO(text, newline=""))
    columns = lines.fieldnames or []
    if not set(COLUMNS) <= set(columns):  # damaged, and nothing that a training needs
        return COLUMNS, []
    return columns, [row for row in lines if _whole(row) and _step(row) <= steps]


def _whole(row: Mapping[Any, Any]) -> bool:
    """Whether a row has as many cells as there are columns."""
    return None not in row and None not in row.values()


def _step(row: Mapping[str, str]) -> float:
    return int(row["step"]) if row["step"].isdigit() else inf


class Board:
    """The same for TensorBoard; does nothing where that is not installed.

    Args:
        folder: For the files of events.
        steps: Later ones are not shown: they will be done again.
    """

    def __init__(self, folder: Path, steps: int = 0) -> None:
        self._writer: Any = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=steps + 1 if steps else None)

    def add(self, step: Step) -> None:
        """Loss, terms, rate and images per second of a step."""
        if self._writer:
            numbers = {"loss": step.loss, "rate": step.rate, "images_per_second": step.images_per_second}
            for name, value in {**numbers, **{f"terms/{name}": value for name, value in step.terms.items()}}.items():
                self._writer.add_scalar(name, value, step.number)

    def sync(self) -> None:
        """See to it that all steps are in the file."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Nothing is written after it."""
        if self._writer:
            self._writer.close()
