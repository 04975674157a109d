"""What must hold of the model, on toy towers of several shapes."""

from __future__ import annotations

import open_clip
import pytest
import torch

from stopcli.model.checkpoint import build_backbone
from stopcli.model.config import StopConfig
from stopcli.model.stop import Stop, frame_changes, scale_over_gaps, top_mask

SHAPES = {
    "patch16-96": {"image_size": 96, "patch_size": 16, "width": 64, "layers": 3, "head_width": 32},
    "patch14-70": {"image_size": 70, "patch_size": 14, "width": 96, "layers": 2, "head_width": 48},
    "patch32-64": {"image_size": 64, "patch_size": 32, "width": 48, "layers": 2, "head_width": 16},
}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
SETTINGS = {"regions": 3, "eta": 3, "hidden": 16}


def tower(shape="patch16-96", **extra):
    torch.manual_seed(0)
    return build_backbone(
        "toy", {"embed_dim": 40, "vision_cfg": SHAPES[shape], "text_cfg": TEXT, **extra}, {}
    )


def stop(shape="patch16-96", trained=True, **settings):
    torch.manual_seed(1)
    model = Stop(tower(shape), StopConfig(**{**SETTINGS, **settings})).eval()
    if trained:  # leave the no-op start, so that every path has an effect
        for parameter in model.prompts.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def clips(model, batch, frames=5, seed=0):
    size = model.backbone.preprocess.size
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


MODES = [("dynamic", "dynamic"), ("dynamic", "off"), ("off", "dynamic"), ("static", "static"), ("off", "off")]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("spatial", "temporal"), MODES)
def test_an_embedding_does_not_depend_on_batch_mates(shape, spatial, temporal):
    model = stop(shape, spatial=spatial, temporal=temporal)
    x = clips(model, 3)
    with torch.no_grad():
        together, alone = model.encode_video(x), torch.cat([model.encode_video(v[None]) for v in x])
    assert (together - alone).abs().max() < 1e-5
    assert together.norm(dim=-1) == pytest.approx(torch.ones(3), abs=1e-5)


def test_frame_order_matters_with_stop_and_not_without():
    model = stop()
    plain = Stop(model.backbone, None)
    x = clips(model, 1)
    with torch.no_grad():
        assert (model.encode_video(x) - model.encode_video(x.flip(1))).abs().max() > 1e-3
        assert (plain.encode_video(x) - plain.encode_video(x.flip(1))).abs().max() < 1e-6


def test_regions_are_exactly_n_s_and_counts_within_eta():
    model = stop()
    with torch.no_grad():
        _, trace = model.trace(clips(model, 2))
    assert trace.regions.shape == (3, 2, 5, 36)
    assert (trace.regions.sum(-1) == 3).all()
    assert trace.counts.min() >= 0
    assert trace.counts.max() <= 3
    assert (trace.counts == torch.ceil(3 * trace.variation)).all()


def test_ties_go_to_the_lowest_index():
    assert top_mask(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), 2).tolist() == [[0, 1, 1, 0, 0]]
    assert top_mask(torch.zeros(1, 4), 3).tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("trained", [False, True])
def test_a_static_video_gets_no_prompts(trained):
    model = stop(trained=trained)
    x = clips(model, 2, frames=1).expand(-1, 6, -1, -1, -1)
    with torch.no_grad():
        _, trace = model.trace(x)
    assert trace.counts.sum() == 0
    assert trace.variation.sum() == 0


@pytest.mark.parametrize("trained", [False, True])
def test_a_cut_gets_eta_prompts_at_its_gap(trained):
    model = stop(trained=trained)
    before, after = clips(model, 2, frames=1)
    x = torch.cat([before.expand(3, -1, -1, -1), after.expand(3, -1, -1, -1)])[None]
    with torch.no_grad():
        _, trace = model.trace(x)
    assert (trace.counts[:, 0, 2] == 3).all()
    # in the first block nothing changes two frames away; each block may spread it by one more
    assert trace.counts[0, 0, [0, 4]].sum() == 0


