"""What a method is, and the table of methods."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from zsad.backbones.clip import CLIP
from zsad.errors import ZsadError, unknown
from zsad.results import whole
from zsad.types import Prediction

#: name -> module and class; a new method is one file and one line here
METHODS = {
    "anomalyclip": "zsad.methods.anomalyclip:AnomalyCLIP",
}


@dataclass(frozen=True)
class Features:
    """What a frozen tower says about a batch of images; kept, it need not be computed again."""

    image: Tensor  # [B, E], not normalised
    patches: Tensor  # [B, M, n, E], M maps' worth of patch features, row by row, not normalised
    grid: tuple[int, int]  # rows and columns of patches, n = rows * columns
    size: tuple[int, int]  # height and width of the input in pixels

    def __getitem__(self, index: Any) -> Features:
        """The features of some images of the batch."""
        return dataclasses.replace(self, image=self.image[index], patches=self.patches[index])


@dataclass(frozen=True)
class Recipe:
    """How a method was trained when its numbers were published."""

    rate: float = 1e-3  # learning rate of Adam, constant
    betas: tuple[float, float] = (0.5, 0.999)
    batch_size: int = 8
    epochs: int = 15


@dataclass(frozen=True)
class Thresholds:
    """Where a decision is made: at the best F1 on the data a checkpoint was trained on, or halfway without any."""

    image: float = 0.5  # an image is anomalous from this score on
    pixel: float = 0.5  # a pixel is anomalous from this value on, as a share of the map's limit


class Method(nn.Module, ABC):
    """A frozen backbone, something learnable around it, and a rule that makes a score and a map of both.

    The backbone is not a submodule: :meth:`parameters`, :meth:`state_dict` and :meth:`save` hold only what the method
    owns, and one backbone can serve many methods at once.
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    recipe: ClassVar[Recipe] = Recipe()

    def __init__(self, backbone: CLIP, config: Any) -> None:
        super().__init__()
        self._backbone = [backbone]  # in a list, so that it is not registered
        self.config = config
        self.thresholds = Thresholds()

    @property
    def backbone(self) -> CLIP:
        """The frozen towers."""
        return self._backbone[0]

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Everything before the first learnable parameter; images [B, 3, H, W], normalised."""

    @abstractmethod
    def score(self, features: Features, class_names: Sequence[str] | None = None) -> Prediction:
        """Everything after it. `class_names`, one per image, matters to methods whose prompts name the object."""

    @abstractmethod
    def loss(
        self, features: Features, masks: Tensor, labels: Tensor, class_names: Sequence[str] | None = None
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
        raise ZsadError(f"{cls.name} has no released checkpoints")

    @property
    def map_limit(self) -> float:
        """The highest value a map can have; the lowest is 0."""
        return 1.0

    @property
    def contour(self) -> float:
        """The value of a map from which on a pixel counts as anomalous."""
        return self.thresholds.pixel * self.map_limit

    @property
    def shown_limit(self) -> float:
        """End of the one colour scale of all pictures: twice the contour, so that it lies in the middle."""
        return min(2 * self.contour, self.map_limit)

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
        """Write what was learned, the Config and the backbone's name and hash; whole or not at all."""
        note = {
            "method": self.name,
            "config": json.dumps(dataclasses.asdict(self.config)),
            "backbone": self.backbone.name,
            "backbone_sha256": self.backbone.digest,
            "thresholds": json.dumps(dataclasses.asdict(self.thresholds)),
        }
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        with whole(Path(path)) as part:
            save_file(state, part, metadata=note)


