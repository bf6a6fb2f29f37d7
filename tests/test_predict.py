"""Prediction runs: rows in order, files whole and apart, errors beside results, stopped runs that go on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from zsad.data import dataset
from zsad.data.dataset import Notes
from zsad.data.images import read_image
from zsad.data.reading import FITS, Reading
from zsad.errors import ZsadError
from zsad.methods.base import Method
from zsad.methods.features import TowerFeatures
from zsad.pictures import colour, contact_sheet, heat, outlined, overlay
from zsad.predict import Row, predict_files
from zsad.results import relative_names
from zsad.types import Prediction

SIZE = 8


@dataclass(frozen=True)
class _Config:
    gain: float = 1.0


class _Towers(torch.nn.Module):
    """As much of a backbone as a prediction run looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.name, self.digest, self.mean, self.std = "none", "0", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self.visual = SimpleNamespace(size=SimpleNamespace(patch=4))


class Brightness(Method):
    """Bright is anomalous: the map is the red channel, the score its mean."""

    name = "brightness"
    config_class = _Config

    def __init__(self, config: _Config | None = None) -> None:
        super().__init__(_Towers(), config or _Config())  # type: ignore[arg-type]
        self.seen: list[int] = []
        self.told: list[str] = []

    def encode(self, images: Tensor) -> TowerFeatures:
        self.seen.append(len(images))
        return TowerFeatures((SIZE, SIZE), (SIZE, SIZE), images[:, 0], images[:, :1])

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        self.told += class_names or []
        return Prediction(self.config.gain * features.image.mean((1, 2)), features.image)

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Any = None
    ) -> dict[str, Tensor]:
        return {}


@dataclass
class Photos:
    """Grey photographs of growing brightness, and one file that is none."""

    root: Path
    paths: list[Path] = field(default_factory=list)

    def add(self, name: str, grey: int, size: tuple[int, int] = (12, 10)) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (grey, grey, grey)).save(path)
        self.paths.append(path)
        return path


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    made = Photos(tmp_path / "photos")
    for name, grey in (("a/1.png", 20), ("b/1.png", 250), ("b/c/1.png", 128)):
        made.add(name, grey)
    return made


def run(photos: Photos, out: Path | None, method: Method | None = None, **options: Any) -> list[Row]:
    return list(predict_files(method or Brightness(), photos.paths, out, **{"size": SIZE, "batch_size": 2, **options}))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_rows_come_in_order_of_the_files_and_say_what_the_method_says(photos: Photos) -> None:
    rows = run(photos, None)
    assert [row.path for row in rows] == photos.paths
    assert [row.score for row in rows] == pytest.approx([20 / 255, 250 / 255, 128 / 255])
    assert [row.map_max for row in rows] == pytest.approx([row.score for row in rows])
    assert all(row.seconds > 0 and not row.error and not row.decision for row in rows)


def test_map_statistics_are_of_the_map_at_network_size(tmp_path: Path) -> None:
    values = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    Image.fromarray(values).save(tmp_path / "ramp.png")
    (row,) = run(Photos(tmp_path, [tmp_path / "ramp.png"]), None)
    expected = (63 / 255, values.mean() / 255, np.percentile(values, 99) / 255)
    assert (row.map_max, row.map_mean, row.map_p99) == pytest.approx(expected)


def test_an_image_is_anomalous_from_the_threshold_on(photos: Photos) -> None:
    threshold = run(photos, None)[2].score
    decisions = [row.decision for row in run(photos, None, threshold=threshold)]
    assert decisions == ["normal", "anomalous", "anomalous"]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_unreadable_file_gives_an_error_row_in_its_place_and_the_others_are_done(
    photos: Photos, tmp_path: Path, place: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    photos.paths.insert(place, broken)
    rows = run(photos, tmp_path / "out")
    assert [row.path for row in rows if row.error] == [broken] and rows[place].path == broken
    assert "broken.png" in rows[place].error and math.isnan(rows[place].score)
    assert sum(row.score > 0 for row in rows) == 3


def test_a_batch_of_unreadable_files_only_is_survived(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("1.png", "2.png", "3.png")]
    assert [bool(row.error) for row in run(Photos(tmp_path, paths), tmp_path / "out")] == [True] * 3


def test_a_score_that_is_not_a_number_is_an_error(photos: Photos) -> None:
    rows = run(photos, None, Brightness(_Config(gain=math.nan)))
    assert all("not a finite number" in row.error for row in rows)


def test_maps_have_the_size_of_the_upright_image_and_are_float32(tmp_path: Path) -> None:
    photos = Photos(tmp_path / "photos")
    path = photos.add("turned.jpg", 128, size=(40, 24))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 24), (128, 128, 128)).save(path, exif=turned)
    run(photos, tmp_path / "out")
    written = tifffile.imread(tmp_path / "out/maps/turned.tiff")
    assert written.shape == (40, 24) == read_image(path).size[::-1] and written.dtype == np.float32
    assert written == pytest.approx(128 / 255, abs=1e-6)


