"""Speed is measured stage by stage, and the verdict is said."""

from __future__ import annotations

import pytest

from conftest import write_video
from stopcli.errors import InputError
from stopcli.eval.speed import speed
from stopcli.hub.registry import resolve
from stopcli.results import Failure
from stopcli.runtime.encoder import EncoderOptions


def test_speed_measures_every_stage_and_says_what_bounds_the_whole(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("stopcli.eval.speed.LEAST", 0.01)  # seconds of one timing: nothing is read off here
    monkeypatch.setattr("stopcli.eval.speed.ROUNDS", 1)
    monkeypatch.setattr("stopcli.eval.speed.WORSE", 1e9)  # any larger batch is worth a word
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    video = write_video(tmp_path / "clip.mp4", frames=8, fps=4)
    sentences = []
    options = EncoderOptions("cpu")
    measured = list(
        speed(
            resolve(str(toy)), options, [video], precisions=["fp32"], batch_sizes=[1, 2], say=sentences.append
        )
    )
    assert [(s.stage, s.model, s.batch_size) for s in measured[:6]] == [
        ("decode", "", 1),
        ("matrix product", "", 1),
        ("encode", "plain CLIP", 1),
        ("encode", "STOP", 1),
        ("encode", "plain CLIP", 2),
        ("encode", "STOP", 2),
    ]
    assert [s.stage for s in measured[6:]] == ["end to end"]
    assert all(s.per_second > 0 and s.spread >= 0 for s in measured)
    assert all(s.over_plain > 0 for s in measured if s.model == "STOP")
    product = measured[1]
    assert product.unit == "products 1536x1536"
    assert product.tflops * 1e12 == pytest.approx(2 * 1536**3 * product.per_second)
    busy, batch, verdict = sentences
    assert busy.startswith("warning: other programs are busy here (load 99.0 on ")
    assert batch.startswith("note: in batches of 2, a clip takes ")
    assert verdict.startswith("fp32: b")
    assert "clips/s" in verdict


def test_files_that_cannot_be_read_are_not_measured(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("stopcli.eval.speed.LEAST", 0.01)
    monkeypatch.setattr("stopcli.eval.speed.ROUNDS", 1)
    video = write_video(tmp_path / "clip.mp4", frames=8, fps=4)
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 99)
    what = resolve(str(toy)), EncoderOptions("cpu")
    how = {"precisions": ["fp32"], "batch_sizes": [1], "say": lambda _: None}
    failure, decode, *_ = speed(*what, [tmp_path / "broken.mp4", video], **how)
    assert isinstance(failure, Failure)
    assert (decode.stage, decode.batch_size) == ("decode", 1)
    with pytest.raises(InputError, match="none of the videos can be read"):
        list(speed(*what, [tmp_path / "broken.mp4"], **how))
