"""AdaCLIP: hybrid learnable prompts in both towers (Cao et al., ECCV 2024, arXiv:2407.15795).

Reference: caoyunkang/AdaCLIP, commit e27ee32bf19be149795c8c8972d4c3c88cd5a496.

As released, and kept:
    - OpenAI's weights run with the exact GELU (custom_clip.py:652, model_configs/ViT-L-14-336.json).
    - Dynamic prompts are made of the projected CLS of a pass without prompts, one linear map per prompt, and added to
      the static ones of every block (adaclip.py:405-414, 72-75, 107-110).
    - Visual prompts stand behind the patches from block 1 on and are renewed before blocks 2 to 4; text prompts
      overwrite words 1 to 5 before blocks 2 to 4, so block 1 reads the sentence (adaclip.py:63-137).
    - "-" in a class name becomes a space, "_" stays (adaclip.py:213).
    - Prompts are rounded to half precision on their way in (adaclip.py:87, 118, 123).
    - Patches are taken as they leave blocks 6, 12, 18, 24, without norm and projection (adaclip.py:375-385, 477-488).
    - Fusion groups the 100 most anomalous patches and averages all centres (adaclip.py:233-286); the paper's way:
      clustered="all".
    - Corner patches lie on corner pixels (align_corners, adaclip.py:534); a test averages logits over the layers.
    - Dice is taken of every row of pixels (trainer.py:114-115, 132-133); of images: dice="images".
    - A fifth of the training images of MVTec AD, and of no other set, are mosaics of four of a class, under the label
      of the image that they replace (dataset/mvtec.py:15, dataset/base_dataset.py:54-109 and 136).
Not kept:
    - A batch of one image: prompts of many images are encoded together.
    - K-means that starts elsewhere for every image and run (adaclip.py:239): the same random numbers for all.
    - The text prompts of block 1, which are never used.
    - Training in float16, which the authors call unstable (README.md, train.sh); the best epoch on a validation set
      (train.py:118-127).
    - Masks are resized by nearest neighbour, not bilinear with a threshold of 0.5 (trainer.py:56-60, 117-118).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import Edit, layer_numbers, splice, walk
from zsad.errors import ZsadError
from zsad.maps import cosines, smooth, upsampled_probabilities
from zsad.methods.base import Method, Reference
from zsad.methods.encoding import reads
from zsad.methods.features import Features
from zsad.methods.hsf import fuse, fuse_most_anomalous, kmeans
from zsad.methods.losses import dice, focal, local
from zsad.methods.prompts import Ensemble, HalfGradient, composed, one_name_each, sentence_parts
from zsad.methods.recipe import Recipe
from zsad.methods.switches import activation, image_blocks, one_of
from zsad.types import Prediction

TEMPLATES = 4  # of APRIL-GAN's, the first ones (adaclip.py:157-161)


@dataclass(frozen=True)
class Config:
    """Switches of AdaCLIP; numbers of image layers are counted on 24 and scaled to the backbone's depth."""

    prompts: tuple[str, ...] = ("static", "dynamic")  # kinds that are added up
    branches: tuple[str, ...] = ("visual", "text")  # towers that have prompts
    length: int = 5  # prompts per block
    depth: int = 4  # first blocks with prompts, not scaled; in the text tower the first is counted but not changed
    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks whose patches make maps
    hsf: bool = True  # hybrid semantic fusion; False scores CLS alone
    clusters: int = 20  # groups of patches
    patches_per_cluster: int = 5  # so many times `clusters` patches are grouped, the most anomalous ones
    clustered: str = "top"  # these, the mean of all centres; the paper's: "all", the centre of the most anomalous group
    share: float = 0.2  # of the fused patches in the image's feature
    seed: int = 111  # of the random numbers that k-means starts with
    dice: str = "rows"  # a Dice loss for every row of pixels; the usual one: "images"
    activation: str = "gelu"  # as released; OpenAI's weights were trained with "quick_gelu"; "": the backbone's own
    half_prompts: bool = True  # round prompts to half precision
    temperature: float = 0.01  # divides the cosines
    sigma: float = 4.0  # of the Gaussian over the map, in pixels

    def __post_init__(self) -> None:
        for name, known in (("prompts", ("static", "dynamic")), ("branches", ("visual", "text"))):
            values = getattr(self, name)
            if set(values) - set(known) or len(set(values)) < len(values):
                raise ZsadError(f"adaclip: {name} takes {' and '.join(known)}, each at most once; got {values!r}")
        if bool(self.prompts) != bool(self.branches):
            raise ZsadError("adaclip: without prompts, both prompts and branches are empty; with them, neither is")
        one_of("adaclip", ("top", "all"), clustered=self.clustered)
        one_of("adaclip", ("rows", "images"), dice=self.dice)
        image_blocks("adaclip", layers=self.layers)
        activation("adaclip", self.activation)
        if min(self.length, self.depth, self.clusters, self.patches_per_cluster) < 1:
            raise ZsadError("adaclip: length, depth, clusters and patches_per_cluster are 1 or more")
        if not (0 <= self.share <= 1 and self.temperature > 0 and self.sigma >= 0):
            raise ZsadError("adaclip: share lies in 0 to 1, the temperature is above 0, sigma is 0 or more")


