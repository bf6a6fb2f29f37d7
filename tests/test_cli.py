"""The command line as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from zsad import cli
from zsad.data import synthetic

runner = CliRunner()


def run(*words: object) -> tuple[int, str]:
    """Exit code and everything printed, as `zsad WORDS` gives them."""
    done = subprocess.run(
        [sys.executable, "-m", "zsad.cli", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set") / "unseen"
    synthetic.write(root, "unseen", normal=1, anomalous=2, size=64)
    return root


def test_help_and_package_do_not_import_torch() -> None:
    code = "import sys, zsad, zsad.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "command", ["predict", "train", "evaluate", "demo", "data synth", "data show", "weights convert"]
)
def test_every_help_text_has_an_example(command: str) -> None:
    result = runner.invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Example: zsad " + command in " ".join(result.output.split())


def test_predict_writes_tables_maps_and_overlays_and_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(synthetic.render("marble", "crack", 3, 64).image).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    code, said = run("predict", tmp_path, "--out", tmp_path / "results")
    assert code == 1
    assert "2 images done, 1 unreadable" in said
    assert "--backbone clip-vit-l-14-336 --weights anomalyclip/mvtec" in " ".join(said.split())
    rows = [json.loads(line) for line in (tmp_path / "results" / "predictions.jsonl").read_text().splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert {path.name for path in (tmp_path / "results" / "maps").iterdir()} == {"a.tiff", "b.tiff"}
    assert {path.name for path in (tmp_path / "results" / "overlays").iterdir()} == {"a.png", "b.png"}
    code, said = run("predict", tmp_path / "a.png", "--out", tmp_path / "results")
    assert code == 1
    assert "--resume" in said


def test_train_then_evaluate_with_its_checkpoint(unseen: Path, tmp_path: Path) -> None:
    kept, numbers = tmp_path / "own.safetensors", tmp_path / "numbers.csv"
    words = ("--size", 64, "--set", "layers=12,24", "--set", "context_length=4")
    code, said = run("train", unseen, "--out", kept, "--epochs", 1, *words)
    assert code == 0, said
    code, said = run("evaluate", unseen, "--weights", kept, "--size", 64, "--out", numbers)
    assert code == 0, said
    assert "mean" in said
    assert numbers.read_text().splitlines()[-1].startswith("mean,30,")


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (("evaluate", "{unseen}", "--method", "anomalyclp"), 'did you mean "anomalyclip"'),
        (("evaluate", "{unseen}", "--backbone", "clip-vit-l14-336"), 'did you mean "clip-vit-l-14-336"'),
        (("evaluate", "{unseen}", "--weights", "anomalyclip/mvtc"), 'did you mean "anomalyclip/mvtec"'),
        (("train", "{unseen}", "--out", "x.safetensors", "--set", "layer=24"), 'did you mean "layers"'),
        (("data", "synth", "x", "--half", "unsen"), 'did you mean "unseen"'),
    ],
)
def test_an_unknown_name_gets_the_nearest_proposed_and_exit_code_1(
    unseen: Path, words: tuple[str, ...], proposed: str
) -> None:
    code, said = run(*(word.format(unseen=unseen) for word in words))
    assert code == 1
    assert proposed in " ".join(said.split())
    assert "Traceback" not in said


def test_wrong_usage_ends_with_exit_code_2() -> None:
    assert run("predict")[0] == 2
    assert run("evaluate", "x", "--siz", 3)[0] == 2


def test_methods_and_weights_are_listed() -> None:
    rows = runner.invoke(cli.app, ["methods"]).output.splitlines()
    (row,) = [row.split() for row in rows if row.split()[:1] == ["winclip"]]
    assert row[1:] == ["2023", "no", "yes", "yes", "clip-vit-b-16-plus-240", "0", "0818c9d", "numbers"]
    assert "--set scales=2,3" in runner.invoke(cli.app, ["methods", "winclip"]).output
    listed = runner.invoke(cli.app, ["weights", "list"]).output
    assert "clip-vit-l-14-336" in listed
    assert "anomalyclip/mvtec" in listed


def test_a_method_that_learns_nothing_predicts_at_once_with_the_switches_given(tmp_path: Path) -> None:
    Image.fromarray(synthetic.render("marble", "crack", 3, 64).image).save(tmp_path / "a.png")
    command = ["predict", tmp_path / "a.png", "--method", "winclip", "--size", 64, "--set", "scales=2"]
    code, said = run(*command, "--out", tmp_path / "results")
    assert code == 0 and "1 images done" in said
    assert "--backbone clip-vit-b-16-plus-240[" not in said and "--weights" not in said
    settings = json.loads(next((tmp_path / "results").glob("*.json")).read_text())
    assert "(2,)" in json.dumps(settings)


def test_a_method_that_learns_nothing_cannot_be_trained(unseen: Path, tmp_path: Path) -> None:
    code, said = run("train", unseen, "--out", tmp_path / "own.safetensors", "--method", "winclip")
    assert code == 1 and "winclip learns nothing" in " ".join(said.split())


def test_the_demo_writes_one_page_and_names_what_it_left_out(unseen: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(unseen, tmp_path / "demo" / "images")
    (tmp_path / "demo" / "images" / "leaf" / "test" / "good" / "000.png").write_bytes(b"no image")
    code, said = run("demo", "--out", tmp_path / "demo")
    assert code == 1
    assert "left out" in said
    assert "mean" in said
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "marble" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_threshold_on_the_command_line_decides(tmp_path: Path) -> None:
    Image.fromarray(synthetic.render("marble", None, 3, 64).image).save(tmp_path / "a.png")
    for threshold, decision in ((0.0, "anomalous"), (1.1, "normal")):
        code, _ = run("predict", tmp_path, "--out", tmp_path / "r", "--overwrite", "--threshold", threshold)
        assert code == 0
        (row,) = (tmp_path / "r" / "predictions.jsonl").read_text().splitlines()
        assert json.loads(row)["decision"] == decision


def test_results_are_not_read_as_photographs(tmp_path: Path) -> None:
    Image.fromarray(synthetic.render("marble", None, 3, 64).image).save(tmp_path / "a.png")
    for words in ((), ("--overwrite",)):
        code, said = run("predict", tmp_path, "--out", tmp_path / "results", *words)
        assert code == 0, said
        assert "1 images done" in said


def test_a_checkpoint_that_could_not_be_written_is_told_before_training(unseen: Path, tmp_path: Path) -> None:
    code, said = run("train", unseen, "--out", tmp_path / "own.pt")
    assert code == 1
    assert "must be a file that ends in .safetensors" in " ".join(said.split())


def test_a_published_checkpoint_names_the_backbone_it_needs(unseen: Path) -> None:
    code, said = run("evaluate", unseen, "--weights", "anomalyclip/mvtec")
    assert code == 1
    assert "add --backbone clip-vit-l-14-336" in " ".join(said.split())


def test_names_with_brackets_and_colons_are_shown_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "part [old]:key:"
    synthetic.write(tmp_path / "set", "unseen", normal=1, anomalous=1, size=32)
    (tmp_path / "set" / "leaf").rename(root)
    code, said = run("data", "show", root)
    assert code == 0
    assert "part [old]:key:" in said
