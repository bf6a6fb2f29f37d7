"""CLIP-AD: a staged dual-path model, SDP, and SDP+ with learned linear layers (Chen et al. 2023, arXiv:2311.00453).

Reference: ByChelsea/CLIP-AD, commit f004973a41344d8c0966934af0c01781989b80e3. The paper was not at hand.

As released, and kept:
    - 418 sentences; one vector stands for those of a state, the largest cluster of DBSCAN, rounded to half precision
      (util/prompt_ensemble.py:29-44, 74-85 and 97). On VisA eps is 1.5 and min_samples 25, and sigma 2 for SDP+
      (util/prompt_ensemble.py:76-79, test_SDP_plus.sh): switches here. Underscores of class names stay.
    - The V-V path has neither residual nor MLP, and starts from nothing in each quarter of the blocks
      (open_clip/transformer.py:219-240).
    - The ordinary path is changed in place after it was tapped, so the taps at the end of the first three stages also
      hold the attention of the next block (lines 229 and 325 there): late_tap. Linear layers and CLS see that.
    - Linear layers read patches without norm and projection, the V-V path has both (lines 518-523 there).
    - Feature surgery weighs cosines by a softmax without temperature, of the same layer's CLS (util/surgery.py:56-69).
    - Learned maps are upsampled as logits with aligned corners, the others as they are and without (test_ft.py:82-91).
    - The loss has Dice of the anomalous side only, and no term of the image (train.py:98-101).
Not kept:
    - The image score adds CLS and the largest value of the map after each was stretched to [0, 1] over all test images
      of a class (util/metrics.py:75-77). Here each image is scored on its own: see CLIPAD.score.
    - Half precision on GPUs (test.py:37 and 56, train.py:55 and 74), except the rounding above.
    - A V-V path tapped inside a stage goes on to change until the stage's end (open_clip/transformer.py:228);
      released scripts tap ends only.
    - DBSCAN that finds no cluster is an error (util/prompt_ensemble.py:82-83); here the mean stands in.
    - Images are taken in the order of their list, class by class (train.py:52, data/dataset.py:27); here shuffled.
    - A batch of one image loses an axis of its masks (train.py:71); masks are resized bilinearly (data/dataset.py:13).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import Block, layer_numbers, plain
from zsad.errors import ZsadError
from zsad.maps import smooth, upsample, upsampled_probabilities
from zsad.methods.base import Method, Reference, nothing_to_learn, released_linears
from zsad.methods.encoding import reads
from zsad.methods.features import Features
from zsad.methods.losses import local
from zsad.methods.prompts import composed, one_name_each, sentence_parts
from zsad.methods.recipe import Recipe
from zsad.methods.representatives import CHOICES, Representatives, halved
from zsad.methods.streams import SELF_ATTENTION, Step
from zsad.methods.switches import image_blocks, one_of, some_of
from zsad.types import Prediction

#: the V-V path starts anew after these blocks
STAGES = (6, 12, 18)


@dataclass(frozen=True)
class Config:
    """Switches of CLIP-AD; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    linear: bool = True  # SDP+, with a learned linear layer per tapped block; False: SDP, which learns nothing
    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks that are tapped, as released the last ones of the stages
    representative: str = "dbscan"  # what stands for the sentences of a state; or "mean", "pca", "kde"
    eps: float = 0.5  # radius of DBSCAN, on features of length 1; as released 1.5 on VisA
    min_samples: int = 15  # of DBSCAN, the sentences within it that make a core; as released 25 on VisA
    half_text: bool = True  # round what stands for a state to half precision, as released for all but "mean"
    late_tap: bool = True  # as released, tap the ordinary path after the next block's attention; False: before it
    image_score: tuple[str, ...] = ("cls", "map")  # what is averaged: CLS, and the map's highest value; see score
    temperature: float = 0.01  # of CLS and of the learned maps
    sigma: float = 8.0  # of the Gaussian over the map, in pixels; as released 2 for SDP+ on VisA

    def __post_init__(self) -> None:
        image_blocks("clipad", layers=self.layers)
        one_of("clipad", tuple(CHOICES), representative=self.representative)
        some_of("clipad", ("cls", "map"), image_score=self.image_score)
        if min(self.eps, self.min_samples, self.temperature) <= 0 or self.sigma < 0:
            raise ZsadError("clipad: eps, min_samples and the temperature are above 0, sigma is 0 or more")


