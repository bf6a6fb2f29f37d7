"""The parts and switches of VisualAD; test_parity.py has its numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zsad.backbones.clip import CLIP
from zsad.backbones.vit import ViT, ViTSize
from zsad.errors import ZsadError
from zsad.methods.base import Thresholds
from zsad.methods.checkpoints import load_strictly
from zsad.methods.sca import POSITIONS, SCA, Positions
from zsad.methods.visualad import Config, VisualAD, released_names, top_mean

WIDTH = 32
CLIP_SIZE = ViTSize(WIDTH, depth=4, heads=2, patch=8, grid=4, output=16)
DINO_SIZE = dataclasses.replace(
    CLIP_SIZE, output=0, registers=3, pre_norm=False, patch_bias=True, layer_scale=True, resize="bicubic_antialias"
)
SIZES = {"clip": CLIP_SIZE, "dinov2": dataclasses.replace(DINO_SIZE, registers=0, resize="dinov2"), "reg": DINO_SIZE}
either_backbone = pytest.mark.parametrize("kind", SIZES)


@cache
def backbone(kind: str = "clip") -> CLIP:
    torch.manual_seed(0)
    visual = ViT(SIZES[kind])
    for parameter in visual.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return CLIP(visual, name=kind).eval().requires_grad_(False)


def method(kind: str = "clip", **switches: Any) -> VisualAD:
    torch.manual_seed(0)
    return VisualAD(backbone(kind), Config(**switches))


def images(height: int = 48, width: int = 40) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def terms(model: VisualAD) -> dict[str, Tensor]:
    masks = torch.zeros(2, 48, 40, dtype=torch.bool)
    masks[1, 10:30, 5:20] = True
    return model.loss(model.encode(images()), masks, torch.tensor([0, 1]))


# The tower


@either_backbone
def test_the_two_tokens_join_after_the_embedding_as_if_they_had_been_embedded(kind: str) -> None:
    model, visual = method(kind), backbone(kind).visual
    seen: list[Tensor] = []
    first = visual.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.stream(model.encode(images()))
    first.remove()
    two = torch.stack([model.anomaly_token, model.normal_token]) + visual.positions[0]
    resize = "bilinear" if kind == "clip" else None
    torch.testing.assert_close(seen[0], visual.embed(images(), extra=two, resize=resize))


@either_backbone
def test_encode_keeps_the_resize_of_dinov2_and_takes_bilinear_for_clip(kind: str) -> None:
    visual, tokens = backbone(kind).visual, method(kind).encode(images()).tokens
    bilinear, own = visual.embed(images(), resize="bilinear"), visual.embed(images())
    assert not torch.allclose(bilinear, own, atol=1e-3)
    torch.testing.assert_close(tokens, bilinear if kind == "clip" else own)


@either_backbone
def test_patches_leave_out_both_tokens_cls_and_registers(kind: str) -> None:
    model, visual = method(kind), backbone(kind).visual
    features = model.encode(images())
    x, _ = model.stream(features)
    tokens, patches = model.look(features, learned=False)
    assert [layer.shape for layer in patches] == [(2, 30, WIDTH)] * 4
    torch.testing.assert_close(tokens, visual.norm(x[:, :2]))
    torch.testing.assert_close(patches[-1], visual.norm(x[:, -30:]))


@either_backbone
def test_every_learned_tensor_gets_a_gradient_on_every_backbone(kind: str) -> None:
    model = method(kind)
    torch.stack(list(terms(model).values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


# SCA (Sec. 3.2)


def plain_sca(anchors: list[list[float]], gate: list[list[float]], scale: float) -> SCA:
    sca = SCA(4, Positions("none", 4, 16, len(anchors)), len(anchors), False, scale, 0.0)
    sca.load_state_dict({"anchors": torch.tensor(anchors), "gate.weight": torch.tensor(gate), "scale": torch.ones(1)})
    sca.scale.data.fill_(scale)
    return sca


def test_sca_is_the_equations_on_a_case_done_by_hand() -> None:
    """Anchor 1 sees logits 0 and ln 3 (weights 1/4, 3/4), anchor 2 sees both alike; gates are 1/2 and 3/4."""
    ln3 = math.log(3)
    sca = plain_sca([[2.0, 0, 0, 0], [0, 2.0, 0, 0]], [[0, 0, 0, 0], [1.0, 0, 0, 0]], scale=2.0)
    patches = torch.tensor([[[0, 0, 0, 0], [ln3, 0, 0, 8.0]]])
    tokens = torch.tensor([[[ln3, 0, 0, 0], [0, 5.0, 0, 0]]])
    seen = [torch.tensor([0.75 * ln3, 0, 0, 6.0]), torch.tensor([0.5 * ln3, 0, 0, 4.0])]
    expected = [
        tokens[0, 0] + 2 * (0.5 * seen[0] + 0.75 * seen[1]),
        tokens[0, 1] + 2 * (0.5 * seen[0] + 0.5 * seen[1]),
    ]
    torch.testing.assert_close(sca(tokens, patches, (1, 2)), torch.stack(expected)[None])


@pytest.mark.parametrize("kind", POSITIONS)
def test_positions_are_told_to_the_keys_and_never_enter_the_tokens(kind: str) -> None:
    """Of a single patch every anchor sees all, wherever it is; gates without weights are half open."""
    module = SCA(4, Positions(kind, 4, 16, 3), 3, False, 1.0, 0.0)
    module.gate.weight.data.zero_()
    tokens, patches = torch.randn(1, 2, 4), torch.randn(1, 1, 4)
    torch.testing.assert_close(module(tokens, patches, (1, 1)), tokens + 3 * 0.5 * patches)


def sca(kind: str) -> SCA:
    torch.manual_seed(0)
    made = SCA(WIDTH, Positions(kind, WIDTH, 16, 4), 4, True, 1.0, 0.0)
    return made.requires_grad_(False)


def enhanced(kind: str, turn: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    tokens, patches = (torch.randn(1, n, WIDTH, generator=generator) for n in (2, 15))
    module = sca(kind)
    if module.positions.table is not None:
        module.positions.table.mul_(50)  # as if trained
    return module(tokens, turn(patches), (3, 5))


def test_the_six_ways_to_tell_positions_differ() -> None:
    made = [enhanced(kind) for kind in POSITIONS]
    for i, a in enumerate(made):
        assert all(not torch.allclose(a, b, atol=1e-4) for b in made[:i])


@pytest.mark.parametrize("kind", POSITIONS)
def test_the_order_of_patches_matters_where_positions_are_told(kind: str) -> None:
    same = torch.allclose(enhanced(kind), enhanced(kind, lambda x: x.flip(1)), atol=1e-4)
    assert same == (kind == "none")


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 40), (8, 16)])
def test_every_way_to_tell_positions_takes_any_grid(kind: str, height: int, width: int) -> None:
    made = method(positions=kind, position_length=30).predict(images(height, width))
    assert made.map.shape == (2, height, width) and made.map.isfinite().all()


@pytest.mark.parametrize("kind", POSITIONS)
def test_what_is_learned_of_positions_gets_a_gradient(kind: str) -> None:
    model = method(positions=kind, position_length=30)
    terms(model)["cls"].backward()
    learned = [p for name, p in model.named_parameters() if "positions" in name]
    assert len(learned) == 4 * {"learnable-1d": 1, "learnable-2d": 1, "relative-2d": 2}.get(kind, 0)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned)


def test_more_patches_than_learned_positions_are_refused_with_what_to_do() -> None:
    model = method(position_length=29)
    with pytest.raises(ZsadError, match=r"30 patches, but learnable positions for 29.*position_length=30"):
        model.predict(images())


def test_learnable_2d_positions_are_their_table_where_it_has_the_size_of_the_grid() -> None:
    positions = Positions("learnable-2d", 4, 9, 1)
    added = positions.add(torch.zeros(1, 9, 4), (3, 3)).reshape(3, 3, 4)
    rows, columns = positions.table.detach()  # type: ignore[union-attr]
    torch.testing.assert_close(added[..., :2], rows.T[:, None].expand(3, 3, 2))
    torch.testing.assert_close(added[..., 2:], columns.T[None].expand(3, 3, 2))


def test_fixed_positions_are_sinusoids_of_the_index_or_of_row_and_column() -> None:
    """Width 4: sin and cos of the place, and of the place / 100; in 2D with width 2 each, of the place alone."""
    one = Positions("fixed-1d", 4, 1, 1).add(torch.zeros(1, 6, 4), (2, 3))[0]
    expected = torch.tensor([math.sin(5), math.sin(0.05), math.cos(5), math.cos(0.05)])
    torch.testing.assert_close(one[5], expected)
    two = Positions("fixed-2d", 4, 1, 1).add(torch.zeros(1, 6, 4), (2, 3))[0]
    torch.testing.assert_close(two[5], torch.tensor([math.sin(1), math.cos(1), math.sin(2), math.cos(2)]))


def test_the_relative_bias_reads_its_table_at_the_way_from_anchor_to_patch() -> None:
    """On a 4 x 4 grid, patch (1, 2) has its centre at (0.375, 0.625); a table of 3 x 3 spans -1..1."""
    positions = Positions("relative-2d", 4, 4, 2)
    positions.load_state_dict(
        {
            "table": torch.arange(9.0).view(1, 3, 3),
            "places": torch.tensor([[0.375, 0.625], [0.375 - 0.5, 0.625]]),  # at the patch; half an image above it
        }
    )
    bias = positions.bias((4, 4))
    assert bias is not None
    torch.testing.assert_close(bias[:, 1 * 4 + 2], torch.tensor([4.0, 5.5]))


# Switches


def test_patches_like_the_anomaly_token_score_high_and_those_like_the_normal_one_low() -> None:
    tokens = torch.eye(2, WIDTH)[None]
    _, scores = method(sca=False, saf=False).compare(tokens, [3 * tokens], (1, 2))
    torch.testing.assert_close(scores, torch.tensor([[[1.0, -1.0]]]))


def test_without_sca_every_layer_meets_the_tokens_as_they_are() -> None:
    model = method(sca=False)
    tokens, patches = model.look(model.encode(images()), learned=False)
    made, _ = model.compare(tokens, patches, (6, 5))
    assert torch.equal(made, tokens.expand(4, -1, -1, -1))


@pytest.mark.parametrize("off", [{"sca": False}, {"saf": False}, {"sca": False, "saf": False}])
def test_a_module_switched_off_has_no_parameters_and_changes_the_map(off: dict[str, bool]) -> None:
    model = method(**off)
    modules = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert modules == {"anomaly_token", "normal_token", "norm", "sca", "saf"} - off.keys()
    assert not torch.allclose(model.predict(images()).map, method().predict(images()).map, atol=1e-4)


def test_saf_has_no_residual() -> None:
    model = method(sca=False)
    for parameter in model.saf.parameters():
        parameter.data.zero_()
    assert not model.predict(images()).map.any()


@pytest.mark.parametrize(("layers", "numbers"), [((24,), (4,)), ((18, 6), (1, 3)), ((23, 24), (4,))])
def test_layers_are_counted_on_24_blocks_and_bound_the_map(layers: tuple[int, ...], numbers: tuple[int, ...]) -> None:
    model = method(layers=layers)
    assert model.layers == numbers and len(model.sca) == len(model.saf) == len(numbers)
    assert model.map_range == (-2 * len(numbers), 2 * len(numbers))


def test_one_layer_more_adds_its_map() -> None:
    """The layers share nothing but the tokens; without modules nothing else is drawn."""
    bare = {"sca": False, "saf": False, "sigma": 0.0}
    maps = [method(layers=layers, **bare).predict(images()).map for layers in ((12,), (24,), (12, 24))]
    torch.testing.assert_close(maps[0] + maps[1], maps[2])


@pytest.mark.parametrize("count", [1, 2, 8])
def test_any_number_of_anchors(count: int) -> None:
    model = method(anchors=count)
    assert model.sca[0].anchors.shape == (count, WIDTH) and model.sca[0].gate.weight.shape == (count, WIDTH)  # type: ignore
    assert model.predict(images()).map.isfinite().all()


def test_the_printed_equations_have_anchors_gate_and_scale_only() -> None:
    names = {name for name, _ in method(projections=False, positions="none").sca[0].named_parameters()}
    assert names == {"anchors", "gate.weight", "scale"}


@pytest.mark.parametrize("kept", [("cls",), ("focal", "dice"), ("cls", "dice", "ctr")])
def test_loss_terms_can_be_left_out(kept: tuple[str, ...]) -> None:
    whole, part = terms(method()), terms(method(losses=kept))
    assert tuple(part) == kept
    assert all(torch.equal(part[name], whole[name]) for name in kept)


def test_the_margin_moves_the_contrastive_loss_until_it_is_zero() -> None:
    """The cosine lies in -1..1: the loss is cos + tau where that is positive, so tau = -1 leaves nothing."""
    losses = [terms(method(margin=margin))["ctr"] for margin in (1.0, 1.5, -1.0)]
    torch.testing.assert_close(losses[1] - losses[0], torch.tensor(0.5))
    assert losses[2] == 0


def test_the_image_score_is_the_mean_of_the_highest_share_of_the_blurred_map() -> None:
    everything = method(top_share=1.0).predict(images())
    torch.testing.assert_close(everything.score, everything.map.flatten(1).mean(1))
    one = method(top_share=1e-9).predict(images())
    torch.testing.assert_close(one.score, one.map.flatten(1).amax(1))


def test_the_number_of_highest_pixels_is_rounded_up() -> None:
    assert top_mean(torch.tensor([[[4.0, 2.0, 0.0]]]), 0.34) == 3.0


def test_sigma_zero_leaves_the_map_unblurred() -> None:
    model = method(sigma=0.0)
    with torch.no_grad():
        layers, _ = model.maps(model.encode(images()), learned=False)
    assert torch.equal(model.predict(images()).map, layers.sum(0))
    assert not torch.allclose(method().predict(images()).map, layers.sum(0), atol=1e-3)


def test_dropout_acts_in_training_only() -> None:
    model, without = method(dropout=0.5), method(dropout=0.0).train()
    assert torch.equal(model.predict(images()).map, model.predict(images()).map)
    assert torch.equal(model.predict(images()).map, without.predict(images()).map)
    model.train()
    assert not torch.equal(model.predict(images()).map, model.predict(images()).map)


def moved(final_norm: str) -> tuple[bool, bool]:
    """Whether score and loss change with the learned norm."""
    model = method(final_norm=final_norm)
    map, loss = model.predict(images()).map, terms(model)["cls"]
    model.norm.weight.data[::2] *= 2  # type: ignore[union-attr]
    return not torch.equal(model.predict(images()).map, map), not torch.equal(terms(model)["cls"], loss)


def test_the_final_norm_is_trained_but_not_used_for_the_test_as_released() -> None:
    assert moved("released") == (False, True)
    assert moved("trained") == (True, True)


def test_a_frozen_final_norm_is_the_backbones_in_training_too() -> None:
    model = method(final_norm="frozen")
    assert not any(name.startswith("norm.") for name in model.state_dict())
    torch.testing.assert_close(terms(model), terms(method()))  # training starts at the backbone's


def test_training_the_norm_leaves_the_backbone_alone() -> None:
    model = method()
    model.norm.weight.data += 1  # type: ignore[union-attr]
    assert not torch.equal(model.norm.weight, backbone().visual.norm.weight)  # type: ignore[union-attr]


def test_an_untrained_decision_is_made_where_both_tokens_are_equally_near() -> None:
    model = method()
    assert model.thresholds.image == 0 and model.contour == 0 and model.shown_range == (-1, 1)


def test_the_shown_range_ends_with_the_range_of_the_map() -> None:
    model = method(layers=(24,))
    model.thresholds = Thresholds(pixel=0.95)
    assert model.shown_range == pytest.approx((0.8, 2.0))


@pytest.mark.parametrize(
    "bad",
    [
        {"positions": "learnable"},
        {"final_norm": "loaded"},
        {"losses": ()},
        {"losses": ("dice", "bce")},
        {"layers": ()},
        {"layers": (25,)},
        {"anchors": 0},
        {"top_share": 0.0},
        {"dropout": 1.0},
        {"sigma": -1.0},
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ZsadError, match="visualad"):
        Config(**bad)  # type: ignore[arg-type]


def test_the_tokens_learn_fast_at_first_and_the_rest_slowly_throughout() -> None:
    """utils/training_utils.py:47-76 and train.py:159 of the released code: a cosine from 1e-3 down to 1e-4."""
    model, recipe = method(), VisualAD.recipe
    rates = {name: [recipe.rate_at(i, 2, 1e-3, recipe.share(name)) for i in (0, 1)] for name in model.state_dict()}
    for name, found in rates.items():
        assert found == pytest.approx([1e-3, 5.5e-4] if name.endswith("_token") else [1e-4, 1e-4])
    assert (recipe.weight_decay, recipe.batch_size, recipe.epochs) == (0.01, 8, 2)
    assert recipe.clipped == ("anomaly_token", "normal_token")


# Released checkpoints


def released_file(width: int = WIDTH, anchors: int = 4, rows: int = 1536) -> dict[str, Any]:
    """As utils/training_utils.py:129-155 of the released code writes it."""
    layers = (6, 12, 18, 24)
    one = {
        **{"anchor_queries": (anchors, width), "pos_encoding": (1, rows, width), "res_scale": (1,)},
        **{f"{name}_proj.weight": (width, width) for name in ("q", "k", "v", "out")},
        **{f"{name}_norm.{part}": (width,) for name in "qk" for part in ("weight", "bias")},
        **{"gate.0.weight": (anchors, width), "gate.0.bias": (anchors,), "out_proj.bias": (width,)},
    }
    mlp = {
        f"mlp.{i}.{part}": (width, width)[: 2 if part == "weight" else 1] for i in "03" for part in ("weight", "bias")
    }
    vectors = ("anomaly_token", "normal_token", "ln_post_weight", "ln_post_bias")
    return {
        **{name: torch.randn(width) for name in vectors},
        **{"features_list": list(layers), "image_size": 518, "epoch": 2, "backbone": "ViT-L/14@336px"},
        "layer_transforms": {f"layer_{i}": {name: torch.randn(shape) for name, shape in mlp.items()} for i in layers},
        "transform_type": "mlp",
        "cross_attn": {
            f"layer_attentions.layer_{i}.{n}": torch.randn(shape) for i in layers for n, shape in one.items()
        },
        "cross_attn_config": {"num_anchors": anchors, "dropout": 0.1, "res_scale_init": 0.01},
    }


def test_a_released_checkpoint_fits_and_only_the_bias_without_effect_is_left_out(tmp_path: Path) -> None:
    made = released_file(anchors=3, rows=50)
    torch.save(made, tmp_path / "CLIP.pth")
    checkpoint = torch.load(tmp_path / "CLIP.pth", weights_only=True)
    switches = VisualAD.released_switches(checkpoint)
    assert switches == {"layers": (6, 12, 18, 24), "anchors": 3, "position_length": 50}
    model = method(**switches)
    load_strictly(model, VisualAD.released_state(checkpoint), "CLIP.pth")
    assert torch.equal(model.sca[1].positions.table, made["cross_attn"]["layer_attentions.layer_12.pos_encoding"][0])  # type: ignore
    assert torch.equal(model.saf[3][3].bias, made["layer_transforms"]["layer_24"]["mlp.3.bias"])  # type: ignore
    assert torch.equal(model.norm.weight, made["ln_post_weight"])  # type: ignore
    assert len(model.state_dict()) == 76 - 4


def test_the_bias_that_is_left_out_has_no_effect() -> None:
    """It adds the same number to all logits of an anchor."""
    module, generator = sca("fixed-1d"), torch.Generator().manual_seed(3)
    tokens, patches = (torch.randn(1, n, WIDTH, generator=generator) for n in (2, 15))
    before = module(tokens, patches, (3, 5))
    module.k_norm.register_forward_hook(lambda *_: _[2] + torch.linspace(-1, 1, WIDTH))
    torch.testing.assert_close(module(tokens, patches, (3, 5)), before)


def test_the_released_layout_fits_vit_l_14_336_at_full_width() -> None:
    with torch.device("meta"):
        visual = ViT(ViTSize(width=1024, depth=24, heads=16, patch=14, grid=24, output=768))
        model, checkpoint = VisualAD(CLIP(visual)), released_file(width=1024)
        state = VisualAD.released_state(checkpoint)
    assert {name: p.shape for name, p in state.items()} == {name: p.shape for name, p in model.state_dict().items()}


def test_a_file_of_another_layout_is_refused_by_name() -> None:
    checkpoint = released_file()
    checkpoint["cross_attn"]["surprise"] = torch.zeros(1)
    with pytest.raises(ZsadError, match=r"unexpected cross_attn\.surprise"):
        VisualAD.released_state(checkpoint)
    del checkpoint["cross_attn"]["surprise"], checkpoint["layer_transforms"]["layer_18"]["mlp.3.bias"]
    with pytest.raises(ZsadError, match=r"missing layer_transforms\.layer_18\.mlp\.3\.bias"):
        VisualAD.released_switches(checkpoint)
    for other in ({"prompt_learner": {}}, torch.zeros(1)):
        with pytest.raises(ZsadError, match="features_list"):
            VisualAD.released_state(other)


def test_released_names_cover_every_tensor_of_ours() -> None:
    assert set(released_names((6, 12, 18, 24)).values()) == method().state_dict().keys()
