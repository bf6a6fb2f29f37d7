"""APRIL-GAN against its released code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step, later_steps
from zsad.backbones.vit import resize_positions, walk
from zsad.methods.aprilgan import APRILGAN, Config, LayerFeatures
from zsad.methods.losses import dice, focal

NATIVE = "native_grid_no_position_resize/"
#: beginnings of the arrays' names -> the activation of both towers in that run
RUNS = {"": "gelu", "quick_gelu/": "quick_gelu", NATIVE: "quick_gelu"}
#: what there is of one object
KINDS = {"text_features", "patch_logits", "upsampled_probability", "map", "image_score"}


def method(golden: Golden, activation: str, like: APRILGAN | None = None) -> APRILGAN:
    """With the learned tensors of the run, and the text features of another method, if one is given."""
    layers = tuple(golden.notes["hyper_parameters"]["features_list"])
    model = APRILGAN(golden.clip(), Config(layers=layers, activation=activation))
    model.ensemble = like.ensemble if like else model.ensemble
    model.load_state_dict({ours(name): tensor for name, tensor in golden.learned().items()})
    return model


def ours(name: str) -> str:
    """Our name of a learned tensor."""
    return name.replace("fc.", "adapters.")


def class_names(golden: Golden, run: str) -> list[str]:
    """The objects that a run has arrays of."""
    rests = (name.removeprefix(run).split("/") for name in golden.arrays if name.startswith(run))
    return sorted({rest[0] for rest in rests if KINDS & set(rest[1:2])})


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, texts, maps and scores of every run, and each recorded training."""
    for run, activation in RUNS.items():
        if not golden.has(run):
            continue
        model, images = method(golden, activation), golden.images()
        if run == NATIVE:
            side = model.backbone.visual.size.grid * model.backbone.visual.size.patch
            images = images[..., :side, :side]
        features = model.encode(images)
        yield from tower(golden, run, model, images, features)
        for name in class_names(golden, run):
            yield from inference(golden, f"{run}{name}", model, features, [name] * len(images))
        if golden.has(f"{run}train/"):
            names = golden.notes["hyper_parameters"]["train"]["class_names"]
            yield from training(golden, f"{run}train", method(golden, activation, model), features, names)
            yield from later_steps(golden, f"{run}train", method(golden, activation, model), features, names)


@torch.no_grad()
def tower(golden: Golden, run: str, model: APRILGAN, images: Tensor, features: LayerFeatures) -> Iterator[Quantity]:
    """What does not depend on the object's name."""
    visual, mode = model.backbone.visual, "bicubic_antialias"
    resized = resize_positions(visual.positions, visual.grid(images), mode)
    yield from golden.against(f"{run}positional_embedding_resized", resized)
    yield from golden.against(f"{run}image_feature/raw", features.image)
    yield from golden.against(f"{run}image_feature/normalised", F.normalize(features.image, dim=-1))
    _, tapped = walk(visual.blocks, visual.embed(images, resize=mode), model.config.layers)
    for i, layer in enumerate(model.config.layers):
        yield from golden.against(f"{run}patch_tokens_before_linear/layer{layer}", tapped[layer])
        yield from golden.against(f"{run}patch_features/layer{layer}", model.adapters[i](features.patches[:, i]))


@torch.no_grad()
def inference(
    golden: Golden, before: str, model: APRILGAN, features: LayerFeatures, names: Sequence[str]
) -> Iterator[Quantity]:
    """What does: logits of the patches, maps and scores."""
    text, made = model.text_features(len(names), names), model.score(features, names)
    yield from golden.against(f"{before}/text_features", F.normalize(text[0], dim=-1))
    logits, maps = model.logits(features, text), model.maps(features, text)
    for layer, patches, plane in zip(model.config.layers, logits, maps, strict=True):
        yield from golden.against(f"{before}/patch_logits/layer{layer}", patches)
        yield from golden.against(f"{before}/upsampled_probability/layer{layer}", plane[:, 1])
    yield from golden.against(f"{before}/map", made.map)
    yield from golden.against(f"{before}/image_score", made.score)


def training(
    golden: Golden, group: str, model: APRILGAN, features: LayerFeatures, names: Sequence[str]
) -> Iterator[Quantity]:
    """Losses layer by layer and in all, gradients and the first step."""
    masks, labels = golden.truth()
    with torch.no_grad():
        maps = model.maps(features, model.text_features(len(names), names))
        for layer, p in zip(model.config.layers, maps, strict=True):
            yield from golden.against(f"{group}/loss/focal/layer{layer}", focal(p, masks), "loss")
            yield from golden.against(f"{group}/loss/dice_abnormal/layer{layer}", dice(p[:, 1], masks), "loss")
    terms = model.loss(features, masks, labels, names)
    yield from golden.against(f"{group}/loss/total", torch.stack(list(terms.values())).sum(), "loss")
    made = first_step(model, terms)
    for name in golden.learned():
        gradient, change = made[ours(name)]
        yield from golden.against(f"{group}/grad/{name}", gradient, "gradient")
        yield from golden.against(f"{group}/grad.l2/{name}", gradient.norm(), "gradient")
        yield from golden.against(f"{group}/step_delta_l2/{name}", change.norm(), "step")
