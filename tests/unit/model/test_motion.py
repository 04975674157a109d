"""What moves is found, whatever the camera does."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from stopcli.model.motion import Motion, find_motion, follow_camera, unit

SIDE, GRID, FRAMES = 96, (6, 6), 8


def scene(seed=0, side=3 * SIDE):
    """A picture with detail of every size, (3,side,side)."""
    g = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(1, 3, n, n, generator=g), (side, side), mode="bicubic") for n in (6, 18, 48)
    ]
    return torch.cat(layers).mean(0)


def film(*, pan=(0.0, 0.0), zoom=0.0, turn=0.0, shake=0.0, mover=True, seed=0):
    """A square crosses a scene under a moving camera: frames (1,T,3,S,S) and its places in them (T,2), x y.

    ``pan`` and ``shake`` in shares of the frame, ``zoom`` in logarithms, ``turn`` in degrees, over the clip.
    """
    g = torch.Generator().manual_seed(seed)
    frames, places = [], []
    for i in range(FRAMES):
        s = i / (FRAMES - 1) - 0.5
        picture = scene(seed)
        x, y = 144 + 24 + 24 * s, 144 - 20 + 30 * s
        if mover:
            picture[:, round(y) - 8 : round(y) + 8, round(x) - 8 : round(x) + 8] = torch.tensor([3.0, -2, 1])[
                :, None, None
            ]
        jitter = shake * torch.randn(2, generator=g)
        z, a = math.exp(-zoom * s) / 3, math.radians(turn * s)
        shift = torch.tensor(pan) * s + jitter
        view = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) * z
        offset = shift * 2 / 3
        grid = F.affine_grid(
            torch.cat([view, offset[:, None]], 1)[None], [1, 3, SIDE, SIDE], align_corners=False
        )
        frames.append(F.grid_sample(picture[None], grid, align_corners=False)[0])
        point = torch.linalg.solve(view, torch.tensor([x, y]) / 144 - 1 - offset)
        places.append((point + 1) * SIDE / 2)
    return torch.stack(frames)[None], torch.stack(places)


def tokens_of(pictures):
    """Patches of 16 x 16 pixels as they are: (N,P,768)."""
    return F.unfold(pictures, 16, stride=16).transpose(1, 2)


def hits(motion: Motion, places) -> float:
    """Share of the four best patches of each frame that lie within 1.25 patches of the square."""
    best = motion.energy[0].topk(4).indices
    centres = torch.stack([best % 6, best // 6], -1) * 16 + 8.0
    return float(((centres - places[:, None]).abs().amax(-1) < 20).float().mean())


CAMERAS = {
    "still": {},
    "pan": {"pan": (0.25, 0.1)},
    "wide pan": {"pan": (-0.2, 0.6)},
    "zoom": {"zoom": 0.3},
    "turn": {"turn": 12},
    "shake": {"shake": 0.02},
    "all": {"pan": (0.15, -0.1), "zoom": -0.15, "turn": -6, "shake": 0.01},
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_mover_is_found_under_a_moving_camera(camera):
    pixels, places = film(**CAMERAS[camera])
    motion = find_motion(pixels, GRID, tokens_of)
    assert motion.energy.shape == (1, FRAMES, 36)
    assert motion.certainty.min() > 0.8
    assert hits(motion, places) >= 0.8


@pytest.mark.parametrize("camera", ["pan", "turn", "all"])
def test_a_moving_camera_alone_is_little_motion(camera):
    moved, _ = film(**CAMERAS[camera])
    alone, _ = film(**CAMERAS[camera], mover=False)
    with_square, without = (find_motion(x, GRID, tokens_of).energy.amax() for x in (moved, alone))
    assert without < with_square / 3


def test_views_say_where_a_point_went():
    pixels, _ = film(pan=(0.25, 0.0), mover=False)
    views, doubt = follow_camera(F.interpolate(pixels.mean(2), (64, 64), mode="area"))
    assert views[0, 0] == pytest.approx(torch.eye(2, 3), abs=1e-6)
    # the camera went right by a quarter of the frame, so things went left by half a unit
    assert views[0, -1, :, 2] == pytest.approx(torch.tensor([-0.5, 0.0]), abs=0.03)
    assert doubt.max() < 0.25


def test_a_still_clip_has_no_motion():
    pixels = film()[0][:, :1].expand(-1, 5, -1, -1, -1)
    motion = find_motion(pixels, GRID, tokens_of)
    assert motion.energy.abs().max() < 1e-6
    assert (motion.certainty == 1).all()
    assert motion.strength().abs().max() < 1e-5


def test_a_cut_is_no_motion():
    first, places = film()
    second, more = film(pan=(0.2, 0.0), seed=5)
    motion = find_motion(torch.cat([first, second], 1), GRID, tokens_of)
    assert motion.shots[0].tolist() == [0] * FRAMES + [FRAMES] * FRAMES
    assert hits(motion, torch.cat([places, more])) >= 0.8


def test_noise_cannot_be_followed():
    pixels = torch.randn(1, 6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert find_motion(pixels, GRID, tokens_of).certainty.max() == 0


def test_one_frame_has_no_motion_and_no_certainty():
    motion = find_motion(film()[0][:, :1], GRID, tokens_of)
    assert motion.energy.abs().max() == 0
    assert motion.certainty.max() == 0


@pytest.mark.parametrize("value", [0.0, -1.7])
def test_flat_pictures_do_no_harm(value):
    motion = find_motion(torch.full((2, 4, 3, SIDE, SIDE), value), GRID, tokens_of)
    assert torch.isfinite(motion.energy).all()
    assert motion.energy.abs().max() < 1e-5


def test_clips_do_not_depend_on_their_batch_mates():
    clips = torch.cat([film(**CAMERAS[c])[0] for c in ("all", "still", "zoom")])
    together = find_motion(clips, GRID, tokens_of).energy
    alone = torch.cat([find_motion(c[None], GRID, tokens_of).energy for c in clips])
    assert (together - alone).abs().max() < 1e-4


def test_a_faint_range_is_not_stretched():
    x = torch.tensor([[0.0, 0.05, 0.1], [1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    assert unit(x, 0.2) == pytest.approx(torch.tensor([[0, 0.25, 0.5], [0, 0.5, 1], [0, 0, 0]]))