def test_equal_names_in_different_folders_do_not_collide(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    names = ("a/1", "b/1", "b/c/1")
    expected = {f"maps/{name}.tiff" for name in names} | {f"overlays/{name}.png" for name in names}
    assert files(tmp_path / "out") == expected | {"predictions.csv", "predictions.jsonl", "settings.json"}


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.jpg"],
        ["a.png", "a.jpg", "a.png.bmp"],
        ["x/a.png", "x/A.bmp"],
        ["a.b.png", "a.c.png"],
        ["x/1.png", "x/../y/1.png", "x/z/1.png"],
    ],
)
def test_different_files_have_different_names_inside_the_folder(names: list[str]) -> None:
    found = relative_names([Path(name) for name in names])
    assert len({name.casefold() for name in found.values()}) == len(names)
    assert not any(".." in Path(name).parts or Path(name).is_absolute() for name in found.values())


def test_both_tables_hold_the_rows(photos: Photos, tmp_path: Path) -> None:
    photos.paths.insert(1, tmp_path / "missing.png")
    rows = run(photos, tmp_path / "out", threshold=0.5, overlays=False)
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert list(table[0]) == list(lines[0]) == [column.name for column in fields(Row)]
    assert [line["path"] for line in lines] == [entry["path"] for entry in table] == list(map(str, photos.paths))
    assert [line["score"] for line in lines] == [None if row.error else row.score for row in rows]
    assert table[1]["score"] == "" and table[1]["error"] == lines[1]["error"] == rows[1].error


