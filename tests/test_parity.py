"""Every method against the numbers of its released code (tests/parity/golden), and the command that compares them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.parity.__main__ import main
from tests.parity.checks import CHECKS, quantities
from tests.parity.golden import FOLDER, Golden, Words
from zsad.methods.table import METHODS, method_class

GOLDEN = FOLDER / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_all_numbers_are_the_released_ones(name: str) -> None:
    golden = Golden.read(GOLDEN, name)
    wrong = [f"{row.name}: {row.difference:.2e}" for row in quantities(golden) if not row.holds]
    assert not wrong
    assert golden.compared == golden.arrays.keys()  # what is kept here is kept to be compared


def test_every_check_has_its_golden_file_here() -> None:
    assert set(NAMES) == set(CHECKS)


def copy_of(name: str, folder: Path, change: dict[str, float] | None = None, beginning: str = "") -> None:
    """A golden file with some arrays moved by a number, of which only those that begin so are kept out."""
    shutil.copy(GOLDEN / f"{name}.json", folder)
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        kept = {key: arrays[key] for key in arrays if not (beginning and key.startswith(beginning))}
    for key, by in (change or {}).items():
        kept[key] = kept[key] + np.float32(by)
    np.savez(folder / f"{name}.npz", **kept)  # type: ignore[arg-type]


def test_a_number_past_its_tolerance_is_named_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_of("anomalyclip", tmp_path, {"image_score": 2e-4}, beginning="train")
    assert main([str(tmp_path)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1 and "image_score" in failed[0]


def test_a_folder_with_inference_only_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_of("anomalyclip", tmp_path, beginning="train")
    assert main([str(tmp_path), "--method", "anomalyclip"]) == 0
    assert "0 arrays not compared" in capsys.readouterr().out


def test_an_odd_file_is_named_and_the_others_are_still_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_of("anomalyclip", tmp_path, beginning="train")
    np.savez(tmp_path / "vip2clip.npz", x=np.zeros(1))
    (tmp_path / "vip2clip.json").write_text("{}")
    np.savez(tmp_path / "visualad.npz", x=np.zeros(1))
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAIL vip2clip: cannot be checked" in said and "FAIL visualad: cannot be checked" in said
    assert "anomalyclip: 6 quantities, 0 past" in said


def test_every_method_that_is_held_to_released_numbers_has_a_check_and_no_other_has() -> None:
    checked = {name.partition("_")[0] for name in CHECKS}
    assert {name for name in METHODS if method_class(name).reference.golden} == checked & METHODS.keys()


def test_a_method_means_all_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("crane", "crane_dattn", "anomalyclip"):
        copy_of(name, tmp_path)
    assert main([str(tmp_path), "--method", "crane"]) == 0
    said = capsys.readouterr().out
    assert "crane_dattn: " in said and "anomalyclip" not in said


def test_nothing_to_check_is_not_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    copy_of("anomalyclip", tmp_path, beginning="train")
    assert main([str(tmp_path), "--method", "crane"]) == 1
    assert "anomalyclip" in capsys.readouterr().err


def test_seed_and_side_are_read_from_either_kind_of_notes() -> None:
    assert (Golden("a", {"seed": 3, "side": 168}, {}).seed, Golden("a", {"seed": 3, "side": 168}, {}).side) == (3, 168)
    told = {"input": {"weights": "clip_state_dict(SMALL, seed=7)", "image": "image_batch() -> (2,3,168,168)"}}
    assert (Golden("a", told, {}).seed, Golden("a", told, {}).side) == (7, 168)


def test_the_words_of_the_golden_runs_are_clips() -> None:
    ids, end = Words()(["object.", "damaged object."])
    assert ids.tolist() == [[49406, 14115, 269, 49407, 0], [49406, 13568, 14115, 269, 49407]]
    assert end.tolist() == [3, 4]
