"""Loading a method: embedded, trained here, or from a file in its authors' layout; preparing images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zsad
from tests.test_released import anomalyclip_layout
from zsad import api
from zsad.backbones import weights
from zsad.errors import ZsadError
from zsad.methods.table import build


@pytest.mark.parametrize("name", ["anomalyclip", "crane"])
def test_an_embedded_method_loads_and_its_score_is_a_probability(name: str) -> None:
    method = zsad.load(name)
    image = zsad.data.synthetic.render("key", None, 0, 128).image
    made = method.predict(zsad.prepare(method, [image]))
    assert 0 <= float(made.score[0]) <= 1
    assert made.map.shape == (1, 192, 192)


def test_files_pil_images_and_arrays_are_prepared_alike(tmp_path: Path) -> None:
    method = zsad.load()
    array = np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    x = zsad.prepare(method, [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array], size=32)
    assert x.shape == (4, 3, 32, 32)
    assert all(torch.equal(x[0], other) for other in x[1:])


def test_a_released_file_of_another_width_is_refused_with_both_shapes(tmp_path: Path) -> None:
    torch.save(anomalyclip_layout(), tmp_path / "epoch_15.pth")
    with pytest.raises(ZsadError, match=r"normal_context \(12, 768\) instead of \(12, 128\)"):
        zsad.load("anomalyclip", weights=tmp_path / "epoch_15.pth")


def test_a_file_that_does_not_tell_its_method_asks_for_it(tmp_path: Path) -> None:
    torch.save(anomalyclip_layout(128, 3), tmp_path / "epoch_15.pth")
    with pytest.raises(ZsadError, match="add --method NAME"):
        zsad.load(weights=tmp_path / "epoch_15.pth")
    assert zsad.load("anomalyclip", weights=tmp_path / "epoch_15.pth").name == "anomalyclip"


def test_a_checkpoint_tells_its_method(tmp_path: Path) -> None:
    build("vip2clip", weights.load("tiny")).save(tmp_path / "own.safetensors")
    assert zsad.load(weights=tmp_path / "own.safetensors").name == "vip2clip"
    with pytest.raises(ZsadError, match="belongs to vip2clip, not to anomalyclip"):
        zsad.load("anomalyclip", weights=tmp_path / "own.safetensors")


def test_a_method_that_learns_nothing_needs_no_weights(tmp_path: Path) -> None:
    ready = zsad.load("winclip", scales=(2,))
    assert ready.config.scales == (2,) and not ready.training
    with pytest.raises(ZsadError, match='no winclip switch "scale"'):
        zsad.load("winclip", scale=(2,))


def test_weights_for_a_method_that_learns_nothing_are_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pth")
    for weights_given in ("winclip/x", tmp_path / "a.pth"):
        with pytest.raises(ZsadError, match="learns nothing and needs no weights"):
            zsad.load("winclip", weights=weights_given)
    with pytest.raises(ZsadError, match="or --set linear=false, with which it learns nothing"):
        zsad.load("clipad")
    assert not zsad.load("clipad", linear=False).stages


def test_a_backbone_without_text_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(ZsadError, match=r"clip reads prompts, and dinov2-s-14 has no text tower"):
        zsad.load("clip", backbone="dinov2-s-14")


def test_switches_go_before_the_weights_own_and_what_was_learned_must_still_fit(tmp_path: Path) -> None:
    assert zsad.load(sigma=1.0).config.sigma == 1.0
    torch.save(anomalyclip_layout(128, 3), tmp_path / "epoch_15.pth")
    assert zsad.load("anomalyclip", weights=tmp_path / "epoch_15.pth", layers=(6, 24)).config.layers == (6, 24)
    with pytest.raises(ZsadError, match=r"normal_context \(12, 128\) instead of \(3, 128\)"):
        zsad.load(context_length=3, deep_length=0)


def test_a_checkpoint_of_another_named_backbone_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    build("vip2clip", weights.load("tiny")).save(tmp_path / "own.safetensors")
    with pytest.raises(ZsadError, match="was trained on tiny, not on clip-vit-b-16; say --backbone tiny"):
        zsad.load(weights=tmp_path / "own.safetensors", backbone="clip-vit-b-16")


def test_a_folder_is_no_checkpoint_and_does_not_hide_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anomalyclip" / "mvtec").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZsadError, match="add --backbone clip-vit-l-14-336"):
        zsad.load(weights="anomalyclip/mvtec")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1",))

    torch.save({"prompt_learner": Bad()}, tmp_path / "bad.pth")
    with pytest.raises(ZsadError, match="can be read safely"):
        zsad.load("anomalyclip", weights=tmp_path / "bad.pth")


def test_a_backbone_that_nothing_was_trained_for_says_what_to_give() -> None:
    with pytest.raises(ZsadError, match=r"give --weights.*anomalyclip/mvtec"):
        api.embedded_weights("anomalyclip", "clip-vit-l-14-336")


def test_an_unknown_device_is_told() -> None:
    with pytest.raises(ZsadError, match="--device cpu"):
        api.choose_device("cuda:77")
