"""AnomalyCLIP: object-agnostic prompt learning (Zhou et al., ICLR 2024, arXiv:2310.18961).

Reference: zqhang/AnomalyCLIP, commit 45ed4dd35c05797d854294b5e8d585c545920089.

As released, and kept:
    - CLS is projected without the final norm, patches with it (AnomalyCLIP.py:383-387).
    - The patch stream only sums V-V attention outputs, from block 6 on; it has no MLP (AnomalyCLIP.py:139-168).
    - One map, of block 24: the released weights know no other (train.sh, test.sh).
      The paper's four: layers=(6, 12, 18, 24).
    - The local loss weighs 4; the paper says lambda = 1.
    - Deep tokens overwrite positions 1..4 before blocks 2..9, rounded to half precision (AnomalyCLIP.py:237-251).
Not kept:
    - The eight unused projections of the prompt learner.
    - Resized position embeddings do not replace the trained ones: every size starts from those.
    - Sentences are cut at their end; causal attention makes that exact.
    - Masks are resized by nearest neighbour, not bilinear with a threshold of 0.5 (train.py:64-66).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import layer_numbers
from zsad.errors import ZsadError
from zsad.maps import anomaly_map, cosines, probabilities, smooth, upsample
from zsad.methods.base import Reference
from zsad.methods.features import TowerFeatures
from zsad.methods.losses import local
from zsad.methods.prompts import (
    DeepTokens,
    encode_with_context,
    one_name_each,
    released_lengths,
    released_prompts,
)
from zsad.methods.recipe import Recipe
from zsad.methods.streams import SELF_ATTENTION
from zsad.methods.switches import image_blocks, some_of
from zsad.methods.tower import BehindTower, Streams
from zsad.types import Prediction


@dataclass(frozen=True)
class Config:
    """Switches of AnomalyCLIP; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    attention: tuple[str, ...] = ("vv",)  # of "vv", "qq", "kk", "qk"; maps of several are averaged (Fig. 6, Table 10)
    start: int = 6  # first block with DPAM
    layers: tuple[int, ...] = (
        24,
    )  # blocks whose patches make a map; the paper's: 6, 12, 18, 24 (Tables 4, 7; Fig. 8d)
    context_length: int = 12  # learnable words E (Fig. 8a)
    deep_length: int = 4  # learnable tokens per text block; 0 switches text prompt tuning off (Tables 4, 7; Fig. 8c)
    deep_depth: int = 9  # text blocks with tokens M', the first counted but not changed (Fig. 8b)
    shared_context: bool = False  # one context for both prompts (Table 9)
    object_agnostic: bool = True  # "object" instead of the class name (Fig. 5; Fig. 9 changes it for the test only)
    anomaly_word: str = "damaged"  # Tables 13 and 14
    losses: tuple[str, ...] = ("global", "focal", "dice")  # Tables 5 and 11
    local_weight: float = 4.0  # lambda of Eq. 2; the paper's: 1
    temperature: float = 0.07
    sigma: float = 4.0  # of the Gaussian over the map, in pixels
    half_deep_tokens: bool = True  # round deep tokens to half precision

    def __post_init__(self) -> None:
        some_of("anomalyclip", (*SELF_ATTENTION, "qk"), attention=self.attention)
        some_of("anomalyclip", ("global", "focal", "dice"), losses=self.losses)
        image_blocks("anomalyclip", layers=self.layers, start=(self.start,))
        if min(self.context_length, self.deep_length, self.deep_depth, self.sigma) < 0 or self.temperature <= 0:
            raise ZsadError("anomalyclip: lengths, depth and sigma are 0 or more, the temperature is above 0")
        if self.deep_length > self.context_length:
            raise ZsadError(
                f"anomalyclip: deep_length={self.deep_length} tokens overwrite the context and must not be longer than "
                f"context_length={self.context_length}"
            )


