"""CLIP and CLIP-AC, zero-shot: a normal and an anomalous text (Radford et al., ICML 2021, arXiv:2103.00020).

Authority for what they are in anomaly detection: App. A.2 of AnomalyCLIP (arXiv:2310.18961), whose tables their numbers
are in; no code of them was released. References: zqhang/AnomalyCLIP 45ed4dd for its plain tower and how it tests;
openai/CLIP, commit d05afc436d78f1c48dc0dbf8e5980a9d471f35f6, for the templates.

As described, and kept:
    - CLIP: "a photo of a normal [cls]", "a photo of an anomalous [cls]", without a full stop (App. A.2).
    - CLIP-AC: ImageNet's templates, embeddings averaged per state (App. A.2), each of length 1 before (the notebook).
    - Score: Eq. 1 of CLS; map: Eq. 1 of the patches (App. A.2). The towers are CLIP's own, "we do not modify the vision
      side" (zqhang/AnomalyCLIP, issue 25), and CLS has its final norm (AnomalyCLIP_lib/CLIP.py:276-282).
Open there, and decided here (docs/methods/clip.md has the reasons):
    - Patches of the last block through the final norm and projection, as AnomalyCLIP_lib/CLIP.py:277-280 gives them.
    - Temperature 0.07, bilinear positions, Gaussian of sigma 4: as AnomalyCLIP's own numbers were made
      (test.py:94 and 111, CLIP.py:263). CLIP's temperature: temperature=0.
    - "normal [cls]" and "anomalous [cls]" stand where each template has its class; "a anomalous" is left as it is.
    - "metal_nut" is read "metal nut".
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import layer_numbers
from zsad.errors import ZsadError
from zsad.maps import anomaly_map, probabilities, smooth
from zsad.methods.base import Reference, TrainingFree
from zsad.methods.features import TowerFeatures
from zsad.methods.prompts import Ensemble, one_name_each, sentence_parts
from zsad.methods.streams import SELF_ATTENTION
from zsad.methods.switches import image_blocks, one_of
from zsad.methods.tower import BehindTower, Streams
from zsad.types import Prediction

ATTENTION = ("plain", *SELF_ATTENTION)
RESIZES = ("bilinear", "bicubic", "bicubic_antialias")
TEMPLATES = ("imagenet", "imagenet_7")


@dataclass(frozen=True)
class TowerConfig:
    """Switches of the frozen image tower and of Eq. 1; numbers of blocks are counted on 24 and scaled to the depth."""

    attention: str = "plain"  # of the patches; "vv", "qq", "kk": AnomalyCLIP's DPAM, summed from block `start` on
    start: int = 6  # first block of such sums
    layers: tuple[int, ...] = (24,)  # blocks whose patches make a map; the maps are summed
    final_norm: bool = True  # of CLS, as in CLIP; AnomalyCLIP's own tower leaves it out
    positions: str = "bilinear"  # how position embeddings are resized; or "bicubic", "bicubic_antialias"
    temperature: float = 0.07  # of Eq. 1; 0 takes the one that the backbone was trained with, 0.01 for OpenAI's
    sigma: float = 4.0  # of the Gaussian over the map, in pixels

    method: ClassVar[str] = "clip"  # whose switches these are, for messages

    def __post_init__(self) -> None:
        one_of(self.method, ATTENTION, attention=self.attention)
        one_of(self.method, RESIZES, positions=self.positions)
        image_blocks(self.method, layers=self.layers, start=(self.start,))
        if min(self.temperature, self.sigma) < 0:
            raise ZsadError(f"{self.method}: temperature and sigma are 0 or more")


class FrozenTower(BehindTower):
    """CLIP's own image tower before a normal and an anomalous text: what CLIP, CLIP-AC and CoOp share."""

    reads_names = True
    config: TowerConfig

    @abstractmethod
    def texts(self, class_names: Sequence[str]) -> Tensor:
        """[C, 2, E], order (normal, anomalous), not normalised; one pair per class name."""

    @property
    def streams(self) -> Streams:
        """One kind of attention."""
        c = self.config
        return Streams((c.attention,), c.start, c.layers, c.positions, c.final_norm)

    def score(self, features: TowerFeatures, class_names: Sequence[str] | None = None) -> Prediction:
        """Image score in [0, 1] from CLS alone; map in [0, number of layers], blurred."""
        text, t = self.text_of(features, class_names), self.divisor(self.config.temperature)
        maps = [anomaly_map(p, text, features.grid, features.size, t) for p in features.patches.unbind(1)]
        score = probabilities(features.image, text, t)[:, 1]  # Eq. 1 of AnomalyCLIP
        return Prediction(score, smooth(torch.stack(maps).sum(0), self.config.sigma))

    def text_of(self, features: TowerFeatures, class_names: Sequence[str] | None) -> Tensor:
        """[B, 2, E]: the pair of texts of every image; each name is encoded once."""
        wanted = one_name_each(class_names, len(features))
        names = sorted(set(wanted))
        return self.texts(names)[[names.index(name) for name in wanted]]

    def divisor(self, temperature: float) -> float:
        """What divides cosines; for 0 the temperature that the backbone was trained with."""
        return temperature or math.exp(-self.backbone.logit_scale.detach().item())

    @property
    def map_range(self) -> tuple[float, float]:
        """Maps of the layers are summed."""
        return 0.0, float(len(set(layer_numbers(self.config.layers, self.backbone.visual.depth))))


