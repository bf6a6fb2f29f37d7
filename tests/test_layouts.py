from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.test_files import touch
from zsad.data.files import MASK_ENDS, MASK_NAMES, NORMAL_NAMES, SPLITS, natural, plain
from zsad.data.found import IGNORED, MISSING_IMAGE, MISSING_MASK, SAME_NAME, SPARE_MASK, UNREADABLE, Found
from zsad.data.layouts import (
    class_folders,
    dagm,
    images_and_masks,
    normal_abnormal,
    real_iad,
    siblings,
    unlabelled,
)
from zsad.errors import ZsadError
from zsad.types import Sample

REAL = Path(__file__).parents[2] / "shared" / "data"
LAYOUTS = (class_folders, normal_abnormal, images_and_masks, siblings, dagm, real_iad, unlabelled)
BOTTLE = [
    "train/good/000.png",
    "train/good/001.png",
    "test/good/000.png",
    "test/crack/000.png",
    "test/crack/001.png",
    "ground_truth/crack/000_mask.png",
    "ground_truth/crack/001_mask.png",
]


def bottle(root: Path) -> Path:
    return touch(root / "mvtec" / "bottle", *BOTTLE)


def read(found: Found | None) -> list[Sample]:
    """The samples of a layout with which nothing is wrong."""
    assert found is not None and found.problems == []
    return found.samples


def masks(found: Found | None, root: Path) -> dict[str, str | None]:
    """Image -> mask of anomalous samples, as paths in `root`."""
    assert found is not None
    known = [sample for sample in found.samples if sample.label != 0]
    return {s.image.relative_to(root).as_posix(): s.mask and s.mask.relative_to(root).as_posix() for s in known}


def problems(found: Found | None, root: Path) -> list[tuple[str, str]]:
    assert found is not None
    return [(problem.kind, problem.path.relative_to(root).as_posix()) for problem in found.problems]


# --- class folders: MVTec AD


def test_mvtec_class_gives_labelled_samples_in_order(tmp_path: Path) -> None:
    root = bottle(tmp_path)
    crack = {"class_name": "bottle", "defect": "crack", "split": "test", "dataset": "mvtec"}
    train = crack | {"defect": "good", "split": "train"}
    truth = root / "ground_truth/crack"
    assert read(class_folders(root)) == [
        Sample(root / "test/crack/000.png", truth / "000_mask.png", 1, **crack),
        Sample(root / "test/crack/001.png", truth / "001_mask.png", 1, **crack),
        Sample(root / "test/good/000.png", None, 0, **crack | {"defect": "good"}),
        Sample(root / "train/good/000.png", None, 0, **train),
        Sample(root / "train/good/001.png", None, 0, **train),
    ]


def test_mvtec_dataset_and_single_class_give_the_same_samples(tmp_path: Path) -> None:
    single = read(class_folders(bottle(tmp_path)))
    touch(tmp_path / "mvtec", "readme.txt", "license/x.txt", ".cache/test/good/0.png", "bottle/test/crack/._000.png")
    assert read(class_folders(tmp_path / "mvtec")) == single
    touch(tmp_path / "mvtec" / "metal_nut", *BOTTLE)
    found = class_folders(tmp_path / "mvtec")
    assert Counter(s.class_name for s in read(found)) == {"bottle": 5, "metal_nut": 5}
    assert found and found.understood == "MVTec AD's layout: 2 classes with <split>/<defect> and ground_truth/<defect>"


def test_root_may_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bottle(tmp_path))
    assert {(s.class_name, s.dataset) for s in read(class_folders(Path()))} == {("bottle", "mvtec")}


def test_classes_may_lie_in_one_folder_more(tmp_path: Path) -> None:
    touch(tmp_path / "set/mvtec_anomaly_detection/bottle", *BOTTLE)
    assert {(s.class_name, s.dataset) for s in read(class_folders(tmp_path / "set"))} == {("bottle", "set")}


@pytest.mark.parametrize("mask", ["000_mask.png", "000.png", "000.bmp", "000_mask.tif", "000.PNG", "000_GT.png"])
def test_mvtec_mask_is_found_by_name_with_any_suffix(tmp_path: Path, mask: str) -> None:
    root = touch(tmp_path, "test/ok/1.bmp", "test/ko/000.bmp", f"ground_truth/ko/{mask}")
    assert [(s.label, s.mask) for s in read(class_folders(root))] == [(1, root / "ground_truth/ko" / mask), (0, None)]


