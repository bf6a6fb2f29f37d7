"""A training whose process is killed at random moments, again and again, and one that is not.

    python tests/killing.py IMAGES OUT METHOD SEED

Every attempt is a fork of this process, which has loaded everything and computed nothing, so that many are cheap.
Prints after how many steps each killed attempt left it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.cache import sample_keys
from zsad.data.index import samples_of
from zsad.methods.table import build
from zsad.training import Cache, Plan, train
from zsad.training.hardware import Hardware
from zsad.training.run import Run
from zsad.types import Sample

SIZE, IMAGES = 64, 7
KILLS, MOMENTS = 9, 150  # each at one of the first moments of its attempt, of which a step has about 12
PLAN = Plan(epochs=6, batch_size=2)


def trained(samples: list[Sample], towers: CLIP, out: Path, name: str) -> None:
    """What the command does: begin or go on, and write the result."""
    torch.manual_seed(0)
    method = build(name, towers)
    config = {"method": name, "epochs": PLAN.epochs}
    with Run.begin(out / "own.run", config, samples, sample_keys(samples), save_every=0.0, final="best") as run:
        if not run.finished:
            train(method, samples, SIZE, PLAN, cache=Cache("disk", out / "cache"), keeper=run)
            method.save(out / "own.safetensors")
            run.finish()


def attempt(samples: list[Sample], towers: CLIP, out: Path, name: str, moment: int = 0) -> bool:
    """Whether a process comes to its end that kills itself at a moment, if that is above 0."""
    child = os.fork()
    if not child:
        try:
            if moment:
                arm(moment)
            trained(samples, towers, out, name)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("an attempt failed")
    return os.WIFEXITED(status)


def arm(moment: int) -> None:
    """Have this process killed right before or after something that writes or learns, such as the `moment`-th time."""
    left = iter(range(moment - 1, -1, -1))

    def watched(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*values: Any, **named: Any) -> Any:
            if not next(left):
                os.kill(os.getpid(), signal.SIGKILL)
            result = act(*values, **named)
            if not next(left):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return acting

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Hardware, "step")):
        setattr(owner, name, watched(getattr(owner, name)))


def main() -> None:
    """See above."""
    out, name, rng = Path(sys.argv[2]), sys.argv[3], random.Random(int(sys.argv[4]))
    torch.set_num_threads(1)
    given = samples_of(sys.argv[1])[:IMAGES], weights.load("tiny")
    attempt(*given, out / "unbroken", name)
    states, left = out / "killed" / "own.run" / "state", []
    for _ in range(KILLS):
        if attempt(*given, out / "killed", name, rng.randint(1, MOMENTS)):
            break
        left.append(max((int(file.stem) for file in states.glob("*.pt")), default=0))
    attempt(*given, out / "killed", name)
    print(*left)


if __name__ == "__main__":
    main()
