"""Maps against references: scipy's Gaussian filter, torch's interpolation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zsad.errors import ZsadError
from zsad.maps import anomaly_map, cosines, probabilities, smooth, upsample, upsampled_probabilities


@pytest.mark.parametrize(("height", "width", "sigma"), [(40, 60, 4.0), (5, 9, 4.0), (33, 17, 1.3), (1, 8, 2.0)])
def test_smooth_is_scipys_gaussian_filter_also_where_the_kernel_is_wider_than_the_image(
    height: int, width: int, sigma: float
) -> None:
    maps = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    expected = np.stack([gaussian_filter(map, sigma) for map in maps])
    np.testing.assert_allclose(smooth(torch.from_numpy(maps), sigma).numpy(), expected, atol=1e-6)


def test_smooth_with_sigma_zero_changes_nothing() -> None:
    maps = torch.rand(1, 4, 4)
    assert smooth(maps, 0) is maps


def test_probabilities_are_the_softmax_of_cosine_over_temperature() -> None:
    feature, text = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    e = np.exp(np.array([0.6, 0.8]) / 0.07)
    np.testing.assert_allclose(probabilities(feature, text).numpy()[0], e / e.sum(), rtol=1e-5)


def test_each_image_is_compared_with_its_own_text() -> None:
    features, text = torch.randn(3, 5, 8), torch.randn(3, 2, 8)
    together = cosines(features, text)
    for i in range(3):
        torch.testing.assert_close(together[i], cosines(features[i], text[i]))


def test_patches_are_laid_out_row_by_row() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    assert torch.equal(upsample(values, (2, 3), (2, 3))[0], torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]))


def test_each_value_of_a_patch_has_a_plane_of_its_own() -> None:
    values = torch.rand(2, 6, 3)
    together = upsample(values, (2, 3), (4, 5))
    for i in range(3):
        torch.testing.assert_close(together[:, i], upsample(values[..., i], (2, 3), (4, 5)))


def test_aligned_corners_keep_the_corner_values_and_interpolate_between_them() -> None:
    values = torch.tensor([[0.0, 3.0, 6.0, 9.0]])
    aligned = upsample(values, (2, 2), (3, 4), align_corners=True)[0]
    expected = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 6.0], [6.0, 7.0, 8.0, 9.0]])
    torch.testing.assert_close(aligned, expected)
    assert not torch.equal(upsample(values, (2, 2), (3, 4))[0], aligned)


def test_logits_become_probabilities_after_their_upsampling() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 4.0], [0.0, 2.0], [2.0, 8.0]]])
    made = upsampled_probabilities(logits, (2, 2), (3, 5))
    assert made.shape == (1, 2, 3, 5)
    torch.testing.assert_close(made.sum(1), torch.ones(1, 3, 5))
    expected = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]]) + torch.tensor([[0.0], [1.0], [2.0]])  # from corner to corner
    torch.testing.assert_close(made[0, 1], expected.sigmoid())


def test_a_cls_token_left_on_is_told() -> None:
    with pytest.raises(ZsadError, match="is CLS still attached"):
        anomaly_map(torch.ones(1, 7, 4), torch.eye(2, 4), (2, 3), (28, 42))