def test_masks_are_not_paired_by_order(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    root = touch(tmp_path, *(f"{part}/hole/{name}" for part in ("test", "ground_truth") for name in reversed(names)))
    samples = read(class_folders(root))
    assert [s.image.name for s in samples] == names
    assert all(s.mask is not None and s.mask.name == s.image.name for s in samples)


def test_images_without_a_mask_are_named_and_kept(tmp_path: Path) -> None:
    root = touch(bottle(tmp_path), "test/crack/7.png", "train/bent/8.png")
    assert problems(class_folders(root), root) == [
        (MISSING_MASK, "test/crack/7.png"),
        (MISSING_MASK, "train/bent/8.png"),
    ]
    assert masks(class_folders(root), root)["test/crack/7.png"] is None


@pytest.mark.parametrize("mask", ["crack/009_mask.png", "hole/000_mask.png", "crack/000.png", "000_mask.png"])
def test_masks_without_an_image_are_named(tmp_path: Path, mask: str) -> None:
    root = touch(bottle(tmp_path), f"ground_truth/{mask}")
    assert problems(class_folders(root), root) == [(SPARE_MASK, f"ground_truth/{mask}")]


def test_mask_under_another_name_is_missing_and_spare(tmp_path: Path) -> None:
    root = bottle(tmp_path)
    (root / "ground_truth/crack/001_mask.png").rename(root / "ground_truth/crack/002_mask.png")
    expected = [(MISSING_MASK, "test/crack/001.png"), (SPARE_MASK, "ground_truth/crack/002_mask.png")]
    assert problems(class_folders(root), root) == expected


@pytest.mark.parametrize(
    ("again", "as_file"), [("test/crack/000.png", "000.jpg"), ("ground_truth/crack/000_mask.png", "000_mask.gif")]
)
def test_one_name_with_two_suffixes_is_named(tmp_path: Path, again: str, as_file: str) -> None:
    root = touch(bottle(tmp_path), (Path(again).parent / as_file).as_posix())
    found = class_folders(root)
    assert found and problems(found, root) == [(SAME_NAME, again)] and found.problems[0].note == f"as {as_file}"


def test_normal_images_of_one_name_need_no_mask_and_are_fine(tmp_path: Path) -> None:
    assert len(read(class_folders(touch(bottle(tmp_path), "test/good/000.jpg")))) == 6


def test_empty_masks_of_good_images_are_allowed(tmp_path: Path) -> None:
    root = touch(bottle(tmp_path), "ground_truth/good/000_mask.png", "ground_truth/good/009_mask.png")
    assert {s.mask for s in read(class_folders(root)) if s.label == 0} == {None}


def test_without_ground_truth_anywhere_there_are_no_masks(tmp_path: Path) -> None:
    touch(tmp_path / "one", "test/good/0.png", "test/tumour/1.png")
    assert [s.mask for s in read(class_folders(tmp_path))] == [None, None]
    (tmp_path / "two/ground_truth").mkdir(parents=True)
    touch(tmp_path / "two", "test/bad/0.png")
    expected = [(MISSING_MASK, "one/test/tumour/1.png"), (MISSING_MASK, "two/test/bad/0.png")]
    assert problems(class_folders(tmp_path), tmp_path) == expected


@pytest.mark.parametrize("stray", ["extra/1.png", "1.png", "bottle/notes/1.png", "bottle/test/1.png"])
def test_images_of_unknown_meaning_are_named(tmp_path: Path, stray: str) -> None:
    bottle(tmp_path)
    root = touch(tmp_path / "mvtec", stray)
    found = class_folders(root)
    assert problems(found, root) == [(IGNORED, stray)] and found and len(found.samples) == 5


def test_folder_names_count_in_any_case(tmp_path: Path) -> None:
    root = touch(tmp_path, "Train/Good/1.png", "TEST/OK/1.png", "TEST/Hole/1.png", "Ground_Truth/Hole/1.png")
    assert [(s.split, s.label) for s in read(class_folders(root))] == [("test", 1), ("test", 0), ("train", 0)]


def test_folders_in_a_defect_are_read_and_mirrored_by_masks(tmp_path: Path) -> None:
    names = [f"{camera}/1.png" for camera in ("cam1", "cam2")]
    root = touch(
        tmp_path, "train/good/cam1/1.png", *(f"{part}/hole/{n}" for part in ("test", "ground_truth") for n in names)
    )
    found = class_folders(root)
    assert masks(found, root) == {f"test/hole/{name}": f"ground_truth/hole/{name}" for name in names}
    assert [s.defect for s in read(found)] == ["hole", "hole", "good"]


@pytest.mark.parametrize("inner", ["", "cam1/"])
def test_defect_may_be_called_label(tmp_path: Path, inner: str) -> None:
    image, mask = f"test/label/{inner}1.png", f"ground_truth/label/{inner}1_mask.png"
    root = touch(tmp_path, "test/good/1.png", image, mask)
    assert masks(class_folders(root), root) == {image: mask}


def test_normal_names_can_be_given(tmp_path: Path) -> None:
    root = touch(tmp_path, "test/Clean/1.png", "test/good/1.png")
    assert class_folders(root, normal=("intact",)) is None
    assert [s.label for s in read(class_folders(root, normal=("clean",)))] == [0, 1]


# --- class folders: relatives of MVTec AD


def test_mvtec_3d_has_masks_in_the_folder_of_the_defect(tmp_path: Path) -> None:
    names = [
        "train/good/rgb/0.png",
        "test/good/rgb/0.png",
        "test/good/gt/0.png",
        "test/hole/rgb/0.png",
        "test/hole/gt/0.png",
    ]
    root = touch(tmp_path / "3d", *(f"bagel/{n}" for n in [*names, "test/hole/xyz/0.tiff", "calibration/c.json"]))
    found = class_folders(root)
    assert masks(found, root) == {"bagel/test/hole/rgb/0.png": "bagel/test/hole/gt/0.png"}
    assert [s.defect for s in read(found)] == ["good", "hole", "good"]


def test_mvtec_loco_mask_is_a_folder_of_masks(tmp_path: Path) -> None:
    truth = [f"ground_truth/logical/{i}/{k}.png" for i, k in ((0, 0), (0, 1), (1, 0))]
    root = touch(tmp_path, "test/good/0.png", "test/logical/0.png", "test/logical/1.png", *truth)
    expected = {f"test/logical/{i}.png": f"ground_truth/logical/{i}" for i in (0, 1)}
    assert read(class_folders(root)) and masks(class_folders(root), root) == expected
    touch(root, "ground_truth/logical/9/0.png", "test/logical/2.png")
    left = [(MISSING_MASK, "test/logical/2.png"), (SPARE_MASK, "ground_truth/logical/9/0.png")]
    assert problems(class_folders(root), root) == left


def test_mvtec_ad_2_has_public_and_private_tests(tmp_path: Path) -> None:
    names = ["train/good/0_regular.png", "validation/good/0_regular.png", "test_public/good/0_regular.png"]
    names += ["test_public/bad/0_regular.png", "test_public/ground_truth/bad/0_regular_mask.png"]
    root = touch(tmp_path / "can", *names, "test_private/0_regular.png", "test_private_mixed/0_mixed.png")
    found = class_folders(root)
    splits = Counter((s.split, s.label) for s in read(found))
    assert splits == Counter({(split, 0): 1 for split in ("train", "validation", "test")}) + Counter(
        {("test", 1): 1, ("test_private", None): 1, ("test_private_mixed", None): 1}
    )
    assert masks(found, root)[names[3]] == names[4]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("test/Ungood/img/1.png", "test/Ungood/label/1.png"),
        ("test/Ungood/img/1.png", "test/Ungood/anomaly_mask/1.png"),
        ("test/img/Ungood/1.png", "test/label/Ungood/1.png"),
        ("Test/test/Ungood/1.png", "Test/test_label/Ungood/1.png"),
    ],
)
def test_bmad_is_read_in_all_its_packagings(tmp_path: Path, image: str, mask: str) -> None:
    good = [name.replace("Ungood", "good") for name in (image, mask)]
    again = [name.replace("test", "valid").replace("Test", "Valid") for name in (image, mask)]
    root = touch(tmp_path / "Brain", "train/good/1.png", image, mask, *good, *again)
    assert masks(class_folders(root), root) == {image: mask, again[0]: again[1]}
    assert Counter((s.split, s.label) for s in read(class_folders(root)))[("test", 1)] == 1


