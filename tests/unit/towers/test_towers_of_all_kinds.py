"""Block by block, every tower is itself: on one frame, on a still video, and where it looks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stopcli.model.config import StopConfig
from stopcli.model.stop import Stop
from stopcli.model.towers.tower import Layout
from timm_toys import SIZE, TOWERS, backbone_of

SETTINGS = {"regions": 0.25, "eta": 2, "hidden": 16}


def model_of(name, **settings):
    torch.manual_seed(1)
    model = Stop(backbone_of(name), StopConfig(**{**SETTINGS, **settings})).eval()
    for parameter in model.prompts.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def pictures(*shape):
    return torch.randn(*shape, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=TOWERS)
def name(request):
    return request.param


@pytest.fixture
def seen(monkeypatch):
    """The logits of every attention that is computed."""
    logits, attention = [], F.scaled_dot_product_attention

    def watched(q, k, v, **options):
        logits.append((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2))
        return attention(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return logits


def test_one_frame_is_the_towers_own_forward(name):
    model, x = model_of(name, spatial="off", temporal="off"), pictures(3, 1)
    with torch.no_grad():
        reference = F.normalize(model.backbone.clip.encode_image(x[:, 0]), dim=-1)
        assert (model.encode_video(x) - reference).abs().max() < 2e-6
        assert (reference[0] - reference[1]).abs().max() > 1e-2  # it sees the pictures


def test_a_still_video_is_its_photo(name):
    model = model_of(name, spatial="off", temporal="off")
    photo = pictures(2, 1)
    with torch.no_grad():
        still = model.encode_video(photo.expand(-1, 8, -1, -1, -1))
        assert (still - model.encode_video(photo)).abs().max() < 3e-6


def test_prompts_do_not_tell_still_videos_of_different_lengths_apart(name):
    model, photo = model_of(name), pictures(1, 1)
    with torch.no_grad():
        four, nine = (model.encode_video(photo.expand(-1, n, -1, -1, -1)) for n in (4, 9))
        assert (four - nine).abs().max() < 3e-6


def test_prompts_change_a_video_and_have_gradients(name):
    model, x = model_of(name), pictures(2, 4)
    off = Stop(model.backbone, StopConfig(spatial="off", temporal="off")).eval()
    video = model.train().encode_video(x)
    with torch.no_grad():
        assert (video - off.encode_video(x)).abs().max() > 1e-3
    video[:, 0].sum().backward()
    for parameter in model.prompts.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_what_it_looks_at_is_a_share_of_each_frame(name):
    model, x = model_of(name), pictures(2, 4)
    with torch.no_grad():
        _, trace = model.trace(x)
        assert trace.attention.shape == (2, 4, 9)
        assert trace.attention.sum(-1) == pytest.approx(1.0, abs=1e-5)
        _, plain = Stop(model.backbone, None).eval().trace(x)
        assert plain.attention.sum(-1) == pytest.approx(1.0, abs=1e-5)


def test_a_focus_without_strength_is_plain_clip(name):
    backbone = backbone_of(name)
    x = pictures(1, 1).repeat(1, 4, 1, 1, 1) / 4
    for i in range(3):
        x[0, i, :, 16:32, 16 * i : 16 * i + 16] += 3.0  # something moves over a still ground
    with torch.no_grad():
        plain = Stop(backbone, None).eval().encode_video(x)
        assert (Stop(backbone, None, focus=1e-7).eval().encode_video(x) - plain).abs().max() < 3e-6
        assert (Stop(backbone, None, focus=3.0).eval().encode_video(x) - plain).abs().max() > 1e-4


def test_where_a_class_token_looks_is_its_blocks_own_attention(name, seen):
    tower = backbone_of(name).tower
    c, h = tower.embed(pictures(1))
    with torch.no_grad():
        tower.run_block(
            1, torch.cat([c[None], h], 1), torch.zeros(1, tower.prefix + 9), 2, Layout(tower.prefix, 1, 9)
        )
        look = tower.look(1, c[None], h[None])[0, 0]
        expected = seen[0][0, :, 0, tower.prefix :].softmax(-1).mean(0)
        if name == "CLIPA" or not tower.prefix:  # what is pooled looks, not a token
            assert (look - expected).abs().max() > 1e-3
        else:
            assert (look - expected).abs().max() < 1e-5


def test_attention_pooling_looks_with_its_own_query(seen):
    tower = backbone_of("SigLIP").tower
    c, h = tower.embed(pictures(1))
    with torch.no_grad():
        tower.read(h, 1)
        expected = seen[0][0, :, 0].softmax(-1).mean(0)
        assert (tower.look(0, c[None], h[None])[0, 0] - expected).abs().max() < 1e-5
