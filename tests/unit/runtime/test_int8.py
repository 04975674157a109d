"""Linear layers in int8: near the float ones, and refused where a tower does not bear them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stopcli.errors import DeviceError, UsageError
from stopcli.hub.registry import resolve
from stopcli.model.towers.standard import Block
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.int8 import Int8Linear, Int8Tower

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 96, 96, 3), np.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 511, 1100])
def test_a_layer_in_int8_is_near_the_one_in_floats(dtype, tokens):
    torch.manual_seed(0)
    layer = nn.Linear(96, 40)
    x = torch.randn(2, tokens, 96) * torch.rand(2, tokens, 1) * 100  # tokens of very different size
    expected, before = layer(x), x.clone()
    found = Int8Linear(layer.weight, layer.bias)(x.to(dtype))
    assert found.dtype == dtype
    assert torch.equal(x, before)
    error = (found.float() - expected).norm(dim=-1) / (expected.norm(dim=-1) + 1)
    assert error.max() < 0.03
    assert not Int8Linear(layer.weight, None)(torch.zeros(1, 3, 96)).any()


def test_all_linear_layers_of_a_block_are_replaced_and_brought_back():
    block = Block(64, 2, 4.0, nn.GELU)
    for p in block.parameters():
        nn.init.normal_(p, std=0.1)
    x = torch.randn(2, 9, 64)
    with torch.no_grad():
        before = block(x)
        tower = Int8Tower(nn.Sequential(block))
        called = []
        for module in block.modules():
            if isinstance(module, Int8Linear):
                module.register_forward_hook(lambda module, *_: called.append(module))
        block(x)
        assert len(set(called)) == len(called) == 5  # queries, keys and values, output, two of the MLP
        assert 0 < (block(x) - before).abs().max() < 0.2
        tower._use(after=False)
        assert torch.equal(block(x), before)


def test_an_encoder_in_int8_agrees_and_stays_in_int8():
    files = resolve("mini")
    plain, small = (Encoder(files, EncoderOptions("cpu", precision)) for precision in ("fp32", "int8"))
    expected, found = plain.encode_pixels(PIXELS), small.encode_pixels(PIXELS)
    assert (expected * found).sum(-1).min() > 0.99
    assert small._unproven is None
    assert (small.encode_pixels(PIXELS) == found).all()
    assert (found != expected).any()
    assert small.describe()["precision"] == "int8"


def test_a_tower_that_does_not_bear_int8_is_refused(monkeypatch):
    encoder = Encoder(resolve("mini"), EncoderOptions("cpu", "int8"))
    for name, module in encoder.model.named_modules():
        if name.endswith("mlp.c_proj") and isinstance(module, Int8Linear):
            module.scale[:4] *= 1000.0  # channels that came out wrong
    with pytest.raises(DeviceError, match=r"in int8 \(cosine .*use --precision auto"):
        encoder.encode_pixels(PIXELS)


@pytest.mark.parametrize("architecture", ["RN50", "EVA02-B-16", "MobileCLIP2-B"])
def test_towers_that_read_their_weights_by_themselves_are_left_alone(architecture):
    visual = toy_tower(architecture)
    try:
        tower = Int8Tower(visual)
    except DeviceError as error:
        assert architecture == "RN50"
        assert "does nothing for this model's vision tower" in str(error)
        return
    assert tower._layers
    size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    with torch.no_grad():
        assert torch.isfinite(visual(torch.randn(1, 3, size, size))).all()


def toy_tower(architecture):
    import open_clip

    return open_clip.create_model(architecture, pretrained=None).visual.eval()


def test_no_training_and_no_gpu_in_int8():
    with pytest.raises(UsageError, match="too coarse to train in"):
        Encoder(resolve("mini"), EncoderOptions("cpu", "int8"), trainable=True)
    with pytest.raises(DeviceError, match="int8 is for CPUs"):
        int8_on_a_gpu()


def int8_on_a_gpu():
    from stopcli.runtime.device import choose_precision

    choose_precision(torch.device("cuda"), "int8")
