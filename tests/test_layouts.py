from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from zsad.data.layouts import find_images, folder, mvtec, normal_abnormal
from zsad.errors import ZsadError
from zsad.types import Sample

REAL = Path(__file__).parents[2] / "shared" / "data"
BOTTLE = [
    "train/good/000.png",
    "train/good/001.png",
    "test/good/000.png",
    "test/crack/000.png",
    "test/crack/001.png",
    "ground_truth/crack/000_mask.png",
    "ground_truth/crack/001_mask.png",
]


def touch(root: Path, *names: str) -> Path:
    """Empty files; layouts look at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def bottle(root: Path) -> Path:
    return touch(root / "mvtec" / "bottle", *BOTTLE)


# --- MVTec AD


def test_mvtec_class_gives_labelled_samples_in_order(tmp_path: Path) -> None:
    root = bottle(tmp_path)
    truth = root / "ground_truth/crack"
    crack = {"class_name": "bottle", "defect": "crack", "split": "test", "dataset": "mvtec"}
    assert mvtec(root) == [
        Sample(root / "test/crack/000.png", truth / "000_mask.png", 1, **crack),
        Sample(root / "test/crack/001.png", truth / "001_mask.png", 1, **crack),
        Sample(root / "test/good/000.png", None, 0, **crack | {"defect": "good"}),
    ]


def test_mvtec_train_split_is_normal(tmp_path: Path) -> None:
    samples = mvtec(bottle(tmp_path), split="train")
    assert [(s.image.name, s.label, s.mask, s.split) for s in samples] == [
        ("000.png", 0, None, "train"),
        ("001.png", 0, None, "train"),
    ]


def test_mvtec_dataset_and_single_class_give_the_same_samples(tmp_path: Path) -> None:
    single = mvtec(bottle(tmp_path))
    touch(tmp_path / "mvtec", "readme.txt", "license/x.txt", ".cache/test/good/0.png", "bottle/test/crack/._000.png")
    assert mvtec(tmp_path / "mvtec") == single
    touch(tmp_path / "mvtec" / "metal_nut", *BOTTLE)
    assert Counter(s.class_name for s in mvtec(tmp_path / "mvtec")) == {"bottle": 3, "metal_nut": 3}


def test_mvtec_root_may_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bottle(tmp_path))
    assert {(s.class_name, s.dataset) for s in mvtec(".")} == {("bottle", "mvtec")}


@pytest.mark.parametrize("mask", ["000_mask.png", "000.png", "000.bmp", "000_mask.tif", "000.PNG"])
def test_mvtec_mask_is_found_by_name_with_any_suffix(tmp_path: Path, mask: str) -> None:
    root = touch(tmp_path, "test/ok/1.bmp", "test/ko/000.bmp", f"ground_truth/ko/{mask}")
    assert [(s.label, s.mask) for s in mvtec(root)] == [(1, root / "ground_truth/ko" / mask), (0, None)]


def test_masks_are_not_paired_by_order(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    root = touch(tmp_path, *(f"{part}/hole/{name}" for part in ("test", "ground_truth") for name in reversed(names)))
    samples = mvtec(root)
    assert [s.image.name for s in samples] == names
    assert all(s.mask is not None and s.mask.name == s.image.name for s in samples)


def test_missing_masks_are_named_up_to_five(tmp_path: Path) -> None:
    root = bottle(tmp_path)
    touch(root, *(f"test/crack/{i}.png" for i in range(10, 17)))
    with pytest.raises(ZsadError, match="7 anomalous images without a mask") as caught:
        mvtec(root)
    assert f"{Path('test/crack/14.png')} and 2 more" in str(caught.value) and "15.png" not in str(caught.value)


@pytest.mark.parametrize("mask", ["crack/009_mask.png", "hole/000_mask.png", "crack/000.png"])
def test_masks_without_an_image_are_named(tmp_path: Path, mask: str) -> None:
    root = touch(bottle(tmp_path), f"ground_truth/{mask}")
    with pytest.raises(ZsadError, match="1 masks without an anomalous image") as caught:
        mvtec(root)
    assert str(Path(mask)) in str(caught.value)


def test_missing_and_extra_masks_are_reported_together(tmp_path: Path) -> None:
    root = bottle(tmp_path)
    (root / "ground_truth/crack/001_mask.png").rename(root / "ground_truth/crack/002_mask.png")
    with pytest.raises(ZsadError, match=r"(?s)without a mask: .*001\.png.*without an anomalous image: .*002_mask\.png"):
        mvtec(root)


def test_one_name_with_two_suffixes_is_refused(tmp_path: Path) -> None:
    root = touch(bottle(tmp_path), "test/crack/000.jpg")
    with pytest.raises(ZsadError, match="same name"):
        mvtec(root)


def test_empty_masks_of_good_images_are_allowed(tmp_path: Path) -> None:
    root = touch(bottle(tmp_path), "ground_truth/good/000_mask.png")
    assert [s.mask for s in mvtec(root) if s.label == 0] == [None]


def test_mvtec_without_ground_truth_anywhere_has_no_masks(tmp_path: Path) -> None:
    touch(tmp_path / "one", "test/good/0.png", "test/tumour/1.png")
    assert [s.mask for s in mvtec(tmp_path)] == [None, None]
    touch(tmp_path / "two", "test/bad/0.png", "ground_truth/bad/0.png")
    with pytest.raises(ZsadError, match="without a mask"):
        mvtec(tmp_path)


def test_class_without_images_in_the_split_is_named(tmp_path: Path) -> None:
    bottle(tmp_path)
    touch(tmp_path / "mvtec" / "cable", "train/good/0.png")
    with pytest.raises(ZsadError, match=r"no images in test.*cable"):
        mvtec(tmp_path / "mvtec")


def test_unknown_split_and_foreign_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match='no split "val"'):
        mvtec(bottle(tmp_path), split="val")
    with pytest.raises(ZsadError, match="layout of MVTec AD"):
        mvtec(touch(tmp_path / "other", "images/0.png"))


# --- normal and abnormal apart


@pytest.mark.parametrize(("normal", "abnormal"), [("normal", "anomaly"), ("good", "bad"), ("OK", "NG"), ("no", "yes")])
def test_folder_names_tell_the_label(tmp_path: Path, normal: str, abnormal: str) -> None:
    root = touch(tmp_path / "nuts", f"{normal}/1.jpg", f"{abnormal}/1.jpg", f"{abnormal}/notes.txt")
    assert normal_abnormal(root) == [
        Sample(root / normal / "1.jpg", None, 0, "nuts", "good", "test", "nuts"),
        Sample(root / abnormal / "1.jpg", None, 1, "nuts", "", "test", "nuts"),
    ]


@pytest.mark.parametrize("mask", ["masks/7.png", "ground_truth/7_mask.tif", "mask/7.bmp"])
def test_mask_of_an_abnormal_image_has_its_stem(tmp_path: Path, mask: str) -> None:
    root = touch(tmp_path, "normal/1.jpg", "defect/7.jpg", mask)
    assert [s.mask for s in normal_abnormal(root)] == [None, root / mask]


def test_subfolders_name_the_defect_and_are_mirrored_by_masks(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/hole/1.png", "bad/bent/1.png", "masks/hole/1.png", "masks/bent/1.png")
    samples = normal_abnormal(root)
    assert [s.defect for s in samples] == ["good", "bent", "hole"]
    assert [s.mask for s in samples] == [None, root / "masks/bent/1.png", root / "masks/hole/1.png"]


def test_masks_of_normal_images_are_left_unused(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "bad/2.png", "masks/1.png", "masks/2.png")
    assert [s.mask for s in normal_abnormal(root)] == [None, root / "masks/2.png"]


@pytest.mark.parametrize(("extra", "message"), [("bad/3.png", "without a mask: "), ("masks/3.png", "without an anom")])
def test_unmatched_masks_and_images_are_named(tmp_path: Path, extra: str, message: str) -> None:
    root = touch(tmp_path, "good/1.png", "bad/2.png", "masks/2.png", extra)
    with pytest.raises(ZsadError, match=rf"{message}.*3\.png"):
        normal_abnormal(root)


def test_folder_of_unknown_meaning_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "good/1.png", "crack/1.png", "notes/readme.txt")
    with pytest.raises(ZsadError, match=r"crack: normal or abnormal\?"):
        normal_abnormal(root)


def test_normal_and_abnormal_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="no images in folders named normal"):
        normal_abnormal(touch(tmp_path, "good/readme.txt"))


# --- which layout


def test_folder_picks_the_layout(tmp_path: Path) -> None:
    assert folder(bottle(tmp_path)) == mvtec(tmp_path / "mvtec/bottle")
    assert folder(tmp_path / "mvtec", "train") == mvtec(tmp_path / "mvtec", "train")
    apart = touch(tmp_path / "apart", "ok/1.png", "ng/1.png")
    assert folder(apart) == normal_abnormal(apart)


def test_folder_says_what_it_looked_for_and_found(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"(?s)test/good.*normal/good/ok/no.*masks.*Found: images, labels"):
        folder(touch(tmp_path, "images/1.png", "labels/1.txt"))


@pytest.mark.parametrize("layout", [folder, mvtec, normal_abnormal])
def test_root_that_is_no_folder_is_refused(tmp_path: Path, layout: object) -> None:
    for root in (tmp_path / "none", touch(tmp_path, "file.png") / "file.png"):
        with pytest.raises(ZsadError, match="expected a folder"):
            layout(root)  # type: ignore[operator]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_real_folders_are_understood() -> None:
    cookies, brains = folder(REAL / "cookie"), folder(REAL / "brainmri")
    assert Counter((s.label, s.mask is None) for s in cookies) == {(0, True): 45, (1, False): 32}
    assert all(s.mask is None or s.mask.stem == s.image.stem for s in cookies)
    assert Counter(s.label for s in brains) == {0: 98, 1: 155}


# --- loose images


def test_folders_are_searched_to_any_depth_in_natural_order(tmp_path: Path) -> None:
    names = ["a2/1.png", "a2/10.jpg", "a10/x.TIF", "z.bmp"]
    touch(tmp_path, *names, "notes.txt", ".hidden.png", ".cache/1.png", "._1.png")
    (tmp_path / "folder.png").mkdir()
    assert find_images([tmp_path]) == [tmp_path / name for name in names]


def test_explicit_files_are_kept_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.dat", "a[1].png")
    assert find_images([tmp_path / "b.dat", str(tmp_path / "a[1].png")]) == [tmp_path / "b.dat", tmp_path / "a[1].png"]


def test_patterns_give_images_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "x10.png", "x2.png", "x3.txt", "deep/er/x1.png")
    assert find_images([f"{tmp_path}/x*"]) == [tmp_path / "x2.png", tmp_path / "x10.png"]
    assert find_images([f"{tmp_path}/**/x1.*"]) == [tmp_path / "deep/er/x1.png"]
    assert find_images([f"{tmp_path}/de*"]) == [tmp_path / "deep/er/x1.png"]


def test_order_of_the_arguments_is_kept_and_each_image_comes_once(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert find_images([tmp_path / "2.png", tmp_path]) == [tmp_path / "2.png", tmp_path / "1.png"]


@pytest.mark.parametrize(
    ("name", "message"), [("none", "no such file"), ("*.png", "no images"), ("empty", "no images")]
)
def test_path_that_stands_for_no_image_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "there.jpg")
    with pytest.raises(ZsadError, match=message) as caught:
        find_images([tmp_path / "there.jpg", os.path.join(tmp_path, name)])
    assert name in str(caught.value)


def test_no_paths_at_all_are_refused() -> None:
    with pytest.raises(ZsadError, match="at least one"):
        find_images([])