@dataclass(frozen=True)
class Config(TowerConfig):
    """Switches of CLIP; {} is the class name."""

    normal: tuple[str, ...] = ("a photo of a normal {}",)  # sentences of the normal state, averaged
    anomalous: tuple[str, ...] = ("a photo of an anomalous {}",)
    normalised: bool = True  # each sentence's embedding is brought to length 1 before the mean

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.normal or not self.anomalous:
            raise ZsadError(f"{self.method}: at least one sentence per state, such as normal=a photo of a normal {{}}")
        for sentence in self.normal + self.anomalous:
            if "{}" not in sentence:
                raise ZsadError(
                    f"{self.method}: every sentence has {{}} where the name of the object stands; got {sentence!r}. On "
                    'the command line ";" separates sentences; end one that has a comma with ";"'
                )


class ZeroShotCLIP(TrainingFree, FrozenTower):
    """One sentence that calls the object normal, one that calls it anomalous."""

    name = "clip"
    config_class = Config
    reference = Reference(2021, "2103.00020", "openai/CLIP", "d05afc436d78f1c48dc0dbf8e5980a9d471f35f6")
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or self.config_class())
        text, tokenizer = self.text_parts()
        self._ensemble = Ensemble(text, tokenizer, self.sentences, self.config.normalised)

    @property
    def templates(self) -> Sequence[str]:
        """What a state's sentences are put into."""
        return ("{}",)

    def sentences(self, class_name: str) -> list[list[str]]:
        """All sentences of a class name: those of the normal state, then those of the anomalous one."""
        word = class_name.replace("_", " ")
        return [
            [template.replace("{}", state).replace("{}", word) for template in self.templates for state in states]
            for states in (self.config.normal, self.config.anomalous)
        ]

    def texts(self, class_names: Sequence[str]) -> Tensor:
        """See :meth:`FrozenTower.texts`; the mean of a state's sentences."""
        return self._ensemble(class_names)


@dataclass(frozen=True)
class ACConfig(Config):
    """Switches of CLIP-AC; {} is the class name."""

    normal: tuple[str, ...] = ("normal {}",)  # what stands in the templates
    anomalous: tuple[str, ...] = ("anomalous {}",)
    templates: str = "imagenet"  # all 80; "imagenet_7": the seven of them that CLIP's authors selected afterwards

    method: ClassVar[str] = "clipac"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.method, TEMPLATES, templates=self.templates)


class CLIPAC(ZeroShotCLIP):
    """CLIP with the templates that it was tested with on ImageNet; a state's text is the mean over them."""

    name = "clipac"
    config_class = ACConfig
    config: ACConfig

    @property
    def templates(self) -> Sequence[str]:
        """Those of ImageNet."""
        return sentence_parts("imagenet")[self.config.templates]
