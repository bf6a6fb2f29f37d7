"""Crane: context-guided prompts and attention refinement (Salehi et al. 2025, arXiv:2504.11055).

Reference: AlirezaSalehy/Crane, commit 39181f9f718a28c1b06b5aa72bfb81e74b9a2cc3.

As released, and kept:
    - E-Attn's stream starts from the output of block 5 and sums the attention outputs of blocks 6 to 24, without MLP
      (models/Crane.py:116-124, 315). Weights are summed, not averaged (models/Crane.py:56-57).
    - That stream is summed in place: four layers are four times the last one, and count so in the loss
      (models/Crane.py:113-122, 249-254). D-Attn reads its block's input with the attention already added
      (models/Crane.py:220-228). Neither: in_place=False.
    - Prompts know the image in training only, and g_i stands before the words (test.py:57, prompt_ensemble.py:125-138).
      The paper's: context_in_inference=True, context_last=True.
    - All branches are pooled as one; the mean precedes the weights (models/Crane.py:395-400).
    - Deep tokens overwrite positions 1..4 before blocks 2..9, rounded to half precision (models/Crane.py:150-164).
    - Dice looks at the anomalous map only; training upsamples by nearest neighbour (train.py:122-134).
    - Temperature 0.07, but 0.01 for the image in training (train.py:145). Local terms weigh 2, the image's 0.2
      (train.py:152-154).
    - No mosaics, unless asked for: --aug_rate is 0 (train.py:187); then four normal or four anomalous images of a class
      (dataset/dataset.py:86-128 and 262-266). The other augmentations there are never called (lines 137-148, 267-268).
Not kept:
    - D-Attn's mean similarity over the whole batch (models/Crane.py:198): every image has its own.
    - NaN where a patch is similar to none, itself included: it then attends to itself.
    - A guide of another patch size sees a resized image; the released code resizes values and streams to its grid.
    - Resized position embeddings do not replace the trained ones; sentences are cut at their end, which is exact.
    - SAM as a guide, the attention "(q+k+v)^2", and other places for g_i, which the paper does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import Block, Mix, layer_numbers
from zsad.backbones.weights import load
from zsad.errors import ZsadError
from zsad.maps import cosines, smooth, upsample
from zsad.methods.base import Method, Reference
from zsad.methods.encoding import reads
from zsad.methods.features import TowerFeatures
from zsad.methods.guidance import guide_patches, similarity_weights
from zsad.methods.losses import dice, focal
from zsad.methods.prompts import DeepTokens, encode_with_context, released_lengths, released_prompts
from zsad.methods.recipe import Recipe
from zsad.methods.streams import SELF_ATTENTION, side_streams
from zsad.methods.switches import image_blocks, one_of, some_of
from zsad.types import Prediction

#: classes of MVTec AD whose images mosaics replace, where there are any (dataset/dataset.py:262-264)
MOSAIC_CLASSES = ("hazelnut", "pill", "zipper", "bottle", "screw", "metal_nut", "cable")

#: what the frozen part depends on
ENCODED = ("attention", "branches", "guided", "beta", "gamma", "start", "layers", "in_place")


@dataclass(frozen=True)
class Config:
    """Switches of Crane; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    attention: tuple[str, ...] = ("qq", "kk", "vv")  # self-correlations whose weights E-Attn sums (Table 3c)
    branches: tuple[str, ...] = ("E-Attn", "D-Attn")  # maps of both are averaged (Table 3d); D-Attn needs a guide
    guide: str = ""  # backbone whose patch similarities D-Attn takes, published: "dinov2-b-14-reg"; "": no D-Attn
    beta: float = 1.2  # D-Attn drops similarities below beta times their mean
    gamma: float = 3.0  # what D-Attn multiplies the others with before its softmax
    start: int = 6  # first block with E-Attn
    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks that make maps; published with a guide: 24
    in_place: bool = True  # sum streams in place: E-Attn of all layers is the last one's, D-Attn reads past attention
    context_in_training: bool = True  # prompts guided by g_i in training (Table 3b)
    context_in_inference: bool = False  # and in inference; the paper's: True
    context_last: bool = False  # g_i after the words, as in the paper
    pooling: bool = True  # score-based pooling (Table 3a)
    soft_mean: bool = True  # average the probabilities of the maps; False: their logits
    context_length: int = 12  # learnable words E per prompt
    anomaly_word: str = "damaged"  # what the anomalous prompt says before "object"
    deep_length: int = 4  # learnable tokens M per text block
    deep_depth: int = 9  # text blocks with tokens, the first counted but not changed
    half_deep_tokens: bool = True  # round deep tokens to half precision
    temperature: float = 0.07  # tau of Eq. 1
    training_temperature: float = 0.01  # of the image score in training
    upsampling: str = "nearest"  # of the probabilities in training; the paper's: "bilinear"
    local_weight: float = 2.0  # of focal and Dice
    global_weight: float = 0.2  # of the image's cross entropy
    sigma: float = 4.0  # of the Gaussian over the map, in pixels

    def __post_init__(self) -> None:
        some_of("crane", tuple(SELF_ATTENTION), attention=self.attention)
        some_of("crane", ("E-Attn", "D-Attn"), branches=self.branches)
        one_of("crane", ("nearest", "bilinear"), upsampling=self.upsampling)
        image_blocks("crane", layers=self.layers, start=(self.start,))
        if self.branches == ("D-Attn",) and not self.guide:
            raise ZsadError("crane: D-Attn needs a guide, such as guide=dinov2-b-14-reg (zsad weights list)")
        if min(self.context_length, self.deep_length, self.deep_depth, self.sigma, self.beta) < 0:
            raise ZsadError("crane: lengths, depth, sigma and beta are 0 or more")
        if min(self.temperature, self.training_temperature, self.gamma) <= 0:
            raise ZsadError("crane: temperatures and gamma are above 0")
        if self.deep_length > self.context_length:
            raise ZsadError(
                f"crane: deep_length={self.deep_length} tokens overwrite the context and must not be longer than "
                f"context_length={self.context_length}"
            )

    @property
    def guided(self) -> bool:
        """Whether D-Attn is used."""
        return bool(self.guide) and "D-Attn" in self.branches


