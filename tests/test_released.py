"""Published checkpoints: the table, their layouts at full width, and the way from an address to a prediction."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor, nn
from typer.testing import CliRunner

import zsad
from tests.test_download import Handler
from zsad import cli
from zsad.backbones import weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import BACKBONES, UrlFile
from zsad.backbones.vit import ViT, ViTSize
from zsad.data import synthetic
from zsad.errors import ZsadError
from zsad.methods import checkpoints, crane
from zsad.methods.conversion import belongs_to, convert, left_out
from zsad.methods.released import RELEASED, Released, hashes, recognised
from zsad.methods.table import METHODS, make_config, method_class

REAL = Path(__file__).parents[2] / "shared" / "parity" / "released" / "crane"
CRANE, CRANE_PLUS = REAL / "trained_on_mvtec_crane_epoch_5.pth", REAL / "trained_on_visa_cranep_epoch_5.pth"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="Crane's own files are not on this machine")
runner = CliRunner()


# The layouts of the published files


def sentences(width: int, *parts: tuple[str, int]) -> dict[str, Tensor]:
    """What a prompt learner keeps of its two sentences and never reads again."""
    kept = {f"token_{part}_{kind}": torch.randn(1, 1, n, width) for part, n in parts for kind in ("pos", "neg")}
    return kept | {f"tokenized_prompts_{kind}": torch.zeros(1, 1, 77, dtype=torch.int32) for kind in ("pos", "neg")}


def crane_layout(width: int = 768, sets: int = 8) -> dict[str, Any]:
    state = {f"ctx_{kind}": torch.randn(1, 1, 12, width) for kind in ("pos", "neg")}
    state |= {f"compound_prompts_text.{i}": torch.randn(4, width) for i in range(sets)}
    return {"prompt_learner": state | sentences(width, ("prefix", 1), ("suffix", 64))}


def anomalyclip_layout(width: int = 768, sets: int = 8) -> dict[str, Any]:
    state = crane_layout(width, sets)["prompt_learner"]
    for i in range(sets):
        state[f"compound_prompt_projections.{i}.weight"] = torch.randn(896, width)
        state[f"compound_prompt_projections.{i}.bias"] = torch.randn(896)
    return {"prompt_learner": state}


def vip2clip_layout(width: int = 768, hidden: int = 384) -> dict[str, Any]:
    learner = {"cls_ctx": torch.randn(3, width), "cls_prompter.bias": torch.randn(1, width)}
    learner |= {f"ctx_{kind}": torch.randn(7, width) for kind in ("pos", "neg")}
    for name, tensor in sentences(width, ("prefix", 1), ("middle", 1), ("suffix", 65)).items():
        learner[name] = tensor[0]
    for i in range(3):
        for at, (wide, narrow) in {0: (hidden, width), 2: (width, hidden)}.items():
            learner[f"cls_prompter.fc.{i}.{at}.weight"] = torch.randn(wide, narrow)
            learner[f"cls_prompter.fc.{i}.{at}.bias"] = torch.randn(wide)
    perception = {"prompt_temp_l1": torch.tensor(2.66)}
    for name in ("q_proj_pre", "k_proj_pre_1", "v_proj_pre_1", "proj_post_t"):
        perception |= {f"{name}.weight": torch.randn(width, width, 1), f"{name}.bias": torch.randn(width)}
    return {"prompt_learner": learner, "Zero_try": perception}


def visualad_layout(width: int = 1024, rows: int = 1536, layers: tuple[int, ...] = (6, 12, 18, 24)) -> dict[str, Any]:
    made: dict[str, Any] = {name: torch.randn(width) for name in ("anomaly_token", "normal_token")}
    made |= {"ln_post_weight": torch.randn(width), "ln_post_bias": torch.randn(width)}
    made |= {"features_list": list(layers), "image_size": 518, "epoch": 1, "backbone": "ViT-L/14@336px"}
    made["layer_transforms"] = {f"layer_{i}": linear(width, "mlp.0", "mlp.3") for i in layers}
    attention = {
        "anchor_queries": (4, width),
        "pos_encoding": (1, rows, width),
        "res_scale": (1,),
        "gate.0.weight": (4, width),
        "gate.0.bias": (4,),
        **{f"{name}_proj.weight": (width, width) for name in ("q", "k", "v", "out")},
        **{f"{name}_norm.{end}": (width,) for name in ("q", "k") for end in ("weight", "bias")},
        "out_proj.bias": (width,),
    }
    named = {f"layer_attentions.layer_{i}.{name}": shape for i in layers for name, shape in attention.items()}
    made["cross_attn"] = {name: torch.randn(shape) for name, shape in named.items()}
    return made | {
        "transform_type": "mlp",
        "cross_attn_config": {"num_anchors": 4, "dropout": 0.1, "res_scale_init": 0.01},
    }


def aprilgan_layout(width: int = 1024, output: int = 768, count: int = 4) -> dict[str, Any]:
    state = {f"fc.{i}.weight": torch.randn(output, width) for i in range(count)}
    return {"trainable_linearlayer": state | {f"fc.{i}.bias": torch.randn(output) for i in range(count)}}


def clipad_layout(width: int = 1024, output: int = 768, count: int = 4) -> dict[str, Any]:
    return {"linear_layers": aprilgan_layout(width, output, count)["trainable_linearlayer"]}


def adaclip_layout(width: int = 768, visual: int = 1024, length: int = 5, depth: int = 4) -> dict[str, Any]:
    prompts = {f"visual_prompter.static_prompts.{i}": torch.randn(length, visual) for i in range(depth)}
    prompts |= {f"text_prompter.static_prompts.{i}": torch.randn(length, width) for i in range(depth)}
    shapes = {f"patch_token_layer.head.{i}": (width, visual) for i in range(4)}
    shapes |= {f"dynamic_visual_prompt_generator.head.{i}": (visual, width) for i in range(length)}
    shapes |= {f"dynamic_text_prompt_generator.head.{i}": (width, width) for i in range(length)}
    shapes |= {"cls_token_layer.head.0": (width, width)}
    linears = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    linears |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    return {f"clip_model.{name}": tensor for name, tensor in (prompts | linears).items()}


def linear(width: int, *names: str) -> dict[str, Tensor]:
    weights = {f"{name}.weight": torch.randn(width, width) for name in names}
    return weights | {f"{name}.bias": torch.randn(width) for name in names}


LAYOUTS: dict[str, Callable[..., dict[str, Any]]] = {
    "anomalyclip": anomalyclip_layout,
    "crane": crane_layout,
    "visualad": visualad_layout,
    "vip2clip": vip2clip_layout,
    "aprilgan": aprilgan_layout,
    "clipad": clipad_layout,
    "adaclip": adaclip_layout,
}
#: what is left out of each, with the digits replaced by #
UNUSED = {
    "crane": {
        f"prompt_learner.{name}_{kind}"
        for name in ("token_prefix", "token_suffix", "tokenized_prompts")
        for kind in ("pos", "neg")
    },
    "visualad": {"cross_attn.layer_attentions.layer_#.k_norm.bias"},
    "aprilgan": set(),
    "clipad": set(),
    "adaclip": {"clip_model.text_prompter.static_prompts.#"},
}
UNUSED["anomalyclip"] = UNUSED["crane"] | {
    f"prompt_learner.compound_prompt_projections.#.{end}" for end in ("weight", "bias")
}
UNUSED["vip2clip"] = UNUSED["crane"] | {"prompt_learner.token_middle_pos", "prompt_learner.token_middle_neg"}
UNUSED["vip2clip"] |= {"Zero_try.prompt_temp_l#", "Zero_try.k_proj_pre_#.bias"}


@pytest.fixture(scope="module")
def l14() -> CLIP:
    """Towers of the widths of CLIP ViT-L/14@336, four image blocks deep, with nothing in them that is not needed."""
    with torch.device("meta"):
        visual = ViT(ViTSize(width=1024, depth=4, heads=16, patch=14, grid=24, output=768))
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
    visual.norm = nn.LayerNorm(1024)
    return CLIP(visual, text, weights.load("tiny").tokenizer, name="clip-vit-l-14-336", digest="0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every layout at full width."""
    found = {name: tmp_path_factory.mktemp("files") / f"{name}.pth" for name in LAYOUTS}
    for name, path in found.items():
        torch.save(LAYOUTS[name](), path)
    return found


