"""The open Transformer against Hugging Face's own models, on random weights, in float32.

Tolerance 1e-5: both sides compute the same sums in another order. Weights are large enough that a wrong activation,
number of heads or resize of the positions moves the numbers by more than 1e-3.
"""

from __future__ import annotations

import re

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import resize_positions, walk
from zsad.backbones.weights import from_tensors
from zsad.errors import ZsadError

VISION = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
WORDS = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 1}
DINO = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SIZES = {"trained": (32, 32), "larger": (48, 40), "smaller": (16, 24)}
LAYERS = (1, 2, 3)


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter drawn so that activations stay near 1 and no tensor is without effect."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if re.search(r"(norm|norm1|norm2|lambda1)(\.weight)?$", name):
            values = 1 + 0.3 * values
        elif re.search(r"(proj|projection|fc1|fc2|weights_in|weights_out)\.weight$", name):
            values = values * parameter[0].numel() ** -0.5
        parameter.data.copy_(values if "norm" in name or values.ndim > 1 else 0.4 * values)
    return model.eval().requires_grad_(False)


def clip_model(activation: str = "quick_gelu", heads: int = 2) -> nn.Module:
    vision = {**VISION, "image_size": 32, "patch_size": 8, "hidden_act": activation, "num_attention_heads": heads}
    words = {**WORDS, "vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98, "hidden_act": activation}
    return randomised(hf.CLIPModel(hf.CLIPConfig(text_config=words, vision_config=vision, projection_dim=40)))


def dino_model(kind: str) -> nn.Module:
    gated = "swiglu" in kind
    if "registers" in kind:
        config = hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=3, use_swiglu_ffn=gated)
        return randomised(hf.Dinov2WithRegistersModel(config))
    return randomised(hf.Dinov2Model(hf.Dinov2Config(**DINO, use_swiglu_ffn=gated)))


