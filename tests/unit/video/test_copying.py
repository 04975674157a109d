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
from stopcli.video.reader import open_video
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


def turn(path):
    """Write a quarter turn into the track header of a MOV file, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one, none, corner = 1 << 16, 0, 1 << 30
    values = (none, one, none, -one, none, none, none, none, corner)
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    path.write_bytes(bytes(data))


@pytest.fixture
def turned(tmp_path):
    """A film as phones write it: stored on its side, here of pixels wider than high, and of named colors."""
    colors = "colorprim=bt709:transfer=bt709:colormatrix=bt709"
    film = write_video(tmp_path / "film.mp4", options={"g": "15", "x264-params": colors})
    path = tmp_path / "turned.mov"
    with av.open(str(film)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    turn(path)
    return path


@pytest.mark.parametrize("exact", [False, True])
def test_rotation_aspect_and_colors_stay(turned, tmp_path, exact):
    save_clip(turned, 0.7, 1.6, tmp_path / "clip.mov", exact=exact)
    with av.open(str(tmp_path / "clip.mov")) as clip, av.open(str(turned)) as whole:
        a, b = clip.streams.video[0], whole.streams.video[0]
        assert next(whole.decode(video=0)).rotation == -90
        assert next(clip.decode(video=0)).rotation == -90
        assert a.sample_aspect_ratio == b.sample_aspect_ratio == Fraction(4, 3)
        for field in ("color_primaries", "color_trc", "colorspace", "width", "height"):
            assert getattr(a.codec_context, field) == getattr(b.codec_context, field), field


@pytest.mark.parametrize("suffix", [".webm", ".avi", ".ts"])
@pytest.mark.parametrize("exact", [False, True])
def test_turned_pictures_are_upright_in_a_format_that_cannot_say_so(turned, tmp_path, suffix, exact):
    clip = tmp_path / f"clip{suffix}"
    assert save_clip(turned, 0.7, 1.6, clip, exact=exact).mode == "encoded"
    times = np.array([0.05, 0.4, 0.8])
    with open_video(turned) as whole, open_video(clip) as part:
        wanted = [p.astype(float) for _, p in whole.frames_at(times + 0.7, 96, whole=True)]
        got = [p.astype(float) for _, p in part.frames_at(times, 96, whole=True)]
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == (171, 96, 3)  # 128 of its pixels are as wide as 170.7 that are square
        assert b.shape == (170, 96, 3)  # H.264 halves the sides of its colors
        assert np.abs(a[:170] - b).mean() < 8
