"""All keys of a training: defaults < protocol < YAML file < options < --set words; and back into a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from zsad.data.reading import Reading
from zsad.errors import ZsadError, unknown
from zsad.methods.base import Method
from zsad.methods.table import make_config, method_class
from zsad.options import parse, shown
from zsad.training import yaml_file
from zsad.training.images import DTYPES
from zsad.training.plan import Plan
from zsad.training.protocols import protocol
from zsad.training.source import MODES, Cache

FINALS = ("last", "best")
SIDE = 16_384  # pixels; more is taken for a slip of the hand
LISTING = "docs/training.md"

_NESTED = ("switches", "reading")
#: what a key takes that has no value until it is given one
_EXAMPLES: Mapping[str, Any] = {
    "data": ("data/mvtec",),
    "dataset": "mvtec",
    "protocol": "mvtec",
    "targets": ("data/visa",),
    "size": 518,
    "epochs": 15,
    "batch_size": 8,
    "rate": 0.001,
    "slow": 0.1,
    "mosaic": 0.5,
    "workers": 4,
    "cache_folder": "features",
    "window": (40.0, 400.0),
}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list"}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Plan):
    """What is trained, on what, and how; the keys of :class:`Plan` are keys of it as well.

    Paths are relative to the working directory, in a file as on the command line.

    >>> TrainConfig(data=("photos",), epochs=3).plan.epochs
    3
    """

    method: str = "anomalyclip"  # a name of `zsad methods`
    switches: Mapping[str, Any] = field(default_factory=dict)  # of the method, by name; the others are as published
    backbone: str = "tiny"  # a name of `zsad weights list`, a file or a folder
    data: tuple[str, ...] = ()  # labelled folders or manifests, taken together
    dataset: str | None = None  # read `data` as this one of `zsad data list`; None: recognised
    protocol: str | None = None  # a name of `zsad protocols`, in place of `data`
    root: str = "data"  # folder in which the datasets of the protocol lie, each under its name
    targets: tuple[str, ...] = ()  # folders or manifests of which no image may be seen, besides those of the protocol
    size: int | None = None  # side of the network input in pixels; None: as published
    reading: Reading = Reading()  # how files become pixels; in a file, only what is not as published
    workers: int | None = None  # processes that read ahead; 0: none; None: by the device
    device: str = "auto"  # cpu, cuda, cuda:1, mps, or the first accelerator there is
    cache: str = "auto"  # where frozen features are kept: "memory", "disk", "none", or what suits their size
    cache_folder: str | None = None  # of features on disk; None: beside downloads, see `zsad cache list`
    cache_limit: float = 200.0  # GB (10^9 bytes) that all features on disk may take
    cache_dtype: str = "float32"  # of features on disk and in memory; "float16" halves them
    keep: int = 2  # checkpoints of epochs that stay in the run's folder, besides the best one
    final: str = "last"  # which weights are the result: "last", as released, or the "best" epoch by mean training loss
    save_every: float = 300.0  # seconds between two states from which a killed training goes on

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, known in (("cache", MODES), ("cache_dtype", DTYPES), ("final", FINALS)):
            if getattr(self, key) not in known:
                raise unknown(key, getattr(self, key), known, LISTING)
        for key, least in (("size", 8), ("workers", 0), ("keep", 0), ("cache_limit", 0), ("save_every", 0)):
            value = getattr(self, key)
            if value is not None and not least <= value < inf:
                raise ZsadError(f"{key}: expected {least} or more, got {value}")
        if self.size is not None and self.size > SIDE:
            raise ZsadError(f"size: expected {SIDE} at most, got {self.size}")
        _ = self.method_config  # raises for a switch that the method does not have

    @property
    def plan(self) -> Plan:
        """How to train, apart from on what."""
        return Plan(**{entry.name: getattr(self, entry.name) for entry in dataclasses.fields(Plan)})

    @property
    def kept(self) -> Cache:
        """How features are kept."""
        folder = Path(self.cache_folder) if self.cache_folder else None
        return Cache(self.cache, folder, round(self.cache_limit * 1e9), self.cache_dtype)

    @property
    def method_config(self) -> Any:
        """The Config of the method with these switches.

        Raises:
            ZsadError: For an unknown method or switch, or a value of another kind.
        """
        return make_config(method_class(self.method), dict(self.switches))

    def values(self) -> dict[str, Any]:
        """Every key with its value, in the order above and then that of :class:`Plan`."""
        nested = {"switches": dict(self.switches), "reading": dataclasses.asdict(self.reading)}
        return {key: nested.get(key, getattr(self, key)) for key in KEYS}

    def to_yaml(self) -> str:
        """Text that :func:`read_config` reads back; equal configs, equal text."""
        return yaml_file.written(self.values())


_FIELDS = {entry.name: entry for entry in dataclasses.fields(TrainConfig)}
_OF_PLAN = tuple(entry.name for entry in dataclasses.fields(Plan))
#: every key, those of the plan last
KEYS = (*(name for name in _FIELDS if name not in _OF_PLAN), *_OF_PLAN)


def resolved(config: TrainConfig, method: Method, size: int) -> TrainConfig:
    """The same training with its published values written out: what is in the folder of its run.

    Where the stages of a method have different ones, None stays and means what it meant; so does that of mosaics, which
    were published for the images of one dataset, while a number is for all.

    Args:
        config: As it was given.
        method: That it builds.
        size: Side of the network input in pixels, if the config does not say.
    """
    recipes = [stage.recipe for stage in method.stages]
    published: dict[str, set[Any]] = {
        name: {getattr(recipe, name) for recipe in recipes} for name in ("epochs", "batch_size", "rate")
    }
    if all(recipe.slow for recipe in recipes):
        published["slow"] = {share for recipe in recipes for _, share in recipe.slow}
    same = {name: values.pop() for name, values in published.items() if len(values) == 1}
    silent = {name: value for name, value in {**same, "size": size}.items() if getattr(config, name) is None}
    return dataclasses.replace(config, switches=dataclasses.asdict(method.config), **silent)


def read_config(
    path: str | Path | None = None, options: Mapping[str, Any] | None = None, words: Sequence[str] = ()
) -> TrainConfig:
    """The config of a training.

    Args:
        path: A YAML file with some of the keys.
        options: Keys and values that go before those of the file; None counts as not given.
        words: "key=value" as typed after --set, which go before all others: a key of the training, or a switch of the
            method; "switches.NAME=value" and "reading.NAME=value" always work.

    Raises:
        ZsadError: For an unknown key, with the nearest one, for a value of another type or out of range, or for a
            file that cannot be read.

    >>> config = read_config(options={"data": ["photos"]}, words=["epochs=3", "layers=6,12", "reading.fit=pad"])
    >>> config.epochs, config.switches, config.reading.fit
    (3, {'layers': (6, 12)}, 'pad')
    """
    own = [word for word in words if _key(word) in KEYS and _key(word) not in _NESTED]
    typed = parse(own, _examples(KEYS), "--set", "training key", LISTING, optional=_optional())
    above = {**_typed(_given(options or {}), None), **typed}
    layers = [_of_file(Path(path), above.get("method")) if path else {}, above]
    method = _merged(layers).get("method", TrainConfig.method)
    layers.append(_nested_words([word for word in words if word not in own], method))
    _must_be_clear(own, method)
    if (name := _merged(layers).get("protocol")) is not None:
        layers.insert(0, _typed(protocol(name).settings.get(method, {}), None))
    values = _merged(layers)
    return TrainConfig(**{**values, "reading": Reading(**values.get("reading", {}))})


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Values by key, the last one said; of nested keys entry by entry."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            found[key] = {**found.get(key, {}), **value} if key in _NESTED else value
    return found


def _of_file(path: Path, method: str | None) -> dict[str, Any]:
    """The keys of a YAML file; its switches are those of `method`, where that is given, else of its own."""
    try:
        return _typed(yaml_file.read(path), method)
    except ZsadError as error:
        raise ZsadError(f"{path}: {error}") from error


def _typed(values: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    """Values of a file or of options, each of its key's type."""
    for key in values:
        if key not in KEYS:
            raise unknown("training key", str(key), KEYS, LISTING)
    plain = {key: value for key, value in values.items() if key not in _NESTED}
    found = {key: _fitting(key, value, _examples(KEYS)[key], key in _optional()) for key, value in plain.items()}
    if "switches" in values:
        name = method or found.get("method", TrainConfig.method)
        switches = _mapping("switches", values["switches"])
        usual = dataclasses.asdict(method_class(name).config_class())
        lists = {key for key, value in usual.items() if isinstance(value, tuple)}
        found["switches"] = {key: _listed(v) if key in lists else v for key, v in switches.items()}
        make_config(method_class(name), found["switches"])
    if "reading" in values:
        found["reading"] = _reading(_mapping("reading", values["reading"]))
    return found


