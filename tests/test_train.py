"""Training and evaluation on a small synthetic folder."""

from __future__ import annotations

import dataclasses
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zsad.backbones import weights
from zsad.data import dataset, synthetic
from zsad.data.index import samples_of
from zsad.data.reading import FITS, Reading
from zsad.errors import ZsadError
from zsad.evaluate import score_samples
from zsad.methods.base import Method
from zsad.methods.table import build
from zsad.table import class_row, table, write_csv
from zsad.training import Cache, Plan, Step, opening, train
from zsad.training.hardware import Hardware
from zsad.training.images import Images
from zsad.training.opening import open_source
from zsad.training.plan import courses
from zsad.types import Prediction, Sample

SIZE = 64


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    root = tmp_path_factory.mktemp("set") / "auxiliary"
    synthetic.write(root, "auxiliary", normal=1, anomalous=1, size=SIZE)
    return samples_of(root)[:12]


def untrained() -> Method:
    torch.manual_seed(0)
    return build("anomalyclip", weights.load("tiny"))


def state_after(samples: list[Sample], cache: Cache = Cache(), **plan: Any) -> dict[str, torch.Tensor]:
    method = untrained()
    train(method, samples, SIZE, Plan(**{"epochs": 1, "batch_size": 4, **plan}), cache=cache)
    return method.state_dict()


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Mean distance; where a gradient is rounding noise, Adam makes whole steps of it, which a maximum would see."""
    return float(torch.cat([(value - b[key]).abs().flatten() for key, value in a.items()]).mean())


def farthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((value - b[key]).abs().max()) for key, value in a.items())


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(samples: list[Sample]) -> None:
    a, b, c = state_after(samples), state_after(samples), state_after(samples, seed=5)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["normal_context"], c["normal_context"])


@pytest.mark.parametrize("mode", ["memory", "disk", "auto"])
def test_features_kept_or_computed_again_train_the_same_weights_to_the_bit(
    samples: list[Sample], tmp_path: Path, mode: str
) -> None:
    again = state_after(samples, Cache("none"))
    for _ in range(2):  # on disk the second finds what the first has left
        assert farthest(state_after(samples, Cache(mode, tmp_path)), again) == 0


def test_half_precision_features_train_nearly_the_same_weights(samples: list[Sample], tmp_path: Path) -> None:
    exact = state_after(samples, Cache("none"))
    for mode in ("memory", "disk"):
        distance = apart(state_after(samples, Cache(mode, tmp_path, dtype="float16")), exact)
        assert 0 < distance < 1e-5  # after three steps of up to 1e-3


def test_parts_of_a_batch_train_the_weights_of_the_whole(samples: list[Sample]) -> None:
    whole, parts = state_after(samples), state_after(samples, accumulate=3)
    assert apart(whole, parts) < 1e-5  # sums are rounded in another order
    assert apart(whole, state_after(samples, batch_size=2)) > 1e-4


def test_a_term_that_is_a_sum_over_the_batch_stays_one_in_parts(samples: list[Sample]) -> None:
    """FAPrompt's prior."""

    def first(accumulate: int) -> dict[str, float]:
        torch.manual_seed(0)
        method, seen = build("faprompt", weights.load("tiny"), selected=5), []
        train(method, samples, SIZE, Plan(epochs=1, batch_size=len(samples), accumulate=accumulate), seen.append)
        return dict(seen[0].terms)

    whole = first(1)
    assert whole["prior"] > 0
    for accumulate in (2, 4):
        assert first(accumulate) == pytest.approx(whole, rel=1e-4)


def test_bf16_trains_nearly_the_same_weights_and_keeps_them_in_float32(samples: list[Sample]) -> None:
    exact, rounded = state_after(samples), state_after(samples, precision="bf16")
    assert 0 < apart(exact, rounded) < 2e-4
    assert {value.dtype for value in rounded.values()} == {torch.float32}
    assert farthest(exact, state_after(samples)) == 0  # the first training's precision is not the next one's


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("bf16", 1e-3), ("fp16", 1e-3)])
def test_a_gpu_trains_nearly_the_weights_of_the_cpu_however_features_are_kept(
    samples: list[Sample], tmp_path: Path, precision: str, most: float
) -> None:
    exact = state_after(samples)
    for mode in ("none", "memory", "disk", "disk"):
        torch.manual_seed(0)
        method = build("anomalyclip", weights.load("tiny"))
        start = method.state_dict()
        method = build("anomalyclip", weights.load("tiny", device="cuda"))
        method.load_state_dict(start)
        plan = Plan(epochs=1, batch_size=4, precision=precision)
        train(method, samples, SIZE, plan, cache=Cache(mode, tmp_path))
        trained = {key: value.cpu() for key, value in method.state_dict().items()}
        assert {value.dtype for value in trained.values()} == {torch.float32}
        assert apart(exact, trained) < most


