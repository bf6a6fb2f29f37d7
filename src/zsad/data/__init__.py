"""Where samples come from: any folder, the datasets of the field, image files, and the synthetic set."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Submodules are imported when they are first used."""
    try:
        return importlib.import_module(f"zsad.data.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"zsad.data.{name}":
            raise
        raise AttributeError(f"module 'zsad.data' has no attribute {name!r}") from None
