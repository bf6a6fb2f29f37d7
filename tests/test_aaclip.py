"""The switches, both trainings and the released layout of AA-CLIP; test_parity.py has its numbers."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch import Tensor

from tests.parity.check_aaclip import FOUR
from tests.parity.check_aaclip import method as golden_method
from tests.parity.golden import FOLDER, Golden
from zsad.backbones import weights
from zsad.backbones.clip import CLIP, TextSize, TextTower
from zsad.backbones.vit import ViT, ViTSize
from zsad.data import synthetic
from zsad.data.index import samples_of
from zsad.errors import ZsadError
from zsad.methods.aaclip import AACLIP, Config, adapted, blur, linear, patch_scores
from zsad.methods.conversion import convert, left_out
from zsad.methods.prompts import sentence_parts
from zsad.methods.recipe import make_optimizer
from zsad.methods.table import describe
from zsad.training import Cache, Plan, train


@cache
def tiny() -> CLIP:
    return weights.load("tiny")


@cache
def golden() -> Golden:
    return Golden.read(FOLDER / "golden", "aaclip")


def method(**switches: Any) -> AACLIP:
    torch.manual_seed(0)
    return AACLIP(tiny(), Config(**switches)).eval()


def images(count: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def truth(count: int = 3) -> tuple[Tensor, Tensor, list[str]]:
    masks = torch.zeros(count, 64, 64, dtype=torch.bool)
    masks[1:, 10:30, 20:50] = True
    return masks, masks.flatten(1).any(1).long(), ["gear", "screw", "gear"][:count]


def same(a: AACLIP, **switches: Any) -> AACLIP:
    """The same learned tensors under another Config."""
    b = AACLIP(tiny(), Config(**switches)).eval()
    b.load_state_dict(a.state_dict())
    return b


# Sentences


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_known_class_has_the_sentences_of_the_released_code() -> None:
    normal, anomalous = method().sentences("bottle")
    assert (len(normal), len(anomalous)) == (6, 10)
    assert digest(normal) == "50895196ceab672ba52960310f6e2ee4a6862271790275f7baaf759f0d003f85"
    assert digest(anomalous) == "754217741d6b11ff202e7a697016985a851de2f7cb24c0cc95db0140c36a2457"


def test_the_descriptions_are_those_of_the_released_code() -> None:
    lines = sentence_parts("aaclip")["real_names"]
    assert len(lines) == len({line.partition(": ")[0] for line in lines}) == 43
    assert digest(sorted(lines)) == "f74787ad64e5c9888bfaf401b5f12f5c0297e3a372009a9b461c8eafccd94703"


def test_other_classes_and_known_ones_without_descriptions_go_by_their_name() -> None:
    assert method().sentences("cork_stopper")[0][0] == "cork stopper."
    assert method(real_names=False).sentences("metal_nut")[1][-1] == "a photo of a metal nut with damage."
    assert method().sentences("metal_nut")[0][0] == "metal nut which has four notched edges."


# Adapters


def test_an_adapter_turns_a_token_and_keeps_the_length_of_what_it_says() -> None:
    quarter = linear(2, 2)
    quarter.weight.data = torch.tensor([[0.0, -5.0], [5.0, 0.0]])  # LeakyReLU(0, 15) of the token (3, 0)
    turn, x = torch.nn.ModuleList([quarter]), torch.tensor([[3.0, 0.0]])
    torch.testing.assert_close(adapted(x, 1, turn, 0.25), torch.tensor([[2.25, 0.75]]))
    torch.testing.assert_close(adapted(-x, 1, turn, 1.0), torch.tensor([[0.0, -3.0]]))
    assert adapted(x, 2, turn, 0.25) is x and adapted(x, 0, turn, 0.25) is x


def test_adapters_stand_behind_the_first_quarter_of_the_blocks_and_count_12_6_million_on_l14() -> None:
    model = method()
    assert (len(model.text_adapters), len(model.image_adapters), model.layers) == (1, 2, [2, 3, 5, 6])
    assert describe("aaclip").parameters == 4 * 768**2 + 6 * 1024**2 + 5 * 1024 * 768


def test_a_layer_is_read_behind_its_adapter() -> None:
    model, other = method(), method()
    other.get_parameter("image_adapters.1.weight").data.neg_()
    tokens = model.encode(images()).tokens
    assert model.layers[0] == 2
    assert (model.look(tokens)[0][:, 0] - other.look(tokens)[0][:, 0]).abs().max() > 1e-4


def test_every_text_block_can_have_an_adapter_the_last_one_too() -> None:
    model, other = method(text_blocks=12), method(text_blocks=12)
    assert len(model.text_adapters) == 4
    other.get_parameter("text_adapters.3.weight").data.neg_()
    assert (model.anchors(["gear"]) - other.anchors(["gear"])).abs().max() > 1e-4


def test_maps_begin_drawn_as_released_and_have_no_bias() -> None:
    drawn = linear(300, 100)
    assert drawn.bias is None
    assert drawn.weight.abs().max().item() == pytest.approx((6 / 400) ** 0.5, rel=1e-3)


def test_relu_is_an_activation_behind_the_image_projections() -> None:
    model = method()
    patches = same(model, relu=True).look(model.encode(images()).tokens)[0]
    assert patches.min() > -0.1 and model.look(model.encode(images()).tokens)[0].min() < -0.1


def test_openai_weights_run_with_the_exact_gelu_unless_told_otherwise() -> None:
    model, own = golden_method(golden()), golden_method(golden(), activation="")
    tower = golden().clip()
    assert tower.visual.size.activation == own.backbone.visual.size.activation == "quick_gelu"
    assert model.backbone.visual.size.activation == "gelu"
    x = golden().images()
    assert (model.predict(x, ["bottle"] * 2).map - own.predict(x, ["bottle"] * 2).map).abs().max() > 1e-3


# Anchors of scores and of stage 2


def encoded(model: AACLIP, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the classes that are encoded from here on."""
    seen: list[str] = []
    sentences = model.sentences

    def noting(name: str) -> tuple[list[str], list[str]]:
        seen.append(name)
        return sentences(name)

    monkeypatch.setattr(model, "sentences", noting)
    return seen