def tensors(value: Any) -> list[Tensor]:
    """All tensors of nested dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value.values() for tensor in tensors(part)] if isinstance(value, dict) else []


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_every_layout_converts_at_full_width_and_comes_back(
    name: str, files: dict[str, Path], l14: CLIP, tmp_path: Path
) -> None:
    made = convert(files[name], name, l14)
    made.save(tmp_path / "own.safetensors")
    again = checkpoints.load(tmp_path / "own.safetensors", l14)
    assert again.config == made.config
    theirs = {tensor.double().sum().item() for tensor in tensors(torch.load(files[name])) if tensor.is_floating_point()}
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, made.state_dict()[key])
        assert tensor.double().sum().item() in theirs


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_of_a_file_is_taken_or_named_as_left_out(name: str, files: dict[str, Path], l14: CLIP) -> None:
    unused = left_out(files[name], name)
    assert {re.sub(r"\d+", "#", key) for key in unused} == UNUSED[name]
    assert len(unused) + len(convert(files[name], name, l14).state_dict()) == len(tensors(torch.load(files[name])))


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unexpected_tensor_is_an_error_that_names_it(name: str, l14: CLIP, tmp_path: Path) -> None:
    made = LAYOUTS[name](8)
    next(iter([part for part in made.values() if isinstance(part, dict)] or [made]))["more.weight"] = torch.zeros(1)
    torch.save(made, tmp_path / "a.pth")
    with pytest.raises(ZsadError, match=r"more\.weight"):
        convert(tmp_path / "a.pth", name, l14)


#: where a tensor lies in a file, and our name of it; "prompt_learner" and "ctx_neg" where nothing else is said
LEARNED = {
    "visualad": ("cross_attn", "layer_attentions.layer_24.res_scale", r"layer_24\.res_scale"),
    "aprilgan": ("trainable_linearlayer", "fc.3.bias", r"adapters\.3\.bias"),
    "clipad": ("linear_layers", "fc.3.bias", r"linears\.3\.bias"),
    "adaclip": ("", "clip_model.patch_token_layer.head.3.bias", r"patch_layers\.3\.bias"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_tensor_is_an_error(name: str, l14: CLIP, tmp_path: Path) -> None:
    made = LAYOUTS[name]()
    part, key, ours = LEARNED.get(name, ("prompt_learner", "ctx_neg", "anomalous_context"))
    del (made[part] if part else made)[key]
    torch.save(made, tmp_path / "a.pth")
    with pytest.raises(ZsadError, match=f"missing.*{ours}"):
        convert(tmp_path / "a.pth", name, l14)


@pytest.mark.parametrize("name", LAYOUTS)
def test_something_else_is_no_layout_of_any_method(name: str, l14: CLIP, tmp_path: Path) -> None:
    for other in ({"weight": torch.zeros(1)}, [torch.zeros(1)], {"prompt_learner": 3}):
        torch.save(other, tmp_path / "a.pth")
        with pytest.raises(ZsadError, match=r"not a (released|checkpoint of)"):
            convert(tmp_path / "a.pth", name, l14)
        with pytest.raises(ZsadError, match=r"not a (released|checkpoint of)"):
            left_out(tmp_path / "a.pth", name)


def test_what_the_file_tells_is_overridden_by_the_caller(l14: CLIP, tmp_path: Path) -> None:
    torch.save(visualad_layout(1024, rows=64, layers=(8, 24)), tmp_path / "a.pth")
    made = convert(tmp_path / "a.pth", "visualad", l14, dropout=0.0)
    assert (made.config.layers, made.config.position_length, made.config.dropout) == ((8, 24), 64, 0.0)


# Crane's own files


@needs_real
def test_crane_s_own_file_is_recognised_and_converted_to_the_last_bit(l14: CLIP) -> None:
    row = recognised(CRANE)
    assert row is not None and row.name == "crane/mvtec"
    assert row.file.size == CRANE.stat().st_size
    state = torch.load(CRANE, map_location="cpu", weights_only=True)["prompt_learner"]
    made = convert(CRANE, "crane", l14)
    assert not made.config.guide
    assert torch.equal(made.normal_context, state["ctx_pos"][0, 0])
    assert torch.equal(made.anomalous_context, state["ctx_neg"][0, 0])
    for i in range(8):
        assert torch.equal(made.deep.sets[i], state[f"compound_prompts_text.{i}"])
    assert set(left_out(CRANE, "crane")) == UNUSED["crane"]


@needs_real
def test_crane_plus_is_converted_with_the_switches_of_its_test_and_the_caller_s(
    l14: CLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(crane, "load", lambda name, device: asked.append(name) or l14)
    made = convert(CRANE_PLUS, "crane", l14)
    assert (made.config.layers, made.config.soft_mean, asked) == ((24,), False, ["dinov2-b-14-reg"])
    other = convert(CRANE_PLUS, "crane", l14, guide="", soft_mean=True)
    assert (other.config.guide, other.config.soft_mean, len(asked)) == ("", True, 1)


@needs_real
def test_a_published_file_under_another_name_still_tells_method_and_backbone(l14: CLIP) -> None:
    assert belongs_to(CRANE) == "crane"
    with pytest.raises(ZsadError, match="belongs to crane, not to anomalyclip"):
        convert(CRANE, "anomalyclip", l14)
    with pytest.raises(ZsadError, match="trained on clip-vit-l-14-336, not on tiny"):
        convert(CRANE, "crane", weights.load("tiny"))


# The table


def test_every_row_can_be_checked_and_is_pinned_to_a_commit() -> None:
    for row in RELEASED.values():
        known = [value for value in (row.file.sha256, row.blob) if value]
        assert known and all(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", value) for value in known)
        assert re.search(r"/[0-9a-f]{40}/.*\.pth$", row.file.url)
        assert BACKBONES[row.backbone].text


def test_every_row_has_a_method_and_switches_that_it_knows() -> None:
    assert {row.method for row in RELEASED.values()} == set(LAYOUTS)
    for row in RELEASED.values():
        make_config(method_class(row.method), dict(row.switches))


def test_the_listing_shows_all_of_every_row() -> None:
    listed = runner.invoke(cli.app, ["weights", "list"]).output
    for row in RELEASED.values():
        (line,) = (line for line in listed.splitlines() if line.split()[:1] == [row.name] and "http" not in line)
        shown = [row.backbone, row.trained_on, row.licence, row.reproduces, (row.file.sha256 or row.blob or "")[:12]]
        assert all(part in line for part in shown)
        assert not row.file.size or f" {row.file.size / 1e6:.1f} " in line
        assert row.file.url in listed


def test_a_method_that_nothing_was_published_for_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "afrclip", "zsad.methods.afrclip:AFRCLIP")
    with pytest.raises(ZsadError, match=r"none were published for afrclip; `zsad train --method afrclip`"):
        zsad.load("afrclip", weights="afrclip/mvtec")


# From an address to a prediction


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A server on this machine, an empty cache, and no published checkpoint but those that a test adds."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "cache"))
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.asked, running.cuts = {}, [], 0
    Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def publish(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Released]:
    """Serves a small file of a layout and makes a row of it, known by its SHA-256, by git's SHA-1 ("blob") or both."""

    def add(method: str, *layout: Any, known: tuple[str, ...] = ("sha256", "blob"), **switches: Any) -> Released:
        path = tmp_path / "published.pth"
        torch.save(LAYOUTS[method](*layout), path)
        server.files["/epoch_5.pth"] = path.read_bytes()
        sha256, blob = hashes(path)
        sha256, blob = sha256 if "sha256" in known else None, blob if "blob" in known else None
        file = UrlFile(f"http://127.0.0.1:{server.server_port}/epoch_5.pth", sha256, path.stat().st_size)
        row = Released(f"{method}/here", file, blob, "nothing", "tiny", "MIT", "nothing", switches)
        monkeypatch.setitem(RELEASED, row.name, row)
        return row

    return add


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(synthetic.render("marble", "crack", 3, 64).image).save(folder / "a.png")
    return folder


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*.pth*"))