def test_variation_is_scaled_within_each_video():
    v = torch.tensor([[0.0, 2.0, 4.0], [0.0, 0.0, 0.0], [3.0, 3.0, 3.0]])
    assert scale_over_gaps(v).tolist() == [[0, 0.5, 1], [0, 0, 0], [1, 1, 1]]
    assert scale_over_gaps(torch.tensor([[5.0], [0.0]])).tolist() == [[1], [0]]


def test_two_frames_have_one_gap_and_one_frame_has_none():
    model = stop()
    with torch.no_grad():
        _, trace = model.trace(clips(model, 1, frames=2))
        assert (trace.counts == 3).all()
        single, trace = model.trace(clips(model, 1, frames=1))
    assert trace.counts.numel() == 0
    assert torch.isfinite(single).all()


def test_arithmetic_noise_is_no_change():
    h = torch.randn(1, 1, 4, 8)
    noisy = torch.cat([h, h * (1 + 1e-6), h + 0.1], 1)
    change = frame_changes(noisy)
    assert change[:, 0].abs().sum() == 0
    assert (change[:, 1].abs() > 0).all()


@pytest.mark.parametrize(("spatial", "temporal"), [m for m in MODES if m != ("off", "off")])
@pytest.mark.parametrize("shared", [True, False])
def test_after_a_step_every_prompt_parameter_learns_and_clip_is_untouched(spatial, temporal, shared):
    model = stop(trained=False, spatial=spatial, temporal=temporal, shared=shared, dropout=0.0).train()
    frozen = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(model.prompts.parameters(), lr=1e-2)
    target = torch.nn.functional.normalize(torch.randn(4, 40), dim=-1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = -(model.encode_video(clips(model, 4)) * target).sum()
        loss.backward()
        optimizer.step()
    without = [n for n, p in model.prompts.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(torch.equal(v, frozen[k]) for k, v in model.backbone.state_dict().items())


def test_modules_are_shared_or_one_a_block():
    def count(**settings):
        return sum(p.numel() for p in stop(**settings).prompts.parameters())

    assert count(shared=False) == 3 * count(shared=True)
    assert count(shared=False, prompted_blocks=(0, 2)) == 2 * count(shared=True)


def test_only_prompted_blocks_are_traced():
    model = stop(prompted_blocks=(0, 2))
    with torch.no_grad():
        _, trace = model.trace(clips(model, 1))
    assert len(trace.regions) == 2


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


def test_class_attention_equals_the_plain_formula():
    model = stop()
    backbone, x = model.backbone, clips(stop(), 2, frames=3)
    with torch.no_grad():
        c, h = backbone.embed_patches(x.flatten(0, 1))
        c, h = c.expand(2, 1, -1), h.unflatten(0, (2, 3))
        attention = backbone.clip.visual.transformer.resblocks[1].attn
        norm = backbone.clip.visual.transformer.resblocks[1].ln_1
        wq, wk, _ = attention.in_proj_weight.chunk(3)
        bq, bk, _ = attention.in_proj_bias.chunk(3)
        q = (norm(c) @ wq.T + bq).unflatten(-1, (2, 32))[:, 0]  # (B,heads,d)
        k = (norm(h) @ wk.T + bk).unflatten(-1, (2, 32))  # (B,T,P,heads,d)
        expected = (torch.einsum("bhd,btphd->bthp", q, k) / 32**0.5).softmax(-1).mean(2)
        assert (backbone.class_attention(1, c, h) - expected).abs().max() < 1e-6


def test_forward_leaves_nothing_behind():
    model = stop()
    before = set(vars(model))
    with torch.no_grad():
        model.trace(clips(model, 1))
    assert set(vars(model)) == before


def test_prompts_on_vit_b_32_are_light():
    from stopcli.model.prompts import PromptModules

    modules = PromptModules(StopConfig(), 768, (7, 7))
    assert sum(p.numel() for p in modules.parameters()) <= 7_500_000


@pytest.mark.parametrize(
    "settings",
    [{"spatial": "sometimes"}, {"regions": 0}, {"eta": 1.5}, {"alpha": 2}, {"beta": -1}, {"dropout": 1.5}],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StopConfig(**settings)


def test_settings_that_do_not_fit_the_tower_are_refused():
    with pytest.raises(ValueError, match="at most 36"):
        stop(regions=37)
    with pytest.raises(ValueError, match="3 blocks"):
        stop(prompted_blocks=(0, 3))
