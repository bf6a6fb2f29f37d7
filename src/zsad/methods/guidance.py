"""Which patches of an image are alike, as another frozen backbone sees it (D-Attn of Crane, Sec. 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import walk


def guide_image(images: Tensor, towers: CLIP, guide: CLIP) -> Tensor:
    """Images normalised for `towers` as `guide` wants them, with as many patches (AlirezaSalehy/Crane 39181f9,
    models/Crane.py:504-506; the size is zsad's).

    Args:
        images: [B, 3, H, W].
        towers: Whose mean, standard deviation, patch size and grid they are made for.
        guide: Whose they get.

    Returns:
        [B, 3, rows * patch, columns * patch] on the grid of `towers`; colours outside of black and white are cut off.
    """
    (rows, columns), patch, other = towers.visual.grid(images), towers.visual.size.patch, guide.visual.size.patch
    mean, std, mean_there, std_there = (
        images.new_tensor(values).view(3, 1, 1) for values in (towers.mean, towers.std, guide.mean, guide.std)
    )
    colours = (images[..., : rows * patch, : columns * patch] * std + mean).clamp(0, 1)
    if other != patch:
        colours = F.interpolate(colours, (rows * other, columns * other), mode="bilinear", antialias=True)
    return (colours - mean_there) / std_there


def guide_patches(images: Tensor, towers: CLIP, guide: CLIP) -> Tensor:
    """The guide's patch tokens after its final norm, [B, n, D], for images and grid of `towers`."""
    x, _ = walk(guide.visual.blocks, guide.visual.embed(guide_image(images, towers, guide)))
    return guide.visual.patches(guide.visual.norm(x))


def similarity_weights(similarity: Tensor, beta: float, gamma: float) -> Tensor:
    """Attention weights softmax(gamma S + M); M masks what is less alike than beta times the mean.

    Args:
        similarity: S [B, n, n], cosines between patches. The mean is over each [n, n].
        beta: Times the mean is epsilon; in each row the largest similarity is never masked.
        gamma: Inverse temperature.

    Returns:
        [B, n, n]; rows sum to 1.

    >>> import torch
    >>> similarity_weights(torch.tensor([[[1.0, 0.1], [0.1, 1.0]]]), beta=1.2, gamma=3.0)[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    refined = (similarity - beta * similarity.mean((1, 2), keepdim=True)) * gamma
    threshold = refined.amax(-1, keepdim=True).clamp(max=0.0)
    return refined.masked_fill(refined < threshold, float("-inf")).softmax(-1)
