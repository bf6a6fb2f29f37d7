from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsad.data.files import many
from zsad.data.found import (
    CONTRADICTION,
    DUPLICATE,
    IGNORED,
    MISSING_IMAGE,
    MISSING_MASK,
    SAME_NAME,
    UNKNOWN_LABEL,
    Found,
)
from zsad.data.tables import csv_table, meta_json, read_table, unused, write_meta, write_table
from zsad.data.tables.doubts import unlisted
from zsad.errors import ZsadError
from zsad.types import Sample

SUFFIXES = [".jsonl", ".csv", ".tsv", ".parquet"]


def touch(root: Path, *names: str) -> Path:
    """Empty files; tables look at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str, name: str = "table.csv") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def only(found: Found) -> Sample:
    (sample,) = found.samples
    return sample


def kinds(found: Found) -> list[str]:
    return [problem.kind for problem in found.problems]


# --- manifests

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
NAMES = WORDS.map(lambda word: word.replace("/", "_")).filter(lambda word: word not in ("", ".", ".."))


@st.composite
def lists_of_samples(draw: st.DrawFn) -> list[Sample]:
    """Samples with paths below the current folder, of any look."""
    folders = st.sampled_from(["", "images", "a b/c,d"])
    paths = st.builds(Path, folders, NAMES)
    sample = st.builds(
        Sample, paths, st.none() | st.builds(Path, st.just("masks"), NAMES), st.sampled_from([0, 1, None]),
        WORDS, WORDS, st.sampled_from(["train", "test"]), WORDS, WORDS, st.sampled_from([None, (1, 2), (2, 2)]),
    )  # fmt: skip
    return draw(
        st.lists(
            sample, min_size=1, max_size=3, unique_by=lambda sample: (sample.image, sample.part, sample.class_name)
        )
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None)
@given(samples=lists_of_samples())
def test_manifest_gives_back_every_field_of_every_sample(suffix: str, samples: list[Sample]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, path = Path(folder) / "set", Path(folder) / "set" / f"the manifest{suffix}"
        samples = [
            dataclasses.replace(sample, image=root / sample.image, mask=sample.mask and root / sample.mask)
            for sample in samples
        ]
        try:
            touch(root, *(str(file) for sample in samples for file in (sample.image, sample.mask) if file))
        except (OSError, UnicodeError):  # a file system that allows fewer names
            return
        if any(file.is_dir() for sample in samples for file in (sample.image, sample.mask) if file):
            return
        write_table(samples, path)
        assert read_table(path) == Found(samples, f"a manifest of {many(len(samples), 'image')}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folder_can_be_moved_with_its_manifest(tmp_path: Path, suffix: str) -> None:
    old, new = touch(tmp_path / "old", "bad/1.png", "masks/1.png"), tmp_path / "new"
    write_table([Sample(old / "bad/1.png", old / "masks/1.png", 1)], old / f"m{suffix}")
    old.rename(new)
    assert only(read_table(new / f"m{suffix}")) == Sample(new / "bad/1.png", new / "masks/1.png", 1)


def test_paths_are_relative_below_the_manifest_and_absolute_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(touch(tmp_path, "set/1.png", "settled/2.png"))
    samples = [Sample(Path("set/1.png"), label=0), Sample(Path("settled/2.png"), label=0)]
    write_table(samples, Path("set/m.jsonl"))
    rows = [json.loads(line) for line in Path("set/m.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["1.png", (tmp_path / "settled/2.png").as_posix()]
    assert [s.image for s in read_table(Path("set/m.jsonl")).samples] == [Path("set/1.png"), tmp_path / "settled/2.png"]


def test_manifest_columns_are_the_fields_of_a_sample(tmp_path: Path) -> None:
    root = touch(tmp_path, "1.png")
    write_table([Sample(root / "1.png", part=(1, 2))], root / "m.jsonl")
    assert json.loads((root / "m.jsonl").read_text()) == {
        "image": "1.png", "mask": None, "label": None, "class_name": "object", "defect": "", "split": "test",
        "dataset": "", "prompt_name": "", "part": "1/2",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_file_names_that_are_not_unicode_are_kept(tmp_path: Path, suffix: str) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        image.touch()
    except OSError:
        pytest.skip("this file system allows no such name")
    write_table([Sample(image)], tmp_path / f"m{suffix}")
    assert only(read_table(tmp_path / f"m{suffix}")).image == image


def test_parquet_refuses_names_that_are_not_unicode(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"caf\\udce9\.png.*\.jsonl"):
        write_table([Sample(tmp_path / os.fsdecode(b"caf\xe9.png"))], tmp_path / "m.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json"])
def test_manifest_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, path = [Sample(tmp_path / "1.png", label=0)], tmp_path / f"m{suffix}"
    write_table(samples, path)
    before = path.read_bytes()

    def full(part: Path, *_: object, **__: object) -> None:
        with part.open("w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ZsadError, match="No space left"):
        write_table(samples * 2, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["m.xlsx", "m", "m.png"])
def test_unknown_formats_are_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZsadError, match=r"\.jsonl, \.parquet, \.csv, \.tsv"):
        write_table([Sample(tmp_path / "1.png")], tmp_path / name)
    with pytest.raises(ZsadError, match=r"\.jsonl, \.parquet, \.csv, \.tsv, \.json"):
        read_table(touch(tmp_path, name) / name)


def test_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="at least one image"):
        write_table([], tmp_path / "m.csv")


def test_part_that_cannot_be_is_refused(tmp_path: Path) -> None:
    write_table([Sample(touch(tmp_path, "1.png") / "1.png", part=(2, 2))], tmp_path / "m.csv")
    text = (tmp_path / "m.csv").read_text()
    for wrong in ("3/2", "0/2", "half"):
        with pytest.raises(ZsadError, match=f"{wrong}.*expected 1/2"):
            read_table(table(tmp_path, text.replace("2/2", wrong)))


# --- columns of other tables

IMAGES = (
    "image image_path image_file image_name img img_path img_file img_name path file filename file_name file_path "
    "filepath id image_id img_id name IMAGE Image-Path imagePath"
)
MASKS = "mask mask_path Mask_File mask_name gt_path gt_mask ground_truth_path"
LABELS = (
    "label anomaly anomalous abnormal is_anomaly is_anomalous is_abnormal is_defect is_defective target hemorrhage "
    "label_index Label class category defect"
)


@pytest.mark.parametrize("name", IMAGES.split())
def test_column_of_images_is_known_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a/1.png")
    assert only(read_table(table(tmp_path, f"nr,{name} \n7,a/1.png\n"))).image == tmp_path / "a/1.png"


@pytest.mark.parametrize("name", MASKS.split())
def test_column_of_masks_is_known_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "1.png", "m/1.png")
    found = read_table(table(tmp_path, f"image,label,{name}\n1.png,1,m/1.png\n"))
    assert only(found).mask == tmp_path / "m/1.png" and not found.problems


@pytest.mark.parametrize("name", LABELS.split())
def test_column_of_labels_is_known_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "1.png", "2.png")
    found = read_table(table(tmp_path, f"image, {name}\n1.png, 1\n2.png, 0\n"))
    assert [(s.label, s.class_name, s.defect) for s in found.samples] == [
        (1, tmp_path.name, ""),
        (0, tmp_path.name, "good"),
    ]


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, "class_name") for name in ("class_name", "cls_name", "object", "category", "product", "class", "ClassName")]
    + [(name, "defect") for name in ("defect", "defect_type", "defect_name", "specie_name", "anomaly_type")]
    + [(name, "split") for name in ("split", "phase", "set", "subset")]
    + [("dataset", "dataset"), ("prompt_name", "prompt_name"), ("Prompt Name", "prompt_name")],
)
def test_columns_of_text_are_known_by_name(tmp_path: Path, name: str, field: str) -> None:
    touch(tmp_path, "1.png")
    found = read_table(table(tmp_path, f"image,label,{name}\n1.png,1,  some thing \n"))
    assert getattr(only(found), field) == "some thing"


@pytest.mark.parametrize("name", ["class", "category"])
def test_column_that_may_hold_labels_holds_them_only_where_every_value_is_one(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "1.png", "2.png")
    found = read_table(table(tmp_path, f"image,{name}\n1.png,good\n2.png,scratch\n"))
    assert [sample.label for sample in found.samples] == [None, None]
    assert [sample.class_name for sample in found.samples] == ["good", "scratch"]


def test_columns_that_are_empty_or_not_there_give_what_a_sample_has_by_itself(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    assert only(read_table(table(tmp_path, "image\n1.png\n"))) == Sample(tmp_path / "1.png", class_name=tmp_path.name)
    empty = table(tmp_path, "image,label,mask,class_name,split,notes\n1.png,,,,,x\n")
    assert only(read_table(empty)) == Sample(tmp_path / "1.png", class_name=tmp_path.name)


@pytest.mark.parametrize(
    ("word", "split"),
    [("Train", "train"), ("TEST", "test"), ("training", "train"), ("testing", "test"), ("fold3",) * 2],
)
def test_splits_are_named_as_elsewhere(tmp_path: Path, word: str, split: str) -> None:
    touch(tmp_path, "1.png")
    assert only(read_table(table(tmp_path, f"image,phase\n1.png,{word}\n"))).split == split


def test_part_of_an_image_is_told_from_other_parts(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    assert only(read_table(table(tmp_path, "image,label,part\n1.png,1,2/2\n"))).part == (2, 2)
    assert only(read_table(table(tmp_path, "image,label,part\n1.png,1,elbow\n"))).part is None


def test_table_without_images_names_its_columns_and_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"found the columns who, what\..*image, image_path.*id"):
        read_table(table(tmp_path, "who,what\nme,this\n"))


@pytest.mark.parametrize("names", ["image,path", "image,Image", "filename,img_path", "id,name"])
def test_two_columns_that_can_be_the_images_are_named(tmp_path: Path, names: str) -> None:
    first, second = names.split(",")
    with pytest.raises(ZsadError, match=f"'{first}' and '{second}' can each be the image"):
        read_table(table(tmp_path, f"{names}\n1.png,2.png\n"))


def test_a_number_beside_the_path_is_not_the_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert only(read_table(table(tmp_path, "id,image,label\n7,a.png,1\n"))).image == tmp_path / "a.png"


# --- labels


@pytest.mark.parametrize(
    ("word", "label"),
    [(word, 0) for word in ("0", "0.0", "false", "FALSE", "normal", "Good", "ok", "negative", "no", "non-defective")]
    + [(word, 1) for word in ("1", "1.0", "True", "anomaly", "bad", "NG", "positive", "abnormal", "yes", "Not OK")]
    + [(word, None) for word in ("", "nan", "None", "unknown")],
)
def test_words_of_a_label(tmp_path: Path, word: str, label: int | None) -> None:
    touch(tmp_path, "1.png")
    found = read_table(table(tmp_path, f"image,label\n1.png, {word} \n"))
    assert only(found).label == label and not found.problems


@pytest.mark.parametrize("word", ["2", "-1", "crack", "0.5", "goodish", "01"])
def test_label_that_is_not_known_makes_all_of_its_column_unknown(tmp_path: Path, word: str) -> None:
    touch(tmp_path, "1.png", "2.png")
    found = read_table(table(tmp_path, f"image,label\n1.png,{word}\n2.png,1\n"))
    assert [sample.label for sample in found.samples] == [None, None]
    (problem,) = found.problems
    assert (problem.kind, problem.path) == (UNKNOWN_LABEL, tmp_path / "table.csv")
    assert f"{word!r}, '1'; write 0 or normal" in problem.note


@pytest.mark.parametrize(("value", "label"), [(1, 1), (0.0, 0), (True, 1), (None, None), (float("nan"), None)])
def test_labels_may_be_numbers(tmp_path: Path, value: object, label: int | None) -> None:
    touch(tmp_path, "1.png")
    found = read_table(table(tmp_path, json.dumps({"image": "1.png", "label": value}), "t.jsonl"))
    assert only(found).label == label and not found.problems


def test_without_labels_what_has_a_mask_is_anomalous_and_the_rest_unknown(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "m/1.png")
    found = read_table(table(tmp_path, "image,mask\n1.png,m/1.png\n2.png,\n"))
    assert [(s.label, s.mask) for s in found.samples] == [(1, tmp_path / "m/1.png"), (None, None)]
    assert "anomalous is what has a mask" in found.understood


def test_with_labels_a_mask_says_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "m/1.png")
    assert only(read_table(table(tmp_path, "image,mask,label\n1.png,m/1.png,\n"))).label is None


# --- files that are not there


def test_rows_without_their_image_are_left_out_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "folder.png/x.txt")
    found = read_table(table(tmp_path, "image,label\na/1.png,1\na/2.png,1\nfolder.png,0\n,1\n"))
    assert [sample.image for sample in found.samples] == [tmp_path / "a/1.png"]
    assert kinds(found) == [MISSING_IMAGE] * 3 and found.problems[0].path == tmp_path / "a/2.png"


def test_mask_that_is_named_but_not_there_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    found = read_table(table(tmp_path, "image,label,mask\n1.png,1,m/1.png\n2.png,1,nan\n"))
    assert [sample.mask for sample in found.samples] == [None, None]
    (problem,) = found.problems
    assert (problem.kind, problem.path) == (MISSING_MASK, tmp_path / "1.png") and "m/1.png" in problem.note


def test_normal_image_needs_no_mask(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "m/2.png")
    found = read_table(table(tmp_path, "image,label,mask\n1.png,0,m/1.png\n2.png,0,m/2.png\n"))
    assert [sample.mask for sample in found.samples] == [None, tmp_path / "m/2.png"] and not found.problems


def test_folder_of_masks_is_a_mask(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "gt/1/000.png")
    assert only(read_table(table(tmp_path, "image,label,mask\n1.png,1,gt/1\n"))).mask == tmp_path / "gt/1"


def test_files_are_found_by_listing_their_folders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{kind}/{i}.png" for i in range(50) for kind in "im"))
    path = table(tmp_path, "image,mask\n" + "".join(f"i/{i}.png,m/{i}.png\n" for i in range(50)))
    listed: list[str] = []
    scandir = os.scandir

    def counted(folder: str) -> object:
        listed.append(str(folder))
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", counted)
        patch.setattr(os.path, "exists", lambda _: pytest.fail("a look at the disk for one row"))
        found = read_table(path, tmp_path)
    assert len(found.samples) == 50 and sorted(listed) == [str(tmp_path / "i"), str(tmp_path / "m")]


# --- where paths begin


@pytest.mark.parametrize("name", ["t.csv", "lists/t.csv", "lists/of/t.csv"])
def test_paths_begin_at_the_table_or_up_to_two_folders_above(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "lists/of/none.txt", *(f"set/{i}.png" for i in range(9)))
    path = table(tmp_path, "image\n" + "".join(f"set/{i}.png\n" for i in range(9)), name)
    found = read_table(path)
    assert [s.image for s in found.samples] == [tmp_path / f"set/{i}.png" for i in range(9)]
    assert (f"paths below {tmp_path}" in found.understood) == (name != "t.csv")


def test_paths_begin_where_most_files_are(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "lists/1.png")
    found = read_table(table(tmp_path, "image\n1.png\n2.png\n3.png\n", "lists/t.csv"))
    assert [s.image for s in found.samples] == [tmp_path / f"{i}.png" for i in (1, 2, 3)]


def test_folder_of_images_given_is_the_only_one(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "here/1.png")
    found = read_table(table(tmp_path, "image\n1.png\n2.png\n"), images=tmp_path / "here")
    assert [s.image for s in found.samples] == [tmp_path / "here/1.png"]
    assert [p.path for p in found.problems] == [tmp_path / "here/2.png"]


@pytest.mark.parametrize("prefix", ["/home/you/data/mvtec", "data/mvtec", "D:\\data\\mvtec"])
def test_paths_of_another_machine_keep_their_longest_tail_that_is_here(tmp_path: Path, prefix: str) -> None:
    names = ["bottle/test/0.png", "bottle/gone.png", "cable/test/0.png", "test/0.png"]
    touch(tmp_path / "x/y", names[0], names[2], names[3], "0.png")
    lines = [f"{prefix}/{name}" for name in names]
    text = "\n".join(["image", *lines]).replace("/", "\\" if "\\" in prefix else "/")
    found = read_table(table(tmp_path / "x/y", text))
    assert [s.image for s in found.samples] == [tmp_path / "x/y" / name for name in names if "gone" not in name]
    assert kinds(found) == [MISSING_IMAGE]
    assert f"{prefix} cut from its paths".replace("\\", "/") in found.understood


def test_another_file_of_the_same_name_is_not_the_image(tmp_path: Path) -> None:
    touch(tmp_path, "0.png")
    found = read_table(table(tmp_path, "image\nbottle/0.png\ncable/0.png\n"))
    assert found.samples == [] and kinds(found) == [MISSING_IMAGE] * 2


def test_paths_may_have_backslashes(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/1.png", "m/1.png")
    found = read_table(table(tmp_path, "image,mask\na\\b\\1.png,m\\1.png\n"))
    assert only(found) == Sample(tmp_path / "a/b/1.png", tmp_path / "m/1.png", 1, tmp_path.name)


# --- names that are no paths


def test_head_ct_is_found_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "head_ct/000.png", "head_ct/001.png", "head_ct/010.png")
    table(tmp_path, "id, hemorrhage\n0,1\n1,0\n10,0\n", "labels.csv")
    found = csv_table(tmp_path)
    assert found and [(s.image.name, s.label) for s in found.samples] == [
        ("000.png", 1),
        ("001.png", 0),
        ("010.png", 0),
    ]
    assert found.understood == "a table of 3 images: image from 'id' (by number), label from 'hemorrhage'"
    assert {(s.class_name, s.dataset) for s in found.samples} == {(tmp_path.name, tmp_path.name)}


def test_names_are_looked_up_with_and_without_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "deep/er/A.png", "deep/B.JPG", "deep/c.v2.png")
    found = read_table(table(tmp_path, "image\na.png\nb\nc.v2\na.jpg\n"))
    assert [s.image.name for s in found.samples] == ["A.png", "B.JPG", "c.v2.png"]
    assert "(by name and stem)" in found.understood and kinds(found) == [MISSING_IMAGE]


def test_stem_comes_before_number(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "x/01.png")
    assert only(read_table(table(tmp_path, "id\n1\n"))).image == tmp_path / "x/1.png"


def test_name_of_several_images_is_a_problem_and_no_guess(tmp_path: Path) -> None:
    touch(tmp_path, "x/000.png", "y/000.png", "y/1.png")
    found = read_table(table(tmp_path, "id,label\n0,1\n1,1\n"))
    assert [s.image for s in found.samples] == [tmp_path / "y/1.png"]
    (problem,) = found.problems
    assert problem.kind == SAME_NAME and "x/000.png or " in problem.note.replace("\\", "/")


def test_masks_are_looked_up_among_masks_and_images_among_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "Ground Truth/1.png", "images/2.png")
    found = read_table(table(tmp_path, "image,mask\n1.png,1.png\n2.png,2.png\n"))
    assert [s.image.parent.name for s in found.samples] == ["images", "images"]
    assert [s.mask for s in found.samples] == [tmp_path / "Ground Truth/1.png", None] and kinds(found) == [MISSING_MASK]


def test_an_image_is_not_its_own_mask(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "masks/1.png")
    assert only(read_table(table(tmp_path, "image,mask\n1.png,1.png\n"))).mask == tmp_path / "masks/1.png"


# --- formats


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_of_any_delimiter_and_spreadsheet(tmp_path: Path, delimiter: str, encoding: str) -> None:
    touch(tmp_path, "ä, ö;x.png", "2.png")
    text = (
        f'\r\nimage{delimiter}label\r\n"ä, ö;x.png"{delimiter}1\r\n\r\n{delimiter}\r\n2.png{delimiter}0{delimiter}\r\n'
    )
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = read_table(tmp_path / "t.csv")
    assert [(s.image.name, s.label) for s in found.samples] == [("ä, ö;x.png", 1), ("2.png", 0)] and not found.problems


def test_row_that_ends_early_has_empty_values(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    assert only(read_table(table(tmp_path, "image,label,mask\n1.png,0\n"))).label == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,1\nb,c.png,1\n", "line 3: 3 values for 2 columns"),
        ('image,label\n"a.png,1\nb.png,1\n', "line 3: unexpected end of data; close each quote"),
        ("image,label\n", "without rows"),
        ("", "without rows"),
    ],
)
def test_damaged_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ZsadError, match=message):
        read_table(table(tmp_path, text))


@pytest.mark.parametrize("line", ['{"image": "2.png", "la', "[1]", "[" * 100_000])
def test_damaged_json_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(ZsadError, match=r"t\.jsonl, line 3: .*mend"):
        read_table(table(tmp_path, f'{{"image": "1.png"}}\n\n{line}\n', "t.jsonl"))


def test_json_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    rows = '{"image": "1.png", "object": "a\u2028b"}\r\n{"image": "1.png", "object": "c"}'
    assert [s.class_name for s in read_table(table(tmp_path, rows, "t.jsonl")).samples] == ["a\u2028b", "c"]


def test_json_may_be_a_list_of_rows(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    assert only(read_table(table(tmp_path, '[{"image": "1.png", "label": "ng"}]', "t.json"))).label == 1


def test_value_that_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="'label' of row 1 is a list"):
        read_table(table(tmp_path, '{"image": "1.png", "label": [1]}', "t.jsonl"))


def test_parquet_of_others_is_read_without_the_images_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    columns = {
        "image": pa.array([{"bytes": b"x", "path": "1.png"}]),
        "file_name": pa.array(["1.png"]).dictionary_encode(),
        "label": pa.array([True]),
        "mask": pa.nulls(1),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert only(read_table(tmp_path / "t.parquet")) == Sample(tmp_path / "1.png", label=1, class_name=tmp_path.name)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json"])
def test_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ZsadError, match=r"none\..*cannot be read"):
        read_table(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json"])
@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=200) | st.text('image,labe{}[]":\\\n \t;10', max_size=80).map(str.encode), cut=st.integers()
)
def test_damaged_file_gives_a_clear_error_or_its_rows(suffix: str, data: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = touch(Path(folder), "1.png") / f"t{suffix}"
        write_table([Sample(path.with_name("1.png"), label=1)], path)
        good = path.read_bytes()
        path.write_bytes(good[: cut % len(good)] + data if cut else data)
        try:
            assert isinstance(read_table(path), Found)
        except ZsadError as error:
            assert "t." in str(error) or "expected 1/2" in str(error)


def test_tables_are_imported_without_pyarrow() -> None:
    code = "import sys, zsad.data.tables; sys.exit('pyarrow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- tables of datasets


def visa(root: Path) -> Path:
    """A corner of VisA, with the column names and paths of its archive."""
    touch(root, "candle/Data/Images/Normal/0836.JPG", "candle/Data/Images/Anomaly/000.JPG")
    touch(root, "candle/Data/Masks/Anomaly/000.png")
    rows = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0836.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    ]
    for name in ("1cls", "2cls_fewshot", "2cls_highshot"):
        table(root, "\r\n".join(rows), f"split_csv/{name}.csv")
    return root


def test_visa_is_read_from_its_first_table_by_the_folder_or_the_file(tmp_path: Path) -> None:
    data = visa(tmp_path / "VisA") / "candle/Data"
    expected = [
        Sample(data / "Images/Normal/0836.JPG", None, 0, "candle", "good", "train"),
        Sample(data / "Images/Anomaly/000.JPG", data / "Masks/Anomaly/000.png", 1, "candle", "", "test"),
    ]
    assert read_table(tmp_path / "VisA/split_csv/1cls.csv").samples == expected
    found = csv_table(tmp_path / "VisA")
    assert found and found.samples == [dataclasses.replace(sample, dataset="VisA") for sample in expected]


def test_json_lines_of_aa_clip_are_read(tmp_path: Path) -> None:
    """Lines of Mwxinnn/AA-CLIP, dataset/metadata/BTAD/full-shot.jsonl, beside and apart from the images."""
    lines = (
        '{"image_path": "02/test/ok/0022.png", "label": 0.0, "class_name": "02"}\n'
        '{"image_path": "01/test/ko/0040.bmp", "label": 1.0, "class_name": "01",'
        ' "mask_path": "01/ground_truth/ko/0040.png"}\n'
    )
    root = touch(tmp_path / "BTech", "02/test/ok/0022.png", "01/test/ko/0040.bmp", "01/ground_truth/ko/0040.png")
    expected = [
        Sample(root / "02/test/ok/0022.png", None, 0, "02", "good"),
        Sample(root / "01/test/ko/0040.bmp", root / "01/ground_truth/ko/0040.png", 1, "01"),
    ]
    assert read_table(table(root, lines, "full-shot.jsonl")).samples == expected
    assert read_table(table(tmp_path, lines, "metadata/full-shot.jsonl"), images=root).samples == expected


def test_table_in_a_folder_or_one_below_is_found_whatever_lies_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "ct/1.png", "notes.txt", "empty.csv")
    table(tmp_path, "who,when\nme,now\n", "notes.csv")
    table(tmp_path, "path,score,map_max,decision\nct/1.png,0.5,0.5,normal\n", "predictions.csv")
    assert csv_table(tmp_path) is None
    table(tmp_path, "image,label\nct/1.png,1\n", "Truth.CSV")
    assert (found := csv_table(tmp_path)) and only(found).image == tmp_path / "ct/1.png"
    table(tmp_path, "image,label\n1.png,1\n", "ct/labels.csv")
    assert csv_table(tmp_path) is None
    (tmp_path / "Truth.CSV").unlink()
    assert (found := csv_table(tmp_path)) and only(found).image == tmp_path / "ct/1.png"


@pytest.mark.parametrize("text", ["", "image,image\n1,2\n", '"', "who\nme\n", "[1]"])
def test_folder_of_other_tables_is_no_layout_and_no_error(tmp_path: Path, text: str) -> None:
    table(tmp_path, text, "t.csv")
    table(tmp_path, text, "meta.json")
    assert csv_table(tmp_path) is None and meta_json(tmp_path) is None
    assert csv_table(tmp_path / "none") is None and meta_json(tmp_path / "none") is None


# --- meta.json


def entry(image: str, mask: str | None, name: str = "bottle", defect: str = "", anomaly: int = 1) -> dict[str, object]:
    return {"img_path": image, "mask_path": mask, "cls_name": name, "specie_name": defect, "anomaly": anomaly}


def meta(root: Path, **splits: object) -> Path:
    return table(root, json.dumps(splits, indent=4) + "\n", "meta.json")


def test_meta_json_of_the_research_repositories_is_read(tmp_path: Path) -> None:
    root = touch(tmp_path / "mvtec", "bottle/train/good/0.png", "bottle/test/crack/0.png")
    touch(root, "bottle/ground_truth/crack/0_mask.png")
    good = entry("bottle/train/good/0.png", "", defect="good", anomaly=0)
    crack = entry("bottle/test/crack/0.png", "bottle/ground_truth/crack/0_mask.png", defect="crack")
    path = meta(root, train={"bottle": [good]}, test={"bottle": [crack]})
    mask = root / "bottle/ground_truth/crack/0_mask.png"
    expected = [
        Sample(root / "bottle/train/good/0.png", None, 0, "bottle", "good", "train"),
        Sample(root / "bottle/test/crack/0.png", mask, 1, "bottle", "crack", "test"),
    ]
    assert read_table(path) == Found(expected, "a meta.json of 2 images")
    found = meta_json(root)
    assert found and found.samples == [dataclasses.replace(sample, dataset="mvtec") for sample in expected]


def test_meta_json_of_dagm_has_splits_with_capitals(tmp_path: Path) -> None:
    touch(tmp_path, "Class1/Train/1.PNG", "Class1/Test/1.PNG")
    train, test = ([entry(f"Class1/{split}/1.PNG", "", "Class1", anomaly=0)] for split in ("Train", "Test"))
    found = read_table(meta(tmp_path, Train={"Class1": train}, Test={"Class1": test}))
    assert [(s.split, s.label, s.class_name) for s in found.samples] == [("train", 0, "Class1"), ("test", 0, "Class1")]


def test_entry_of_a_meta_json_without_a_class_has_that_of_its_list(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    found = read_table(meta(tmp_path, test={"bottle": [{"img_path": "1.png", "anomaly": 1}]}))
    assert only(found) == Sample(tmp_path / "1.png", None, 1, "bottle")


@pytest.mark.parametrize("mask", ["", None])
def test_meta_json_without_masks_is_read(tmp_path: Path, mask: str | None) -> None:
    touch(tmp_path, "yes/1.png")
    found = read_table(meta(tmp_path, train={}, test={"brain": [entry("yes/1.png", mask, "brain")]}))
    assert (only(found).label, only(found).mask, found.problems) == (1, None, [])


@pytest.mark.parametrize("root", ["/remote-home/you/data/medical/Kvasir", "data/Kvasir", "/mnt/Kvasir/"])
def test_meta_json_whose_paths_begin_with_its_root_is_read(tmp_path: Path, root: str) -> None:
    """As generate_dataset_json/kvasir.py and br35.py of zqhang/AnomalyCLIP write them."""
    touch(tmp_path, "images/1.png", "masks/1.png", "images/2.png")
    entries = [entry(f"{root}/images/{i}.png", f"{root}/masks/{i}.png", "colon") for i in (1, 2)]
    found = read_table(meta(tmp_path, train={}, test={"colon": entries}))
    assert [s.image for s in found.samples] == [tmp_path / "images/1.png", tmp_path / "images/2.png"]
    assert [s.mask for s in found.samples] == [tmp_path / "masks/1.png", None] and kinds(found) == [MISSING_MASK]
    assert f"{root.rstrip('/')} cut from its paths" in found.understood


def test_meta_json_of_a_flat_folder_of_another_machine_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    entries = [entry(f"/data/set/{i}.png", "") for i in (1, 2)]
    assert len(read_table(meta(tmp_path, test={"set": entries})).samples) == 2


def test_meta_json_does_not_look_above_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.png")
    found = read_table(meta(tmp_path / "set", test={"brain": [entry("yes/1.png", "")]}))
    assert found.samples == [] and kinds(found) == [MISSING_IMAGE]


@pytest.mark.parametrize("text", ["{", '{"test": 1}', '{"test": {"a": 1}}', '{"test": {"a": [1]}}', "1", "[1]", "null"])
def test_json_of_another_shape_says_which_was_expected(tmp_path: Path, text: str) -> None:
    with pytest.raises(ZsadError, match=r"t\.json: (no JSON|neither a list of rows nor a meta\.json.*img_path)"):
        read_table(table(tmp_path, text, "t.json"))


def samples_of(root: Path) -> list[Sample]:
    """Two classes; a part of the cable's, without mask, is in the test split."""
    touch(root, "bottle/good/0.png", "bottle/bad/ä 1.png", "bottle/masks/1.png", "cable/1.png")
    return [
        Sample(root / "bottle/good/0.png", None, 0, "bottle", "good", "train"),
        Sample(root / "bottle/bad/ä 1.png", root / "bottle/masks/1.png", 1, "bottle", "crack", "test"),
        Sample(root / "cable/1.png", None, 1, "cable", "", "test"),
    ]


