"""zsad data, and the commands that take what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.miniatures import mask, picture
from zsad import cli
from zsad.data.catalog import catalog
from zsad.errors import ZsadError

runner = CliRunner()


def run(*words: object) -> tuple[int, str]:
    """Exit code and everything printed; an error of zsad is printed as `main` does it."""
    result = runner.invoke(cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit | ZsadError):
        raise result.exception
    said = str(result.exception) if isinstance(result.exception, ZsadError) else ""
    return result.exit_code, " ".join((result.output + said).split())


@pytest.fixture
def nuts(tmp_path: Path) -> Path:
    root = tmp_path / "nuts"
    for name in ("good/1.png", "good/2.png", "bad/3.png", "bad/4.png"):
        picture(root / name, size=(40, 30))
    for name in ("masks/3.png", "masks/4.png"):
        mask(root / name, size=(40, 30))
    return root


@pytest.mark.parametrize("command", ["list", "index", "check", "show", "fetch", "synth"])
def test_every_help_text_has_an_example(command: str) -> None:
    code, said = run("data", command, "--help")
    assert code == 0 and f"Example: zsad data {command}" in said


def test_list_has_every_dataset_and_one_of_them_in_full() -> None:
    code, said = run("data", "list")
    assert code == 0 and all(f" {name} " in said for name in catalog())
    code, said = run("data", "list", "SDD")
    assert code == 0 and "kos01/Part0_label.bmp" in said and "181 + 74" in said and "CC BY-NC-SA 4.0" in said


@pytest.mark.parametrize("name", ["all.jsonl", "all.parquet", "all.csv", "nuts/meta.json"])
def test_index_says_what_it_understood_and_writes_what_evaluate_takes(nuts: Path, name: str) -> None:
    to = nuts.parent / name
    code, said = run("data", "index", nuts, "--out", to)
    assert code == 0 and "normal in good" in said and "4 images" in said
    code, said = run("evaluate", to, "--method", "clip", "--size", 64)
    assert code == 0, said
    assert "nuts 4" in said
    same = run("evaluate", nuts, "--method", "clip", "--size", 64)[1]
    assert same.partition(" class images ")[2] == said.partition(" class images ")[2]


def test_index_joins_folders_and_goes_on_over_what_is_wrong(nuts: Path) -> None:
    picture(nuts.parent / "bolts/ok/1.png")
    (nuts / "masks/3.png").unlink()
    code, said = run("data", "index", nuts, nuts.parent / "bolts", "--out", nuts.parent / "all.jsonl")
    assert code == 1 and "anomalous images without a mask (1): bad/3.png" in said
    rows = [json.loads(line) for line in (nuts.parent / "all.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows if row["class_name"] == "bolts"] == ["bolts/ok/1.png"]
    assert len(rows) == 5


def test_index_names_tables_and_pictures_that_it_leaves_alone(nuts: Path) -> None:
    (nuts / "notes.csv").write_text("when,who\nyesterday,me\n")
    (nuts / "good/7.heic").write_bytes(b"picture")
    code, said = run("data", "index", nuts)
    assert code == 0 and "notes.csv" in said and "not read: 1 .heic" in said


def test_index_keeps_an_image_of_two_folders_once(nuts: Path) -> None:
    said = run("data", "index", nuts, nuts, "--out", nuts.parent / "all.jsonl")[1]
    assert "4 images are in several of these folders" in said
    assert len((nuts.parent / "all.jsonl").read_text().splitlines()) == 4


def test_predict_takes_a_manifest(nuts: Path) -> None:
    run("data", "index", nuts, "--out", nuts.parent / "all.jsonl")
    code, said = run("predict", nuts.parent / "all.jsonl", "--method", "clip", "--size", 64, "--out", nuts / "results")
    assert code == 0 and "4 images done" in said


def test_check_ends_with_1_where_something_is_wrong(nuts: Path) -> None:
    code, said = run("data", "check", nuts, "--workers", 0)
    assert code == 0 and "nothing is wrong" in said
    (nuts / "bad/3.png").write_bytes((nuts / "bad/3.png").read_bytes()[:60])
    code, said = run("data", "check", nuts, "--workers", 0)
    assert code == 1 and "bad/3.png" in said
    code, said = run("data", "check", "brainmri", nuts, "--workers", 0)
    assert code == 1 and "96 normal missing and 153 anomalous missing" in said


def test_show_draws_a_sheet_whose_name_says_the_format(nuts: Path) -> None:
    code, said = run("data", "show", nuts, "--out", nuts.parent / "sheet.jpg")
    assert code == 0
    with Image.open(nuts.parent / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG" and f"{sheet.width} x {sheet.height} pixels" in said
    assert run("data", "show", nuts, "--out", nuts.parent / "sheet.txt")[0] == 1


def test_fetch_says_where_to_get_what_it_cannot_download(tmp_path: Path) -> None:
    code, said = run("data", "fetch", "headct", tmp_path / "headct")
    assert code == 1 and catalog()["headct"].page in said and "labels.csv" in said


def test_switches_of_reading_count_and_wrong_ones_are_named(nuts: Path) -> None:
    plain = run("evaluate", nuts, "--method", "clip", "--size", 64, "--out", nuts / "a.csv")
    padded = run("evaluate", nuts, "--method", "clip", "--size", 64, "--out", nuts / "b.csv", "--read", "fit=pad")
    assert plain[0] == padded[0] == 0 and (nuts / "a.csv").read_text() != (nuts / "b.csv").read_text()
    assert 'did you mean "fit"' in run("evaluate", nuts, "--method", "clip", "--read", "fitt=pad")[1]
    assert "fit is one of stretch, pad, keep" in run("evaluate", nuts, "--method", "clip", "--read", "fit=crop")[1]


def test_rules_of_reading_are_told_once_per_run(nuts: Path) -> None:
    for name in ("good/5.png", "good/6.png"):
        picture(nuts / name, size=(40, 30), mode="P")
    said = run("evaluate", nuts, "--method", "clip", "--size", 64)[1]
    assert said.count("palette to RGB: 2 files") == 1