def test_a_class_is_encoded_once_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = method()
    seen, (masks, labels, names) = encoded(model, monkeypatch), truth()
    model.predict(images(), names)
    assert sorted(seen) == ["gear", "screw"]
    model.loss(model.encode(images()), masks, labels, names)
    assert sorted(seen) == ["gear", "gear", "screw", "screw"]


@pytest.mark.parametrize("change", ["step", "load", "in place", "data"])
def test_anchors_follow_every_change_of_the_text_side(change: str) -> None:
    model, x = method(), images()
    before = model.predict(x).map
    if change == "step":
        stage = model.stages[0]
        optimizer = make_optimizer(stage.parameters(model), stage.recipe, rate=0.1)
        sum(stage.loss(stage.encode(x), *truth()).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    elif change == "load":
        model.load_state_dict({name: value + 0.1 for name, value in model.state_dict().items()})
    elif change == "data":
        model.text_projection.weight.data.neg_()
    else:
        with torch.no_grad():
            model.text_projection.weight.neg_()
    fresh = same(model).predict(x).map
    assert (before - fresh).abs().max() > 1e-2
    torch.testing.assert_close(model.predict(x).map, fresh)


def test_a_method_built_in_inference_mode_follows_what_it_loads() -> None:
    with torch.inference_mode():
        model, x = method(), images()
        before = model.predict(x).map
        model.load_state_dict({name: value + 0.1 for name, value in model.state_dict().items()})
        assert (model.predict(x).map - before).abs().max() > 1e-2


def test_stage_2_leaves_the_text_side_alone() -> None:
    model = method()
    model.predict(images(), truth()[2])
    sum(model.loss(model.encode(images()), *truth()).values()).backward()  # type: ignore[union-attr]
    assert model.score_projection.weight.grad is not None and model.text_projection.weight.grad is None


def test_anchors_are_in_full_precision_where_the_rest_is_not() -> None:
    model = method()
    expected = model.fixed_anchors(["gear", "screw"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.fixed_anchors(["gear", "screw"]), expected)


# Stage 1


def patches(surgery: str, x: Tensor) -> Tensor:
    model = method(surgery=surgery, text_layers=FOUR)
    return model.operated(model.embedded(x)).patches


def test_attention_across_the_batch_is_the_values_themselves_for_one_image() -> None:
    x = images(1)
    torch.testing.assert_close(patches("batch", x), patches("value", x))
    assert (patches("vv", x) - patches("value", x)).abs().max() > 1e-2


def test_only_attention_across_the_batch_depends_on_the_batch() -> None:
    x = images()
    for surgery, depends in (("value", False), ("vv", False), ("batch", True)):
        change = (patches(surgery, x)[:1] - patches(surgery, x[:1])).abs().max()
        assert (change > 1e-2) == depends


def test_surgery_begins_at_its_block_and_leaves_cls_alone() -> None:
    x = images()
    models = [method(surgery_start=start, text_layers=FOUR) for start in (24, 6)]
    late, early = (model.operated(model.embedded(x)) for model in models)
    assert torch.equal(late.image, early.image)
    visual = tiny().visual
    first = visual.blocks[0](visual.embed(x, resize="bicubic_antialias"))
    torch.testing.assert_close(late.patches[:, 0], visual.head(visual.patches(visual.blocks[1](first))))
    values = visual.blocks[1](first, lambda q, k, v: v)
    torch.testing.assert_close(early.patches[:, 0], visual.head(visual.patches(values)))


def test_losses_of_several_layers_are_summed_and_the_anchors_term_counts_once() -> None:
    x, given = images(), truth()

    def terms(*layers: int) -> dict[str, float]:
        model = method(text_layers=layers)
        return {name: term.item() for name, term in model.text_loss(model.encode_for_text(x), *given).items()}

    both, one, other = terms(12, 24), terms(12), terms(24)
    for name in ("focal", "dice"):
        assert both[name] == pytest.approx(one[name] + other[name])
    assert both["orthogonal"] == pytest.approx(one["orthogonal"])
    assert both.keys() == {"focal", "dice", "orthogonal"}


def test_the_anchors_term_is_their_mean_cosine_squared() -> None:
    model = method(orthogonal_weight=0.5)
    names = truth()[2]
    terms = model.text_loss(model.encode_for_text(images()), *truth())
    normal, anomalous = model.anchors(names).unbind(1)
    expected = F.cosine_similarity(normal, anomalous, dim=-1).mean() ** 2 / 2
    torch.testing.assert_close(terms["orthogonal"], expected)


def test_the_papers_cross_entropy_of_cls_is_a_switch() -> None:
    model, (masks, labels, names) = method(text_global=True), truth()
    features = model.encode_for_text(images())
    image = F.normalize(features.image, dim=-1)  # type: ignore[attr-defined]
    cosines = (image[:, None] * model.anchors(names)).sum(-1)
    terms = model.text_loss(features, masks, labels, names)
    torch.testing.assert_close(terms["global"], F.cross_entropy(cosines, labels))


# Both trainings


def test_recipes_are_the_published_ones() -> None:
    text, image = (stage.recipe for stage in method().stages)
    assert (text.rate, text.batch_size, text.epochs, text.betas) == (1e-5, 16, 5, (0.5, 0.999))
    assert (image.rate, image.batch_size, image.epochs, image.betas) == (5e-4, 2, 20, (0.5, 0.999))
    assert [image.rate_at(0, 20, 1.0, step=step) for step in (15999, 16000, 32000)] == [1.0, 0.5, 0.25]


def test_the_first_stage_changes_text_only_and_the_second_one_never() -> None:
    model = method()
    for number, stage in enumerate(model.stages):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.zero_grad()
        sum(stage.loss(stage.encode(images()), *truth()).values()).backward()  # type: ignore[union-attr]
        make_optimizer(stage.parameters(model), stage.recipe).step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {name for name in before if name.startswith("text_") == (number == 0)}
        grown = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert grown == changed == stage.parameters(model).keys()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    root = tmp_path_factory.mktemp("set") / "auxiliary"
    synthetic.write(root, "auxiliary", normal=1, anomalous=1, size=64)
    return samples_of(root)[:6]


def trained(samples: list[Any], cache: Cache) -> tuple[dict[str, Tensor], list[set[str]]]:
    """Both stages with attention across the batch: the weights, and the terms of each step."""
    model, terms = method(surgery="batch"), []
    plan = Plan(epochs=1, batch_size=3)
    train(model, samples, 64, plan, lambda step: terms.append(set(step.terms)), cache=cache)
    return model.state_dict(), terms


def test_both_trainings_follow_one_another_and_mates_are_those_of_the_step(samples: list[Any]) -> None:
    kept, terms = trained(samples, Cache("memory"))
    assert terms == [{"focal", "dice", "orthogonal"}] * 2 + [{"global", "focal", "dice"}] * 2
    for name, value in trained(samples, Cache("none"))[0].items():
        assert torch.equal(value, kept[name])


# Scores and maps


def test_a_patch_at_the_anomalous_anchor_has_the_highest_score_and_one_between_both_a_half() -> None:
    anchors = torch.eye(2)[None]
    given = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5**0.5, 0.5**0.5]])[None, None]
    torch.testing.assert_close(patch_scores(given, anchors), torch.tensor([[[50.5, -49.5, 0.5]]]))


