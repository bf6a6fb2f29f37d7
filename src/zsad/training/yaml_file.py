"""YAML as people expect it: only true and false are truth values, 1e-3 is a number, a key stands once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zsad.errors import ZsadError

#: plain words of YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2); whatever fits none is text
_WORDS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", None),
)
_NUMBERS = list("-+.0123456789")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe YAML by the rules above."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # none of YAML 1.1: "on", "1:30", dates

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key_node.start_mark)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f'"{key}" stands twice', key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Lists in one line, no references; text that any reader takes for something else in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _set_up() -> None:
    for name, pattern, first in _WORDS:
        for kind in (_Loader, _Dumper):
            whole = re.compile(f"(?:{pattern})$")
            kind.add_implicit_resolver(f"tag:yaml.org,2002:{name}", whole, first or _NUMBERS)
    _Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
    for sequence in (list, tuple):
        _Dumper.add_representer(
            sequence, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
        )
    _Dumper.add_representer(  # quotes keep what else would be read as the end of a line
        str,
        lambda dumper, text: dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
        ),
    )


_set_up()


def read(path: Path) -> dict[str, Any]:
    """The keys of a file with their values; an empty file has none.

    Raises:
        ZsadError: If there is no such file, or it is not YAML with keys and values; the message leaves out the path.
    """
    try:
        values = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise ZsadError(f"cannot be read ({error.strerror}); --config takes a YAML file") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ZsadError(f"expected YAML with lines such as epochs: 15\n  {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ZsadError(f"expected lines such as epochs: 15, got {values!r}")
    return values


def written(values: Mapping[str, Any]) -> str:
    """Text from which :func:`read` makes the same values, tuples as lists.

    >>> print(written({"layers": (6, 12), "rate": 1e-5, "folder": "1e-3", "slow": None}), end="")
    layers: [6, 12]
    rate: 1.0e-05
    folder: '1e-3'
    slow: null
    """
    return str(yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))
