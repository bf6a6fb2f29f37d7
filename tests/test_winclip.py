"""WinCLIP: windows, their passes through the tower, harmonic means, scores and switches."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zsad.backbones import weights
from zsad.backbones.clip import CLIP
from zsad.backbones.vit import resize_positions, walk
from zsad.errors import ZsadError
from zsad.maps import probabilities
from zsad.methods import winclip
from zsad.methods.base import Thresholds
from zsad.methods.table import build
from zsad.methods.winclip import Config, WinCLIP, WindowFeatures, spread, window_tokens


@cache
def backbone() -> CLIP:
    return weights.load("tiny")


def method(**switches: object) -> WinCLIP:
    return build("winclip", backbone(), **switches)  # type: ignore[return-value]


def images(count: int = 2, height: int = 40, width: int = 56) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def corners(grid: tuple[int, int], side: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left patches of all complete windows, row by row."""
    return list(product(range(grid[0] - side[0] + 1), range(grid[1] - side[1] + 1)))


def covers(corner: tuple[int, int], side: tuple[int, int], patch: tuple[int, int]) -> bool:
    return all(a <= p < a + s for a, s, p in zip(corner, side, patch, strict=True))


@pytest.mark.parametrize(("grid", "side"), [((5, 7), (2, 2)), ((5, 7), (3, 3)), ((4, 4), (1, 1)), ((5, 7), (5, 7))])
def test_windows_are_all_complete_ones_row_by_row_and_begin_with_cls(
    grid: tuple[int, int], side: tuple[int, int]
) -> None:
    expected = [
        [0] + [1 + (top + i) * grid[1] + left + j for i, j in product(range(side[0]), range(side[1]))]
        for top, left in corners(grid, side)
    ]
    assert window_tokens(grid, side).tolist() == expected


@pytest.mark.parametrize("side", [(1, 1), (2, 2), (3, 3), (5, 7)])
def test_a_patch_gets_the_mean_over_exactly_the_windows_that_cover_it(side: tuple[int, int]) -> None:
    grid = (5, 7)
    windows = corners(grid, side)
    values = torch.rand(2, len(windows), dtype=torch.float64)
    for n, patch in enumerate(product(range(5), range(7))):
        covering = [i for i, corner in enumerate(windows) if covers(corner, side, patch)]
        torch.testing.assert_close(spread(values, grid, side)[:, n], values[:, covering].mean(1))


def patch_map_by_loops(aggregation: str, scores: list[Tensor], sides: list[tuple[int, int]]) -> Tensor:
    """The harmonic mean over windows and scales of (2 images, 5 x 7 patches), written out."""
    kind, made = ("normality", "anomaly").index(aggregation), torch.zeros(2, 5, 7, dtype=torch.float64)
    for b, i, j in product(range(2), range(5), range(7)):
        total = 0.0
        for p, side in zip(scores, sides, strict=True):
            own = [p[b, w, kind] for w, at in enumerate(corners((5, 7), side)) if covers(at, side, (i, j))]
            harmonic = len(own) / sum(1 / float(value) for value in own)
            total += 1 / harmonic
        harmonic = len(scores) / total
        made[b, i, j] = harmonic if aggregation == "anomaly" else 1 - harmonic
    return made.flatten(1)


@pytest.mark.parametrize("aggregation", ["normality", "anomaly"])
def test_the_map_is_the_harmonic_mean_over_windows_and_then_over_scales(aggregation: str) -> None:
    sides = [(2, 2), (3, 3), (5, 7)]
    scores = [torch.randn(2, len(corners((5, 7), side)), 2, dtype=torch.float64).softmax(-1) for side in sides]
    made = method(scales=(2, 3, 0), aggregation=aggregation).patch_map(scores, (5, 7))
    torch.testing.assert_close(made, patch_map_by_loops(aggregation, scores, sides))


def test_certainty_is_no_division_by_zero() -> None:
    """100 times a cosine underflows: a window that is surely anomalous has a normal probability of 0."""
    scores = [torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])]
    assert method(scales=(2,)).patch_map(scores, (2, 3)).tolist() == [[1.0, 1.0, 0.5] * 2]
    flipped = [scores[0].flip(-1)]
    assert method(scales=(2,), aggregation="anomaly").patch_map(flipped, (2, 3)).tolist() == [[0.0, 0.0, 0.5] * 2]


def test_a_window_is_its_own_pass_with_the_positions_of_the_whole_image() -> None:
    """One by one, from the tower's parts, as the released code orders them: positions, selection, norm, blocks."""
    model, x, visual = method(), images(), backbone().visual
    made = model.encode(x).windows
    positions = resize_positions(visual.positions, (5, 7), "bicubic")
    patches = visual.patch_embed(x).flatten(2).transpose(1, 2) + positions[1:]
    cls = (visual.cls + positions[0]).expand(2, 1, -1)
    windows = [(corner, (k, k)) for k in (2, 3) for corner in corners((5, 7), (k, k))]
    assert made.shape == (2, 4 * 6 + 3 * 5, visual.output) and len(windows) == made.shape[1]
    for n, (corner, side) in enumerate(windows):
        inside = [i * 7 + j for i, j in product(range(5), range(7)) if covers(corner, side, (i, j))]
        out, _ = walk(visual.blocks, visual.norm_pre(torch.cat([cls, patches[:, inside]], 1)))
        torch.testing.assert_close(made[:, n], visual.head(out[:, 0]), atol=1e-4, rtol=1e-5)


