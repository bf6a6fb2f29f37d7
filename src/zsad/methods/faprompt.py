"""FAPrompt: fine-grained abnormality prompts (Zhu et al., ICCV 2025, arXiv:2410.10289).

Reference: mala-lab/FAPrompt, commit 7e9d9d2aeb17648ae52374708ea95d3f8396cecc.

As released, and kept:
    - The patches that tell the prior what is abnormal are the first ten of every image: the indices of the ten most
      anomalous ones are computed and never used (train.py:103-113, test.py:112-122). The paper's: selection="top".
    - They have length 1, and their order matters to the prior's network (train.py:98, FAPrompt.py:171).
    - The abnormal prompts are averaged before they are normalised (train.py:93, 121).
    - The image score takes in the largest patch of each stage, the first stage twice (test.py:147-148). Its focal loss
      reads it, a number in [0, 1], as a logit (train.py:146-148, loss.py:88-107).
    - The prior's loss is a sum over the normal images of a batch, where others are means (train.py:126-129).
    - Maps weigh 1 in the first stage and 0.5 in the second, |cosine| of each pair of abnormal prompts 0.1
      (train.py:152-161).
    - Features are AnomalyCLIP's: CLS without the final norm, one V-V stream, blocks 6 to 24 (AnomalyCLIP.py:345-353,
      376-389). Deep tokens overwrite positions 1..4, rounded to half precision (AnomalyCLIP.py:239-249).
    - The Gaussian over the map has sigma 10 (test.py:235); AnomalyCLIP's is 4.
    - --features_list and --n_ctx are ignored: contexts have 5 and 2 words (FAPrompt.py:65-68).
Not kept:
    - The eight unused projections, and widths that fit towers of 768 channels only (FAPrompt.py:75-79, 97-98).
    - Images one at a time (train.py:117-121): a batch's abnormal prompts are one text pass, its normal ones another.
    - As in AnomalyCLIP: resized positions do not replace the trained ones, sentences are cut at their end, which is
      exact, and masks are resized by nearest neighbour.
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
from zsad.maps import cosines, probabilities, smooth, upsample
from zsad.methods.base import Reference, Stage
from zsad.methods.features import TowerFeatures
from zsad.methods.losses import dice, focal
from zsad.methods.prompts import UNUSED, DeepTokens, encode_with_context, released_lengths
from zsad.methods.recipe import Recipe
from zsad.methods.switches import image_blocks, one_of
from zsad.methods.tower import BehindTower, Streams
from zsad.types import Prediction

#: names in a released checkpoint -> ours, and the last of the leading axes that become one
RELEASED = {
    "ctx_pos": ("normal_context", -2),
    "ctx_neg": ("anomalous_contexts", 1),
    "compound_prompts_text": ("deep.sets", 0),
    "patch_meta_net.linear1": ("prior_network.0", 0),
    "patch_meta_net.linear2": ("prior_network.2", 0),
}


@dataclass(frozen=True)
class Config:
    """Switches of FAPrompt; the number of an image block is counted on 24 and scaled to the backbone's depth."""

    start: int = 6  # first block with V-V attention
    prompts: int = 10  # abnormal prompts K
    normal_length: int = 5  # learnable words E of the normal prompt, which every abnormal one begins with
    anomalous_length: int = 2  # learnable words E' that each abnormal prompt has of its own
    prior: bool = True  # adapt the abnormal prompts to the image (DAP); False: CAP alone
    selection: str = "first"  # patches that the prior is made of; the paper's: "top", the most anomalous ones
    selected: int = 10  # their number M
    deep_length: int = 4  # learnable tokens per text block; 0 switches them off
    deep_depth: int = 9  # text blocks with tokens, the first counted but not changed
    half_deep_tokens: bool = True  # round deep tokens to half precision
    orthogonal_weight: float = 0.1  # of L_oc, which keeps abnormal prompts apart; 0 leaves it out
    prior_weight: float = 1.0  # of L_prior, which keeps normal images from having a prior; 0 leaves it out
    second_weight: float = 0.5  # of focal and Dice of the second stage's map
    temperature: float = 0.07
    sigma: float = 10.0  # of the Gaussian over the map, in pixels

    def __post_init__(self) -> None:
        one_of("faprompt", ("first", "top"), selection=self.selection)
        image_blocks("faprompt", start=(self.start,))
        if min(self.prompts, self.anomalous_length, self.selected) < 1 or self.temperature <= 0:
            raise ZsadError("faprompt: prompts, anomalous_length, selected are 1 or more, the temperature is above 0")
        weights = (self.orthogonal_weight, self.prior_weight, self.second_weight)
        if min(self.normal_length, self.deep_length, self.deep_depth, self.sigma, *weights) < 0:
            raise ZsadError("faprompt: lengths, depth, weights and sigma are 0 or more")
        if self.deep_length > self.normal_length:
            raise ZsadError(
                f"faprompt: deep_length={self.deep_length} tokens overwrite the normal prompt's words and must not be "
                f"more than normal_length={self.normal_length}"
            )


