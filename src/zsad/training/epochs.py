"""Checkpoints of epochs in a run's folder: the last ones, and the best by a rule that is fixed in advance."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.checkpoints import load_strictly
from zsad.writing import whole

RULE = "lowest mean training loss of an epoch of the last stage, the earlier one if equal"


class Epochs:
    """What was learned by the end of each epoch, one checkpoint each, in checkpoints/; best.json names the best.

    Args:
        folder: Of the run.
        keep: How many of the last ones stay, besides the best one.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self.losses: dict[
            str, float | None
        ] = {}  # by checkpoint, of the epochs so far in order; None: an earlier stage

    @property
    def best(self) -> str | None:
        """The checkpoint that RULE chooses so far; None before the first epoch of the last stage."""
        found = {name: loss for name, loss in self.losses.items() if loss is not None}
        return min(found, key=lambda name: _rank(found[name]), default=None)  # the first of equal ones

    def add(
        self, method: Method, stage: int, epoch: int, stages: int, terms: Mapping[str, float], write: bool = True
    ) -> None:
        """Write the checkpoint of an epoch. Done again, it takes the place of the first time.

        Args:
            method: As the epoch left it.
            stage: From 1.
            epoch: From 1 in each stage.
            stages: How many there are.
            terms: Means of the terms of the loss over the epoch.
            write: Whether this process does; the others remember the loss.
        """
        name = f"stage-{stage}-epoch-{epoch:03d}.safetensors"
        if write:
            method.save(self._folder / "checkpoints" / name)
        self.losses[name] = sum(terms.values()) if stage == stages else None
        if write and self.best is not None:
            self._note(self.best)

    def prune(self, needed: Collection[str | None]) -> None:
        """Remove all checkpoints but the last ones and those that are needed."""
        last = list(self.losses)[-self._keep :] if self._keep else []
        for file in (self._folder / "checkpoints").glob("stage-*.safetensors"):
            if file.name not in last and file.name not in needed:
                file.unlink(missing_ok=True)

    def restore_best(self, method: Method) -> None:
        """Put what the best epoch learned into the method.

        Raises:
            ZsadError: If the file cannot be read, or does not fit the method.
        """
        assert self.best is not None, "an epoch of the last stage comes first"
        path = self._folder / "checkpoints" / self.best
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ZsadError(f"{path}, the best epoch, cannot be read ({error}); --overwrite trains again") from error
        load_strictly(method, tensors, str(path))

    def _note(self, best: str) -> None:
        shown = {name: loss if loss is None or math.isfinite(loss) else None for name, loss in self.losses.items()}
        note = {"rule": RULE, "checkpoint": best, "loss": shown[best], "losses": shown}
        with whole(self._folder / "best.json") as part:
            part.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def _rank(loss: float) -> float:
    """What is compared: NaN is worse than any number."""
    return math.inf if math.isnan(loss) else loss