def eattn(kinds: Sequence[str]) -> Mix:
    """W^E-Attn, applied to the values: the weights of several self-correlations, summed and not divided (Sec. 3.1)."""
    return lambda q, k, v: torch.stack([SELF_ATTENTION[kind](q, k, v) for kind in kinds]).sum(0)


def dattn(block: Block, stream: Tensor, weights: Tensor) -> Tensor:
    """H^D-Attn [B, n, D] of a block: the values of the patches in `stream` [B, 1 + n, D], mixed by [B, n, n]."""
    _, _, v = block.qkv(stream)
    return block.out(torch.einsum("bij,bhjd->bhid", weights, v[:, :, -weights.shape[-1] :]))


class Crane(Method):
    """Two learned sentences guided by the image, against patches of refined attention.

    Args:
        backbone: The frozen CLIP.
        config: Switches.
        guide: The backbone that Config.guide names; None loads it, or takes `backbone` where it has that name.

    Raises:
        ZsadError: If there is no text tower, its width is not that of image features while prompts are guided by
            these, or a guide is given that Config.guide does not name.
    """

    name = "crane"
    config_class = Config
    reference = Reference(2025, "2504.11055", "AlirezaSalehy/Crane", "39181f9f718a28c1b06b5aa72bfb81e74b9a2cc3", True)
    recipe = Recipe(rate=1e-3, betas=(0.6, 0.999), batch_size=8, epochs=5, mosaic_way="alike", mosaic_of=MOSAIC_CLASSES)
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None, guide: CLIP | None = None) -> None:
        super().__init__(backbone, config or Config())
        text, _ = self.text_parts()
        c, width = self.config, text.size.width
        if (c.context_in_training or c.context_in_inference) and backbone.visual.output != width:
            raise ZsadError(
                f"crane puts the image feature ({backbone.visual.output} channels) among the words ({width}) of "
                f"{backbone.name or 'this backbone'}; set context_in_training=false and context_in_inference=false"
            )
        if guide is not None and not c.guide:
            raise ZsadError("crane: a guide was given, but Config.guide names none; name it, such as guide=tiny")
        self.normal_context = nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.anomalous_context = nn.Parameter(torch.randn(c.context_length, width) * 0.02)
        self.deep = DeepTokens(width, c.deep_length, min(c.deep_depth, text.size.depth), c.half_deep_tokens)
        self._guide = [guide or self._find_guide()] if c.guided else []  # in a list, so that it is not registered

    def _find_guide(self) -> CLIP:
        name, device = self.config.guide, self.backbone.logit_scale.device
        try:
            return self.backbone if name == self.backbone.name else load(name, device=device)
        except ZsadError as error:
            raise ZsadError(
                f"crane has no guide for D-Attn. Of the ways out below, a path is given with --set guide=PATH, in "
                f"training and in `zsad weights convert`.\n{error}"
            ) from error

    @property
    def backbones(self) -> list[CLIP]:
        """The CLIP, and the guide where there is one."""
        return [self.backbone, *self._guide]

    @property
    def layers(self) -> tuple[int, ...]:
        """The backbone's blocks that make maps, each once."""
        return tuple(sorted(set(layer_numbers(self.config.layers, self.backbone.visual.depth))))

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each of the features' maps counts: D-Attn's, one per layer, then E-Attn's."""
        c, number = self.config, len(self.layers)
        local = (number,) if c.in_place else (1,) * number
        return (1,) * (number if c.guided else 0) + (local if "E-Attn" in c.branches else ())

    # Sec. 3.1: local and global visual features (frozen)

    @reads(*(f"config.{name}" for name in ENCODED))
    @torch.no_grad()
    def encode(self, images: Tensor) -> TowerFeatures:
        """See :class:`~zsad.methods.features.TowerFeatures`; M maps as in :attr:`counts`. CLS has the final norm."""
        visual, c = self.backbone.visual, self.config
        mixes = {"E-Attn": eattn(c.attention)} if "E-Attn" in c.branches else {}
        tapped = (visual.depth,) if c.in_place else self.layers
        weights = self.guide_weights(images) if c.guided else None
        x = visual.embed(images, resize="bilinear")
        by_guide, by_self = [], []
        for step in side_streams(visual.blocks, x, mixes, layer_numbers((c.start,), visual.depth)[0]):
            x = step.after
            if weights is not None and step.number in self.layers:
                by_guide.append(dattn(step.block, step.attended if c.in_place else step.before, weights))
            by_self += [visual.patches(side) for side in step.sides.values() if step.number in tapped]
        patches = torch.stack([visual.head(stream) for stream in (*by_guide, *by_self)], 1)
        size = (images.shape[-2], images.shape[-1])
        return TowerFeatures(visual.grid(images), size, visual.head(x[:, 0]), patches)

    def guide_patches(self, images: Tensor) -> Tensor:
        """Z^D [B, n, D'], one token of the guide for every patch of the backbone."""
        return guide_patches(images, self.backbone, self._guide[0])

    def guide_weights(self, images: Tensor) -> Tensor:
        """W^D-Attn [B, n, n], of the similarities S = <Z^D, Z^D>."""
        patches = self.guide_patches(images)
        return similarity_weights(cosines(patches, patches), self.config.beta, self.config.gamma)

    # Sec. 3.1: context-guided prompts

    def text_features(self, image: Tensor | None = None) -> Tensor:
        """Text features guided by image features.

        Args:
            image: g_i [B, E], need not be normalised; None for prompts that know no image.

        Returns:
            [B, 2, E], order (normal, anomalous), not normalised; B = 1 without image.
        """
        text, tokenizer = self.text_parts()
        none = self.normal_context[:0]
        guides = [none] if image is None else list(F.normalize(image, dim=-1)[:, None])
        pairs = [(words, g) for g in guides for words in (self.normal_context, self.anomalous_context)]
        last = self.config.context_last
        contexts = [torch.cat([words, none if last else g]) for words, g in pairs]
        tails = [g if last else none for _, g in pairs]
        endings = ["object.", f"{self.config.anomaly_word} object."] * len(guides)
        features = encode_with_context(text, tokenizer, contexts, endings, self.deep.edit(), tails)
        return features.reshape(len(guides), 2, -1)

    def logits(self, features: TowerFeatures, context: bool) -> tuple[Tensor, Tensor]:
        """The exponents of Eq. 1 for every patch, [B, M, n, 2], and the text that they compare with, [2 or B, 2, E]."""
        text = self.text_features(features.image) if context else self.text_features()[0]
        return cosines(features.patches, text) / self.config.temperature, text

    def _mean(self, values: Tensor) -> Tensor:
        """[B, M, ...] -> [B, ...], each map as often as it counts."""
        shares = values.new_tensor(self.counts) / sum(self.counts)
        return torch.einsum("m,bm...->b...", shares, values)

    # Sec. 3.2: score-based pooling

    def anomaly_feature(self, features: TowerFeatures, logits: Tensor) -> Tensor:
        """The patches' mean, weighted by how anomalous they are: [B, E] of length 1."""
        patches = self._mean(F.normalize(features.patches, dim=-1))
        weights = self._mean(logits).softmax(-1)[..., 1:]
        return F.normalize((weights * patches).sum(1), dim=-1)

    def global_feature(self, features: TowerFeatures, logits: Tensor) -> Tensor:
        """g_i^+ [B, E], of length 1; g_i without pooling."""
        image = F.normalize(features.image, dim=-1)
        if not self.config.pooling:
            return image
        return F.normalize((image + self.anomaly_feature(features, logits)) / 2, dim=-1)

    # Sec. 3.3: training

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`global` cross entropy of g_i^+; `focal` and `dice` of every map, summed as often as it counts; weighted."""
        c, (logits, text) = self.config, self.logits(features, self.config.context_in_training)
        image = cosines(self.global_feature(features, logits), text) / c.training_temperature
        maps = [upsample(p, features.grid, features.size, c.upsampling) for p in logits.softmax(-1).unbind(1)]
        focals = torch.stack([n * focal(p, masks) for n, p in zip(self.counts, maps, strict=True)])
        dices = torch.stack([n * dice(p[:, 1], masks) for n, p in zip(self.counts, maps, strict=True)])
        return {
            "global": c.global_weight * F.cross_entropy(image, labels),
            "focal": c.local_weight * focals.sum(),
            "dice": c.local_weight * dices.sum(),
        }

    # Sec. 4: inference

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score of g_i^+ and blurred map, both in [0, 1]; names do not matter."""
        c, (logits, text) = self.config, self.logits(features, self.config.context_in_inference)
        image = cosines(self.global_feature(features, logits), text) / c.temperature
        local = self._mean(logits.softmax(-1) if c.soft_mean else logits)
        pixels = upsample(local, features.grid, features.size)
        return Prediction(
            image.softmax(-1)[:, 1], smooth((pixels if c.soft_mean else pixels.softmax(1))[:, 1], c.sigma)
        )

    # Released checkpoints: {"prompt_learner": state} (train.py:168-169)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`."""
        return released_prompts(checkpoint, "Crane")

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Lengths of the contexts and of the deep tokens, and their depth; the layers are not told."""
        return dict(released_lengths(cls.released_state(checkpoint)))
