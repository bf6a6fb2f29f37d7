"""ViP²-CLIP against its released code: any number of groups of arrays, whose prefix tells what was varied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from tests.parity.golden import END, START, Golden, Quantity, word_ids
from tests.parity.steps import first_step, later_steps
from zsad.methods.features import TowerFeatures
from zsad.methods.vip2clip import Config, ViP2CLIP, most_anomalous, picked

#: beginnings of the names of groups, and how the method was changed there
GROUPS = {
    "": {},
    "published_n_ctx7/": {"context_length": 7},
    "variant_normal_prompt_uses_good/": {"normal_word": "good"},
}


def config(golden: Golden, **switches: object) -> Config:
    """The settings of the run, from its notes."""
    told = golden.notes.get("hyper_parameters", {})
    released = ViP2CLIP.released_switches(checkpoint(golden.learned()))
    settings = {"top_k": told.get("topk", 10), "layers": tuple(told.get("features_list", (6, 12, 18, 24)))}
    settings |= {"sigma": float(told.get("sigma", 8)), "temperature": told.get("temperature", 0.07)}
    return Config(**(released | settings | switches))


def checkpoint(learned: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Learned tensors in the layout of the released files."""
    found: dict[str, dict[str, Tensor]] = {"prompt_learner": {}, "Zero_try": {}}
    for name, tensor in learned.items():
        part, _, rest = name.partition(".")
        found[part][rest] = tensor
    return found


def learned(golden: Golden, length: int) -> dict[str, Tensor]:
    """The learned tensors of the run; contexts of another length are drawn anew at that length."""
    found = golden.learned()
    if len(found["prompt_learner.ctx_pos"]) == length:
        return found
    rows = golden.notes["learnables"]["prompt_learner"]
    other = {key: rows[key] | {"shape": [length, rows[key]["shape"][1]]} for key in ("ctx_pos", "ctx_neg")}
    return found | replace(golden, notes={"learnables": {"prompt_learner": other}}).learned()


