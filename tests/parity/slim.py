"""Make a small copy of a golden file: python -m tests.parity.slim FOLDER NAME OUT PATTERN [PATTERN ...].

Keeps the arrays whose names match a shell pattern, and of the JSON what the checks read.
"""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

KEPT = ("method", "repo", "source", "seed", "side", "input", "inputs", "learnables", "hyper_parameters")
KEPT += ("test_sigma", "train_losses", "train_step_change_l2")  # VisualAD's
KEPT += ("prompts",)  # APRIL-GAN's
KEPT += ("config_test", "dattn_args")  # Crane's; also train_losses
KEPT += ("class_names",)  # AnoVL's
KEPT += ("train_losses_image0", "train_losses_image1")  # AdaCLIP's; also class_names, train_grads
KEPT += ("sigma", "checks", "train_grads", "loss_ab_sum_of_45_pairs_derived", "train_optimizer")  # FAPrompt's
KEPT += tuple(f"train_{kind}_stage{i}" for i in (1, 2) for kind in ("losses", "grads", "step_change_l2"))  # AA-CLIP's


def slim(folder: Path, name: str, out: Path, patterns: list[str]) -> int:
    """Write the copy; the size of its arrays file in bytes."""
    with np.load(folder / f"{name}.npz") as arrays:
        kept = {key: arrays[key] for key in arrays if any(fnmatchcase(key, pattern) for pattern in patterns)}
    notes = json.loads((folder / f"{name}.json").read_text())
    np.savez_compressed(out / f"{name}.npz", **kept)  # type: ignore[arg-type]
    (out / f"{name}.json").write_text(json.dumps({key: notes[key] for key in KEPT if key in notes}, indent=1) + "\n")
    return (out / f"{name}.npz").stat().st_size


if __name__ == "__main__":
    source, stem, target, *wanted = sys.argv[1:]
    sys.stdout.write(f"{slim(Path(source), stem, Path(target), wanted)} bytes\n")