def test_meta_json_gives_back_what_was_written(tmp_path: Path) -> None:
    samples = samples_of(tmp_path)
    write_meta(samples, tmp_path / "meta.json")
    assert read_table(tmp_path / "meta.json").samples == samples
    write_table(samples, tmp_path / "other.json")
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "meta.json").read_bytes()


def test_meta_json_has_the_shape_that_released_code_reads(tmp_path: Path) -> None:
    write_meta(samples_of(tmp_path), tmp_path / "meta.json")
    assert json.loads((tmp_path / "meta.json").read_text(encoding="ascii")) == {
        "train": {"bottle": [entry("bottle/good/0.png", "", "bottle", "good", 0)], "cable": []},
        "test": {
            "bottle": [entry("bottle/bad/ä 1.png", "bottle/masks/1.png", "bottle", "crack")],
            "cable": [entry("cable/1.png", "", "cable")],
        },
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "label is not known"),
        ({"part": (1, 2)}, "part of a file"),
        ({"split": "validation"}, "split is 'validation'"),
        ({"image": Path("/elsewhere/1.png")}, "not below"),
        ({"mask": Path("/elsewhere/1.png")}, "not below"),
        ({"mask": Path(__file__).parent}, "mask is a folder"),
    ],
)
def test_meta_json_names_the_first_sample_that_it_cannot_hold(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    first, second, third = samples_of(tmp_path)
    wrong = dataclasses.replace(second, **change)  # type: ignore[arg-type]
    with pytest.raises(ZsadError, match=message) as caught:
        write_meta([first, wrong, third], tmp_path / "meta.json")
    assert str(wrong.image) in str(caught.value) and ".jsonl" in str(caught.value)
    assert not (tmp_path / "meta.json").exists()


# --- what strangers have in their folders


def labels_of(found: Found) -> list[int | None]:
    return [sample.label for sample in found.samples]


@pytest.mark.parametrize("name", ["t.csv", "meta.json"])
def test_images_that_the_table_of_a_folder_does_not_list_are_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "masks/1.png", "Test_GroundTruth/3.png", "other/1_m.png", "new/ä 3.png")
    if name == "t.csv":
        table(tmp_path, "image,label,mask\na/1.png,1,other/1_m.png\n", name)
    else:
        meta(tmp_path, test={"a": [entry("a/1.png", "other/1_m.png")]})
    found = csv_table(tmp_path) or meta_json(tmp_path)
    assert found and [(p.kind, p.path) for p in found.problems] == [
        (IGNORED, tmp_path / "a/2.png"),
        (IGNORED, tmp_path / "new/ä 3.png"),
    ]
    assert not read_table(tmp_path / name).problems


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_manifest_in_a_folder_does_not_stand_for_it(tmp_path: Path, suffix: str) -> None:
    write_table([Sample(touch(tmp_path, "1.png", "2.png") / "1.png", label=0)], tmp_path / f"m{suffix}")
    assert csv_table(tmp_path) is None
    (why,) = unused(tmp_path)
    assert f"m{suffix}: not used, since it is a manifest" in why


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_table_of_any_format_is_the_layout_of_its_folder(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "1.png")
    if suffix == ".parquet":
        pq.write_table(pa.table({"image": ["1.png"], "label": [1]}), tmp_path / "t.parquet")
    else:
        table(
            tmp_path, "image\tlabel\n1.png\t1\n" if suffix == ".tsv" else '{"image": "1.png", "label": 1}', f"t{suffix}"
        )
    assert (found := csv_table(tmp_path)) and only(found).label == 1 and not unused(tmp_path)