@dataclass(frozen=True)
class DualFeatures(Features):
    """What both paths of a frozen image tower say at L taps; n = rows * columns, row by row."""

    tokens: Tensor  # [B, L, 1 + n, E], CLS of the ordinary and patches of the V-V path, after norm and projection
    patches: Tensor  # [B, L, n, D], of the ordinary path, as they are; L = 0 where nothing is learned on them


def sentences(class_name: str) -> list[list[str]]:
    """198 normal and 220 anomalous sentences: every state in every template (util/prompt_ensemble.py:49-54).

    >>> [len(kind) for kind in sentences("metal_nut")], sentences("metal_nut")[1][0]
    ([198, 220], 'a cropped photo of the damaged metal_nut.')
    """
    parts = sentence_parts("clipad")
    return [composed(parts[kind], parts["templates"], class_name) for kind in ("normal", "anomalous")]


def dual_path(blocks: nn.ModuleList, x: Tensor) -> Iterator[Step]:
    """Walk the ordinary path and, beside it, the V-V path "vv": the sum of V-V attentions since its stage began."""
    starts = {1, *(end + 1 for end in layer_numbers(STAGES, len(blocks)))}
    side = torch.zeros_like(x)
    for number, block in enumerate(blocks, start=1):
        assert isinstance(block, Block)
        q, k, v = block.qkv(x)
        attended = x + block.out(plain(q, k, v))
        after = attended + block.feed(attended)
        new = block.out(SELF_ATTENTION["vv"](q, k, v))
        side = new if number in starts else side + new
        yield Step(number, block, x, attended, after, {"vv": side})
        x = after


def dots(features: Tensor, text: Tensor) -> Tensor:
    """Features [B, ..., E], brought to length 1, times texts [B, 2, E] as they are: [B, ..., 2]."""
    return torch.einsum("b...e,bke->b...k", F.normalize(features, dim=-1), text)