def test_fp16_needs_a_gpu(samples: list[Sample]) -> None:
    with pytest.raises(ZsadError, match="fp16 needs a GPU"):
        state_after(samples, precision="fp16")


def test_a_clipped_gradient_takes_a_shorter_step(samples: list[Sample]) -> None:
    def moved(clip: float) -> float:
        torch.manual_seed(0)
        method = build("coop", weights.load("tiny"))  # SGD: a step is as long as the gradient
        before = method.state_dict()["context"].clone()
        train(method, samples, SIZE, Plan(epochs=2, batch_size=len(samples), clip=clip))
        return float((method.state_dict()["context"] - before).norm())

    assert moved(1e-3) < 0.1 * moved(0.0)
    assert moved(1e9) == moved(0.0)


def test_a_training_that_diverges_stops_and_says_what_to_do(samples: list[Sample]) -> None:
    method = untrained()
    with pytest.raises(ZsadError, match=r"not a finite number in step 2 .*smaller --rate"):
        train(method, samples, SIZE, Plan(epochs=3, rate=1e38))
    assert not method.training


def test_training_leaves_the_random_numbers_of_its_caller_alone(samples: list[Sample]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    method = untrained()
    torch.manual_seed(3)
    train(method, samples, SIZE, Plan(epochs=1))
    assert torch.equal(torch.rand(2), expected)


def test_an_image_beside_kept_ones_is_encoded_in_its_place(samples: list[Sample]) -> None:
    """As a mosaic is: the batch has the order that was asked for, whichever image came from where."""
    method = untrained()
    images, course = Images(method, method.encode, SIZE), courses(method, Plan(), len(samples))[0]
    kept = open_source(samples, images, course, Cache("memory"), Hardware(torch.device("cpu")))
    (plain,) = images.encoded([samples])
    seen = [dataclasses.replace(sample, class_name="new") if i % 2 else sample for i, sample in enumerate(samples)]
    order = [5, 0, 3, 2]
    (mixed,) = kept.epoch(seen, [order])
    assert torch.equal(mixed.features.patches, plain.features.patches[order])  # type: ignore[attr-defined]
    assert torch.equal(mixed.masks, plain.masks[order]) and torch.equal(mixed.labels, plain.labels[order])
    assert [name == "new" for name in mixed.class_names] == [True, False, True, False]


def test_every_step_is_reported_with_the_terms_of_the_loss(samples: list[Sample]) -> None:
    seen: list[Step] = []
    train(untrained(), samples, SIZE, Plan(epochs=2, batch_size=5, rate=2e-3), seen.append)
    assert [step.number for step in seen] == [1, 2, 3, 4, 5, 6]
    assert [step.epoch for step in seen] == [1, 1, 1, 2, 2, 2]
    assert {(step.total, step.stage, step.rate) for step in seen} == {(6, 1, 2e-3)}
    assert seen[0].terms.keys() == {"global", "focal", "dice"} and seen[0].loss == sum(seen[0].terms.values())
    assert all(step.images_per_second > 0 for step in seen)
    assert seen[0].seconds_left > seen[-1].seconds_left == 0


def test_steps_are_counted_through_all_trainings_of_a_method(samples: list[Sample]) -> None:
    torch.manual_seed(0)
    method, seen = build("aaclip", weights.load("tiny")), []
    train(method, samples[:4], SIZE, Plan(epochs=1, batch_size=2), seen.append)
    assert [(step.number, step.stage) for step in seen] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert {step.total for step in seen} == {4}
    assert "orthogonal" in seen[0].terms and "orthogonal" not in seen[2].terms


def test_training_sets_the_thresholds(samples: list[Sample]) -> None:
    method = untrained()
    train(method, samples, SIZE, Plan(epochs=1))
    scores = [scored.score for scored in score_samples(method, samples, SIZE)]
    assert any(method.thresholds.image == pytest.approx(score) for score in scores)
    assert not method.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "label for every image"),
        ({"mask": None}, "mask for every anomalous"),
        ({"label": 0}, "normal and anomalous"),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_refused(
    samples: list[Sample], change: dict[str, object], message: str
) -> None:
    anomalous = [dataclasses.replace(sample, **change) for sample in samples if sample.label == 1]  # type: ignore[arg-type]
    with pytest.raises(ZsadError, match=message):
        train(untrained(), anomalous, SIZE)


