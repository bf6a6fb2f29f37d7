"""The prompts, fusion and switches of AdaCLIP; test_parity.py has its numbers, test_released.py its checkpoints."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from tests.parity.check_adaclip import learned
from tests.parity.check_adaclip import method as golden_method
from tests.parity.golden import FOLDER, Golden
from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import layer_numbers
from zsad.errors import ZsadError
from zsad.methods.adaclip import AdaCLIP, Config, HybridPrompts, inserted
from zsad.methods.hsf import first_groups, fuse, fuse_most_anomalous, kmeans, regrouped


@cache
def tiny() -> CLIP:
    return weights.load("tiny")


def method(**switches: object) -> AdaCLIP:
    """As drawn, with prompts large enough to matter."""
    torch.manual_seed(0)
    model = AdaCLIP(tiny(), Config(**switches)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "static" in name:
                parameter.mul_(10)
    return model


def images(count: int = 2, side: int = 64) -> Tensor:
    """Coarse squares, so that patches differ."""
    coarse = torch.randn(count, 3, side // 16, side // 16, generator=torch.Generator().manual_seed(1))
    return coarse.repeat_interleave(16, 2).repeat_interleave(16, 3) + 0.1 * torch.randn(count, 3, side, side)


def truth(count: int = 2, side: int = 64) -> tuple[Tensor, Tensor]:
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[1:, 10:30, 20:50] = True
    return masks, masks.flatten(1).any(1).long()


# k-means


def points(sets: int, n: int = 100, width: int = 24, spread: float = 0.7) -> Tensor:
    """Unit vectors around 12 directions."""
    draws = torch.Generator().manual_seed(3)
    centres = torch.randn(sets, 12, width, generator=draws)
    near = centres[:, torch.randint(12, (n,), generator=draws)]
    return F.normalize(near + spread * torch.randn(sets, n, width, generator=draws), dim=-1)


def inertia(x: Tensor, labels: Tensor) -> float:
    """Squared distances of points [n, D] to the means of their groups, summed."""
    return sum(float((x[labels == i] - x[labels == i].mean(0)).square().sum()) for i in labels.unique())


def test_groups_that_lie_apart_are_found() -> None:
    x = 10 * torch.eye(5)[torch.arange(40) % 5][None] + 0.1 * torch.randn(3, 40, 5)
    for labels in kmeans(x, 5):
        assert torch.equal(labels[:, None] == labels, torch.arange(40)[:, None] % 5 == torch.arange(40) % 5)


@pytest.mark.parametrize(("clusters", "n"), [(20, 100), (20, 36), (3, 100)])
def test_groups_are_as_tight_as_those_of_scikit_learn(clusters: int, n: int) -> None:
    """Both end in a local optimum that depends on random starts, so means over 16 sets are compared."""
    x = points(16, n)
    ours = np.mean([inertia(one, labels) for one, labels in zip(x, kmeans(x, clusters), strict=True)])
    theirs = np.mean([KMeans(clusters, n_init="auto", random_state=i).fit(one).inertia_ for i, one in enumerate(x)])
    assert ours < 1.01 * theirs


def test_from_the_same_start_the_end_is_that_of_scikit_learn() -> None:
    (x,) = points(1)
    distances = torch.cdist(x, x).square()[None]
    start = first_groups(distances, 8, 1)
    labels = start
    for _ in range(50):
        labels = regrouped(distances, labels, 8)
    means = np.stack([x[start[0] == i].mean(0).numpy() for i in range(8)])
    theirs = KMeans(8, init=means, n_init=1, tol=0, algorithm="lloyd").fit_predict(x)
    assert np.array_equal(labels[0].numpy(), theirs)
    assert inertia(x, labels[0]) < inertia(x, start[0])


def test_groups_of_an_image_know_no_other_image_and_no_other_random_numbers() -> None:
    x = points(3)
    together = kmeans(x, 20)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for i in range(3):
        assert torch.equal(kmeans(x[i : i + 1], 20)[0], together[i])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(kmeans(x, 20, seed=5), together)


def test_fewer_points_than_groups_and_points_that_coincide_are_no_harm() -> None:
    assert kmeans(points(2, 6), 20).max() < 6
    x = points(1, 3)[:, torch.arange(30) % 3]
    labels = kmeans(x, 20)
    assert len(labels.unique()) == 3
    assert fuse(x[:, None], labels).isfinite().all()
    assert fuse(torch.ones(1, 1, 9, 4), kmeans(torch.ones(1, 9, 4), 4)).isfinite().all()


def test_an_empty_group_stays_empty_and_takes_no_point() -> None:
    x = torch.tensor([[[0.0], [1.0], [10.0]]])
    labels = regrouped(torch.cdist(x, x).square(), torch.tensor([[0, 0, 2]]), 4)
    assert labels.tolist() == [[0, 0, 2]]


# Hybrid semantic fusion


def test_all_centres_count_alike_whatever_is_in_their_groups() -> None:
    patches, labels = F.normalize(torch.randn(2, 4, 30, 8), dim=-1), torch.randint(0, 5, (2, 30))
    for i, fused in enumerate(fuse(patches, labels)):
        centres = [patches[i][:, labels[i] == group].flatten(0, 1).mean(0) for group in labels[i].unique()]
        torch.testing.assert_close(fused, F.normalize(torch.stack(centres).mean(0), dim=0))


def test_the_papers_fusion_is_the_centre_of_the_group_that_is_most_anomalous_on_average() -> None:
    patches, labels = torch.randn(1, 2, 4, 8), torch.tensor([[0, 0, 1, 1]])
    anomaly = torch.tensor([[0.9, 0.1, 0.6, 0.6]])  # the most anomalous patch is not in the group
    expected = F.normalize(patches[0].mean(0)[2:].mean(0), dim=0)
    torch.testing.assert_close(fuse_most_anomalous(patches, labels, anomaly)[0], expected)


def test_groups_of_the_golden_patches_are_as_tight_as_the_released_ones() -> None:
    golden = Golden.read(FOLDER / "golden", "adaclip")
    model = golden_method(golden, learned(golden))
    with torch.no_grad():
        _, patches = model.visual_features(model.encode(golden.images()))
    order, theirs = golden.array("hsf_topk_indices"), golden.array("hsf_labels")
    x = torch.stack([image[:, chosen].transpose(0, 1).flatten(1) for image, chosen in zip(patches, order, strict=True)])
    ours = kmeans(x, 20)
    both = [(inertia(one, mine), inertia(one, said)) for one, mine, said in zip(x, ours, theirs, strict=True)]
    assert np.mean([mine for mine, _ in both]) < 1.02 * np.mean([said for _, said in both])
    assert all(len(labels.unique()) == 20 for labels in ours)


def test_only_the_most_anomalous_patches_are_grouped_as_many_as_asked() -> None:
    local = torch.randn(2, 4, 64, 2)
    margin = local.mean(1).diff(dim=-1)[..., 0]
    chosen = method(clusters=4, patches_per_cluster=3).most_anomalous(local)
    assert torch.equal(chosen, margin.argsort(descending=True)[:, :12])
    assert method().most_anomalous(local).shape == (2, 64)
    assert method(clusters=4, clustered="all").most_anomalous(local).shape == (2, 64)


@torch.no_grad()
def test_the_fused_patches_have_their_share_in_the_image_feature() -> None:
    image, patches = F.normalize(torch.randn(2, 8), dim=-1), F.normalize(torch.randn(2, 4, 64, 8), dim=-1)
    local = torch.randn(2, 4, 64, 2)
    all_of_it, none, some = (method(share=share).fused(image, patches, local) for share in (1.0, 0.0, 0.2))
    torch.testing.assert_close(none, image)
    torch.testing.assert_close(some, F.normalize(0.2 * all_of_it + 0.8 * image, dim=-1))


@torch.no_grad()
def test_with_a_group_for_every_patch_the_papers_fusion_is_the_most_anomalous_one() -> None:
    patches, local = F.normalize(torch.randn(2, 4, 64, 8), dim=-1), torch.randn(2, 4, 64, 2)
    fused = method(clusters=64, clustered="all", share=1.0).fused(torch.zeros(2, 8), patches, local)
    most = local.mean(1).diff(dim=-1)[..., 0].argmax(-1)
    expected = torch.stack([patches[i, :, at].mean(0) for i, at in enumerate(most)])
    torch.testing.assert_close(fused, F.normalize(expected, dim=-1))


# Prompts


def test_prompts_stand_behind_the_patches_and_over_the_first_words() -> None:
    model, x = method(), torch.randn(2, 10, 3)
    assert model.visual_prompts is not None and model.text_prompts is not None
    assert model.visual_prompts.blocks == (1, 2, 3, 4) and model.text_prompts.blocks == (2, 3, 4)
    tokens = torch.ones(2, 4, 3)
    behind = inserted({1: tokens, 2: 2 * tokens}, 10)
    assert torch.equal(behind(1, x), torch.cat([x, tokens], 1))
    assert torch.equal(behind(2, behind(1, x)), torch.cat([x, 2 * tokens], 1))
    assert behind(3, x) is x
    over = inserted({2: tokens}, 1)(2, x)
    assert torch.equal(over[:, 1:5], tokens) and torch.equal(over[:, [0, *range(5, 10)]], x[:, [0, *range(5, 10)]])


def test_prompts_are_sums_of_a_blocks_own_and_the_images_in_half_precision() -> None:
    config, source = Config(length=2), torch.randn(3, 6)
    exact = HybridPrompts(Config(length=2, half_prompts=False), (2, 3), 6, 4)
    made = exact(source)
    dynamic = torch.stack([layer(source) for layer in exact.dynamic], 1)
    torch.testing.assert_close(made[3], exact.static["3"] + dynamic)
    rounded = HybridPrompts(config, (2, 3), 6, 4)
    rounded.load_state_dict(exact.state_dict())
    assert torch.equal(rounded(source)[2], made[2].half().float())
    assert torch.equal(exact(source, 2)[2], made[2][[0, 0, 1, 1, 2, 2]])


def test_the_first_text_block_reads_the_sentence() -> None:
    """Prompts replace words 1 to 5 from block 2 on; where the name stands among them it is still read by block 1."""
    model, source = method(), torch.randn(1, 128)
    one, other = (model.text_features(source, [name]) for name in ("cork", "gear"))
    assert not torch.allclose(one, other, atol=1e-3)
    assert model.text_prompts is not None and set(model.text_prompts.static) == {"2", "3", "4"}


def test_sentences_are_the_first_four_templates_and_dashes_become_spaces() -> None:
    normal, anomalous = method().sentences("metal-nut_1")
    assert (len(normal), len(anomalous)) == (28, 20)
    assert normal[0] == "a bad photo of a metal nut_1." and normal[7] == "a cropped photo of the flawless metal nut_1."
    assert anomalous[-1] == "a cropped photo of the metal nut_1 with damage."


def test_text_prompts_differ_from_image_to_image_but_not_where_they_are_static() -> None:
    source, names = torch.randn(2, 128), ["cork", "cork"]
    for switches, same in (({}, False), ({"prompts": ("static",)}, True), ({"branches": ("visual",)}, True)):
        first, second = method(**switches).text_features(source, names)
        assert torch.allclose(first, second, atol=1e-6) == same


def test_without_text_prompts_the_tower_says_what_it_says_by_itself() -> None:
    model = method(branches=("visual",))
    assert model.text_prompts is None
    text, tokenizer = model.text_parts()
    features = [F.normalize(text(*tokenizer(state)), dim=-1).mean(0) for state in model.sentences("cork")]
    torch.testing.assert_close(model.text_features(torch.zeros(1, 128), ["cork"])[0], torch.stack(features))


def test_prompts_longer_than_a_sentence_are_refused_with_what_fits() -> None:
    features = method().encode(images(1))
    fits = int(tiny().tokenizer(method().sentences("cork")[0])[1].min()) - 1  # type: ignore[misc]
    assert method(length=fits).score(features, ["cork"]).score.isfinite().all()
    with pytest.raises(ZsadError, match=f"length={fits + 1} is longer than a sentence; {fits} fit"):
        method(length=fits + 1).score(features, ["cork"])


@torch.no_grad()
@pytest.mark.parametrize("branches", [("text",), ("visual", "text")])
def test_patches_are_those_of_the_chosen_blocks_as_they_leave_them(branches: tuple[str, ...]) -> None:
    model = method(branches=branches, layers=(12, 24))
    features = model.encode(images())
    prompts = model.visual_prompts(features.source) if model.visual_prompts else {}
    plain, x, streams = features.tokens, features.tokens, {}
    for i, block in enumerate(tiny().visual.blocks, start=1):
        plain = block(plain)
        streams[i] = x = block(torch.cat([x[:, :65], prompts.get(i, x[:, 65:])], 1))
    cls, patches = model.visual_features(features)
    for at, i in enumerate(layer_numbers((12, 24), tiny().visual.depth)):
        expected = F.normalize(model.patch_layers[at](streams[i][:, 1:65]), dim=-1)
        torch.testing.assert_close(patches[:, at], expected)
    torch.testing.assert_close(features.source, tiny().visual.head(plain[:, 0]))
    torch.testing.assert_close(cls, F.normalize(model.cls_layer(tiny().visual.head(x[:, 0])), dim=-1))


# Ablations


@pytest.mark.parametrize(
    ("switches", "groups"),
    [
        ({"prompts": ("static",)}, {"visual_prompts.static", "text_prompts.static"}),
        ({"prompts": ("dynamic",)}, {"visual_prompts.dynamic", "text_prompts.dynamic"}),
        ({"branches": ("visual",)}, {"visual_prompts.static", "visual_prompts.dynamic"}),
        ({"branches": ("text",)}, {"text_prompts.static", "text_prompts.dynamic"}),
        ({"depth": 1, "length": 2}, {"visual_prompts.static", "visual_prompts.dynamic"}),
        ({"prompts": (), "branches": ()}, set()),
        ({"hsf": False, "prompts": (), "branches": ()}, set()),
        ({"clustered": "all", "dice": "images", "prompts": (), "branches": ()}, set()),
    ],
)
def test_every_ablation_has_the_tensors_it_needs_and_all_of_them_learn(
    switches: dict[str, object], groups: set[str]
) -> None:
    model = method(**switches)
    sum(model.loss(model.encode(images()), *truth(), ["cork", "gear"]).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    found = {".".join(name.split(".")[:2]) for name, _ in model.named_parameters() if "_prompts" in name}
    assert found == groups


@torch.no_grad()
@pytest.mark.parametrize(
    "switches", [{"hsf": False}, {"clustered": "all"}, {"share": 0.5}, {"clusters": 3}, {"seed": 1}, {"layers": (24,)}]
)
def test_every_switch_of_the_fusion_moves_the_score_and_only_it(switches: dict[str, object]) -> None:
    usual, other = method(), method(**switches)
    features = usual.encode(images(side=96))
    here, there = (model.score(features, ["cork", "gear"]) for model in (usual, other))
    assert not torch.equal(here.score, there.score)
    assert torch.equal(here.map, there.map) == ("layers" not in switches)


def test_losses_of_a_batch_are_the_means_of_those_of_its_images() -> None:
    for kind in ("rows", "images"):
        model, (masks, labels), names = method(dice=kind), truth(), ["cork", "gear"]
        features = model.encode(images())
        both = model.loss(features, masks, labels, names)
        alone = [model.loss(features[[i]], masks[[i]], labels[[i]], [names[i]]) for i in range(2)]
        for name, term in both.items():
            torch.testing.assert_close(term, torch.stack([one[name] for one in alone]).mean())


def test_dice_is_taken_row_by_row_as_released_or_of_the_image() -> None:
    p, mask = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]), torch.tensor([[[False, False], [True, True]]])
    rows = ((1 - 1 / (1 + 1)) + (1 - (2 * 1 + 1) / (1 + 2 + 1))) / 2
    image = 1 - (2 * 1 + 1) / (2 + 2 + 1)
    assert float(method()._dice(p, mask)) == pytest.approx(rows)
    assert float(method(dice="images")._dice(p, mask)) == pytest.approx(image)


def test_logits_are_averaged_before_the_softmax_and_corner_patches_lie_on_corner_pixels() -> None:
    """On 64 pixels every ninth one is the centre of a patch of the 8 x 8 grid."""
    model = method(sigma=0.0)
    features = model.encode(images())
    _, local = model.logits(features, ["cork", "gear"])
    made = model.score(features, ["cork", "gear"]).map
    torch.testing.assert_close(made[:, ::9, ::9].flatten(1), local.mean(1).softmax(-1)[..., 1])


def test_the_recipe_is_that_of_the_released_run() -> None:
    told, recipe = Golden.read(FOLDER / "golden", "adaclip").notes["train_optimizer"], AdaCLIP.recipe
    assert (recipe.rate, list(recipe.betas), recipe.weight_decay) == (told["lr"], told["betas"], told["weight_decay"])
    assert (recipe.schedule, recipe.epochs, recipe.batch_size) == ("constant", told["epochs"], told["batch_size"])


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ({"prompts": ("fixed",)}, "prompts takes static and dynamic"),
        ({"branches": ("text", "text")}, "each at most once"),
        ({"prompts": ()}, "both prompts and branches are empty"),
        ({"clustered": "some"}, "clustered is one of top, all"),
        ({"dice": "pixels"}, "dice is one of rows, images"),
        ({"clusters": 0}, "clusters and patches_per_cluster are 1 or more"),
        ({"share": 1.5}, "share lies in 0 to 1"),
        ({"layers": (25,)}, "blocks, counted from 1 to 24"),
        ({"activation": "relu"}, 'activation is one of gelu, quick_gelu, or "" for the backbone'),
    ],
)
def test_switches_that_mean_nothing_are_refused(switches: dict[str, object], told: str) -> None:
    with pytest.raises(ZsadError, match=told):
        Config(**switches)  # type: ignore[arg-type]


# Released checkpoints


def released(prompts: str = "SD", branches: str = "VL", length: int = 2, depth: int = 3) -> dict[str, Tensor]:
    """What the authors' trainer saves for its options --prompting_type and --prompting_branch (adaclip.py:332-400)."""
    made = {f"patch_token_layer.head.{i}": (128, 256) for i in range(4)} | {"cls_token_layer.head.0": (128, 128)}
    for tower, letter, width in (("visual", "V", 256), ("text", "L", 128)):
        if "D" in prompts:
            made |= {f"dynamic_{tower}_prompt_generator.head.{i}": (width, 128) for i in range(length)}
        if "S" in prompts and letter in branches:
            made |= {f"{tower}_prompter.static_prompts.{i}": (length, width) for i in range(depth)}
    state = {name: torch.randn(shape) for name, shape in made.items() if "static" in name}
    state |= {f"{name}.weight": torch.randn(shape) for name, shape in made.items() if "static" not in name}
    state |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in made.items() if "static" not in name}
    return {f"clip_model.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("prompts", "branches", "told"),
    [
        ("SD", "VL", {"prompts": ("static", "dynamic"), "branches": ("visual", "text"), "length": 2, "depth": 3}),
        ("S", "VL", {"prompts": ("static",), "branches": ("visual", "text"), "length": 2, "depth": 3}),
        ("SD", "V", {"prompts": ("static", "dynamic"), "branches": ("visual",), "length": 2, "depth": 3}),
        ("SD", "L", {"prompts": ("static", "dynamic"), "branches": ("text",), "length": 2, "depth": 3}),
        ("D", "VL", {"prompts": ("dynamic",), "branches": ("visual", "text"), "length": 2}),
        ("", "", {"prompts": (), "branches": ()}),
    ],
)
def test_a_released_checkpoint_tells_its_prompts_and_fits(prompts: str, branches: str, told: dict[str, object]) -> None:
    checkpoint = released(prompts, branches)
    assert AdaCLIP.released_switches(checkpoint) == told
    model = method(**told)
    model.load_state_dict(AdaCLIP.released_state(checkpoint))
    if "L" in branches and "S" in prompts:
        assert model.text_prompts is not None
        kept = model.text_prompts.static["2"]
        assert torch.equal(kept, checkpoint["clip_model.text_prompter.static_prompts.1"])
