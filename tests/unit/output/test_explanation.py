"""The picture and the film of an explanation show what the trace says."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from conftest import write_model, write_video
from stopcli.errors import CannotWrite
from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig
from stopcli.output.explanation import film, heat, picture, shown_labels, title_of
from stopcli.output.tables import to_dict
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.tasks.explain import explain
from stopcli.video.reader import open_video

BOTH = StopConfig(regions=0.25, eta=2, hidden=16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    # matplotlib would take what stands between the two signs for a formula
    return write_video(tmp_path_factory.mktemp("clip") / r"$\frac$.mp4", frames=60, fps=10)


@pytest.fixture(scope="module")
def explanation(tmp_path_factory, clip):
    return explained(tmp_path_factory.mktemp("m") / "toy", BOTH, clip)


def explained(folder, config, clip, *, focus=0.0, **how):
    files = replace(resolve(str(write_model(folder, stop=config))), focus=focus)
    encoder = Encoder(files, EncoderOptions("cpu", "fp32"))
    return explain(encoder, clip, block=1, labels=["a cat for $5 and $6", "a dog"], **how)


def close_to(png, color):
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - color).max(-1) < 12).sum())


def test_an_explanation_tells_what_the_trace_tells(explanation):
    assert explanation.frames.shape[0] == 4 == len(explanation.times)
    assert (explanation.shown.regions.sum((1, 2)) == 4).all()
    lowest = np.where(explanation.shown.regions, explanation.shown.scores, np.inf).min((1, 2))
    highest = np.where(explanation.shown.regions, -np.inf, explanation.shown.scores).max((1, 2))
    assert (lowest >= highest).all()
    assert explanation.shown.counts.tolist() == np.ceil(explanation.shown.variation * 2).astype(int).tolist()
    assert explanation.shown.counts.any()
    assert explanation.look.shares.shape == (len(explanation.spans), 2)
    assert explanation.look.shares.sum(1) == pytest.approx(1, abs=1e-5)
    assert explanation.spans[0, 0] == 0


def test_the_picture_outlines_regions_and_stacks_prompts(explanation):
    png = picture(explanation)
    assert close_to(png, (250, 204, 21)) > 100  # regions are outlined
    assert close_to(png, (37, 99, 235)) > 100  # prompts are bars


@pytest.mark.parametrize("missing", ["spatial", "temporal"])
def test_models_with_one_kind_of_prompts_are_drawn_without_the_other(tmp_path, clip, missing):
    config = StopConfig(regions=0.25, eta=2, hidden=16, **{missing: "off"})
    explanation = explained(tmp_path / "m", config, clip)
    assert (len(explanation.shown.regions) > 0) == (missing == "temporal")
    assert explanation.shown.counts.any() == (missing == "spatial")
    assert (close_to(picture(explanation), (250, 204, 21)) > 100) == (missing == "temporal")


def test_the_numbers_are_those_of_every_block(explanation):
    numbers = json.loads(json.dumps(to_dict(explanation)))
    assert [b["block"] for b in numbers["blocks"]] == [1, 2]
    first = numbers["blocks"][0]
    rows, columns = numbers["grid"]
    assert [len(frame) for frame in first["regions"]] == [4] * 4
    for frame, scores, bias in zip(first["regions"], first["scores"], first["bias"], strict=True):
        assert len(scores) == len(bias) == rows * columns
        assert min(scores[p] for p in frame) >= max(s for p, s in enumerate(scores) if p not in frame)
        assert bias[scores.index(max(scores))] == 0  # the frame's best keeps its attention
    assert first["counts"] == explanation.shown.counts.tolist()
    assert len(numbers["times"]) == len(numbers["energy"]) == len(numbers["certainty"]) == 4
    assert [sum(frame) for frame in numbers["look"]["attention"]] == pytest.approx([1] * 4, abs=0.01)
    assert numbers["plain"] is None


def test_a_comparison_shows_what_plain_clip_looks_at_beside_it(tmp_path, clip):
    both = explained(tmp_path / "m", BOTH, clip, compare=True)
    assert both.plain is not None
    assert both.plain.attention.shape == both.look.attention.shape
    assert np.abs(both.plain.attention - both.look.attention).max() > 1e-3
    assert both.plain.shares.shape == both.look.shares.shape
    alone = explained(tmp_path / "p", None, clip, focus=1e-9).look  # so little focus is none
    assert both.plain.attention == pytest.approx(alone.attention, abs=1e-6)
    taller = [Image.open(io.BytesIO(picture(e))).height for e in (replace(both, plain=None), both)]
    assert taller[1] > taller[0]


def test_focus_without_prompts_is_explained_too(tmp_path, clip):
    explanation = explained(tmp_path / "m", None, clip, focus=3.0)
    assert len(explanation.trace) == 1
    assert explanation.model.endswith(", focus 3")
    assert explanation.shown.scores.max() == pytest.approx(1)
    assert explanation.shown.bias.min() == pytest.approx(-3)
    assert not len(explanation.shown.regions) + len(explanation.shown.counts)
    assert picture(explanation).startswith(b"\x89PNG")


def test_frames_whose_camera_cannot_be_followed_are_told(explanation):
    doubtful = replace(explanation, certainty=np.array([1.0, 0.2, 0.0, 0.9], np.float32))
    assert "could not be followed in 2 of 4 frames" in title_of(doubtful)
    assert "followed" not in title_of(replace(doubtful, certainty=np.ones(4, np.float32)))


def test_scores_are_brighter_where_they_are_higher(explanation):
    bright = heat(explanation, 0).astype(int).sum(-1) - 0.4 * 3 * explanation.frames[0].mean(-1)
    cells = bright.reshape(4, 16, 4, 16).mean((1, 3))  # 4 by 4 patches of 16 pixels
    assert np.argmax(cells) == np.argmax(explanation.shown.scores[0])
    assert np.argmin(cells) == np.argmin(explanation.shown.scores[0])


def test_the_labels_with_the_highest_scores_are_shown(explanation):
    order = shown_labels(explanation)
    highest = np.maximum(explanation.look.shares.max(0), explanation.look.whole)[order]
    assert sorted(order) == [0, 1]
    assert (np.diff(highest) <= 0).all()


def test_a_film_walks_through_the_frames(explanation, tmp_path):
    film(explanation, tmp_path / "e.mp4")
    with open_video(tmp_path / "e.mp4") as video:
        assert video.duration == pytest.approx(4 * 0.8, abs=0.2)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["e.mp4"]


def test_a_film_that_cannot_be_written_is_one_clear_error(explanation, tmp_path):
    with pytest.raises(CannotWrite, match=r"nowhere.e\.mp4"):
        film(explanation, tmp_path / "nowhere" / "e.mp4")
