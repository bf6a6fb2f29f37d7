"""A procedural dataset for anomaly detection: two halves that share no generator, exact masks, any size.

A scene is drawn (`auxiliary_*`, `unseen_*`), damaged (`defects`), compared with itself for the mask, and photographed
(`rendering`); `folder` writes a half of it as files.
"""

from .captions import caption
from .categories import CATEGORIES, Category
from .defects import DEFECTS, Defect
from .folder import total, write
from .rendering import Rendered, render

__all__ = ["CATEGORIES", "DEFECTS", "Category", "Defect", "Rendered", "caption", "render", "total", "write"]
