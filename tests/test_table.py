"""From scored samples to numbers: what a table says, why a number is missing, and what happens to many maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zsad.evaluate import Scored
from zsad.metrics import Value, aupro, pixel_metrics, undefined
from zsad.table import COLUMNS, PixelTally, Row, class_row, mean_row, remarks, table, write_csv
from zsad.types import Sample


def images(count: int, seed: int = 0, dataset: str = "", known: bool = True) -> list[Scored]:
    """Scored samples: every second one anomalous, with a square that scores higher."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i in range(count):
        mask = torch.zeros(20, 20, dtype=torch.bool)
        mask[5:12, 3 + i % 5 : 9 + i % 5] = bool(i % 2)
        map = torch.rand(20, 20, generator=generator) + 0.5 * mask
        sample = Sample(Path(f"{i}.png"), label=i % 2, class_name="nut", dataset=dataset)
        made.append(Scored(sample, float(map.max()), map, mask if known else None))
    return made


def test_a_row_holds_the_metrics_of_all_maps_of_its_class() -> None:
    scored = images(8)
    maps, masks = torch.stack([s.map for s in scored]), torch.stack([s.mask for s in scored if s.mask is not None])
    row = class_row("nut", iter(scored), limit=0.1)
    expected = {f"pixel_{key}": value for key, value in pixel_metrics(maps, masks, 0.1).items()}
    assert expected.items() <= row.values.items()
    assert row.values["pixel_aupro_released"] == aupro(maps, masks, 0.1, mode="released")
    assert (row.images, list(row.values)) == (8, [key for key, _ in COLUMNS])


def test_a_map_that_is_the_mask_has_perfect_metrics() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 3:6] = True
    scored = [
        Scored(Sample(Path("a"), label=1), 0.9, mask.float(), mask),
        Scored(Sample(Path("b"), label=0), 0.1, torch.zeros(8, 8), torch.zeros_like(mask)),
    ]
    values = class_row("x", scored).values
    assert values.pop("pixel_aupro_released").reason.startswith("fewer than two different")  # all rates are 0
    assert all(value == pytest.approx(1) for value in values.values())


@pytest.mark.parametrize("count", [1, 17, 40])
def test_maps_beyond_the_room_are_streamed_within_the_stated_error(count: int) -> None:
    kept, streamed = PixelTally(), PixelTally(kept_bytes=3 * 20 * 20 * 4)
    for one in images(count):
        for tally in (kept, streamed):
            tally.add(one.map, one.mask)
    assert (streamed.stream is not None) == (count > 3)
    exact = kept.metrics()
    for key, value in streamed.metrics().items():
        assert value == pytest.approx(exact[key], abs=value.error + 1e-12, nan_ok=True), key


def test_metrics_of_a_tally_may_be_asked_for_on_the_way() -> None:
    asked, whole = PixelTally(kept_bytes=5 * 20 * 20 * 4), PixelTally(kept_bytes=5 * 20 * 20 * 4)
    for i, one in enumerate(images(40)):
        asked.add(one.map, one.mask)
        whole.add(one.map, one.mask)
        if i in (2, 7, 23):
            asked.metrics()
    assert asked.metrics() == whole.metrics()


def test_one_unknown_mask_leaves_the_class_without_pixel_metrics_and_says_so() -> None:
    values = class_row("nut", [*images(4), *images(2, known=False)]).values
    assert values["pixel_aupro"].reason == "no known mask for 2 of the images"
    assert values["image_auroc"] == values["image_auroc"]


def test_without_images_every_value_has_a_reason() -> None:
    assert all(value.reason for value in class_row("nut", []).values.values())
    assert all(value.reason for value in table([])[-1].values.values())


@pytest.mark.parametrize(("dataset", "limit"), [("mvtec", 0.3), ("mvtec-ad-2", 0.05), ("my parts", 0.3)])
def test_aupro_goes_to_the_rate_that_is_usual_for_the_dataset(dataset: str, limit: float) -> None:
    scored = images(8, dataset=dataset)
    assert table(scored)[0] == class_row("nut", scored, limit)


def test_the_mean_leaves_out_classes_without_a_value() -> None:
    rows = [Row("a", 2, {"image_auroc": Value(0.5)}), Row("b", 3, {"image_auroc": undefined("no normal element")})]
    assert mean_row(rows) == Row("mean", 5, {"image_auroc": Value(0.5)})


def test_the_error_of_a_mean_is_the_mean_of_the_errors() -> None:
    rows = [Row("a", 1, {"pixel_ap": Value(0.5, 1e-4)}), Row("b", 1, {"pixel_ap": Value(0.7)})]
    mean = mean_row(rows).values["pixel_ap"]
    assert (mean, mean.error) == (pytest.approx(0.6), pytest.approx(5e-5))


def test_remarks_say_what_a_table_does_not_show() -> None:
    one_label = [scored for scored in images(8, dataset="mvtec-ad-2") if scored.sample.label]
    several = table([*one_label, *images(4, dataset="parts", known=False)])
    assert remarks(several) == [
        "AUPRO up to a false positive rate of 0.3 (parts/nut)",
        "AUPRO up to a false positive rate of 0.05 (mvtec-ad-2/nut)",
        "no image AUROC, image AP, image F1-max: no normal element (mvtec-ad-2/nut)",
        "no pixel AUROC, pixel AP, AUPRO, AUPRO released, pixel F1-max: no known mask for 4 of the images (parts/nut)",
    ]
    assert remarks(table(images(4))) == ["AUPRO up to a false positive rate of 0.3"]


def test_remarks_say_how_exact_streamed_numbers_are() -> None:
    row = Row("nut", 5000, {key: Value(0.5, 2.4e-5) for key, _ in COLUMNS})
    said = remarks([row, mean_row([row])])
    assert said[1:] == ["too many maps to keep: up to 0.003 percentage points from the exact number (nut)"]


def test_remarks_count_anomalous_images_whose_mask_has_vanished() -> None:
    scored = images(4)
    scored[1] = replace(scored[1], mask=torch.zeros(20, 20, dtype=torch.bool))
    said = remarks(table(scored))
    assert said[1:] == ["1 anomalous images whose mask is empty at this size count as normal pixels (nut)"]


@pytest.mark.parametrize("label", [0, 1])
def test_image_metrics_of_one_label_say_nothing_and_are_left_out(label: int) -> None:
    values = class_row("nut", [scored for scored in images(8) if scored.sample.label == label]).values
    assert all(values[key].reason for key in ("image_auroc", "image_ap", "image_f1_max"))


def test_a_limit_that_is_given_goes_before_that_of_the_dataset(tmp_path: Path) -> None:
    rows = table(images(8, dataset="mvtec-ad-2"), limit=0.1)
    assert rows[0].values["pixel_aupro"] == class_row("nut", images(8), 0.1).values["pixel_aupro"]
    write_csv(rows, tmp_path / "table.csv")
    assert [line.rsplit(",", 1)[1] for line in (tmp_path / "table.csv").read_text().splitlines()] == [
        "aupro_limit",
        "0.1",
        "0.1",
    ]