def published(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors under the names of its files; newer versions of transformers rename some in memory."""
    state = dict(model.state_dict())
    if isinstance(model, hf.CLIPModel):
        return state
    new = {
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "o_proj": "output.dense",
    }
    for short, long in new.items():
        state = {name.replace(f"attention.{short}", f"attention.{long}"): tensor for name, tensor in state.items()}
    for name in [name for name in state if "mlp.gate_proj" in name]:
        gate, up = state.pop(name), state.pop(name.replace("gate_proj", "up_proj"))
        state[name.replace("gate_proj", "weights_in")] = torch.cat([gate, up])
    return {name.replace("down_proj", "weights_out"): tensor for name, tensor in state.items()}


def pack(state: dict[str, Tensor], query: str, key: str, value: str, packed: str) -> dict[str, Tensor]:
    """Separate q, k and v joined under one name."""
    for name in [name for name in state if query in name]:
        parts = [state.pop(name.replace(query, part)) for part in (query, key, value)]
        state[name.replace(query, packed)] = torch.cat(parts)
    return state


def renamed(state: dict[str, Tensor], *rules: tuple[str, str]) -> dict[str, Tensor]:
    for pattern, replacement in rules:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return state


def openai_names(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a CLIPModel as OpenAI's files name them."""
    state = pack(published(model), "self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj.", "attn.in_proj_")
    for name in ("visual_projection.weight", "text_projection.weight"):
        state[name] = state[name].T.contiguous()
    return renamed(
        state,
        (r"^vision_model\.encoder\.layers", "visual.transformer.resblocks"),
        (r"^text_model\.encoder\.layers", "transformer.resblocks"),
        (r"self_attn\.out_proj", "attn.out_proj"),
        (r"layer_norm([12])", r"ln_\1"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        (r"^vision_model\.pre_layrnorm", "visual.ln_pre"),
        (r"^vision_model\.post_layernorm", "visual.ln_post"),
        (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
        (r"^vision_model\.embeddings\.patch_embedding", "visual.conv1"),
        (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
        (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
        (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
        (r"^text_model\.final_layer_norm", "ln_final"),
        (r"^visual_projection\.weight", "visual.proj"),
        (r"^text_projection\.weight", "text_projection"),
    )


def hub_names(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a Dinov2Model as facebookresearch/dinov2 names them."""
    attention = "attention.attention"
    parts = (f"{attention}.query", f"{attention}.key", f"{attention}.value")
    return renamed(
        pack(published(model), *parts, "attn.qkv"),
        (r"^encoder\.layer\.", "blocks."),
        (r"attention\.output\.dense", "attn.proj"),
        (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
        (r"mlp\.weights_in", "mlp.w12"),
        (r"mlp\.weights_out", "mlp.w3"),
        (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^embeddings\.position_embeddings", "pos_embed"),
        (r"^embeddings\.", ""),
        (r"^layernorm", "norm"),
    )


def ours(model: nn.Module) -> CLIP:
    return from_tensors(published(model), model.config.to_dict()).eval()


def image(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def sentences() -> tuple[Tensor, Tensor]:
    """Three rows of token ids whose END, 98, stands at another place each."""
    ids = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(2))
    end = torch.tensor([4, 11, 7])
    ids[torch.arange(3), end] = 98
    return ids, end


def assert_same_image_tokens(visual: nn.Module, pixels: Tensor, states: tuple[Tensor, ...], resize: str) -> Tensor:
    x = visual.embed(pixels, resize=resize)
    same(x, states[0])
    last, taps = walk(visual.blocks, x, taps=LAYERS)
    for i in LAYERS:
        same(taps[i], states[i])
    return last


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("activation", "heads"), [("quick_gelu", 2), ("gelu", 8)])
def test_clip_image_tower_equals_transformers(activation: str, heads: int, size: str) -> None:
    theirs, pixels = clip_model(activation, heads), image(SIZES[size])
    expected = theirs.vision_model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
    visual = ours(theirs).visual
    last = assert_same_image_tokens(visual, pixels, expected.hidden_states, "bicubic")
    same(visual.head(last[:, 0]), theirs.visual_projection(expected.pooler_output))


def test_clip_text_tower_equals_transformers() -> None:
    theirs, (ids, end) = clip_model(), sentences()
    expected = theirs.text_model(ids, output_hidden_states=True)
    text = ours(theirs).text
    _, taps = text.walk(text.token_embedding(ids), taps=LAYERS)
    for i in LAYERS:
        same(taps[i], expected.hidden_states[i])
    same(text(ids, end), theirs.text_projection(expected.pooler_output))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["plain", "swiglu", "registers", "registers-swiglu"])
def test_dinov2_equals_transformers(kind: str, size: str) -> None:
    theirs, pixels = dino_model(kind), image(SIZES[size])
    expected = theirs(pixels, output_hidden_states=True)
    visual = ours(theirs).visual
    resize = "bicubic_antialias" if "registers" in kind else "bicubic"
    last = assert_same_image_tokens(visual, pixels, expected.hidden_states, resize)
    same(visual.head(last), expected.last_hidden_state)
    same(visual.head(last[:, 0]), expected.pooler_output)


@pytest.mark.parametrize("wrapping", ["", "module.", "text."])
def test_openai_names_give_the_same_backbone_as_hugging_face_names(wrapping: str) -> None:
    theirs, (ids, end) = clip_model(), sentences()
    text = ("transformer.", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    state = {
        (wrapping if wrapping == "module." or name.startswith(text) else "") + name: tensor
        for name, tensor in openai_names(theirs).items()
    }
    model, reference, pixels = from_tensors(state), ours(theirs), image((48, 40))
    assert model.visual.size == reference.visual.size
    assert torch.equal(model.visual.embed(pixels), reference.visual.embed(pixels))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    assert torch.equal(model.text(ids, end), reference.text(ids, end))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", ["plain", "swiglu", "registers", "registers-swiglu"])
def test_hub_names_give_the_same_backbone_as_hugging_face_names(kind: str, chunked: bool) -> None:
    theirs = dino_model(kind)
    state = hub_names(theirs)
    if chunked:  # as saved with block_chunks: a chunk's blocks keep their own numbers
        state = renamed(state, (r"^blocks\.0\.", "blocks.0.0."), (r"^blocks\.([12])\.(?!0\.)", r"blocks.1.\1."))
    model, reference = from_tensors(state), ours(theirs)
    assert model.visual.size == reference.visual.size
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))


def test_dinov2_resizes_positions_as_its_own_code_does_by_default() -> None:
    sizes = {kind: ours(dino_model(kind)).visual.size.resize for kind in ("plain", "registers")}
    assert sizes == {"plain": "dinov2", "registers": "bicubic_antialias"}


#: Column 0..9 and its square, divided by 10, on 3 x 3 patches, brought to 5 x 2 by `interpolate_pos_encoding` of
#: facebookresearch/dinov2 b8931f7b: with the offset of 0.1, and with antialias and no offset.
HUB_POSITIONS = {
    "dinov2": [0.0871, 0.2429, 0.2065, 0.3623, 0.4033, 0.5590, 0.6106, 0.7664, 0.7404, 0.8961],
    "bicubic_antialias": [0.1083, 0.2464, 0.2228, 0.3608, 0.4310, 0.5690, 0.6392, 0.7772, 0.7536, 0.8917],
}


@pytest.mark.parametrize("mode", HUB_POSITIONS)
def test_positions_are_resized_as_in_the_dinov2_repository(mode: str) -> None:
    positions = torch.arange(10.0).unsqueeze(1) / 10
    resized = resize_positions(positions, (5, 2), mode).squeeze(1)
    torch.testing.assert_close(resized, torch.tensor([0.0, *HUB_POSITIONS[mode]]), atol=6e-5, rtol=0)


def test_sizes_come_from_the_tensors() -> None:
    model = from_tensors(openai_names(clip_model()))
    image_size, text_size = model.visual.size, model.text.size
    assert (image_size.width, image_size.depth, image_size.heads) == (128, 3, 2)
    assert (image_size.patch, image_size.grid, image_size.hidden, image_size.output) == (8, 4, 96, 40)
    assert (text_size.width, text_size.depth, text_size.heads, text_size.hidden) == (64, 3, 1, 80)
    assert (text_size.vocabulary, text_size.context, text_size.output) == (99, 77, 40)


def test_heads_activation_and_eps_come_from_the_config() -> None:
    config = {**clip_model().config.to_dict()}
    config["vision_config"] = {"num_attention_heads": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-3}
    size = from_tensors(published(clip_model()), config).visual.size
    assert (size.heads, size.activation, size.eps) == (4, "gelu", 1e-3)


def test_half_precision_becomes_float32() -> None:
    state = {name: tensor.half() for name, tensor in openai_names(clip_model()).items()}
    assert {parameter.dtype for parameter in from_tensors(state).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "name", ["input_resolution", "context_length", "vocab_size", "attn_mask", "transformer.resblocks.1.attn_mask"]
)
def test_known_unneeded_tensors_are_dropped(name: str) -> None:
    from_tensors({**openai_names(clip_model()), name: torch.ones(2)})


def test_position_ids_of_old_hugging_face_files_are_dropped() -> None:
    model = clip_model()
    ids = {f"{tower}.embeddings.position_ids": torch.arange(3) for tower in ("vision_model", "text_model")}
    from_tensors({**published(model), **ids}, model.config.to_dict())


@pytest.mark.parametrize("names", ["openai", "hf-clip", "hub", "hf-dinov2"])
def test_every_missing_tensor_is_an_error_that_names_it(names: str) -> None:
    model = clip_model() if "clip" in names or names == "openai" else dino_model("plain")
    state = {"openai": openai_names, "hub": hub_names}.get(names, published)(model)
    unneeded = {"mask_token", "embeddings.mask_token"}
    for name in set(state) - unneeded:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        with pytest.raises(ZsadError, match=re.escape(name) if not _marks(name) else "Expected one of"):
            from_tensors(rest, model.config.to_dict() if names.startswith("hf") else None)


def _marks(name: str) -> bool:
    """Tensors by which a kind of file is recognised; without them it is no known kind at all."""
    markers = "visual.conv1.weight", "vision_model.embeddings.class_embedding", "cls_token", "embeddings.cls_token"
    return name in markers


def test_of_a_packed_tensor_only_the_missing_part_is_named() -> None:
    model = clip_model()
    state = published(model)
    del state["vision_model.encoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(ZsadError, match=r"missing \(1\): vision_model\.encoder\.layers\.1\.self_attn\.k_proj\.bias"):
        from_tensors(state, model.config.to_dict())


def test_leftover_tensors_are_an_error_that_names_five() -> None:
    extra = {f"adapter.{letter}": torch.ones(2) for letter in "abcdefg"}
    with pytest.raises(ZsadError, match=r"not expected \(7\): adapter\.a, .*adapter\.e, \.\.\."):
        from_tensors({**openai_names(clip_model()), **extra})


def test_a_tensor_of_another_shape_is_an_error_that_shows_both() -> None:
    state = openai_names(clip_model())
    state["visual.ln_post.weight"] = torch.ones(96)
    with pytest.raises(ZsadError, match=r"visual\.ln_post\.weight \(96,\) instead of \(128,\)"):
        from_tensors(state)


def test_hugging_face_names_without_config_are_an_error() -> None:
    with pytest.raises(ZsadError, match=r"no config\.json"):
        from_tensors(published(clip_model()))


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(ZsadError, match='did you mean "gelu"'):
        from_tensors(openai_names(clip_model()), activation="gelu_new")


def test_towers_with_another_activation_share_every_tensor_and_leave_the_first_ones_alone() -> None:
    towers = weights.load("tiny")
    other, images = towers.acting("quick_gelu"), torch.randn(1, 3, 32, 32)
    before = towers.visual.head(walk(towers.visual.blocks, towers.visual.embed(images))[0])
    assert towers.acting("gelu") is towers and towers.acting("") is towers
    assert {id(p) for p in other.parameters()} == {id(p) for p in towers.parameters()}
    assert (other.name, other.digest, other.tokenizer) == (towers.name, towers.digest, towers.tokenizer)
    changed = other.visual.head(walk(other.visual.blocks, other.visual.embed(images))[0])
    assert not torch.allclose(changed, before)
    assert torch.equal(towers.visual.head(walk(towers.visual.blocks, towers.visual.embed(images))[0]), before)
    with pytest.raises(ZsadError, match='no activation "gleu"'):
        towers.acting("gleu")
