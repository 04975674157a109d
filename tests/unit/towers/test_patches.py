"""Patches by a matrix product, as they are cut on CUDA, are those of the convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stopcli.model.towers.standard import embed_patches, patches_by_product


@pytest.mark.parametrize(
    ("patch", "height", "width", "bias"),
    [(16, 96, 96, False), (14, 60, 70, True), (32, 64, 128, False), (14, 97, 83, False)],
)
def test_a_product_cuts_the_same_patches(patch, height, width, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 24, patch, patch, bias=bias)
    images = torch.randn(5, 3, height, width)
    expected = embed_patches(conv, images)
    found = patches_by_product(conv, images)
    assert found.shape == (5, (height // patch) * (width // patch), 24)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
