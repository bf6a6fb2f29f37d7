"""zsad train as a person types it."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tests.test_cli import runner
from zsad import cli
from zsad.cli.watch import Watch
from zsad.data import synthetic
from zsad.errors import ZsadError
from zsad.training import Step

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


def test_a_checkpoint_that_no_run_made_is_not_replaced_without_a_word(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"precious")
    assert "--overwrite replaces it" in refused(folder, "--out", own, *SMALL)
    assert own.read_bytes() == b"precious"
    said_by(folder, "--out", own, *SMALL, "--overwrite")
    assert load_file(own)


def test_it_is_said_what_was_compared_and_what_could_not_be(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    synthetic.write(other, "auxiliary", normal=1, anomalous=1, size=64)
    said = said_by(folder, "--targets", other, *SMALL, "--dry-run")
    assert re.search(r"no training image is among the \d+ of \S+other", said)


def test_a_dry_run_says_what_is_there_of_the_run(folder: Path, tmp_path: Path) -> None:
    words = (folder, "--out", tmp_path / "own.safetensors", *SMALL)
    assert "own.run would be begun" in said_by(*words, "--dry-run")
    said_by(*words)
    assert "own.run is finished" in said_by(*words, "--dry-run")
    assert "was begun with another config" in said_by(*words, "--rate", 0.5, "--dry-run")


def test_a_mistake_that_is_mended_before_the_first_state_needs_no_overwriting(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "two"
    shutil.copytree(folder, root)
    bad = next(root.glob("*/test/good")) / "bad.png"
    bad.write_bytes(b"no image")
    words = (root, "--out", tmp_path / "own.safetensors", *SMALL)
    assert "bad.png" in refused(*words)
    bad.unlink()
    said_by(*words)


def test_the_command_to_try_can_be_typed_as_it_is(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's mine" / "own.safetensors"
    said = said_by(folder, "--out", out, *SMALL, "--read", "fit=pad")
    words = shlex.split(said[said.index("zsad evaluate") :])
    assert words[2:] == ["FOLDER", "--weights", str(out), "--backbone", "tiny", "--size", "64", "--read", "fit=pad"]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_saves_the_step_and_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    words = ["train", folder, "--out", tmp_path / "own.safetensors", *SMALL, "--batch-size", 1, "--epochs", 400]
    code = f"import sys; sys.argv[1:] = {list(map(str, words))!r}; from zsad.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "own.run" / "log.csv"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    steps = int(re.search(r"stopped after step (\d+); the same command goes on from there", said)[1])  # type: ignore[index]
    assert log.read_text().count("\n") == steps + 1 > 5
    assert (tmp_path / "own.run" / "state" / f"{steps:08d}.pt").exists()


def test_the_loss_is_seen_on_a_narrow_terminal() -> None:
    shown = io.StringIO()
    watch = Watch(Console(file=shown, width=80, force_terminal=True))
    terms = {"global": 1.25, "focal": 0.5, "dice": 2.125, "prior": 0.25}
    with watch:
        watch.step(Step(3, 240, 1, 2, terms, 1e-3, 753.8, 75.0))
    said = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", shown.getvalue()).split())
    for word in ("epoch 2", "3/240", "0:01:15 left", "753.8 images/s", "rate 0.001", "loss 4.125 = global 1.250"):
        assert word in said
    assert all(f"{name} {value:.3f}" in said for name, value in terms.items())


def test_where_nobody_looks_every_epoch_is_a_line() -> None:
    shown = io.StringIO()
    with Watch(Console(file=shown, width=40)) as watch:
        for number in range(1, 7):
            watch.step(Step(number, 6, 1, (number + 1) // 2, {"dice": 1 / number}, 1e-3, 10.0, 6.0 - number))
    lines = shown.getvalue().splitlines()
    assert [line[:22] for line in lines] == [
        "epoch 1, step 2 of 6  ",
        "epoch 2, step 4 of 6  ",
        "epoch 3, step 6 of 6  ",
    ]
    assert "dice 0.167" in lines[-1]
