"""What frozen features depend on: which function makes them, and what of a method that function reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def reads(*attributes: str) -> Callable[[T], T]:
    """Says of a function that encodes what it reads of its method, beside the backbones.

    Attributes may be reached through others, such as "config.layers". Of a function that says nothing, everything in
    the Config is taken to count: that is never wrong, and shares less.
    """

    def said(encode: T) -> T:
        encode.reads = attributes  # type: ignore[attr-defined]
        return encode

    return said


def encoding(encode: Callable[..., Any]) -> dict[str, Any]:
    """The function behind a method's `encode`, and the values that it reads.

    Where two are equal, and the backbones too, the features of an image are equal to the last bit, whatever else the
    methods are and whatever they have learned (tests/test_encoding.py).

    >>> from zsad.methods.clip import TowerConfig
    >>> class Toy:
    ...     config = TowerConfig(layers=(12, 24))
    ...     @reads("config.start", "config.layers")
    ...     def encode(self, images): ...
    >>> encoding(Toy().encode)["config.layers"]
    (12, 24)
    """
    method = encode.__self__  # type: ignore[attr-defined]
    named: tuple[str, ...] = getattr(encode, "reads", ("config",))
    values = {name: attrgetter(name)(method) for name in named}
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in values.items()}  # type: ignore[arg-type]
    return {"function": f"{encode.__module__}.{encode.__qualname__}", **plain}