def test_results_are_no_layout(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    table(tmp_path, "path,score,map_max,decision,label\n1.png,0.5,0.5,normal,1\n", "predictions.csv")
    assert csv_table(tmp_path) is None and "results" in unused(tmp_path)[0]


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("file,result,normal\n1.png,OK,1\n", "t.csv", "tells only where images are; not used: result, normal; call"),
        ("1.png,0\n", "t.csv", "without rows"),
        ("1.png,0\n2.png,1\n", "t.csv", "yours is a row already: write a line such as image,label above it"),
        ("image,label\n7.png,0\n", "t.csv", "gives none of its 1 image: images that "),
        ("", "t.xlsx", "a spreadsheet: save it as CSV"),
        ('{"train": {"bottle": [', "meta.json", "no JSON"),
        ('[{"image": "1.png", "label": 1}]', "meta.json", "a list of rows and no meta.json"),
    ],
)
def test_table_in_a_folder_that_is_not_used_says_why(tmp_path: Path, text: str, name: str, why: str) -> None:
    table(touch(tmp_path, "1.png", "._t.csv", "~$t.xlsx", "other.json"), text, name)
    (sentence,) = unused(tmp_path)
    assert str(tmp_path / name) in sentence and why in sentence


def test_several_tables_of_images_in_a_folder_name_each_other(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        table(touch(tmp_path, "1.png"), "image,label\n1.png,0\n", name)
    assert csv_table(tmp_path) is None
    assert ["test.csv and train.csv each list images" in why for why in unused(tmp_path)] == [True, True]


def test_columns_that_give_nothing_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    found = read_table(table(tmp_path, ",image,label,score,operator\n0,1.png,1,0.5,me\n"))
    assert found.understood.endswith("label from 'label', not used: score, operator")


def test_label_that_its_folder_contradicts_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "good/0.png", "good/1.png", "bad/2.png", "bad/3.png", "x/4.png")
    path = table(tmp_path, "image,label\ngood/0.png,1\ngood/1.png,0\nbad/2.png,0\nbad/3.png,1\nx/4.png,1\n")
    found = read_table(path)
    assert [(p.kind, p.path.name) for p in found.problems] == [(CONTRADICTION, "0.png"), (CONTRADICTION, "2.png")]
    assert labels_of(found) == [1, 0, 0, 1, 1]


