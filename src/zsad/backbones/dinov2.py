"""DINOv2 (Oquab et al. 2023), its variant with registers (Darcet et al. 2023) and DINO on the blocks of :mod:`.vit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from zsad.backbones.clip import CLIP
from zsad.backbones.keys import Checkpoint, KeyTable, checked_activation, checked_heads, pair, within
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from zsad.backbones.vit import ViT, ViTSize

_HUB_BLOCK = (
    *pair("norm1", "norm1"),
    *pair("norm2", "norm2"),
    *pair("attn.qkv", "in_proj"),
    *pair("attn.proj", "out_proj"),
    ("ls1.gamma", "scale1"),
    ("ls2.gamma", "scale2"),
    *pair("mlp.fc1", "mlp.fc1"),
    *pair("mlp.fc2", "mlp.fc2"),
    *pair("mlp.w12", "mlp.w12"),
    *pair("mlp.w3", "mlp.w3"),
)
_HF_BLOCK = (
    *pair("norm1", "norm1"),
    *pair("norm2", "norm2"),
    *pair("attention.attention.query", "in_proj/q"),
    *pair("attention.attention.key", "in_proj/k"),
    *pair("attention.attention.value", "in_proj/v"),
    *pair("attention.output.dense", "out_proj"),
    ("layer_scale1.lambda1", "scale1"),
    ("layer_scale2.lambda1", "scale2"),
    *pair("mlp.fc1", "mlp.fc1"),
    *pair("mlp.fc2", "mlp.fc2"),
    *pair("mlp.weights_in", "mlp.w12"),
    *pair("mlp.weights_out", "mlp.w3"),
)

#: The .pth files of facebookresearch/dinov2 (b8931f7b, dinov2/models/vision_transformer.py); blocks may be in chunks.
#: Those of facebookresearch/dino (vision_transformer.py) are the same without layer scale.
HUB_DINOV2 = KeyTable(
    kind="a DINOv2 of facebookresearch/dinov2",
    marker="cls_token",
    names=(
        ("cls_token", "visual.cls"),
        ("pos_embed", "visual.positions"),
        ("register_tokens", "visual.registers"),
        *pair("patch_embed.proj", "visual.patch_embed"),
        *pair("norm", "visual.norm"),
        *within("blocks.{i}.", "visual.blocks.{i}.", _HUB_BLOCK),
    ),
    unneeded=("mask_token",),
)

#: `Dinov2Model` and `Dinov2WithRegistersModel` of Hugging Face transformers.
HF_DINOV2 = KeyTable(
    kind="a Dinov2Model of Hugging Face",
    marker="embeddings.cls_token",
    names=(
        ("embeddings.cls_token", "visual.cls"),
        ("embeddings.position_embeddings", "visual.positions"),
        ("embeddings.register_tokens", "visual.registers"),
        *pair("embeddings.patch_embeddings.projection", "visual.patch_embed"),
        *pair("layernorm", "visual.norm"),
        *within("encoder.layer.{i}.", "visual.blocks.{i}.", _HF_BLOCK),
    ),
    unneeded=("embeddings.mask_token",),
)


def build_dinov2(checkpoint: Checkpoint, config: Mapping[str, Any], activation: str = "") -> CLIP:
    """A DINOv2, as a :class:`CLIP` without text, of the tensors of a file.

    Positions are resized as in facebookresearch/dinov2, whatever the file: without registers with the offset of 0.1,
    with registers by antialiased bicubic interpolation without offset (b8931f7b, dinov2/hub/backbones.py). Hugging
    Face's Dinov2Model has no offset: `embed(image, resize="bicubic")` gives its numbers.

    Args:
        checkpoint: Of the table :data:`HUB_DINOV2` or :data:`HF_DINOV2`.
        config: config.json of a Hugging Face folder: heads, activation, eps. Hub files have heads of 64 channels.
        activation: In place of the config's; the gated MLP of the giant has its own.
    """
    width = checkpoint.shape("visual.cls")[0]
    heads = config.get("num_attention_heads", 12) if checkpoint.table is HF_DINOV2 else width // 64
    stored = checkpoint.tensors["visual.registers"].numel() // width if "visual.registers" in checkpoint.tensors else 0
    registers = config.get("num_register_tokens", stored)
    gated = "visual.blocks.0.mlp.w12.weight" in checkpoint.tensors
    hidden = checkpoint.shape("visual.blocks.0.mlp.w3.weight" if gated else "visual.blocks.0.mlp.fc2.weight")[-1]
    size = ViTSize(
        width=width,
        depth=checkpoint.depth("visual"),
        heads=checked_heads(width, heads, checkpoint.source),
        patch=checkpoint.shape("visual.patch_embed.weight")[-1],
        grid=checkpoint.side(),
        hidden=hidden,
        registers=registers,
        activation="swiglu" if gated else checked_activation(activation or config.get("hidden_act", "gelu")),
        eps=config.get("layer_norm_eps", 1e-6),
        pre_norm=False,
        patch_bias=True,
        layer_scale=any(".scale" in name for name in checkpoint.tensors),
        resize="bicubic_antialias" if registers else "dinov2",
    )
    with torch.device("meta"):
        visual = ViT(size)
    model = CLIP(visual, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    checkpoint.tensors["logit_scale"] = model.logit_scale.data
    checkpoint.fill(model)
    return model
