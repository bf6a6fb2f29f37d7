"""ViP²-CLIP: visual-perception prompting with unified alignment (Yang et al., 2025, arXiv:2505.17692).

Reference: kim0806/ViP2-CLIP, commit 4b5884f6c6bd42001fe47ccaeef32e4f1a8f5a93.

As released, and kept:
    - Both prompts say "damaged": the normal one is built from the other's words (prompt_learner.py:164).
      The paper's: normal_word="good".
    - CLS is projected without the final norm, patches with it (VIP2CLIP_lib/VIP2CLIP.py:370).
    - The Meta-Nets see the normalised CLS plus one learned vector that they share (prompt_learner.py:86-112).
    - ViP-FGP has 8 heads, biases and no 1/sqrt(d); the enhanced prompts are normalised (prompt_learner.py:229-270).
      The paper's: heads=1, scaled=True.
    - Image score and its loss: cosines averaged over the K patches of all layers, then one softmax (test.py:98-105,
      train.py:98-100). The paper's: score_by_layer=True.
    - ViP-FGP learns at a hundredth of the rate (train.py:46-49).
Not kept:
    - The parameter `prompt_temp_l1`, which is never used, and the bias of the keys, which cancels in the softmax.
    - Position embeddings resized once do not replace the trained ones: every size starts from those.
    - A grid with fewer than K patches is no error: all of them count.
    - Sentences are cut at their end; causal attention makes that exact.
    - Masks are resized by nearest neighbour, not bilinear with a threshold of 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.maps import cosines, smooth, upsample
from zsad.methods.base import Reference
from zsad.methods.features import TowerFeatures
from zsad.methods.losses import dice, focal
from zsad.methods.prompts import encode_with_context, one_name_each
from zsad.methods.recipe import Recipe
from zsad.methods.switches import image_blocks
from zsad.methods.tower import BehindTower, Streams
from zsad.types import Prediction

#: beginnings of names in the released checkpoints, and ours
RELEASED = {
    "prompt_learner.ctx_pos": "normal_context",
    "prompt_learner.ctx_neg": "anomalous_context",
    "prompt_learner.cls_ctx": "object_tokens",
    "prompt_learner.cls_prompter.bias": "vca.bias",
    "prompt_learner.cls_prompter.fc.": "vca.nets.",
    "Zero_try.q_proj_pre.": "fgp.query.",
    "Zero_try.k_proj_pre_1.weight": "fgp.key.weight",
    "Zero_try.v_proj_pre_1.": "fgp.value.",
    "Zero_try.proj_post_t.": "fgp.out.",
}
#: words looked up in the token embedding and kept as buffers, and what changes no result
UNUSED = (
    *(f"prompt_learner.token_{part}_{kind}" for part in ("prefix", "middle", "suffix") for kind in ("pos", "neg")),
    "prompt_learner.tokenized_prompts_pos",
    "prompt_learner.tokenized_prompts_neg",
    "Zero_try.prompt_temp_l1",
    "Zero_try.k_proj_pre_1.bias",
)


@dataclass(frozen=True)
class Config:
    """Switches of ViP²-CLIP; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks whose patches are aligned (Fig. 7)
    context_length: int = 7  # static learnable tokens e of each prompt (Fig. 10: M); the code's own default: 9
    dynamic_length: int = 3  # tokens z in place of the class name, r (Fig. 10: J)
    normal_word: str = "damaged"  # state adjective of the normal prompt; the paper's: "good" (Table 6)
    anomaly_word: str = "damaged"  # state adjective of the anomalous prompt (Table 6)
    class_name: bool = False  # the class name in place of the tokens z (Sec. 1, Appendix A)
    vca: bool = True  # ViP-VCA: tokens z see the image; otherwise they are static prompts (Table 4, Fig. 5)
    fgp: bool = True  # ViP-FGP: prompts attend to the patches (Table 4)
    utpa: bool = True  # image score from patches; otherwise from CLS, dual-branch alignment (Tables 4 and 5)
    top_k: int = 50  # most anomalous patches per layer that make the image score (Fig. 6)
    score_by_layer: bool = False  # Eqs. 8 and 9 as printed: one image score and one cross entropy per layer
    hidden: int = 384  # width inside a Meta-Net
    heads: int = 8  # of ViP-FGP; Eq. 6: 1
    scaled: bool = False  # whether its logits are divided by sqrt(d), as in Eq. 6
    local_weight: float = 1.0  # lambda of Eq. 9
    temperature: float = 0.07
    sigma: float = 8.0  # of the Gaussian over the map, in pixels

    def __post_init__(self) -> None:
        image_blocks("vip2clip", layers=self.layers)
        if min(self.context_length, self.dynamic_length, self.local_weight, self.sigma) < 0:
            raise ZsadError("vip2clip: lengths, local_weight and sigma are 0 or more")
        if min(self.top_k, self.hidden, self.heads) < 1 or self.temperature <= 0:
            raise ZsadError("vip2clip: top_k, hidden and heads are 1 or more, the temperature is above 0")
        if not self.context_length and self.normal_word == self.anomaly_word:
            raise ZsadError(
                f'vip2clip: without a context two prompts with the word "{self.anomaly_word}" are equal; '
                'set another normal_word, such as the paper\'s "good"'
            )


