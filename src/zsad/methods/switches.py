"""Checks of switches that many methods have: each names the switch, what it takes and what came."""

from __future__ import annotations

from collections.abc import Sequence

from zsad.errors import ZsadError


def one_of(method: str, known: Sequence[str], **switches: str) -> None:
    """Raise a ZsadError unless each switch has one of the known values.

    >>> one_of("crane", ("nearest", "bilinear"), upsampling="nearest")
    """
    for name, value in switches.items():
        if value not in known:
            raise ZsadError(f"{method}: {name} is one of {', '.join(known)}; got {value!r}")


def some_of(method: str, known: Sequence[str], **switches: Sequence[str]) -> None:
    """Raise a ZsadError unless each switch has one or more of the known values, none twice.

    >>> some_of("anomalyclip", ("vv", "qq", "kk"), attention=("vv", "kk"))
    """
    for name, values in switches.items():
        if not values or set(values) - set(known) or len(set(values)) < len(values):
            raise ZsadError(f"{method}: {name} takes one or more of {', '.join(known)}; got {values!r}")


def image_blocks(method: str, **switches: Sequence[int]) -> None:
    """Raise a ZsadError unless each switch has one or more numbers of image blocks, counted on 24, none twice.

    >>> image_blocks("anomalyclip", layers=(6, 12, 18, 24), start=(6,))
    """
    for name, values in switches.items():
        if not values or not all(1 <= i <= 24 for i in values) or len(set(values)) < len(values):
            raise ZsadError(f"{method}: {name} takes different blocks, counted from 1 to 24; got {tuple(values)}")


def activation(method: str, value: str) -> None:
    """Raise a ZsadError unless CLIP's towers can act so; "" keeps what the backbone has.

    >>> activation("aprilgan", "gelu")
    """
    if value not in ("gelu", "quick_gelu", ""):
        known = 'gelu, quick_gelu, or "" for the backbone\'s own'
        raise ZsadError(f"{method}: activation is one of {known}; got {value!r}")
