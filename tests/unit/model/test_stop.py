"""What must hold of the model, on toy towers of several shapes."""

from __future__ import annotations

import open_clip
import pytest
import torch

from stopcli.model.checkpoint import build_backbone
from stopcli.model.clip import attend
from stopcli.model.config import StopConfig
from stopcli.model.motion import unit
from stopcli.model.prompts import bounded
from stopcli.model.stop import Stop, frame_changes, log_multiplicity, scale_over_gaps, top_mask

SHAPES = {
    "patch16-96": {"image_size": 96, "patch_size": 16, "width": 64, "layers": 3, "head_width": 32},
    "patch14-70": {"image_size": 70, "patch_size": 14, "width": 96, "layers": 2, "head_width": 48},
    "patch32-64": {"image_size": 64, "patch_size": 32, "width": 48, "layers": 2, "head_width": 16},
}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
SETTINGS = {"regions": 1 / 12, "eta": 3, "hidden": 16}


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
        if hasattr(model.prompts, "gamma"):
            torch.nn.init.normal_(model.prompts.gamma, mean=2.0)
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
    assert (trace.regions.sum(-1) == 3).all()  # a twelfth of the patches
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
    assert scale_over_gaps(torch.tensor([[3.0, 3.3, 3.0]])).min() > 0.9  # steady motion: alike in all gaps
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

    gammas = 3  # one a prompted block
    one = count(shared=True) - gammas
    assert count(shared=False) == 3 * one + gammas
    assert count(shared=False, prompted_blocks=(0, 2)) == 2 * one + 2


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


@pytest.mark.parametrize(("spatial", "temporal"), MODES)
def test_a_still_video_is_embedded_as_its_photo(spatial, temporal):
    model = stop(spatial=spatial, temporal=temporal)
    photo = clips(model, 2, frames=1)
    with torch.no_grad():
        still = model.encode_video(photo.expand(-1, 7, -1, -1, -1))
        if temporal == "static":  # tokens in every gap, whatever it shows: a photo has no gap
            assert (still - model.encode_video(photo)).abs().max() > 1e-4
        else:
            assert (still - model.encode_video(photo)).abs().max() < 1e-5


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


def test_the_gradient_of_the_counts_is_that_of_finite_differences():
    model = stop(spatial="off", prompted_blocks=(0,)).double()  # later blocks hold the tokens' size fixed
    x, target = clips(model, 3).double(), torch.randn(3, 40).double()
    weights = list(model.prompts.sets[0].frame_variation.parameters())
    directions = [torch.randn_like(w) for w in weights]

    def loss():
        return (model.encode_video(x) * target).sum()

    gradients = torch.autograd.grad(loss(), weights)
    along = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step = 3e-4  # prompts are weighed in float32
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for w, d in zip(weights, directions, strict=True):
                w.add_(sign * step * d)
            values.append(float(loss()))
    assert abs(along) > 1e-4
    assert along == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02)


def test_a_prompt_counts_as_often_as_its_gap_changes():
    weight = log_multiplicity(torch.tensor([[0.0, 0.5, 1.0]]), 3).exp()
    assert weight[0] == pytest.approx(torch.tensor([[0.0, 0, 0], [1.5, 0.75, 0], [2.0, 2, 2]]), abs=1e-6)


@pytest.mark.parametrize("shape", ["patch16-96", "patch14-70"])
def test_regions_are_where_the_only_change_is_before_any_training(shape):
    model = stop(shape, trained=False, regions=1e-3)  # one patch
    x = torch.nn.functional.interpolate(clips(model, 1, frames=1)[0], scale_factor=1 / 4, mode="area")
    x = torch.nn.functional.interpolate(x, model.backbone.preprocess.size, mode="bilinear").repeat(6, 1, 1, 1)
    patch = model.backbone.preprocess.size // model.backbone.grid[0]
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
        c, h = model.backbone.embed_patches(x.flatten(0, 1))
        attention = unit(model.backbone.class_attention(0, c.expand(1, 1, -1), h[None]))
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
    [
        {"spatial": "sometimes"},
        {"regions": 0},
        {"regions": 16},
        {"bound": 0},
        {"eta": 1.5},
        {"alpha": 2},
        {"beta": -1},
        {"dropout": 1.5},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StopConfig(**settings)


def test_settings_that_do_not_fit_the_tower_are_refused():
    with pytest.raises(ValueError, match="3 blocks"):
        stop(prompted_blocks=(0, 3))
