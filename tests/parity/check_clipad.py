"""CLIP-AD against its released code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step, later_steps
from zsad.maps import upsample
from zsad.methods.clipad import CLIPAD, Config, dots, dual_path, sentences
from zsad.methods.representatives import CHOICES, clusters, halved

LAYERS = (6, 12, 18, 24)
#: names of the runs, the text features that they were made with, and their switches
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sdp": ("dbscan", {"linear": False}),
    "sdp_plus": ("dbscan", {}),
    "sdp_plus_eps_0.25": ("dbscan_eps_0.25", {}),
    "sdp_plus_visa": ("dbscan", {"sigma": 2.0}),
}
#: how the vectors are chosen, and the radius of DBSCAN; "mean_shift" finds one cluster of all sentences
CHOSEN = {
    "dbscan": ("dbscan", 0.5),
    "dbscan_eps_0.25": ("dbscan", 0.25),
    "mean_shift": ("dbscan", 2.0),
    "kde": ("kde", 0.0),
    "pca": ("pca", 0.0),
}


class Told(CLIPAD):
    """CLIP-AD with given text features [2, 2, E].

    Float32 cannot promise on which side of a rounding to half precision a number falls, and one of 2^-13 would show in
    the maps: so what is rounded and how it is rounded are compared each on its own, and the runs get the released ones.
    """

    told: Tensor

    def text_features(self, count: int, class_names: object) -> Tensor:
        return self.told


def method(golden: Golden, kind: type[CLIPAD] = CLIPAD, **switches: Any) -> CLIPAD:
    """With the learned tensors of the run."""
    model = kind(golden.clip().acting("gelu"), Config(**switches))
    if model.config.linear:
        model.load_state_dict(CLIPAD.released_state({"linear_layers": golden.learned()}))
    return model


def told(golden: Golden, text: str = "dbscan", **switches: Any) -> CLIPAD:
    """With the learned tensors and the text features of the run."""
    model = method(golden, Told, **switches)
    assert isinstance(model, Told)
    model.told = golden.array(f"text_features/{text}")
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Sentences and what stands for them; both paths of the tower; every recorded run; the training."""
    yield from texts(golden)
    yield from inside(golden, told(golden))
    for name, (text, switches) in RUNS.items():
        yield from run(golden, name, told(golden, text, **switches))
    yield from run(golden, "sdp_plus_mean", method(golden, representative="mean"))
    yield from training(golden, told(golden))
    again = told(golden)
    yield from later_steps(golden, "train", again, again.encode(golden.images()))


@torch.no_grad()
def encoded(golden: Golden) -> list[list[Tensor]]:
    """Per class name and state the features [S, E] of the sentences, of length 1, as the ensemble chooses from them."""
    found: list[Tensor] = []

    def first(features: Tensor) -> Tensor:
        found.append(features)
        return features[0]

    model, names = method(golden, linear=False), golden.notes["class_names"]
    model.representatives.choose = first
    model.text_features(len(names), names)
    return [found[i : i + 2] for i in range(0, len(found), 2)]


@torch.no_grad()
def texts(golden: Golden) -> Iterator[Quantity]:
    """Sentences by count and hash, their features and clusters, and the vectors that stand for them."""
    for name, states in golden.notes["prompts"].items():
        ours = [(len(own), hashlib.sha256("\n".join(own).encode()).hexdigest()) for own in sentences(name)]
        theirs = [(state["count"], state["sha256"]) for state in states.values()]
        yield Quantity(f"sentences/{name}", float(ours != theirs), "value")
    features = encoded(golden)
    yield from golden.against("sentence_features/metal_nut/normal/every_40th", features[0][0][::40])
    states = [state for pair in features for state in pair]
    mean = method(golden, representative="mean")
    yield from golden.against("text_features/mean", torch.stack([mean.representative(state) for state in states]))
    for name, (choice, eps) in CHOSEN.items():
        vectors = torch.stack([CHOICES[choice](state, eps, 15) for state in states])
        yield from golden.against(f"representatives/{name}", vectors)
        theirs = golden.array(f"representatives/{name}").flatten(0, 1)
        yield from golden.against(f"text_features/{name}", torch.stack([halved(vector) for vector in theirs]))
    for class_name, pair in zip(golden.notes["class_names"], features, strict=True):
        for state, some in zip(("normal", "anomalous"), pair, strict=True):
            labels = clusters(some, 0.25, 15)
            order = labels[labels < len(labels)].unique()  # scikit-learn counts clusters by their first cores
            ours = torch.where(labels < len(labels), torch.searchsorted(order, labels), -1)
            yield from golden.against(f"dbscan_eps_0.25/labels/{class_name}/{state}", ours)


