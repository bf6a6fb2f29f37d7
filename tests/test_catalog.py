from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from tests.miniatures import Miniature, miniatures
from zsad.data.catalog import Dataset, by_classes, by_folder, catalog, find
from zsad.data.catalog.industrial import drawn_quarter, ksdd_halves
from zsad.data.found import Found
from zsad.data.index import index
from zsad.errors import ZsadError
from zsad.types import Sample

MINIATURES = miniatures()
ORIGINALS = [miniature for miniature in MINIATURES if miniature.layout == "original"]
ROWS = list(catalog().values())
PAPERS = {"anomalyclip", "crane", "visualad", "afrclip", "vip2clip"}

each_miniature = pytest.mark.parametrize("miniature", MINIATURES, ids=lambda m: f"{m.dataset}-{m.layout}")
each_original = pytest.mark.parametrize("miniature", ORIGINALS, ids=lambda m: m.dataset)
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def written(miniature: Miniature, root: Path) -> Path:
    root.mkdir(exist_ok=True)
    miniature.write(root)
    return root


def plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


# --- every row reads its files, as published and as re-packaged


@each_miniature
def test_miniature_is_read_whole_and_without_complaint(miniature: Miniature, tmp_path: Path) -> None:
    found = index(written(miniature, tmp_path / "set"), miniature.dataset)
    counts = Counter((sample.split, sample.label) for sample in found.samples)
    splits = {sample.split for sample in found.samples}
    assert {split: (counts[split, 0], counts[split, 1]) for split in splits} == miniature.counts
    assert sum(sample.mask is not None for sample in found.samples) == miniature.masks
    assert len({sample.class_name for sample in found.samples}) == miniature.classes
    assert found.problems == []


@each_miniature
def test_samples_have_the_names_of_the_row(miniature: Miniature, tmp_path: Path) -> None:
    row = find(miniature.dataset)
    for sample in index(written(miniature, tmp_path / "set"), row.name).samples:
        assert (sample.dataset, sample.prompt_name) == (row.name, row.classes[sample.class_name])
        assert sample.label is not None or sample.split not in ("train", "test")


@each_miniature
def test_masks_belong_to_anomalous_images_of_the_same_name(miniature: Miniature, tmp_path: Path) -> None:
    for sample in index(written(miniature, tmp_path / "set"), miniature.dataset).samples:
        assert sample.mask is None or sample.mask.exists()
        assert sample.mask is None or sample.mask.name.lower().startswith(sample.image.stem.lower())
        assert sample.label != 1 or (sample.mask is not None) == (miniature.masks > 0)


@each_original
def test_first_layout_is_the_published_one(miniature: Miniature, tmp_path: Path) -> None:
    found = find(miniature.dataset).layouts[0](written(miniature, tmp_path / "set"))
    assert found is not None and len(found.samples) > 0 and found.problems == []


@each_original
def test_tree_shows_the_files_of_the_original(miniature: Miniature, tmp_path: Path) -> None:
    """Each line of the tree has the folders of a file that is there, up to the names of class, defect and picture."""
    written(miniature, tmp_path / "set")
    there = {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    depths = {(path.count("/"), Path(path).suffix) for path in there}
    for line in find(miniature.dataset).tree.strip().splitlines():
        assert (line.split("  ")[0].count("/"), Path(line.split("  ")[0]).suffix) in depths, line


# --- every row is complete


@each_row
def test_row_says_all_there_is_to_say(row: Dataset) -> None:
    said = (row.title, row.modality, row.classes, row.page, row.licence, row.layouts, row.tree.strip(), row.counts)
    assert all(said)
    assert re.fullmatch(r"[a-z0-9-]+", row.name)
    assert row.domain in ("industrial", "medical")
    assert set(row.papers) <= PAPERS
    assert row.page.startswith("https://")
    assert all(row.classes.values()) and not any("_" in name for name in row.classes.values())


@each_row
def test_row_has_a_miniature_in_its_original_layout(row: Dataset) -> None:
    assert row.name in {miniature.dataset for miniature in ORIGINALS}


@each_row
def test_original_miniature_has_all_classes(row: Dataset, tmp_path: Path) -> None:
    miniature = next(miniature for miniature in ORIGINALS if miniature.dataset == row.name)
    found = index(written(miniature, tmp_path / "set"), row.name)
    assert {sample.class_name for sample in found.samples} == set(row.classes)


@each_row
def test_counts_are_positive_and_say_who_counted(row: Dataset) -> None:
    for count in row.counts:
        assert count.split in ("train", "validation", "test") and count.source
        assert count.normal >= 0 and count.anomalous >= 0 and count.normal + count.anomalous > 0
    assert len(set(row.counts)) == len(row.counts)


@each_row
def test_metrics_follow_from_what_there_is(row: Dataset) -> None:
    """Image metrics need normal and anomalous images to test, pixel metrics need masks."""
    assert row.metrics and set(row.metrics) <= {"image", "pixel"}
    assert all(count.normal and count.anomalous for count in row.counts if count.split == "test") or (
        "image" not in row.metrics
    )
    miniatures_of_row = [miniature for miniature in MINIATURES if miniature.dataset == row.name]
    assert all((miniature.masks > 0) == ("pixel" in row.metrics) for miniature in miniatures_of_row)


@each_row
def test_archives_have_a_safe_address_and_a_whole_hash(row: Dataset) -> None:
    for archive in row.archives:
        assert archive.url.startswith("https://")
        assert archive.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", archive.sha256)
        name = archive.name or archive.url.rsplit("/", 1)[1]
        assert re.search(r"\.(zip|tar|tgz|tar\.(gz|xz|bz2))$", name), name


def test_no_two_rows_share_a_name() -> None:
    words = [(plain(word), row.name) for row in ROWS for word in {plain(w): w for w in (row.name, row.title)}.values()]
    words += [(plain(alias), row.name) for row in ROWS for alias in row.aliases]
    assert [word for word, times in Counter(word for word, _ in words).items() if times > 1] == []


def test_every_paper_has_its_datasets() -> None:
    """How many the papers' tables list: 17, 14 + Endo, 13, 11 and 14."""
    used = Counter(paper for row in ROWS for paper in row.papers)
    assert used == {"anomalyclip": 17, "crane": 15, "visualad": 13, "afrclip": 11, "vip2clip": 14}


# --- names


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("mvtec", "mvtec"),
        ("MVTec-AD", "mvtec"),
        ("SDD", "ksdd"),
        ("KolektorSDD2", "ksdd2"),
        ("BTech_Dataset_transformed", "btad"),
        ("DAGM_KaggleUpload", "dagm"),
        ("dtd synthetic", "dtd"),
        ("VisA_20220922", "visa"),
    ],
)
def test_dataset_is_found_by_any_of_its_names(said: str, name: str) -> None:
    assert find(said).name == name