@dataclass(frozen=True)
class Stages:
    """What prompts say of a batch before and after they know the image; without a prior, there is no after."""

    anomalous: Tensor  # [K, E] abnormal prompts that know no image, not normalised
    prior: Tensor | None  # [B, W] what is added to the abnormal words, W the width of the text tower
    texts: list[Tensor]  # [2, E], then [B, 2, E], order (normal, anomalous), not normalised
    patches: list[Tensor]  # per stage [B, n, 2] probabilities of every patch


def overlap(features: Tensor) -> Tensor:
    """Sum of |cosine| over all pairs of [K, E] (L_oc).

    >>> float(overlap(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]])))
    1.0
    """
    return cosines(features, features).triu(1).abs().sum()


def score_focal(score: Tensor, labels: Tensor) -> Tensor:
    """Focal loss of image scores [B] read as logits, averaged; labels [B] in {0, 1}."""
    entropy = F.binary_cross_entropy_with_logits(score, labels.to(score.dtype), reduction="none")
    return ((1 - torch.exp(-entropy)).square() * entropy).mean()


class FAPrompt(BehindTower):
    """One learned normal sentence and ten abnormal ones that begin like it and know the image."""

    name = "faprompt"
    config_class = Config
    reference = Reference(2024, "2410.10289", "mala-lab/FAPrompt", "7e9d9d2aeb17648ae52374708ea95d3f8396cecc", True)
    recipe = Recipe(rate=1e-3, betas=(0.5, 0.999), batch_size=8, epochs=15)
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        text, _ = self.text_parts()
        c, width, joined = self.config, text.size.width, self.config.selected * text.size.output
        self.normal_context = nn.Parameter(torch.randn(c.normal_length, width) * 0.02)
        self.anomalous_contexts = nn.Parameter(torch.randn(c.prompts, c.anomalous_length, width) * 0.02)
        self.deep = DeepTokens(width, c.deep_length, min(c.deep_depth, text.size.depth), c.half_deep_tokens)
        self.prior_network = None
        if c.prior:
            hidden = joined // 16
            self.prior_network = nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Linear(hidden, width))

    @property
    def streams(self) -> Streams:
        """AnomalyCLIP's: the V-V stream after the last block, CLS without the final norm."""
        return Streams(start=self.config.start)

    # Compound abnormality prompts (CAP): the normal words, and a few abnormal ones

    def normal_features(self, count: int = 1) -> Tensor:
        """The normal prompt [count, E], not normalised; read `count` times, as its gradients are rounded each time."""
        contexts, endings = [self.normal_context] * count, ["object."] * count
        return encode_with_context(*self.text_parts(), contexts, endings, self.deep.edit())

    def anomalous_features(self, prior: Tensor | None = None) -> Tensor:
        """The abnormal prompts [B, K, E] of images whose prior is [B, W], not normalised; B = 1 without prior."""
        words = self.anomalous_contexts[None]
        words = words if prior is None else words + prior[:, None, None]
        count = words.shape[:2]
        contexts = torch.cat([self.normal_context.expand(*count, -1, -1), words], 2).flatten(0, 1)
        endings = ["damaged object."] * len(contexts)
        features = encode_with_context(*self.text_parts(), contexts.unbind(), endings, self.deep.edit())
        return features.reshape(*count, -1)

    # Data-dependent abnormality prior (DAP)

    def chosen(self, patches: Tensor, anomalous: Tensor) -> Tensor:
        """The patches [B, M, E], of length 1, that the prior is made of.

        Args:
            patches: [B, n, E].
            anomalous: [B, n], how anomalous each is; "top" takes the highest, in falling order.

        Raises:
            ZsadError: If an image has fewer patches.
        """
        m = self.config.selected
        if patches.shape[1] < m:
            raise ZsadError(
                f"faprompt: its prior is made of {m} patches, and these images have {patches.shape[1]}; enlarge them "
                f"(--size), or train with fewer (--set selected={patches.shape[1]})"
            )
        if self.config.selection == "first":
            return F.normalize(patches[:, :m], dim=-1)
        index = anomalous.topk(m, dim=1).indices[..., None].expand(-1, -1, patches.shape[-1])
        return F.normalize(patches.gather(1, index), dim=-1)

    def look(self, features: TowerFeatures) -> Stages:
        """Compare patches with prompts that know no image, then with those that know it."""
        patches, tau = features.patches[:, 0], self.config.temperature
        anomalous = self.anomalous_features()
        texts = [_pair(self.normal_features(), anomalous)[0]]
        seen = [probabilities(patches, texts[0], tau)]
        if self.prior_network is None:
            return Stages(anomalous[0], None, texts, seen)
        prior = self.prior_network(self.chosen(patches, seen[0][..., 1]).flatten(1))
        texts.append(_pair(self.normal_features(len(prior)), self.anomalous_features(prior)))
        seen.append(probabilities(patches, texts[1], tau))
        return Stages(anomalous[0], prior, texts, seen)

    # Inference

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1]; map in [0, 1], the mean of both stages, blurred."""
        stages = self.look(features)
        mean = torch.stack([p[..., 1] for p in stages.patches]).mean(0)
        blurred = smooth(upsample(mean, features.grid, features.size), self.config.sigma)
        return Prediction(self.image_score(features, stages), blurred)

    def image_score(self, features: TowerFeatures, stages: Stages) -> Tensor:
        """[B] in [0, 1]: half from CLS, half from the most anomalous patch of the first (2/3) and last stage (1/3)."""
        first, last = (stages.patches[i][..., 1].amax(1) for i in (0, -1))
        image = probabilities(features.image, stages.texts[-1], self.config.temperature)[:, 1]
        return (image + (2 * first + last) / 3) / 2

    # Training

    @property
    def stages(self) -> Sequence[Stage]:
        """One, whose `prior` is a sum over the batch, as released."""
        return (Stage(self.recipe, self.encode, self.loss, sums=("prior",)),)

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`global` cross entropy of CLS, `score`, `orthogonal` (L_oc), `focal`, `dice`, and `prior` (L_prior)."""
        c, stages = self.config, self.look(features)
        terms = {
            "global": F.cross_entropy(cosines(features.image, stages.texts[-1]) / c.temperature, labels),
            "score": score_focal(self.image_score(features, stages), labels),
            "orthogonal": c.orthogonal_weight * overlap(stages.anomalous),
        }
        maps = [upsample(p, features.grid, features.size) for p in stages.patches]
        weights = maps[0].new_tensor((1.0, c.second_weight)[: len(maps)])
        terms["focal"] = weights @ torch.stack([focal(p, masks) for p in maps])
        terms["dice"] = weights @ torch.stack([dice(p[:, 1], masks) + dice(p[:, 0], ~masks) for p in maps])
        if stages.prior is not None:
            terms["prior"] = c.prior_weight * (stages.prior.square().mean(1) * (labels == 0)).sum()
        return terms

    # Checkpoints as train.py:171 writes them: {"prompt_learner": state}

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`; none were published, so this is for files of one's own runs."""
        state = checkpoint.get("prompt_learner") if isinstance(checkpoint, dict) else None
        if not isinstance(state, dict):
            raise ZsadError('not a released FAPrompt checkpoint: expected {"prompt_learner": ...}')
        ours: dict[str, Tensor] = {}
        for name, tensor in state.items():
            head = name if name in RELEASED else name.rpartition(".")[0]
            if head in RELEASED:
                own, last = RELEASED[head]
                ours[own + name.removeprefix(head)] = tensor.float().flatten(0, last)
            elif not name.startswith(UNUSED):
                raise ZsadError(f'not a released FAPrompt checkpoint: unexpected tensor "{name}"')
        return ours

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Lengths and numbers of prompts and deep tokens, and of the patches that the prior is made of."""
        state = cls.released_state(checkpoint)
        told = released_lengths({name: tensor for name, tensor in state.items() if name.startswith("deep.")})
        if {"normal_context", "anomalous_contexts", "prior_network.0.weight"} <= state.keys():
            told["normal_length"] = len(state["normal_context"])
            told["prompts"], told["anomalous_length"], width = state["anomalous_contexts"].shape
            told["selected"] = state["prior_network.0.weight"].shape[1] // width
        return dict(told)


def _pair(normal: Tensor, anomalous: Tensor) -> Tensor:
    """[B, E] and [B, K, E] -> [B, 2, E]: the normal prompt, and the mean of the abnormal ones."""
    return torch.stack([normal, anomalous.mean(1)], 1)