def method(golden: Golden, **switches: object) -> ViP2CLIP:
    """With the learned tensors of the run."""
    chosen = config(golden, **switches)
    model = ViP2CLIP(golden.clip(), chosen)
    model.load_state_dict(ViP2CLIP.released_state(checkpoint(learned(golden, chosen.context_length))))
    return model


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Features once; then prompts, maps, scores and training of each group."""
    features = method(golden).encode(golden.images())
    yield from tower(golden, features)
    for group, switches in GROUPS.items():
        if golden.has(group):
            model = method(golden, **switches)
            yield from prompting(golden, group, model, features)
            yield from inference(golden, group, model, features)
            if golden.has(f"{group}train/"):
                yield from losses(golden, f"{group}train", model, features)
                yield from training(golden, f"{group}train", model, features)
                yield from later_steps(golden, f"{group}train", method(golden, **switches), features)


def tower(golden: Golden, features: TowerFeatures) -> Iterator[Quantity]:
    """What the frozen image tower gives; CLS, the first row of patch features, is not used."""
    image = features.image
    yield from golden.against("image_feature/raw", image)
    yield from golden.against("image_feature/normalised", torch.nn.functional.normalize(image, dim=-1))
    for i, layer in enumerate(config(golden).layers):
        name = f"patch_features/layer{layer}"
        if name in golden:
            cls = golden.array(name)[:, :1]
            yield from golden.against(name, torch.cat([cls, features.patches[:, i]], 1))


@torch.no_grad()
def prompting(golden: Golden, group: str, model: ViP2CLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """ViP-VCA and the sentences; placeholders of the recorded ids are positions that learned vectors take."""
    c, text, vca = model.config, model.backbone.text, model.vca
    assert text is not None and vca is not None
    at = [0, 1 + c.context_length, 2 + c.context_length + c.dynamic_length]
    for kind, word in (("normal", "good"), ("abnormal", "damaged")):  # the ids are right in the released code
        if f"{group}tokens/{kind}" in golden:
            ids = golden.array(f"{group}tokens/{kind}").clone()
            ids[at] = torch.tensor([START, *word_ids()[word], END], dtype=ids.dtype)
            yield from golden.against(f"{group}tokens/{kind}", ids)
    yield from golden.against(f"{group}dynamic_tokens", vca(features.image))
    with patch.object(text, "walk", wraps=text.walk) as walk:
        raw = model.text_features(features.image)
    embedded = walk.call_args.args[0].unflatten(0, (-1, 2))
    for i, kind in enumerate(("normal", "abnormal")):
        name = f"{group}prompt_embeddings/{kind}_first16"
        if name in golden:  # ours end with END, theirs are padded
            theirs, ours = golden.array(name), embedded[:, i, :16]
            yield from golden.against(name, torch.cat([ours, theirs[:, ours.shape[1] :]], 1))
    yield from golden.against(f"{group}text_features/raw", raw)
    yield from golden.against(f"{group}text_features/normalised", torch.nn.functional.normalize(raw, dim=-1))


@torch.no_grad()
def inference(golden: Golden, group: str, model: ViP2CLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """ViP-FGP, UTPA, maps and scores."""
    local, image = model.align(features)
    p = model.probabilities(local)
    places = most_anomalous(p[..., 1], model.config.top_k)
    text, fgp = model.text_features(features.image), model.fgp
    assert fgp is not None
    for i, layer in enumerate(model.config.layers):
        weights = fgp.weights(text, torch.nn.functional.normalize(features.patches[:, i], dim=-1))
        yield from golden.against(f"{group}fgp_attention/layer{layer}", weights)
        enhanced = fgp(text, features.patches[:, i])
        yield from golden.against(f"{group}text_features_after_fgp/layer{layer}", enhanced)
        yield from golden.against(f"{group}patch_cosine/layer{layer}", local[:, i])
        yield from golden.against(f"{group}patch_probability/layer{layer}", p[:, i])
        one = replace(features, patches=features.patches[:, i : i + 1])
        yield from golden.against(f"{group}upsampled_map/layer{layer}", unblurred(model, one))
        yield from golden.against(f"{group}topk_indices_sorted/layer{layer}", places[:, i].sort().values)
        yield from golden.against(f"{group}topk_mean_cosine/layer{layer}", picked(local, places).mean(2)[:, i])
    said = model.score(features)
    yield from golden.against(f"{group}image_mean_cosine", image)
    yield from golden.against(f"{group}image_score", said.score)
    yield from golden.against(f"{group}map/before_gaussian", unblurred(model, features))
    yield from golden.against(f"{group}map/after_gaussian", said.map)


def unblurred(model: ViP2CLIP, features: TowerFeatures) -> Tensor:
    """The map [B, H, W] of a method without the Gaussian."""
    sharp = ViP2CLIP(model.backbone, replace(model.config, sigma=0.0))
    sharp.load_state_dict(model.state_dict())
    return sharp.score(features).map


def losses(golden: Golden, group: str, model: ViP2CLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """Every loss term, each layer's local ones too."""
    truth = golden.truth()
    terms = {name: term.detach() for name, term in model.loss(features, *truth).items()}
    yield from golden.against(f"{group}/loss/image_cross_entropy", terms["global"], "loss")
    yield from golden.against(f"{group}/loss/local_sum", terms["focal"] + terms["dice"], "loss")
    yield from golden.against(f"{group}/loss/total", torch.stack(list(terms.values())).sum(), "loss")
    for i, layer in enumerate(model.config.layers):
        part = model.loss(replace(features, patches=features.patches[:, i : i + 1]), *truth)
        yield from golden.against(f"{group}/loss/focal/layer{layer}", part["focal"], "loss")
        names = [f"{group}/loss/dice_{kind}/layer{layer}" for kind in ("abnormal", "normal")]
        if all(name in golden for name in names):
            golden.compared.update(names)
            told = sum(golden.array(name).item() for name in names)
            yield Quantity(f"{group}/loss/dice/layer{layer}", abs(part["dice"].item() / told - 1), "loss")


def training(golden: Golden, group: str, model: ViP2CLIP, features: TowerFeatures) -> Iterator[Quantity]:
    """Gradients and the first step."""
    stepped = first_step(model, model.loss(features, *golden.truth()))
    for theirs, ours in released_names(golden).items():
        gradient, change = stepped[ours]
        yield from golden.against(f"{group}/grad/{theirs}", gradient, "gradient")
        yield from golden.against(f"{group}/grad.first256/{theirs}", gradient.flatten()[:256], "gradient")
        yield from golden.against(f"{group}/grad.l2/{theirs}", gradient.norm(), "gradient")
        yield from golden.against(f"{group}/step_delta_l2/{theirs}", change.norm(), "step")


def released_names(golden: Golden) -> dict[str, str]:
    """Names in the run, and ours, of every tensor that we learn."""
    alone = {name: ViP2CLIP.released_state(checkpoint({name: x})) for name, x in golden.learned().items()}
    return {name: ours for name, state in alone.items() for ours in state}
