"""Whole numbers in the order of scores, from which a histogram takes its bins.

The bits of a float32, read as an integer, grow with it, and numbers that share their first bits have a small relative
distance. That is what scores need that spread over many powers of two, as probabilities close to 0 do, and those close
to 1 need the same from the other side: between 0.5 and 1, a key counts down by the bits of what is missing to 1, a
number that float32 holds exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF, ONE = 0x3F000000, 0x3F800000  # bits of 0.5 and 1.0
SHIFT = 23 * 2**23  # what keys from 1 on move up, since those below take the room of 23 more powers of two
LARGEST = 2.0**100  # scores beyond share its key, or the shift would leave 32 bits


def keys_of(scores: Tensor) -> Tensor:
    """Keys, int32: of two scores, the higher one never has the lower key.

    Args:
        scores: float32 or float64, of any shape.

    >>> keys_of(torch.tensor([-1.0, -0.0, 0.0, 1e-45, 0.5, 1.0]))
    tensor([-1258291200,           0,           0,           1,  1056964608,
             1258291200], dtype=torch.int32)
    """
    size = scores.float().abs().clamp_(max=LARGEST)
    bits, missing = size.view(torch.int32), (1 - size).view(torch.int32)
    keys = torch.where(bits < HALF, bits, torch.where(bits < ONE, 2 * HALF - missing, bits + SHIFT))
    return torch.where(scores < 0, -keys, keys)
