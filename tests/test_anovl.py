"""The parts and switches of AnoVL; test_parity.py has its numbers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsad.backbones.weights import load
from zsad.errors import ZsadError
from zsad.maps import cosines
from zsad.methods.anovl import VIEWS, AnoVL, Config, ViewFeatures, adapted, averaged, moved, turned
from zsad.methods.base import Thresholds

#: sha256 of the released sentences, one per line: prompt_ensemble.py of the reference commit, run on these names
RELEASED = {
    "bottle": (
        "d93f88b425c0727065977caedaa6362b0e1015d94f53df8bf8df45dd91f1f85b",
        "2ee228c7b30cb1cba8df6101d8410933aed96d010ffeb5cc9bfcf37fba09838e",
    ),
    "carpet": (
        "d18f18c500e278789bbe96541e5c0a03d419db9c8feed40746b7a1d170fc1b73",
        "8a4832140214d7257c436124e3e97e00ea8891fc99519b218fa4bb92251faa10",
    ),
}


@cache
def first() -> AnoVL:
    return AnoVL(load("tiny"))


def method(**switches: object) -> AnoVL:
    """On the embedded backbone, whose sentences are encoded once."""
    model = AnoVL(load("tiny"), Config(**switches))  # type: ignore[arg-type]
    model.ensemble = first().ensemble
    return model


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def features() -> ViewFeatures:
    return method().encode(drawn(2, 3, 48, 48))


# Sentences


@pytest.mark.parametrize("name", RELEASED)
def test_the_sentences_are_the_released_ones(name: str) -> None:
    said = first().sentences(name)
    assert [len(sentences) for sentences in said] == [462, 462]
    assert tuple(hashlib.sha256("\n".join(sentences).encode()).hexdigest() for sentences in said) == RELEASED[name]


def test_textures_take_the_templates_of_textures_and_users_name_their_own() -> None:
    def surface(model: AnoVL, name: str) -> bool:
        return f"a surface picture of a normal {name}" in model.sentences(name)[0]

    assert all(surface(method(), name) for name in ("carpet", "leather", "grid", "tile", "wood"))
    assert not surface(method(), "cork")
    assert surface(method(textures=("cork",)), "cork") and not surface(method(textures=("cork",)), "wood")


def test_class_names_are_said_as_they_are_but_for_macaroni() -> None:
    assert first().sentences("metal_nut")[1][0] == "a cropped industrial photo of the damaged metal_nut"
    assert first().sentences("macaroni2") == first().sentences("macaroni1") == first().sentences("macaroni")


def test_sentences_are_averaged_before_they_are_normalised() -> None:
    text, tokenizer = first().text_parts()
    ids, end = tokenizer(first().sentences("bottle")[0][:20])
    with torch.no_grad():
        told = first().ensemble(["bottle"])[0, 0, :20]
        torch.testing.assert_close(told, text(ids, end), atol=1e-5, rtol=0)
        assert told.norm(dim=-1).std() > 1e-3  # else the order would not matter
        scored = method(augment=False).score(replace(features(), image=features().image[:, :1]), ["bottle"] * 2).score
        mean = first().ensemble(["bottle"]).mean(2)
        torch.testing.assert_close(scored, cosines(features().image[:, 0], mean).softmax(-1)[:, 1])


# The two streams


def test_the_last_twelve_blocks_have_vv_attention_and_all_where_there_are_fewer() -> None:
    def patches(**switches: int) -> Tensor:
        return method(augment=False, **switches).encode(drawn(1, 3, 48, 48)).patches

    assert torch.equal(patches(), patches(blocks=6))  # the embedded backbone has 6
    assert not torch.allclose(patches(), patches(blocks=5), atol=1e-3)


# Views


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_square_lose_nothing(quarters: int) -> None:
    x = drawn(1, 3, 10, 10)
    found = turned(x, quarters * math.pi / 2)
    assert any(torch.allclose(found, x.rot90(k, (2, 3)), atol=1e-4) for k in (quarters, 4 - quarters))


def test_turns_keep_right_angles_where_the_image_is_not_square() -> None:
    x = drawn(1, 1, 5, 9)
    found = turned(x, math.pi / 2)
    column, row = found[0, 0, :, 4], x[0, 0, 2, 2:7]
    assert torch.allclose(column, row, atol=1e-4) or torch.allclose(column, row.flip(0), atol=1e-4)


def test_shifts_are_shares_of_half_the_side_and_mirror_what_comes_in() -> None:
    x = drawn(1, 3, 11, 21)
    found = moved(x, right=0.2, down=0.4)  # 2 pixels each
    torch.testing.assert_close(found[:, :, :9, :19], x[:, :, 2:, 2:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, :, :9, 19:], x[:, :, 2:, [19, 18]], atol=1e-4, rtol=1e-4)


def test_the_views_are_eight_turns_eight_shifts_a_mirror_a_grey_one_and_three_quarter_turns() -> None:
    """Of an image whose red rises to the right and green downwards, so that its middle tells what was done."""
    x = torch.zeros(1, 3, 33, 33)
    x[:, 0], x[:, 1] = torch.linspace(-1, 1, 33), torch.linspace(-1, 1, 33)[:, None]
    made = [view(x)[0] for view in VIEWS]
    angles = [math.atan2(y[1, 16, 17] - y[1, 16, 15], y[0, 16, 17] - y[0, 16, 15]) for y in made]
    shifts = sorted((round(float(y[0, 16, 16]), 3), round(float(y[1, 16, 16]), 3)) for y in made[8:16])
    degrees = [round(16 * angle / math.pi) % 32 for angle in angles]
    assert sorted(degrees[:8]) == [1, 2, 3, 4, 28, 29, 30, 31] and sorted(degrees[18:]) == [8, 16, 24]
    assert shifts == sorted((a * i, b * i) for i in (0.1, 0.2) for a in (-1, 1) for b in (-1, 1))
    assert torch.equal(made[16], x[0].flip(-1))
    torch.testing.assert_close(made[17], (0.299 * x[0, 0] + 0.587 * x[0, 1]).expand(3, -1, -1))
    assert len(made) == 21


def test_the_score_is_the_mean_over_the_image_and_its_views() -> None:
    x, plain = drawn(2, 3, 48, 48), method(augment=False)
    each = [plain.predict(view, ["gear"] * 2).score for view in (x, *(view(x) for view in VIEWS))]
    assert len(each) == 22
    torch.testing.assert_close(method().predict(x, ["gear"] * 2).score, torch.stack(each).mean(0), atol=1e-6, rtol=0)


def test_views_change_the_score_only() -> None:
    x = drawn(2, 3, 48, 48)
    assert torch.equal(method().predict(x).map, method(augment=False).predict(x).map)


# Score and map


def test_a_patch_is_averaged_with_its_neighbours_and_the_edge_is_repeated() -> None:
    values = torch.zeros(1, 12)
    values[0, 0] = 9.0  # the corner of 3 x 4: there four of the nine are copies of it
    expected = torch.tensor([[4.0, 2.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(averaged(values, (3, 4)), expected.flatten()[None])


def test_one_half_divides_images_by_the_nearer_text_at_any_temperature() -> None:
    seen = replace(features(), image=drawn(40, 1, features().image.shape[-1]), patches=drawn(40, 36, 128))
    text = first().ensemble(["object"]).mean(2)
    normal, anomalous = cosines(seen.image[:, 0], text.expand(40, -1, -1)).unbind(-1)
    for temperature in (1.0, 0.01):
        scores = method(temperature=temperature).score(seen).score
        assert torch.equal(scores > 0.5, anomalous > normal)
    assert 0 < (anomalous > normal).sum() < 40


def test_score_and_map_are_computed_in_full_precision_under_autocast() -> None:
    """The 8 bits of bfloat16 next to 0.5 stand 0.002 apart, as far as an anomalous image from a normal one."""
    exact = first().score(features())
    with torch.autocast("cpu", torch.bfloat16):
        rough = first().score(features())
    assert torch.equal(rough.score, exact.score) and torch.equal(rough.map, exact.map)


@pytest.mark.parametrize("bad", [{"blocks": 0}, {"temperature": 0.0}, {"adapt_steps": -1}, {"adapt_rate": 0.0}])
def test_impossible_switches_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match=f"anovl: .*{next(iter(bad))}"):
        Config(**bad)  # type: ignore[arg-type]


# Test-time adaptation


def adapted_alone(
    patches: Tensor, text: Tensor, sentences: Tensor, steps: int, seed: int, temperature: float = 1.0
) -> Tensor:
    """One image through the adapter of the released script, by stock modules: [n, E], [2, E], [S, E] -> [n, E]."""
    torch.manual_seed(seed)
    layer = nn.Linear(sentences.shape[1], sentences.shape[0]).to(patches)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-3)
    classes = text / text.norm(dim=-1, keepdim=True)

    def adapter(tokens: Tensor) -> Tensor:
        affinity = torch.tanh(layer(tokens / tokens.norm(dim=-1, keepdim=True)))
        return 0.5 * tokens + 0.5 * F.linear(affinity, sentences.t())

    for _ in range(steps):
        tokens = adapter(torch.stack([patches, patches + torch.normal(0, 0.05 * 1.1, patches.shape)]))
        clean, noisy = (tokens / tokens.norm(dim=-1, keepdim=True) @ classes.t() / temperature).softmax(-1)
        soft = -(clean * clean.log()).sum(-1).mean()
        hard = (-noisy[:, 1].log() - clean[:, 0].log()).mean()
        optimizer.zero_grad()
        (soft + 0.5 * hard).backward()
        optimizer.step()
    return adapter(patches).detach()


def made_up() -> tuple[Tensor, Tensor, Tensor]:
    """Patches, text and sentences of three images, in float64: the first steps of AdamW are blind to size."""
    patches, text, sentences = (drawn(3, n, 16, seed=n).double() for n in (9, 2, 10))
    return patches, text, F.normalize(sentences, dim=-1)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_adaptation_takes_the_released_steps_on_each_image(temperature: float) -> None:
    patches, text, sentences = made_up()
    found = adapted(patches, text, sentences, Config(temperature=temperature, adapt_steps=5, adapt_seed=7))
    for i in range(3):
        expected = adapted_alone(patches[i], text[i], sentences[i], 5, 7, temperature)
        torch.testing.assert_close(found[i], expected, atol=1e-7, rtol=0)
    untouched = adapted_alone(patches[0], text[0], sentences[0], 0, 7)
    assert (found[0] - untouched).abs().max() > 1e-3  # the steps do something


def test_adaptation_sees_normalised_sentences_and_moves_the_map_but_not_the_score() -> None:
    model, names = method(adapt_steps=2, adapt_seed=7), ["bottle", "bottle"]
    made, plain = model.score(features(), names), method().score(features(), names)
    assert torch.equal(made.score, plain.score) and not torch.allclose(made.map, plain.map, atol=1e-4)
    kept = first().ensemble(["bottle"])[0]
    sentences = F.normalize(kept, dim=-1).flatten(0, 1)
    patches = torch.stack([adapted_alone(p, kept.mean(1), sentences, 2, 7) for p in features().patches])
    by_hand = method().score(replace(features(), patches=patches), names).map
    torch.testing.assert_close(made.map, by_hand, atol=1e-5, rtol=0)


def test_adaptation_is_the_same_each_time_for_each_image_alone_and_inside_predict() -> None:
    model, x, names = method(adapt_steps=3, augment=False), drawn(2, 3, 48, 48), ["bottle", "carpet"]
    together = model.predict(x, names)
    assert torch.equal(together.map, model.predict(x, names).map)
    assert not together.map.requires_grad
    for i in range(2):
        alone = model.predict(x[i : i + 1], names[i : i + 1])
        torch.testing.assert_close(alone.map[0], together.map[i], atol=1e-5, rtol=0)


def test_adaptation_leaves_method_features_and_the_global_generator_alone() -> None:
    model, seen = method(adapt_steps=2), features()
    kept, state = seen.patches.clone(), torch.get_rng_state()
    model.score(seen)
    assert torch.equal(seen.patches, kept) and torch.equal(torch.get_rng_state(), state)
    assert not list(model.parameters()) and not model.state_dict()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())


def test_adaptation_stays_finite_at_the_temperature_of_clip() -> None:
    patches, text, sentences = made_up()
    assert adapted(patches, text, sentences, Config(adapt_steps=5, temperature=0.001)).isfinite().all()


# Pictures


@pytest.mark.parametrize(("temperature", "most"), [(1.0, 0.012497), (0.01, 0.493307)])
def test_pictures_show_what_a_cosine_of_five_hundredths_makes(temperature: float, most: float) -> None:
    model = method(temperature=temperature)
    assert model.shown_range == pytest.approx((0.5 - most, 0.5 + most), abs=1e-6)
    model.thresholds = Thresholds(pixel=1.0)
    assert model.shown_range == pytest.approx((1 - most, 1.0), abs=1e-6)