@pytest.mark.parametrize(("said", "near"), [("mvtce", "mvtec"), ("viza", "visa"), ("real-aid", "real-iad")])
def test_unknown_name_gives_the_nearest(said: str, near: str) -> None:
    with pytest.raises(ZsadError, match=f'no dataset "{said}"; did you mean "{near}"'):
        find(said)


def test_row_is_told_by_its_set_of_classes() -> None:
    def found(*classes: str) -> Found:
        return Found([Sample(Path("x.png"), class_name=name) for name in classes], "")

    for row in ROWS:
        told = by_classes(found(*row.classes))
        assert told is (row if len(row.classes) > 1 and row.name not in ("btad", "dagm") else None)  # 01, Class1
    assert by_classes(found("bottle", "cable")) is None
    assert by_classes(found(*find("mvtec").classes, "bolt")) is None


def test_row_is_told_by_the_name_of_a_folder(tmp_path: Path) -> None:
    assert by_folder(tmp_path / "KolektorSDD") is find("ksdd")
    assert by_folder(tmp_path / "photographs") is None


# --- KolektorSDD's halves, KolektorSDD2's copies and numbers


@pytest.mark.parametrize(("normal", "tested"), [(724, 181), (1143, 286)])  # AnomalyCLIP Table 6, ViP2-CLIP Table 7
def test_a_quarter_of_the_normal_parts_is_tested_as_by_scikit_learn(normal: int, tested: int) -> None:
    reference = train_test_split(range(normal), test_size=0.25, random_state=42)[1]
    assert drawn_quarter(normal) == set(reference) and len(drawn_quarter(normal)) == tested


def test_half_is_anomalous_where_its_own_half_of_the_mask_marks(tmp_path: Path) -> None:
    miniature = next(miniature for miniature in ORIGINALS if miniature.dataset == "ksdd")
    found = ksdd_halves(written(miniature, tmp_path / "set"))
    assert found is not None and len(found.samples) == 18
    anomalous = {(s.image.parent.name, s.image.name, s.part) for s in found.samples if s.label == 1}
    assert anomalous == {
        ("kos01", "Part5.jpg", (1, 2)),
        ("kos02", "Part0.jpg", (2, 2)),
        ("kos10", "Part3.jpg", (1, 2)),
        ("kos10", "Part3.jpg", (2, 2)),
    }


def test_choice_of_halves_is_the_same_every_time(tmp_path: Path) -> None:
    miniature = next(miniature for miniature in ORIGINALS if miniature.dataset == "ksdd")
    first, second = (ksdd_halves(written(miniature, tmp_path / name)) for name in ("a", "b"))
    assert first is not None and second is not None
    splits = [[(s.image.name, s.part, s.split) for s in found.samples] for found in (first, second)]
    assert splits[0] == splits[1]


def test_printed_ksdd2_numbers_do_not_fit_the_published_test_split() -> None:
    """CLIP-AD in VisualAD's Table 1: AUROC 81.7 %, AP 85.5 %. The note of the row says 83.3 %."""
    assert largest_ap(0.8175, normal=894, anomalous=110) == pytest.approx(0.833, abs=5e-4)


def largest_ap(auroc: float, normal: int, anomalous: int) -> float:
    """AP is convex in how many normal images rank above each anomalous one: all but one group lie at an end."""
    j = np.arange(1, anomalous + 1)
    wrong = (1 - auroc) * normal * anomalous  # pairs in the wrong order
    best = 0.0
    for last in range(int(wrong // normal) + 1):
        for middle in range(1, anomalous - last + 1):
            above = np.zeros(anomalous)
            above[anomalous - last :] = normal
            above[anomalous - last - middle : anomalous - last] = (wrong - last * normal) / middle
            if above.max() <= normal:
                best = max(best, float((j / (j + above)).mean()))
    return best
