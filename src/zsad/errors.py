"""Errors that are shown to a person without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ZsadError(Exception):
    """What went wrong, what was expected, and the next thing to do, in one message."""


def unknown(kind: str, name: str, known: Iterable[str], listing: str) -> ZsadError:
    """An error for a name that is not in a table, with the nearest known one, or a short table's names.

    >>> str(unknown("dataset", "mvtce", ["mvtec", "visa"], "zsad data list"))
    'no dataset "mvtce"; did you mean "mvtec"?  (zsad data list)'
    """
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    others = f"; there are {', '.join(names)}." if len(names) <= 8 else "."
    hint = f'; did you mean "{near[0]}"?' if near else others
    return ZsadError(f'no {kind} "{name}"{hint}  ({listing})')