def test_training_stops_at_an_unreadable_file_and_names_it(samples: list[Sample], tmp_path: Path) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no image")
    with pytest.raises(ZsadError, match=r"broken\.png"):
        train(untrained(), [*samples, Sample(bad, label=0)], SIZE, Plan(epochs=1))


def test_evaluation_goes_on_after_an_unreadable_file(samples: list[Sample], tmp_path: Path) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no image")
    scored = list(score_samples(untrained(), [samples[0], Sample(bad, label=0), samples[1]], SIZE))
    assert [bool(s.error) for s in scored].count(True) == 1
    assert len(scored) == 3


def test_images_without_a_finite_score_are_errors_in_evaluation(samples: list[Sample]) -> None:
    method = untrained()
    torch.nn.init.constant_(next(p for p in method.parameters() if p.requires_grad), math.nan)
    scored = list(score_samples(method, samples[:2], SIZE))
    assert all("not a finite number" in s.error for s in scored) and len(table(scored)) == 1 + 1


def test_a_table_has_a_row_per_class_in_order_and_the_mean_last(samples: list[Sample], tmp_path: Path) -> None:
    rows = table(score_samples(untrained(), samples[:6], SIZE))
    assert [row.class_name for row in rows] == [*dict.fromkeys(s.class_name for s in samples[:6]), "mean"]
    write_csv(rows, tmp_path / "table.csv")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == len(rows) + 1


def test_the_backbone_is_untouched_by_training(samples: list[Sample]) -> None:
    method = untrained()
    before = {key: value.clone() for key, value in method.backbone.state_dict().items()}
    train(method, samples, SIZE, Plan(epochs=1))
    assert all(torch.equal(value, before[key]) for key, value in method.backbone.state_dict().items())


def test_images_of_any_size_are_evaluated_at_the_input_size(tmp_path: Path) -> None:
    Image.new("RGB", (31, 57)).save(tmp_path / "a.png")
    (scored,) = score_samples(untrained(), [Sample(tmp_path / "a.png")], SIZE)
    assert scored.map.shape == (SIZE, SIZE)


def test_classes_of_one_name_in_two_datasets_are_two_rows(samples: list[Sample]) -> None:
    both = [dataclasses.replace(s, dataset=name, class_name="brain") for name in ("a", "b") for s in samples[:2]]
    rows = table(score_samples(untrained(), both, SIZE))
    assert [(row.class_name, row.images) for row in rows] == [("a/brain", 2), ("b/brain", 2), ("mean", 4)]


def test_rows_keep_their_order_when_a_file_of_the_second_class_is_damaged(
    samples: list[Sample], tmp_path: Path
) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no image")
    mixed = [
        *samples[:3],
        dataclasses.replace(samples[3], class_name="zz"),
        Sample(bad, label=0, class_name="zz", dataset=samples[0].dataset),
    ]
    for batch_size in (2, 5):
        scored = list(score_samples(untrained(), mixed, SIZE, batch_size))
        assert [s.sample for s in scored] == mixed
        assert [row.class_name for row in table(scored)] == [*dict.fromkeys(s.class_name for s in mixed), "mean"]


