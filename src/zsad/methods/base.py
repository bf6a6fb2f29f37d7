"""What a method is: encode, score, loss, and what it learned."""

from __future__ import annotations

import dataclasses
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError
from zsad.methods.encoding import encoding
from zsad.methods.features import Features
from zsad.methods.recipe import Recipe
from zsad.types import Prediction
from zsad.writing import whole


@dataclass(frozen=True)
class Thresholds:
    """Where a decision is made: at the best F1 on the data a checkpoint was trained on, or halfway without any."""

    image: float = 0.5  # an image is anomalous from this score on
    pixel: float = 0.5  # a pixel is anomalous from this value on, as a share of the map's range


@dataclass(frozen=True)
class Reference:
    """Where a method was described and released, and what its numbers here are held to."""

    year: int  # of the paper's first version
    paper: str  # its arXiv number
    repository: str = ""  # owner/name on GitHub, "" where nothing was released
    commit: str = ""
    golden: bool = False  # numbers of the released code are compared (tests/parity); else paper and code were read
    backbone: str = "clip-vit-l-14-336"  # that its numbers were published on


@dataclass(frozen=True)
class Stage:
    """One training of a method: from which features, by which loss and recipe, and what it changes."""

    recipe: Recipe
    encode: Callable[[Tensor], Features]  # as Method.encode
    loss: Callable[..., dict[str, Tensor]]  # as Method.loss, on what `encode` gave
    learns: tuple[str, ...] = ("",)  # beginnings of the names of the parameters that it trains
    sums: tuple[str, ...] = ()  # terms of the loss that are sums over the batch; the others are means

    @property
    def encoding(self) -> dict[str, Any]:
        """What its features depend on beside the backbones; see :func:`zsad.methods.encoding.encoding`."""
        return encoding(self.encode)

    def parameters(self, method: nn.Module) -> dict[str, nn.Parameter]:
        """What it trains, by name."""
        return {name: p for name, p in method.named_parameters() if name.startswith(self.learns)}