def test_folder_of_all_images_and_edited_manifest_contradict_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "defects/a/0.png", "defects/b/1.png", "good/1.png", "bad/1.png")
    assert not read_table(table(tmp_path, "image,label\ndefects/a/0.png,1\ndefects/b/1.png,0\n")).problems
    write_table([Sample(tmp_path / f"{n}/1.png", label=v) for n, v in (("good", 1), ("bad", 0))], tmp_path / "m.csv")
    assert not read_table(tmp_path / "m.csv").problems


def test_csv_of_windows_is_read_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "Größe_0.png")
    (tmp_path / "t.csv").write_bytes("image;label\nC:\\Jörg\\Größe_0.png;1\n".encode("cp1252"))
    found = read_table(tmp_path / "t.csv")
    assert only(found).image == tmp_path / "Größe_0.png" and "read in the encoding cp1252" in found.understood


@pytest.mark.parametrize("header", ["defect", "Defect Type", "anomaly_type"])
@pytest.mark.parametrize("normal", ["none", "", "good", "no"])
def test_defects_tell_the_label_where_nothing_else_does(tmp_path: Path, header: str, normal: str) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    found = read_table(table(tmp_path, f"image,{header}\n1.png,{normal}\n2.png,Scratch\n3.png,unknown\n"))
    assert labels_of(found) == [0, 1, None] and found.samples[1].defect == "Scratch" and not found.problems
    assert "a defect means anomalous" in found.understood


