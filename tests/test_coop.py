"""CoOp against Hugging Face's CLIP on random weights, in float32, and the checkpoints of its authors.

A context that consists of embedded words makes sentences that Hugging Face's CLIP can read: so everything but the
learning itself is compared. Tolerance 1e-5: both sides compute the same sums in another order.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.test_clip import images, same, their_logits, theirs, towers
from zsad.errors import ZsadError
from zsad.methods.conversion import convert, left_out
from zsad.methods.coop import Config, CoOp

PAGE = Path(__file__).parent.parent / "docs" / "methods" / "coop.md"
LABELS = torch.tensor([0, 1])
NO_MASKS = torch.zeros(2, 32, 32, dtype=torch.bool)


def method(**switches: Any) -> CoOp:
    torch.manual_seed(0)
    return CoOp(towers(), Config(**switches))


def spoken() -> CoOp:
    return method(initial_words="a photo of a")


def logits() -> Tensor:
    return their_logits("a photo of a normal metal nut.", "a photo of a anomalous metal nut.")


def test_context_state_and_name_are_read_as_one_sentence() -> None:
    made = spoken().predict(images(), ["metal_nut"] * 2)
    same(made.score, (logits() / theirs().logit_scale.exp() / 0.07).softmax(-1)[:, 1])


def test_the_loss_is_the_cross_entropy_at_the_trained_temperature() -> None:
    model = spoken()
    terms = model.loss(model.encode(images()), NO_MASKS, LABELS, ["metal_nut"] * 2)
    assert terms.keys() == {"global"}
    same(terms["global"], F.cross_entropy(logits(), LABELS))


def test_another_temperature_of_the_loss_can_be_chosen() -> None:
    model = method(initial_words="a photo of a", training_temperature=0.5)
    terms = model.loss(model.encode(images()), NO_MASKS, LABELS, ["metal_nut"] * 2)
    same(terms["global"], F.cross_entropy(logits() / theirs().logit_scale.exp() / 0.5, LABELS))


def test_training_keeps_cls_alone_and_its_loss_is_the_same() -> None:
    model, truth = spoken(), (NO_MASKS, LABELS, ["metal_nut"] * 2)
    (stage,) = model.stages
    whole, small = model.encode(images()), stage.encode(images())
    assert small.nbytes == small.tensors()["image"].nbytes < whole.nbytes / 10
    assert small.tensors()["patches"].untyped_storage().nbytes() == 0  # not a view of what it leaves out
    assert torch.equal(stage.loss(small, *truth)["global"], model.loss(whole, *truth)["global"])
    assert len(type(small).joined([small[:1], small[1:]])) == 2


def test_the_context_is_drawn_small_and_shared_by_both_texts() -> None:
    context = method().context.detach()
    assert context.shape == (16, 64)
    assert context.std().item() == pytest.approx(0.02, rel=0.1)
    normal, anomalous = method(normal_word="same", anomaly_word="same").texts(["cork"])[0]
    assert torch.equal(normal, anomalous)


def test_each_text_can_have_its_own_context() -> None:
    model = method(class_specific=True, context_length=4, normal_word="same", anomaly_word="same")
    assert model.context.shape == (2, 4, 64)
    with torch.no_grad():
        model.context[1] *= -30
    normal, anomalous = model.texts(["cork"])[0]
    shared = method(context_length=4, normal_word="same")
    same(normal, shared.texts(["cork"])[0, 0])
    assert (normal - anomalous).abs().max() > 0.1


def test_class_names_are_those_of_the_images() -> None:
    model = method()
    features = model.encode(images())
    one = [model.score(features, [name] * 2).score for name in ("gear", "cork")]
    both = model.score(features, ["gear", "cork"]).score
    same(both, torch.stack([one[0][0], one[1][1]]))
    assert (one[0] - one[1]).abs().min() > 1e-4


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ({"context_length": 0}, "context_length is 1 or more"),
        ({"training_temperature": -0.1}, "training_temperature is 0 or more"),
        ({"attention": "qk"}, "coop: attention is one of"),
    ],
)
def test_a_switch_that_cannot_be_is_refused(switches: dict[str, Any], told: str) -> None:
    with pytest.raises(ZsadError, match=told):
        Config(**switches)


def layout(*shape: int, width: int = 64) -> dict[str, Any]:
    """What a file of CoOp's trainer holds, as Dassl writes it (c61a1b5, engine/trainer.py:126-146)."""
    state = {"ctx": torch.randn(*shape, width, dtype=torch.float16)}
    state |= {"token_prefix": torch.randn(2, 1, width), "token_suffix": torch.randn(2, 60, width)}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.002)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)  # an object: the successor of the warm-up
    warm_up = {"successor": cosine, "warmup_epoch": 1, "cons_lr": 1e-5, "last_epoch": 1}
    more = {"epoch": 50, "optimizer": optimizer.state_dict(), "scheduler": warm_up, "val_result": None}
    return {"state_dict": state, **more}


def test_a_file_that_could_run_code_is_not_read(tmp_path: Path) -> None:
    torch.save(layout(4), tmp_path / "model.pth.tar-50")
    with pytest.raises(ZsadError, match=r"can be read safely: .* holds more than tensors"):
        convert(tmp_path / "model.pth.tar-50", "coop", towers())


@pytest.mark.parametrize("shape", [(16,), (4,), (2, 16)])
def test_what_the_page_takes_out_of_such_a_file_converts(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = layout(*shape)
    torch.save(made, "model.pth.tar-50")
    (line,) = re.findall(r"python -c '(.*)'", PAGE.read_text())
    exec(line, {})
    model = convert(Path("context.pth"), "coop", towers())
    assert torch.equal(model.state_dict()["context"], made["state_dict"]["ctx"].float())
    assert (model.config.context_length, model.config.class_specific) == (shape[-1], len(shape) == 2)
    assert set(left_out(Path("context.pth"), "coop")) == {"state_dict.token_prefix", "state_dict.token_suffix"}


def test_a_checkpoint_that_is_not_one_says_what_was_expected() -> None:
    for wrong in ({"state_dict": {}}, {}, [1]):
        with pytest.raises(ZsadError, match=r'expected \{"state_dict": \{"ctx"'):
            CoOp.released_state(wrong)
    with pytest.raises(ZsadError, match=r'unexpected tensor "meta_net\.bias"'):
        CoOp.released_state({"state_dict": {"ctx": torch.zeros(4, 8), "meta_net.bias": torch.zeros(1)}})
    with pytest.raises(ZsadError, match=r"contexts of shape \(1000, 16, 8\)"):
        CoOp.released_state(layout(1000, 16, width=8))
