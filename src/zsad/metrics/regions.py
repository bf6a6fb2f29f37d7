"""Regions of masks: 8-connected components, found in all rows at once, on the device of the mask.

A mask is cut into runs, the stretches of anomalous pixels of each row. Every run points to the first run that it
touches in the row above, and following these pointers to their ends makes one tree of most regions at a stroke; the few
runs that touch several others then join the trees that are left.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zsad.errors import ZsadError
from zsad.metrics.inputs import binary


def region_labels(mask: Any) -> tuple[Tensor, int]:
    """Number the 8-connected regions of a mask, in the order of their first pixels row by row.

    Args:
        mask: [H, W], 0 or 1, array or tensor.

    Returns:
        Labels [H, W] int32, 0 outside and 1..count inside the regions, and count.

    Raises:
        ZsadError: If the mask is not 2-D or holds something else than 0 and 1.

    >>> region_labels([[1, 0, 0, 1], [0, 1, 0, 1]])
    (tensor([[1, 0, 0, 2],
            [0, 1, 0, 2]], dtype=torch.int32), 2)
    """
    inside = binary(mask, "mask")
    if inside.ndim != 2:
        raise ZsadError(f"a mask must be [H, W], got shape {tuple(inside.shape)}; label one mask at a time.")
    ids, count = region_ids(inside)
    labels = torch.zeros(inside.shape, dtype=torch.int32, device=inside.device)
    return labels.masked_scatter_(inside, ids.int() + 1), count


def region_ids(mask: Tensor) -> tuple[Tensor, int]:
    """Region of every anomalous pixel, and the number of regions.

    Args:
        mask: [H, W] bool.

    Returns:
        [m] int64 in raster order, as ``scores[mask]`` goes; regions count from 0 in the order of their first pixels.

    >>> region_ids(torch.tensor([[True, False, True], [True, False, False]]))
    (tensor([0, 1, 0]), 2)
    """
    lengths, root = _runs(mask)
    first = root == torch.arange(len(root), device=root.device)
    ids = first.cumsum(0) - 1
    return ids.gather(0, root).repeat_interleave(lengths), int(first.count_nonzero())


def region_areas(mask: Tensor) -> tuple[Tensor, int]:
    """Pixels of its region for every anomalous pixel, and the number of regions.

    Args, order: as :func:`region_ids`.

    >>> region_areas(torch.tensor([[True, False, True], [True, False, False]]))
    (tensor([2, 1, 2]), 2)
    """
    lengths, root = _runs(mask)
    areas = torch.zeros_like(lengths).scatter_add_(0, root, lengths)
    return areas.gather(0, root).repeat_interleave(lengths), int(areas.count_nonzero())


def _runs(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Of all runs, in raster order: pixels [R], and the first run of its region [R]."""
    stride = mask.shape[1] + 2  # an empty pixel on either side, so that no run goes on in the next row
    padded = F.pad(mask, (1, 1)).reshape(-1)
    starts, ends = (padded != padded.roll(1)).nonzero().reshape(-1, 2).T.contiguous()  # an end lies one past its run
    return ends - starts, _joined(*_touching(starts, ends, stride))


def _touching(starts: Tensor, ends: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first run above each run that shares a side or a corner, or itself; pairs (above, below) of all others."""
    first = torch.searchsorted(ends, starts - stride)
    count = torch.searchsorted(starts, ends - stride, right=True) - first
    own = torch.arange(len(starts), device=starts.device)
    others = (count - 1).clamp(min=0)
    below = own.repeat_interleave(others)
    skipped = first + 1 - (others.cumsum(0) - others)
    above = torch.arange(len(below), device=own.device) + skipped.repeat_interleave(others)
    return torch.where(count > 0, first, own), above, below


def _joined(root: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The smallest member of each item's set, where an item shares one with root[item], and a[i] shares one with b[i].

    Nothing points to a larger item, so the root of a tree is its smallest member, and stays so: in every round the
    larger of two roots is hung under the smaller one.
    """
    root = _followed(root)
    while len(a):
        a, b = root.gather(0, a), root.gather(0, b)
        apart = a != b
        a, b = a[apart], b[apart]
        root.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        root = _followed(root)
    return root


def _followed(root: Tensor) -> Tensor:
    """Pointers followed to their ends, in as many steps as the longest way has binary digits."""
    while not torch.equal(further := root.gather(0, root), root):
        root = further
    return root
