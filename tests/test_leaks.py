"""Images are known by what their files hold; those that are tested are not trained on."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.miniatures import mask, picture
from zsad import cli
from zsad.backbones.weights import load as load_backbone
from zsad.data import contents as module
from zsad.data.contents import contents, file_sha256
from zsad.data.index import samples_of
from zsad.data.tables import write_table
from zsad.errors import ZsadError
from zsad.methods.checkpoints import load, read_note
from zsad.methods.table import build
from zsad.training.leaks import refuse_seen, seen_digest, seen_in
from zsad.types import Sample


def pictures(root: Path, *names: str) -> list[Sample]:
    for name in names:
        picture(root / name)
    return [Sample(root / name, label=0) for name in names]


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- what files hold


def test_a_file_is_its_sha256_and_a_folder_that_of_its_images_in_order(tmp_path: Path) -> None:
    data = [random.Random(i).randbytes(10 + i) for i in range(2)]
    one, two = (written(tmp_path / "masks" / f"{i}.png", part) for i, part in enumerate(data))
    written(tmp_path / "masks" / "notes.txt", b"no image")
    hashes = [hashlib.sha256(part).hexdigest() for part in data]
    assert [file_sha256(one), file_sha256(two)] == hashes
    assert file_sha256(tmp_path / "masks") == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_a_folder_is_not_one_file_with_all_its_bytes(tmp_path: Path) -> None:
    """Two masks AB and C are not the masks A and BC."""
    for folder, parts in {"a": (b"AB", b"C"), "b": (b"A", b"BC")}.items():
        for i, part in enumerate(parts):
            written(tmp_path / folder / f"{i}.png", part)
    assert file_sha256(tmp_path / "a") != file_sha256(tmp_path / "b")


@pytest.mark.parametrize("workers", [0, 2])
def test_contents_are_those_of_each_file_whoever_reads(tmp_path: Path, workers: int) -> None:
    files = [written(tmp_path / str(i), bytes([i])) for i in range(9)]
    done: list[int] = []
    found = contents([*files, *files], workers, done.append)
    assert found == {path: hashlib.sha256(bytes([i])).hexdigest() for i, path in enumerate(files)}
    assert sum(done) == 9


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"gone\.png cannot be read"):
        contents([tmp_path / "gone.png"])


# --- refusing


def test_sets_without_a_common_image_are_accepted(tmp_path: Path) -> None:
    refuse_seen(pictures(tmp_path / "a", "1.png", "2.png"), pictures(tmp_path / "b", "1.png", "2.png"))
    refuse_seen(pictures(tmp_path / "a", "1.png"), [])


@pytest.mark.parametrize("form", ["samples", "folder", "files", "manifest"])
def test_equal_images_are_refused_and_named_whatever_they_are_called(tmp_path: Path, form: str) -> None:
    ours, theirs = pictures(tmp_path / "a", "1.png", "2.png"), pictures(tmp_path / "b", "x/1.png", "x/3.png")
    shutil.copy(ours[1].image, theirs[0].image)
    pair = f"{ours[1].image} = {theirs[0].image}"
    write_table(theirs, tmp_path / "all.csv")
    files = [sample.image for sample in theirs]
    forms = {"samples": theirs, "folder": [tmp_path / "b"], "files": files, "manifest": [tmp_path / "all.csv"]}
    with pytest.raises(ZsadError, match=rf"(?s)1 of the images.*{re.escape(pair)}\n.*No tested image"):
        refuse_seen(ours, forms[form])


def test_the_very_same_file_is_refused_through_a_link_too(tmp_path: Path) -> None:
    ours = pictures(tmp_path / "a", "1.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for targets in (ours, [tmp_path / "b"]):
        with pytest.raises(ZsadError, match="1 of the images"):
            refuse_seen(ours, targets)


def test_only_the_first_pairs_are_named_and_all_are_counted(tmp_path: Path) -> None:
    ours = pictures(tmp_path / "a", *(f"{i}.png" for i in range(8)))
    with pytest.raises(ZsadError) as told:
        refuse_seen(ours, ours)
    assert str(told.value).count(" = ") == 5
    assert "8 of the images" in str(told.value) and "and 3 more" in str(told.value)


def test_a_part_of_a_file_counts_as_the_file(tmp_path: Path) -> None:
    (whole,) = pictures(tmp_path, "1.png")
    upper, lower = (Sample(whole.image, label=0, part=(i, 2)) for i in (1, 2))
    with pytest.raises(ZsadError, match="1 of the images"):
        refuse_seen([upper], [lower])
    assert seen_in(seen_digest([upper]), [lower]) == [lower]
    assert seen_digest([upper, lower]) == seen_digest([whole])


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [Sample(written(tmp_path / "a" / f"{n}.png", bytes(n))) for n in (10, 20)]
    theirs = [Sample(written(tmp_path / "b" / f"{n}.png", b"x" * n)) for n in (20, 30)]
    read: list[Path] = []

    def noted(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(module, "file_sha256", noted)
    refuse_seen(ours, theirs)
    assert read == [ours[1].image, theirs[0].image]


def test_a_missing_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"gone\.png"):
        refuse_seen(pictures(tmp_path, "1.png"), [Sample(tmp_path / "gone.png")])


# --- the record


def test_the_record_knows_its_images_again_and_no_others(tmp_path: Path) -> None:
    ours, others = pictures(tmp_path / "a", "1.png", "2.png"), pictures(tmp_path / "b", "1.png", "2.png")
    shutil.copy(ours[0].image, others[1].image)
    assert seen_in(seen_digest(ours), others) == [others[1]]
    assert seen_in(seen_digest([]), others) == []


def test_the_record_depends_on_no_order_and_counts_copies_once(tmp_path: Path) -> None:
    ours = pictures(tmp_path, "1.png", "2.png", "3.png")
    record = seen_digest(ours)
    shutil.copy(ours[0].image, tmp_path / "copy.png")
    assert seen_digest([*reversed(ours), Sample(tmp_path / "copy.png")]) == record


def test_the_record_of_mvtec_has_less_than_20_kilobytes(tmp_path: Path) -> None:
    samples = [Sample(written(tmp_path / str(i), str(i).encode())) for i in range(1725)]
    assert len(seen_digest(samples)) == 18_400  # 4/3 x 8 bytes x 1,725 images


def test_what_cannot_be_read_was_not_seen(tmp_path: Path) -> None:
    ours = pictures(tmp_path, "1.png")
    assert seen_in(seen_digest(ours), [Sample(tmp_path / "gone.png"), *ours]) == ours


@pytest.mark.parametrize("record", ["no base 64", base64.b64encode(b"too short").decode()])
def test_a_damaged_record_is_told(tmp_path: Path, record: str) -> None:
    with pytest.raises(ZsadError, match="damaged"):
        seen_in(record, pictures(tmp_path, "1.png"))


# --- in a checkpoint


@pytest.mark.parametrize("record", ["", "QUJDREVGR0g="])
def test_saved_and_loaded_weights_know_what_they_were_trained_on(tmp_path: Path, record: str) -> None:
    method = build("anomalyclip", load_backbone("tiny"))
    method.seen = record
    method.save(tmp_path / "own.safetensors")
    assert ("seen" in read_note(tmp_path / "own.safetensors")) == bool(record)
    assert load(tmp_path / "own.safetensors", method.backbone).seen == record


@pytest.mark.parametrize("seen", [0, 1])
def test_evaluate_says_how_many_images_were_trained_on(tmp_path: Path, seen: int) -> None:
    for name in ("good/1.png", "good/2.png", "bad/3.png"):
        picture(tmp_path / "nuts" / name, size=(40, 30))
    mask(tmp_path / "nuts" / "masks" / "3.png", size=(40, 30))
    method = build("anomalyclip", load_backbone("tiny"))
    others = pictures(tmp_path / "others", "1.png")
    method.seen = seen_digest([*samples_of(tmp_path / "nuts")[:seen], *others])
    method.save(tmp_path / "own.safetensors")
    words = ["evaluate", tmp_path / "nuts", "--weights", tmp_path / "own.safetensors", "--size", 64]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert ("1 of 3 images were in the training of these weights" in result.output) == bool(seen)