def test_oct17_has_several_diseases_and_no_masks(tmp_path: Path) -> None:
    folders = [
        f"{split}/{kind}/{kind}-1-1.jpeg" for split in ("train", "test", "val") for kind in ("NORMAL", "CNV", "DME")
    ]
    samples = read(class_folders(touch(tmp_path / "OCT2017", *folders)))
    assert Counter((s.split, s.label) for s in samples)[("validation", 1)] == 2
    assert {s.defect for s in samples} == {"good", "CNV", "DME"} and {s.class_name for s in samples} == {"OCT2017"}


# --- class folders: any names


def _names(*, avoid: tuple[str, ...], ends: bool = True) -> st.SearchStrategy[str]:
    """Folder and file names with blanks, dots, digits, capitals and letters of several scripts."""
    letters = st.text("aBz019 ._-éß漢", min_size=1, max_size=6).map(str.strip)
    taken = {*map(plain, avoid)}
    return letters.filter(
        lambda name: bool(name) and not name.startswith(".") and plain(name) not in taken and (ends or not _ends(name))
    )


def _ends(name: str) -> bool:
    return name.lower().endswith(MASK_ENDS)


FOLDERS = _names(avoid=(*SPLITS, *MASK_NAMES, *NORMAL_NAMES, "rgb", "xyz", "data", "img"))
STEMS = st.lists(_names(avoid=("view 1",), ends=False), min_size=1, max_size=4, unique_by=str.casefold)
SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".Tif", ".bmp"])
TREES = st.dictionaries(FOLDERS, st.dictionaries(FOLDERS, STEMS, min_size=1, max_size=3), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(tree=TREES, suffix=SUFFIXES, end=st.sampled_from(["", *MASK_ENDS, "_MASK"]), deep=st.booleans(), data=st.data())
def test_any_names_are_indexed_as_written_and_a_missing_mask_is_named(
    tree: dict[str, dict[str, list[str]]], suffix: str, end: str, deep: bool, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder) / "set", *(f"{name}/train/good/1.png" for name in tree))
        inner = "view 1/" if deep else ""
        truth = {
            touch(root / name / "test" / defect, f"{inner}{stem}{suffix}") / f"{inner}{stem}{suffix}":
            touch(root / name / "ground_truth" / defect, f"{inner}{stem}{end}.png") / f"{inner}{stem}{end}.png"
            for name, defects in tree.items() for defect, stems in defects.items() for stem in stems
        }  # fmt: skip
        samples = read(class_folders(root))
        assert {s.image: s.mask for s in samples if s.label == 1} == truth
        assert [s.class_name for s in samples] == sorted((s.class_name for s in samples), key=natural)
        assert all(s.image.relative_to(root).parts[:3] == (s.class_name, s.split, s.defect) for s in samples)
        assert sum(s.label == 0 for s in samples) == len(tree)
        image, mask = data.draw(st.sampled_from(sorted(truth.items())))
        mask.unlink()
        assert problems(class_folders(root), root) == [(MISSING_MASK, image.relative_to(root).as_posix())]


# --- normal and abnormal apart


