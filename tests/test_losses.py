"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from zsad.methods.losses import dice, focal, local


def test_focal_of_one_pixel_by_hand() -> None:
    p = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1)
    expected = -((1 - 0.7) ** 2) * math.log(0.7)
    assert focal(p, torch.ones(1, 1, 1, dtype=torch.bool)).item() == pytest.approx(expected, rel=1e-3)


def test_focal_reads_the_channel_of_the_truth() -> None:
    p = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    normal, anomalous = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    assert focal(p, normal) < focal(p, anomalous)


def test_dice_of_two_images_is_the_mean_of_each() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 1, 2)
    t = torch.tensor([[1, 0], [0, 0]]).view(2, 1, 2)
    assert dice(p, t).item() == pytest.approx((0 + (1 - 1 / 3)) / 2)


def test_local_losses_are_sums_over_maps_of_one_side_or_of_both() -> None:
    p = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    maps, masks = [torch.stack([1 - q, q], 1) for q in p], p[0] > 0.5
    one, both = (local(maps, masks, both=both) for both in (False, True))
    torch.testing.assert_close(one["focal"], sum(focal(m, masks) for m in maps))
    assert both["focal"] == one["focal"]
    anomalous, normal = (sum(dice(m[:, i], t) for m in maps) for i, t in ((1, masks), (0, ~masks)))
    torch.testing.assert_close(one["dice"], anomalous)
    torch.testing.assert_close(both["dice"], anomalous + normal)


def test_local_losses_take_another_dice() -> None:
    map, masks = torch.full((2, 2, 4, 5), 0.5), torch.ones(2, 4, 5, dtype=torch.bool)
    made = local([map, map], masks, both=True, dice=lambda p, t: 10 * p.mean() + t.float().mean())
    assert made["dice"].item() == pytest.approx(2 * (10 + 1))
