"""Files that are copied: whatever they are called, and however long it takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from conftest import write_video
from stopcli.tasks.clips import save_clip
from stopcli.video import container
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.cut.proxy import write_proxy
from stopcli.video.workers.pool import read_facts


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", frames=75, fps=25).rename("2024-05-01T10:30:00.mp4")
    assert save_clip("2024-05-01T10:30:00.mp4", 1, 2, Path("10:30.mp4")).mode == "copy"
    assert read_facts("10:30.mp4").duration == pytest.approx(1, abs=0.1)
    write_chapters("2024-05-01T10:30:00.mp4", "11:30.mkv", [(0.0, 1.0, "a")])
    assert read_facts("11:30.mkv").duration > 2


def write_apart(path, pictures, sound):
    """Write four seconds of pictures, and of a tone, that begin at these seconds."""
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=10), out.add_stream("aac", rate=48000)
        video.width, video.height, video.pix_fmt, audio.layout = 64, 48, "yuv420p", "stereo"
        packets = []
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = i + 10 * pictures, Fraction(1, 10)
            packets += video.encode(frame)
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(187 * 1024) / 48000).astype(np.float32)
        for i in range(187):
            frame = av.AudioFrame.from_ndarray(
                np.stack([tone[1024 * i : 1024 * (i + 1)]] * 2), "fltp", "stereo"
            )
            frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
            frame.pts = 1024 * i + round(48000 * sound)
            packets += audio.encode(frame)
        packets += [*video.encode(), *audio.encode()]
        out.mux(sorted(packets, key=lambda p: (p.pts if p.dts is None else p.dts) * p.time_base))
    return path


def heard(path):
    """When the tone is heard first, and a picture seen (seconds)."""
    with av.open(str(path)) as film:
        loud = next(float(f.time) for f in film.decode(audio=0) if np.abs(f.to_ndarray()).max() > 0.05)
    with av.open(str(path)) as film:
        return loud, next(float(f.time) for f in film.decode(video=0))


@pytest.mark.parametrize("exact", [False, True], ids=["copy", "exact"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_sound_before_the_first_picture_stays(tmp_path, suffix, exact):
    film = write_apart(tmp_path / f"film.{suffix}", pictures=2, sound=0)
    save_clip(film, 0, 4, tmp_path / f"clip.{suffix}", exact=exact)
    loud, seen = heard(tmp_path / f"clip.{suffix}")
    assert loud == pytest.approx(0, abs=0.1)
    assert seen == pytest.approx(2, abs=0.1)


def test_a_proxy_plays_late_sound_late(tmp_path):
    film = write_apart(tmp_path / "film.mkv", pictures=0, sound=1.5)
    write_proxy(str(film), str(tmp_path / "proxy.mp4"), 0.0, 4.0, height=48, rate=10, sound=True)
    assert heard(tmp_path / "proxy.mp4")[0] == pytest.approx(1.5, abs=0.1)


def test_copying_says_that_it_goes_on(tmp_path, monkeypatch):
    """Who waits for it ends what says nothing for half a minute."""
    beats = []
    monkeypatch.setattr(container, "on_packet", lambda: beats.append(1))
    film = write_video(tmp_path / "a.mp4", frames=75, fps=25)
    write_chapters(str(film), str(tmp_path / "c.mkv"), [(0.0, 1.0, "a")])
    assert len(beats) > 10
