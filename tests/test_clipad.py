"""CLIP-AD: what stands for sentences, both paths, maps, scores, switches; the released numbers are tested elsewhere."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity
from torch import Tensor, nn

import zsad
from tests.parity.golden import FOLDER, Golden
from tests.test_released import clipad_layout
from zsad.backbones import weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.registry import BACKBONES
from zsad.backbones.vit import Block, ViT, ViTSize, plain, walk
from zsad.errors import ZsadError
from zsad.maps import smooth
from zsad.methods import checkpoints
from zsad.methods.base import Thresholds
from zsad.methods.clipad import CLIPAD, Config, DualFeatures, dual_path, sentences
from zsad.methods.conversion import convert
from zsad.methods.released import released
from zsad.methods.representatives import CHOICES, clusters, density_mean, first_component, halved, largest_cluster
from zsad.methods.table import build


@cache
def backbone() -> CLIP:
    return weights.load("tiny")


def method(**switches: Any) -> CLIPAD:
    torch.manual_seed(0)
    return build("clipad", backbone(), **switches)  # type: ignore[return-value]


def images(count: int = 2, height: int = 40, width: int = 56) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Sentences and what stands for them


@pytest.mark.parametrize("name", ["metal_nut", "carpet"])
def test_the_sentences_are_the_released_ones_in_their_order(name: str) -> None:
    told = Golden.read(FOLDER / "golden", "clipad").notes["prompts"][name]
    for theirs, ours in zip(("normal", "anomalous"), sentences(name), strict=True):
        assert len(ours) == told[theirs]["count"]
        assert hashlib.sha256("\n".join(ours).encode()).hexdigest() == told[theirs]["sha256"]


@pytest.mark.parametrize("seed", range(8))
def test_clusters_are_those_of_scikit_learn(seed: int) -> None:
    """Three heaps with noise around; where they touch, sentences lie between cores of two clusters."""
    points = torch.cat([0.35 * draw(30, 2, seed=seed) + i for i in range(3)] + [2 * draw(30, 2, seed=seed + 100)])
    theirs = DBSCAN(eps=0.3, min_samples=6).fit(points.numpy()).labels_
    ours = clusters(points, 0.3, 6)
    assert -1 in theirs and max(theirs) > 0
    order = sorted({int(label) for label in ours} - {len(points)})
    assert [order.index(int(label)) if label < len(points) else -1 for label in ours] == theirs.tolist()


def test_a_sentence_between_two_clusters_belongs_to_the_first() -> None:
    line = torch.tensor([[2.0], [2.1], [2.2], [1.1], [0.0], [0.1], [0.2]])  # 1.1 is near 2.0 and 0.2 only
    for points in (line, line.flip(0)):
        assert clusters(points, 0.92, 5).tolist() == [7] * 7
        assert clusters(points, 0.92, 4).tolist() == [0, 0, 0, 0, 6, 6, 6]  # 2.0 and 0.2 are cores, the first is 0
        assert clusters(points, 0.92, 3).tolist() == [0] * 7  # 1.1 is one too and joins them


def test_the_largest_cluster_is_averaged_and_the_first_of_equals() -> None:
    heap = torch.tensor([[0.0], [0.1], [5.0], [5.1], [5.2], [9.0]])
    assert largest_cluster(heap, 0.5, 2).item() == pytest.approx(5.1)
    assert largest_cluster(heap[[0, 1, 2, 3, 5]], 0.5, 2).item() == pytest.approx(0.05)
    assert largest_cluster(heap[[2, 3, 0, 1, 5]], 0.5, 2).item() == pytest.approx(5.05)


def test_noise_is_never_the_largest_cluster_unless_there_is_none() -> None:
    far = torch.tensor([[0.0], [10.0], [20.0], [30.0], [40.0], [40.2]])
    assert largest_cluster(far, 0.5, 2).item() == pytest.approx(40.1)
    assert largest_cluster(far, 0.5, 3).item() == pytest.approx(far.mean().item())


def test_the_radius_counts_itself() -> None:
    pair = torch.tensor([[0.0], [0.5], [9.0]])
    assert clusters(pair, 0.5, 2).tolist() == [0, 0, 3]
    assert clusters(pair, 0.499, 2).tolist() == [3, 3, 3]


def test_densities_are_those_of_scikit_learn() -> None:
    features = F.normalize(draw(40, 16) + 0.5, dim=-1)
    theirs = np.exp(KernelDensity(bandwidth=0.3).fit(features.numpy()).score_samples(features.numpy()))
    expected = (theirs[:, None] * features.numpy()).sum(0) / theirs.sum()
    torch.testing.assert_close(density_mean(features).double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [1, -1])
def test_the_first_component_is_that_of_scikit_learn_on_the_side_of_the_mean(side: int) -> None:
    features = F.normalize(draw(40, 16) + 2 * side * draw(16, seed=1), dim=-1)
    ours = first_component(features)
    theirs = torch.from_numpy(PCA(1).fit_transform(features.T.numpy())[:, 0])
    torch.testing.assert_close(ours.abs(), theirs.abs(), atol=1e-5, rtol=0)
    assert ours @ features.mean(0) > 0


def test_halves_are_those_of_torch_in_half_precision() -> None:
    vector = draw(640) / 25
    half = vector.half()
    assert torch.equal(halved(vector), (half / half.norm()).float())


@pytest.mark.parametrize("choice", CHOICES)
def test_what_stands_for_a_state_has_length_1_and_is_rounded_unless_it_is_the_mean(choice: str) -> None:
    features = F.normalize(draw(40, 64) + 1, dim=-1)
    exact = method(linear=False, representative=choice, half_text=False).representative(features)
    rounded = method(linear=False, representative=choice).representative(features)
    assert exact.norm().item() == pytest.approx(1, abs=1e-6)
    assert torch.equal(rounded, exact) == (choice == "mean")
    assert torch.equal(rounded.half().float(), rounded) == (choice != "mean")
    torch.testing.assert_close(rounded, exact, atol=5e-4, rtol=0)


def test_radius_and_core_size_are_dbscans() -> None:
    heap = F.normalize(torch.cat([draw(20, 8) * 0.05 + 1, draw(9, 8) * 0.05 - 1]), dim=-1)
    near, far = (method(linear=False, eps=eps).representative(heap) for eps in (0.5, 2.5))
    torch.testing.assert_close(near, F.normalize(heap[:20].mean(0), dim=0), atol=1e-3, rtol=0)
    torch.testing.assert_close(far, F.normalize(heap.mean(0), dim=0), atol=1e-3, rtol=0)
    few = method(linear=False, min_samples=21).representative(heap)
    torch.testing.assert_close(few, far)


def test_every_image_is_compared_with_its_own_name_in_both_states() -> None:
    model = method(linear=False)
    text = model.text_features(3, ["metal_nut", "cork", "metal_nut"])
    assert torch.equal(text[0], text[2]) and not torch.allclose(text[0], text[1], atol=1e-2)
    assert not torch.allclose(text[0, 0], text[0, 1], atol=1e-2)
    assert torch.equal(model.text_features(1, None), model.text_features(1, ["object"]))


# Both paths


@pytest.mark.parametrize(("depth", "starts"), [(24, [7, 13, 19]), (12, [4, 7, 10]), (6, [3, 4, 6])])
def test_the_v_v_path_is_the_sum_of_its_attentions_since_its_stage_began(depth: int, starts: list[int]) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block(8, 2, nn.Linear(8, 8)) for _ in range(depth))
    x = draw(2, 5, 8)
    alone = [
        block.attend(step.before, lambda q, k, v: plain(v, v, v))  # type: ignore[operator]
        for block, step in zip(blocks, dual_path(blocks, x), strict=True)
    ]
    steps = list(dual_path(blocks, x))
    for first, last in pairwise([1, *starts, depth + 1]):
        for number in range(first, last):
            torch.testing.assert_close(steps[number - 1].sides["vv"], torch.stack(alone[first - 1 : number]).sum(0))


def test_the_ordinary_path_is_the_towers_own() -> None:
    visual = backbone().visual
    x = visual.embed(images())
    _, tapped = walk(visual.blocks, x, range(1, 7))
    for step in dual_path(visual.blocks, x):
        torch.testing.assert_close(step.after, tapped[step.number])


def test_taps_hold_the_attention_of_the_next_block_unless_they_are_early_or_last() -> None:
    visual = backbone().visual
    x = visual.embed(images(), resize="bicubic_antialias")
    _, tapped = walk(visual.blocks, x, range(1, 7))
    late, early = (method(late_tap=late_tap).encode(images()) for late_tap in (True, False))
    for i, number in enumerate((2, 3, 5, 6)):  # of tiny's six blocks
        torch.testing.assert_close(early.patches[:, i], tapped[number][:, 1:])
        torch.testing.assert_close(early.tokens[:, i, 0], visual.head(tapped[number][:, 0]))
        following = tapped[number]
        if number < 6:
            following = following + visual.blocks[number].attend(following)  # type: ignore[operator]
        torch.testing.assert_close(late.patches[:, i], following[:, 1:])
        torch.testing.assert_close(late.tokens[:, i, 0], visual.head(following[:, 0]))
    assert torch.equal(late.tokens[:, :, 1:], early.tokens[:, :, 1:])


def test_patches_of_the_v_v_path_get_the_final_norm_and_the_projection() -> None:
    visual = backbone().visual
    steps = list(dual_path(visual.blocks, visual.embed(images(), resize="bicubic_antialias")))
    features = method(layers=(12, 24)).encode(images())
    assert features.grid == (5, 7) and features.tokens.shape == (2, 2, 36, 128)
    for i, number in enumerate((3, 6)):
        torch.testing.assert_close(features.tokens[:, i, 1:], visual.head(steps[number - 1].sides["vv"][:, 1:]))


# Maps and scores, on features made by hand


def features(patches: Tensor, tokens: Tensor, size: tuple[int, int] = (8, 12)) -> DualFeatures:
    return DualFeatures((2, 3), size, tokens, patches)


def random_features(model: CLIPAD) -> DualFeatures:
    width, output = model.backbone.visual.width, model.backbone.visual.output
    return features(draw(2, len(model.linears), 6, width), draw(2, 4, 7, output))


def test_feature_surgery_is_the_released_one_for_any_number_of_texts_with_two() -> None:
    """Weights over their mean, products channel by channel, less their mean over the texts; summed over the taps."""
    model, text = method(linear=False), F.normalize(draw(2, 2, 128, seed=3), dim=-1)
    tokens = draw(2, 4, 7, 128)
    expected = torch.zeros(2, 6)
    for x in F.normalize(tokens, dim=-1).unbind(1):
        p = (x[:, 0, None] * text).sum(-1).softmax(-1)
        products = x[:, :, None] * text[:, None] * (p / p.mean(-1, keepdim=True))[:, None, :, None]
        expected += (products - products.mean(2, keepdim=True)).sum(-1)[:, 1:, 1]
    torch.testing.assert_close(model.surgery(features(tokens, tokens), text), expected, atol=1e-6, rtol=0)


def test_texts_are_not_brought_to_length_1_again() -> None:
    model, tokens = method(linear=False), draw(1, 4, 7, 128)
    text = F.normalize(draw(1, 2, 128, seed=3), dim=-1)
    longer = model.surgery(features(tokens, tokens), 1.01 * text)
    assert (longer.abs() > 1.005 * model.surgery(features(tokens, tokens), text).abs()).all()


def test_learned_maps_are_logits_upsampled_with_aligned_corners_then_a_softmax() -> None:
    model = method(temperature=0.1)
    seen, text = random_features(model), F.normalize(draw(2, 2, 128, seed=3), dim=-1)
    for i, ours in enumerate(model.learned_maps(seen, text)):
        patches = F.normalize(model.linears[i](seen.patches[:, i]), dim=-1)
        logits = 10 * (patches @ text.transpose(1, 2)).transpose(1, 2).reshape(2, 2, 2, 3)
        expected = F.interpolate(logits, (8, 12), mode="bilinear", align_corners=True).softmax(1)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_the_map_is_the_blurred_sum_of_feature_surgery_and_all_learned_maps() -> None:
    plus, names = method(sigma=2.0), ["gear", "cork"]
    sdp = method(sigma=2.0, linear=False)
    seen = random_features(plus)
    learned = torch.stack([p[:, 1] for p in plus.learned_maps(seen, plus.text_features(2, names))]).sum(0)
    ordinary = sdp.score(random_features(sdp), names).map
    torch.testing.assert_close(plus.score(seen, names).map, ordinary + smooth(learned, 2.0))
    flat = plus.surgery(seen, plus.text_features(2, names)).view(2, 1, 2, 3)
    expected = F.interpolate(flat, (8, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(ordinary, smooth(expected, 2.0))


@pytest.mark.parametrize(("linear", "low", "high"), [(True, -4.0, 8.0), (False, -4.0, 4.0)])
def test_the_image_score_is_cls_and_the_highest_value_of_the_map(linear: bool, low: float, high: float) -> None:
    kinds = [("cls",), ("map",), ("cls", "map")]
    models = [method(linear=linear, image_score=parts) for parts in kinds]
    seen = random_features(models[0])
    cls, share, both = (model.score(seen).score for model in models)
    made, text = models[0].score(seen), models[0].text_features(2, None)
    logits = 100 * (F.normalize(seen.tokens[:, 3, 0], dim=-1)[:, None] * text).sum(-1)
    torch.testing.assert_close(cls, logits.softmax(-1)[:, 1], atol=1e-5, rtol=0)
    assert models[0].map_range == (low, high)
    torch.testing.assert_close(share, (made.map.flatten(1).amax(1) - low) / (high - low))
    torch.testing.assert_close(both, (cls + share) / 2)


def test_feature_surgery_reaches_both_ends_of_its_range() -> None:
    """Where both texts are opposite, and patches and CLS along one of them: weights of p and 1 - p cancel."""
    model, text = method(linear=False), F.normalize(draw(1, 1, 128), dim=-1)
    for side in (-1.0, 1.0):
        tokens = (side * text).expand(1, 4, 7, 128)
        both = torch.cat([-text, text], 1)
        torch.testing.assert_close(model.surgery(features(tokens, tokens), both), torch.full((1, 6), 4 * side))


def test_pictures_show_the_part_of_the_range_that_maps_use() -> None:
    sdp, plus = method(linear=False), method()
    assert sdp.contour == 0 and sdp.shown_range == pytest.approx((-0.2, 0.2))
    assert plus.contour == 2 and plus.shown_range == pytest.approx((-0.2, 4.2))  # all of the learned maps' 0 to 4
    for model in (sdp, plus):
        low, high = model.map_range
        model.thresholds = Thresholds(pixel=0.1)
        first, last = model.shown_range
        assert low <= first and (first + last) / 2 == pytest.approx(model.contour)
        model.thresholds = Thresholds(pixel=0.99)
        assert model.shown_range[1] == high


# SDP learns nothing


def test_sdp_learns_nothing_needs_no_weights_and_keeps_no_patches(tmp_path: Path) -> None:
    model = method(linear=False)
    assert not model.stages and not list(model.parameters())
    seen = model.encode(images())
    assert seen.patches.numel() == 0 and len(seen) == 2 and len(seen[:1]) == 1
    with pytest.raises(ZsadError, match="clipad learns nothing"):
        model.loss(seen, torch.zeros(2, 40, 56, dtype=torch.bool), torch.zeros(2).long())
    ready = zsad.load("clipad", linear=False)
    assert torch.equal(ready.predict(images()).map, model.predict(images()).map)
    model.save(tmp_path / "sdp.safetensors")
    assert checkpoints.load(tmp_path / "sdp.safetensors", backbone()).config == model.config


def test_sdp_plus_needs_weights() -> None:
    with pytest.raises(ZsadError, match=r"nothing trained for clipad.*clipad/mvtec"):
        zsad.load("clipad")


def test_a_tower_shorter_than_the_taps_has_one_linear_layer_per_block() -> None:
    with torch.device("cpu"):
        short = CLIP(
            ViT(ViTSize(width=64, depth=2, heads=1, patch=8, grid=2, output=128)), backbone().text, backbone().tokenizer
        )
    model = build("clipad", short)
    assert len(list(model.parameters())) == 2 * 2
    assert model.map_range == (-2.0, 4.0)


@pytest.mark.parametrize(
    "switches",
    [
        {"layers": ()},
        {"layers": (0,)},
        {"layers": (6, 25)},
        {"layers": (6, 6)},
        {"representative": "median"},
        {"image_score": ()},
        {"image_score": ("cls", "cls")},
        {"image_score": ("max",)},
        {"eps": 0.0},
        {"min_samples": 0},
        {"temperature": 0.0},
        {"sigma": -1.0},
    ],
)
def test_a_value_that_means_nothing_is_refused(switches: dict[str, Any]) -> None:
    with pytest.raises(ZsadError, match=f"clipad: .*{next(iter(switches))}"):
        Config(**switches)


# Released checkpoints


@pytest.fixture(scope="module")
def b16plus() -> CLIP:
    """Towers of the widths of ViT-B/16-plus-240, four image blocks deep, with nothing in them that is not needed."""
    with torch.device("meta"):
        visual = ViT(ViTSize(width=896, depth=4, heads=14, patch=16, grid=15, output=640))
        text = TextTower(TextSize(width=640, depth=12, heads=10, vocabulary=49408, context=77, output=640))
    return CLIP(visual, text, backbone().tokenizer, name="clip-vit-b-16-plus-240-e31", digest="0")


def test_a_published_file_converts_at_its_own_width(b16plus: CLIP, tmp_path: Path) -> None:
    layout = clipad_layout(896, 640)
    torch.save(layout, tmp_path / "train_on_mvtec.pth")
    made = convert(tmp_path / "train_on_mvtec.pth", "clipad", b16plus)
    for i in range(4):
        for end in ("weight", "bias"):
            ours, theirs = made.state_dict()[f"linears.{i}.{end}"], layout["linear_layers"][f"fc.{i}.{end}"]
            assert torch.equal(ours, theirs)


def test_a_published_file_of_sdp_plus_is_not_one_of_sdp(b16plus: CLIP, tmp_path: Path) -> None:
    torch.save(clipad_layout(896, 640), tmp_path / "a.pth")
    with pytest.raises(ZsadError, match=r"unexpected.*linears\.0\.bias"):
        convert(tmp_path / "a.pth", "clipad", b16plus, linear=False)


@pytest.mark.parametrize("name", ["clipad/mvtec", "clipad/visa"])
def test_the_published_files_belong_to_the_backbone_of_their_scripts(name: str) -> None:
    """train_SDP_plus.sh takes laion400m_e31; the e32 of the same sizes would load without a word."""
    row = released(name)
    assert row.backbone == CLIPAD.reference.backbone and row.file.url.endswith(f"train_on_{name[7:]}.pth")
    assert BACKBONES[row.backbone].url.url.endswith("laion400m_e31-8fb26589.pt")  # type: ignore[union-attr]
    with pytest.raises(ZsadError, match="trained on clip-vit-b-16-plus-240-e31"):
        row.must_fit("clip-vit-b-16-plus-240")