def method_class(name: str) -> type[Method]:
    """The class behind a name of the table.

    >>> method_class("anomalyclip").__name__
    'AnomalyCLIP'
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS, "zsad methods")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


def build(name: str, backbone: CLIP, **switches: Any) -> Method:
    """A new, untrained method; `switches` are fields of its Config.

    Raises:
        ZsadError: For an unknown method or switch.
    """
    kind = method_class(name)
    return kind(backbone, make_config(kind, switches)).to(backbone.logit_scale.device)


def make_config(kind: type[Method], values: dict[str, Any]) -> Any:
    """A Config of a method from names and values; JSON's lists become tuples."""
    fields = {field.name for field in dataclasses.fields(kind.config_class)}
    for key in values:
        if key not in fields:
            raise unknown(f"{kind.name} switch", key, fields, "zsad methods")
    return kind.config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def parse_switches(kind: type[Method], pairs: Sequence[str]) -> dict[str, Any]:
    """Switches from "key=value" words; the type of the field's default decides how a value is read.

    >>> from zsad.methods.anomalyclip import AnomalyCLIP
    >>> parse_switches(AnomalyCLIP, ["layers=6,12", "object_agnostic=false", "sigma=2"])
    {'layers': (6, 12), 'object_agnostic': False, 'sigma': 2.0}
    """
    defaults = dataclasses.asdict(kind.config_class())
    found: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key not in defaults:
            raise unknown(f"{kind.name} switch", key, defaults, "zsad methods")
        try:
            found[key] = _parse(text, defaults[key])
        except ValueError as error:
            raise ZsadError(f"--set {pair}: expected something like {key}={_shown(defaults[key])}") from error
    return found


def _parse(text: str, default: Any) -> Any:
    """A value of the same type as the default."""
    if isinstance(default, tuple):
        return tuple(_parse(part.strip(), default[0]) for part in text.split(",") if part.strip())
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return type(default)(text)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def describe(name: str) -> tuple[str, list[str]]:
    """The paper of a method, from the first line of its file, and its switches with their defaults."""
    kind = method_class(name)
    paper = (import_module(kind.__module__).__doc__ or "").partition("\n")[0]
    return paper, [f"{field.name}={_shown(field.default)}" for field in dataclasses.fields(kind.config_class)]


def read_note(path: Path) -> dict[str, str]:
    """The note that :meth:`Method.save` wrote into a checkpoint.

    Raises:
        ZsadError: If the file is missing or not a checkpoint of zsad.
    """
    if not path.is_file():
        raise ZsadError(f"no checkpoint {path}; `zsad weights list` shows the published ones, `zsad train` makes one")
    try:
        with safe_open(path, "pt") as file:
            note = file.metadata() or {}
    except SafetensorError as error:
        raise ZsadError(f"{path} is not a safetensors file ({error}); convert it: zsad weights convert") from error
    if "method" not in note or "config" not in note:
        raise ZsadError(f"{path} was not written by zsad: it does not say which method it belongs to")
    return note


def load(path: str | Path, backbone: CLIP) -> Method:
    """A trained method from a checkpoint of zsad.

    Raises:
        ZsadError: If the file is not a checkpoint, or belongs to another backbone.
    """
    path = Path(path)
    note = read_note(path)
    method = build(note["method"], backbone, **json.loads(note["config"]))
    if note.get("backbone_sha256") != backbone.digest:
        raise ZsadError(
            f"{path} was trained on {note.get('backbone') or 'another backbone'} "
            f"(sha256 {note.get('backbone_sha256', '')[:12]}...), not on {backbone.name} ({backbone.digest[:12]}...); "
            "give that one with --backbone"
        )
    method.thresholds = Thresholds(**json.loads(note.get("thresholds", "{}")))
    with safe_open(path, "pt") as file:
        load_strictly(method, {key: file.get_tensor(key) for key in file.keys()}, str(path))  # noqa: SIM118
    return method


def load_strictly(method: Method, state: dict[str, Tensor], source: str) -> None:
    """Load every tensor or none.

    Raises:
        ZsadError: Naming up to five missing, unexpected or differently shaped tensors.
    """
    own = method.state_dict()
    shapes = [
        f"{k} {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    found = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "other shape": shapes,
    }
    if any(found.values()):
        lines = [f"  {kind} ({len(names)}): {', '.join(names[:5])}" for kind, names in found.items() if names]
        head = f"{source} does not fit {method.name} on {method.backbone.name or 'this backbone'}:"
        raise ZsadError(
            "\n".join([head, *lines, "  The file may belong to another backbone or Config; see `zsad weights list`."])
        )
    method.load_state_dict(state)
