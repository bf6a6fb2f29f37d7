"""Regions of masks: 8-connected components, numbered in vectorised numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsad.arrays import Array, as_array, binary
from zsad.errors import ZsadError


def region_labels(mask: ArrayLike) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected regions of a mask, in the order of their first pixels row by row.

    Args:
        mask: [H, W], 0 or 1.

    Returns:
        Labels [H, W], 0 outside and 1..count inside the regions, and count.

    Raises:
        ZsadError: If the mask is not 2-D or holds something else than 0 and 1.

    >>> region_labels([[1, 0, 0, 1], [0, 1, 0, 1]])
    (array([[1, 0, 0, 2],
           [0, 1, 0, 2]], dtype=int32), 2)
    """
    inside = binary(as_array(mask), "mask")
    if inside.ndim != 2:
        raise ZsadError(f"a mask must be [H, W], got shape {inside.shape}; label one mask at a time.")
    stride = inside.shape[1] + 1  # one empty column, so that no run crosses a row
    padded = np.zeros(1 + inside.shape[0] * stride, dtype=bool)
    padded[1:].reshape(-1, stride)[:, :-1] = inside
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, ends = edges[::2], edges[1::2]  # of the runs in each row; an end lies one past the last pixel
    root = _joined(len(starts), *_touching(starts, ends, stride))
    numbers = np.cumsum(root == np.arange(len(root)), dtype=np.int32)
    labels = np.zeros(inside.shape, dtype=np.int32)
    labels[inside] = np.repeat(numbers[root], ends - starts)
    return labels, int(numbers[-1]) if len(numbers) else 0


def _touching(starts: Array, ends: Array, stride: int) -> tuple[Array, Array]:
    """Pairs of runs, one in the row below the other, that share a side or a corner."""
    first = np.searchsorted(ends, starts + stride, side="left")
    count = np.searchsorted(starts, ends + stride, side="right") - first
    upper = np.repeat(np.arange(len(starts)), count)
    lower = np.arange(len(upper)) + np.repeat(first - np.cumsum(count) + count, count)
    return upper, lower


def _joined(count: int, a: Array, b: Array) -> Array:
    """Union-find on whole arrays: the smallest member of each item's set, once a[i] and b[i] share a set."""
    root = np.arange(count)
    while (root[a] != root[b]).any():
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        np.minimum.at(root, high, low)  # hang each under the smallest that it touches
        root = root[root]
    return root


def region_ids(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Region of every anomalous pixel, in raster order, counted from 0 through all masks; number of regions."""
    ids, total = [np.zeros(0, dtype=np.int32)], 0
    for mask in masks:
        labels, count = region_labels(mask)
        ids.append(labels[mask] + (total - 1))
        total += count
    return np.concatenate(ids), total


def region_weights(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 / (area of its region) for every anomalous pixel, in raster order."""
    ids, count = region_ids(masks)
    return (1.0 / np.bincount(ids, minlength=count))[ids]
