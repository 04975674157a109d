"""What must hold of the model, on toy towers of several shapes."""

from __future__ import annotations

import pytest
import torch
from toys import MODES, SHAPES, clips, stop

from stopcli.model.config import StopConfig
from stopcli.model.stop import Stop, frame_changes, highest, log_multiplicity, scale_over_gaps
from stopcli.model.towers.tower import attend


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
    assert highest(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), 2).tolist() == [[1, 2]]
    assert highest(torch.zeros(1, 4), 3).tolist() == [[0, 1, 2]]


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


@pytest.mark.parametrize("attention", ["joint", "frame"])
@pytest.mark.parametrize(("spatial", "temporal"), MODES)
def test_a_still_video_is_embedded_as_its_photo(spatial, temporal, attention):
    model = stop(spatial=spatial, temporal=temporal, attention=attention)
    photo = clips(model, 2, frames=1)
    with torch.no_grad():
        still = model.encode_video(photo.expand(-1, 7, -1, -1, -1))
        if temporal == "static":  # tokens in every gap, whatever it shows: a photo has no gap
            assert (still - model.encode_video(photo)).abs().max() > 1e-4
        else:
            assert (still - model.encode_video(photo)).abs().max() < 1e-5


@pytest.mark.parametrize(("spatial", "temporal"), MODES)
def test_where_all_frames_are_alike_it_makes_no_difference_which_of_them_patches_attend_to(spatial, temporal):
    joint, apart = (stop(spatial=spatial, temporal=temporal, attention=a) for a in ("joint", "frame"))
    apart.load_state_dict(joint.state_dict())
    still = clips(joint, 2, frames=1).expand(-1, 5, -1, -1, -1)
    moving = clips(joint, 2)
    with torch.no_grad():
        assert (joint.encode_video(still) - apart.encode_video(still)).abs().max() < 1e-5
        assert (joint.encode_video(moving) - apart.encode_video(moving)).abs().max() > 1e-5


def test_the_gradient_of_the_counts_is_that_of_finite_differences():
    """Of what a token reads from prompts, by how much changes in each gap."""
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 1 + 4 * 3, 8, generator=g, dtype=torch.float64).unbind(0)

    def read(change):
        weight = log_multiplicity(scale_over_gaps(change), 3).flatten(1)  # (1,12)
        return attend(q[:, :, :1], k, v, torch.nn.functional.pad(weight, (1, 0)))

    change = torch.rand(1, 4, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(read, change)
    assert torch.autograd.grad(read(change).square().sum(), change)[0].abs().min() > 1e-4


def test_the_network_behind_the_counts_learns_as_much_as_that_of_the_prompts():
    model = stop(spatial="off", prompted_blocks=(0,))
    modules, x = model.prompts.sets[0], clips(model, 4)
    (model.encode_video(x) * torch.randn(4, 40, generator=torch.Generator().manual_seed(0))).sum().backward()

    def share(module):  # of its weights' size
        return sum(p.grad.norm() * p.detach().norm() for p in module.parameters())

    assert share(modules.frame_variation) > 0.02 * share(modules.temporal_prompter)


def test_a_prompt_counts_as_often_as_its_gap_changes():
    weight = log_multiplicity(torch.tensor([[0.0, 0.5, 1.0]]), 3).exp()
    assert weight[0] == pytest.approx(torch.tensor([[0.0, 0, 0], [1.5, 0.75, 0], [2.0, 2, 2]]), abs=1e-6)


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
        {"attention": "all"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StopConfig(**settings)


def test_settings_that_do_not_fit_the_tower_are_refused():
    with pytest.raises(ValueError, match="3 blocks"):
        stop(prompted_blocks=(0, 3))


def test_settings_that_do_nothing_are_not_in_the_file():
    """An index or a vector file made before there was such a setting is still of this model."""
    assert "plain" not in StopConfig().to_dict()
    assert StopConfig.from_dict(StopConfig(plain=0.25).to_dict()).plain == 0.25