SMALL = {
    "anomalyclip": (128, 3),
    "crane": (128, 3),
    "vip2clip": (128, 16),
    "visualad": (256, 64),
    "adaclip": (128, 256),
}


@pytest.mark.parametrize("method", SMALL)
def test_a_published_name_is_all_that_a_prediction_needs(
    method: str, publish: Callable[..., Released], server: ThreadingHTTPServer, photographs: Path, tmp_path: Path
) -> None:
    publish(method, *SMALL[method], sigma=2.0)
    words = ["predict", photographs, "--weights", f"{method}/here", "--out", tmp_path / "r", "--no-overlays"]
    done = runner.invoke(cli.app, [*map(str, words), "--size", "64", "--device", "cpu"])
    assert done.exit_code == 0, done.exception
    (line,) = (tmp_path / "r" / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["score"] is not None
    assert zsad.load(weights=f"{method}/here").config.sigma == 2.0
    assert len(server.asked) == 1


def test_the_name_must_not_contradict_the_method_and_nothing_is_downloaded_then(
    publish: Callable[..., Released], server: ThreadingHTTPServer
) -> None:
    publish("crane", 128, 3)
    assert zsad.load("crane", weights="crane/here").name == "crane"
    server.asked.clear()
    with pytest.raises(ZsadError, match="crane/here belongs to crane, not to vip2clip; say --method crane"):
        zsad.load("vip2clip", weights="crane/here")
    assert not server.asked


@pytest.mark.parametrize("known", [("sha256",), ("blob",), ("sha256", "blob")])
def test_other_content_than_the_published_is_named_removed_and_not_used(
    known: tuple[str, ...], publish: Callable[..., Released], server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    row = publish("crane", 128, 3, known=known)
    other = server.files["/epoch_5.pth"][:-1] + b" "
    server.files["/epoch_5.pth"] = other
    with pytest.raises(
        ZsadError, match=rf"(?s){row.file.url}.*expected {row.file.sha256 or row.blob}.*removed"
    ) as told:
        zsad.load(weights="crane/here")
    blob = hashlib.sha1(b"blob %d\0" % len(other) + other).hexdigest()
    assert (hashlib.sha256(other).hexdigest() if row.file.sha256 else blob) in str(told.value)
    assert not cached(tmp_path)


def test_a_cut_connection_is_taken_up_where_it_was_cut(
    publish: Callable[..., Released], server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    row = publish("crane", 128, 3)
    server.cuts = 3
    with pytest.raises(ZsadError, match="the connection was cut after"):
        zsad.load(weights="crane/here")
    assert cached(tmp_path) == ["epoch_5.pth.part"]
    assert zsad.load(weights="crane/here").name == "crane"
    assert cached(tmp_path) == ["epoch_5.pth"]
    half, rest = row.file.size // 2, row.file.size - row.file.size // 2
    assert [asked[2] for asked in server.asked[:3]] == [None, f"bytes={half}-", f"bytes={half + rest // 2}-"]
    assert len(server.asked) == 4


def test_a_file_that_is_there_needs_no_network_and_one_that_is_not_says_what_to_do(
    publish: Callable[..., Released], server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish("crane", 128, 3)
    zsad.load(weights="crane/here")
    server.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert zsad.load(weights="crane/here").name == "crane"
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "other"))
    with pytest.raises(ZsadError, match=r"(?s)offline.*give it with --weights PATH"):
        zsad.load(weights="crane/here")
    assert not server.asked


def test_a_copy_given_as_a_path_has_the_row_s_switches_without_method(
    publish: Callable[..., Released], tmp_path: Path
) -> None:
    publish("crane", 128, 3, layers=(24,))
    found = zsad.load(weights=tmp_path / "published.pth")
    assert (found.name, found.config.layers) == ("crane", (24,))


def test_convert_takes_a_file_or_a_name_says_what_it_left_out_and_keeps_switches(
    publish: Callable[..., Released], tmp_path: Path
) -> None:
    publish("crane", 128, 3, layers=(24,), sigma=2.0)
    for given in ("crane/here", str(tmp_path / "published.pth")):
        to = str(tmp_path / "own.safetensors")
        words = ["weights", "convert", given, "--out", to, "--backbone", "tiny", "--set", "sigma=1"]
        done = runner.invoke(cli.app, words)
        assert done.exit_code == 0, done.exception
        assert "token_prefix_pos" in done.output
        assert "crane: 5 tensors taken" in done.output
        kept = zsad.load(weights=to)
        assert (kept.config.layers, kept.config.sigma) == ((24,), 1.0)
        Path(to).unlink()


def test_convert_without_the_backbone_says_that_it_needs_it(
    publish: Callable[..., Released], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("crane", 128, 3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.save(crane_layout(128, 2), tmp_path / "a.pth")
    words = ["weights", "convert", tmp_path / "a.pth", "--method", "crane", "--out", tmp_path / "b.safetensors"]
    done = runner.invoke(cli.app, list(map(str, words)))
    assert isinstance(done.exception, ZsadError)
    assert re.search(r"needs its backbone.*no weights for clip-vit-l-14-336", str(done.exception), re.DOTALL)


@pytest.mark.parametrize(
    ("method", "checkpoint"),
    [
        ("crane", {"prompt_learner": {}}),
        ("anomalyclip", {"prompt_learner": {"ctx_pos": torch.zeros(1, 2, 12, 8), "ctx_neg": 3}}),
        ("visualad", {"features_list": 5}),
        ("vip2clip", {"prompt_learner": {}, "Zero_try": {}}),
        ("aprilgan", {"trainable_linearlayer": {"fc.0.weight": 3}}),
        ("clipad", {"linear_layers": {"fc.0.weight": 3}}),
        ("adaclip", {"clip_model.cls_token_layer.head.0.weight": 3}),
        ("adaclip", {}),
    ],
)
def test_a_damaged_checkpoint_is_an_error_and_not_a_traceback(method: str, checkpoint: object, tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "damaged.pth")
    with pytest.raises(ZsadError):
        convert(tmp_path / "damaged.pth", method, weights.load("tiny"))


def test_a_checkpoint_of_zsad_needs_no_conversion(tmp_path: Path) -> None:
    with pytest.raises(ZsadError, match="already"):
        left_out(tmp_path / "own.safetensors", "crane")
