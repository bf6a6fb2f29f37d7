"""Any folder, table or named dataset is understood, and says how."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.miniatures import Miniature, mask, miniatures, picture
from zsad.data.found import IGNORED
from zsad.data.index import LAYOUTS, images_and_names, index, samples_of
from zsad.data.tables import write_table
from zsad.errors import ZsadError

REAL = Path(__file__).parents[2] / "shared" / "data"
ORIGINALS = [one for one in miniatures() if one.layout == "original"]


def counts(root: Path, dataset: str | None = None) -> dict[str, tuple[int, int]]:
    found = index(root, dataset)
    assert found.problems == []
    seen = Counter((sample.split, sample.label) for sample in found.samples)
    return {split: (seen[split, 0], seen[split, 1]) for split in sorted({split for split, _ in seen})}


@pytest.mark.parametrize("mini", ORIGINALS, ids=lambda mini: f"{mini.dataset}")
def test_a_dataset_is_known_by_the_name_of_its_folder(tmp_path: Path, mini: Miniature) -> None:
    root = tmp_path / mini.dataset
    root.mkdir()
    mini.write(root)
    found = index(root)
    assert {sample.dataset for sample in found.samples} == {mini.dataset}
    assert "by the name of the folder" in found.understood
    assert found.samples == index(root, mini.dataset).samples


OWN_CLASSES = [one for one in ORIGINALS if one.classes > 1 and one.dataset not in ("btad", "dagm")]  # 01, Class1


@pytest.mark.parametrize("mini", OWN_CLASSES, ids=lambda mini: f"{mini.dataset}")
def test_a_dataset_with_classes_of_its_own_is_known_by_them(tmp_path: Path, mini: Miniature) -> None:
    root = tmp_path / "some folder"
    root.mkdir()
    mini.write(root)
    assert {sample.dataset for sample in index(root).samples} == {mini.dataset}


def test_plain_numbers_are_nobodys_classes(tmp_path: Path) -> None:
    for name in ("01", "02", "03"):
        picture(tmp_path / "lines" / name / "test" / "good" / "1.png")
    assert {sample.dataset for sample in index(tmp_path / "lines").samples} == {"lines"}


def test_a_named_dataset_that_is_not_there_shows_how_its_files_should_lie(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "1.png")
    with pytest.raises(ZsadError, match=r"(?s)does not hold VisA.*split_csv.*Found in .*photos: 1.png"):
        index(tmp_path, "visa")


def test_an_unknown_dataset_gets_the_nearest_proposed(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match='did you mean "mvtec"'):
        index(tmp_path, "mvtce")


@pytest.mark.parametrize("name", ["no/where", "empty"])
def test_what_holds_no_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZsadError, match="expected"):
        index(tmp_path / name)


def test_photographs_without_any_order_have_no_label(tmp_path: Path) -> None:
    for name in ("a.png", "deep/er/b.png"):
        picture(tmp_path / name)
    found = index(tmp_path)
    assert [(s.image.name, s.label, s.mask) for s in found.samples] == [("a.png", None, None), ("b.png", None, None)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["good/1.png", "bad/2.png"], (1, 1)),
        (["nut/good/1.png", "nut/bad/2.png", "bolt/ok/1.png", "bolt/ng/2.png"], (2, 2)),
        (["test/good/1.png", "test/crack/2.png", "ground_truth/crack/2_mask.png"], (1, 1)),
        (["images/1.png", "images/2.png", "masks/1.png", "masks/2.png"], (0, 2)),
    ],
)
def test_folder_names_tell_the_label(tmp_path: Path, files: list[str], expected: tuple[int, int]) -> None:
    for name in files:
        (mask if {"masks", "ground_truth"} & set(Path(name).parts) else picture)(tmp_path / name)
    assert counts(tmp_path) == {"test": expected}


def test_a_table_tells_the_label_before_folders_do(tmp_path: Path) -> None:
    picture(tmp_path / "good/1.png")
    picture(tmp_path / "good/2.png")
    (tmp_path / "labels.csv").write_text("image,label\ngood/1.png,normal\ngood/2.png,anomaly\n")
    assert counts(tmp_path) == {"test": (1, 1)}


def test_a_manifest_stands_for_its_folder(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png"):
        picture(tmp_path / name)
    found = index(tmp_path)
    write_table(found.samples, tmp_path / "all.jsonl")
    assert index(tmp_path / "all.jsonl").samples == found.samples
    assert samples_of(tmp_path / "all.jsonl") == samples_of(tmp_path)


def test_every_layout_leaves_a_folder_without_images_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    assert [layout(tmp_path) for layout in LAYOUTS] == [None] * len(LAYOUTS)


def test_samples_are_those_of_one_split(tmp_path: Path) -> None:
    for name in ("train/good/1.png", "test/good/2.png", "test/hole/3.png"):
        picture(tmp_path / name)
    assert [s.image.name for s in samples_of(tmp_path, "train")] == ["1.png"]
    assert [s.image.name for s in samples_of(tmp_path)] == ["2.png", "3.png"]
    with pytest.raises(ZsadError, match=r"no image in the val split .there is: test, train"):
        samples_of(tmp_path, "val")


def test_a_class_without_images_in_the_split_is_named(tmp_path: Path) -> None:
    for name in ("nut/train/good/1.png", "nut/test/good/2.png", "bolt/train/good/3.png"):
        picture(tmp_path / name)
    with pytest.raises(ZsadError, match="no image in the test split of bolt"):
        samples_of(tmp_path)


def test_samples_are_refused_where_a_mask_is_missing_and_the_index_names_it(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png", "bad/3.png"):
        picture(tmp_path / name)
    mask(tmp_path / "masks/2.png")
    with pytest.raises(ZsadError, match=r"without a mask \(1\): .*3\.png"):
        samples_of(tmp_path)
    assert [problem.path.name for problem in index(tmp_path).problems] == ["3.png"]
    assert len(index(tmp_path).samples) == 3


def test_images_that_belong_to_nothing_are_named(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png", "strange/3.png"):
        picture(tmp_path / name)
    problems = index(tmp_path).problems
    assert [problem.kind for problem in problems] == [IGNORED] and "strange" in str(problems[0].path)


def test_predicting_a_manifest_takes_its_images_and_their_names(tmp_path: Path) -> None:
    for name in ("nut/good/1.png", "nut/bad/2.png", "loose.png"):
        picture(tmp_path / name)
    write_table(index(tmp_path / "nut").samples, tmp_path / "nuts.jsonl")
    named, masks = images_and_names([tmp_path / "nuts.jsonl", tmp_path / "loose.png"], "thing")
    assert masks == []
    assert {os.path.relpath(path, tmp_path): name for path, name in named.items()} == {
        "nut/good/1.png": "nut",
        "nut/bad/2.png": "nut",
        "loose.png": "thing",
    }


def test_predicting_a_folder_leaves_its_masks_out(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png"):
        picture(tmp_path / name)
    mask(tmp_path / "masks/2.png")
    named, masks = images_and_names([tmp_path])
    assert sorted(path.name for path in named) == ["1.png", "2.png"] and masks == [tmp_path / "masks/2.png"]


def test_predicting_a_manifest_keeps_images_that_are_not_there(tmp_path: Path) -> None:
    for name in ("good/1.png", "good/2.png"):
        picture(tmp_path / name)
    write_table(index(tmp_path).samples, tmp_path / "all.jsonl")
    (tmp_path / "good/2.png").unlink()
    assert [path.name for path in images_and_names([tmp_path / "all.jsonl"])[0]] == ["1.png", "2.png"]


def test_a_dataset_is_known_by_the_name_of_its_folder_with_one_folder_more(tmp_path: Path) -> None:
    mini = next(one for one in ORIGINALS if one.dataset == "visa")
    (tmp_path / "visa" / "VisA_20220922").mkdir(parents=True)
    mini.write(tmp_path / "visa" / "VisA_20220922")
    found = index(tmp_path / "visa")
    assert {sample.dataset for sample in found.samples} == {"visa"}
    assert {sample.split for sample in found.samples} == set(mini.counts)


def test_a_folder_that_only_has_the_name_of_a_dataset_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "visa" / "good" / "1.png")
    found = index(tmp_path / "visa")
    assert "not VisA in any layout" in found.understood and {sample.dataset for sample in found.samples} == {"visa"}


def test_samples_of_a_mixed_table_come_dataset_by_dataset(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png", "4.png"):
        picture(tmp_path / name)
    rows = ["image,label,class_name,dataset", "1.png,0,a,x", "2.png,0,b,x", "3.png,1,a,x", "4.png,1,a,y"]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    assert [s.image.name for s in samples_of(tmp_path / "all.csv")] == ["1.png", "3.png", "2.png", "4.png"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_folders_are_understood() -> None:
    cookies, brains = samples_of(REAL / "cookie"), samples_of(REAL / "brainmri")
    assert Counter((s.label, s.mask is None) for s in cookies) == {(0, True): 45, (1, False): 32}
    assert Counter(s.label for s in brains) == {0: 98, 1: 155}
    assert {(s.dataset, s.class_name, s.prompt_name != "") for s in brains} == {("brainmri", "brain", True)}
