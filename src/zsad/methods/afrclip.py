"""AFR-CLIP: stateless-to-stateful anomaly feature rectification (Yuan et al. 2025, arXiv:2503.12910).

Reference: the paper. No code was released; docs/methods/afrclip.md says what the paper leaves open, what was decided
and why. Equations and tables are numbered as in the paper.

As written, and kept:
    - The prompts overwrite the last K tokens before blocks 2 to 6 (Eq. 18): the sequence keeps its length, and what the
      last K patches of the bottom row show is lost.
    - Prompts name the object; image score and map are means over four stages; the map is not blurred (Eq. 14).
Not kept:
    - M_t of Eq. 5, which no equation reads, is not computed.
Decided here:
    - Adapters of the image: one per stage, behind the tower's final norm, beginning as its projection.
    - The convolutions of Eq. 4 are 1 x 1 and shared by the stages.
    - Losses, CNN, and where learning begins: near what CLIP says by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.cnn import ResNet18, SmallCNN, imagenet_normalised, load_resnet18
from zsad.backbones.vit import layer_numbers, splice, walk
from zsad.errors import ZsadError
from zsad.maps import cosines, smooth, upsample
from zsad.methods.base import Method, Reference
from zsad.methods.encoding import reads
from zsad.methods.features import Features
from zsad.methods.losses import local
from zsad.methods.prompts import one_name_each
from zsad.methods.recipe import Recipe
from zsad.types import Prediction

#: switches that the frozen part depends on: how far it goes, and what P_v is made of
ENCODED = ("image_prompts", "unified_prompts", "prompt_count", "prompted_stages", "cnn")
STAGES = (6, 12, 18, 24)  # last blocks of the four stages, counted on 24 and scaled to the backbone's depth


@dataclass(frozen=True)
class Config:
    """Switches of AFR-CLIP."""

    cmfr: bool = True  # Cross-Modal Feature Rectification; False compares image with text (Table 3)
    image_prompts: bool = True  # P_v, made of the image by a CNN (Table 5)
    unified_prompts: bool = True  # P_l, learned (Table 5); without P_v and P_l there is no Self Prompting (Table 3)
    prompt_count: int = 5  # K, prompts and linear adapters
    prompted_stages: tuple[int, ...] = (1,)  # stages with Self Prompting: 1; 1, 2; ... (Table 4)
    cnn: str = "small"  # "small" is learned; "resnet18" is frozen and downloaded, nearer to the paper, which names none
    neighborhood: int = 3  # m of Multi-Patch Feature Aggregation (Table 6); 1 is without it (Table 3)
    class_aware: bool = True  # prompts name the object; False says "object"
    abnormal_word: str = "defective"  # "abnormal" in the introduction
    losses: tuple[str, ...] = ("image", "focal", "dice")  # the paper names none
    temperature: float = 1.0  # divides the cosines of Eq. 9 and 13; 0.07 in other papers
    sigma: float = 0.0  # of a Gaussian over the map, in pixels; the paper has none

    def __post_init__(self) -> None:
        stages, losses, m = {1, 2, 3, 4}, {"image", "focal", "dice"}, self.neighborhood
        for name, holds, expected in (
            ("prompt_count", self.prompt_count > 0, "1 or more"),
            ("prompted_stages", self.prompted_stages and stages >= set(self.prompted_stages), "some of 1, 2, 3, 4"),
            ("cnn", self.cnn in ("small", "resnet18"), "small or resnet18"),
            ("neighborhood", m > 0 and m % 2, "an odd number of patches, such as 3"),
            ("losses", self.losses and losses >= set(self.losses), "one or more of image, focal, dice"),
            ("temperature", self.temperature > 0, "a number above 0"),
            ("sigma", self.sigma >= 0, "0 or more pixels"),
        ):
            if not holds:
                raise ZsadError(f"afrclip: {name} takes {expected}; got {getattr(self, name)!r}")


@dataclass(frozen=True)
class PrefixFeatures(Features):
    """What the blocks before the first prompt say; without Self Prompting these are all blocks."""

    tokens: Tensor  # [B, T, N, D] after T blocks: the ends of finished stages, and last the one before the first prompt
    local: Tensor | None = None  # for P_v: the frozen CNN's vector [B, C], or for the learned one the images


class Rectification(nn.Module):
    """Cross-Modal Feature Rectification: what an image token says is added to the stateless text (Eq. 3 to 6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Linear(2 * width, width)  # a 1 x 1 convolution is a linear map of every token
        self.conv2 = nn.Linear(width, width)
        self.linear = nn.Linear(width, width)
        nn.init.normal_(self.linear.weight, std=1e-3)
        nn.init.ones_(self.linear.bias)  # M_v begins near 1: text + image

    def forward(self, visual: Tensor, text: Tensor) -> Tensor:
        """The stateless text [B, E], rectified by every image token [B, S, N, E]: [B, S, N, E]."""
        text = text[:, None, None].expand_as(visual)
        both = torch.cat([visual, text], -1)  # Eq. 3
        gate = torch.sigmoid(self.conv2(F.relu(self.conv1(both))))
        weights: Tensor = self.linear(gate)  # Eq. 4, and of Eq. 5 the half that is M_v
        return text + visual * weights  # Eq. 6 for CLS, Eq. 10 for patches


class SelfPrompting(nn.Module):
    """K tokens made of what a CNN sees, plus K learned ones (Eq. 15 and 16); they begin as `start` [K, D]."""

    def __init__(self, config: Config, start: Tensor) -> None:
        super().__init__()
        learned = config.image_prompts and config.cnn == "small"
        self.cnn = SmallCNN() if learned else None
        self.unified = nn.Parameter(start) if config.unified_prompts else None
        offsets = torch.zeros_like(start) if config.unified_prompts else start
        weights = torch.randn(*start.shape, SmallCNN.width if learned else ResNet18.width) * 1e-3
        pairs = zip(weights, offsets, strict=True) if config.image_prompts else ()
        self.adapters = nn.ModuleList(linear_adapter(*pair) for pair in pairs)

    def forward(self, local: Tensor | None) -> Tensor:
        """[B, K, D], or without P_v [K, D]; `local` is that of :class:`PrefixFeatures`."""
        if local is None:
            assert self.unified is not None
            return self.unified
        seen = local if self.cnn is None else self.cnn(local)
        prompts = torch.stack([adapter(seen) for adapter in self.adapters], 1)  # Eq. 15
        return prompts if self.unified is None else prompts + self.unified  # Eq. 16


def linear_adapter(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear map that begins as `weight` [out, in] and `bias` [out], or without one as zero."""
    adapter = nn.Linear(weight.shape[1], weight.shape[0])
    adapter.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else bias})
    return adapter


def aggregate(patches: Tensor, grid: tuple[int, int], neighborhood: int) -> Tensor:
    """Multi-Patch Feature Aggregation: the mean of the patches in a square around each patch (Eq. 19 to 21).

    Args:
        patches: [B, rows*columns, E], row by row.
        grid: Rows and columns.
        neighborhood: Side m of the square, odd; at the edges of the image the mean is over the patches that there are.

    Returns:
        As `patches`.

    >>> aggregate(torch.tensor([[[1.0], [2.0], [6.0]]]), (1, 3), 3).flatten().tolist()
    [1.5, 3.0, 4.0]
    """
    planes = patches.transpose(1, 2).reshape(len(patches), -1, *grid)  # Eq. 19
    means = F.avg_pool2d(planes, neighborhood, 1, neighborhood // 2, count_include_pad=False)  # Eq. 20
    return means.flatten(2).transpose(1, 2)  # Eq. 21


def prompted_blocks(stages: Sequence[int], ends: Sequence[int]) -> list[int]:
    """All blocks of some stages but the tower's first; `ends` are the last blocks of the four stages.

    >>> prompted_blocks((1, 2), (6, 12, 18, 24))
    [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    """
    before = (1, *ends)
    found = sorted({i for stage in stages for i in range(before[stage - 1] + 1, ends[stage - 1] + 1)})
    if not found:
        raise ZsadError(f"afrclip: of this tower only block 1 is in stage {stages[0]}; set other prompted_stages")
    return found


class AFRCLIP(Method):
    """A sentence without a state, rectified by the image, beside a normal and an abnormal one: text against text."""

    name = "afrclip"
    reads_names = True
    config_class = Config
    reference = Reference(2025, "2503.12910")
    recipe = Recipe(rate=1e-3, schedule="harmonic", batch_size=4, epochs=100)
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        self.text_parts()
        c, visual, device = self.config, backbone.visual, backbone.logit_scale.device
        prompts = c.image_prompts or c.unified_prompts
        self.ends = layer_numbers(STAGES, visual.depth)
        self.prompted = prompted_blocks(c.prompted_stages, self.ends) if prompts else []
        self.kept = min(self.prompted, default=visual.depth + 1) - 1  # the last block whose output `encode` can keep
        self.taps = sorted({end for end in self.ends if end < self.kept} | {self.kept})
        projection = visual.project(torch.eye(visual.width, device=device)).T
        self.visual_adapters = nn.ModuleList(linear_adapter(projection) for _ in STAGES)
        self.text_adapter = linear_adapter(torch.eye(visual.output))
        self.rectification = Rectification(visual.output) if c.cmfr else None
        self.prompting = SelfPrompting(c, self.blank_tokens()) if prompts else None
        frozen = c.image_prompts and c.cnn == "resnet18"
        self._cnn = [load_resnet18(device)] if frozen else []  # in a list, so that it is not registered

    @property
    def frozen(self) -> list[nn.Module]:
        """The backbone, and the CNN where it is a frozen one."""
        return [*super().frozen, *self._cnn]

    # Normal, abnormal and stateless prompts (Eq. 2)

    def sentences(self, class_name: str) -> tuple[str, str, str]:
        """The three prompts of a class, in this order."""
        word = class_name.replace("_", " ") if self.config.class_aware else "object"
        normal, abnormal = f"a photo of a normal {word}", f"a photo of a {self.config.abnormal_word} {word}"
        return normal, abnormal, f"a photo of a {word}"

    def text_features(self, class_names: Sequence[str]) -> Tensor:
        """[B, 3, E], order (normal, abnormal, stateless), not normalised; a name that comes twice is encoded once."""
        text, tokenizer = self.text_parts()
        names, device = sorted(set(class_names)), text.positions.device
        ids, end = tokenizer([sentence for name in names for sentence in self.sentences(name)])
        with torch.no_grad():
            encoded: Tensor = text(ids.to(device), end.to(device))
        adapted: Tensor = self.text_adapter(encoded.reshape(len(names), 3, -1))  # Eq. 2
        return adapted[[names.index(name) for name in class_names]]

    # Self Prompting (Eq. 15 to 18)

    @reads(*(f"config.{name}" for name in ENCODED))
    @torch.no_grad()
    def encode(self, images: Tensor) -> PrefixFeatures:
        """See :class:`PrefixFeatures`.

        Raises:
            ZsadError: If the images have fewer patches than there are prompts.
        """
        visual, grid = self.backbone.visual, self.backbone.visual.grid(images)
        if self.prompting is not None and self.config.prompt_count > grid[0] * grid[1]:
            raise ZsadError(
                f"prompt_count={self.config.prompt_count} tokens overwrite patches, of which there are only "
                f"{grid[0]} x {grid[1]}; use larger images or fewer prompts"
            )
        local = images if self.config.image_prompts else None
        for cnn in self._cnn:
            local = cnn(imagenet_normalised(images, self.backbone.mean, self.backbone.std))
        x = visual.embed(images, resize="bilinear")
        _, tapped = walk(visual.blocks[: self.kept], x, self.taps)  # Eq. 17
        tokens = torch.stack([tapped[i] for i in self.taps], 1)
        return PrefixFeatures(grid, tuple(images.shape[-2:]), tokens, local)  # type: ignore[arg-type]

    @torch.no_grad()
    def blank_tokens(self) -> Tensor:
        """What the blocks before the first prompt make of the last K patches of an image in the mean colour, [K, D]."""
        visual = self.backbone.visual
        side = visual.size.grid * visual.size.patch
        x, _ = walk(visual.blocks[: self.kept], visual.embed(visual.cls.new_zeros(1, 3, side, side)))
        patches = visual.patches(x)[0].to(torch.get_default_device())  # where the rest is drawn
        return patches[torch.arange(-self.config.prompt_count, 0) % len(patches)]

    def stage_features(self, features: PrefixFeatures) -> list[Tensor]:
        """The tokens after each stage, four times [B, N, D]."""
        found = dict(zip(self.taps, features.tokens.unbind(1), strict=True))
        if self.prompting is None:
            return [found[end] for end in self.ends]
        prompts, done = self.prompting(features.local), self.kept

        def insert(i: int, x: Tensor) -> Tensor:
            return splice(x, x.shape[1] - prompts.shape[-2], prompts) if i + done in self.prompted else x  # Eq. 18

        later = [end - done for end in self.ends if end > done]
        _, tapped = walk(self.backbone.visual.blocks[done:], found[done], later, edit=insert)
        found |= {i + done: x for i, x in tapped.items()}
        return [found[end] for end in self.ends]

    # Adapted and aggregated image features; text-on-text logits (Eq. 1, 7, 8, 11, 12)

    def visual_features(self, features: PrefixFeatures) -> Tensor:
        """Adapted tokens of the four stages, CLS first, then the aggregated patches: [B, 4, 1 + n, E]."""
        visual, rows = self.backbone.visual, []
        for adapter, x in zip(self.visual_adapters, self.stage_features(features), strict=True):
            x = adapter(visual.norm(x))  # Eq. 1
            patches = aggregate(visual.patches(x), features.grid, self.config.neighborhood)
            rows.append(torch.cat([x[:, :1], patches], 1))
        return torch.stack(rows, 1)

    def logits(self, features: PrefixFeatures, class_names: Sequence[str] | None = None) -> Tensor:
        """Cosines with (normal, abnormal) over the temperature, [B, 4, 1 + n, 2]; CLS first."""
        tokens = self.visual_features(features)
        text = self.text_features(one_name_each(class_names, len(tokens)))
        if self.rectification is not None:
            tokens = self.rectification(tokens, text[:, 2])
        return cosines(tokens, text[:, :2]) / self.config.temperature  # Eq. 7, 8, 11, 12

    # Text-on-text anomaly scoring (Eq. 9, 13, 14)

    def score(self, features: PrefixFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1], of CLS; map in [0, 1]; both are means over the stages."""
        p = self.logits(features, class_names).softmax(-1)[..., 1].mean(1)  # Eq. 9 and 13
        maps = upsample(p[:, 1:], features.grid, features.size)  # Eq. 14
        return Prediction(p[:, 0], smooth(maps, self.config.sigma))

    def loss(
        self, features: PrefixFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`image` cross entropy of CLS; `focal` and `dice` (both directions) of the map; means over the stages."""
        logits = self.logits(features, class_names)
        repeats = logits.shape[1]
        truth, p = masks.repeat_interleave(repeats, 0), logits[:, :, 1:].softmax(-1).flatten(0, 1)
        p = upsample(p, features.grid, features.size)
        terms = {
            "image": F.cross_entropy(logits[:, :, 0].flatten(0, 1), labels.repeat_interleave(repeats)),
            **local([p], truth, both=True),
        }
        return {name: term for name, term in terms.items() if name in self.config.losses}
