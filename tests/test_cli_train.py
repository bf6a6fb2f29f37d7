"""zsad train as a person types it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.test_cli import runner
from zsad import cli
from zsad.data import synthetic
from zsad.errors import ZsadError

SMALL = ("--size", 64, "--epochs", 1, "--set", "layers=12,24", "--set", "context_length=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, normal and anomalous."""
    root = tmp_path_factory.mktemp("set")
    synthetic.write(root / "all", "unseen", normal=1, anomalous=1, size=64)
    for name in sorted(path.name for path in (root / "all").iterdir())[:2]:
        shutil.copytree(root / "all" / name, root / "two" / name)
    return root / "two"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "home"))


def run(*words: object) -> tuple[int, str]:
    """Exit code and everything said, as `zsad train WORDS` gives them, in this process."""
    result = runner.invoke(cli.app, ["train", *map(str, words)])
    error = result.exception
    if error and not isinstance(error, ZsadError | SystemExit):
        raise error
    return result.exit_code, " ".join([*result.output.split(), *(str(error).split() if error else ())])


def said_by(*words: object) -> str:
    """What a command says that must succeed."""
    code, said = run(*words)
    assert code == 0, said
    return said


def refused(*words: object) -> str:
    code, said = run(*words)
    assert code == 1, said
    return said


def test_a_run_is_told_finished_when_finished_and_made_again_from_its_own_config(folder: Path, tmp_path: Path) -> None:
    own, again = tmp_path / "own.safetensors", tmp_path / "again.safetensors"
    said = said_by(folder, "--out", own, *SMALL)
    assert "4 images" in said and "learnable parameters" in said and "own.run" in said and "features: in memory" in said
    assert re.search(r"1 steps, 0:00:\d\d; try it: zsad evaluate FOLDER --weights \S+ --backbone tiny --size 64", said)
    assert "own.safetensors is finished" in said_by(folder, "--out", own, *SMALL)
    said_by("--config", tmp_path / "own.run" / "config.yaml", "--out", again)
    first, second = load_file(own), load_file(again)
    assert all(torch.equal(first[key], second[key]) for key in first | second)
    assert (tmp_path / "own.run" / "config.yaml").read_bytes() == (tmp_path / "again.run" / "config.yaml").read_bytes()


def test_another_config_in_the_folder_of_a_run_is_refused_until_it_is_overwritten(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    said_by(folder, "--out", own, *SMALL)
    assert "rate" in refused(folder, "--out", own, *SMALL, "--rate", 0.01)
    assert "1 steps" in said_by(folder, "--out", own, *SMALL, "--rate", 0.01, "--overwrite")


def test_options_go_before_the_file_and_set_before_options(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"data: [{folder}]\nsize: 64\nepochs: 7\nseed: 3\nbatch_size: 2\n", encoding="utf-8")
    said = said_by("--config", config, "--seed", 4, "--epochs", 5, "--set", "epochs=2", "--dry-run")
    assert "epochs 2 " in said and "seed 4 " in said and "batch_size 2 " in said and "steps: 4;" in said


def test_a_dry_run_tells_everything_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    said = said_by(folder, "--dry-run", *SMALL, "--out", tmp_path / "own.safetensors")
    for part in ("switches.layers 12,24", "rate 0.001 as published", "learnable parameters: ", "steps: 1;"):
        assert part in said
    assert "0 of 4 images are there" in said and "in all (h:mm:ss)" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{folder}", "--set", "epoch=3", "--dry-run"), 'did you mean "epochs"'),
        (("--dry-run",), "either ROOT, a labelled folder, or --protocol NAME (zsad protocols); got neither"),
        (("{folder}", "--protocol", "mvtec", "--dry-run"), "got both"),
        (("--protocol", "mvtce", "--dry-run"), 'did you mean "mvtec"'),
        (("--protocol", "mvtec", "--root", "{folder}", "--dry-run"), "lacks what the protocol mvtec trains on"),
        (("--config", "none.yaml", "--dry-run"), "none.yaml: cannot be read"),
        (("{folder}", "--method", "winclip", "--dry-run"), "winclip learns nothing"),
        (("{folder}", "--targets", "{folder}", "--dry-run"), "of the images to train on are also tested"),
        (("{folder}", "--precision", "fp8", "--dry-run"), "no precision"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_written(
    folder: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in refused(*(word.format(folder=folder) for word in words))
    assert not list(tmp_path.iterdir())


def test_a_training_without_a_file_to_write_is_wrong_usage(folder: Path) -> None:
    code, said = run(folder)
    assert code == 2 and "--out" in said


def test_several_folders_are_trained_on_together_each_image_once(folder: Path, tmp_path: Path) -> None:
    first, second = sorted(folder.iterdir())
    shutil.copytree(first, tmp_path / "one" / first.name)
    shutil.copytree(second, tmp_path / "other" / second.name)
    said = said_by(tmp_path / "one", tmp_path / "other", tmp_path / "one", "--dry-run", *SMALL)
    assert "2 images are in several of these folders" in said and "0 of 4 images are there" in said