@pytest.mark.parametrize(
    ("normal", "abnormal"),
    [("normal", "anomaly"), ("good", "bad"), ("OK", "NG"), ("no", "yes"), ("Defect free", "Not-OK")],
)
def test_folder_names_tell_the_label(tmp_path: Path, normal: str, abnormal: str) -> None:
    root = touch(tmp_path / "nuts", f"{normal}/1.jpg", f"{abnormal}/1.jpg", f"{abnormal}/notes.txt")
    assert read(normal_abnormal(root)) == [
        Sample(root / normal / "1.jpg", None, 0, "nuts", "good", "test", "nuts"),
        Sample(root / abnormal / "1.jpg", None, 1, "nuts", "", "test", "nuts"),
    ]


@pytest.mark.parametrize("mask", ["masks/7.png", "ground_truth/7_mask.tif", "mask/7.bmp", "Masks/bad/7.png"])
def test_mask_of_an_abnormal_image_has_its_stem(tmp_path: Path, mask: str) -> None:
    root = touch(tmp_path, "normal/1.jpg", "defect/7.jpg", mask)
    assert [s.mask for s in read(normal_abnormal(root))] == [None, root / mask]


def test_subfolders_name_the_defect_and_are_mirrored_by_masks(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/hole/1.png", "bad/bent/1.png", "masks/hole/1.png", "masks/bent/1.png")
    samples = read(normal_abnormal(root))
    assert [s.defect for s in samples] == ["good", "bent", "hole"]
    assert [s.mask for s in samples] == [None, root / "masks/bent/1.png", root / "masks/hole/1.png"]


def test_masks_of_normal_images_are_left_unused(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/2.png", "masks/1.png", "masks/2.png", "masks/good/3.png")
    assert [s.mask for s in read(normal_abnormal(root))] == [None, root / "masks/2.png"]


@pytest.mark.parametrize(("extra", "kind"), [("bad/3.png", MISSING_MASK), ("masks/3.png", SPARE_MASK)])
def test_unmatched_masks_and_images_are_named(tmp_path: Path, extra: str, kind: str) -> None:
    root = touch(tmp_path, "good/1.png", "bad/2.png", "masks/2.png", extra)
    assert problems(normal_abnormal(root), root) == [(kind, extra)]


def test_images_neither_normal_nor_abnormal_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/1.png", "crack/1.png", "2.png", "notes/readme.txt")
    assert problems(normal_abnormal(root), root) == [(IGNORED, "2.png"), (IGNORED, "crack/1.png")]


def test_normal_and_abnormal_folders_without_images_are_no_layout(tmp_path: Path) -> None:
    assert normal_abnormal(touch(tmp_path, "good/readme.txt", "1.png")) is None


@pytest.mark.parametrize("above", ["", "line 1/"])
def test_classes_may_lie_above_normal_and_abnormal(tmp_path: Path, above: str) -> None:
    nuts = [f"{above}nut/{name}" for name in ("good/1.png", "bad/1.png", "masks/1.png")]
    root = touch(
        tmp_path / "set", *nuts, f"{above}bolt/good/1.png", f"{above}bolt/bad/1.png", f"{above}bolt/masks/1.png"
    )
    samples = read(normal_abnormal(root))
    expected = [(f"{above}{name}", label) for name in ("bolt", "nut") for label in (0, 1)]
    assert [(s.class_name, s.label) for s in samples] == expected and {s.dataset for s in samples} == {"set"}
    assert samples[3].mask == root / nuts[2] and samples[1].mask != samples[3].mask


@pytest.mark.parametrize("stray", ["holiday/1.png", "nut/1.png", "nut/unsure/1.png", "nut/crack/1.png"])
def test_stray_image_takes_no_label_from_the_others(tmp_path: Path, stray: str) -> None:
    root = touch(tmp_path, "nut/good/1.png", "nut/bad/1.png", stray)
    found = normal_abnormal(root)
    assert problems(found, root) == [(IGNORED, stray)] and found and [s.label for s in found.samples] == [0, 1]


def test_normal_folder_deep_among_others_tells_nothing(tmp_path: Path) -> None:
    assert normal_abnormal(touch(tmp_path, "trip/good/1.png", "holiday/1.png")) is None


def test_image_beside_the_classes_does_not_hide_them(tmp_path: Path) -> None:
    root = touch(tmp_path, "nut/good/1.png", "nut/bad/1.png", "overview.png")
    assert problems(normal_abnormal(root), root) == [(IGNORED, "overview.png")]


def test_visa_without_its_table_is_told_by_folder_names(tmp_path: Path) -> None:
    data = "candle/Data"
    root = touch(tmp_path, f"{data}/Images/Normal/0.JPG", f"{data}/Images/Anomaly/0.JPG", f"{data}/Masks/Anomaly/0.png")
    assert [(s.class_name, s.label, s.mask) for s in read(normal_abnormal(root))] == [
        ("candle", 0, None),
        ("candle", 1, root / f"{data}/Masks/Anomaly/0.png"),
    ]


def test_given_names_and_ignored_folders_fit_the_covid_set(tmp_path: Path) -> None:
    kinds = ("COVID", "Normal", "Viral Pneumonia")
    root = touch(tmp_path, *(f"{kind}/{part}/{kind}-1.png" for kind in kinds for part in ("images", "masks")))
    samples = read(normal_abnormal(root, normal=("normal",), abnormal=("covid",), ignored=("viral pneumonia",)))
    assert [(s.image.name, s.label, s.mask, s.defect) for s in samples] == [
        ("Normal-1.png", 0, None, "good"),
        ("COVID-1.png", 1, None, "COVID"),
    ]


@pytest.mark.parametrize(
    "end", ["b0_mask", "b0_gt", "b0_GT", "b0-label", "b0_seg", "b0_segmentation", "mask_b0", "b0_mask_1"]
)
@pytest.mark.parametrize("layout", [normal_abnormal, class_folders])
def test_mask_in_the_folder_of_its_image_is_no_image(tmp_path: Path, end: str, layout: object) -> None:
    top = "test/" if layout is class_folders else ""
    root = touch(tmp_path, f"{top}good/g0.png", f"{top}bad/b0.jpg", f"{top}bad/{end}.png")
    found = layout(root)  # type: ignore[operator]
    assert masks(found, root) == {f"{top}bad/b0.jpg": f"{top}bad/{end}.png"} and len(read(found)) == 2
    assert f"1 mask beside the images, as {end}.png of b0.jpg" in found.understood


def test_further_masks_beside_an_image_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/b (1).png", "bad/b (1)_mask.png", "bad/b (1)_mask_1.png")
    assert masks(normal_abnormal(root), root) == {"bad/b (1).png": "bad/b (1)_mask.png"}
    assert problems(normal_abnormal(root), root) == [(SPARE_MASK, "bad/b (1)_mask_1.png")]


def test_masks_beside_normal_images_are_not_used(tmp_path: Path) -> None:
    found = normal_abnormal(touch(tmp_path, "good/1.png", "good/1_mask.png", "bad/1.png"))
    assert [s.mask for s in read(found)] == [None, None]
    assert found and found.understood.endswith("masks of normal images are not used")


def test_image_called_a_mask_stays_an_image_without_a_partner(tmp_path: Path) -> None:
    samples = read(normal_abnormal(touch(tmp_path, "good/mask_0.png", "bad/mask_5.png", "bad/b_label.png")))
    assert [s.label for s in samples] == [0, 1, 1]


@pytest.mark.parametrize("above", ["", "gear/"])
def test_folders_beside_a_lone_normal_one_are_kinds_of_defect(tmp_path: Path, above: str) -> None:
    names = [f"{above}{name}/0.png" for name in ("good", "crack", "dent", "mask/crack", "mask/dent")]
    found = normal_abnormal(touch(tmp_path, *names))
    assert [(s.label, s.defect) for s in read(found)] == [(0, "good"), (1, "crack"), (1, "dent")]
    assert list(masks(found, tmp_path).values()) == names[3:]
    assert found and "crack, dent taken for kinds of defect" in found.understood


@pytest.mark.parametrize("name", ["unlabeled", "very good", "no_crack", "without dent", "2024", "overlay"])
def test_folder_that_may_be_normal_is_no_kind_of_defect(tmp_path: Path, name: str) -> None:
    root = touch(tmp_path, "good/0.png", f"{name}/0.png")
    assert problems(normal_abnormal(root), root) == [(IGNORED, f"{name}/0.png")]


def test_word_that_is_normal_only_beside_its_opposite_tells_nothing_alone(tmp_path: Path) -> None:
    organs = touch(tmp_path / "organs", "gut/1.png", "liver/1.png")
    assert normal_abnormal(organs) is None
    assert [s.label for s in read(normal_abnormal(touch(tmp_path / "parts", "gut/1.png", "schlecht/1.png")))] == [0, 1]


def test_folders_on_both_sides_are_classes(tmp_path: Path) -> None:
    names = [f"{label}/{name}/0.png" for label in ("good", "bad", "masks") for name in ("gear", "nut")]
    samples = read(normal_abnormal(touch(tmp_path, *names, "bad/dent/7.png", "masks/dent/7.png")))
    told = {(s.class_name, s.label, s.defect) for s in samples if s.image.stem == "0"}
    assert told == {("gear", 0, "good"), ("gear", 1, ""), ("nut", 0, "good"), ("nut", 1, "")}
    assert [s.defect for s in samples if s.image.stem == "7"] == ["dent"]
    assert all(s.mask and s.mask.parent.name == s.image.parent.name for s in samples if s.label == 1)


def test_product_called_label_is_no_folder_of_masks(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"{name}/{kind}/1.png" for name in ("cap", "label") for kind in ("good", "bad")))
    assert [s.class_name for s in read(normal_abnormal(root))] == ["cap", "cap", "label", "label"]


@pytest.mark.parametrize(
    "mask",
    ["annotations/b.png", "seg/b.png", "SegmentationClass/b.png", "Masken/b.png", "bad_mask/b.png", "bolt_masks/b.png",
     "bad/masks/b.png", "masks/mask_b.png", "segmentation/b_segmentation.png", "masks/B.PNG"],
)  # fmt: skip
def test_masks_lie_in_folders_of_many_names(tmp_path: Path, mask: str) -> None:
    root = touch(tmp_path, "good/1.png", "bad/b.png", mask)
    assert len(read(normal_abnormal(root))) == 2 and masks(normal_abnormal(root), root) == {"bad/b.png": mask}


def test_masks_may_lie_in_folders_of_classes(tmp_path: Path) -> None:
    names = [f"{name}/{kind}/0.png" for name in ("gear", "nut") for kind in ("good", "bad")]
    root = touch(tmp_path, *names, "masks/gear/0.png", "masks/nut/0.png")
    assert masks(normal_abnormal(root), root) == {
        f"{name}/bad/0.png": f"masks/{name}/0.png" for name in ("gear", "nut")
    }


def test_mask_further_up_is_taken_where_one_image_only_has_its_name(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/x.png", "bad/a/1.png", "bad/a/2.png", "bad/b/2.png", "masks/1.png", "masks/2.png")
    assert masks(normal_abnormal(root), root) == {
        "bad/a/1.png": "masks/1.png",
        "bad/a/2.png": None,
        "bad/b/2.png": None,
    }
    assert (SPARE_MASK, "masks/2.png") in problems(normal_abnormal(root), root)


def test_names_are_one_however_the_system_writes_accents(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/tu\u0308r/u\u0308.png", "masks/t\u00fcr/\u00fc.png")
    assert all(s.mask for s in read(normal_abnormal(root)) if s.label)


def test_what_told_normal_from_abnormal_is_said(tmp_path: Path) -> None:
    found = normal_abnormal(touch(tmp_path, "OK/1.png", "NG/hole/2.png", "masks/hole/2.png"))
    told = "names of folders tell the label: normal in OK; anomalous in NG; masks in masks; 1 class"
    assert found and found.understood == told


# --- images and masks


def mask_file(path: Path, rows: slice | None, height: int = 10) -> None:
    """A mask [height, 4] that marks the given rows."""
    pixels = np.zeros((height, 4), np.uint8)
    if rows:
        pixels[rows] = 255
    Image.fromarray(pixels).save(path)


def drawn(root: Path, *names: str) -> Path:
    """Images that mark all their pixels, for layouts that look into masks."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        mask_file(root / name, slice(None))
    return root


@pytest.mark.parametrize(
    ("images", "truth", "split"),
    [
        ("images/1.jpg", "masks/1.png", "test"),
        ("Original/1.tif", "Ground Truth/1.tif", "test"),
        ("test-image/1.jpg", "test-mask/1.jpg", "test"),
        ("trainval-image/1.jpg", "trainval-mask/1.jpg", "train"),
        ("X_Part1_Test_Data/1.jpg", "X_Part1_Test_GroundTruth/1_Segmentation.png", "test"),
        ("X_Part1_Training_Data/1.jpg", "X_Part1_Training_GroundTruth/1_Segmentation.png", "train"),
        ("images/val/1.jpg", "labels/val/1.png", "validation"),
        ("train/img/1.jpg", "train/gt/1_gt.png", "train"),
        ("1.jpg", "masks/1.png", "test"),
    ],
)
def test_images_and_masks_in_folders_of_their_own(tmp_path: Path, images: str, truth: str, split: str) -> None:
    root = drawn(tmp_path / "polyps", images, truth)
    assert read(images_and_masks(root)) == [Sample(root / images, root / truth, 1, "polyps", "", split, "polyps")]


def test_good_folder_beside_images_and_masks_is_normal(tmp_path: Path) -> None:
    root = drawn(tmp_path, "good/1.png", "images/1.png", "images/2.png", "masks/1.png", "masks/2.png")
    assert normal_abnormal(root) is None
    assert [(s.label, s.mask and s.mask.name) for s in read(images_and_masks(root))] == [
        (0, None),
        (1, "1.png"),
        (1, "2.png"),
    ]


def test_image_without_a_mask_has_no_label_and_is_named(tmp_path: Path) -> None:
    root = drawn(tmp_path, "images/1.png", "images/2.png", "masks/1.png", "masks/3.png")
    found = images_and_masks(root)
    assert problems(found, root) == [(MISSING_MASK, "images/2.png"), (SPARE_MASK, "masks/3.png")]
    assert found and [s.label for s in found.samples] == [1, None]


def test_splits_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    names = [f"{split}-{kind}/1.jpg" for split in ("test", "trainval") for kind in ("image", "mask")]
    samples = read(images_and_masks(drawn(tmp_path, *names)))
    assert [(s.split, s.mask and s.mask.parent.name) for s in samples] == [
        ("test", "test-mask"),
        ("train", "trainval-mask"),
    ]


def test_classes_may_lie_above_images_and_masks(tmp_path: Path) -> None:
    root = drawn(tmp_path, *(f"{name}/{kind}/1.png" for name in ("CVC-300", "Kvasir") for kind in ("images", "masks")))
    assert [s.class_name for s in read(images_and_masks(root))] == ["CVC-300", "Kvasir"]


def test_classes_stay_together_where_splits_lie_above_them(tmp_path: Path) -> None:
    parts = [
        f"{split}/{name}/{kind}/1.png" for split in ("test", "train") for name in "ab" for kind in ("images", "masks")
    ]
    samples = read(images_and_masks(drawn(tmp_path, *parts)))
    assert [(s.class_name, s.split) for s in samples] == [("a", "test"), ("a", "train"), ("b", "test"), ("b", "train")]


@pytest.mark.parametrize("names", [["images/1.png"], ["images/1.png", "labels/1.txt"], ["images/1.png", "masks/2.png"]])
def test_without_a_pair_there_are_no_images_and_masks(tmp_path: Path, names: list[str]) -> None:
    assert images_and_masks(touch(tmp_path, *names)) is None


def test_empty_mask_means_normal_where_no_folder_says_good(tmp_path: Path) -> None:
    root = drawn(tmp_path, "images/b.png", "masks/b.png", "images/g.png", "images/x.png")
    mask_file(root / "masks/g.png", None)
    (root / "masks/x.png").touch()
    found = images_and_masks(root)
    assert found and [(s.label, s.defect, s.mask is None) for s in found.samples] == [
        (1, "", False), (0, "good", True), (None, "", True),
    ]  # fmt: skip
    assert problems(found, root) == [(UNREADABLE, "masks/x.png")] and "1 empty mask taken as normal" in found.understood


@pytest.mark.parametrize(
    ("image", "mask"),
    [("imgs/1.png", "seg/1.png"), ("images/1.png", "annotations/1.png"), ("images/a/1.png", "masks/1.png"),
     ("imagesTr/liver_0000.png", "labelsTr/liver.png"), ("Kvasir-SEG/images/1.png", "Kvasir-SEG/masks/1.png"),
     ("Segmentation/images/1.png", "Segmentation/masks/1.png")],
)  # fmt: skip
def test_folders_of_images_and_masks_have_many_names(tmp_path: Path, image: str, mask: str) -> None:
    root = drawn(tmp_path, image, mask)
    assert len(read(images_and_masks(root))) == 1 and masks(images_and_masks(root), root) == {image: mask}


# --- masks beside the images


def test_pixels_of_the_mask_beside_it_tell_the_label(tmp_path: Path) -> None:
    root = touch(tmp_path / "KSDD2", "train/10000.png", "test/20000.png", "test/20001.png")
    mask_file(root / "train/10000_GT.png", None)
    mask_file(root / "test/20000_GT.png", slice(3, 4))
    mask_file(root / "test/20001_gt.png", None)
    common = ("KSDD2", "good")
    assert read(siblings(root)) == [
        Sample(root / "test/20000.png", root / "test/20000_GT.png", 1, "KSDD2", "", "test", "KSDD2"),
        Sample(root / "test/20001.png", None, 0, *common, "test", "KSDD2"),
        Sample(root / "train/10000.png", None, 0, *common, "train", "KSDD2"),
    ]


def test_parts_have_labels_of_their_own(tmp_path: Path) -> None:
    root = touch(tmp_path, "kos01/Part0.jpg", "kos01/Part1.jpg")
    mask_file(root / "kos01/Part0_label.bmp", slice(5, 6), height=11)  # the parts are rows 0 to 5 and 5 to 11
    mask_file(root / "kos01/Part1_label.bmp", slice(4, 6), height=11)
    samples = read(siblings(root, parts=2))
    assert [(s.part, s.label, s.mask is not None) for s in samples] == [
        ((1, 2), 0, False),
        ((2, 2), 1, True),
        ((1, 2), 1, True),
        ((2, 2), 1, True),
    ]


def test_image_beside_none_and_mask_without_an_image_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "1.png", "2.png")
    mask_file(root / "1_mask.png", slice(0, 1))
    mask_file(root / "3_mask.png", slice(0, 1))
    found = siblings(root)
    assert problems(found, root) == [(MISSING_MASK, "2.png"), (SPARE_MASK, "3_mask.png")]
    assert found and [s.label for s in found.samples] == [1, None]


def test_unreadable_mask_is_named_and_its_image_kept(tmp_path: Path) -> None:
    root = touch(tmp_path, "1.png", "1_mask.png", "2.png")
    mask_file(root / "2_mask.png", slice(0, 1))
    found = siblings(root, parts=2)
    assert problems(found, root) == [(UNREADABLE, "1_mask.png")]
    assert found and [(s.label, s.part) for s in found.samples[:2]] == [(None, (1, 2)), (None, (2, 2))]
    assert "1_mask.png" in found.problems[0].note


def test_photograph_of_a_mask_is_no_mask_without_its_image(tmp_path: Path) -> None:
    assert siblings(touch(tmp_path, "gas_mask.png", "helmet.png")) is None


def test_ends_of_mask_names_can_be_given(tmp_path: Path) -> None:
    root = touch(tmp_path, "1.png")
    mask_file(root / "1-truth.png", slice(0, 1))
    assert siblings(root) is None
    assert [s.mask for s in read(siblings(root, ends=("-TRUTH",)))] == [root / "1-truth.png"]


@pytest.mark.parametrize("mask", ["x-label.png", "mask_x.png", "x_seg.png", "x_mask_1.png"])
def test_siblings_know_many_ends(tmp_path: Path, mask: str) -> None:
    root = drawn(tmp_path, "x.jpg", mask)
    assert len(read(siblings(root))) == 1 and masks(siblings(root), root) == {"x.jpg": mask}


@pytest.mark.parametrize(("image", "mask"), [("image", "mask"), ("case0", "seg")])
def test_folder_of_each_case_has_an_image_and_its_mask(tmp_path: Path, image: str, mask: str) -> None:
    root = drawn(tmp_path, *(f"case{i}/{name}.png" for i in (0, 1) for name in (image, mask)))
    assert masks(siblings(root), root) == {f"case{i}/{image}.png": f"case{i}/{mask}.png" for i in (0, 1)}


# --- DAGM


def test_dagm_label_folder_tells_which_images_are_anomalous(tmp_path: Path) -> None:
    names = [
        f"{split}/{name}"
        for split in ("Train", "Test")
        for name in ("1.PNG", "2.PNG", "Label/2_label.PNG", "Label/Labels.txt")
    ]
    root = touch(tmp_path / "DAGM" / "Class1", *names)
    samples = read(dagm(root))
    assert [(s.split, s.label, s.defect, s.mask and s.mask.name) for s in samples] == [
        ("test", 0, "good", None), ("test", 1, "", "2_label.PNG"),
        ("train", 0, "good", None), ("train", 1, "", "2_label.PNG"),
    ]  # fmt: skip
    assert {(s.class_name, s.dataset) for s in samples} == {("Class1", "DAGM")}
    touch(tmp_path / "DAGM" / "Class10", *names)
    assert read(dagm(tmp_path / "DAGM"))[:4] == samples


def test_dagm_label_without_its_image_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "Class1/Test/1.PNG", "Class1/Test/Label/2_label.PNG", "Class1/x.png")
    assert problems(dagm(root), root) == [(SPARE_MASK, "Class1/Test/Label/2_label.PNG"), (IGNORED, "Class1/x.png")]


# --- Real-IAD


def real_iad_files(root: Path, size: str = "realiad_1024") -> Path:
    images = [("OK", "OK/S0001/a_OK_C1.jpg", None), ("QS", "NG/QS/S0001/a_NG.jpg", "NG/QS/S0001/a_NG.png")]
    entries = [{"category": "usb", "anomaly_class": a, "image_path": b, "mask_path": c} for a, b, c in images]
    content = {"meta": {"normal_class": "OK", "prefix": "usb/"}, "train": entries[:1], "test": entries}
    (root / "realiad_jsons/realiad_jsons").mkdir(parents=True)
    (root / "realiad_jsons/realiad_jsons/usb.json").write_text(json.dumps(content))
    return touch(root, *(f"{size}/usb/{name}" for _, *both in images for name in both if name))


@pytest.mark.parametrize("size", ["realiad_1024", "realiad_512", "."])
def test_real_iad_lists_say_split_defect_and_mask(tmp_path: Path, size: str) -> None:
    root = real_iad_files(tmp_path / "Real-IAD", size)
    bad = root / size / "usb/NG/QS/S0001"
    good = root / size / "usb/OK/S0001/a_OK_C1.jpg"
    expected = [
        Sample(good, None, 0, "usb", "good", "train", "Real-IAD"),
        Sample(good, None, 0, "usb", "good", "test", "Real-IAD"),
        Sample(bad / "a_NG.jpg", bad / "a_NG.png", 1, "usb", "QS", "test", "Real-IAD"),
    ]
    assert read(real_iad(root)) == expected
    if size != ".":
        assert read(real_iad(root / size)) == expected


def test_real_iad_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = real_iad_files(tmp_path)
    (root / "realiad_1024/usb/NG/QS/S0001/a_NG.png").unlink()
    (root / "realiad_1024/usb/OK/S0001/a_OK_C1.jpg").unlink()
    (root / "realiad_jsons/realiad_jsons/zip.json").write_text('{"train": [')
    usb = "realiad_1024/usb"
    assert problems(real_iad(root), root) == [
        (MISSING_IMAGE, f"{usb}/OK/S0001/a_OK_C1.jpg"),
        (MISSING_IMAGE, f"{usb}/OK/S0001/a_OK_C1.jpg"),
        (MISSING_MASK, f"{usb}/NG/QS/S0001/a_NG.jpg"),
        (UNREADABLE, "realiad_jsons/realiad_jsons/zip.json"),
    ]


# --- any folder


def test_unlabelled_images_have_no_label(tmp_path: Path) -> None:
    root = touch(tmp_path / "photos", "2.jpg", "10.jpg", "more/1.png", "notes.txt")
    found = unlabelled(root)
    assert read(found) == [
        Sample(root / name, dataset="photos") for name in ("2.jpg", "10.jpg", "more/1.png")
    ] and found and found.understood.startswith("3 images without labels; the folder more (1 image)")  # fmt: skip


def test_unlabelled_says_which_folders_it_did_not_know(tmp_path: Path) -> None:
    found = unlabelled(touch(tmp_path, *(f"{name}/{i}.png" for name in ("Klasse 1", "Klasse 2") for i in (1, 2))))
    assert found and "Klasse 1 (2 images), Klasse 2 (2 images): not known as normal or anomalous" in found.understood
    assert "known are good, ok" in found.understood


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_without_images_has_no_layout(tmp_path: Path, layout: object) -> None:
    root = touch(tmp_path, "notes.txt", "test/good/x.txt", "masks/x.txt", "Train/Label/x.txt", "realiad_jsons/x.txt")
    assert layout(root) is None  # type: ignore[operator]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_root_that_is_no_folder_is_refused(tmp_path: Path, layout: object) -> None:
    for root in (tmp_path / "none", touch(tmp_path, "file.png") / "file.png"):
        with pytest.raises(ZsadError, match="expected a folder"):
            layout(root)  # type: ignore[operator]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_folders_are_understood() -> None:
    cookies, brains = read(normal_abnormal(REAL / "cookie")), read(normal_abnormal(REAL / "brainmri"))
    assert Counter((s.label, s.mask is None) for s in cookies) == {(0, True): 45, (1, False): 32}
    assert all(s.mask is None or s.mask.stem == s.image.stem for s in cookies)
    assert Counter(s.label for s in brains) == {0: 98, 1: 155}
