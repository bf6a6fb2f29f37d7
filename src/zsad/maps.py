"""From patch features to pixel maps: similarity, upsampling, smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zsad.errors import ZsadError


def probabilities(features: Tensor, text: Tensor, temperature: float = 0.07) -> Tensor:
    """Softmax over (normal, anomalous) of cosine / temperature (Eq. 1 of AnomalyCLIP).

    Args:
        features: [B, ..., D]; need not be normalised.
        text: [2, D] or [B, 2, D], order (normal, anomalous); need not be normalised.
        temperature: Divides the cosine. 0.07 is the released value; CLIP's own would be 0.01.

    Returns:
        [B, ..., 2], summing to 1.
    """
    return (cosines(features, text) / temperature).softmax(-1)


def cosines(features: Tensor, text: Tensor) -> Tensor:
    """Cosine of every feature [B, ..., D] with every text [K, D] or [B, K, D]: [B, ..., K] in [-1, 1]."""
    a, b = F.normalize(features, dim=-1), F.normalize(text, dim=-1)
    if b.ndim == 2:
        return a @ b.T
    return torch.einsum("b...d,bkd->b...k", a, b)


def upsample(
    values: Tensor, grid: tuple[int, int], size: tuple[int, int], mode: str = "bilinear", align_corners: bool = False
) -> Tensor:
    """Patch values to pixels, bilinear.

    Args:
        values: [B, rows*columns] or [B, rows*columns, K], row by row.
        grid: Rows and columns of patches.
        size: Height and width of the result, in pixels.
        mode: "nearest" gives every pixel the value of its patch.
        align_corners: The centres of the corner patches fall on the corner pixels, not inside the image; bilinear only.

    Returns:
        [B, H, W] or [B, K, H, W].

    Raises:
        ZsadError: If the number of values is not that of the grid, usually because CLS is still attached.
    """
    if values.shape[1] != grid[0] * grid[1]:
        raise ZsadError(f"{values.shape[1]} patch values for a grid of {grid[0]} x {grid[1]}; is CLS still attached?")
    planes = values[..., None] if values.ndim == 2 else values
    planes = planes.transpose(1, 2).contiguous().view(len(planes), -1, *grid)  # else each pixel's planes lie together
    planes = F.interpolate(planes, size=size, mode=mode, align_corners=align_corners or None)
    return planes[:, 0] if values.ndim == 2 else planes


def upsampled_probabilities(logits: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Probabilities of pixels, by a softmax after the upsampling, whose corners are aligned.

    Args:
        logits: [B, rows*columns, 2], order (normal, anomalous), row by row.
        grid: Rows and columns of patches.
        size: Height and width of the result, in pixels.

    Returns:
        [B, 2, H, W], summing to 1.

    Raises:
        ZsadError: See :func:`upsample`.

    >>> upsampled_probabilities(torch.zeros(1, 6, 2), (2, 3), (4, 6)).unique()
    tensor([0.5000])
    """
    return upsample(logits, grid, size, align_corners=True).softmax(1)


def anomaly_map(
    patches: Tensor, text: Tensor, grid: tuple[int, int], size: tuple[int, int], temperature: float = 0.07
) -> Tensor:
    """Probability that each pixel is anomalous (local map of AnomalyCLIP, Sec. 3.3).

    The softmax is taken at patch resolution, before the upsampling (zqhang/AnomalyCLIP 45ed4dd, model_load.py:222-235).

    Args:
        patches: [B, rows*columns, D], row by row, no CLS token; need not be normalised.
        text: [2, D] or [B, 2, D], order (normal, anomalous); need not be normalised.
        grid: Rows and columns of patches.
        size: Height and width of the result, in pixels.
        temperature: See :func:`probabilities`.

    Returns:
        [B, H, W] in [0, 1]. Bilinear between patches, not blurred: see :func:`smooth`.

    Raises:
        ZsadError: See :func:`upsample`.

    >>> anomaly_map(torch.ones(1, 6, 4), torch.eye(2, 4), (2, 3), (28, 42)).shape
    torch.Size([1, 28, 42])
    """
    return upsample(probabilities(patches, text, temperature)[..., 1], grid, size)


def smooth(maps: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Gaussian filter with the edges mirrored, equal to `scipy.ndimage.gaussian_filter` with its defaults.

    Args:
        maps: [B, H, W].
        sigma: Standard deviation in pixels; 0 leaves the maps as they are.
        truncate: The filter ends at this many sigmas.

    Returns:
        [B, H, W].

    >>> smooth(torch.ones(1, 5, 3), sigma=4.0).allclose(torch.ones(1, 5, 3))
    True
    """
    if sigma <= 0:
        return maps
    for dim in (1, 2):
        maps = maps.transpose(dim, 2) @ _gaussian(maps.shape[dim], sigma, truncate).to(maps)
        maps = maps.transpose(dim, 2)
    return maps


def _gaussian(length: int, sigma: float, truncate: float) -> Tensor:
    """The filter as a symmetric matrix [length, length]; the mirror repeats the edge pixel."""
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)  # on the CPU: some devices have no float64
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    source = (torch.arange(length)[:, None] + offsets.long()) % (2 * length)
    source = torch.where(source < length, source, 2 * length - 1 - source)
    weights = (kernel / kernel.sum()).expand(length, -1)
    return torch.zeros(length, length, dtype=torch.float64).scatter_add_(1, source, weights)
