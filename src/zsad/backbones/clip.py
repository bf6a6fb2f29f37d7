"""CLIP: an image tower and a text tower over the same open blocks, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from zsad.backbones.keys import Checkpoint, KeyTable, checked_activation, checked_heads, pair, within
from zsad.backbones.registry import OPENAI_MEAN as OPENAI_MEAN
from zsad.backbones.registry import OPENAI_STD as OPENAI_STD
from zsad.backbones.tokenizer import Tokenizer
from zsad.backbones.vit import MLP, Edit, ViT, ViTSize, build_blocks, causal, walk
from zsad.errors import ZsadError


@dataclass(frozen=True)
class TextSize:
    """All that is needed to build a :class:`TextTower`."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    context: int  # longest sentence, in tokens
    output: int
    hidden: int = 0  # 0 = 4 x width
    activation: str = "quick_gelu"
    eps: float = 1e-5


class TextTower(nn.Module):
    """CLIP's text tower. Attention is causal: nothing right of EOT changes a feature, so sentences may be cut there."""

    def __init__(self, size: TextSize) -> None:
        super().__init__()
        self.size = size
        self.token_embedding = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Parameter(torch.zeros(size.context, size.width))
        hidden = size.hidden or 4 * size.width
        self.blocks = build_blocks(size.width, size.depth, size.heads, hidden, size.activation, size.eps)
        self.norm = nn.LayerNorm(size.width, size.eps)
        self.proj = nn.Parameter(torch.zeros(size.width, size.output))

    def walk(
        self, embedded: Tensor, edit: Edit | None = None, taps: Sequence[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Tokens [B, L, D] without positions through all blocks; see :func:`zsad.backbones.vit.walk`."""
        length = embedded.shape[1]
        if length > self.size.context:
            raise ZsadError(
                f"a sentence of {length} tokens is longer than the text tower's {self.size.context}; shorten it"
            )
        return walk(self.blocks, embedded + self.positions[:length], taps, causal, edit)

    def encode(self, embedded: Tensor, end: Tensor, edit: Edit | None = None) -> Tensor:
        """Features [B, output] of embedded tokens [B, L, D], read at the position of EOT, `end` [B]; not normalised."""
        x, _ = self.walk(embedded, edit)
        picked = x[torch.arange(len(x), device=x.device), end]
        return self.norm(picked) @ self.proj  # type: ignore[no-any-return]

    def forward(self, ids: Tensor, end: Tensor) -> Tensor:
        """Features [B, output] of token ids [B, L] whose EOT stands at `end` [B]; not normalised."""
        return self.encode(self.token_embedding(ids), end)


class CLIP(nn.Module):
    """Both towers, the tokenizer, and how an image is normalised."""

    def __init__(
        self,
        visual: ViT,
        text: TextTower | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        name: str = "",
        digest: str = "",
        mean: tuple[float, float, float] = OPENAI_MEAN,
        std: tuple[float, float, float] = OPENAI_STD,
    ) -> None:
        super().__init__()
        self.visual, self.text, self.tokenizer = visual, text, tokenizer
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # ln(1 / 0.07), where CLIP's training starts
        self.name, self.digest, self.mean, self.std = name, digest, mean, std

    def acting(self, activation: str) -> CLIP:
        """The same towers with another activation; every tensor is shared, and nothing in this one changes.

        Some released code runs OpenAI's weights with the exact GELU, though they were trained with QuickGELU.

        Args:
            activation: "gelu", "quick_gelu", or "" for the towers as they are.

        Raises:
            ZsadError: If there is no such activation.
        """
        towers: list[ViT | TextTower] = [self.visual, *([self.text] if self.text else [])]
        if not activation or all(tower.size.activation == activation for tower in towers):
            return self
        checked_activation(activation)
        shared = {id(part): part for part in (*self.parameters(), *self.buffers(), self.tokenizer)}
        twin = deepcopy(self, shared)
        for module in twin.modules():
            if isinstance(module, MLP):
                module.activation = activation
            elif isinstance(module, ViT | TextTower):
                module.size = replace(module.size, activation=activation)
        return twin


_OPENAI_BLOCK = (
    *pair("ln_1", "norm1"),
    *pair("ln_2", "norm2"),
    ("attn.in_proj_weight", "in_proj.weight"),
    ("attn.in_proj_bias", "in_proj.bias"),
    *pair("attn.out_proj", "out_proj"),
    *pair("mlp.c_fc", "mlp.fc1"),
    *pair("mlp.c_proj", "mlp.fc2"),
)
_HF_BLOCK = (
    *pair("layer_norm1", "norm1"),
    *pair("layer_norm2", "norm2"),
    *pair("self_attn.q_proj", "in_proj/q"),
    *pair("self_attn.k_proj", "in_proj/k"),
    *pair("self_attn.v_proj", "in_proj/v"),
    *pair("self_attn.out_proj", "out_proj"),
    *pair("mlp.fc1", "mlp.fc1"),
    *pair("mlp.fc2", "mlp.fc2"),
)

#: OpenAI's .pt files and open_clip's. The first three unneeded ones describe the model, the masks are constants.
OPENAI = KeyTable(
    kind="a CLIP under OpenAI's names (also open_clip's)",
    marker="visual.conv1.weight",
    names=(
        ("visual.conv1.weight", "visual.patch_embed.weight"),
        ("visual.class_embedding", "visual.cls"),
        ("visual.positional_embedding", "visual.positions"),
        *pair("visual.ln_pre", "visual.norm_pre"),
        *pair("visual.ln_post", "visual.norm"),
        ("visual.proj", "visual.proj"),
        *within("visual.transformer.resblocks.{i}.", "visual.blocks.{i}.", _OPENAI_BLOCK),
        ("token_embedding.weight", "text.token_embedding.weight"),
        ("positional_embedding", "text.positions"),
        *pair("ln_final", "text.norm"),
        ("text_projection", "text.proj"),
        *within("transformer.resblocks.{i}.", "text.blocks.{i}.", _OPENAI_BLOCK),
        ("logit_scale", "logit_scale"),
    ),
    unneeded=("input_resolution", "context_length", "vocab_size", "attn_mask", "transformer.resblocks.{i}.attn_mask"),
    wrapping=("module.", "text."),
)

#: `CLIPModel` of Hugging Face transformers ("pre_layrnorm" is its spelling).
HF_CLIP = KeyTable(
    kind="a CLIPModel of Hugging Face",
    marker="vision_model.embeddings.class_embedding",
    names=(
        ("vision_model.embeddings.patch_embedding.weight", "visual.patch_embed.weight"),
        ("vision_model.embeddings.class_embedding", "visual.cls"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positions"),
        *pair("vision_model.pre_layrnorm", "visual.norm_pre"),
        *pair("vision_model.post_layernorm", "visual.norm"),
        ("visual_projection.weight", "visual.proj/T"),
        *within("vision_model.encoder.layers.{i}.", "visual.blocks.{i}.", _HF_BLOCK),
        ("text_model.embeddings.token_embedding.weight", "text.token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "text.positions"),
        *pair("text_model.final_layer_norm", "text.norm"),
        ("text_projection.weight", "text.proj/T"),
        *within("text_model.encoder.layers.{i}.", "text.blocks.{i}.", _HF_BLOCK),
        ("logit_scale", "logit_scale"),
    ),
    unneeded=("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
)

# Channels per head of open_clip's image towers that do not use 64: width -> channels.
# mlfoundations/open_clip 89fb801f, src/open_clip/model_configs/ViT-{H,g,bigG,e}-14.json
_WIDE_HEADS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}


def build_clip(checkpoint: Checkpoint, config: Mapping[str, Any], activation: str = "") -> CLIP:
    """A CLIP, without tokenizer, of the tensors of a file.

    Args:
        checkpoint: Of the table :data:`OPENAI` or :data:`HF_CLIP`.
        config: config.json of a Hugging Face folder: heads, activation and eps, which no tensor tells. What it leaves
            out has the default of that library. Not needed for :data:`OPENAI`, whose heads have 64 channels.
        activation: Of both towers, in place of the config's; without either, OpenAI's "quick_gelu".
    """
    hf = checkpoint.table is HF_CLIP
    image, words = config.get("vision_config", {}), config.get("text_config", {})
    visual_width, text_width = checkpoint.shape("visual.cls")[0], checkpoint.shape("text.proj")[0]
    image_heads = image.get("num_attention_heads", 12) if hf else visual_width // _WIDE_HEADS.get(visual_width, 64)
    text_heads = words.get("num_attention_heads", 8) if hf else text_width // 64
    visual = ViTSize(
        width=visual_width,
        depth=checkpoint.depth("visual"),
        heads=checked_heads(visual_width, image_heads, checkpoint.source),
        patch=checkpoint.shape("visual.patch_embed.weight")[-1],
        grid=checkpoint.side(),
        output=checkpoint.shape("visual.proj")[-1],
        hidden=checkpoint.shape("visual.blocks.0.mlp.fc1.bias")[0],
        activation=checked_activation(activation or image.get("hidden_act", "quick_gelu")),
        eps=image.get("layer_norm_eps", 1e-5),
    )
    text = TextSize(
        width=text_width,
        depth=checkpoint.depth("text"),
        heads=checked_heads(text_width, text_heads, checkpoint.source),
        vocabulary=checkpoint.shape("text.token_embedding.weight")[0],
        context=checkpoint.shape("text.positions")[0],
        output=checkpoint.shape("text.proj")[-1],
        hidden=checkpoint.shape("text.blocks.0.mlp.fc1.bias")[0],
        activation=checked_activation(activation or words.get("hidden_act", "quick_gelu")),
        eps=words.get("layer_norm_eps", 1e-5),
    )
    with torch.device("meta"):
        model = CLIP(ViT(visual), TextTower(text))
    checkpoint.fill(model)
    return model
