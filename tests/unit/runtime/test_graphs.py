"""Recordings of CUDA graphs: when they are made, and that they compute what the model does."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig
from stopcli.runtime import graphs
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.graphs import MOST, Recorded, one_by_one
from stopcli.runtime.profile import count_flops


class Model:
    """Stands for a model; says what was computed."""

    def __init__(self) -> None:
        self.config, self.training, self.computed = StopConfig(), False, []

    def encode_video(self, pixels):
        self.computed.append(tuple(pixels.shape))
        return pixels.sum((1, 2))


@pytest.fixture
def recorded(monkeypatch):
    """A model that says so when it is recorded."""
    made = []

    def record(model, pixels, *, trains):
        made.append((*pixels.shape, trains))
        return lambda x: x.sum((1, 2))

    monkeypatch.setattr(graphs, "_record", record)
    return Recorded(Model()), made


def test_a_shape_is_recorded_when_it_comes_for_the_second_time(recorded):
    play, made = recorded
    x = torch.ones(2, 3, 4)
    with torch.inference_mode():
        assert all(torch.equal(play(x), x.sum((1, 2))) for _ in range(4))
        play(x[:1])
    assert play._model.computed == [(2, 3, 4), (1, 3, 4)]
    assert made == [(2, 3, 4, False)]


def test_what_changes_the_computation_is_recorded_of_its_own(recorded):
    play, made = recorded
    x = torch.ones(2, 3, 4)
    for _ in range(3):
        play(x)
    play._model.config = replace(play._model.config, plain=0.5)
    for _ in range(3):
        play(x)
    play._model.training = True
    for _ in range(3):
        play(x)
    with torch.inference_mode():  # what is made here cannot be changed elsewhere
        for _ in range(3):
            play(x)
    assert made == [(2, 3, 4, False), (2, 3, 4, False), (2, 3, 4, True), (2, 3, 4, False)]


def test_few_recordings_are_kept(recorded):
    play, _ = recorded
    for n in range(1, 9):
        for _ in range(2):
            play(torch.ones(n, 1, 1))
    assert len(play._plays) == MOST


def test_what_a_training_plays_again_and_again_is_recorded_once(recorded):
    """Its batches and those of its validation, and the last and smaller one of both."""
    play, made = recorded
    for n in (1, 2, 3):  # met, and not needed any more
        for _ in range(2):
            play(torch.ones(n, 9, 9))
    before = len(made)
    for _ in range(5):
        for n in (16, 16, 16, 4, 32, 32, 18):
            play(torch.ones(n, 1, 1))
    assert len(made) - before == 4


def test_nothing_is_played_where_operations_are_counted(recorded):
    play, made = recorded
    with one_by_one():
        for _ in range(4):
            play(torch.ones(2, 3, 4))
    assert len(play._model.computed) == 4
    assert made == []


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        if os.environ.get("STOPCLI_REQUIRE_GPU") == "1":
            pytest.fail("STOPCLI_REQUIRE_GPU=1, but there is no CUDA device")
        pytest.skip("no CUDA device")
    return torch.device("cuda")


def frames(encoder: Encoder, count: int, seed: int) -> np.ndarray:
    """Clips in which a square crosses a pattern under a camera that pans: there is motion to be found."""
    side, rng = encoder.framing.size, np.random.default_rng(seed)
    out = np.empty((count, encoder.frames, side, side, 3), np.uint8)
    for clip in out:
        ground = np.kron(rng.integers(256, size=(12, 12, 3)), np.ones((side // 6, side // 6, 1)))
        step, (x, y) = rng.integers(1, 4), rng.integers(side // 2, size=2)
        for i, frame in enumerate(clip):
            frame[:] = ground[: 2 * side, step * i : step * i + side][:side]
            frame[y : y + side // 4, x + 3 * i : x + 3 * i + side // 4] = rng.integers(256, size=3)
    return out


def is_recorded(encoder: Encoder) -> bool:
    plays = encoder._encode._plays.values()
    return bool(plays) and all(play != encoder.model.encode_video for play in plays)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["toy", "plain"])
def test_a_recording_computes_what_the_model_does(cuda, kind, precision, request):
    files = resolve(str(request.getfixturevalue(kind)))
    encoder = Encoder(files, EncoderOptions(device="cuda", precision=precision, batch_size=4))
    for seed in range(4):
        pixels = frames(encoder, 10, seed)
        with one_by_one():
            expected = encoder.encode_pixels(pixels)
        np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, atol=1e-5)
    assert is_recorded(encoder)
    if kind == "toy":
        before = encoder.encode_pixels(pixels)
        with torch.no_grad():
            for p in encoder.model.prompts.parameters():
                p.add_(0.1)
        after = encoder.encode_pixels(pixels)  # weights that are changed in place count
        assert np.abs(after - before).max() > 1e-4
        with one_by_one():
            np.testing.assert_allclose(after, encoder.encode_pixels(pixels), atol=1e-5)
    assert count_flops(encoder, pixels[:4]) > 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_of_a_recording_are_those_of_the_model(cuda, toy, precision):
    encoder = Encoder(
        resolve(str(toy)), EncoderOptions(device="cuda", precision=precision, batch_size=4), trainable=True
    )
    encoder.model.train(True)
    parameters = list(encoder.model.prompts.parameters())

    def gradients(seed: int) -> list[torch.Tensor]:
        for p in parameters:
            p.grad = None
        for piece in range(2):  # two pieces add up
            torch.manual_seed(seed)  # of the dropout
            pixels = frames(encoder, 4, 10 * seed + piece)
            vectors = encoder.forward(pixels)
            (vectors * torch.linspace(-1, 1, vectors.shape[1], device=cuda)).sum().backward()
        return [p.grad for p in parameters]

    gradients(0)  # the second time that a shape comes it is recorded
    for seed in range(3):
        found = gradients(seed)
        with one_by_one():
            expected = gradients(seed)
        for a, b in zip(found, expected, strict=True):
            scale = float(b.abs().max()) + 1e-6
            assert float((a - b).abs().max()) < (0.02 if precision == "bf16" else 1e-3) * scale
    assert is_recorded(encoder)
