"""Folders to samples: each layout is a pure function; masks are paired by name, never by order.

A function returns None where a folder does not have its layout. What is wrong inside goes into `Found.problems`, by
name, and is not raised. All splits come at once, sorted by class, split, defect and file name in natural order.
"""

from __future__ import annotations

from zsad.data.layouts.apart import normal_abnormal, unlabelled
from zsad.data.layouts.beside import dagm, siblings
from zsad.data.layouts.classes import class_folders
from zsad.data.layouts.inside import inside
from zsad.data.layouts.listed import real_iad
from zsad.data.layouts.masked import images_and_masks

__all__ = [
    "class_folders",
    "dagm",
    "images_and_masks",
    "inside",
    "normal_abnormal",
    "real_iad",
    "siblings",
    "unlabelled",
]
