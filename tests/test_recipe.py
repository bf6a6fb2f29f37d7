"""Optimizers and schedules against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zsad.methods.recipe import Recipe, clip_gradients, make_optimizer, set_rates


class Two(nn.Module):
    """Two named parameters with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.head = nn.Linear(2, 1, bias=False)
        self.token.grad = torch.tensor([3.0, 4.0])
        self.head.weight.grad = torch.tensor([[6.0, 8.0]])


def test_without_decay_it_is_adam() -> None:
    torch.manual_seed(0)
    ours = Two()
    theirs = Two()
    theirs.load_state_dict(ours.state_dict())
    a, b = (
        make_optimizer(dict(ours.named_parameters()), Recipe(betas=(0.5, 0.9))),
        torch.optim.Adam(theirs.parameters(), 1e-3, (0.5, 0.9)),
    )
    for _ in range(3):
        a.step()
        b.step()
    assert torch.equal(ours.token, theirs.token) and torch.equal(ours.head.weight, theirs.head.weight)


def test_weights_decay_where_the_recipe_says_so() -> None:
    model = Two()
    model.token.grad = torch.zeros(2)
    make_optimizer(dict(model.named_parameters()), Recipe(rate=0.1, weight_decay=0.5)).step()
    torch.testing.assert_close(model.token.detach(), torch.tensor([3.0, 4.0]) * (1 - 0.1 * 0.5))


def test_sgd_has_momentum_and_decays_weights_in_the_gradient() -> None:
    """v = 0.9 v + g + decay w, w = w - rate v, by hand."""
    model, recipe = Two(), Recipe(optimizer="sgd", rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(dict(model.named_parameters()), recipe)
    w, g, v = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0]), torch.zeros(2)
    for _ in range(3):
        optimizer.step()
        v = 0.9 * v + g + 0.5 * w
        w = w - 0.1 * v
    torch.testing.assert_close(model.token.detach(), w)


def test_warm_up_lasts_one_epoch_and_then_the_cosine_begins() -> None:
    """KaiyangZhou/Dassl.pytorch c61a1b5, lr_scheduler.py: the cosine's own epochs are counted from the second one."""
    recipe = Recipe(schedule="cosine", warmup=0.005)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.002)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    assert recipe.rate_at(0, 5, 0.002) == pytest.approx(1e-5)
    assert recipe.rate_at(0, 5, 0.002, share=0.1) == pytest.approx(1e-6)
    for epoch in range(1, 5):
        assert recipe.rate_at(epoch, 5, 0.002) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_slow_parameters_get_their_share_of_any_rate() -> None:
    groups = make_optimizer(dict(Two().named_parameters()), Recipe(slow=(("head.", 0.01),)), rate=0.2).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.2, 0.002])


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_cosine_is_torchs_with_one_floor_for_all(share: float) -> None:
    recipe = Recipe(schedule="cosine", floor=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5 * share)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=0.05)
    for epoch in range(5):
        assert recipe.rate_at(epoch, 5, 0.5, share) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_harmonic_divides_by_the_number_of_the_epoch() -> None:
    rates = [Recipe(schedule="harmonic").rate_at(epoch, 100, 0.001) for epoch in range(3)]
    assert rates == pytest.approx([0.001, 0.0005, 0.001 / 3])


def test_slow_parameters_can_be_given_another_share() -> None:
    recipe = Recipe(slow=(("head.", 0.01), ("tail.", 0.1))).with_slow(1.0)
    assert [recipe.share(name) for name in ("token", "head.weight", "tail.weight")] == [1.0, 1.0, 1.0]


def test_the_rates_of_an_epoch_reach_the_optimizer() -> None:
    recipe = Recipe(slow=(("head.", 0.1),), schedule="harmonic")
    optimizer = make_optimizer(dict(Two().named_parameters()), recipe)
    set_rates(optimizer, recipe, 1, 10, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.02])


def test_only_named_gradients_are_cut_to_norm_one() -> None:
    model = Two()
    clip_gradients(dict(model.named_parameters()), Recipe(clipped=("token",)))
    assert model.token.grad is not None and model.head.weight.grad is not None
    assert model.token.grad.norm().item() == pytest.approx(1, abs=1e-5)
    assert model.head.weight.grad.tolist() == [[6.0, 8.0]]
