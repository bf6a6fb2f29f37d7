"""One vector that stands for the features of many sentences: mean, density, first component, largest cluster.

The choices of CLIP-AD's representative vector selection, by the names of its `--rep_vec` (ByChelsea/CLIP-AD f004973,
util/prompt_ensemble.py:58-94). Each takes the features [S, E] of S sentences and gives one vector [E], of any length.
Its "mean_shift" is left out: with the bandwidth there, 2, all features of length 1 are in one cluster, that is "mean".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zsad.backbones.clip import TextTower
from zsad.backbones.tokenizer import Tokenizer
from zsad.methods.prompts import Ensemble


class Representatives(Ensemble):
    """As :class:`Ensemble`, with another vector per state than the mean; `choose` takes [S, E] and gives [E]."""

    def __init__(
        self,
        text: TextTower,
        tokenizer: Tokenizer,
        sentences: Callable[[str], Sequence[Sequence[str]]],
        choose: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(text, tokenizer, sentences, averaged=False)
        self.choose = choose

    def _state(self, sentences: Sequence[str]) -> Tensor:
        return self.choose(super()._state(sentences))


def density_mean(features: Tensor, bandwidth: float = 0.3) -> Tensor:
    """Mean weighted by the density at each sentence, of a Gaussian kernel (prompt_ensemble.py:67-73).

    >>> density_mean(torch.tensor([[0.0], [0.0], [3.0]])).item() < 2 / 3
    True
    """
    weights = torch.exp(-0.5 * (_distances(features) / bandwidth) ** 2).sum(1)
    return weights @ features / weights.sum()


def first_component(features: Tensor) -> Tensor:
    """Coordinates of the channels on the first principal axis, on the mean's side (prompt_ensemble.py:15-25, 60-66).

    The channels are the samples and the sentences the dimensions: a weighted sum of sentences, each centred.
    """
    centred = features - features.mean(1, keepdim=True)
    _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
    vector: Tensor = sizes[0] * rows[0]
    return vector if vector @ features.mean(0) >= 0 else -vector


def largest_cluster(features: Tensor, eps: float, min_samples: int) -> Tensor:
    """Mean of the largest cluster of DBSCAN, the first of equally large ones (prompt_ensemble.py:74-85).

    Without any cluster, which the released code does not survive, it is the mean of all sentences.

    Args:
        features: [S, E].
        eps: Two sentences at this distance or nearer are neighbours.
        min_samples: A sentence with this many neighbours, itself counted, is a core of a cluster.
    """
    labels = clusters(features, eps, min_samples)
    sizes = torch.where(labels < len(labels), (labels == labels[:, None]).sum(1), 0)
    return features[labels == labels[sizes == sizes.max()].min()].mean(0)


def clusters(features: Tensor, eps: float, min_samples: int) -> Tensor:
    """The cluster [S] of every sentence, by the number of its first core; S for noise. See :func:`largest_cluster`.

    A sentence that is no core itself but near cores of several clusters belongs to the first.

    >>> clusters(torch.tensor([[0.0], [0.1], [5.0], [0.2]]), eps=0.15, min_samples=3)
    tensor([1, 1, 4, 1])
    """
    near = _distances(features) <= eps
    reach = near & (near.sum(1) >= min_samples)  # [i, j]: i is within the reach of the core j
    noise = len(features)
    labels = torch.where(reach.diagonal(), torch.arange(noise, device=features.device), noise)
    for _ in range(noise):
        spread = torch.where(reach, labels, noise).amin(1)
        if torch.equal(spread, labels):
            break
        labels = spread
    return labels


def _distances(features: Tensor) -> Tensor:
    """[S, S], from differences: the shortcut by products is too rough at the radius of a cluster."""
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def halved(vector: Tensor) -> Tensor:
    """A vector [E] divided by its length, each of the three rounded to half precision (prompt_ensemble.py:85 and 97).

    >>> halved(torch.tensor([3.0, 4.0])).tolist()
    [0.60009765625, 0.7998046875]
    """
    rounded = vector.half().float()
    length: Tensor = rounded.norm().half().float()
    return (rounded / length).half().float()


#: by name; the last two arguments are those of DBSCAN
CHOICES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "mean": lambda features, eps, min_samples: features.mean(0),
    "pca": lambda features, eps, min_samples: first_component(features),
    "kde": lambda features, eps, min_samples: density_mean(features),
    "dbscan": largest_cluster,
}
