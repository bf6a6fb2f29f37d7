"""AnoVL: vision-language models adapted to localization without training (Deng et al., 2023, arXiv:2308.15939).

Reference: hq-deng/AnoVL, commit 3a70bfdaea6baf1eeb140c5de8155b535bd94833, written for open_clip's ViT-B/16-plus-240.

As released, and kept:
    - A second stream sums V-V attention outputs beside the ordinary one, without MLP, in the last 12 blocks; its
      patches make the map, CLS comes from the ordinary stream (open_clip/transformer.py:172-194, 482-491, 516-519).
    - Sentence features are averaged before they are normalised (prompt_ensemble.py:46-50).
    - Class names go into the sentences as they are, underscores and all (prompt_ensemble.py:36-39).
    - No temperature: probabilities stay within hundredths of 0.5 (vl_test.py:228, 279). CLIP's own: 0.01.
    - The image score is a mean over 22 views of the image (vl_test.py:204-229, utils.py:52-75). VisA's script takes
      none of them (vis_test.py): augment=False.
    - Position embeddings are resized bicubically with antialias (open_clip/model.py:413-445).
Not kept:
    - Test-time adaptation is off by default; the released scripts adapt: adapt_steps=5. AdamW starts anew for every
      image; as released its moments, and all draws, go on from image to image of a class (vl_test.py:189, 217).
    - Rotations keep right angles on images that are not square; the released code has square ones only.
    - VisA's two square crops of every photo, and its other adapter (vis_test.py:123-141, 210).
    - Four listed layers, of which only the last is read (vl_test.py:266-269).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import walk
from zsad.errors import ZsadError
from zsad.maps import cosines, upsample
from zsad.methods.base import Reference, TrainingFree
from zsad.methods.features import Features
from zsad.methods.prompts import Ensemble, composed, one_name_each, sentence_parts
from zsad.methods.streams import SELF_ATTENTION, side_streams
from zsad.types import Prediction

#: Class names that are not said as they are (prompt_ensemble.py:10-17)
SAID = {"macaroni1": "macaroni", "macaroni2": "macaroni"}
#: Images that go through the tower together, where there are views to fill them up
DENSE = 32
#: Standard deviation of the noise of test-time adaptation, for features that are not normalised (model.py:71)
NOISE = 0.05 * 1.1


@dataclass(frozen=True)
class Config:
    """Switches of AnoVL."""

    blocks: int = 12  # V-V attention runs beside this many last blocks; beside all where there are fewer
    textures: tuple[str, ...] = ("carpet", "leather", "grid", "tile", "wood")  # classes with the templates of textures
    augment: bool = True  # the image score is a mean over 22 views; False: of the image alone, as released for VisA
    temperature: float = 1.0  # divides cosines; as released none. CLIP's own: 0.01
    adapt_steps: int = 0  # steps of test-time adaptation to each image; the released scripts: 5
    adapt_rate: float = 1e-3  # their learning rate
    adapt_seed: int = 111  # of their starting weights and noise; 111 is the released script's for MVTec AD

    def __post_init__(self) -> None:
        for name, low in (("blocks", 1), ("adapt_steps", 0)):
            if getattr(self, name) < low:
                raise ZsadError(f"anovl: {name} is {low} or more; got {getattr(self, name)}")
        for name in ("temperature", "adapt_rate"):
            if getattr(self, name) <= 0:
                raise ZsadError(f"anovl: {name} is above 0; got {getattr(self, name)}")


@dataclass(frozen=True)
class ViewFeatures(Features):
    """What the tower says about an image and its views."""

    image: Tensor  # [B, V, E] CLS of V views, the image itself first, not normalised
    patches: Tensor  # [B, n, E] of the V-V stream, not normalised


class AnoVL(TrainingFree):
    """Many sentences about domain and state, patches of V-V attention, and views of the image."""

    name = "anovl"
    config_class = Config
    reference = Reference(
        2023, "2308.15939", "hq-deng/AnoVL", "3a70bfdaea6baf1eeb140c5de8155b535bd94833", True, "clip-vit-b-16-plus-240"
    )
    reads_names = True
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        self.ensemble = Ensemble(*self.text_parts(), self.sentences, normalised=False, averaged=False)

    # Domain-aware state prompts

    def sentences(self, class_name: str) -> list[list[str]]:
        """462 normal and 462 anomalous sentences: 66 templates of the domain times 7 states, templates first."""
        parts, name = sentence_parts("anovl"), SAID.get(class_name, class_name)
        templates = parts["textures" if class_name in self.config.textures else "objects"]
        return [composed(parts[kind], templates, name, by_state=False) for kind in ("normal", "anomalous")]

    # V-V attention, and the views of the image (frozen)

    @torch.no_grad()
    def encode(self, images: Tensor) -> ViewFeatures:
        """See :class:`ViewFeatures`; V = 22, or 1 without augmentation."""
        visual = self.backbone.visual
        start = max(visual.depth - self.config.blocks, 0) + 1
        x = side = visual.embed(images, resize="bicubic_antialias")
        for step in side_streams(visual.blocks, x, {"vv": SELF_ATTENTION["vv"]}, start):
            x, side = step.after, step.sides["vv"]
        cls = [visual.head(x[:, :1]), *(self._views(images) if self.config.augment else [])]
        patches = visual.patches(visual.head(side))
        return ViewFeatures(visual.grid(images), tuple(images.shape[-2:]), torch.cat(cls, 1), patches)  # type: ignore[arg-type]

    def _views(self, images: Tensor) -> list[Tensor]:
        """CLS [B, v, E] of every 21 views, several views at a time while few images would leave the device idle."""
        visual, together, found = self.backbone.visual, max(DENSE // len(images), 1), []
        for first in range(0, len(VIEWS), together):
            views = torch.cat([view(images) for view in VIEWS[first : first + together]])
            x, _ = walk(visual.blocks, visual.embed(views, resize="bicubic_antialias"))
            found.append(visual.head(x[:, 0]).reshape(-1, len(images), visual.output).transpose(0, 1))
        return found

    # Score and map

    def score(self, features: ViewFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score and map in [0, 1]; in full precision, as all that they say is so near to 0.5."""
        with torch.autocast(features.image.device.type, enabled=False):
            sentences = self.ensemble(one_name_each(class_names, len(features.image)))  # [B, 2, S, E]
            text, image, patches = sentences.mean(2), features.image.float(), features.patches.float()
            if self.config.adapt_steps:
                patches = adapted(patches, text, F.normalize(sentences, dim=-1).flatten(1, 2), self.config)
            p = log_probabilities(patches, text, self.config.temperature).exp()[..., 1]
            maps = upsample(averaged(p, features.grid), features.grid, features.size, align_corners=True)
            scores = log_probabilities(image, text, self.config.temperature).exp()[..., 1].mean(1)
        return Prediction(scores, maps)

    @property
    def shown_range(self) -> tuple[float, float]:
        """What 0.05 of cosine makes to either side of the contour, five nats at CLIP's temperature; less at the ends.

        Without a temperature maps stay within hundredths of 0.5.
        """
        first, last = super().shown_range
        most = math.tanh(0.05 / self.config.temperature / 2) / 2  # sigmoid - 0.5
        return max(first, self.contour - most), min(last, self.contour + most)


