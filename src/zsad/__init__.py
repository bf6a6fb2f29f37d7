"""Zero-shot anomaly detection: an image goes in; a score, a map and a decision come out.

>>> import zsad
>>> method = zsad.load()  # the embedded default: tiny, for trying things out
>>> image = zsad.data.synthetic.render("marble", "crack", seed=0, size=128).image
>>> prediction = method.predict(zsad.prepare(method, [image]))
>>> prediction.map.shape
torch.Size([1, 192, 192])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsad.api import load as load
    from zsad.api import prepare as prepare
    from zsad.errors import ZsadError as ZsadError
    from zsad.types import Prediction as Prediction
    from zsad.types import Sample as Sample

__version__ = "0.1.0"

_LAZY = {
    "load": "zsad.api",
    "prepare": "zsad.api",
    "Sample": "zsad.types",
    "Prediction": "zsad.types",
    "ZsadError": "zsad.errors",
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import zsad` does not wait for torch."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in ("data", "methods", "backbones", "metrics", "maps"):
        return importlib.import_module(f"zsad.{name}")
    raise AttributeError(f"module 'zsad' has no attribute {name!r}")
