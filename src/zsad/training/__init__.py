"""Training: a plan, the one loop, where features come from, and what is kept of a run.

>>> from zsad.training import Cache, Plan, train
>>> Plan(epochs=1, batch_size=4).seed, Cache(mode="none").dtype
(111, 'float32')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsad.training.loop import Keeper as Keeper
    from zsad.training.loop import train as train
    from zsad.training.plan import Plan as Plan
    from zsad.training.plan import Step as Step
    from zsad.training.source import Cache as Cache

_LAZY = {"Keeper": "loop", "train": "loop", "Plan": "plan", "Step": "plan", "Cache": "source"}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: lists of protocols, or of what is cached, do not wait for torch."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"zsad.training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'zsad.training' has no attribute {name!r}")
