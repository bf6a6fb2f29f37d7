"""Crane against its released code: `crane` without a guide, `crane_dattn` with a made-up one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity import weights
from tests.parity.golden import Golden, Quantity
from tests.parity.steps import first_step
from zsad.backbones.clip import CLIP
from zsad.backbones.registry import IMAGENET_MEAN, IMAGENET_STD
from zsad.backbones.vit import resize_positions
from zsad.maps import cosines
from zsad.methods.crane import Config, Crane, dattn
from zsad.methods.features import TowerFeatures
from zsad.methods.guidance import guide_image, similarity_weights
from zsad.methods.streams import side_streams

LEARNED = {"normal_context": "ctx_pos", "anomalous_context": "ctx_neg"} | {
    f"deep.sets.{i}": f"compound_prompts_text.{i}" for i in range(8)
}
DRAWN = re.compile(r'tensor\("([\w.]+)", ?\(\d+, ?\w+, ?(\d+)\), ?([\d.]+)')


class MadeUpGuide(Crane):
    """With the drawn patches of the golden run in place of a guide's; every image has its own mean similarity."""

    drawn: Tensor  # [2, n, D]

    def guide_patches(self, images: Tensor) -> Tensor:
        return self.drawn[: len(images)]


class BatchMean(MadeUpGuide):
    """As released: one mean similarity for the whole batch."""

    def guide_weights(self, images: Tensor) -> Tensor:
        s = cosines(self.guide_patches(images), self.guide_patches(images))
        return similarity_weights(s.flatten(0, 1)[None], self.config.beta, self.config.gamma).reshape(s.shape)


def drawn_patches(golden: Golden) -> Tensor | None:
    """The patches of the guide that stood in for DINOv2; None in a run without."""
    found = DRAWN.search(golden.notes.get("inputs", {}).get("dino") or "")
    if found is None:
        return None
    side = golden.side // 14  # patches of the narrow CLIP
    shape = (len(golden.images()), side * side, int(found[2]))
    return torch.from_numpy(weights.tensor(found[1], shape, float(found[3]), seed=golden.seed))


def method(golden: Golden, kind: type[Crane] = BatchMean, **switches: object) -> Crane:
    """With the switches and learned tensors of the run; `kind` matters to one with a guide."""
    drawn, told = drawn_patches(golden), golden.notes.get("config_test", {})
    readers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "layers": ("features_list", tuple),
        "attention": ("attn_type", lambda words: tuple(words.split("+"))),
        "pooling": ("use_scorebase_pooling", bool),
        "soft_mean": ("soft_mean", bool),
        "sigma": ("sigma", float),
    }
    chosen = {name: read(told[key]) for name, (key, read) in readers.items() if key in told}
    if drawn is None:
        model = Crane(golden.clip(), Config(**chosen | switches))
    else:
        told = golden.notes.get("dattn_args", {})
        chosen |= {"guide": "made-up"} | {key: float(told[key]) for key in ("beta", "gamma") if key in told}
        towers = golden.clip()
        model = kind(towers, Config(**chosen | switches), CLIP(towers.visual, mean=IMAGENET_MEAN, std=IMAGENET_STD))
        model.drawn = drawn  # type: ignore[attr-defined]
    theirs = golden.learned()
    model.load_state_dict({ours: theirs[name].reshape(theirs[name].shape[-2:]) for ours, name in LEARNED.items()})
    return model


