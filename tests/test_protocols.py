"""What the papers train on and test on, and the datasets of a protocol in a folder."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.miniatures import miniatures
from zsad import cli
from zsad.data.catalog import catalog
from zsad.errors import ZsadError
from zsad.methods.table import METHODS
from zsad.training.leaks import refuse_seen
from zsad.training.plan import Plan
from zsad.training.protocols import PROTOCOLS, Images, Protocol, protocol, target_folders, training_samples

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
FIVE = ("anomalyclip", "crane", "visualad", "afrclip", "vip2clip")
FIRST = {mini.dataset: mini for mini in reversed(miniatures())}  # the first layout of each

each = pytest.mark.parametrize("row", PROTOCOLS.values(), ids=lambda row: row.name)


def fill(root: Path, *names: str, **renamed: str) -> Path:
    """A folder of miniatures, under their names or others."""
    for name, folder in {**{name: name for name in names}, **renamed}.items():
        (root / folder).mkdir(parents=True)
        FIRST[name].write(root / folder)
    return root


# --- the rows


@each
def test_every_dataset_and_method_of_a_row_exists(row: Protocol) -> None:
    assert {*row.targets, *(images.dataset for images in row.trains)} <= catalog().keys()
    assert {*row.methods, *row.settings} <= METHODS.keys() and row.methods and row.source
    assert all(images.label in (None, 0, 1) for images in row.trains)


@each
def test_no_dataset_is_trained_on_and_tested(row: Protocol) -> None:
    assert not {images.dataset for images in row.trains} & {*row.targets}
    assert row.targets and len({*row.targets}) == len(row.targets)


@each
def test_polyps_of_colondb_are_not_tested_where_they_are_trained_on_under_another_name(row: Protocol) -> None:
    polyps = any(images.dataset == "colondb-endo" and images.label != 0 for images in row.trains)
    assert not (polyps and "colondb" in row.targets)


@each
def test_settings_are_a_plan(row: Protocol) -> None:
    for values in row.settings.values():
        assert values.keys() <= {field.name for field in fields(Plan)}
        Plan(**values)  # type: ignore[arg-type]


@each
def test_a_method_is_trained_alike_on_equal_images(row: Protocol) -> None:
    """Mosaics and epochs go with the training set, so a second protocol of it must not have others."""
    for other in PROTOCOLS.values():
        for method in {*row.methods} & {*other.methods} & {*row.settings, *other.settings}:
            if row.trains == other.trains:
                assert row.settings.get(method) == other.settings.get(method)


@pytest.mark.parametrize("method", FIVE)
def test_the_protocols_of_a_paper_test_every_dataset_that_it_tests(method: str) -> None:
    tested = {target for row in PROTOCOLS.values() if method in row.methods for target in row.targets}
    assert {row.name for row in catalog().values() if method in row.papers} <= tested


def test_visualad_trains_twice_as_long_on_mvtec_as_on_visa() -> None:
    """scripts/CLIP.sh, 92 and 104."""
    assert protocol("visualad-visa").settings["visualad"] == {"epochs": 2}
    assert protocol("visualad").settings["visualad"] == {"epochs": 1}


def test_an_unknown_protocol_gets_the_nearest_proposed() -> None:
    with pytest.raises(ZsadError, match='no protocol "mvtec-colon"; did you mean "mvtec-colondb"'):
        protocol("mvtec-colon")


# --- its datasets in a folder


@each
def test_training_images_are_found_and_none_of_them_is_tested(row: Protocol, tmp_path: Path) -> None:
    root = fill(tmp_path / "data", *dict.fromkeys([*(images.dataset for images in row.trains), *row.targets]))
    samples = training_samples(row, root)
    for name, split, label in row.trains:
        expected = FIRST[name].counts[split]
        counts = Counter(s.label for s in samples if s.dataset == name)
        assert [counts[0], counts[1]] == [n if label in (None, i) else 0 for i, n in enumerate(expected)]
    assert {sample.split for sample in samples} == {"test"} and {sample.label for sample in samples} == {0, 1}
    folders = target_folders(row, root)
    assert list(folders) == list(row.targets) and all(folders[name] == root / name for name in row.targets)
    refuse_seen(samples, folders.values())


def test_images_of_other_datasets_in_the_archive_of_a_tested_one_are_not_tested(tmp_path: Path) -> None:
    """A collection of polyps holds both: it may lie there once for what is trained on and once for what is tested."""
    (collection,) = (mini for mini in miniatures() if (mini.dataset, mini.layout) == ("clinicdb", "PraNet"))
    fill(tmp_path, "visa")
    for name in ("clinicdb", "colondb"):
        (tmp_path / name).mkdir()
    collection.write(tmp_path / "clinicdb")
    shutil.copytree(tmp_path / "clinicdb", tmp_path / "colondb", dirs_exist_ok=True)
    row = protocol("visa-clinicdb")
    samples, folders = training_samples(row, tmp_path), target_folders(row, tmp_path)
    assert {sample.dataset for sample in samples} == {"visa", "clinicdb"} and [*folders] == ["colondb"]
    refuse_seen(samples, folders.values())


def test_normal_images_only_are_those(tmp_path: Path) -> None:
    samples = training_samples(protocol("medical-colondb"), fill(tmp_path, "clinicdb", "colondb-endo"))
    assert {(sample.dataset, sample.label) for sample in samples} == {("clinicdb", 1), ("colondb-endo", 0)}


def test_folders_are_known_by_other_names_of_their_dataset(tmp_path: Path) -> None:
    root = fill(tmp_path, mvtec="MVTec-AD", colondb="Colon_colonDB", ksdd="KolektorSDD", btad="BTech")
    (root / "notes").mkdir()
    (root / "visa.txt").touch()
    assert {sample.dataset for sample in training_samples(protocol("mvtec-colondb"), root)} == {"mvtec", "colondb"}
    assert target_folders(protocol("mvtec-colondb"), root) == {"btad": root / "BTech", "ksdd": root / "KolektorSDD"}


def test_every_missing_dataset_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ZsadError) as told:
        training_samples(protocol("mvtec-colondb"), fill(tmp_path, "visa"))
    assert f"zsad data fetch mvtec {tmp_path / 'mvtec'}" in str(told.value)
    assert f"{catalog()['colondb'].page} into {tmp_path / 'colondb'}" in str(told.value)
    assert "VisA" not in str(told.value)
    with pytest.raises(ZsadError, match="expected a folder"):
        training_samples(protocol("mvtec"), tmp_path / "nowhere")


def test_a_dataset_that_is_there_twice_is_refused_where_it_matters(tmp_path: Path) -> None:
    root = fill(tmp_path, "mvtec", visa="VisA_pytorch")
    fill(tmp_path, "visa")
    with pytest.raises(ZsadError, match="VisA more than once: VisA_pytorch and visa"):
        training_samples(protocol("visa"), root)
    with pytest.raises(ZsadError, match="more than once"):
        target_folders(protocol("mvtec"), root)
    assert training_samples(protocol("mvtec"), root)


def test_how_each_folder_was_understood_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    training_samples(protocol("mvtec-colondb"), fill(tmp_path, "mvtec", "colondb"), said.append)
    assert [text.partition(",")[0] for text in said] == ["MVTec AD", "CVC-ColonDB"]


def test_the_training_set_is_told_in_words() -> None:
    row = Protocol("own", (Images("mvtec", "train"), Images("isic", label=1)), (), (), "")
    assert row.trained_on == "MVTec AD, train split + ISIC (anomalous only)"


# --- command and page


def said(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["protocols", *words])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_list_has_every_protocol_and_one_of_them_in_full() -> None:
    assert all(f" {name} " in said() for name in PROTOCOLS)
    row = protocol("visualad")
    told = said("visualad")
    assert all(catalog()[name].title in told for name in row.targets) and all(note in told for note in row.notes)
    assert row.source in told and "visualad on this training set: epochs 1" in told
    assert "zsad train --protocol visualad --root DATA --method visualad" in told


@each
def test_the_page_has_every_protocol_as_it_is(row: Protocol) -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{row.name}` |"))
    assert line == f"| `{row.name}` | {row.trained_on} | {', '.join(row.targets)} | {', '.join(row.methods)} |"