def _reading(values: Mapping[str, Any]) -> dict[str, Any]:
    known = dataclasses.asdict(Reading())
    for key in values:
        if key not in known:
            raise unknown("switch of reading", str(key), known, "docs/data.md")
    found = {key: _fitting(f"reading.{key}", v, _EXAMPLES.get(key, known[key])) for key, v in values.items()}
    Reading(**found)
    return found


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ZsadError(f"{key}: expected names with values, such as {key}: {{NAME: VALUE}}, got {value!r}")
    return {str(name): item for name, item in value.items()}


def _fitting(key: str, value: Any, example: Any, optional: bool = False) -> Any:
    """A value of the example's type; a single one may stand for a list, and a number without a fraction for an int."""
    if value is None and optional:
        return None
    if isinstance(example, tuple):
        return tuple(_fitting(key, item, example[0]) for item in _listed(value))
    if isinstance(example, int | float) and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(example, float):
            return float(value)
        if value == value // 1:
            return int(value)
    elif type(value) is type(example):
        return value
    raise ZsadError(f"{key}: expected {_KINDS[type(example)]} such as {shown(example)}, got {value!r}")


def _listed(value: Any) -> tuple[Any, ...]:
    """A list as it is kept; a single value may stand for one, and nothing for an empty one."""
    return tuple(value) if isinstance(value, list | tuple) else () if value is None else (value,)