def test_numbers_of_defects_tell_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert labels_of(read_table(table(tmp_path, "image,defect\n1.png,0\n2.png,3\n"))) == [None, None]


def test_image_with_a_mask_and_no_defect_named_is_anomalous(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "m/1.png")
    found = read_table(table(tmp_path, "image,mask,defect\n1.png,m/1.png,\n2.png,,hole\n3.png,,\n"))
    assert labels_of(found) == [1, 1, 0]


@pytest.mark.parametrize("normal", ["normal", "NORMAL", "good", "none"])
def test_words_beside_one_for_normal_are_defects(tmp_path: Path, normal: str) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    found = read_table(table(tmp_path, f'image,label\n1.png,{normal}\n2.png,"hole,dent"\n3.png,CNV\n'))
    assert [(s.label, s.defect) for s in found.samples] == [(0, "good"), (1, "hole,dent"), (1, "CNV")]
    assert f"'{normal.lower()}' is normal, other labels are defects" in found.understood and not found.problems


@pytest.mark.parametrize("words", ["1,-1", "cap,bottle", "good,ok,hole", "good,2", "0,crack", "gamma,delta"])
def test_column_of_labels_is_believed_as_a_whole_or_not_at_all(tmp_path: Path, words: str) -> None:
    rows = [f"{i}.png,{word}" for i, word in enumerate(words.split(","))]
    touch(tmp_path, *(row.partition(",")[0] for row in rows))
    found = read_table(table(tmp_path, "\n".join(["image,label", *rows])))
    assert set(labels_of(found)) == {None} and kinds(found) == [UNKNOWN_LABEL]
    assert all(repr(word) in found.problems[0].note for word in words.split(","))