def test_a_window_sees_nothing_outside_it() -> None:
    model, x = method(), images(1)
    changed = x.clone()
    changed[..., 16:24, 24:32] = 3.0  # patch (2, 3)
    before, after = model.encode(x).windows[0], model.encode(changed).windows[0]
    windows = [(corner, (k, k)) for k in (2, 3) for corner in corners((5, 7), (k, k))]
    seen = torch.tensor([covers(corner, side, (2, 3)) for corner, side in windows])
    assert 0 < seen.sum() < len(seen)
    torch.testing.assert_close(before[~seen], after[~seen], atol=1e-5, rtol=0)
    assert ((before - after).abs().amax(-1)[seen] > 1e-3).all()


@pytest.mark.parametrize("tokens", [1, 64, 10**6])
def test_how_many_windows_go_together_changes_nothing(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = method(scales=(2, 3, 0))
    made = model.encode(images()).windows
    monkeypatch.setattr(winclip, "TOKENS", tokens)
    torch.testing.assert_close(model.encode(images()).windows, made, atol=1e-4, rtol=1e-5)


def test_the_windows_of_a_large_image_take_a_few_passes_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """37 x 37 patches, as ViT-L/14 has at 518 pixels: 2521 windows."""
    passes = []
    monkeypatch.setattr(winclip, "walk", lambda blocks, x: (passes.append(tuple(x.shape[:2])), (x, {}))[1])
    assert method().encode(images(1, 296, 296)).windows.shape[1] == 36**2 + 35**2
    assert len(passes) == 3
    assert all(windows * length <= winclip.TOKENS for windows, length in passes)


def test_the_whole_image_is_a_window_as_large_as_the_grid_and_the_towers_ordinary_pass() -> None:
    x, visual = images(2, 40, 40), backbone().visual
    whole = method(scales=(2, 0)).encode(x).windows
    torch.testing.assert_close(whole, method(scales=(2, 5)).encode(x).windows)
    ordinary = visual.head(walk(visual.blocks, visual.embed(x, resize="bicubic"))[0][:, 0])
    torch.testing.assert_close(whole[:, -1], ordinary, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("scales", [(2, 3), (0, 2), (2, 0)])
def test_the_score_of_the_whole_image_takes_part_in_the_map_only_where_it_is_a_scale(scales: tuple[int, ...]) -> None:
    model, names = method(scales=scales, image_score="cls"), ["gear", "metal_nut"]
    features = model.encode(images())
    made, of_map = model.score(features, names), method(scales=scales).predict(images(), names)
    whole = method(scales=(0,)).encode(images()).windows
    expected = probabilities(whole, model.ensemble(names), 0.01)[:, 0, 1]
    torch.testing.assert_close(made.score, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.map, of_map.map, atol=1e-6, rtol=0)
    assert features.windows.shape[1] == method(scales=scales).encode(images()).windows.shape[1] + (0 not in scales)


def test_the_image_score_is_the_largest_value_of_the_map() -> None:
    made = method().predict(images(), ["gear"] * 2)
    assert torch.equal(made.score, made.map.flatten(1).max(1).values)


def test_halved_halves_map_score_and_threshold_alike() -> None:
    half, full = method(), method(halved=False)
    a, b = half.predict(images()), full.predict(images())
    torch.testing.assert_close(2 * a.map, b.map)
    torch.testing.assert_close(2 * a.score, b.score)
    assert (half.map_range, full.map_range) == ((0.0, 0.5), (0.0, 1.0))
    assert (half.thresholds, full.thresholds) == (Thresholds(0.25, 0.5), Thresholds(0.5, 0.5))
    assert method(image_score="cls").thresholds == Thresholds(0.5, 0.5)


def test_scores_are_taken_in_full_precision() -> None:
    """Rounded to eight bits, cosines near 1 are 0.004 apart, which is 0.4 before the softmax."""
    model = method()
    windows = F.normalize(torch.randn(1, 39, 128, generator=torch.Generator().manual_seed(2)), dim=-1)
    features = WindowFeatures((5, 7), (40, 56), windows)
    exact = model.score(features, ["gear"])
    with torch.autocast("cpu", torch.bfloat16):
        made = model.score(features, ["gear"])
    assert torch.equal(made.map, exact.map) and torch.equal(made.score, exact.score)


def test_sentences_are_every_template_with_every_state_and_the_name_as_given() -> None:
    normal, anomalous = WinCLIP.sentences("metal_nut")
    assert (len(normal), len(anomalous)) == (22 * 7, 22 * 4)
    assert normal[:2] == ["a cropped photo of the metal_nut", "a cropped photo of the flawless metal_nut"]
    assert anomalous[4] == "a cropped photo of a damaged metal_nut"
    assert WinCLIP.sentences("{0}")[0][0] == "a cropped photo of the {0}"


def test_the_mean_is_taken_of_sentences_as_long_as_they_are() -> None:
    model = method()
    text, tokenizer = model.text_parts()
    with torch.no_grad():
        alone = text(*tokenizer(model.sentences("gear")[1]))
    torch.testing.assert_close(model.ensemble.of("gear")[1], alone.mean(0))


def test_windows_larger_than_the_image_are_refused_with_what_to_do() -> None:
    with pytest.raises(ZsadError, match=r"windows of 3 x 3 patches do not fit .* 2 x 7; enlarge .*0 is the whole"):
        method().encode(images(1, 16, 56))
    assert method(scales=(2, 0)).predict(images(1, 16, 56)).map.shape == (1, 16, 56)


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"scales": ()}, "scales are sides"),
        ({"scales": (2, 2)}, "each once"),
        ({"scales": (-1,)}, "scales are sides"),
        ({"aggregation": "mean"}, "aggregation is one of normality, anomaly"),
        ({"image_score": "max"}, "image_score is one of map, cls"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_switches_without_sense_are_refused(switches: dict[str, object], said: str) -> None:
    with pytest.raises(ZsadError, match=said):
        Config(**switches)  # type: ignore[arg-type]
