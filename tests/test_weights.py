"""Weights from every published form, tokenizers, and the registry."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from zsad.backbones.clip import OPENAI, OPENAI_MEAN
from zsad.backbones.files import read_tensors
from zsad.backbones.registry import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, UrlFile, backbone
from zsad.backbones.tokenizer import END, START, Tokenizer, clip_tokenizer_from_merges
from zsad.backbones.weights import load
from zsad.errors import ZsadError

PARITY = Path(__file__).parents[2] / "shared" / "parity"
MERGES = PARITY / "bpe_simple_vocab_16e6.txt.gz"
needs_merges = pytest.mark.skipif(not MERGES.is_file(), reason="CLIP's published merges are not on this machine")
CONFIG = {
    "vision_config": {"num_attention_heads": 2, "hidden_act": "quick_gelu"},
    "text_config": {"num_attention_heads": 1, "hidden_act": "quick_gelu"},
}


def openai_state(depth: int = 2) -> dict[str, Tensor]:
    """A CLIP of image width 128, text width 64, patch 4 and grid 2 under OpenAI's names, exact in half precision."""
    shapes = {
        "visual.conv1.weight": (128, 3, 4, 4),
        "visual.class_embedding": (128,),
        "visual.positional_embedding": (5, 128),
        "visual.proj": (128, 32),
        "token_embedding.weight": (10, 64),
        "positional_embedding": (16, 64),
        "text_projection": (64, 32),
        "logit_scale": (),
    }
    shapes |= {f"{name}.{end}": (128,) for name in ("visual.ln_pre", "visual.ln_post") for end in ("weight", "bias")}
    shapes |= {f"ln_final.{end}": (64,) for end in ("weight", "bias")}
    for tower, width in (("visual.transformer", 128), ("transformer", 64)):
        linear = {"attn.out_proj": (width, width), "mlp.c_fc": (96, width), "mlp.c_proj": (width, 96)}
        block = {f"{name}.weight": shape for name, shape in linear.items()}
        block |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
        block |= {f"{name}.{end}": (width,) for name in ("ln_1", "ln_2") for end in ("weight", "bias")}
        block |= {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{tower}.resblocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).half().float() for name, shape in shapes.items()}


def hugging_face_state() -> dict[str, Tensor]:
    """The same under the names of a CLIPModel."""
    state = {}
    for name, tensor in openai_state().items():
        name = re.sub(r"^visual\.transformer\.resblocks", "vision_model.encoder.layers", name)
        name = re.sub(r"^transformer\.resblocks", "text_model.encoder.layers", name)
        name = re.sub(r"\.ln_([12])", r".layer_norm\1", name).replace("attn.out_proj", "self_attn.out_proj")
        name = name.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2")
        if found := re.match(r"(.*)\.attn\.in_proj_(weight|bias)$", name):
            for part, values in zip("qkv", tensor.chunk(3), strict=True):
                state[f"{found[1]}.self_attn.{part}_proj.{found[2]}"] = values.clone()
        else:
            state[HF_NAMES.get(name, name)] = tensor.T.contiguous() if name in TRANSPOSED else tensor
    return state


TRANSPOSED = ("visual.proj", "text_projection")
HF_NAMES = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}


