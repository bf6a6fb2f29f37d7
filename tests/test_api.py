"""Loading a method: embedded, trained here, released; from a path or a (local) address."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zsad
from zsad import api
from zsad.backbones import weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import UrlFile
from zsad.errors import ZsadError
from zsad.methods.released import RELEASED, Released


def released_file(path: Path, width: int, sets: int, rest: int = 64) -> dict[str, Tensor]:
    """A file in the layout of AnomalyCLIP's released checkpoints, at a text width; gives its state."""
    state = {f"ctx_{kind}": torch.randn(1, 1, 12, width) for kind in ("pos", "neg")}
    for kind in ("pos", "neg"):
        state[f"token_prefix_{kind}"] = torch.randn(1, 1, 1, width)
        state[f"token_suffix_{kind}"] = torch.randn(1, 1, rest, width)
        state[f"tokenized_prompts_{kind}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
    for i in range(sets):
        state[f"compound_prompts_text.{i}"] = torch.randn(4, width)
        state[f"compound_prompt_projections.{i}.weight"] = torch.randn(896, width)
        state[f"compound_prompt_projections.{i}.bias"] = torch.randn(896)
    torch.save({"prompt_learner": state}, path)
    return state


def test_the_embedded_method_loads_and_its_score_is_a_probability() -> None:
    method = zsad.load()
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


def test_a_released_file_of_l14_at_336_fits_at_full_width(tmp_path: Path) -> None:
    state = released_file(tmp_path / "epoch_15.pth", 768, 8)
    with torch.device("meta"):  # the towers' weights do not matter here
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
    towers = CLIP(weights.load("tiny").visual, text, weights.load("tiny").tokenizer, name="clip-vit-l-14-336")
    method = api.convert(tmp_path / "epoch_15.pth", "anomalyclip", towers)
    assert sum(p.numel() for p in method.parameters()) == 2 * 12 * 768 + 8 * 4 * 768
    assert torch.equal(method.state_dict()["deep.sets.7"], state["compound_prompts_text.7"])
    method.save(tmp_path / "mvtec.safetensors")
    assert (tmp_path / "mvtec.safetensors").stat().st_size < 200_000


def test_a_released_file_of_another_width_is_refused_with_both_shapes(tmp_path: Path) -> None:
    released_file(tmp_path / "epoch_15.pth", 768, 8)
    with pytest.raises(ZsadError, match=r"normal_context \(12, 768\) instead of \(12, 128\)"):
        zsad.load(weights=tmp_path / "epoch_15.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1",))

    torch.save({"prompt_learner": Bad()}, tmp_path / "bad.pth")
    with pytest.raises(ZsadError, match="can be read safely"):
        zsad.load(weights=tmp_path / "bad.pth")


def test_a_backbone_that_nothing_was_trained_for_says_what_to_give() -> None:
    with pytest.raises(ZsadError, match=r"give --weights.*anomalyclip/mvtec"):
        api.embedded_weights("anomalyclip", "clip-vit-l-14-336")


def test_an_unknown_device_is_told() -> None:
    with pytest.raises(ZsadError, match="--device cpu"):
        api.choose_device("cuda:77")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind a local address, with a released checkpoint for `tiny` in the table of checkpoints."""
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "cache"))
    root = tmp_path / "served"
    root.mkdir()
    released_file(root / "epoch_15.pth", 128, 3)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    data = (root / "epoch_15.pth").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/epoch_15.pth"
    row = Released("anomalyclip/tiny", UrlFile(url), blob, "nothing", "tiny", "MIT", "nothing")
    monkeypatch.setitem(RELEASED, row.name, row)
    yield root
    server.shutdown()


def test_a_published_name_is_downloaded_checked_converted_and_then_cached(served: Path) -> None:
    first = zsad.load(weights="anomalyclip/tiny")
    (served / "epoch_15.pth").unlink()
    again = zsad.load(weights="anomalyclip/tiny")
    assert torch.equal(first.state_dict()["normal_context"], again.state_dict()["normal_context"])


def test_other_content_than_the_published_is_refused_and_removed(served: Path, tmp_path: Path) -> None:
    released_file(served / "epoch_15.pth", 128, 3)
    with pytest.raises(ZsadError, match="gave another file"):
        zsad.load(weights="anomalyclip/tiny")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_without_network_a_published_name_says_what_to_do(served: Path) -> None:
    (served / "epoch_15.pth").unlink()
    with pytest.raises(ZsadError, match=r"give it with --weights PATH"):
        zsad.load(weights="anomalyclip/tiny")
