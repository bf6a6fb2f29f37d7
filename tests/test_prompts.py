"""Fixed sentences: kept per class name, whole in their precision, one name per image."""

from __future__ import annotations

import copy

import pytest
import torch

from zsad.backbones import weights
from zsad.errors import ZsadError
from zsad.methods.prompts import Ensemble, one_name_each


def ensemble(normalised: bool = True) -> Ensemble:
    towers = weights.load("tiny")
    assert towers.text is not None and towers.tokenizer is not None

    def sentences(name: str) -> list[list[str]]:
        return [[f"a {name}.", f"the whole {name}."], [f"a damaged {name}."]]

    return Ensemble(towers.text, towers.tokenizer, sentences, normalised)


@pytest.mark.parametrize("normalised", [True, False])
def test_a_state_is_the_mean_of_its_sentences(normalised: bool) -> None:
    made = ensemble(normalised)
    ids, end = made.tokenizer(["a gear.", "the whole gear."])
    alone = made.text(ids, end)
    expected = (alone / alone.norm(dim=-1, keepdim=True) if normalised else alone).mean(0)
    torch.testing.assert_close(made.of("gear")[0], expected)


def test_names_are_encoded_once_and_stacked_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = ensemble(), []
    sentences = made.sentences
    monkeypatch.setattr(made, "sentences", lambda name: asked.append(name) or sentences(name))
    first = made(["gear", "cork", "gear"])
    assert asked == ["gear", "cork"]
    assert torch.equal(first[0], first[2]) and torch.equal(made(["cork"])[0], first[1])
    assert asked == ["gear", "cork"]


def test_what_is_kept_is_in_full_precision_and_can_be_trained_on() -> None:
    made = ensemble()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made.of("gear")
    assert made.of("gear").dtype == torch.float32
    torch.testing.assert_close(made.of("gear"), ensemble().of("gear"), atol=1e-6, rtol=0)
    weight = torch.ones(2, 1, requires_grad=True)
    (weight * made.of("gear")).sum().backward()


def test_another_precision_of_the_towers_is_encoded_anew() -> None:
    made = ensemble()
    made.text = copy.deepcopy(made.text)
    single = made.of("gear")
    made.text.double()
    assert made.of("gear").dtype == torch.float64
    torch.testing.assert_close(made.of("gear").float(), single, atol=1e-5, rtol=0)


def test_without_names_every_image_shows_an_object() -> None:
    assert one_name_each(None, 2) == ["object", "object"]
    with pytest.raises(ZsadError, match="1 class names for 2 images"):
        one_name_each(["gear"], 2)
