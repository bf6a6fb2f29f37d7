"""Where samples come from: folders, image files, and the synthetic set."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Submodules are imported when they are first used."""
    if name in ("dataset", "found", "images", "layouts", "reading", "synthetic"):
        return importlib.import_module(f"zsad.data.{name}")
    raise AttributeError(f"module 'zsad.data' has no attribute {name!r}")
