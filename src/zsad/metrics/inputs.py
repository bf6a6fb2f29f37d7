"""Arguments of metrics: whatever holds numbers becomes two checked tensors of one shape, on one device.

Nothing here or later writes into an argument, and contiguous float32 and float64 scores and boolean labels are not
copied. float32 and whatever it holds exactly (half precision, bool, integers of one or two bytes) is float32 from here
on; everything else is float64, in which integers beyond 2^53 round.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsad.errors import ZsadError


def pair(scores: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Checked scores and labels.

    Args:
        scores: Array, list or tensor of any shape; real and finite.
        labels: The same shape, 0 or 1, of any type and on any device; None for none, so that nothing is anomalous.

    Returns:
        Scores, float32 or float64, contiguous; and labels, bool. Both on the device of the scores, or on the CPU if
        that is mps, which has no float64.

    Raises:
        ZsadError: If something is not a number, the shapes differ, a score is not finite or a label not 0 or 1.

    >>> pair([0.5, 2.0], [0, 1])
    (tensor([0.5000, 2.0000], dtype=torch.float64), tensor([False,  True]))
    """
    values = _scores(scores, "scores")
    return values, _labels(labels, values, "labels")


def stack(maps: Any, masks: Any | None) -> tuple[Tensor, Tensor]:
    """As :func:`pair`, both [N, H, W].

    >>> stack([[[0.5, 2.0]]], None)[1]
    tensor([[[False, False]]])
    """
    values = _scores(maps, "maps")
    if values.ndim != 3:
        hint = "maps[None] makes a stack of one map, maps[:, 0] drops a channel axis."
        raise ZsadError(f"maps must be [N, H, W], got shape {tuple(values.shape)}; {hint}")
    return values, _labels(masks, values, "masks")


def binary(given: Any, name: str) -> Tensor:
    """What holds nothing but 0 and 1 as bool, on its own device.

    >>> binary([[0, 1]], "mask")
    tensor([[False,  True]])
    """
    labels = _tensor(given, name)
    if labels.dtype != torch.bool:
        if len(wrong := labels[(labels != 0) & (labels != 1)][:3]):
            values = ", ".join(f"{value:g}" for value in wrong.tolist())
            known = bool((wrong > 0).all())
            hint = f"compare them first, as in `{name} > 0`" if known else "leave out what has no label"
            raise ZsadError(f"{name} must be 0 or 1, got {values}; {hint}.")
        labels = labels == 1
    return labels


def _scores(given: Any, name: str) -> Tensor:
    values = _tensor(given, name)
    if values.device.type == "mps":
        values = values.cpu()
    single = values.dtype == torch.float32 or values.dtype.itemsize <= 2
    values = values.to(torch.float32 if single else torch.float64).contiguous()
    if values.numel() and not all(math.isfinite(end) for end in values.aminmax()):
        raise _not_finite(values)
    return values


def _labels(given: Any, scores: Tensor, name: str) -> Tensor:
    if given is None:
        return torch.zeros((), dtype=torch.bool, device=scores.device).expand(scores.shape)  # one element
    labels = binary(given, name)
    if labels.shape != scores.shape:
        raise ZsadError(
            f"{name} of shape {tuple(labels.shape)} do not fit scores of shape {tuple(scores.shape)}; "
            "expected one label per score. Resize masks with nearest neighbour; masks[:, 0] drops a channel axis."
        )
    return labels.to(scores.device)


def _tensor(given: Any, name: str) -> Tensor:
    """A tensor, in the memory of the given tensor or array wherever that is possible."""
    try:
        if isinstance(given, (list, tuple)) and given and all(isinstance(part, Tensor) for part in given):
            given = torch.stack(tuple(given))
        values = given.detach() if isinstance(given, Tensor) else np.asarray(given)
    except (ValueError, RuntimeError) as error:
        hint = "resize them, or give them to a PixelStream one by one; leave out parts that are None"
        raise ZsadError(f"{name} must be one array, got parts of different sizes; {hint}. ({error})") from error
    except TypeError as error:
        raise _not_numbers(name, f"{type(given).__name__} ({error})") from error
    try:
        values = values if isinstance(values, Tensor) else _wrapped(values)
    except TypeError as error:
        raise _not_numbers(name, f"{type(given).__name__} of {values.dtype}") from error
    if values.is_complex():
        raise _not_numbers(name, str(values.dtype))
    return values


def _wrapped(array: NDArray[Any]) -> Tensor:
    """In the memory of the array, if it has the order and the bytes of a tensor."""
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    if native.flags.writeable:
        return torch.from_numpy(native)
    with warnings.catch_warnings():  # of read-only arrays alone, since it touches the filters of all threads
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
        return torch.from_numpy(native)


def _not_numbers(name: str, kind: str) -> ZsadError:
    hint = "scores as numpy.asarray(scores, float), labels that are words as labels == 'anomalous'"
    return ZsadError(f"{name} must be real numbers, got {kind}; convert them first, {hint}.")


def _not_finite(scores: Tensor) -> ZsadError:
    bad = (~scores.isfinite()).reshape(-1).nonzero()[:, 0]
    first = [tuple(int(i) for i in np.unravel_index(int(index), tuple(scores.shape))) for index in bad[:3]]
    where = ", ".join(f"{float(scores[place])} at {list(place)}" for place in first)
    return ZsadError(
        f"{len(bad)} of {scores.numel()} scores are not finite: {where}{', ...' if len(bad) > 3 else ''}. "
        "Scores must be finite; look at the images in these places, or run the model in float32."
    )