def test_training_is_adam_on_the_sum_of_all_terms_with_the_methods_betas(samples: list[Sample]) -> None:
    by_hand, trained = untrained(), untrained()
    (data,) = Images(by_hand, by_hand.encode, SIZE).encoded([samples])
    optimizer = torch.optim.Adam(by_hand.parameters(), by_hand.recipe.rate, by_hand.recipe.betas)
    for _ in range(2):
        optimizer.zero_grad()
        sum(by_hand.loss(data.features, data.masks, data.labels).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    train(trained, samples, SIZE, Plan(epochs=2, batch_size=len(samples)))
    for a, b in zip(by_hand.parameters(), trained.parameters(), strict=True):  # the order of a batch rounds differently
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_the_pixel_threshold_has_the_best_pixel_f1(samples: list[Sample]) -> None:
    from zsad.metrics import f1_max

    method = untrained()
    train(method, samples, SIZE, Plan(epochs=1))
    scored = list(score_samples(method, samples, SIZE))
    maps, masks = torch.stack([s.map for s in scored]), torch.stack([s.mask for s in scored if s.mask is not None])
    assert method.contour == pytest.approx(f1_max(maps, masks)[1], abs=1e-4)


def test_a_plan_can_change_the_share_of_slow_parameters(samples: list[Sample]) -> None:
    def change(**plan: float) -> torch.Tensor:
        torch.manual_seed(0)
        method = build("vip2clip", weights.load("tiny"))
        before = method.state_dict()["fgp.query.weight"].clone()
        train(method, samples, SIZE, Plan(epochs=1, batch_size=12, **plan))  # type: ignore[arg-type]
        return (method.state_dict()["fgp.query.weight"] - before).abs().max()

    assert change(slow=1.0) > 50 * change()


def test_a_share_for_slow_parameters_that_a_method_has_not_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ZsadError, match="at one rate"):
        train(untrained(), samples, SIZE, Plan(epochs=1, slow=0.5))


# --- how images are read