def log_probabilities(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Logarithms of the softmax over (normal, anomalous) of cosine / temperature; [B, n, E], [B, 2, E] -> [B, n, 2]."""
    return (cosines(features, text) / temperature).log_softmax(-1)


def averaged(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean of every patch value [B, n] and its eight neighbours; the edge is repeated (vl_test.py:281-282)."""
    planes = F.pad(values.reshape(-1, 1, *grid), (1, 1, 1, 1), "replicate")
    return F.avg_pool2d(planes, 3, stride=1).flatten(1)


# Views of an image [B, 3, H, W], each of the same shape (utils.py:10-75)


def warped(images: Tensor, matrix: Sequence[Sequence[float]]) -> Tensor:
    """Every pixel of the result comes from where the matrix [2, 3] sends it, in coordinates of [-1, 1] per axis."""
    theta = images.new_tensor(matrix).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


def turned(images: Tensor, angle: float) -> Tensor:
    """Turned around the centre, in pixels, by an angle in radians."""
    rows, columns = images.shape[-2:]
    aspect = max(rows - 1, 1) / max(columns - 1, 1)
    c, s = math.cos(angle), math.sin(angle)
    return warped(images, ((c, -s * aspect, 0.0), (s / aspect, c, 0.0)))


def moved(images: Tensor, right: float, down: float) -> Tensor:
    """Shifted to the left and up, by shares of half the width and height."""
    return warped(images, ((1.0, 0.0, right), (0.0, 1.0, down)))


def flipped(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return images.flip(-1)


def greyed(images: Tensor) -> Tensor:
    """The luma of the normalised channels, three times."""
    luma = images.new_tensor((0.299, 0.587, 0.114))[:, None, None]
    return (images * luma).sum(1, keepdim=True).expand_as(images)


VIEWS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(partial(turned, angle=sign * i * math.pi / 16) for i in (1, 2, 3, 4) for sign in (-1, 1)),
    *(partial(moved, right=a * i, down=b * i) for i in (0.1, 0.2) for a in (-1, 1) for b in (-1, 1)),
    flipped,
    greyed,
    *(partial(turned, angle=i * math.pi / 2) for i in (1, 2, 3)),
)


# Test-time adaptation (vl_test.py:102-115, 186-189, 217, 242-263, 270-273; model.py:6-95)


def adapted(patches: Tensor, text: Tensor, sentences: Tensor, config: Config) -> Tensor:
    """Patch features after a few steps on each image alone: clean ones become surer, noisy ones anomalous.

    Every image has weights of its own, all drawn alike, so its result depends on no other image.

    Args:
        patches: [B, n, E], not normalised.
        text: [B, 2, E], order (normal, anomalous).
        sentences: [B, S, E], normalised.
        config: Tells steps, rate, seed and temperature.

    Returns:
        [B, n, E], without gradients.
    """
    draws = torch.Generator().manual_seed(config.adapt_seed)  # on the CPU: the same numbers for every device
    count, width = sentences.shape[1:]
    bound = width**-0.5  # as nn.Linear starts
    with torch.inference_mode(False), torch.enable_grad():
        patches, text, sentences = (x.detach().clone() for x in (patches, text, sentences))
        weight, bias = (
            torch.empty(rows, columns).uniform_(-bound, bound, generator=draws).to(patches).repeat(len(patches), 1, 1)
            for rows, columns in ((count, width), (1, count))
        )
        optimizer = torch.optim.AdamW([weight.requires_grad_(), bias.requires_grad_()], config.adapt_rate)
        for _ in range(config.adapt_steps):
            noise = NOISE * torch.randn(patches.shape[1:], generator=draws).to(patches)
            clean, noisy = (
                log_probabilities(through(x, weight, bias, sentences), text, config.temperature)
                for x in (patches, patches + noise)
            )
            optimizer.zero_grad()
            adaptation_loss(clean, noisy).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return through(patches, weight, bias, sentences).detach()


def through(patches: Tensor, weight: Tensor, bias: Tensor, sentences: Tensor) -> Tensor:
    """Half the patch features [B, n, E], half a mixture of the sentences [B, S, E] (model.py:25-42, 83-92)."""
    chosen = torch.tanh(torch.baddbmm(bias, F.normalize(patches, dim=-1), weight.mT))
    return 0.5 * patches + 0.5 * chosen @ sentences


def adaptation_loss(clean: Tensor, noisy: Tensor) -> Tensor:
    """Entropy of clean patches, and half the error of calling them normal and noisy ones anomalous; [B]."""
    entropy = -(clean.exp() * clean).sum(-1)
    errors = -noisy[..., 1] - clean[..., 0]
    return (entropy + 0.5 * errors).mean(1)
