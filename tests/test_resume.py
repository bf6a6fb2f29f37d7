"""A training that was killed goes on to the weights of one that was not."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from zsad.data import synthetic

HERE = Path(__file__).parent


def contents(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata and tensors of a checkpoint."""
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


def steps(path: Path) -> list[dict[str, str]]:
    """Rows of a log without what depends on the clock."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in ("images_per_second", "seconds")} for row in rows]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
@pytest.mark.parametrize("name", ["anomalyclip", "visualad", "aaclip"])  # dropout in one; the last has two stages
def test_killed_at_random_moments_it_ends_in_the_weights_of_an_unbroken_training(tmp_path: Path, name: str) -> None:
    synthetic.write(tmp_path / "set" / "auxiliary", "auxiliary", normal=1, anomalous=1, size=64)
    ran = subprocess.run(
        [sys.executable, HERE / "killing.py", tmp_path / "set" / "auxiliary", tmp_path, name, "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ZSAD_HOME": str(tmp_path / "home")},
    )
    assert ran.returncode == 0, ran.stderr
    left = [int(number) for number in ran.stdout.split()]
    assert left == sorted(left) and len(set(left)) > 3  # there were kills, and nothing that was saved was lost
    assert contents(tmp_path / "killed" / "own.safetensors") == contents(tmp_path / "unbroken" / "own.safetensors")
    logs = [steps(tmp_path / kind / "own.run" / "log.csv") for kind in ("killed", "unbroken")]
    assert logs[0] == logs[1] and len(logs[0]) == (48 if name == "aaclip" else 24)
