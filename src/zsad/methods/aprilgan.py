"""APRIL-GAN: one linear adapter per layer (Chen et al., VAND challenge at CVPR 2023, arXiv:2305.17382).

Also known as VAND. Zero-shot part; the few-shot part with its memory of normal images is not a method of zsad.

Reference: ByChelsea/VAND-APRIL-GAN, commit f13b8a634e04f9fde8fa03db125b25af5695d8e1.

As released, and kept:
    - Both towers run with the exact GELU at 518 pixels, though OpenAI's weights were trained with QuickGELU: the model
      is rebuilt from a configuration that does not say so (open_clip/factory.py:146-169, open_clip/model.py:84-87
      and 156).
    - Position embeddings are resized bicubically with antialias (open_clip/model.py:414-443).
    - Patches are raw outputs of blocks, without final norm and projection (open_clip/transformer.py:336-338); CLS has
      both (open_clip/transformer.py:521-527).
    - Logits are upsampled with aligned corners, then comes the softmax; maps are summed, not blurred (test.py:176-183).
    - The image score comes from CLS alone, so training does not change it (test.py:168-169).
    - The loss has Dice of the anomalous side only, and no term of the image (train.py:131-137).
    - Underscores of class names stay (prompt_ensemble.py:15-18).
    - A fifth of the training images of MVTec AD are mosaics of four of a class, none of VisA (dataset.py:98-144,
      train.py:81-85 and 170).
Not kept:
    - Half precision on GPUs (train.py:99 and 110, test.py:141 and 159); text features are always in full precision.
    - Only the first image of a batch is scored with its own name (test.py:168); here every image is.
    - A last batch of one image loses an axis of its masks (train.py:132).
    - Resized position embeddings do not replace the trained ones: every size starts from those.
    - Masks are resized by nearest neighbour, not bilinear with a threshold of 0.5 (train.py:74-78 and 133).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import layer_numbers, walk
from zsad.errors import ZsadError
from zsad.maps import cosines, probabilities, upsampled_probabilities
from zsad.methods.base import Method, Reference, released_linears
from zsad.methods.encoding import reads
from zsad.methods.features import Features
from zsad.methods.losses import local
from zsad.methods.prompts import Ensemble, composed, one_name_each, sentence_parts
from zsad.methods.recipe import Recipe
from zsad.methods.switches import activation, image_blocks
from zsad.types import Prediction


@dataclass(frozen=True)
class Config:
    """Switches of APRIL-GAN; numbers of blocks are counted on 24 and scaled to the backbone's depth."""

    layers: tuple[int, ...] = (6, 12, 18, 24)  # blocks whose patches get an adapter and a map
    temperature: float = 0.01  # divides cosines, of CLS and of patches
    activation: str = "gelu"  # as released; OpenAI's weights were trained with "quick_gelu"; "": the backbone's own

    def __post_init__(self) -> None:
        image_blocks("aprilgan", layers=self.layers)
        activation("aprilgan", self.activation)
        if self.temperature <= 0:
            raise ZsadError(f"aprilgan: the temperature is above 0; got {self.temperature}")


@dataclass(frozen=True)
class LayerFeatures(Features):
    """What a frozen image tower says, before the adapters."""

    image: Tensor  # [B, E], CLS after the tower's own norm and projection, not normalised
    patches: Tensor  # [B, L, n, D], outputs of L blocks as they are, row by row; n = rows * columns


def sentences(class_name: str) -> list[list[str]]:
    """245 normal and 175 anomalous sentences: every state in every template (prompt_ensemble.py:9-22).

    >>> [len(kind) for kind in sentences("metal_nut")], sentences("metal_nut")[1][0]
    ([245, 175], 'a bad photo of a damaged metal_nut.')
    """
    parts = sentence_parts("aprilgan")
    return [composed(parts[kind], parts["templates"], class_name) for kind in ("normal", "anomalous")]


class APRILGAN(Method):
    """Fixed sentences, and one learned linear map per layer that brings patches into the space of the sentences."""

    name = "aprilgan"
    config_class = Config
    reference = Reference(
        2023, "2305.17382", "ByChelsea/VAND-APRIL-GAN", "f13b8a634e04f9fde8fa03db125b25af5695d8e1", True
    )
    reads_names = True
    recipe = Recipe(  # 15 epochs on VisA, 3 on MVTec AD (train.sh)
        rate=1e-3, betas=(0.5, 0.999), batch_size=8, epochs=15, mosaic=0.2, mosaic_of=("mvtec",)
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        config = config or Config()
        super().__init__(backbone.acting(config.activation), config)
        text, tokenizer = self.text_parts()
        visual = self.backbone.visual
        self.adapters = nn.ModuleList(nn.Linear(visual.width, visual.output) for _ in config.layers)
        self.ensemble = Ensemble(text, tokenizer, sentences)

    @reads("config.layers")
    @torch.no_grad()
    def encode(self, images: Tensor) -> LayerFeatures:
        """See :class:`LayerFeatures`; L = number of layers, in the order of the Config."""
        visual = self.backbone.visual
        numbers = layer_numbers(self.config.layers, visual.depth)
        x, tapped = walk(visual.blocks, visual.embed(images, resize="bicubic_antialias"), numbers)
        patches = torch.stack([visual.patches(tapped[i]) for i in numbers], 1)
        height, width = images.shape[-2:]
        return LayerFeatures(visual.grid(images), (height, width), visual.head(x[:, 0]), patches)

    def logits(self, features: LayerFeatures, text: Tensor) -> list[Tensor]:
        """Per layer [B, n, 2], order (normal, anomalous): cosines of the adapted patches / temperature."""
        layers = zip(self.adapters, features.patches.unbind(1), strict=True)
        return [cosines(adapter(patches), text) / self.config.temperature for adapter, patches in layers]

    def maps(self, features: LayerFeatures, text: Tensor) -> list[Tensor]:
        """Per layer [B, 2, H, W], probabilities; text [B, 2, E]."""
        return [upsampled_probabilities(x, features.grid, features.size) for x in self.logits(features, text)]

    def text_features(self, count: int, class_names: Sequence[str] | None) -> Tensor:
        """[B, 2, E], order (normal, anomalous), not normalised; "object" where images have no names."""
        return self.ensemble(one_name_each(class_names, count))

    def score(self, features: LayerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1] from CLS alone; map in [0, number of layers]."""
        text = self.text_features(len(features), class_names)
        image = probabilities(features.image, text, self.config.temperature)[:, 1]
        return Prediction(image, torch.stack([p[:, 1] for p in self.maps(features, text)]).sum(0))

    @property
    def map_range(self) -> tuple[float, float]:
        """Maps of the layers are summed."""
        return 0.0, float(len(self.config.layers))

    def loss(
        self, features: LayerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`focal`, and `dice` of the anomalous side, summed over the layers; labels are not used."""
        return local(self.maps(features, self.text_features(len(features), class_names)), masks, both=False)

    # Released checkpoints: {"trainable_linearlayer": state} (train.py:151)

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`; which blocks the adapters belong to is not told."""
        return released_linears(checkpoint, "trainable_linearlayer", "adapters", "APRIL-GAN")