class VisualConditionedAdapter(nn.Module):
    """ViP-VCA: one Meta-Net (Linear, ReLU, Linear) per dynamic token.

    Args:
        image_width: Of the global feature.
        text_width: Of a word vector.
        count: Number of dynamic tokens.
        hidden: Width between the two linear maps.
    """

    def __init__(self, image_width: int, text_width: int, count: int, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(image_width) * 0.02)
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(image_width, hidden), nn.ReLU(), nn.Linear(hidden, text_width))
            for _ in range(count)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Dynamic tokens a [B, r, text_width] of global features [B, image_width], which need not be normalised."""
        x = F.normalize(image, dim=-1) + self.bias
        return torch.stack([net(x) for net in self.nets], dim=1)


class FineGrainedPerception(nn.Module):
    """ViP-FGP: prompts attend to the patches of one layer (Eq. 6); one module serves all layers.

    Args:
        width: Of prompts and patches.
        heads: Attention heads; they share the width.
        scaled: Divide the logits by the square root of a head's width.
    """

    def __init__(self, width: int, heads: int = 8, scaled: bool = False) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width / heads) ** -0.5 if scaled else 1.0
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def weights(self, text: Tensor, patches: Tensor) -> Tensor:
        """Attention [B, H, K, n] of prompts [B, K, D] to patches [B, n, D] of length 1.

        Keys are linear in the patches, so their weights are applied to the few prompts instead; so are the values'.
        """
        query = self.query(F.normalize(text, dim=-1)).unflatten(-1, (self.heads, -1))
        wanted = torch.einsum("bkhd,hdc->bhkc", query, self._by_head(self.key)) * self.scale
        return (wanted.flatten(1, 2) @ patches.mT).softmax(-1).reshape(*wanted.shape[:3], -1)

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """Enhanced prompts [B, K, D], of length 1, of prompts [B, K, D] and patches [B, n, D]."""
        patches = F.normalize(patches, dim=-1)
        weights = self.weights(text, patches)
        seen = (weights.flatten(1, 2) @ patches).reshape(*weights.shape[:3], -1)
        mixed = torch.einsum("bhkc,hdc->bkhd", seen, self._by_head(self.value)).flatten(2) + self.value.bias
        return F.normalize(self.out(mixed), dim=-1)

    def _by_head(self, linear: nn.Linear) -> Tensor:
        return linear.weight.reshape(self.heads, -1, linear.in_features)


def most_anomalous(probability: Tensor, count: int) -> Tensor:
    """Where the `count` largest values of [..., n] stand, [..., count], in no order; all n where there are fewer.

    >>> most_anomalous(torch.tensor([0.1, 0.9, 0.5]), 50).shape
    torch.Size([3])
    """
    return probability.topk(min(count, probability.shape[-1]), sorted=False).indices


def picked(values: Tensor, places: Tensor) -> Tensor:
    """The rows of [B, M, n, C] at `places` [B, M, K]: [B, M, K, C]."""
    return values.gather(2, places[..., None].expand(-1, -1, -1, values.shape[-1]))


class ViP2CLIP(BehindTower):
    """Two learned sentences that see the image, compared with its patches only."""

    name = "vip2clip"
    config_class = Config
    reference = Reference(2025, "2505.17692", "kim0806/ViP2-CLIP", "4b5884f6c6bd42001fe47ccaeef32e4f1a8f5a93", True)
    recipe = Recipe(rate=1e-3, slow=(("fgp.", 0.01),), batch_size=8, epochs=10)
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        text, _ = self.text_parts()
        c, width, output = self.config, text.size.width, backbone.visual.output
        if c.fgp and output % c.heads:
            raise ZsadError(f"vip2clip: features of width {output} cannot be shared by {c.heads} heads; set heads")
        dynamic = 0 if c.class_name else c.dynamic_length
        self.normal_context = nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.anomalous_context = nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.object_tokens = nn.Parameter(torch.randn(dynamic, width) * 0.02)
        self.vca = VisualConditionedAdapter(output, width, dynamic, c.hidden) if c.vca and dynamic else None
        self.fgp = FineGrainedPerception(output, c.heads, c.scaled) if c.fgp else None

    @property
    def streams(self) -> Streams:
        """The tower's own, CLS without the final norm."""
        return Streams(("plain",), layers=self.config.layers)

    # Sec. 4.1: visual-perception prompting (ViP-Prompt)

    def tokens(self, image: Tensor) -> Tensor:
        """Tokens z [B, r, width] in place of the class name, of global features [B, E]: z = o + a."""
        z = self.object_tokens.expand(len(image), -1, -1)
        return z if self.vca is None else z + self.vca(image)

    def text_features(self, image: Tensor, class_names: Sequence[str] | None = None) -> Tensor:
        """Prompts [B, 2, E], order (normal, anomalous), not normalised, for global features [B, E] (Eqs. 4 and 5)."""
        text, tokenizer = self.text_parts()
        words = (self.config.normal_word, self.config.anomaly_word)
        endings = [f"{word} {name}".strip() for name in self._objects(len(image), class_names) for word in words]
        contexts = [self.normal_context, self.anomalous_context] * len(image)
        tails = self.tokens(image).repeat_interleave(2, dim=0)
        features = encode_with_context(text, tokenizer, contexts, endings, tails=list(tails))
        return features.reshape(len(image), 2, -1)

    def _objects(self, count: int, class_names: Sequence[str] | None) -> list[str]:
        """What stands behind the state adjectives of each image; nothing where tokens do."""
        if not self.config.class_name:
            return [""] * count
        return [name.replace("_", " ") for name in one_name_each(class_names, count)]

    # Sec. 4.2: unified text-patch alignment (UTPA)

    def align(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Cosines with the (normal, anomalous) prompts.

        Returns:
            Of every patch, with the prompts of its layer, [B, M, n, 2]; and those that make the image score
            [B, S, 2], S = 1, or M where each layer has its own score.
        """
        c, seen = self.config, features.patches
        prompts = self.text_features(features.image, class_names)
        patches, text = seen.flatten(0, 1), prompts.repeat_interleave(seen.shape[1], dim=0)
        if self.fgp is not None:
            text = self.fgp(text, patches)  # Eq. 6
        local = cosines(patches, text).reshape(*seen.shape[:3], 2)
        if not c.utpa:
            return local, cosines(features.image, prompts)[:, None]
        places = most_anomalous(self.probabilities(local)[..., 1], c.top_k)
        if c.score_by_layer:
            average = picked(seen, places).mean(2)  # Eq. 8
            return local, cosines(average.flatten(0, 1), text).reshape(*average.shape[:2], 2)
        return local, picked(local, places).mean((1, 2))[:, None]

    def probabilities(self, similarity: Tensor) -> Tensor:
        """Eq. 1: cosines [..., 2] to probabilities [..., 2]."""
        return (similarity / self.config.temperature).softmax(-1)

    # Sec. 4.3: training and inference

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1]; map in [0, 1], blurred."""
        local, image = self.align(features, class_names)
        patches = self.probabilities(local)[..., 1].mean(1)  # Eq. 11, where 1 - M_n = M_a
        maps = smooth(upsample(patches, features.grid, features.size), self.config.sigma)
        return Prediction(self.probabilities(image)[..., 1].mean(1), maps)

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Eq. 9: `global` cross entropy of the image score; `focal` and `dice` of Eq. 10, summed over the layers."""
        local, image = self.align(features, class_names)
        layers, scores, weight = local.shape[1], image.shape[1], self.config.local_weight
        logits = image.flatten(0, 1) / self.config.temperature
        p = upsample(self.probabilities(local).flatten(0, 1), features.grid, features.size)  # Eq. 7
        truth = masks.repeat_interleave(layers, dim=0)
        return {
            "global": scores * F.cross_entropy(logits, labels.repeat_interleave(scores)),
            "focal": weight * layers * focal(p, truth),
            "dice": weight * layers * (dice(p[:, 1], truth) + dice(p[:, 0], ~truth)),
        }

    # Released checkpoints: {"prompt_learner": state, "Zero_try": state of ViP-FGP} (train.py:119)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`; convolutions of size 1 become linear maps."""
        ours: dict[str, Tensor] = {}
        for name, tensor in _flat(checkpoint).items():
            beginning = next((known for known in RELEASED if name.startswith(known)), None)
            if beginning is None and name not in UNUSED:
                raise ZsadError(f'not a released ViP²-CLIP checkpoint: unexpected tensor "{name}"')
            if beginning is not None:
                ours[RELEASED[beginning] + name[len(beginning) :]] = tensor.float()
        return {name: tensor.squeeze(0 if name == "vca.bias" else -1) for name, tensor in ours.items()}

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Lengths, and whether the normal prompt was built from the other's words."""
        state, kept = cls.released_state(checkpoint), _flat(checkpoint)
        told = {"context_length": "normal_context", "dynamic_length": "object_tokens", "hidden": "vca.nets.0.0.weight"}
        switches: dict[str, Any] = {key: len(state[name]) for key, name in told.items() if name in state}
        words = [kept.get(f"prompt_learner.token_middle_{kind}") for kind in ("pos", "neg")]
        if words[0] is not None and words[1] is not None:
            switches["normal_word"] = "damaged" if torch.equal(words[0], words[1]) else "good"
        return switches


def _flat(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of both parts of a released checkpoint, under names joined by a dot."""
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    if set(parts) != {"prompt_learner", "Zero_try"} or not all(isinstance(part, dict) for part in parts.values()):
        raise ZsadError(
            'not a released ViP²-CLIP checkpoint: expected {"prompt_learner": ..., "Zero_try": ...}, '
            f"found {', '.join(map(str, parts)) or type(checkpoint).__name__}"
        )
    return {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