def elongated(samples: list[Sample], folder: Path, count: int) -> list[Sample]:
    """The same samples, of which the first ones are the upper half of their image."""
    changed = []
    for i, sample in enumerate(samples[:count]):
        files = {"image": sample.image, "mask": sample.mask}
        for kind, file in files.items():
            if file:
                files[kind] = folder / f"{kind}{i}.png"
                with Image.open(file) as image:
                    image.crop((0, 0, image.width, image.height // 2)).save(files[kind])
        changed.append(dataclasses.replace(sample, **files))  # type: ignore[arg-type]
    return [*changed, *samples[count:]]


def test_training_sees_masks_where_the_padded_image_lies(samples: list[Sample], tmp_path: Path) -> None:
    wide = elongated(samples, tmp_path, len(samples))
    method = untrained()
    (data,) = Images(method, method.encode, SIZE, Reading(fit="pad")).encoded([wide])
    assert data.masks.shape[1:] == (SIZE, SIZE)
    assert data.masks.any() and not data.masks[:, : SIZE // 4].any() and not data.masks[:, -SIZE // 4 :].any()


def test_images_of_one_shape_are_trained_on_as_they_are_and_others_refused(
    samples: list[Sample], tmp_path: Path
) -> None:
    method, keep = untrained(), Reading(fit="keep")
    train(method, elongated(samples, tmp_path, len(samples)), SIZE, Plan(epochs=1), reading=keep)
    assert 0 < method.thresholds.pixel < 1
    with pytest.raises(
        ZsadError, match=r"48 x 88 pixels.* 64 x 64; training needs one shape, which fit pad or stretch"
    ):
        train(untrained(), elongated(samples, tmp_path, 5)[::-1], SIZE, Plan(epochs=1), reading=keep)


@pytest.mark.parametrize("first", [0, 4])
def test_images_of_several_shapes_are_refused_also_where_some_are_on_disk(
    samples: list[Sample], tmp_path: Path, first: int
) -> None:
    """Grids of 6 x 11 and 11 x 6 have as many patches, and masks as many pixels."""
    flat, files = [], []
    for i, sample in enumerate(samples[:8]):
        for kind in ("image", "mask"):
            if file := getattr(sample, kind):
                with Image.open(file) as image:
                    box = (0, 0, image.width, image.height // 2) if i < 4 else (0, 0, image.width // 2, image.height)
                    image.crop(box).save(tmp_path / f"{kind}{i}.png")
        mask = tmp_path / f"mask{i}.png" if sample.mask else None
        flat.append(dataclasses.replace(sample, image=tmp_path / f"image{i}.png", mask=mask))
    files = flat[first : first + 4]
    assert {sample.label for sample in files} == {0, 1}
    keep, cache = Reading(fit="keep"), Cache("disk", tmp_path / "cache")
    train(untrained(), files, SIZE, Plan(epochs=1), reading=keep, cache=cache)
    for order in (flat, flat[::-1]):
        with pytest.raises(ZsadError, match=r"fit pad or stretch gives one shape|training needs one shape"):
            train(untrained(), order, SIZE, Plan(epochs=1), reading=keep, cache=cache)


def test_a_file_that_changes_while_it_is_read_is_not_kept_under_its_old_contents(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    for i, sample in enumerate(samples):
        shutil.copy(sample.image, tmp_path / f"{i}.png")
        copies.append(dataclasses.replace(sample, image=tmp_path / f"{i}.png"))
    copied = partial(shutil.copy, samples[0].image, tmp_path / "3.png")  # after it was looked for, before it is read
    monkeypatch.setattr(opening, "_must_have_room", lambda found: copied())
    with pytest.raises(ZsadError, match=r"3\.png, or its mask, was changed while it was read"):
        train(untrained(), copies, SIZE, Plan(epochs=1), cache=Cache("disk", tmp_path / "cache"))


@pytest.mark.parametrize("mode", ["memory", "none"])
def test_workers_train_the_same_weights(samples: list[Sample], mode: str) -> None:
    alone, helped = untrained(), untrained()
    for method, workers in ((alone, 0), (helped, 1)):
        train(method, samples, SIZE, Plan(epochs=1, batch_size=4), workers=workers, cache=Cache(mode))
    assert farthest(alone.state_dict(), helped.state_dict()) == 0


@pytest.mark.parametrize("mode", ["memory", "none"])
def test_as_many_workers_read_as_are_asked_for(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    asked, here = [], dataset.ordered
    monkeypatch.setattr(
        dataset, "ordered", lambda work, items, n, ahead: asked.append(n) or here(work, items, 0, ahead)
    )
    train(untrained(), samples, SIZE, Plan(epochs=1), workers=3, cache=Cache(mode))
    list(score_samples(untrained(), samples, SIZE, workers=3))
    assert set(asked) == {3}


@pytest.mark.parametrize("fit", FITS)
def test_samples_of_any_shape_are_scored_in_order_and_compared_in_one_geometry(
    samples: list[Sample], tmp_path: Path, fit: str
) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no image")
    mixed = [*elongated(samples, tmp_path, 5)[3:7], Sample(bad, label=0), samples[0]]
    scored = list(score_samples(untrained(), mixed, SIZE, batch_size=4, reading=Reading(fit=fit)))
    assert [one.sample for one in scored] == mixed
    assert [one.sample for one in scored if one.error] == [mixed[4]]
    for one in scored:
        assert one.error or (one.mask is not None and one.map.shape == one.mask.shape == (SIZE, SIZE))


@pytest.mark.parametrize("fit", FITS)
def test_a_map_is_compared_with_the_mask_of_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    mask = np.zeros((32, 96), np.uint8)
    mask[:16, :40] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")  # white where it is marked
    method = untrained()
    monkeypatch.setattr(method, "predict", lambda x, names: Prediction(x.mean((1, 2, 3)), x[:, 0]))
    sample = Sample(tmp_path / "a.png", tmp_path / "a.png", label=1)
    row = class_row("x", list(score_samples(method, [sample], SIZE, reading=Reading(fit=fit))))
    assert row.values["pixel_f1_max"] > 0.95  # but for its blurred edge


def test_methods_are_told_the_prompt_name_only_where_that_is_asked_for(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, told = untrained(), []
    predict = method.predict
    monkeypatch.setattr(method, "predict", lambda x, names: told.append(names) or predict(x, names))
    named = [dataclasses.replace(sample, class_name="pcb1") for sample in samples[:2]]
    named[0] = dataclasses.replace(named[0], prompt_name="circuit board")
    for prompt_names in (False, True):
        list(score_samples(method, named, SIZE, prompt_names=prompt_names))
    assert told == [["pcb1", "pcb1"], ["circuit board", "pcb1"]]


@pytest.mark.parametrize(
    "bad", [{"slow": -1.0}, {"rate": 0.0}, {"rate": float("nan")}, {"epochs": 0}, {"batch_size": -1}]
)
def test_an_impossible_plan_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ZsadError, match="above 0"):
        Plan(**bad)  # type: ignore[arg-type]
