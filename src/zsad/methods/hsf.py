"""Hybrid semantic fusion of AdaCLIP (Cao et al., ECCV 2024): patch features in groups, and what stands for all of them.

Reference: caoyunkang/AdaCLIP e27ee32, method/adaclip.py:233-330, which groups with scikit-learn's KMeans. Here the
groups of an image depend on its own features alone: the random numbers are the same for every image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def kmeans(points: Tensor, clusters: int, seed: int = 111, rounds: int = 300) -> Tensor:
    """Groups of near points: greedy k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's algorithm to its end.

    What scikit-learn's KMeans does by default: one start, with the best of 2 + ln(clusters) points as each next centre.
    All of it runs on the squared distances between the points; no centre is ever formed.

    Args:
        points: [B, n, D]; each of the B sets is grouped on its own.
        clusters: Number of groups; never more than there are points.
        seed: Of the random numbers, which are the same for every set.
        rounds: Lloyd's algorithm ends after so many rounds if it did not before.

    Returns:
        [B, n] int64, the group of every point, from 0. Groups can be empty where points coincide.

    >>> kmeans(torch.tensor([[[0.0], [9.0], [0.1], [9.2]]]), 2)[0].unique(return_counts=True)[1].tolist()
    [2, 2]
    """
    with torch.autocast(points.device.type, enabled=False):
        exact = "donot_use_mm_for_euclid_dist"  # equal points have distance 0, and no batch changes a digit
        distances = torch.cdist(points.float(), points.float(), compute_mode=exact).square()
        clusters = min(clusters, points.shape[1])
        labels = first_groups(distances, clusters, seed)
        for _ in range(rounds):
            before, labels = labels, regrouped(distances, labels, clusters)
            if torch.equal(before, labels):
                break
    return labels


def first_groups(distances: Tensor, clusters: int, seed: int) -> Tensor:
    """Groups [B, n] around points drawn one by one, far ones with more chance; squared distances [B, n, n]."""
    each, n = torch.arange(len(distances), device=distances.device), distances.shape[-1]
    draws = torch.Generator().manual_seed(seed)
    noise = torch.empty(clusters, 2 + int(math.log(clusters)), n).exponential_(generator=draws).to(distances)
    nearest = distances[:, int(noise[0, 0].argmin())]  # to the centres so far, [B, n]
    groups = torch.zeros_like(nearest, dtype=torch.int64)
    for number in range(1, clusters):
        drawn = (nearest[:, None] / noise[number]).argmax(-1)  # a point's chance is its share of `nearest`, [B, trials]
        reach = distances[each[:, None], drawn]
        best = torch.minimum(nearest[:, None], reach).sum(-1).argmin(-1)
        reach = reach[each, best]
        groups = torch.where(reach < nearest, number, groups)
        nearest = torch.minimum(nearest, reach)
    return groups


def regrouped(distances: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """One round of Lloyd's algorithm: every point to the nearest mean of the groups [B, n]; an empty group stays so."""
    members = F.one_hot(labels, clusters).to(distances)  # [B, n, K]
    counts = members.sum(1, keepdim=True)
    among = distances @ members / counts.clamp(min=1)  # mean over the members of each group, [B, n, K]
    spread = (among * members).sum(1, keepdim=True) / counts.clamp(min=1) / 2  # mean square around the group's mean
    return (among - spread).masked_fill(counts == 0, torch.inf).argmin(-1)


def fuse(patches: Tensor, labels: Tensor) -> Tensor:
    """The mean of all centres, each the mean of its group's features in all layers (adaclip.py:261-284).

    Args:
        patches: [B, M, n, E], the same n patches in M layers.
        labels: [B, n], see :func:`kmeans`.

    Returns:
        [B, E], of length 1.

    >>> fuse(torch.tensor([[[[1.0, 0], [1, 0], [0, 1]]]]), torch.tensor([[4, 4, 2]])).tolist()
    [[0.7071067690849304, 0.7071067690849304]]
    """
    shares = 1 / alike(labels).sum(-1)  # a patch counts the less, the more there are in its group
    return F.normalize(torch.einsum("bn,bmne->be", shares.to(patches), patches), dim=-1)


def fuse_most_anomalous(patches: Tensor, labels: Tensor, anomaly: Tensor) -> Tensor:
    """The centre of the group that is most anomalous on average, as the paper describes it (adaclip.py:288-325).

    Args:
        patches: [B, M, n, E], the same n patches in M layers.
        labels: [B, n], see :func:`kmeans`.
        anomaly: [B, n], how anomalous each patch is.

    Returns:
        [B, E], of length 1.
    """
    same = alike(labels).to(anomaly)
    means = (same @ anomaly[..., None])[..., 0] / same.sum(-1)  # of the group that a patch is in
    members = same[torch.arange(len(same), device=same.device), means.argmax(-1)]
    return F.normalize(torch.einsum("bn,bmne->be", members.to(patches), patches), dim=-1)


def alike(labels: Tensor) -> Tensor:
    """Which patches are in one group, [B, n] -> [B, n, n] bool."""
    return labels[:, :, None] == labels[:, None]