@torch.no_grad()
def inside(golden: Golden, model: CLIPAD) -> Iterator[Quantity]:
    """Tokens of both paths, and what becomes of them before it is upsampled."""
    visual, images, text = model.backbone.visual, golden.images(), model.text_features(2, None)
    features = model.encode(images)
    steps = list(dual_path(visual.blocks, visual.embed(images, resize="bicubic_antialias")))
    ordinary = [steps[layer].attended if layer < len(steps) else steps[-1].after for layer in LAYERS]
    for i, layer in enumerate(LAYERS):
        for path, tokens in (("surgery", features.tokens[:, i]), ("ordinary", ordinary[i])):
            name = f"{path}_tokens/layer{layer}/every_6th"
            if name in golden:
                yield from golden.against(name, tokens[: len(golden.array(name)), ::6])
        logits = dots(model.linears[i](features.patches[:, i]), text) / model.config.temperature
        yield from golden.against(f"sdp_plus/logits/layer{layer}", logits)
    surgery = model.surgery(features, text)
    yield from golden.against("sdp/patch_similarity", surgery)
    plane = upsample(surgery, features.grid, features.size)
    yield from golden.against("sdp/map/before_gaussian/every_4th_pixel", plane[:, ::4, ::4])


@torch.no_grad()
def run(golden: Golden, name: str, model: CLIPAD) -> Iterator[Quantity]:
    """The map and both parts of the image score."""
    features = model.encode(golden.images())
    made = model.score(features, golden.notes["class_names"])
    yield from golden.against(f"{name}/map/after_gaussian/every_4th_pixel", made.map[:, ::4, ::4])
    low, high = model.map_range
    highest = made.map.flatten(1).amax(1)
    yield from golden.against(f"{name}/map_maximum", highest)
    share = (highest - low) / (high - low)
    yield from golden.against(f"{name}/cls_probability", 2 * made.score - share)  # the score is the mean of both


def training(golden: Golden, model: CLIPAD) -> Iterator[Quantity]:
    """Losses, gradients, the first step and what it does to the map."""
    features = model.encode(golden.images())
    terms = model.loss(features, *golden.truth())
    for kind, ours in terms.items():
        names = [f"train/loss/{kind}/layer{layer}" for layer in LAYERS]
        if all(name in golden for name in names):
            golden.compared.update(names)
            theirs = torch.stack([golden.array(name) for name in names]).sum()
            yield Quantity(f"train/loss/{kind}", abs(ours.item() / theirs.item() - 1), "loss")
    yield from golden.against("train/loss/total", torch.stack(list(terms.values())).sum(), "loss")
    for name, (gradient, change) in first_step(model, terms).items():
        fc = name.replace("linears", "fc")
        yield from golden.against(f"train/grad/{fc}", gradient, "gradient")
        yield from golden.against(f"train/grad/{fc}/every_16th_row", gradient[::16], "gradient")
        yield from golden.against(f"train/grad.l2/{fc}", gradient.norm(), "gradient")
        yield from golden.against(f"train/step_delta_l2/{fc}", change.norm(), "step")
    highest = model.score(features).map.flatten(1).amax(1)
    yield from golden.against("train/after_one_step/map_maximum", highest)
