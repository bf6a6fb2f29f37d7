"""WinCLIP against its released code: any number of groups of arrays, whose prefix tells what was varied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

import torch
import torch.nn.functional as F

from tests.parity.golden import Golden, Quantity
from zsad.backbones.vit import resize_positions
from zsad.methods.winclip import Config, WinCLIP, WindowFeatures, spread, window_tokens

#: beginnings of the names of groups, and the activation of both towers there
GROUPS = {
    "": "gelu",
    "quick_gelu/": "quick_gelu",
    "native_grid_no_position_resize/": "gelu",
    "native_grid_no_position_resize_quick_gelu/": "quick_gelu",
    "scales_2_3_full/": "gelu",
}

#: first parts of the names of arrays that do not depend on the class name
OF_IMAGES = {"window_patch_indices", "window_embeddings"}


def method(golden: Golden, group: str) -> WinCLIP:
    """With the scales that the group's windows tell, and the run's factor before the softmax."""
    told = golden.notes.get("hyper_parameters", {})
    found = {int(k) for name in golden.arrays for k in re.findall(rf"^{group}window_patch_indices/scale(\d+)$", name)}
    config = Config(scales=tuple(sorted(found)) or (2, 3), temperature=1 / told.get("factor", 100.0))
    return WinCLIP(golden.clip().acting(GROUPS[group]), config)


def group_of(name: str) -> str:
    """The group that an array belongs to."""
    return max((group for group in GROUPS if name.startswith(group)), key=len)


def quantities(golden: Golden) -> Iterator[Quantity]:
    """Every comparison that the arrays allow."""
    yield from sentence_lists(golden)
    for group in GROUPS:
        names = [name.removeprefix(group) for name in golden.arrays if group_of(name) == group]
        if names:
            classes = sorted({name.split("/")[0] for name in names if "/" in name} - OF_IMAGES)
            yield from compared(golden, group, method(golden, group), classes)


def sentence_lists(golden: Golden) -> Iterator[Quantity]:
    """For each class name of the run 0, or 1 where the number of sentences or their hash differs."""
    for name, told in golden.notes.get("prompts", {}).items():
        if isinstance(told, dict):
            ours = {}
            for kind, sentences in zip(("normal", "abnormal"), WinCLIP.sentences(name), strict=True):
                ours[f"{kind}_count"] = len(sentences)
                ours[f"{kind}_sha256"] = sha256("\n".join(sentences).encode()).hexdigest()
            yield Quantity(f"prompts/{name}", float(ours != told), "value")


@torch.no_grad()
def compared(golden: Golden, group: str, model: WinCLIP, classes: list[str]) -> Iterator[Quantity]:
    """The windows of one group, and what follows for each class name."""
    visual, images = model.backbone.visual, golden.images()
    if group.startswith("native_grid"):
        side = visual.size.grid * visual.size.patch
        images = images[..., :side, :side]
    resized = resize_positions(visual.positions, visual.grid(images), "bicubic")
    yield from golden.against(f"{group}positional_embedding_resized", resized)
    features = model.encode(images)
    for side, scale in zip(model.sides(features.grid), model.config.scales, strict=True):
        places = window_tokens(features.grid, side)[:, 1:] - 1
        yield from golden.against(f"{group}window_patch_indices/scale{scale}", places)
    theirs = features.windows.transpose(0, 1)
    yield from golden.against(f"{group}window_embeddings/raw", theirs)
    yield from golden.against(f"{group}window_embeddings/normalised", F.normalize(theirs, dim=-1))
    for name in classes:
        yield from of_class(golden, f"{group}{name}", name, model, features)


def of_class(golden: Golden, head: str, name: str, model: WinCLIP, features: WindowFeatures) -> Iterator[Quantity]:
    """Sentences, window scores, maps and image scores."""
    text, tokenizer = model.text_parts()
    first = [sentence for sentences in model.sentences(name) for sentence in sentences[:4]]
    yield from golden.against(f"{head}/prompt_embeddings_first4_normal_then_abnormal", text(*tokenizer(first)))
    mean = model.ensemble.of(name)
    yield from golden.against(f"{head}/text_average_before_normalising", mean)
    yield from golden.against(f"{head}/text_features", F.normalize(mean, dim=-1))
    scores = model.window_scores(features, mean.expand(len(features), -1, -1))
    yield from golden.against(f"{head}/window_probability_normal_abnormal", torch.cat(scores, 1).transpose(0, 1))
    for p, side, scale in zip(scores, model.sides(features.grid), model.config.scales, strict=True):
        inverse = spread(1 / p[..., 0], features.grid, side)
        yield from golden.against(f"{head}/mean_inverse_normality/scale{scale}", inverse)
    made = model.score(features, [name] * len(features))
    yield from golden.against(f"{head}/map", made.map)
    yield from golden.against(f"{head}/image_score", made.score)
    patches = model.patch_map(scores, features.grid)
    yield from golden.against(f"{head}/textual_map_patch_grid", patches)
    yield from golden.against(f"{head}/fused_map_patch_grid", patches / 2)