def test_without_maps_and_overlays_only_tables_are_written(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", maps=False, overlays=False)
    assert files(tmp_path / "out") == {"predictions.csv", "predictions.jsonl", "settings.json"}


def test_a_folder_with_results_is_refused_before_anything_is_computed(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(ZsadError, match=r"--resume .* --overwrite"):
        predict_files(Brightness(), photos.paths, tmp_path / "out", size=SIZE)


def test_overwrite_leaves_nothing_of_the_earlier_run(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    (tmp_path / "out/maps/notes.txt").write_text("mine")
    photos.paths = photos.paths[:1]
    run(photos, tmp_path / "out", overwrite=True)
    tables = {"predictions.csv", "predictions.jsonl", "settings.json"}
    assert files(tmp_path / "out") == tables | {"maps/1.tiff", "overlays/1.png", "maps/notes.txt"}


def test_a_stopped_run_goes_on_where_it_was(photos: Photos, tmp_path: Path) -> None:
    out, first = tmp_path / "out", Brightness()
    stopped = predict_files(first, photos.paths, out, size=SIZE, batch_size=1)
    done = [next(stopped), next(stopped)]
    stopped.close()
    assert files(out) >= {"predictions.jsonl.part"} and not (out / "predictions.csv").exists()
    with (out / "predictions.jsonl.part").open("a") as file:
        file.write('{"path": "torn')  # as a killed run leaves it
    second = Brightness()
    rows = run(photos, out, second, resume=True)
    assert second.seen == [1] and rows[:2] == done
    whole = run(photos, tmp_path / "whole")
    assert [row.score for row in rows] == [row.score for row in whole]
    assert files(out) == files(tmp_path / "whole")


def test_resume_computes_again_what_had_an_error(photos: Photos, tmp_path: Path) -> None:
    late = photos.add("late.png", 60)
    late.unlink()
    assert run(photos, tmp_path / "out", maps=False, overlays=False)[-1].error
    photos.paths.remove(photos.add("late.png", 60))
    again = Brightness()
    rows = run(photos, tmp_path / "out", again, maps=False, overlays=False, resume=True)
    assert again.seen == [1] and not any(row.error for row in rows) and rows[-1].path == late


@pytest.mark.parametrize("lost", ["overlays/b/1.png", "maps/b/1.tiff"])
def test_resume_computes_again_what_lacks_a_file(photos: Photos, tmp_path: Path, lost: str) -> None:
    run(photos, tmp_path / "out")
    (tmp_path / "out" / lost).unlink()
    again = Brightness()
    rows = run(photos, tmp_path / "out", again, resume=True)
    assert again.seen == [1] and (tmp_path / "out" / lost).exists() and [row.path for row in rows] == photos.paths


@pytest.mark.parametrize(
    ("method", "options"), [(Brightness(_Config(gain=2.0)), {}), (Brightness(), {"threshold": 0.3})]
)
def test_resume_with_other_settings_is_refused(
    photos: Photos, tmp_path: Path, method: Method, options: dict[str, float]
) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(ZsadError, match="other settings"):
        run(photos, tmp_path / "out", method, resume=True, **options)


def test_resume_with_other_files_is_refused(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    photos.add("b/2.png", 60)
    with pytest.raises(ZsadError, match=r"made from other files.*--overwrite.*--out"):
        run(photos, tmp_path / "out", resume=True)


@pytest.mark.parametrize(("text", "said"), [(None, "is missing"), ("{", "read as JSON"), ("[]", "does not hold")])
def test_resume_without_readable_settings_is_refused_in_words(
    photos: Photos, tmp_path: Path, text: str | None, said: str
) -> None:
    run(photos, tmp_path / "out")
    settings = tmp_path / "out/settings.json"
    settings.unlink() if text is None else settings.write_text(text)
    with pytest.raises(ZsadError, match=rf"settings\.json.*{said}.*--overwrite"):
        run(photos, tmp_path / "out", resume=True)


@pytest.mark.parametrize("name", ["maps/1.tiff", "overlays/1.png"])
def test_results_never_take_the_place_of_an_image(tmp_path: Path, name: str) -> None:
    photos = Photos(tmp_path)
    image = photos.add(name, 90).read_bytes()
    with pytest.raises(ZsadError, match="choose another --out"):
        run(photos, tmp_path)
    assert (tmp_path / name).read_bytes() == image


def test_overwrite_never_removes_an_image_of_the_run(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(ZsadError, match="choose another --out"):
        run(Photos(tmp_path, [tmp_path / "out/overlays/b/1.png"]), tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == before


def test_overwrite_leaves_maps_and_overlays_that_no_run_made(photos: Photos, tmp_path: Path) -> None:
    mine = Photos(tmp_path / "out")
    mine.add("maps/mine.tiff", 1)
    mine.add("overlays/mine.png", 1)
    run(photos, tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") >= {"maps/mine.tiff", "overlays/mine.png"}


def test_a_name_too_long_for_its_results_gives_an_error_row(photos: Photos, tmp_path: Path) -> None:
    photos.add("x" * 250 + ".png", 60)
    photos.paths.reverse()
    rows = run(photos, tmp_path / "out")
    assert "name is too long" in rows[0].error and math.isnan(rows[0].score)
    assert not any(row.error for row in rows[1:])


def test_a_file_that_cannot_be_written_is_told_by_name_and_leaves_no_part(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "out/maps/a/1.tiff").mkdir(parents=True)
    with pytest.raises(ZsadError, match=r"cannot write .*1\.tiff"):
        run(photos, tmp_path / "out")
    assert not list((tmp_path / "out/maps").rglob("*.part"))


def test_each_file_can_have_a_class_name_of_its_own(photos: Photos, tmp_path: Path) -> None:
    method, names = Brightness(), dict(zip(photos.paths, ("nut", "bolt", "nut"), strict=True))
    run(photos, tmp_path / "out", method, class_name=names)
    assert method.told == ["nut", "bolt", "nut"]
    run(photos, tmp_path / "out", method, class_name=names, resume=True)
    with pytest.raises(ZsadError, match="class_name: 'one for each file, sha256"):
        run(photos, tmp_path / "out", method, class_name={**names, photos.paths[0]: "bolt"}, resume=True)


def test_a_file_without_a_class_name_is_told_before_anything_is_written(photos: Photos, tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match=r"c.1\.png: no class name"):
        predict_files(
            Brightness(), photos.paths, tmp_path / "out", size=SIZE, class_name=dict.fromkeys(photos.paths[:2], "nut")
        )
    assert not (tmp_path / "out").exists()


def test_resume_with_another_reading_is_refused_both_ways(photos: Photos, tmp_path: Path) -> None:
    padded = Reading(fit="pad")
    for first, second in ((Reading(), padded), (padded, Reading()), (padded, Reading(fit="keep"))):
        run(photos, tmp_path / "out", reading=first, overwrite=True)
        run(photos, tmp_path / "out", reading=first, resume=True)
        with pytest.raises(ZsadError, match=r"reading: .*'?(pad|None)'?.*, now"):
            run(photos, tmp_path / "out", reading=second, resume=True)


def test_a_run_from_before_there_were_switches_of_reading_goes_on(photos: Photos, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    del settings["reading"]
    (tmp_path / "out/settings.json").write_text(json.dumps(settings))
    again = Brightness()
    run(photos, tmp_path / "out", again, resume=True)
    assert again.seen == []


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(48, 16), (16, 48)])
def test_maps_lie_over_the_image_whatever_its_fit(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    photos = Photos(tmp_path / "photos")
    path, values = photos.add("half.png", 0, size), np.zeros(size[::-1], np.uint8)
    values[: size[1] // 2, : size[0] // 2] = 255
    Image.fromarray(values).save(path)
    run(photos, tmp_path / "out", reading=Reading(fit=fit), size=32)
    written = tifffile.imread(tmp_path / "out/maps/half.tiff")
    assert written.shape == values.shape
    assert np.abs(written - values / 255).mean() < 0.1  # the edges of the bright quarter are not sharp


def test_rows_do_not_depend_on_the_workers(photos: Photos, tmp_path: Path) -> None:
    photos.paths.insert(1, tmp_path / "missing.png")
    here, there = run(photos, None), run(photos, None, workers=2)
    assert [(row.path, row.error) for row in here] == [(row.path, row.error) for row in there]
    assert [row.map_p99 for row in here if not row.error] == [row.map_p99 for row in there if not row.error]


def test_as_many_workers_read_as_are_asked_for(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, here = [], dataset.ordered
    monkeypatch.setattr(
        dataset, "ordered", lambda work, items, n, ahead: asked.append(n) or here(work, items, 0, ahead)
    )
    run(photos, None, workers=3)
    assert asked == [3]


def test_a_run_collects_the_rules_that_were_applied(photos: Photos) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 9)).save(photos.paths[1])
    notes = Notes()
    run(photos, None, notes=notes)
    (line,) = notes.lines()
    assert line.endswith(str(photos.paths[1]))


def test_progress_counts_every_row(photos: Photos) -> None:
    counts: list[int] = []
    run(photos, None, progress=counts.append)
    assert counts == [1, 2, 3]


def test_colours_are_fixed_by_the_scale_and_rise_in_lightness() -> None:
    ramp = colour(np.linspace(0, 2, 64)[None], scale=(0.0, 2.0))[0].astype(float)
    assert (np.diff(ramp @ [0.2126, 0.7152, 0.0722]) > -0.5).all()
    assert np.array_equal(colour(np.array([[0.5]]), (0.0, 2.0)), colour(np.array([[-0.5]]), (-1.0, 1.0)))
    with pytest.raises(ZsadError, match="above the first"):
        colour(np.zeros((1, 1)), scale=(1.0, 1.0))


def test_a_map_of_zeros_leaves_the_photograph_in_view() -> None:
    grey = Image.new("RGB", (16, 16), (90, 90, 90))
    assert np.array_equal(np.asarray(heat(grey, np.zeros((4, 4)), (0.0, 1.0), threshold=0.5)), np.asarray(grey))


def test_the_contour_runs_along_the_threshold_and_nowhere_else() -> None:
    black, values = Image.new("RGB", (64, 64)), np.zeros((64, 64))
    values[:, 32:] = 1.0
    change = np.asarray(heat(black, values, (0.0, 1.0), 0.5), int) - np.asarray(heat(black, values, (0.0, 1.0)), int)
    marked = np.abs(change).max((0, 2)) > 60
    assert marked[31:33].all() and not marked[:28].any() and not marked[36:].any()


def test_one_marked_pixel_of_a_large_mask_is_seen() -> None:
    mask = np.zeros((900, 900), bool)
    mask[450, 300] = True
    drawn = np.asarray(outlined(Image.new("RGB", (90, 90)), mask))
    assert drawn[45, 30].max() > 150 and drawn[:, 60:].max() == 0


@pytest.mark.parametrize("size", [(400, 300), (30, 900), (900, 30), (1, 1)])
def test_an_overlay_fits_images_of_any_shape(size: tuple[int, int]) -> None:
    options: dict[str, Any] = {"scale": (0.0, 1.0), "score": 0.5, "decision": "normal", "threshold": 0.5, "side": 100}
    two = overlay(Image.new("L", size, 99), np.eye(5), **options)
    three = overlay(Image.new("L", size, 99), np.eye(5), mask=np.eye(3) > 0, **options)
    assert three.mode == "RGB" and three.width > two.width and three.height == two.height


def test_a_contact_sheet_needs_pictures() -> None:
    with pytest.raises(ZsadError):
        contact_sheet([])