def _examples(keys: Iterable[str]) -> dict[str, Any]:
    """A value of each key that is not nested; its type is that of the key."""
    return {key: _EXAMPLES.get(key, _FIELDS[key].default) for key in keys if key not in _NESTED}


def _optional() -> set[str]:
    return {key for key in KEYS if _FIELDS[key].default is None}


def _key(word: str) -> str:
    return word.partition("=")[0]


def _nested_words(words: Sequence[str], method: str) -> dict[str, Any]:
    """Switches of the method and of reading from "NAME=value", "switches.NAME=value" and "reading.NAME=value"."""
    known = dataclasses.asdict(method_class(method).config_class())
    of_reading = [word.removeprefix("reading.") for word in words if word.startswith("reading.")]
    of_method = [word.removeprefix("switches.") for word in words if not word.startswith("reading.")]
    for word in words:
        if _key(word) in _NESTED:
            raise ZsadError(f"--set {word}: expected {_key(word)}.NAME=VALUE, for one switch at a time")
        if "." not in _key(word) and _key(word) not in known:
            raise unknown(f"training key or {method} switch", _key(word), [*KEYS, *known], f"{LISTING}, zsad methods")
    switches = parse(of_method, known, "--set", f"{method} switch", f"zsad methods {method}")
    reading = parse(of_reading, dataclasses.asdict(Reading()), "--set", "switch of reading", "docs/data.md")
    return {"switches": switches, "reading": reading}


def _must_be_clear(words: Sequence[str], method: str) -> None:
    """Refuse a word that names both a key of the training and a switch of the method."""
    switches = {entry.name for entry in dataclasses.fields(method_class(method).config_class)}
    for word in words:
        if (key := _key(word)) in switches:
            raise ZsadError(
                f"--set {word}: {key} is a key of the training and a switch of {method}; "
                f"say --set switches.{word} for the switch, or --{key.replace('_', '-')} for the training"
            )