def dinov2_state() -> dict[str, Tensor]:
    """A DINOv2 of width 64, one block, patch 4 and grid 2 under the names of its hub file."""
    shapes = {"cls_token": (1, 1, 64), "pos_embed": (1, 5, 64), "mask_token": (1, 64)}
    shapes |= {"patch_embed.proj.weight": (64, 3, 4, 4), "patch_embed.proj.bias": (64,)}
    shapes |= {f"{name}.{end}": (64,) for name in ("norm", "blocks.0.norm1") for end in ("weight", "bias")}
    shapes |= {f"blocks.0.norm2.{end}": (64,) for end in ("weight", "bias")}
    linear = {"attn.qkv": (192, 64), "attn.proj": (64, 64), "mlp.fc1": (96, 64), "mlp.fc2": (64, 96)}
    shapes |= {f"blocks.0.{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"blocks.0.{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {"blocks.0.ls1.gamma": (64,), "blocks.0.ls2.gamma": (64,)}
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def torchscript(state: dict[str, Tensor], path: Path) -> Path:
    """An archive like OpenAI's: half precision, with what describes the model among the tensors."""
    root = nn.Module()
    for name, tensor in {**state, "input_resolution": torch.tensor(8), "vocab_size": torch.tensor(10)}.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        if tensor.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(tensor.half()))
        else:
            module.register_buffer(leaf, tensor)
    torch.jit.script(root).save(str(path))
    return path


def write_tokenizer(folder: Path, length: int = 0) -> None:
    """Nine words and one for the rest; with a length, one that pads and cuts to it as some published files do."""
    words = {word: i for i, word in enumerate(["a", "good", "bad", "object", "[UNK]", "x", "y", "z", START, END])}
    encoder = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if length:
        encoder.enable_padding(length=length)
        encoder.enable_truncation(length)
    encoder.save(str(folder / "tokenizer.json"))


FORMS = (
    "openai-torchscript",
    "openai-state-dict",
    "open_clip-safetensors",
    "open_clip-training-checkpoint",
    "open_clip-folder",
    "hugging-face-safetensors",
    "hugging-face-bin",
    "hugging-face-shards",
)


def write(form: str, folder: Path) -> Path:
    """One backbone in a published form; the path to give to `load`."""
    write_tokenizer(folder)
    if form.startswith("hugging-face"):
        return write_hugging_face(form, folder)
    state = openai_state()
    if form == "openai-torchscript":
        return torchscript(state, folder / "ViT-L-14.pt")
    if form == "openai-state-dict":
        torch.save(state, folder / "ViT-L-14.pt")
    elif form == "open_clip-safetensors":
        save_file(state, folder / "ViT-B-32-quickgelu.safetensors")
    elif form == "open_clip-training-checkpoint":
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": wrapped}, folder / "quickgelu_epoch_3.pt")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
        return folder
    return next(path for path in folder.iterdir() if path.suffix in (".pt", ".safetensors"))


def write_hugging_face(form: str, folder: Path) -> Path:
    state = hugging_face_state()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    if form == "hugging-face-safetensors":
        save_file(state, folder / "model.safetensors")
    elif form == "hugging-face-bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names = sorted(state)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, part in shards.items():
            save_file({name: state[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_backbone(form: str, tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "form").mkdir()
    reference = load(write("hugging-face-safetensors", tmp_path / "reference"))
    model = load(write(form, tmp_path / "form"))
    assert (model.visual.size, model.text.size) == (reference.visual.size, reference.text.size)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    assert model.tokenizer.ids("a good object") == [8, 0, 1, 3, 9]


def test_a_loaded_backbone_is_frozen_float32_and_in_eval_mode(tmp_path: Path) -> None:
    model = load(write("openai-torchscript", tmp_path))
    assert not model.training
    assert {(p.requires_grad, p.dtype) for p in model.parameters()} == {(False, torch.float32)}


def test_a_dinov2_has_no_text_and_imagenet_normalisation(tmp_path: Path) -> None:
    torch.save(dinov2_state(), tmp_path / "dinov2_vits14_pretrain.pth")
    model = load(tmp_path / "dinov2_vits14_pretrain.pth")
    assert (model.text, model.tokenizer) == (None, None)
    assert (model.mean, model.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_name_and_digest_come_from_the_file(tmp_path: Path) -> None:
    path = write("openai-state-dict", tmp_path)
    model = load(str(path))
    assert (model.name, model.digest) == ("ViT-L-14", hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_digest_of_shards_is_that_of_their_joined_contents(tmp_path: Path) -> None:
    folder = write("hugging-face-shards", tmp_path)
    joined = (folder / "a.safetensors").read_bytes() + (folder / "b.safetensors").read_bytes()
    assert load(folder).digest == hashlib.sha256(joined).hexdigest()


@pytest.mark.parametrize(
    ("file", "activation"),
    [
        ("ViT-B-32.pt", "quick_gelu"),
        ("ViT-L-14-336px.pt", "quick_gelu"),
        ("ViT-B-32-laion2b.pt", "gelu"),
        ("vit_b_32-quickgelu-laion400m.pt", "quick_gelu"),
        ("vit_l_14_openai.bin", "quick_gelu"),
        ("open_clip_pytorch_model.bin", "gelu"),
    ],
)
def test_the_activation_of_a_state_dict_is_told_by_its_name(file: str, activation: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    torch.save(openai_state(), tmp_path / file)
    model = load(tmp_path / file)
    assert (model.visual.size.activation, model.text.size.activation) == (activation, activation)


def test_a_given_activation_goes_before_everything_else(tmp_path: Path) -> None:
    model = load(write("hugging-face-safetensors", tmp_path), activation="gelu")
    assert (model.visual.size.activation, model.text.size.activation) == ("gelu", "gelu")


def test_normalisation_beside_the_weights_is_used(tmp_path: Path) -> None:
    folder = write("hugging-face-safetensors", tmp_path)
    assert load(folder).mean == OPENAI_MEAN
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 2, 3]})
    )
    model = load(folder)
    assert (model.mean, model.std) == ((0.5, 0.4, 0.3), (1, 2, 3))


# --- files that are not what they should be --------------------------------------------------------------------------


class Touch:
    """A pickle that would create a file when it is run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("archive", [False, True])
def test_code_in_a_file_is_refused_and_not_run(archive: bool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = tmp_path / "bad.pt"
    torch.save({"visual.conv1.weight": Touch(str(victim))}, path)
    if archive:  # made to look like TorchScript
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("bad/constants.pkl", b"")
    with pytest.raises(ZsadError, match="cannot be read as weights"):
        load(path)
    assert not victim.exists()


def test_a_torchscript_archive_gives_what_torch_reads_from_it(tmp_path: Path) -> None:
    path = torchscript(openai_state(), tmp_path / "a.pt")
    expected = torch.jit.load(str(path)).state_dict()
    found = read_tensors(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_cut_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    for form in ("openai-torchscript", "openai-state-dict", "open_clip-safetensors"):
        (tmp_path / form).mkdir()
        path = write(form, tmp_path / form)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(ZsadError, match="cannot be read as weights"):
            load(path)


def test_a_file_of_another_model_is_an_error_that_lists_the_known_kinds(tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.ones(2)}, tmp_path / "resnet.pt")
    with pytest.raises(ZsadError, match=re.escape(OPENAI.kind)):
        load(tmp_path / "resnet.pt")


def test_a_file_without_tensors_is_an_error(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(ZsadError, match="no table of tensors"):
        load(tmp_path / "a.pt")


def test_an_absent_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write("hugging-face-shards", tmp_path)
    (folder / "b.safetensors").unlink()
    with pytest.raises(ZsadError, match=r"absent: b\.safetensors"):
        load(folder)


def test_an_absent_path_and_an_unknown_name_are_errors_that_say_where_to_look(tmp_path: Path) -> None:
    for source in (tmp_path / "none.pt", "weights/none.pt", str(tmp_path)):
        with pytest.raises(ZsadError, match=r"no file or folder|no weights in"):
            load(source)
    with pytest.raises(ZsadError, match='did you mean "clip-vit-l-14-336"'):
        load("clip-vit-l-14-366")


# --- tokenizers ------------------------------------------------------------------------------------------------------


def test_a_clip_without_tokenizer_is_an_error_that_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path / "home"))
    path = write("openai-state-dict", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ZsadError, match=r"Put tokenizer\.json or bpe_simple_vocab_16e6\.txt\.gz beside"):
        load(path)


def test_padding_and_truncation_in_a_tokenizer_file_are_ignored(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, length=3)
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer.ids("good") == [8, 1, 9]
    assert tokenizer.ids("a good bad object") == [8, 0, 1, 2, 3, 9]


def test_merges_that_are_not_openais_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "merges.gz"
    for content in (b"no gzip", gzip.compress(b"#version\na b\n"), gzip.compress(b"#version\na b c\n")):
        path.write_bytes(content)
        with pytest.raises(ZsadError, match="openai/CLIP"):
            clip_tokenizer_from_merges(path)


SENTENCES = (
    "a photo of a damaged metal nut.",
    "X X X X X X X X X X X X object.",
    "It's 3.14% of 1,000; they'd've \"cracked\" it!!",
    "naïve café, Straße, ΣΑΣ, İstanbul, e\u0301",
    "日本語 한국어 русский 😀👍🏽 ½²",
    "tabs\tand\nlines  and   spaces",
    "<|startoftext|>inside<|endoftext|>",
    "'s't're",
    "",
)


@needs_merges
def test_the_tokenizer_from_merges_equals_transformers() -> None:
    tokenizer = clip_tokenizer_from_merges(MERGES)
    lines = gzip.decompress(MERGES.read_bytes()).decode().split("\n")[1:48895]
    theirs = CLIPTokenizer(vocab=tokenizer.encoder.get_vocab(), merges=[tuple(line.split()) for line in lines])
    for sentence in SENTENCES:
        assert tokenizer.ids(sentence) == theirs(sentence)["input_ids"], sentence


@needs_merges
def test_the_tokenizer_from_merges_gives_the_token_ids_of_the_released_anomalyclip() -> None:
    stored = np.load(PARITY / "anomalyclip.npz")
    ids, end = clip_tokenizer_from_merges(MERGES)(["X " * 12 + "object.", "X " * 12 + "damaged object."])
    for row, name, last in zip(ids, ("tokens/normal", "tokens/abnormal"), end, strict=True):
        assert row[: last + 1].tolist() == stored[name].ravel()[: last + 1].tolist()
        assert stored[name].ravel().argmax() == last


# --- registry --------------------------------------------------------------------------------------------------------


def test_the_registry_has_every_backbone_of_the_plan() -> None:
    clips = {f"clip-vit-{size}" for size in ("b-32", "b-16", "l-14", "l-14-336")}
    clips |= {f"clip-vit-b-16-plus-240{epoch}" for epoch in ("", "-e31")}
    dinos = {f"dinov2-{size}-14{registers}" for size in "sblg" for registers in ("", "-reg")}
    assert set(BACKBONES) == {"tiny", *clips, *dinos, "dino-b-8"}


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"tiny"}))
def test_rows_are_pinned_and_well_formed(name: str) -> None:
    row = backbone(name)
    sources = [source for source in (row.hub, row.url) if source]
    assert sources
    assert all(source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256) for source in sources)
    assert row.hub is None or re.fullmatch("[0-9a-f]{40}", row.hub.revision)
    assert row.url is None or row.url.url.startswith("https://")


def test_a_row_is_loaded_with_its_own_name_and_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSAD_HOME", str(tmp_path))
    url = UrlFile("https://example.org/model.pth")
    some = Backbone("some", None, url, "MIT", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "gelu")
    monkeypatch.setitem(BACKBONES, "some", some)
    (tmp_path / "some").mkdir()
    torch.save(dinov2_state(), tmp_path / "some" / "model.pth")
    model = load("some", offline=True)
    assert (model.name, model.mean, model.std) == ("some", some.mean, some.std)
    assert model.digest == hashlib.sha256((tmp_path / "some" / "model.pth").read_bytes()).hexdigest()
