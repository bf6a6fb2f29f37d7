"""The folder of a training run: what was begun, how far it is, and all that is needed to go on after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from zsad.data.tables import formats, manifest_row
from zsad.download import sha256
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.training import yaml_file
from zsad.training.environment import changes, environment, now
from zsad.training.epochs import Epochs
from zsad.training.log import Board, Log
from zsad.training.plan import Step
from zsad.training.sameness import WAYS, must_be_same_config, must_be_same_data
from zsad.training.states import States
from zsad.types import Sample
from zsad.writing import whole, writing

STATES = 2  # states that are kept at least, so that there is another if the newest is damaged
Say = Callable[[str], object]  # takes a remark for a person
_OWN = (  # all that is removed where a run is to begin anew
    *("config.yaml", "environment.json", "data.jsonl", "best.json", "log.csv", "*.part", "state/*.pt*"),
    *("checkpoints/stage-*.safetensors*", "tensorboard/events.out.tfevents.*"),
)
_PATIENCE = 1.0  # seconds that a killed process may take to be gone


def outlook(folder: Path, config: Mapping[str, Any], samples: Sequence[Sample], keys: Sequence[str]) -> str:
    """What :meth:`Run.begin` would do in a folder, in words; nothing is written or held."""
    run = Run(folder, 0.0, 0, "last", False, None)
    try:
        if not run.there:
            return f"{folder} would be begun"
        run.must_fit(config, samples, keys)
    except ZsadError as error:
        return str(error)
    return f"{folder} is finished" if run.finished else f"{folder} would go on from its last state"


class Run:
    """The folder of a run, as the training loop uses it (`Keeper` in loop.py). Every file in it appears whole or not
    at all, but for the last lines of log.csv and TensorBoard's files.

    - config.yaml, environment.json (one entry per start), data.jsonl (manifest with a key of each sample's contents),
      run.json (its SHA-256, and whether the run is finished)
    - log.csv, tensorboard/: see :mod:`zsad.training.log`
    - checkpoints/, best.json: see :mod:`zsad.training.epochs`
    - state/: what the loop needs to go on, by the number of steps that are done

    :meth:`begin` makes one. Of several processes, the main one writes; all may read once it has begun.
    """

    def __init__(self, folder: Path, save_every: float, keep: int, final: str, main: bool, say: Say | None) -> None:
        self.folder = folder
        self._save_every, self._final, self._main = save_every, final, main
        self._say: Say = say or (lambda _: None)
        self._states, self._epochs = States(folder / "state", max(keep, STATES)), Epochs(folder, keep)
        self._bests: dict[int, str | None] = {}  # what was the best checkpoint when a state that is kept was saved
        self._lock: FileLock | None = None
        self._log: Log | None = None
        self._board: Board | None = None
        self.stopping = False  # set to have a state saved after the step under way, and no step after it
        self.steps = 0  # that are done in the last state
        self._before = 0.0  # seconds of earlier starts
        self._started = self._saved = time.monotonic()

    @classmethod
    def begin(
        cls,
        folder: Path,
        config: Mapping[str, Any],
        samples: Sequence[Sample],
        keys: Sequence[str],
        *,
        overwrite: bool = False,
        save_every: float = 300.0,
        keep: int = 2,
        final: str = "last",
        device: str | torch.device = "cpu",
        main: bool = True,
        say: Say | None = None,
    ) -> Run:
        """Begin a run in a new folder, or go on with the one that is there.

        Args:
            folder: Of the run.
            config: Every key with its value, as JSON has them.
            samples: That are trained on.
            keys: One per sample, told by the contents of its files (:func:`zsad.cache.sample_keys`).
            overwrite: Remove an earlier run there.
            save_every: Seconds between states.
            keep: How many states, but two at least, and checkpoints of epochs stay.
            final: "best" ends with the weights of the best epoch, "last" with the last.
            device: That is trained on; only noted.
            main: Whether this is the process that writes.
            say: Takes remarks for a person.

        Raises:
            ZsadError: If another process trains there, or an earlier run there has another config or other data.
        """
        run = cls(folder, save_every, keep, final, main, say)
        if main:
            run._take_lock()
            try:
                run._begin(config, samples, keys, overwrite, device)
            except BaseException:
                run.close()
                raise
        return run

    @property
    def there(self) -> bool:
        """Whether there is anything to go on from, or that would be lost."""
        return self._note_file.exists() and (self.finished or self._states.there)

    def must_fit(self, config: Mapping[str, Any], samples: Sequence[Sample], keys: Sequence[str]) -> None:
        """Complain unless the run that is there has the same config and data."""
        must_be_same_config(self.folder, self._read("config.yaml", yaml_file.read), json.loads(json.dumps(config)))
        must_be_same_data(self.folder / "data.jsonl", self._note()["data_sha256"], self._rows(samples, keys))

    @property
    def finished(self) -> bool:
        """Whether all was done, and the result written."""
        return bool(self._note()["finished"])

    def finish(self) -> None:
        """Note that the result was written."""
        if self._main:
            self._write_note({**self._note(), "finished": now(), "seconds": round(self._seconds(), 1)})

    def load(self) -> dict[str, Any] | None:
        """What the last save that can be read was given; None at the beginning. What was written later is cut off."""
        record = self._states.newest(self._say)
        steps = self.steps = record["state"]["number"] if record else 0
        if record:
            self._before, self._bests, self._epochs.losses = record["seconds"], record["bests"], record["losses"]
        self._started = self._saved = time.monotonic()
        if self._main:
            for file in self.folder.rglob("*.part"):  # of a process that was killed while it wrote
                file.unlink()
            self._log = Log(self.folder / "log.csv", steps)
            self._board = Board(self.folder / "tensorboard", steps)
        return record["state"] if record else None

    def due(self) -> bool:
        """Whether the last state is old enough for another, or nothing may come after it."""
        return self.stopping or time.monotonic() - self._saved >= self._save_every

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state and the log up to it, then remove what is older than need be.

        Raises:
            ZsadError: If there is no room.
        """
        self._saved = time.monotonic()
        if not self._main:
            return
        assert self._log and self._board, "load comes first"
        self._log.sync()
        self._board.sync()
        steps = int(state["number"])
        bests = {**self._bests, steps: self._epochs.best}
        self._bests = {number: bests[number] for number in self._states.kept(steps) if number in bests}
        record = {"state": state, "seconds": self._seconds(), "bests": self._bests, "losses": self._epochs.losses}
        self._states.write(steps, record)
        self.steps = steps
        self._epochs.prune(set(self._bests.values()))

    def log(self, step: Step) -> None:
        """A row of log.csv, and points for TensorBoard."""
        if self._main:
            assert self._log and self._board, "load comes first"
            self._log.add(step, self._seconds())
            self._board.add(step)

    def epoch_done(self, method: Method, stage: int, epoch: int, stages: int, terms: Mapping[str, float]) -> None:
        """Write the checkpoint of an epoch: see :meth:`zsad.training.epochs.Epochs.add`."""
        self._epochs.add(method, stage, epoch, stages, terms, write=self._main)

    def final(self, method: Method) -> None:
        """Put the best epoch's weights in place, if they are to be the result; the main process has written by then."""
        if self._final == "best":
            self._epochs.restore_best(method)

    def close(self) -> None:
        """Let others have the folder; nothing is written after it."""
        for part in (self._log, self._board):
            if part:
                part.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_lock(self) -> None:
        file = self.folder / "lock"
        self._lock = FileLock(file)  # the system lets go of it when a process ends, however it ends
        with writing(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=_PATIENCE)
            except Timeout as error:
                said = f"another process is training in {self.folder}; wait for its end, or name another --out"
                raise ZsadError(said) from error

    def _begin(
        self,
        config: Mapping[str, Any],
        samples: Sequence[Sample],
        keys: Sequence[str],
        overwrite: bool,
        device: str | torch.device,
    ) -> None:
        here, data = environment(device), self.folder / "data.jsonl"
        if self.there and not overwrite:
            self.must_fit(config, samples, keys)
            self._go_on(here)
            return
        self._remove()
        rows = self._rows(samples, keys)
        formats.write(rows, data)
        self._write("config.yaml", yaml_file.written(json.loads(json.dumps(config))))
        self._write("environment.json", json.dumps([here], indent=2) + "\n")
        self._write_note({"begun": now(), "images": len(rows), "data_sha256": sha256([data]), "finished": None})

    def _rows(self, samples: Sequence[Sample], keys: Sequence[str]) -> list[dict[str, Any]]:
        return [manifest_row(s, self.folder) | {"contents": key} for s, key in zip(samples, keys, strict=True)]

    def _go_on(self, here: dict[str, Any]) -> None:
        """Note with what an earlier run goes on."""
        if self.finished:
            return
        starts = self._read("environment.json")
        if not (isinstance(starts, list) and starts and all(isinstance(start, dict) for start in starts)):
            raise ZsadError(f"{self.folder / 'environment.json'} is not that of a run; {WAYS}")
        for change in changes(starts[-1], here):
            self._say(f"{self.folder} goes on with {change}; its numbers may differ from those of an unbroken run")
        self._write("environment.json", json.dumps([*starts, here], indent=2) + "\n")

    def _remove(self) -> None:
        """Remove an earlier run, or what is left of one; run.json first, without which no run counts as begun."""
        files = [file for pattern in _OWN for file in self.folder.glob(pattern)]
        for file in (self._note_file, *files):
            file.unlink(missing_ok=True)

    @property
    def _note_file(self) -> Path:
        return self.folder / "run.json"

    def _note(self) -> dict[str, Any]:
        note = self._read("run.json")
        if not isinstance(note, dict) or not {"data_sha256", "finished"} <= note.keys():
            raise ZsadError(f"{self._note_file} is not that of a run; {WAYS}")
        return note

    def _write_note(self, note: Mapping[str, Any]) -> None:
        self._write("run.json", json.dumps(note, indent=2) + "\n")

    def _read(self, name: str, reader: Callable[[Path], Any] = lambda path: json.loads(path.read_bytes())) -> Any:
        try:
            return reader(self.folder / name)
        except (OSError, ValueError, ZsadError) as error:
            raise ZsadError(f"{self.folder / name} is not that of a run: {error}; {WAYS}") from error

    def _write(self, name: str, text: str) -> None:
        with whole(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started
