"""Where STOP and focus look, and how far spatial prompts go."""

from __future__ import annotations

import pytest
import torch
from toys import clips, stop, tower

from stopcli.model.motion import unit
from stopcli.model.prompts import bounded
from stopcli.model.stop import Stop


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3, 1e9])
def test_spatial_prompts_stay_below_their_share_of_the_tokens(factor):
    prompt = factor * torch.randn(2, 5, 36, 64, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([0.5, 8.0]).view(2, 1, 1, 1)
    out = bounded(prompt, size, 0.3)
    assert (out.square().mean(-1, keepdim=True).sqrt() <= 0.3 * size * (1 + 1e-5)).all()
    assert torch.nn.functional.cosine_similarity(out, prompt, dim=-1) == pytest.approx(
        torch.ones(2, 5, 36), abs=1e-5
    )
    if factor == 1e-3:  # what is small is left alone
        assert out == pytest.approx(prompt, rel=0.05)


def test_prompts_a_million_times_as_large_leave_the_picture_readable():
    model = stop()
    one, other = clips(model, 2).unsqueeze(1).unbind(0)
    with torch.no_grad():
        model.prompts.sets[0].spatial_prompter.last.weight.mul_(1e6)
        a, b = model.encode_video(one), model.encode_video(other)
    assert (a - b).norm() > 0.05


@pytest.mark.parametrize("shape", ["patch16-96", "patch14-70"])
def test_regions_are_where_the_only_change_is_before_any_training(shape):
    model = stop(shape, trained=False, regions=1e-3)  # one patch
    x = torch.nn.functional.interpolate(clips(model, 1, frames=1)[0], scale_factor=1 / 4, mode="area")
    x = torch.nn.functional.interpolate(x, model.backbone.preprocess.size, mode="bilinear").repeat(6, 1, 1, 1)
    patch = model.backbone.preprocess.size // model.tower.grid[0]
    for i in range(6):
        x[i, :, -patch:, -patch:] = torch.randn(3, 1, 1, generator=torch.Generator().manual_seed(i))
    with torch.no_grad():
        _, trace = model.trace(x[None])
    assert (trace.energy.argmax(-1) == trace.energy.shape[-1] - 1).all()
    assert trace.regions[0, 0, :, -1].float().mean() > 0.8  # attention has its half of the score
    assert (trace.bias <= 0).all()  # gamma begins above 0


def test_channels_that_stick_out_do_not_hide_what_moves():
    """Towers trained on the web have channels many times the size of the others, tamed by ln_1."""
    model = stop(trained=False, regions=1e-3, alpha=0.0)
    visual = model.backbone.clip.visual
    with torch.no_grad():
        visual.ln_pre.bias[5] = 60.0
        for block in visual.transformer.resblocks:
            block.ln_1.weight[5] = 0.01
        x = clips(model, 1, frames=1).repeat(1, 6, 1, 1, 1)
        x[0, :, :, :16, :16] = torch.randn(6, 3, 1, 1)
        _, trace = model.trace(x)
    assert trace.regions[0, 0, :, 0].all()


def test_where_nothing_is_certain_attention_chooses():
    model = stop(trained=False)
    x = clips(model, 1, frames=6)  # noise: no frame can be brought to another's place
    with torch.no_grad():
        _, trace = model.trace(x)
        c, h = model.tower.embed(x.flatten(0, 1))
        attention = unit(model.tower.look(0, c[None], h[None]))
    assert trace.certainty.max() == 0
    assert trace.scores[0] == pytest.approx(0.5 * attention, abs=1e-5)  # alpha


def test_focus_is_nothing_without_strength_or_motion_and_something_with_both():
    backbone = tower()
    plain, none, focused = (Stop(backbone, None, focus=f).eval() for f in (0.0, 1e-9, 3.0))
    still = clips(plain, 2, frames=1).repeat(1, 5, 1, 1, 1)
    moving = still.clone()
    moving[:, :, :, :16, :16] = torch.randn(2, 5, 3, 1, 1)
    with torch.no_grad():
        assert (plain.encode_video(moving) - none.encode_video(moving)).abs().max() < 1e-5
        assert (plain.encode_video(still) - focused.encode_video(still)).abs().max() < 1e-5
        assert (plain.encode_video(moving) - focused.encode_video(moving)).abs().max() > 1e-3
