"""Two processes train what one trains."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from zsad.data import synthetic

TRAIN = ("zsad.cli", "train", "--epochs", "2", "--batch-size", "5", "--size", "64", "--device", "cpu")
#: On a CPU, too, accelerate starts several processes by the switch that is named after several GPUs.
TWO = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"),
)


def launched(folder: Path, out: Path, *before: str) -> list[dict[str, str]]:
    """The rows of the log of a training."""
    words = [sys.executable, "-m", *before, *TRAIN, str(folder), "--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ZSAD_HOME": str(out.parent / f"home of {out.stem}")}
    ran = subprocess.run(words, capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("try it:") == 1  # one process tells
    with (out.with_suffix(".run") / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_processes_have_the_loss_curve_and_the_weights_of_one(tmp_path: Path) -> None:
    """The order of sums differs, and Adam makes steps of differences in rounding where a gradient is nothing else."""
    folder = tmp_path / "set" / "auxiliary"
    synthetic.write(folder, "auxiliary", normal=1, anomalous=1, size=64)
    one, two = launched(folder, tmp_path / "one.safetensors"), launched(folder, tmp_path / "two.safetensors", *TWO)
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for a, b in zip(one, two, strict=True):
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=1e-3)
        assert float(b["loss"]) != float(a["loss"]) or a["step"] == "1"
    weights = [load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        assert (value - weights[1][name]).abs().mean() < 1e-5
