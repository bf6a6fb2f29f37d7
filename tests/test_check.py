"""zsad.data.check: every kind of fault is found and named, by file, and what public datasets have is only told."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import zsad.data.check as checks
from tests.miniatures import SIDE, Miniature, mask, miniatures, picture
from zsad.data.catalog import Count, Dataset, catalog
from zsad.data.check import Seen, check, look, looks
from zsad.data.findings import (
    ACROSS_SPLITS,
    FAINT,
    MOST_MARKED,
    OTHER_LABEL,
    TWICE,
    Match,
    Note,
    Report,
    Same,
    Tally,
)
from zsad.data.found import (
    DUPLICATE,
    EMPTY_MASK,
    IGNORED,
    MISSING_IMAGE,
    MISSING_MASK,
    OTHER_SIZE,
    UNREADABLE,
    Found,
    Problem,
    must_be_sound,
)
from zsad.data.index import index
from zsad.data.reading import Reading
from zsad.errors import ZsadError
from zsad.types import Sample

SHARED = Path(__file__).parents[2] / "shared" / "data"


def row(*counts: Count, classes: tuple[str, ...] = ("nut",)) -> Dataset:
    """A row of the catalog with nothing but counts and classes."""
    names = dict.fromkeys(classes, "")
    return Dataset("nuts", "Nuts", "industrial", "photography", names, counts, ("image",), "", "not stated", (), "")


def good(root: Path, name: str = "good/0", split: str = "test", number: int = 0) -> Sample:
    """A normal sample with its file."""
    picture(root / f"{name}.png", number)
    return Sample(root / f"{name}.png", None, 0, "nut", "good", split)


def crack(root: Path, name: str = "0", marked: bool = True, size: tuple[int, int] = (SIDE, SIDE)) -> Sample:
    """An anomalous sample with its file, and a mask of some size."""
    picture(root / f"crack/{name}.png")
    mask(root / f"masks/{name}.png", marked, size)
    return Sample(root / f"crack/{name}.png", root / f"masks/{name}.png", 1, "nut", "crack")


def report(*samples: Sample, row: Dataset | None = None, reading: Reading = Reading()) -> Report:
    return check(Found(list(samples), "as said"), row, reading)


def problems(*samples: Sample, reading: Reading = Reading()) -> list[tuple[str, str, str]]:
    """Kind, file name and note of each problem."""
    return [(found.kind, found.path.name, found.note) for found in report(*samples, reading=reading).problems]


# --- counts


def test_samples_are_counted_by_split_and_class(tmp_path: Path) -> None:
    samples = [good(tmp_path, "0", "train"), good(tmp_path, "1"), crack(tmp_path)]
    unlabelled = dataclasses.replace(good(tmp_path, "2"), label=None, class_name="bolt")
    assert report(*samples, unlabelled).tallies == (
        Tally("train", "nut", normal=1, anomalous=0, unlabelled=0, masks=0),
        Tally("test", "nut", normal=1, anomalous=1, unlabelled=0, masks=1),
        Tally("test", "bolt", normal=0, anomalous=0, unlabelled=1, masks=0),
    )


def test_equal_to_one_of_several_counts_is_right_and_names_its_source(tmp_path: Path) -> None:
    counts = [Count("test", 7, 7, "one paper"), Count("test", 1, 1, "its page"), Count("test", 1, 1, "another paper")]
    found = report(good(tmp_path), crack(tmp_path), row=row(*counts))
    assert found.matches == (Match("test", 1, 1, counts[1], ("its page", "another paper")),) and not found.wrong
    assert found.lines() == ["note: test: 1 normal, 1 anomalous, as in its page; another paper", "nothing is wrong"]


def test_other_counts_are_wrong_and_compared_with_the_nearest(tmp_path: Path) -> None:
    found = report(good(tmp_path), row=row(Count("test", 90, 90, "far"), Count("test", 3, 0, "near")))
    line = "wrong: test: 1 normal, 0 anomalous; expected 3 and 0 (near): 2 normal missing"
    assert found.wrong and found.lines()[0] == line and found.reasons == ["other counts than expected"]


def test_a_test_split_that_is_not_there_is_wrong_another_one_is_only_told(tmp_path: Path) -> None:
    counts = (Count("test", 1, 0, "page"), Count("train", 1, 0, "page"))
    assert [match.right for match in report(good(tmp_path), row=row(*counts)).matches] == [True, True]
    assert [match.right for match in report(good(tmp_path, "0", "train"), row=row(*counts)).matches] == [False, True]


def test_a_split_that_nobody_counted_is_told_only(tmp_path: Path) -> None:
    samples = [good(tmp_path, "0"), good(tmp_path, "1", "train")]
    found = report(*samples, row=row(Count("test", 1, 0, "page")))
    assert not found.wrong and "train: 1 normal, 0 anomalous; the catalog has no count" in found.lines()[1]


def test_nothing_to_compare_with_is_not_wrong(tmp_path: Path) -> None:
    samples = [good(tmp_path), crack(tmp_path)]
    assert report(*samples).lines() == report(*samples, row=row()).lines() == ["nothing is wrong"]


def test_no_images_are_wrong() -> None:
    assert report().reasons == ["no images"] and report().lines() == ["wrong: no images", "1 thing is wrong"]


def test_missing_classes_are_wrong_and_unknown_ones_are_told(tmp_path: Path) -> None:
    found = report(good(tmp_path), row=row(classes=("screw", "nut", "bolt")))
    assert found.missing_classes == ("screw", "bolt") and found.reasons == ["missing classes"]
    assert found.lines()[0] == "wrong: missing classes (2): screw, bolt"
    other = report(good(tmp_path), good(tmp_path, "1"), row=row(classes=("nut", "nut2")))
    assert other.unknown_classes == ()
    strange = dataclasses.replace(good(tmp_path), class_name="egg")
    assert report(strange, row=row(classes=("nut", "bolt"))).unknown_classes == ("egg",)


def test_the_class_of_a_dataset_with_one_class_is_not_compared(tmp_path: Path) -> None:
    assert not report(good(tmp_path), row=row(classes=("walnut",))).wrong


# --- files


def test_a_file_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    sample = good(tmp_path)
    whole = sample.image.read_bytes()
    sample.image.write_bytes(whole[: len(whole) * 2 // 3])  # its size can still be told
    assert Image.open(sample.image).size == (SIDE, SIDE)
    ((kind, name, note),) = problems(sample, good(tmp_path, "1"))
    assert (kind, name) == (UNREADABLE, "0.png") and str(tmp_path) not in note and "copy it again" in note


def test_an_unreadable_mask_is_named_and_so_is_that_of_an_unreadable_image(tmp_path: Path) -> None:
    sample = crack(tmp_path)
    assert sample.mask is not None
    sample.mask.write_bytes(b"")
    assert [kind for kind, *_ in problems(sample)] == [UNREADABLE]
    sample.image.write_bytes(b"")
    assert len(problems(sample)) == 2 and report(sample).wrong


def test_what_is_known_to_be_missing_is_not_told_twice(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "no.png", label=0)
    found = check(Found([sample], "", [Problem(MISSING_IMAGE, sample.image)]))
    assert [problem.kind for problem in found.problems] == [MISSING_IMAGE] and found.wrong


def test_a_mask_that_many_images_share_is_told_once(tmp_path: Path) -> None:
    first, second = crack(tmp_path, "0"), crack(tmp_path, "1")
    assert first.mask is not None
    first.mask.write_bytes(b"")
    assert len(problems(first, dataclasses.replace(second, mask=first.mask))) == 1


def test_a_mask_of_another_size_is_told_with_both_sizes(tmp_path: Path) -> None:
    assert problems(crack(tmp_path, size=(12, 20))) == [(OTHER_SIZE, "0.png", "12 x 20, its image 24 x 24")]
    assert report(crack(tmp_path, size=(12, 20))).wrong


def test_the_upright_size_counts(tmp_path: Path) -> None:
    sample = crack(tmp_path, size=(20, 30))
    lying, turned = Image.Exif(), sample.image.with_suffix(".jpg")
    lying[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, exif=lying)
    assert problems(dataclasses.replace(sample, image=turned)) == []


def test_an_empty_mask_of_an_anomalous_image_is_told_only(tmp_path: Path) -> None:
    found = report(crack(tmp_path, marked=False))
    assert [problem.kind for problem in found.problems] == [EMPTY_MASK] and not found.wrong
    assert problems(dataclasses.replace(crack(tmp_path, marked=False), label=0)) == []


def test_the_threshold_of_masks_counts(tmp_path: Path) -> None:
    assert [kind for kind, *_ in problems(crack(tmp_path), reading=Reading(mask_above=255))] == [EMPTY_MASK]


def test_of_an_image_in_parts_only_its_own_part_of_the_mask_counts(tmp_path: Path) -> None:
    upper, lower = (dataclasses.replace(crack(tmp_path), part=(i, 2)) for i in (1, 2))  # rows 3 to 8 of 24 are marked
    assert problems(upper, lower) == [(EMPTY_MASK, "0.png", "part 2 of 2")]
    assert problems(upper, dataclasses.replace(lower, label=0)) == []


def test_a_file_that_several_samples_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path | None] = []
    for name in ("decode", "read_mask"):
        reader = getattr(checks, name)
        monkeypatch.setattr(
            checks, name, lambda path, *a, reader=reader, **k: (read.append(path), reader(path, *a, **k))[1]
        )
    sample = crack(tmp_path)
    report(*(dataclasses.replace(sample, part=(i, 3)) for i in (1, 2, 3)))
    assert read.count(sample.image) == 1 and read.count(sample.mask) == 3  # whole, its bright part, its faint part


def test_rules_of_reading_are_counted(tmp_path: Path) -> None:
    clear = good(tmp_path, "1")
    Image.new("RGBA", (SIDE, SIDE)).save(clear.image)
    other = good(tmp_path, "2")
    Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 9)).save(other.image)
    found = report(good(tmp_path, "0"), clear, other, crack(tmp_path))
    (note,) = found.notes
    assert isinstance(note, Note) and (note.files, note.first) == (2, clear.image) and note.rule
    assert found.lines(tmp_path) == [f"note: {note.rule}: 2 files, first 1.png", "nothing is wrong"]


# --- duplicates


def twins(root: Path, **changes: object) -> list[Sample]:
    """Two samples whose files have the same bytes, the second one changed."""
    one = good(root, "good/0")
    picture(root / "good/1.png")
    (root / "good/1.png").write_bytes(one.image.read_bytes())
    return [one, dataclasses.replace(one, image=root / "good/1.png", **changes)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({}, DUPLICATE), ({"split": "train"}, ACROSS_SPLITS), ({"label": 1, "split": "train"}, OTHER_LABEL)],
)
def test_files_with_the_same_bytes_are_worse_across_splits_and_labels(
    tmp_path: Path, changes: dict[str, object], kind: str
) -> None:
    samples = twins(tmp_path, **changes)
    found = report(*samples, good(tmp_path, "good/2", number=5))
    assert found.duplicates == (Same(kind, tuple(sample.image for sample in samples)),)
    assert found.wrong == (kind != DUPLICATE)
    prefix = "wrong" if found.wrong else "note"
    assert f"{prefix}: {kind} (1): 1.png (as 0.png)" in found.lines(tmp_path / "good")


def test_an_unlabelled_twin_contradicts_nothing(tmp_path: Path) -> None:
    assert [same.kind for same in report(*twins(tmp_path, label=None)).duplicates] == [DUPLICATE]


def test_parts_of_one_image_are_no_duplicates(tmp_path: Path) -> None:
    sample = good(tmp_path)
    assert report(*(dataclasses.replace(sample, part=(i, 2), label=i - 1) for i in (1, 2))).duplicates == ()


def test_a_file_that_is_listed_twice_is_a_duplicate(tmp_path: Path) -> None:
    sample = good(tmp_path)
    found = report(sample, dataclasses.replace(sample, split="train"))
    assert found.duplicates == (Same(ACROSS_SPLITS, (sample.image,)),)
    assert "listed more than once" in found.lines()[0]


def test_unreadable_files_are_no_duplicates(tmp_path: Path) -> None:
    samples = twins(tmp_path)
    for sample in samples:
        sample.image.write_bytes(b"")
    assert report(*samples).duplicates == ()


# --- the report


@pytest.mark.parametrize("kind", [MISSING_MASK, IGNORED])
def test_what_evaluate_refuses_is_wrong(tmp_path: Path, kind: str) -> None:
    problem = Problem(kind, tmp_path / "x.png")
    layout = Found([good(tmp_path)], "", [problem])
    assert check(layout).problems == (problem,) and check(layout).wrong
    with pytest.raises(ZsadError, match=kind):
        must_be_sound(layout, tmp_path)


def test_what_is_wrong_comes_before_what_is_told(tmp_path: Path) -> None:
    samples = [good(tmp_path, number=3), crack(tmp_path, "0", marked=False), crack(tmp_path, "1", size=(8, 10))]
    found = report(*samples)
    assert found.lines(tmp_path) == [
        f"wrong: {OTHER_SIZE} (1): masks/1.png (8 x 10, its image 24 x 24)",
        f"note: {EMPTY_MASK} (1): crack/0.png",
        "1 thing is wrong",
    ]


def test_the_verdict_says_how_many_things_are_wrong(tmp_path: Path) -> None:
    found = report(good(tmp_path), crack(tmp_path, size=(8, 10)), row=row(Count("test", 9, 9, "page")))
    assert [line.partition(":")[0] for line in found.lines()] == ["wrong", "wrong", "2 things are wrong"]


# --- what cannot be evaluated


def limits(*samples: Sample, row: Dataset | None = None) -> tuple[tuple[str, ...], str]:
    """The limits, of which each must be told, and the verdict."""
    found = report(*samples, row=row)
    *lines, verdict = found.lines()
    assert not found.wrong and all(f"note: {limit}" in lines for limit in found.limits)
    return found.limits, verdict


def test_without_labels_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    said, verdict = limits(dataclasses.replace(good(tmp_path), label=None))
    assert said == ("no image has a label: there will be no metrics",)
    assert verdict == "nothing is wrong with the files; without labels there is nothing to evaluate"


def test_what_cannot_be_evaluated_is_told_but_not_wrong(tmp_path: Path) -> None:
    normal, marked = good(tmp_path, number=3), crack(tmp_path)
    bare = dataclasses.replace(crack(tmp_path, "1"), mask=None)
    unknown = dataclasses.replace(good(tmp_path, "good/1", number=4), label=None)
    assert limits(normal, marked) == ((), "nothing is wrong")
    assert limits(normal)[0] == ("only normal images: there will be no metrics",)
    assert limits(marked)[0] == ("only anomalous images: no image metrics",)
    assert limits(normal, bare)[0] == ("no anomalous image has a mask: no pixel metrics",)
    assert limits(normal, marked, bare)[0] == ("some anomalous images have no mask: no pixel metrics",)
    assert limits(normal, marked, unknown)[0] == ("labels are known for some images only: metrics are of these",)
    assert limits(normal)[1] == "nothing is wrong with the files; the notes say what cannot be evaluated"


def test_limits_are_those_of_the_test_split_class_by_class(tmp_path: Path) -> None:
    samples = [good(tmp_path, number=3), crack(tmp_path), good(tmp_path, "2", "train", 5)]
    bolt = dataclasses.replace(good(tmp_path, "bolt", number=4), class_name="bolt")
    assert limits(*samples)[0] == ()
    trained = dataclasses.replace(crack(tmp_path, "9"), split="train")
    assert limits(samples[0], trained)[0] == ("only normal images: there will be no metrics",)
    assert limits(*samples, bolt)[0] == ("bolt: only normal images: there will be no metrics",)


def test_metrics_that_a_dataset_does_not_have_are_not_missed(tmp_path: Path) -> None:
    bare = dataclasses.replace(crack(tmp_path), mask=None)
    assert limits(good(tmp_path, number=3), bare, row=row())[0] == ()  # it has image metrics only


# --- masks that look wrong


def painted(root: Path, values: NDArray[np.uint8], suffix: str = ".png") -> Sample:
    """An anomalous sample whose mask has these values."""
    sample = crack(root)
    path = root / f"masks/painted{suffix}"
    Image.fromarray(values).save(path)
    return dataclasses.replace(sample, mask=path)


def test_a_mask_that_marks_more_than_half_is_told_by_name(tmp_path: Path) -> None:
    values = np.full((SIDE, SIDE), 255, np.uint8)
    values[:, :12] = 0
    assert problems(painted(tmp_path, values)) == []
    values[:6, :12] = 255
    found = report(painted(tmp_path, values))
    assert found.lines(tmp_path)[0] == f"note: {MOST_MARKED} (1): masks/painted.png (62%)" and not found.wrong


def test_a_mask_with_jpeg_ringing_is_told_with_the_switch_that_mends_it(tmp_path: Path) -> None:
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[5:11, 6:15] = 255
    found = report(painted(tmp_path, values, ".jpg"))
    assert f"note: {FAINT} (1): masks/painted.jpg" in found.lines(tmp_path) and not found.wrong
    assert "--read mask_above=127" in FAINT
    assert problems(painted(tmp_path, values, ".jpg"), reading=Reading(mask_above=127)) == []


@pytest.mark.parametrize("levels", [(255,), (1, 2, 7), (254, 255), (1,), (128, 255)])
def test_masks_with_numbers_of_kinds_are_not_taken_for_faint_ones(tmp_path: Path, levels: tuple[int, ...]) -> None:
    values = np.zeros((SIDE, SIDE), np.uint8)
    for i, level in enumerate(levels):
        values[3 * i : 3 * i + 3] = level
    assert problems(painted(tmp_path, values)) == []


# --- a folder and its copy


def copied(root: Path, files: int, copies: int) -> list[Sample]:
    """Some files in one folder, the first few in another as well."""
    own = [good(root, f"set/{i}", number=i) for i in range(files)]
    again = [dataclasses.replace(sample, image=root / "set (1)" / sample.image.name) for sample in own[:copies]]
    (root / "set (1)").mkdir(exist_ok=True)
    for sample, copy in zip(own, again, strict=False):
        copy.image.write_bytes(sample.image.read_bytes())
    return own + again


def test_where_more_than_a_third_of_the_files_are_copies_that_is_one_wrong_thing(tmp_path: Path) -> None:
    some, many = (report(*copied(tmp_path, 6, copies)).lines(tmp_path) for copies in (3, 4))
    assert some[0].startswith(f"note: {DUPLICATE} (3): set (1)/0.png (as set/0.png)")
    assert many[0] == f"wrong: {TWICE}: 4 of 10 are copies: 4 of set in set (1)"
    assert not any(DUPLICATE in line for line in many) and many[-1] == "1 thing is wrong"


def test_copies_that_are_published_so_are_told_only(tmp_path: Path) -> None:
    samples = copied(tmp_path, 3, 3)
    assert report(*samples).reasons == [TWICE]
    assert report(*samples, row=row(Count("test", 6, 0, "page"))).reasons == []


def test_json_has_every_finding(tmp_path: Path) -> None:
    said = json.loads(report(*twins(tmp_path, split="train"), crack(tmp_path, marked=False), row=row()).to_json())
    assert said["wrong"] is True and said["reasons"] == [ACROSS_SPLITS] and said["dataset"] == "nuts"
    assert said["problems"] == [{"kind": EMPTY_MASK, "path": str(tmp_path / "crack/0.png"), "note": ""}]
    assert len(said["duplicates"][0]["paths"]) == 2 and said["tallies"][0]["normal"] == 1


def test_progress_counts_samples(tmp_path: Path) -> None:
    steps: list[int] = []
    sample = good(tmp_path)
    samples = [*(dataclasses.replace(sample, part=(i, 2)) for i in (1, 2)), good(tmp_path, "1")]
    check(Found(samples, ""), progress=steps.append)
    assert steps == [2, 1]


# --- processes


def test_worker_processes_find_the_same(tmp_path: Path) -> None:
    samples = [*twins(tmp_path), crack(tmp_path, "0", marked=False), crack(tmp_path, "1", size=(8, 8))]
    samples[0].image.write_bytes(b"")
    assert check(Found(samples, ""), workers=2) == check(Found(samples, ""))


def fragile(samples: tuple[Sample, ...], reading: Reading) -> Seen:
    """As `look`, but some files end the process, as a fault in a decoder does."""
    if "crash" in samples[0].image.name:
        os._exit(1)
    return look(samples, reading)


def test_a_file_that_ends_its_process_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    jobs = [(good(tmp_path, name, number=i),) for i, name in enumerate(["0", "crash", "2", "3"])]
    seen = list(looks(partial(fragile, reading=Reading()), jobs, workers=2))
    assert [[problem.path.name for problem in one.problems] for one in seen] == [[], ["crash.png"], [], []]
    assert "tried twice" in seen[1].problems[0].note and all(seen[i].digest for i in (0, 2, 3))


# --- datasets


@pytest.mark.parametrize("miniature", miniatures(), ids=lambda m: f"{m.dataset}, {m.layout}")
def test_nothing_but_the_counts_of_a_miniature_is_wrong(tmp_path: Path, miniature: Miniature) -> None:
    root = tmp_path / miniature.dataset
    miniature.write(root)
    found = check(index(root, miniature.dataset), catalog()[miniature.dataset])
    assert found.reasons in ([], ["other counts than expected"]), found.lines(root)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the photographs are not here")
def test_real_photographs_and_masks_are_sound() -> None:
    cookies = SHARED / "cookie"
    samples = [Sample(path, label=0) for path in sorted((cookies / "normal").iterdir())[:5]]
    samples += [
        Sample(path, cookies / f"masks/{path.stem}.png", 1) for path in sorted((cookies / "anomaly").iterdir())[:5]
    ]
    assert report(*samples).lines()[-1] == "nothing is wrong"