class Method(nn.Module, ABC):
    """A frozen backbone, something learnable around it, and a rule that makes a score and a map of both.

    The backbone is not a submodule: :meth:`parameters`, :meth:`state_dict` and :meth:`save` hold only what the method
    owns, and one backbone can serve many methods at once.
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    reference: ClassVar[Reference]
    reads_text: ClassVar[bool] = True  # whether the backbone must have a text tower
    reads_names: ClassVar[bool] = False  # whether its prompts name the object, as published
    recipe: ClassVar[Recipe] = Recipe()

    def __init__(self, backbone: CLIP, config: Any) -> None:
        super().__init__()
        self._backbone = [backbone]  # in a list, so that it is not registered
        self.config = config
        self.thresholds = Thresholds()
        self.seen = ""  # record of the images it was trained on, see zsad.training.leaks; "" where there is none

    @property
    def backbone(self) -> CLIP:
        """The frozen towers."""
        return self._backbone[0]

    @property
    def backbones(self) -> list[CLIP]:
        """All frozen models whose features the learned tensors fit, :attr:`backbone` first."""
        return [self.backbone]

    @property
    def trained_on(self) -> dict[str, str]:
        """Names and hashes of :attr:`backbones`, as checkpoints and results note them."""
        return {
            "backbone": " + ".join(model.name for model in self.backbones),
            "backbone_sha256": "+".join(model.digest for model in self.backbones),
        }

    @property
    def stages(self) -> Sequence[Stage]:
        """Its trainings, one after the other."""
        return () if self.learns_nothing(self.config) else (Stage(self.recipe, self.encode, self.loss),)

    @classmethod
    def learns_nothing(cls, config: Any) -> bool:
        """Whether a method with this Config is ready as it is built, without auxiliary data."""
        return False

    @property
    def frozen(self) -> list[nn.Module]:
        """Everything that computes but does not learn and is not a submodule: what else moves to a device."""
        return [*self.backbones]

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Everything before the first learnable parameter; images [B, 3, H, W], normalised."""

    @abstractmethod
    def score(self, features: Any, class_names: Sequence[str] | None = None) -> Prediction:
        """Everything after it, on what :meth:`encode` gave.

        `class_names`, one per image, matters to methods whose prompts name the object; None says "object" for each.
        """

    @abstractmethod
    def loss(
        self, features: Any, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Named terms, already weighted; the total is their sum. masks [B, H, W] bool, labels [B] in {0, 1}."""

    def forward(self, images: Tensor, class_names: Sequence[str] | None = None) -> Prediction:
        return self.score(self.encode(images), class_names)

    @torch.inference_mode()
    def predict(self, images: Tensor, class_names: Sequence[str] | None = None) -> Prediction:
        """Score and map of normalised images [B, 3, H, W], without gradients."""
        return self(images, class_names)  # type: ignore[no-any-return]

    @classmethod
    def released_state(cls, checkpoint: Any) -> dict[str, Tensor]:
        """The tensors of a checkpoint in the authors' layout, under our names; unused ones are dropped by name.

        Raises:
            ZsadError: If the layout is another one, or the method has no released checkpoints.
        """
        if cls.learns_nothing(config := cls.config_class()):
            raise nothing_to_learn(cls.name, config)
        raise ZsadError(f"{cls.name} has no released checkpoints; `zsad train --method {cls.name}` makes one")

    @classmethod
    def released_switches(cls, checkpoint: Any) -> dict[str, Any]:
        """The switches that a checkpoint in the authors' layout was made with, as far as it tells."""
        return {}

    @property
    def map_range(self) -> tuple[float, float]:
        """The lowest and the highest value a map can have."""
        return 0.0, 1.0

    @property
    def contour(self) -> float:
        """The value of a map from which on a pixel counts as anomalous."""
        low, high = self.map_range
        return low + self.thresholds.pixel * (high - low)

    @property
    def shown_range(self) -> tuple[float, float]:
        """Both ends of the one colour scale of all pictures; the contour lies in its middle where the range allows."""
        low, high = self.map_range
        return low, min(2 * self.contour - low, high) if self.contour > low else high

    def text_parts(self) -> tuple[Any, Any]:
        """The backbone's text tower and tokenizer.

        Raises:
            ZsadError: If the backbone has none.
        """
        text, tokenizer = self.backbone.text, self.backbone.tokenizer
        if text is None or tokenizer is None:
            missing = "text tower" if text is None else "tokenizer"
            name = self.backbone.name or "this backbone"
            raise ZsadError(
                f"{self.name} reads prompts, and {name} has no {missing}; choose a CLIP (zsad weights list)"
            )
        return text, tokenizer

    def save(self, path: str | Path) -> None:
        """Write what was learned, from what, the Config, and the backbones' names and hashes; whole or not at all."""
        note = {
            "method": self.name,
            "config": json.dumps(dataclasses.asdict(self.config)),
            **self.trained_on,
            "thresholds": json.dumps(dataclasses.asdict(self.thresholds)),
            **({"seen": self.seen} if self.seen else {}),
        }
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        with whole(Path(path)) as part:
            part.write_bytes(save(state, note))


class TrainingFree(Method):
    """A method that is ready as it is built and needs no auxiliary data, whatever its Config."""

    @classmethod
    def learns_nothing(cls, config: Any) -> bool:
        """Always."""
        return True

    def loss(
        self, features: Any, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Always raises a ZsadError."""
        raise nothing_to_learn(self.name, self.config)


def nothing_to_learn(name: str, config: Any) -> ZsadError:
    """What a method that learns nothing says when it is to be trained, or is given weights."""
    fields = [(field.name, getattr(config, field.name), field.default) for field in dataclasses.fields(config)]
    changed = [f" --set {key}={str(value).lower()}" for key, value, default in fields if value != default]
    return ZsadError(
        f"{name} learns nothing and needs no weights; use it as it is: "
        f"zsad predict PHOTOS --method {name}{''.join(changed)}"
    )


def released_linears(checkpoint: Any, key: str, ours: str, method: str) -> dict[str, Tensor]:
    """The tensors of {key: {"fc.0.weight": ..., "fc.0.bias": ..., ...}} as `ours.0.weight` and so on.

    Raises:
        ZsadError: If the layout is another one; `method` is how the message names it.
    """
    state = checkpoint.get(key) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise ZsadError(f'not a released {method} checkpoint: expected {{"{key}": ...}}')
    for name in state:
        if not re.fullmatch(r"fc\.\d+\.(weight|bias)", str(name)):
            raise ZsadError(f'not a released {method} checkpoint: unexpected tensor "{name}"')
    return {f"{ours}{name.removeprefix('fc')}": tensor.float() for name, tensor in state.items()}
