"""The frozen tower, run block by block, is open_clip's."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from toys import SHAPES, clips, stop, tower

from stopcli.model.stop import Stop
from stopcli.model.towers.tower import Layout, attend


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_clip_equals_open_clip(shape):
    backbone = tower(shape)
    plain = Stop(backbone, None)
    x = clips(plain, 2)
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a dog", "two cats on a sofa"])
    with torch.no_grad():
        image = torch.stack([backbone.clip.encode_image(v, normalize=True).mean(0) for v in x])
        assert (plain.encode_video(x) - torch.nn.functional.normalize(image, dim=-1)).abs().max() < 1e-5
        text = backbone.clip.encode_text(tokens, normalize=True)
        assert (plain.encode_text(tokens) - text).abs().max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_block_wise_pass_equals_open_clip_on_one_frame(shape):
    """With all prompts off and one frame, the joint sequence is CLIP's own."""
    model = stop(shape, spatial="off", temporal="off")
    x = clips(model, 3, frames=1)
    with torch.no_grad():
        reference = model.backbone.clip.encode_image(x[:, 0], normalize=True)
        assert (model.encode_video(x) - reference).abs().max() < 1e-5


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("d", [16, 48])
def test_a_bias_on_keys_is_added_to_their_logits(gradient, d):
    q, k, v = torch.randn(3, 2, 4, 9, d, generator=torch.Generator().manual_seed(0)).unbind(0)
    bias = torch.linspace(-30, 3, 18).view(2, 9).requires_grad_(gradient)
    expected = (q @ k.transpose(-1, -2) / d**0.5 + bias[:, None, None]).softmax(-1) @ v
    out = attend(q, k, v, bias)
    assert (out - expected).abs().max() < 1e-5
    if gradient:
        grads = [torch.autograd.grad(x.square().sum(), bias)[0] for x in (out, expected)]
        assert grads[0] == pytest.approx(grads[1], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("prefix", [0, 1])
def test_apart_a_patch_attends_to_its_own_frame_which_stands_for_all(prefix):
    frames, patches, prompts = 3, 4, 2
    total = prefix + frames * patches + prompts
    q, k, v = torch.randn(3, 2, 4, total, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    bias = torch.linspace(-3, 3, 2 * total).view(2, total)
    frame = (torch.arange(total) - prefix).div(patches, rounding_mode="floor")
    is_patch = (frame >= 0) & (frame < frames) & (torch.arange(total) >= prefix)
    other = is_patch[:, None] & is_patch & (frame[:, None] != frame)
    often = torch.where(is_patch[:, None] & is_patch, math.log(frames), 0.0).masked_fill(other, -math.inf)
    expected = (q @ k.transpose(-1, -2) / 4 + bias[:, None, None] + often).softmax(-1) @ v
    out = attend(q, k, v, bias, Layout(prefix, frames, patches, joint=False))
    wanted = total - prompts
    assert (out[:, :, :wanted] - expected[:, :, :wanted]).abs().max() < 1e-5
    assert not out[:, :, wanted:].any()


def test_class_attention_equals_the_plain_formula():
    model = stop()
    backbone, x = model.backbone, clips(stop(), 2, frames=3)
    with torch.no_grad():
        c, h = model.tower.embed(x.flatten(0, 1))
        c, h = c.expand(2, -1, -1), h.unflatten(0, (2, 3))
        attention = backbone.clip.visual.transformer.resblocks[1].attn
        norm = backbone.clip.visual.transformer.resblocks[1].ln_1
        wq, wk, _ = attention.in_proj_weight.chunk(3)
        bq, bk, _ = attention.in_proj_bias.chunk(3)
        q = (norm(c) @ wq.T + bq).unflatten(-1, (2, 32))[:, 0]  # (B,heads,d)
        k = (norm(h) @ wk.T + bk).unflatten(-1, (2, 32))  # (B,T,P,heads,d)
        expected = (torch.einsum("bhd,btphd->bthp", q, k) / 32**0.5).softmax(-1).mean(2)
        assert (model.tower.look(1, c, h) - expected).abs().max() < 1e-6