def test_words_of_images_with_masks_are_defects(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "masks/1.png")
    found = read_table(table(tmp_path, "image,label,mask\n1.png,stain,masks/1.png\n2.png,,\n"))
    assert [(s.label, s.defect) for s in found.samples] == [(1, "stain"), (None, "")] and not found.problems
    found = read_table(table(tmp_path, "image,label,mask\n1.png,stain,masks/1.png\n2.png,dent,\n"))
    assert labels_of(found) == [None, None] and kinds(found) == [UNKNOWN_LABEL]


def test_table_of_one_class_of_visa_is_read(tmp_path: Path) -> None:
    """candle/image_anno.csv: paths begin above the class, labels are kinds of defect."""
    data = visa(tmp_path) / "candle/Data"
    anno = (
        "image,label,mask\ncandle/Data/Images/Normal/0836.JPG,normal,\n"
        'candle/Data/Images/Anomaly/000.JPG,"chunk of wax missing,other",candle/Data/Masks/Anomaly/000.png\n'
    )
    path = table(tmp_path, anno, "candle/image_anno.csv")
    shutil.rmtree(tmp_path / "split_csv")
    expected = [
        (data / "Images/Normal/0836.JPG", None, 0, "good"),
        (data / "Images/Anomaly/000.JPG", data / "Masks/Anomaly/000.png", 1, "chunk of wax missing,other"),
    ]
    for found in (read_table(path), csv_table(tmp_path / "candle"), csv_table(tmp_path)):
        assert found and [(s.image, s.mask, s.label, s.defect) for s in found.samples] == expected
        assert not found.problems
    assert {sample.class_name for sample in read_table(path).samples} == {"candle"}


