from __future__ import annotations

import os
from pathlib import Path

import pytest

from zsad.data.files import (
    ABNORMAL_NAMES,
    MASK_NAMES,
    NORMAL_NAMES,
    cut_end,
    find_images,
    folders,
    many,
    means,
    part_rows,
    plain,
    scan,
    unread,
)
from zsad.errors import ZsadError


def touch(root: Path, *names: str) -> Path:
    """Empty files; layouts look at names only."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# --- what a scan finds


def test_folders_are_searched_to_any_depth_in_natural_order(tmp_path: Path) -> None:
    names = ["a2/1.png", "a2/10.jpg", "a10/x.TIF", "z.bmp"]
    touch(tmp_path, *names, "notes.txt", ".hidden.png", ".cache/1.png", "._1.png")
    (tmp_path / "folder.png").mkdir()
    assert find_images([tmp_path]) == [tmp_path / name for name in names]


def test_scan_tells_the_folders_above_each_image(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/2.png", "1.png")
    assert [(file.folders, file.stem) for file in scan(tmp_path)] == [((), "1"), (("a", "b"), "2")]


@pytest.mark.parametrize("name", ["none", "file.png"])
def test_scan_of_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file.png")
    with pytest.raises(ZsadError, match="expected a folder, found"):
        scan(tmp_path / name)


def test_linked_files_and_folders_are_read(tmp_path: Path) -> None:
    there = touch(tmp_path / "there", "1.png", "deep/2.png")
    here = touch(tmp_path / "here")
    (here / "x.png").symlink_to(there / "1.png")
    (here / "link").symlink_to(there / "deep")
    assert [file.path for file in scan(here)] == [here / "link/2.png", here / "x.png"]
    assert folders(here, deep=1) == [("link",)]


def test_links_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    assert [file.path.name for file in scan(tmp_path)] == ["1.png", "2.png", "self.png"]


def test_link_to_nothing_is_found_and_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [file.path for file in scan(tmp_path)] == [tmp_path / "gone.png"]


def test_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "open/1.png", "shut/2.png")
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ZsadError, match=r"shut: cannot be listed \(Permission denied\)"):
        scan(tmp_path)


def test_folders_are_listed_down_to_a_level_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "a10/b/c/1.png", "a2/1.png", ".git/x/1.png", "file")
    assert folders(tmp_path, deep=2) == [("a2",), ("a10",), ("a10", "b")]


# --- what names say


def test_names_are_compared_without_case_blanks_and_hyphens() -> None:
    assert plain("Ground Truth") == plain("ground-truth") == plain("GROUND_TRUTH") == "ground_truth"


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("masks", ""),
        ("test-mask", "test"),
        ("Part1_Test_GroundTruth", "part1_test"),
        ("unmask", None),
        ("image", None),
        ("Kvasir-SEG", None),
        ("seg", ""),
    ],
)
def test_end_of_a_folder_name_tells_that_masks_are_in_it(name: str, before: str | None) -> None:
    assert cut_end(name, MASK_NAMES) == before


@pytest.mark.parametrize("height", [1, 2, 7, 500, 501])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_cover_every_row_once(height: int, parts: int) -> None:
    rows = [row for i in range(parts) for row in range(height)[part_rows(height, (i + 1, parts))]]
    assert rows == list(range(height)) == list(range(height)[part_rows(height, None)])


def test_one_is_singular() -> None:
    assert (many(1, "mask"), many(0, "mask"), many(3, "class")) == ("1 mask", "0 masks", "3 classes")


# --- images that somebody names


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


# --- what is not meant, and what is not read


@pytest.mark.parametrize("junk", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs", "thumbnails"])
def test_folders_of_systems_are_left_out(tmp_path: Path, junk: str) -> None:
    touch(tmp_path, "good/1.png", f"good/{junk}/1.png", f"{junk}/2.png")
    assert [file.path for file in scan(tmp_path)] == [tmp_path / "good/1.png"]
    assert folders(tmp_path) == [("good",)]


def test_results_of_an_earlier_run_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "out/settings.json", "out/predictions.jsonl", "out/maps/1.png", "other/settings.json")
    touch(tmp_path, "other/2.png")
    assert [file.path.name for file in scan(tmp_path)] == ["1.png", "2.png"]


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.10008.3"])
def test_dicom_without_a_suffix_is_an_image_under_its_whole_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "README", "1.2")
    for there in (name, "DICOMDIR"):
        (tmp_path / there).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 9)
    assert [(file.path.name, file.stem) for file in scan(tmp_path)] == [(name, name)]


def test_files_that_look_like_pictures_but_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "a.HEIC", "b/c.heic", "scan.nii.gz", "x.txt", ".d.heic")
    assert unread(tmp_path) == {".heic": 2, ".nii.gz": 1}


def test_stems_are_composed_whatever_the_system_wrote(tmp_path: Path) -> None:
    touch(tmp_path, "u\u0308.png")
    assert [file.stem for file in scan(tmp_path)] == ["\u00fc"] and plain("U\u0308") == plain("\u00dc")


@pytest.mark.parametrize(
    ("name", "known"),
    [("0_normal", True), ("good_images", True), ("OK Parts", True), ("i.O.", True), ("no defects", True),
     ("good (1)", True), ("n.i.O.", False), ("not good", False), ("very good", False), ("1", False), ("images", False)],
)  # fmt: skip
def test_words_beside_a_known_one_may_decorate_but_not_turn_it(tmp_path: Path, name: str, known: bool) -> None:
    assert means(name, NORMAL_NAMES) == known


def test_no_name_is_normal_and_anomalous() -> None:
    assert not {*map(plain, NORMAL_NAMES)} & {*map(plain, ABNORMAL_NAMES)}
    assert not any(means(name, NORMAL_NAMES) for name in ABNORMAL_NAMES)