@dataclass(frozen=True)
class PromptedFeatures(Features):
    """What is known of images before the first prompt."""

    tokens: Tensor  # [B, 1 + n, D], before block 1
    source: Tensor  # [B, E], the projected CLS of a pass without prompts, not normalised


class HybridPrompts(nn.Module):
    """Prompts of one tower: static ones per block, and dynamic ones of the image, the same for every block.

    Args:
        config: Which kinds there are, and how many prompts per block.
        blocks: Numbers of the blocks that have prompts.
        source: Channels of what dynamic prompts are made of.
        width: Channels of a token of the tower.
    """

    def __init__(self, config: Config, blocks: Sequence[int], source: int, width: int) -> None:
        super().__init__()
        self.blocks, self.shape, self.rounded = tuple(blocks), (config.length, width), config.half_prompts
        static = blocks if "static" in config.prompts else ()
        self.static = nn.ParameterDict({str(i): torch.randn(self.shape) * 0.02 for i in static})
        count = config.length if "dynamic" in config.prompts else 0
        self.dynamic = nn.ModuleList(nn.Linear(source, width) for _ in range(count))

    def generated(self, source: Tensor) -> Tensor:
        """Dynamic prompts [B, length, width] of sources [B, E]; 0 where there are none."""
        made = [layer(source) for layer in self.dynamic]
        return torch.stack(made, 1) if made else source.new_zeros(len(source), *self.shape)

    def forward(self, source: Tensor, copies: int = 1) -> dict[int, Tensor]:
        """Prompts [B * copies, length, width] by number of block, for sources [B, E]; copies of one image in a row."""
        made = self.generated(source)
        total = {i: made + self.static[str(i)] if self.static else made for i in self.blocks}
        total = {i: x.repeat_interleave(copies, 0) for i, x in total.items()}  # each sentence's gradient is rounded
        return {i: HalfGradient.apply(x) for i, x in total.items()} if self.rounded else total  # type: ignore[no-untyped-call]


def inserted(prompts: Mapping[int, Tensor], at: int) -> Edit:
    """Writes the prompts of a block over tokens `at` and following, or behind the last token where x ends there."""
    return lambda i, x: splice(x, at, prompts[i]) if i in prompts else x