def test_image_that_is_listed_as_normal_and_as_anomalous_has_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    found = read_table(table(tmp_path, "image,label\n1.png,0\n2.png,1\n1.png,1\n3.png,0\n3.png,0\n"))
    assert labels_of(found) == [None, 1, None, 0, 0]
    assert [(p.kind, p.path) for p in found.problems] == [(DUPLICATE, tmp_path / "1.png")]


def test_table_apart_from_its_images_says_how_to_give_them(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, '{"image_path": "bottle/test/0.png", "label": 0}', "a b/full-shot.jsonl"))
    assert found.samples == [] and f"data index '{tmp_path}/a b/full-shot.jsonl' --images FOLDER" in found.understood
    touch(tmp_path, "x/1.png", "y/1.png")
    assert "--images" not in read_table(table(tmp_path, "image\n1.png\n")).understood


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.PNG", "a picture, not a table: give its folder"),
        ("a.zip", "an archive, not a table: unpack it"),
        ("a.xlsx", "a spreadsheet: save it as CSV"),
    ],
)
def test_file_that_is_no_table_is_told_what_it_is(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ZsadError, match=message):
        read_table(touch(tmp_path, name) / name)


def test_pictures_inside_a_table_are_to_be_written_to_files(tmp_path: Path) -> None:
    columns = {"image": pa.array([{"bytes": b"x", "path": "1.png"}]), "label": pa.array([1])}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ZsadError, match="pictures inside a table cannot be read: write each to a file"):
        read_table(tmp_path / "t.parquet")


