"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from zsad.methods.losses import dice, focal


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