class AdaCLIP(Method):
    """Both towers see prompts, learned ones and ones made of the image; linear maps bring patches to the text."""

    name = "adaclip"
    config_class = Config
    reference = Reference(2024, "2407.15795", "caoyunkang/AdaCLIP", "e27ee32bf19be149795c8c8972d4c3c88cd5a496", True)
    reads_names = True
    recipe = Recipe(
        rate=1e-2,
        betas=(0.5, 0.999),
        weight_decay=0.01,
        batch_size=1,
        epochs=5,
        mosaic=0.2,
        mosaic_way="images",
        mosaic_of=("mvtec",),
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        config = config or Config()
        super().__init__(backbone.acting(config.activation), config)
        text, tokenizer = self.text_parts()
        visual, c = self.backbone.visual, config
        self.visual_prompts = self._prompts("visual", range(1, min(c.depth, visual.depth) + 1), visual.width)
        self.text_prompts = self._prompts("text", range(2, min(c.depth, text.size.depth) + 1), text.size.width)
        self.patch_layers = nn.ModuleList(nn.Linear(visual.width, visual.output) for _ in c.layers)
        self.cls_layer = nn.Linear(visual.output, visual.output)
        self._ensemble = Ensemble(text, tokenizer, self.sentences)  # where the text tower has no prompts

    def _prompts(self, branch: str, blocks: range, width: int) -> HybridPrompts | None:
        made = branch in self.config.branches and len(blocks) > 0
        return HybridPrompts(self.config, blocks, self.backbone.visual.output, width) if made else None

    # What dynamic prompts are made of (frozen)

    @reads()
    @torch.no_grad()
    def encode(self, images: Tensor) -> PromptedFeatures:
        """See :class:`PromptedFeatures`."""
        visual = self.backbone.visual
        tokens = visual.embed(images, resize="bicubic")
        last, _ = walk(visual.blocks, tokens)
        size = (images.shape[-2], images.shape[-1])
        return PromptedFeatures(visual.grid(images), size, tokens, visual.head(last[:, 0]))

    # Image features

    def visual_features(self, features: PromptedFeatures) -> tuple[Tensor, Tensor]:
        """CLS [B, E] and patches [B, M, n, E] under visual prompts, in the space of the text, of length 1."""
        visual, tokens = self.backbone.visual, features.tokens
        prompts = self.visual_prompts(features.source) if self.visual_prompts else {}
        numbers = layer_numbers(self.config.layers, visual.depth)
        last, tapped = walk(visual.blocks, tokens, numbers, edit=inserted(prompts, tokens.shape[1]))
        cls = self.cls_layer(visual.head(last[:, 0]))
        seen = [visual.patches(tapped[i][:, : tokens.shape[1]]) for i in numbers]
        patches = torch.stack([layer(x) for layer, x in zip(self.patch_layers, seen, strict=True)], 1)
        return F.normalize(cls, dim=-1), F.normalize(patches, dim=-1)

    # Text features

    def sentences(self, class_name: str) -> list[list[str]]:
        """28 normal and 20 anomalous sentences of a class name; "-" is read as a space, "_" stays (adaclip.py:213)."""
        parts, word = sentence_parts("aprilgan"), class_name.replace("-", " ")
        return [composed(parts[kind], parts["templates"][:TEMPLATES], word) for kind in ("normal", "anomalous")]

    def text_features(self, source: Tensor, class_names: Sequence[str]) -> Tensor:
        """[B, 2, E], order (normal, anomalous), not normalised; prompts make them differ from image to image.

        Raises:
            ZsadError: If the prompts are so long that they would overwrite the end of a sentence.
        """
        if self.text_prompts is None:
            return self._ensemble(class_names)
        normal, anomalous = self.sentences("")
        words, end = self._words(class_names)
        edit = inserted(self.text_prompts(source, len(normal) + len(anomalous)), 1)
        features = F.normalize(self.text_parts()[0].encode(words, end, edit), dim=-1)
        states = features.unflatten(0, (len(class_names), -1)).split([len(normal), len(anomalous)], 1)  # type: ignore[no-untyped-call]
        return torch.stack([state.mean(1) for state in states], 1)

    def _words(self, class_names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embedded sentences of every image, one image after the other [B * 48, L, D], and where they end [B * 48]."""
        (text, tokenizer), names = self.text_parts(), sorted(set(class_names))
        ids, end = tokenizer([sentence for name in names for state in self.sentences(name) for sentence in state])
        if self.config.length >= int(end.min()):
            raise ZsadError(f"adaclip: length={self.config.length} is longer than a sentence; {int(end.min()) - 1} fit")
        which, place = [names.index(name) for name in class_names], text.positions.device
        ids, end = ids.reshape(len(names), -1, ids.shape[1])[which], end.reshape(len(names), -1)[which]
        return text.token_embedding(ids.flatten(0, 1).to(place)), end.flatten().to(place)

    # Hybrid semantic fusion

    def most_anomalous(self, local: Tensor) -> Tensor:
        """Numbers [B, k] of the patches that are grouped, by exponents [B, M, n, 2]; the most anomalous one first."""
        normal, anomalous = local.mean(1).unbind(-1)
        c, n = self.config, local.shape[2]
        wanted = n if c.clustered == "all" else c.clusters * c.patches_per_cluster
        return (anomalous - normal).topk(min(n, wanted)).indices  # in the order of the probability

    def groups(self, points: Tensor) -> Tensor:
        """The groups [B, k] of patches [B, k, D]."""
        return kmeans(points, self.config.clusters, self.config.seed)

    def fused(self, image: Tensor, patches: Tensor, local: Tensor) -> Tensor:
        """The image's feature [B, E] with a share of what its patches [B, M, n, E] have in common, of length 1."""
        c, chosen = self.config, self.most_anomalous(local)
        picked = patches.gather(2, chosen[:, None, :, None].expand(-1, patches.shape[1], -1, patches.shape[-1]))
        if c.clustered == "top":
            common = fuse(picked, self.groups(picked.transpose(1, 2).flatten(2)))
        else:
            anomaly = local.mean(1).softmax(-1)[..., 1].gather(1, chosen)
            common = fuse_most_anomalous(picked, self.groups(picked.mean(1)), anomaly)
        return F.normalize(c.share * common + (1 - c.share) * image, dim=-1)

    def logits(self, features: PromptedFeatures, class_names: Sequence[str] | None) -> tuple[Tensor, Tensor]:
        """Exponents of (normal, anomalous), of the image [B, 2] and of its patches [B, M, n, 2]."""
        c, names = self.config, one_name_each(class_names, len(features))
        text = self.text_features(features.source, names).float()
        image, patches = (x.float() for x in self.visual_features(features))
        with torch.autocast(text.device.type, enabled=False):  # the temperature makes small differences large
            local = cosines(patches, text) / c.temperature
            image = self.fused(image, patches, local) if c.hsf else image
            return torch.einsum("be,bke->bk", image, F.normalize(text, dim=-1)) / c.temperature, local

    # Inference

    def score(self, features: PromptedFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score and blurred map, both in [0, 1]."""
        image, patches = self.logits(features, class_names)
        pixels = upsampled_probabilities(patches.mean(1), features.grid, features.size)[:, 1]
        return Prediction(image.softmax(-1)[:, 1], smooth(pixels, self.config.sigma))

    # Training

    def loss(
        self, features: PromptedFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Focal loss of the `image`; `focal` and `dice` (both directions) of the maps, summed over the layers."""
        image, patches = self.logits(features, class_names)
        maps = [upsampled_probabilities(x, features.grid, features.size) for x in patches.unbind(1)]
        return {"image": focal(image.softmax(-1), labels), **local(maps, masks, both=True, dice=self._dice)}

    def _dice(self, probability: Tensor, target: Tensor) -> Tensor:
        if self.config.dice == "rows":
            probability, target = probability.flatten(0, 1), target.flatten(0, 1)
        return dice(probability, target)

    # Released checkpoints: {"clip_model.<module>.<number>": tensor} (trainer.py:89-97)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`."""
        return {name: tensor.float() for name, tensor in _renamed(checkpoint).items()}

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """Kinds, towers, length and, by static prompts, depth; layers and fusion are not told."""
        state, both = _renamed(checkpoint), ("visual", "text")
        static, dynamic = ([name for name in state if f"_prompts.{kind}." in name] for kind in ("static", "dynamic"))
        told: dict[str, Any] = {"prompts": (("static",) if static else ()) + (("dynamic",) if dynamic else ())}
        told["branches"] = tuple(b for b in both if any(name.startswith(b) for name in static + dynamic))
        if static:
            told |= {"length": len(state[static[0]]), "depth": max(int(name.split(".")[-1]) for name in static)}
        elif dynamic:
            told["length"] = 1 + max(int(name.split(".")[2]) for name in dynamic)
        return told


#: modules in the checkpoints, and their tensors here; prompts are numbered by block, from 1
RELEASED = {
    "visual_prompter.static_prompts": "visual_prompts.static.{block}",
    "text_prompter.static_prompts": "text_prompts.static.{block}",
    "dynamic_visual_prompt_generator.head": "visual_prompts.dynamic.{i}.{end}",
    "dynamic_text_prompt_generator.head": "text_prompts.dynamic.{i}.{end}",
    "patch_token_layer.head": "patch_layers.{i}.{end}",
    "cls_token_layer.head": "cls_layer.{end}",
}


def _renamed(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of a released checkpoint under our names, without those that were never used."""
    if not isinstance(checkpoint, dict):
        raise ZsadError("not a released AdaCLIP checkpoint: expected a dictionary of tensors called clip_model....")
    ours: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        found = re.fullmatch(r"clip_model\.(\w+\.\w+)\.(\d+)\.?(weight|bias)?", str(name))
        if found is None or found[1] not in RELEASED:
            raise ZsadError(f'not a released AdaCLIP checkpoint: unexpected tensor "{name}"')
        ours[RELEASED[found[1]].format(i=found[2], block=int(found[2]) + 1, end=found[3])] = tensor
    ours.pop("text_prompts.static.1", None)  # block 1 reads the sentence
    towers = {name.partition("_")[0] for name in ours if "_prompts.static." in name}
    idle = {"visual", "text"} - towers if towers else ()  # maps for a tower without prompts (adaclip.py:389-399)
    return {name: tensor for name, tensor in ours.items() if not any(name.startswith(f"{x}_prompts") for x in idle)}