def test_only_text_has_a_first_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"who": ["me"]}), tmp_path / "t.parquet")
    with pytest.raises(ZsadError, match=r"found the columns who\. Call it image"):
        read_table(tmp_path / "t.parquet")


def test_json_may_be_lines_of_json(tmp_path: Path) -> None:
    """As the tables of UniAD."""
    touch(tmp_path, "1.png", "2.png")
    lines = '{"filename": "1.png", "label": 0, "clsname": "nut"}\n{"filename": "2.png", "label": 1, "clsname": "nut"}\n'
    assert labels_of(read_table(table(tmp_path, lines, "test.json"))) == [0, 1]


@pytest.mark.parametrize("prefix", ["", "images/", "D:\\x\\images\\"])
@pytest.mark.parametrize(("of_file", "of_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_may_be_written_in_either_way(tmp_path: Path, prefix: str, of_file: str, of_table: str) -> None:
    image = tmp_path / unicodedata.normalize(of_file, "images/Prüfling.png")
    touch(tmp_path, str(image), "images/2.png")
    path = table(tmp_path, unicodedata.normalize(of_table, f"image,label\n{prefix}Prüfling.png,1\n{prefix}2.png,0\n"))
    assert read_table(path).samples[0].image == image
    assert (found := csv_table(tmp_path)) and not found.problems


def test_listed_image_is_the_file_whose_accents_are_written_otherwise(tmp_path: Path) -> None:
    """As on systems that open a file by either name."""
    touch(tmp_path, unicodedata.normalize("NFC", "ü.png"))
    listed = [Sample(tmp_path / unicodedata.normalize("NFD", "ü.png"))]
    assert list(unlisted(tmp_path, listed, tmp_path / "t.csv")) == []


def test_address_keeps_its_slashes(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png")
    text = "image,label\nhttps://example.com/d/images/1.png,1\nhttps://example.com/d/images/2.png,1\n"
    found = read_table(table(tmp_path, text))
    assert only(found).image == tmp_path / "images/1.png" and "https://example.com/d cut" in found.understood
    (problem,) = found.problems
    assert problem.kind == MISSING_IMAGE and "https://example.com/d/images/2.png" in problem.note


def test_class_is_named_after_the_folder_where_no_column_names_it(tmp_path: Path) -> None:
    touch(tmp_path, "nuts/1.png", "2.png")
    text = "image,label\n1.png,1\n"
    assert only(read_table(table(tmp_path, text, "nuts/t.csv"))).class_name == "nuts"
    assert only(read_table(table(tmp_path, text), images=tmp_path / "nuts")).class_name == "nuts"
    assert only(read_table(table(tmp_path, "image,object\n2.png,bolt\n"))).class_name == "bolt"