class AnomalyCLIP(BehindTower):
    """Two learned sentences, normal and anomalous, that do not name the object."""

    name = "anomalyclip"
    config_class = Config
    reference = Reference(2023, "2310.18961", "zqhang/AnomalyCLIP", "45ed4dd35c05797d854294b5e8d585c545920089", True)
    recipe = Recipe(rate=1e-3, betas=(0.5, 0.999), batch_size=8, epochs=15)
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        text, _ = self.text_parts()
        c, width = self.config, text.size.width
        self.normal_context = nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.anomalous_context = None if c.shared_context else nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.deep = DeepTokens(width, c.deep_length, min(c.deep_depth, text.size.depth), c.half_deep_tokens)

    # Sec. 3.2: object-agnostic text prompts

    def sentences(self, class_name: str) -> tuple[str, str]:
        """What follows the contexts of the normal and of the anomalous prompt."""
        word = "object" if self.config.object_agnostic else class_name.replace("_", " ")
        return f"{word}.", f"{self.config.anomaly_word} {word}."

    def text_features(self, class_names: Sequence[str]) -> Tensor:
        """[C, 2, E], order (normal, anomalous), not normalised; one pair per class name."""
        text, tokenizer = self.text_parts()
        anomalous = self.normal_context if self.anomalous_context is None else self.anomalous_context
        contexts = [self.normal_context, anomalous] * len(class_names)
        endings = [sentence for name in class_names for sentence in self.sentences(name)]
        features = encode_with_context(text, tokenizer, contexts, endings, self.deep.edit())
        return features.reshape(len(class_names), 2, -1)

    def _text(self, count: int, class_names: Sequence[str] | None) -> Tensor:
        """[2, E] for all images, or [B, 2, E] where prompts name the object."""
        if self.config.object_agnostic:
            return self.text_features(["object"])[0]
        wanted = one_name_each(class_names, count)
        names = sorted(set(wanted))
        return self.text_features(names)[[names.index(name) for name in wanted]]

    # Sec. 3.3: refinement of the local visual space (frozen)

    @property
    def streams(self) -> Streams:
        """DPAM from block `start` on, as far as it is not "qk", the ordinary stream; CLS without the final norm."""
        c = self.config
        return Streams(tuple("plain" if kind == "qk" else kind for kind in c.attention), c.start, c.layers)

    # Sec. 3.3: inference

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1] from CLS alone; map in [0, number of layers], blurred."""
        c, text = self.config, self._text(len(features.image), class_names)
        maps = [anomaly_map(p, text, features.grid, features.size, c.temperature) for p in features.patches.unbind(1)]
        total = torch.stack(maps).sum(0) / len(c.attention)
        return Prediction(probabilities(features.image, text, c.temperature)[:, 1], smooth(total, c.sigma))

    @property
    def map_range(self) -> tuple[float, float]:
        """Maps of the layers are summed, those of the kinds of attention averaged."""
        return 0.0, float(len(set(layer_numbers(self.config.layers, self.backbone.visual.depth))))

    # Sec. 3.3: glocal context optimization

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Eq. 2: `global` cross entropy of CLS; `focal` and `dice` summed over the layers, times lambda."""
        c, text = self.config, self._text(len(features.image), class_names)
        terms: dict[str, Tensor] = {}
        if "global" in c.losses:
            terms["global"] = F.cross_entropy(cosines(features.image, text) / c.temperature, labels)
        seen = [probabilities(patches, text, c.temperature) for patches in features.patches.unbind(1)]
        maps = [upsample(p, features.grid, features.size) for p in seen]
        for kind, term in local(maps, masks, both=True).items():
            if kind in c.losses:
                terms[kind] = c.local_weight * term / len(c.attention)
        return terms

    # Released checkpoints: {"prompt_learner": state} (train.py)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`."""
        return released_prompts(checkpoint, "AnomalyCLIP")

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Lengths of the contexts and of the deep tokens, and their depth; the layers are not told."""
        return dict(released_lengths(cls.released_state(checkpoint)))
