"""AA-CLIP: anomaly-aware text anchors, then patches aligned with them (Ma et al., CVPR 2025, arXiv:2503.06661).

Reference: Mwxinnn/AA-CLIP, commit 53db195f230442aa118c246876c94ba1c76139cc. The paper was not at hand: what is said of
it stands in the authors' README and in their issues 29, 33 and 38.

As released, and kept:
    - OpenAI's weights run with the exact GELU (model_configs), positions are bicubic with antialias (model/clip.py:131,
      model/model.py:395-418).
    - Stage 1 lacks the cross entropy of CLS that Eq. 4 of the paper has; CLS is added to every patch instead, the sum
      is not normalised again (train.py:75-85). text_global=True adds it.
    - Four layers have a loss in stage 1, and the last one's alone is learned from (train.py:87-101): see text_layers.
    - Text adapters, text projection and image projections begin random, not as CLIP's own (model/adapter.py:47-53).
    - The map has no softmax: it sums (1 + anomalous - normal) / 2 of 100 * cosine over the layers; the Gaussian is over
      patches; corners are aligned in the upsampling (forward_utils.py:199-218).
    - The image feature is a mean of normalised patches, not normalised again; its loss has no temperature; its score is
      (1 + product with the anomalous anchor) / 2 (model/adapter.py:110-111, train.py:148-150, test.py:83-84).
    - Images are turned, shifted and mirrored at random in both trainings, and their colours changed in the second
      (dataset/__init__.py:30-52 and 89-94).
    - Descriptions such as "dark bottle" stand for the class names of known sets (dataset/constants.py:78-134).
Not kept:
    - V-V attention of stage 1 across the batch, a missing transposition (model/transformer.py:102-134 and 226-239).
      With one image it is the values themselves, our default. surgery="batch" is as released, "vv" what was meant.
    - Scores and maps rescaled by the extremes of the test set; half of an image score, in medical sets all of it, from
      the map's maximum (forward_utils.py:241-254). map_share takes a share of it without looking at other images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import Mix, layer_numbers, plain
from zsad.errors import ZsadError
from zsad.maps import upsample, upsampled_probabilities
from zsad.methods.base import Method, Reference, Stage
from zsad.methods.encoding import reads
from zsad.methods.features import Features, TowerFeatures
from zsad.methods.losses import local
from zsad.methods.prompts import composed, one_name_each, sentence_parts
from zsad.methods.recipe import Recipe
from zsad.methods.streams import SELF_ATTENTION
from zsad.methods.switches import activation, image_blocks, one_of
from zsad.types import Prediction

SCALE = 100.0  # of the cosines of patches
SHARES = ("text_weight", "image_weight", "map_share")  # switches from 0 to 1
BLURS = {"industrial": (7, 1.0), "medical": (9, 1.5)}  # length and sigma of the Gaussian, in patches


def across_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """V-V attention among the tokens that all images have at one place."""
    v = v.transpose(0, 2)
    return plain(v, v, v).transpose(0, 2)


#: attention of the image tower of stage 1, from block `surgery_start` on
SURGERY: dict[str, Mix] = {"value": lambda q, k, v: v, "batch": across_batch, "vv": SELF_ATTENTION["vv"]}


@dataclass(frozen=True)
class Config:
    """Switches of AA-CLIP; numbers of image blocks are counted on 24, of text blocks on 12, and scaled to the tower."""

    text_blocks: int = 3  # first text blocks, with an adapter behind each
    image_blocks: int = 6  # first image blocks, with an adapter behind each
    text_weight: float = 0.1  # share of an adapter in a text token
    image_weight: float = 0.1  # share of an adapter in an image token
    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks whose patches make the map; the deepest also makes the score
    relu: bool = False  # activation behind the image projections (train.py --relu)
    surgery: str = "value"  # attention of stage 1: "value", "batch" (as released, across images), "vv" (across patches)
    surgery_start: int = 6  # first image block with that attention
    text_layers: tuple[int, ...] = (24,)  # blocks whose patches train the text; all that have a loss: 6, 12, 18, 24
    text_global: bool = False  # cross entropy of CLS in stage 1 (Eq. 4), without a temperature, as in stage 2
    orthogonal_weight: float = 0.1  # of the squared cosine between both anchors
    real_names: bool = True  # descriptions for the classes of known sets; False takes their names
    domain: str = "industrial"  # "medical" has a wider Gaussian
    map_share: float = 0.0  # share of the map's maximum in the image score; released: 0.5, medical 1
    activation: str = "gelu"  # as released; OpenAI's weights were trained with "quick_gelu"; "": the backbone's own

    def __post_init__(self) -> None:
        one_of("aaclip", tuple(SURGERY), surgery=self.surgery)
        one_of("aaclip", tuple(BLURS), domain=self.domain)
        image_blocks("aaclip", layers=self.layers, text_layers=self.text_layers, surgery_start=(self.surgery_start,))
        activation("aaclip", self.activation)
        for name, most in (("text_blocks", 12), ("image_blocks", 24), *((share, 1) for share in SHARES)):
            if not 0 <= getattr(self, name) <= most:
                raise ZsadError(f"aaclip: {name} lies in 0 to {most}; got {getattr(self, name)}")
        if self.orthogonal_weight < 0:
            raise ZsadError(f"aaclip: orthogonal_weight is 0 or more; got {self.orthogonal_weight}")


@dataclass(frozen=True)
class TokenFeatures(Features):
    """Tokens of the image tower before anything that is learned."""

    tokens: Tensor  # [B, 1 + n, D] after block 1; in stage 1, before it


class AACLIP(Method):
    """Text adapters that set the anchors of normal and anomalous apart, and image adapters that align patches."""

    name = "aaclip"
    config_class = Config
    reference = Reference(2025, "2503.06661", "Mwxinnn/AA-CLIP", "53db195f230442aa118c246876c94ba1c76139cc", True)
    reads_names = True
    text_recipe = Recipe(rate=1e-5, betas=(0.5, 0.999), batch_size=16, epochs=5, alter=("moves",))
    recipe = Recipe(
        rate=5e-4, betas=(0.5, 0.999), batch_size=2, epochs=20, milestones=(16000, 32000), alter=("colours", "moves")
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        c = config or Config()
        super().__init__(backbone.acting(c.activation), c)
        text, _ = self.text_parts()
        visual, width, output = self.backbone.visual, text.size.width, text.size.output
        self.layers = sorted(set(layer_numbers(c.layers, visual.depth)))
        (text_blocks,), (image_blocks,) = (
            layer_numbers([2 * c.text_blocks], text.size.depth),  # they are counted on 12
            layer_numbers([c.image_blocks], visual.depth),
        )
        self.text_adapters = nn.ModuleList(linear(width, width) for _ in range(text_blocks))
        self.text_projection = linear(width, output)
        self.image_adapters = nn.ModuleList(linear(visual.width, visual.width) for _ in range(image_blocks))
        self.map_projections = nn.ModuleList(linear(visual.width, output) for _ in self.layers)
        self.score_projection = linear(visual.width, output)

    @property
    def stages(self) -> Sequence[Stage]:
        """First the text side, beside a frozen image tower; then the image side, towards the anchors of the first."""
        text = Stage(self.text_recipe, self.encode_for_text, self.text_loss, ("text_",))
        return text, Stage(self.recipe, self.encode, self.loss, ("image_", "map_", "score_"))

    # Anchors: the text tower with adapters (model/adapter.py:114-145, forward_utils.py:138-163)

    def sentences(self, class_name: str) -> list[list[str]]:
        """The 6 normal and the 10 anomalous sentences of a class."""
        parts, word = sentence_parts("aaclip"), class_name.replace("_", " ")
        if self.config.real_names:
            word = dict(line.split(": ", 1) for line in parts["real_names"]).get(class_name, word)
        return [composed(parts[kind], parts["templates"], word) for kind in ("normal", "anomalous")]

    def anchors(self, class_names: Sequence[str]) -> Tensor:
        """Anchors [C, 2, E], order (normal, anomalous), of length 1; one pair per class name."""
        text, tokenizer = self.text_parts()
        pairs = [self.sentences(name) for name in class_names]
        ids, end = tokenizer([line for normal, anomalous in pairs for line in normal + anomalous])
        x, _ = text.walk(text.token_embedding(ids.to(text.positions.device)), lambda i, x: self._in_text(i - 1, x))
        x = self._in_text(text.size.depth, x)[torch.arange(len(x), device=x.device), end.to(x.device)]
        features = F.normalize(F.leaky_relu(self.text_projection(text.norm(x))), dim=-1)
        features, count = features.reshape(len(pairs), -1, text.size.output), len(pairs[0][0])
        means = features[:, :count].mean(1), features[:, count:].mean(1)
        return F.normalize(torch.stack(means, 1), dim=-1)

    def _in_text(self, number: int, x: Tensor) -> Tensor:
        """Tokens behind a text block, adapted."""
        return adapted(x, number, self.text_adapters, self.config.text_weight)

    def fixed_anchors(self, class_names: Sequence[str]) -> Tensor:
        """[B, 2, E] as :meth:`anchors`, without gradients and in full precision; each class is encoded once, alone."""
        with torch.no_grad(), torch.autocast(self.text_projection.weight.device.type, enabled=False):
            found = {name: self.anchors([name])[0] for name in set(class_names)}
        return torch.stack([found[name] for name in class_names])

    # Stage 1: anchors that tell normal from anomalous (train.py:38-101)

    @reads("config.surgery", "config.surgery_start", "config.text_layers")
    @torch.no_grad()
    def encode_for_text(self, images: Tensor) -> Features:
        """What :meth:`operated` makes of images; their tokens alone where that depends on the others of a batch."""
        embedded = self.embedded(images)
        return embedded if self.config.surgery == "batch" else self.operated(embedded)

    @torch.no_grad()
    def embedded(self, images: Tensor) -> TokenFeatures:
        """Tokens before block 1."""
        visual = self.backbone.visual
        size: tuple[int, int] = tuple(images.shape[-2:])  # type: ignore[assignment]
        return TokenFeatures(visual.grid(images), size, visual.embed(images, resize="bicubic_antialias"))

    @torch.no_grad()
    def operated(self, features: TokenFeatures) -> TowerFeatures:
        """CLS of the tower, and patches of a tower with another attention; M = text_layers."""
        visual, c, patches = self.backbone.visual, self.config, []
        start, *layers = layer_numbers((c.surgery_start, *c.text_layers), visual.depth)
        plainly = x = features.tokens
        for number, block in enumerate(visual.blocks, start=1):
            plainly = block(plainly)
            x = plainly if number < start else block(x, SURGERY[c.surgery])
            if number in layers:
                patches.append(visual.head(visual.patches(x)))
        return TowerFeatures(features.grid, features.size, visual.head(plainly[:, 0]), torch.stack(patches, 1))

    def text_loss(
        self, features: Any, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Of stage 1: `focal` and `dice` summed over text_layers, and `orthogonal`."""
        c, given = self.config, one_name_each(class_names, len(features))
        seen = self.operated(features) if isinstance(features, TokenFeatures) else features
        names = sorted(set(given))
        anchors = self.anchors(names)[[names.index(name) for name in given]]
        image = F.normalize(seen.image, dim=-1)
        maps = layer_maps(F.normalize(seen.patches, dim=-1) + image[:, None, None], anchors, seen)
        terms = local(maps, masks, both=True)
        if c.text_global:
            terms["global"] = F.cross_entropy(torch.einsum("be,bke->bk", image, anchors), labels)
        terms["orthogonal"] = c.orthogonal_weight * anchors.prod(1).sum(-1).mean() ** 2
        return terms

    # Stage 2: patches aligned with the anchors (model/adapter.py:67-112, train.py:117-160)

    @reads()
    @torch.no_grad()
    def encode(self, images: Tensor) -> TokenFeatures:
        """Tokens after block 1, behind which the first adapter stands."""
        return self.embedded(images).each(self.backbone.visual.blocks[0])

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Patch features [B, M, n, E] of length 1, M = layers, and the image feature [B, E], a mean of such."""
        visual, c, x, tapped = self.backbone.visual, self.config, tokens, []
        for number, block in enumerate(visual.blocks, start=1):
            x = adapted(block(x) if number > 1 else x, number, self.image_adapters, c.image_weight)
            if number in self.layers:
                tapped.append(visual.norm(visual.patches(x)))
        pairs = [*zip(self.map_projections, tapped, strict=True), (self.score_projection, tapped[-1])]
        values = [F.leaky_relu(project(x)) if c.relu else project(x) for project, x in pairs]
        *patches, last = (F.normalize(value, dim=-1) for value in values)
        return torch.stack(patches, 1), last.mean(1)

    def loss(
        self, features: TokenFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Of stage 2: `global` cross entropy of the image feature; `focal` and `dice` summed over the layers."""
        anchors = self.fixed_anchors(one_name_each(class_names, len(features)))
        patches, image = self.look(features.tokens)
        products = torch.einsum("be,bke->bk", image, anchors)
        maps = layer_maps(patches, anchors, features)
        return {"global": F.cross_entropy(products, labels), **local(maps, masks, both=True)}

    # Inference (test.py:80-98, forward_utils.py:199-218)

    def score(self, features: TokenFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1]; the map is a sum over the layers, see :attr:`map_range`."""
        anchors = self.fixed_anchors(one_name_each(class_names, len(features)))
        patches, image = self.look(features.tokens)
        score = (1 + (image * anchors[:, 1]).sum(-1)) / 2
        total = patch_scores(patches, anchors).sum(1).reshape(-1, *features.grid)
        total = blur(total, *BLURS[self.config.domain]).flatten(1)
        made = upsample(total, features.grid, features.size, align_corners=True)
        low, high = self.map_range
        highest = (made.amax((1, 2)) - low) / (high - low)
        return Prediction(torch.lerp(score, highest.to(score), self.config.map_share), made)

    @property
    def _even(self) -> float:
        """The map where both anchors are equally near; so much it gains where the logits' difference grows by 1."""
        return len(self.layers) / 2

    @property
    def map_range(self) -> tuple[float, float]:
        """What cosines from -1 to 1 allow; in the middle both anchors are equally near."""
        return self._even * (1 - 2 * SCALE), self._even * (1 + 2 * SCALE)

    @property
    def shown_range(self) -> tuple[float, float]:
        """Five nats to either side of the contour, as maps use little of their range; less where that ends before."""
        low, high = self.map_range
        return max(low, self.contour - 5 * self._even), min(high, self.contour + 5 * self._even)

    # Released checkpoints: text_adapter.pth and image_adapter.pth in one dictionary (train.py:106-113, 162-173)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`; both of the authors' files as one."""
        for half in ("text_adapter", "image_adapter"):
            if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(half), dict):
                raise ZsadError(
                    f'not a released AA-CLIP checkpoint with both halves: no "{half}"; make one file of the two: '
                    'torch.save(torch.load("text_adapter.pth", "cpu", weights_only=True) | '
                    'torch.load("image_adapter.pth", "cpu", weights_only=True), "aaclip.pth")'
                )
        last, unused = len(checkpoint["text_adapter"]) - 1, ("epoch", "text_optimizer", "image_optimizer")
        parts = {part: content for part, content in checkpoint.items() if part not in unused}
        named = {part: content if isinstance(content, dict) else {"": content} for part, content in parts.items()}
        return {
            our_name(f"{part}.{name}", last): tensor.float()
            for part, content in named.items()
            for name, tensor in content.items()
        }

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Numbers of adapters, and whether image projections end in an activation; the rest is not told."""
        ours = cls.released_state(checkpoint)
        return {
            "text_blocks": sum(name.startswith("text_adapters.") for name in ours),
            "image_blocks": sum(name.startswith("image_adapters.") for name in ours),
            "relu": "det_proj.fc.0.weight" in checkpoint["image_adapter"],
        }


def linear(inside: int, outside: int) -> nn.Linear:
    """A linear map without bias, drawn as released."""
    made = nn.Linear(inside, outside, bias=False)
    nn.init.xavier_uniform_(made.weight)
    return made


def adapted(x: Tensor, number: int, adapters: nn.ModuleList, share: float) -> Tensor:
    """Tokens [..., D] behind a block, mixed with what its adapter says at the same length, where it has one."""
    if not 1 <= number <= len(adapters):
        return x
    said: Tensor = F.normalize(F.leaky_relu(adapters[number - 1](x)), dim=-1) * x.norm(dim=-1, keepdim=True)
    return share * said + (1 - share) * x


def logits(patches: Tensor, anchors: Tensor) -> Tensor:
    """[B, M, n, E] and [B, 2, E] -> [B, M, n, 2]."""
    return SCALE * torch.einsum("bmne,bke->bmnk", patches, anchors)


def layer_maps(patches: Tensor, anchors: Tensor, features: Features) -> list[Tensor]:
    """Per layer of patches [B, M, n, E] probabilities [B, 2, H, W] of (normal, anomalous), for training."""
    values = logits(patches, anchors).unbind(1)
    return [upsampled_probabilities(x, features.grid, features.size) for x in values]


def patch_scores(patches: Tensor, anchors: Tensor) -> Tensor:
    """Anomaly scores [B, M, n] of patches of length 1, in [0.5 - SCALE, 0.5 + SCALE]."""
    normal, anomalous = logits(patches, anchors).unbind(-1)
    return (1 + anomalous - normal) / 2


def blur(planes: Tensor, length: int, sigma: float) -> Tensor:
    """Gaussian of an odd length over [B, rows, columns], mirrored about the edge places (kornia's "reflect").

    >>> blur(torch.ones(1, 2, 3), 7, 1.0).allclose(torch.ones(1, 2, 3))
    True
    """
    radius = length // 2
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)  # on the CPU: some devices have no float64
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(planes)[None, None]
    for _ in range(2):  # along the last axis, then along the other
        size = planes.shape[-1]
        period = max(2 * (size - 1), 1)
        index = torch.arange(-radius, size + radius, device=planes.device) % period
        rows = planes[..., torch.minimum(index, period - index)].flatten(0, 1)
        planes = F.conv1d(rows[:, None], kernel)[:, 0].reshape(planes.shape).transpose(1, 2)
    return planes


def our_name(name: str, last: int) -> str:
    """Our name of a released tensor; `last` is the number of the text projection among the text adapters.

    Raises:
        ZsadError: If there is no such tensor.

    >>> our_name("image_adapter.det_proj.fc.weight", 10)
    'score_projection.weight'
    """
    for pattern, ours in (
        (rf"text_adapter\.{last}\.fc\.0", "text_projection"),
        (r"text_adapter\.(\d+)\.fc\.0", r"text_adapters.\1"),
        (r"image_adapter\.layer_adapters\.(\d+)\.fc\.0", r"image_adapters.\1"),
        (r"image_adapter\.seg_proj\.(\d+)\.fc(?:\.0)?", r"map_projections.\1"),
        (r"image_adapter\.det_proj\.fc(?:\.0)?", "score_projection"),
    ):
        if found := re.fullmatch(rf"{pattern}\.weight", name):
            return f"{found.expand(ours)}.weight"
    raise ZsadError(f'not a released AA-CLIP checkpoint: unexpected tensor "{name.rstrip(".")}"')
