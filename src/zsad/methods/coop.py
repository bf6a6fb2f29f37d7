"""CoOp: a learned context before "normal [cls]" and "anomalous [cls]" (Zhou et al., IJCV 2022, arXiv:2109.01134).

Authority for what it is in anomaly detection: App. A.2 of AnomalyCLIP (arXiv:2310.18961), whose tables its numbers are
in; no code of it was released. Reference for "all parameters are kept the same as in their paper": KaiyangZhou/CoOp,
commit ff61507c790454bce7c5052c3ac39e60772f1f89, and its optimizer, KaiyangZhou/Dassl.pytorch c61a1b5.

As described or released, and kept:
    - [V1]...[V16][normal][cls] and [V1]...[V16][anomalous][cls]: one context for both, of 16 vectors drawn with a
      deviation of 0.02, and a full stop at the end (App. A.2; train.py:91-95, trainers/coop.py:89-100).
    - Only the cross entropy of the image is trained, with the temperature of the backbone (trainers/coop.py:202-206).
    - "metal_nut" is read "metal nut" (trainers/coop.py:98).
    - SGD, rate 0.002 on a cosine after one epoch at 1e-5, 32 images (configs/trainers/CoOp/vit_b16_ep50.yaml); momentum
      0.9 and weight decay 5e-4 (Dassl, config/defaults.py:153-156).
    - Score and map as with AnomalyCLIP (App. A.2): probabilities of Eq. 1 with temperature 0.07.
Open there, and decided here (docs/methods/coop.md has the reasons):
    - Patches of the last block of CLIP's own tower; AnomalyCLIP's: attention=vv.
    - 50 epochs, CoOp's for its largest set; 15 in all of AnomalyCLIP's experiments.
Not kept:
    - Half precision (train.py:94).
    - Random crops, of 8 % of an image or more, and mirrored images (the configs; Dassl, config/defaults.py:40): such a
      crop often lacks the defect that the label speaks of.
    - Context around or after the class name, which App. A.2 leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.maps import cosines
from zsad.methods.base import Reference, Stage
from zsad.methods.clip import FrozenTower, TowerConfig
from zsad.methods.encoding import reads
from zsad.methods.features import TowerFeatures
from zsad.methods.prompts import encode_with_context
from zsad.methods.recipe import Recipe

#: names in the checkpoints of CoOp that hold nothing learned: the words around the context
UNUSED = ("token_prefix", "token_suffix")


@dataclass(frozen=True)
class Config(TowerConfig):
    """Switches of CoOp."""

    context_length: int = 16  # learnable words N; 4 is CoOp's other choice
    class_specific: bool = False  # a context for each of the two texts (CoOp's CSC)
    initial_words: str = ""  # what the context begins as, such as "a photo of a"; their number is its length
    normal_word: str = "normal"
    anomaly_word: str = "anomalous"
    training_temperature: float = 0.0  # of the cross entropy; 0 takes the one that the backbone was trained with

    method: ClassVar[str] = "coop"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context_length < 1:
            raise ZsadError(f"coop learns its context: context_length is 1 or more; got {self.context_length}")
        if self.training_temperature < 0:
            raise ZsadError(f"coop: training_temperature is 0 or more; got {self.training_temperature}")


class CoOp(FrozenTower):
    """Learned words, the same before "normal" and "anomalous"."""

    name = "coop"
    config_class = Config
    reference = Reference(2021, "2109.01134", "KaiyangZhou/CoOp", "ff61507c790454bce7c5052c3ac39e60772f1f89")
    recipe = Recipe(
        optimizer="sgd", rate=2e-3, weight_decay=5e-4, schedule="cosine", warmup=5e-3, batch_size=32, epochs=50
    )
    config: Config

    def __init__(self, backbone: CLIP, config: Config | None = None) -> None:
        super().__init__(backbone, config or Config())
        first = self._first_context()
        self.context = nn.Parameter(first.repeat(2, 1, 1) if self.config.class_specific else first)

    def _first_context(self) -> Tensor:
        """[N, width]: drawn, or the embedded words that the Config names."""
        text, tokenizer = self.text_parts()
        if not self.config.initial_words:
            return torch.randn(self.config.context_length, text.size.width) * 0.02
        ids, _ = tokenizer([self.config.initial_words])
        return text.token_embedding(ids[0, 1:-1].to(text.positions.device)).detach().clone()  # type: ignore[no-any-return]

    def sentences(self, class_name: str) -> tuple[str, str]:
        """What follows the context in the normal and in the anomalous text."""
        word = class_name.replace("_", " ")
        return f"{self.config.normal_word} {word}.", f"{self.config.anomaly_word} {word}."

    def texts(self, class_names: Sequence[str]) -> Tensor:
        """See :meth:`FrozenTower.texts`."""
        text, tokenizer = self.text_parts()
        contexts = [*self.context.expand(2, -1, -1)] * len(class_names)
        endings = [sentence for name in class_names for sentence in self.sentences(name)]
        return encode_with_context(text, tokenizer, contexts, endings).reshape(len(class_names), 2, -1)

    @property
    def stages(self) -> Sequence[Stage]:
        """One, on CLS alone: patches take a thousand times the room, and the loss does not look at them."""
        return (Stage(self.recipe, self.encode_for_loss, self.loss),)

    @reads("config.positions", "config.final_norm")
    def encode_for_loss(self, images: Tensor) -> TowerFeatures:
        """As :meth:`encode`, without maps: M = 0."""
        features = self.encode(images)
        return replace(features, patches=features.patches[:, :0].clone())  # a view would keep them all in memory

    def loss(
        self, features: TowerFeatures, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """`global`: cross entropy of CLS; masks are not looked at."""
        logits = cosines(features.image, self.text_of(features, class_names))
        return {"global": F.cross_entropy(logits / self.divisor(self.config.training_temperature), labels)}

    # Checkpoints of CoOp: {"state_dict": state, "scheduler": ..., ...} (Dassl, engine/trainer.py:126-146). A pickled
    # object is in "scheduler", so conversion reads what docs/methods/coop.md takes out of such a file.

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """See :meth:`Method.released_state`."""
        state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
        if not isinstance(state, dict) or "ctx" not in state:
            raise ZsadError('not a checkpoint of CoOp: expected {"state_dict": {"ctx": ...}}')
        for name in set(state) - {"ctx", *UNUSED}:
            raise ZsadError(f'not a checkpoint of CoOp: unexpected tensor "{name}"')
        context = state["ctx"]
        if context.ndim not in (2, 3) or context.shape[:-2] not in ((), (2,)):
            raise ZsadError(
                f"a checkpoint of CoOp with contexts of shape {tuple(context.shape)}; expected (words, width), or "
                "(2, words, width) for the classes normal and anomalous"
            )
        return {"context": context}

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """The length of the context, and whether there are two."""
        context = cls.released_state(checkpoint)["context"]
        return {"context_length": context.shape[-2], "class_specific": context.ndim == 3}