def test_the_contour_lies_where_both_anchors_are_equally_near_and_pictures_show_five_to_either_side() -> None:
    model = method()
    assert model.contour == pytest.approx(4 * 0.5)
    assert model.shown_range == pytest.approx((2.0 - 4 * 2.5, 2.0 + 4 * 2.5))
    assert model.map_range == pytest.approx((4 * -99.5, 4 * 100.5))


@pytest.mark.parametrize(("rows", "columns"), [(6, 9), (3, 2), (1, 4)])
@pytest.mark.parametrize(("length", "sigma"), [(7, 1.0), (9, 1.5)])
def test_the_blur_is_scipys_with_mirrored_edges(rows: int, columns: int, length: int, sigma: float) -> None:
    planes = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(0))
    expected = [torch.tensor(gaussian_filter(p, sigma, mode="mirror", radius=length // 2)) for p in planes.numpy()]
    torch.testing.assert_close(blur(planes, length, sigma), torch.stack(expected), atol=1e-6, rtol=0)


def test_medical_maps_are_smoother() -> None:
    model = method()
    rough, smooth = (same(model, domain=domain).predict(images()).map for domain in ("industrial", "medical"))
    assert smooth.diff(dim=-1).abs().mean() < rough.diff(dim=-1).abs().mean()


def test_the_maps_maximum_can_have_a_share_in_the_score() -> None:
    model, x = method(), images()
    without, half, alone = (same(model, map_share=share).predict(x) for share in (0.0, 0.5, 1.0))
    low, high = model.map_range
    torch.testing.assert_close(alone.score, (alone.map.amax((1, 2)) - low) / (high - low))
    torch.testing.assert_close(half.score, (without.score + alone.score) / 2)
    assert torch.equal(without.map, alone.map)


@pytest.mark.parametrize(
    "bad",
    [
        {"surgery": "kk"},
        {"domain": "Brain"},
        {"layers": ()},
        {"text_layers": (0,)},
        {"surgery_start": 25},
        {"text_blocks": 13},
        {"image_blocks": -1},
        {"image_weight": 1.5},
        {"map_share": -0.1},
        {"orthogonal_weight": -1.0},
        {"activation": "relu"},
    ],
)
def test_impossible_switches_are_refused(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(ZsadError, match=rf"^aaclip: {name} [^()]*; got \(?{re.escape(repr(value))}[,)]*$"):
        Config(**bad)


# The layout of the released code: text_adapter.pth and image_adapter.pth


def halves(relu: bool = False, words: int = 768, width: int = 1024) -> tuple[dict[str, Any], dict[str, Any]]:
    """What train.py saves, with the state of an optimizer."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    text = {f"{i}.fc.0.weight": torch.randn(words, words) for i in range(4)}
    image = {f"layer_adapters.{i}.fc.0.weight": torch.randn(width, width) for i in range(6)}
    end = "fc.0.weight" if relu else "fc.weight"
    image |= {f"{name}.{end}": torch.randn(words, width) for name in (*(f"seg_proj.{i}" for i in range(4)), "det_proj")}
    return (
        {"epoch": 5, "text_adapter": text, "text_optimizer": optimizer},
        {"epoch": 20, "image_adapter": image, "image_optimizer": optimizer},
    )


@pytest.fixture(scope="module")
def l14() -> CLIP:
    """Towers of the sizes of CLIP ViT-L/14@336 with nothing in them."""
    with torch.device("meta"):
        visual = ViT(ViTSize(width=1024, depth=24, heads=16, patch=14, grid=24, output=768))
        text = TextTower(TextSize(width=768, depth=12, heads=12, vocabulary=49408, context=77, output=768))
    return CLIP(visual, text, tiny().tokenizer, name="clip-vit-l-14-336", digest="0")


@pytest.mark.parametrize("relu", [False, True])
def test_both_released_files_as_one_convert_at_full_width(relu: bool, l14: CLIP, tmp_path: Path) -> None:
    text, image = halves(relu)
    torch.save(text, tmp_path / "text_adapter.pth")
    torch.save(image, tmp_path / "image_adapter.pth")
    merged = torch.load(tmp_path / "text_adapter.pth") | torch.load(tmp_path / "image_adapter.pth")  # as we tell users
    torch.save(merged, tmp_path / "aaclip.pth")
    made = convert(tmp_path / "aaclip.pth", "aaclip", l14)
    assert (made.config.text_blocks, made.config.image_blocks, made.config.relu) == (3, 6, relu)
    end = "fc.0.weight" if relu else "fc.weight"
    for ours, theirs in (
        ("text_adapters.2", text["text_adapter"]["2.fc.0.weight"]),
        ("text_projection", text["text_adapter"]["3.fc.0.weight"]),
        ("image_adapters.5", image["image_adapter"]["layer_adapters.5.fc.0.weight"]),
        ("map_projections.1", image["image_adapter"][f"seg_proj.1.{end}"]),
        ("score_projection", image["image_adapter"][f"det_proj.{end}"]),
    ):
        assert torch.equal(made.state_dict()[f"{ours}.weight"], theirs)
    unused = left_out(tmp_path / "aaclip.pth", "aaclip")
    assert len(unused) == 4 and all("optimizer.state.0." in name for name in unused)


def test_one_half_alone_says_how_to_make_one_file_of_both() -> None:
    text, image = halves(words=8, width=8)
    for half, missing in ((text, "image_adapter"), (image, "text_adapter"), ([], "text_adapter")):
        with pytest.raises(
            ZsadError,
            match=rf'no "{missing}".*torch\.save\(torch\.load\("text_adapter\.pth", "cpu", weights_only=True\) \|',
        ):
            AACLIP.released_state(half)


def test_an_unexpected_tensor_of_a_released_file_is_named() -> None:
    for place, name in (
        ("text_adapter", "4.fc.0.bias"),
        ("image_adapter", "seg_proj.0.fc.1.weight"),
        ("", "more.weight"),
    ):
        text, image = halves(words=8, width=8)
        whole: dict[str, Any] = text | image
        (whole[place] if place else whole)[name] = torch.zeros(1)
        with pytest.raises(ZsadError, match=rf'unexpected tensor "{place}.?{name}"'):
            AACLIP.released_state(whole)


@pytest.mark.parametrize("part", ["text_adapter", "image_adapter"])
def test_a_missing_or_damaged_tensor_is_an_error_and_not_a_traceback(part: str, l14: CLIP, tmp_path: Path) -> None:
    for damage in ("missing", "odd"):
        text, image = halves(words=8, width=8)
        whole: dict[str, Any] = text | image
        whole[part] = {} if damage == "missing" else {next(iter(whole[part])): 3}
        torch.save(whole, tmp_path / "a.pth")
        with pytest.raises(ZsadError):
            convert(tmp_path / "a.pth", "aaclip", l14)