def released_order(model: Crane, values: Tensor) -> Tensor:
    """[B, M, ...] as the released code lists maps: [layers x branches, B, ...], D-Attn before E-Attn in every layer."""
    number, guided = len(model.layers), model.config.guided
    by_guide, by_self = values[:, : number * guided], values[:, number * guided :]
    by_self = by_self.expand(-1, number, *by_self.shape[2:])
    return torch.stack([by_guide, by_self] if guided else [by_self], 2).flatten(1, 2).transpose(0, 1)


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features, text, maps and scores of every recorded variant; then the recorded training step."""
    model = method(golden)
    features = model.encode(golden.images())
    yield from inference(golden, "", features)
    yield from inference(golden, "cond/", features, context_in_inference=True)
    other = not model.config.soft_mean
    yield from inference(golden, "softmean/" if other else "logitmean/", features, soft_mean=other)
    alone = method(golden, MadeUpGuide).encode(golden.images())
    yield from inference(golden, "single/", alone)
    apart = method(golden, in_place=False).encode(golden.images())
    yield from inference(golden, "noalias/", apart, in_place=False)
    yield from embedding(golden, model)
    if model.config.guided:
        yield from guidance(golden, model)
    if any(golden.has(kind) for kind in ("train/", "grad/", "step/", "afterstep")):
        yield from training(golden, model, features)


@torch.no_grad()
def inference(golden: Golden, group: str, features: TowerFeatures, **switches: object) -> Iterator[Quantity]:
    """What a test run of the released code gives; it lists text guided by images per sentence, then per image."""
    model, unblurred = method(golden, **switches), method(golden, **switches | {"sigma": 0.0})
    c, said = model.config, model.score(features)
    logits, text = model.logits(features, c.context_in_inference)
    patches, scores = released_order(model, features.patches), released_order(model, logits)
    image = model.global_feature(features, logits)
    pairs = text if text.ndim == 3 else text[None]
    found = {
        "global_feature_raw": features.image,
        "global_feature": F.normalize(features.image, dim=-1),
        "patch_features_raw": patches,
        "patch_features": F.normalize(patches, dim=-1),
        "text_raw": pairs.transpose(0, 1) if c.context_in_inference else pairs,
        "text_features": F.normalize(pairs, dim=-1),
        "pixel_logits": scores,
        "pixel_prob": scores.softmax(-1),
        "sbp_feature": model.anomaly_feature(features, logits),
        "global_feature_fused": image,
        "image_logits": cosines(image, text) / c.temperature,
        "image_score": said.score,
        "map_before_gaussian": unblurred.score(features).map,
        "map_after_gaussian": said.map,
    }
    for name, ours in found.items():
        yield from golden.against(group + name, ours)


def embedding(golden: Golden, model: Crane) -> Iterator[Quantity]:
    """The resized positions."""
    visual = model.backbone.visual
    positions = resize_positions(visual.positions, visual.grid(golden.images()), "bilinear")
    yield from golden.against("pos_embed_interpolated", positions)


@torch.no_grad()
def guidance(golden: Golden, model: Crane) -> Iterator[Quantity]:
    """The inside of D-Attn at the last block."""
    x, visual = golden.images(), model.backbone.visual
    *_, last = side_streams(visual.blocks, visual.embed(x, resize="bilinear"), {}, start=1)
    stream, patches, mixed = last.attended, model.guide_patches(x), model.guide_weights(x)
    similarity = cosines(patches, patches)
    found = {
        "dino_input_image": guide_image(x, model.backbone, model._guide[0]),
        "similarity": similarity,
        "similarity_mean": similarity.mean(),
        "weights": mixed,
        "kept_fraction": (mixed > 0).float().mean(),
        "ln1_input": last.block.norm1(stream),
        "output_before_lnpost_proj": dattn(last.block, stream, mixed),
    }
    for name, ours in found.items():
        yield from golden.against(f"dattn/{name}", ours)


def training(golden: Golden, model: Crane, features: TowerFeatures) -> Iterator[Quantity]:
    """Losses, gradients, the first step, and the text features after it."""
    terms = model.loss(features, *golden.truth())
    with torch.no_grad():
        logits, text = model.logits(features, model.config.context_in_training)
        image = cosines(model.global_feature(features, logits), text) / model.config.training_temperature
    yield from golden.against("train/ce_logits", image)
    yield from losses(golden.notes.get("train_losses", {}), terms)
    for name, (gradient, change) in first_step(model, terms).items():
        yield from golden.against(f"grad/{LEARNED[name]}", gradient, "gradient")
        yield from golden.against(f"step/{LEARNED[name]}", change, "step")
    yield from golden.against("afterstep/text_features", F.normalize(model.text_features(), dim=-1))
    exact = method(golden, half_deep_tokens=False)
    exact.load_state_dict(model.state_dict())
    yield from golden.against("afterstep_nohalf/text_features", F.normalize(exact.text_features(), dim=-1))


def losses(told: Mapping[str, Any], terms: Mapping[str, Tensor]) -> Iterator[Quantity]:
    """Weighted terms against the notes, whose sums over maps weigh 2 and whose cross entropy 0.2."""
    if not told:
        return
    theirs = {
        "focal": 2 * sum(told["focal_per_layer"]),
        "dice": 2 * sum(told["dice_per_layer"]),
        "global": 0.2 * told["ce"],
    }
    total = torch.stack(list(terms.values())).sum().item()
    yield Quantity("train_losses/total", abs(total / told["total"] - 1), "loss")
    for name, value in theirs.items():
        yield Quantity(f"train_losses/{name}", abs(terms[name].item() / value - 1), "loss")
