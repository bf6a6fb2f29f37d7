"""Arguments of metrics: whatever holds numbers becomes a checked numpy array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zsad.errors import ZsadError

Array: TypeAlias = NDArray[Any]


def as_array(values: Any) -> Array:
    """A numpy array of a tensor (from whatever device) or of anything that numpy understands."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if "bfloat16" in str(values.dtype) else values  # numpy has no bfloat16
        return np.asarray(values.numpy())
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ZsadError(f"expected one array, got parts of different sizes; resize them first. ({error})") from error


def finite(scores: Array) -> Array:
    """The scores, if all are finite real numbers; one-byte and half-precision scores as float32."""
    if scores.dtype.kind not in "biuf":
        raise ZsadError(f"scores must be real numbers, got an array of {scores.dtype}; convert them to float first.")
    if scores.size and not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        bad = np.flatnonzero(~np.isfinite(scores))
        where = ", ".join(_place(scores, index) for index in bad[:3]) + (", ..." if bad.size > 3 else "")
        raise ZsadError(
            f"{bad.size} of {scores.size} scores are not finite: {where}. "
            "Scores must be finite; look at the images in these places, or run the model in float32."
        )
    return scores if scores.dtype.itemsize > 2 else scores.astype(np.float32)


def _place(scores: Array, index: int) -> str:
    position = ", ".join(str(int(i)) for i in np.unravel_index(index, scores.shape))
    return f"{scores.flat[index]} at [{position}]"


def same_shape(labels: Array, scores: Array) -> Array:
    """The labels, if they have the shape of the scores."""
    if labels.shape != scores.shape:
        raise ZsadError(
            f"labels or masks of shape {labels.shape} do not fit scores of shape {scores.shape}; "
            "expected one label per score. Resize masks with nearest neighbour, or reshape one of the two."
        )
    return labels


def binary(labels: Array, name: str) -> NDArray[np.bool_]:
    """The labels as bool, if they are all 0 or 1."""
    if labels.dtype == np.bool_:
        return labels
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        values: Iterable[str] = (str(value) for value in wrong.ravel()[:3])
        raise ZsadError(f"{name} must be 0 or 1, got {', '.join(values)}; compare them first, as in `{name} > 0`.")
    return np.asarray(labels == 1)
