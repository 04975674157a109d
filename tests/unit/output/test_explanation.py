"""The picture and the film of an explanation show what the trace says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from conftest import write_model, write_video
from stopcli.errors import CannotWrite
from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig
from stopcli.output.explanation import film, heat, picture, shown_labels
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


def explained(folder, config, clip):
    encoder = Encoder(resolve(str(write_model(folder, stop=config))), EncoderOptions("cpu", "fp32"))
    return explain(encoder, clip, block=1, labels=["a cat for $5 and $6", "a dog"])


def close_to(png, color):
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - color).max(-1) < 12).sum())


def test_an_explanation_tells_what_the_trace_tells(explanation):
    assert explanation.frames.shape[0] == 4 == len(explanation.times)
    assert (explanation.regions.sum((1, 2)) == 4).all()
    lowest = np.where(explanation.regions, explanation.scores, np.inf).min((1, 2))
    highest = np.where(explanation.regions, -np.inf, explanation.scores).max((1, 2))
    assert (lowest >= highest).all()
    assert explanation.counts.tolist() == np.ceil(explanation.variation * 2).astype(int).tolist()
    assert explanation.counts.any()
    assert explanation.shares.shape == (len(explanation.spans), 2)
    assert explanation.shares.sum(1) == pytest.approx(1, abs=1e-5)
    assert explanation.spans[0, 0] == 0


def test_the_picture_outlines_regions_and_stacks_prompts(explanation):
    png = picture(explanation)
    assert close_to(png, (250, 204, 21)) > 100  # regions are outlined
    assert close_to(png, (37, 99, 235)) > 100  # prompts are bars


@pytest.mark.parametrize("missing", ["spatial", "temporal"])
def test_models_with_one_kind_of_prompts_are_drawn_without_the_other(tmp_path, clip, missing):
    config = StopConfig(regions=0.25, eta=2, hidden=16, **{missing: "off"})
    explanation = explained(tmp_path / "m", config, clip)
    assert (len(explanation.regions) > 0) == (missing == "temporal")
    assert explanation.counts.any() == (missing == "spatial")
    assert (close_to(picture(explanation), (250, 204, 21)) > 100) == (missing == "temporal")


def test_scores_are_brighter_where_they_are_higher(explanation):
    bright = heat(explanation, 0).astype(int).sum(-1) - 0.4 * 3 * explanation.frames[0].mean(-1)
    cells = bright.reshape(4, 16, 4, 16).mean((1, 3))  # 4 by 4 patches of 16 pixels
    assert np.argmax(cells) == np.argmax(explanation.scores[0])
    assert np.argmin(cells) == np.argmin(explanation.scores[0])


def test_the_labels_with_the_highest_scores_are_shown(explanation):
    order = shown_labels(explanation)
    highest = np.maximum(explanation.shares.max(0), explanation.whole)[order]
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
