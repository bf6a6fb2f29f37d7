"""key=value words of the command line to values, and back; the type of each default says how a word is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zsad.errors import ZsadError, unknown


def parse(
    words: Sequence[str],
    defaults: Mapping[str, Any],
    option: str,
    kind: str,
    listing: str,
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """Values by name, of the defaults' types.

    Args:
        words: "key=value"; commas separate several values of a tuple, or semicolons where there are any.
        defaults: What may be named. An empty tuple stands for one of numbers.
        option: What the words are typed after, for messages.
        kind: What a key is called, for messages.
        listing: The command that shows all keys, for messages.
        optional: Keys for which "none" or "null" means None.

    Raises:
        ZsadError: For an unknown key, with the nearest one, or for a value of another type.

    >>> parse(["layers=6,12", "agnostic=false", "sigma=2"], {"layers": (24,), "agnostic": True, "sigma": 4.0},
    ...       "--set", "switch", "zsad methods")
    {'layers': (6, 12), 'agnostic': False, 'sigma': 2.0}
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if key not in defaults:
            raise unknown(kind, key, defaults, listing)
        example = shown(defaults[key]) or "0,1"
        if not equals:
            raise ZsadError(f"{option} {word}: expected {key}=VALUE, such as {key}={example}")
        try:
            nothing = key in optional and text.lower() in ("none", "null")
            found[key] = None if nothing else _value(text, defaults[key])
        except ValueError as error:
            raise ZsadError(f"{option} {word}: expected something like {key}={example}") from error
    return found


def shown(value: Any) -> str:
    """A value as it is typed.

    >>> shown((6, 12)), shown(("a clean, whole {}", "a {}")), shown(True)
    ('6,12', 'a clean, whole {};a {}', 'true')
    """
    if isinstance(value, tuple):
        return (";" if any("," in str(item) or " " in str(item) for item in value) else ",").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        parts = text.split(";" if ";" in text else ",")
        return tuple(_value(part.strip(), default[0] if default else 0.0) for part in parts if part.strip())
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return type(default)(text)