class CLIPAD(Method):
    """Cosines of a V-V path with two text vectors, stage by stage; in SDP+ also those of linearly mapped patches."""

    name = "clipad"
    config_class = Config
    reads_names = True
    reference = Reference(
        2023,
        "2311.00453",
        "ByChelsea/CLIP-AD",
        "f004973a41344d8c0966934af0c01781989b80e3",
        golden=True,
        backbone="clip-vit-b-16-plus-240-e31",
    )
    recipe = Recipe(rate=1e-4, batch_size=8, epochs=5)  # train_SDP_plus.sh
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        visual = self.backbone.visual
        self.taps = sorted(set(layer_numbers(self.config.layers, visual.depth)))
        learned = self.taps if self.config.linear else []
        self.linears = nn.ModuleList(nn.Linear(visual.width, visual.output) for _ in learned)
        self.representatives = Representatives(*self.text_parts(), sentences, self.representative)

    @classmethod
    def learns_nothing(cls, config: Any) -> bool:
        """SDP."""
        return not config.linear

    # Representative vector selection

    def representative(self, features: Tensor) -> Tensor:
        """The vector [E] of length 1, up to rounding, that stands for the sentences [S, E] of a state."""
        c = self.config
        vector: Tensor = CHOICES[c.representative](features, c.eps, c.min_samples)
        rounded = c.half_text and c.representative != "mean"
        return halved(vector) if rounded else F.normalize(vector, dim=0)

    def text_features(self, count: int, class_names: Sequence[str] | None) -> Tensor:
        """[B, 2, E], order (normal, anomalous); "object" where images have no names."""
        return self.representatives(one_name_each(class_names, count))

    # Staged dual path (frozen)

    @reads("config.linear", "config.layers", "config.late_tap")
    @torch.no_grad()
    def encode(self, images: Tensor) -> DualFeatures:
        """See :class:`DualFeatures`; taps in the order of the blocks."""
        visual, c = self.backbone.visual, self.config
        vv: list[Tensor] = []
        ordinary: list[Tensor] = []
        for step in dual_path(visual.blocks, visual.embed(images, resize="bicubic_antialias")):
            if c.late_tap and step.number - 1 in self.taps:
                ordinary.append(step.attended)
            if step.number in self.taps:
                vv.append(step.sides["vv"])
                ordinary += [] if c.late_tap and step.number < visual.depth else [step.after]
        tokens = [visual.head(torch.cat([x[:, :1], visual.patches(v)], 1)) for x, v in zip(ordinary, vv, strict=True)]
        patches = torch.stack([visual.patches(x) for x in ordinary], 1)[:, : len(self.linears)]
        height, width = images.shape[-2:]
        return DualFeatures(visual.grid(images), (height, width), torch.stack(tokens, 1), patches)

    # Maps

    def surgery(self, features: DualFeatures, text: Tensor) -> Tensor:
        """[B, n] in [-L, L]: cosines with both texts, weighted by what CLS says, and their difference; a sum over taps.

        This is the released feature surgery for two texts, less what is the same in both and cancels.
        """
        found = dots(features.tokens, text)
        normal, anomalous = (found[:, :, 1:] * found[:, :, :1].softmax(-1)).unbind(-1)
        return (anomalous - normal).sum(1)

    def learned_maps(self, features: DualFeatures, text: Tensor) -> list[Tensor]:
        """Per linear layer [B, 2, H, W], probabilities of (normal, anomalous)."""
        found = [dots(linear(x), text) for linear, x in zip(self.linears, features.patches.unbind(1), strict=True)]
        return [upsampled_probabilities(x / self.config.temperature, features.grid, features.size) for x in found]

    def score(self, features: DualFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Map in :attr:`map_range`, blurred; image score in [0, 1].

        The image score averages the probability that the last tap's CLS is anomalous and the map's highest value as a
        share of its range, or is one of them. The released code adds both, each stretched over a test set.
        """
        c, text = self.config, self.text_features(len(features), class_names)
        planes = [p[:, 1] for p in self.learned_maps(features, text)]
        total = torch.stack([upsample(self.surgery(features, text), features.grid, features.size), *planes]).sum(0)
        blurred = smooth(total, c.sigma)
        low, high = self.map_range
        parts = {
            "cls": (dots(features.tokens[:, -1, 0], text) / c.temperature).softmax(-1)[:, 1],
            "map": (blurred.flatten(1).amax(1) - low) / (high - low),
        }
        return Prediction(torch.stack([parts[name] for name in c.image_score]).mean(0), blurred)

    @property
    def map_range(self) -> tuple[float, float]:
        """Per tap [-1, 1] by feature surgery, and [0, 1] by the linear layer."""
        return -float(len(self.taps)), float(len(self.taps) + len(self.linears))

    @property
    def shown_range(self) -> tuple[float, float]:
        """0.05 per tap and 0.5 per linear layer to either side of the contour; less where the range ends before.

        Feature surgery uses little of its range; around the default contour, linear layers can use all of theirs.
        """
        first, last = super().shown_range
        most = 0.05 * len(self.taps) + 0.5 * len(self.linears)
        return max(first, self.contour - most), min(last, self.contour + most)

    # Training

    def loss(
        self, features: DualFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`focal`, and `dice` of the anomalous side, summed over the linear layers; labels are not used."""
        if not self.config.linear:
            raise nothing_to_learn(self.name, self.config)
        maps = self.learned_maps(features, self.text_features(len(features), class_names))
        return local(maps, masks, both=False)

    # Released checkpoints: {"linear_layers": state} (train.py:115)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`; which blocks the linear layers belong to is not told."""
        return released_linears(checkpoint, "linear_layers", "linears", "CLIP-AD")
