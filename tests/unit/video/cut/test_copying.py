"""Files that are copied: whatever they are called, and however long it takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from clock_films import number_in, numbers_in, write_clock
from conftest import write_video
from stopcli.errors import CannotWrite, UnreadableVideo
from stopcli.tasks.clips import save_clip
from stopcli.video import container
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.cut.proxy import write_proxy
from stopcli.video.reader import open_video
from stopcli.video.workers.pool import read_facts

TRIMMED = (".mp4", ".mov")  # FFmpeg counts the pictures before their start, and not that time


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


def in_order(path):
    """Return the numbers of a film's pictures as they are shown."""
    return [number for _, number in sorted(numbers_in(path))]


@pytest.mark.parametrize("exact", [False, True])
def test_pictures_that_a_file_does_not_time_come_in_order(tmp_path, exact):
    film = write_clock(tmp_path / "film.avi", "mpeg4", "libmp3lame", bf="2")
    saved = save_clip(film, 2.7, 4.5, tmp_path / "clip.mkv", exact=exact)
    assert saved.mode == "encoded"
    assert in_order(tmp_path / "clip.mkv")[:20] == list(range(67, 87))


def write_slides(path, sound):
    """Write four pictures that stay on the screen for twenty seconds each, and a tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width = video.height = 64
        audio = out.add_stream("aac", rate=48000) if sound else None
        packets = []
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 50 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = 500 * i - (i == 4), Fraction(1, 25)
            packets += video.encode(frame)
        for i in range(80 * 48000 // 1024 if sound else 0):
            frame = av.AudioFrame.from_ndarray(np.full((2, 1024), 0.1, np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 1024 * i, Fraction(1, 48000)
            packets += audio.encode(frame)
        packets += video.encode() + (audio.encode() if sound else [])
        out.mux(sorted(packets, key=lambda p: p.dts * p.time_base))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_a_picture_that_stays_long_begins_with_the_moment(tmp_path, suffix, sound, exact):
    slides, clip = write_slides(tmp_path / "slides.mp4", sound), tmp_path / f"clip{suffix}"
    saved = save_clip(slides, 35, 38, clip, exact=exact)
    assert (saved.start, saved.duration) == pytest.approx((35, 3))
    hidden = 0 if exact or suffix == ".mp4" else saved.lead
    if sound or suffix == ".mp4":  # Matroska does not say how long the last picture stays
        assert read_facts(clip).duration == pytest.approx(3 + hidden, abs=0.1)
    with open_video(clip) as film:
        (_, pixels), *_ = film.frames_at([hidden + 1.0], 32)
        assert abs(int(pixels.mean()) - 50) < 6


@pytest.mark.parametrize("profile", [0, 2, 4])
def test_a_copy_is_known_by_the_name_of_its_codec(tmp_path, profile):
    pixels = "yuva444p10le" if profile == 4 else "yuv422p10le"
    film = write_video(
        tmp_path / "film.mov", codec="prores_ks", pix_fmt=pixels, options={"profile": str(profile)}
    )
    for exact in (False, True):
        clip = tmp_path / f"clip-{exact}.mov"
        save_clip(film, 0.5, 1.0, clip, exact=exact)
        with av.open(str(film)) as ours, av.open(str(clip)) as theirs:
            a, b = ours.streams.video[0].codec_context, theirs.streams.video[0].codec_context
            assert exact or a.codec_tag == b.codec_tag
            assert a.pix_fmt == b.pix_fmt


def test_lost_transparency_is_said(tmp_path):
    film = write_video(tmp_path / "film.mov", codec="qtrle", pix_fmt="argb", options={"g": "15"})
    saved = save_clip(film, 0.5, 1.0, tmp_path / "clip.mov", exact=True)
    assert saved.left_out == ("transparency",)


def test_sound_of_an_unknown_codec_is_left_out(tmp_path):
    film = write_clock(tmp_path / "film.mp4", seconds=3)
    film.write_bytes(film.read_bytes().replace(b"mp4a", b"apac").replace(b"esds", b"free"))
    assert read_facts(film).sound is False
    saved = save_clip(film, 0.5, 1.5, tmp_path / "clip.mp4")
    assert saved.left_out == ("audio stream 1",)
    assert write_chapters(str(film), str(tmp_path / "chapters.mp4"), [(0.0, 1.0, "a")]) == ["audio stream 1"]


def test_a_film_with_chapters_takes_others(tmp_path):
    film = write_clock(tmp_path / "film.mp4", seconds=3)
    write_chapters(str(film), str(tmp_path / "once.mp4"), [(0.0, 1.0, "a")])
    write_chapters(str(tmp_path / "once.mp4"), str(tmp_path / "twice.mp4"), [(1.0, 2.0, "b")])
    with av.open(str(tmp_path / "twice.mp4")) as made:
        assert [c["metadata"].get("title") for c in made.chapters() if c["metadata"].get("title")] == ["b"]
        assert len(made.streams.audio) == 1


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_encoders_that_count_pictures_keep_odd_times(tmp_path, codec):
    regular = write_clock(tmp_path / "regular.mkv", codec, None, seconds=4)
    with av.open(str(regular)) as source, av.open(str(tmp_path / "odd.mkv"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts = packet.dts = packet.pts + 13 * (i % 3)  # milliseconds
            packet.stream = stream
            out.mux(packet)
    save_clip(tmp_path / "odd.mkv", 1.0, 3.0, tmp_path / "clip.mkv", exact=True)
    ours, theirs = numbers_in(tmp_path / "odd.mkv"), numbers_in(tmp_path / "clip.mkv")
    first = next(time for time, number in ours if number == theirs[0][1])
    wanted = [(round(t - first, 3), n) for t, n in ours if theirs[0][1] <= n <= theirs[-1][1]]
    assert [(round(t, 3), n) for t, n in theirs] == wanted


@pytest.mark.parametrize(
    ("name", "video", "audio", "suffix", "codecs"),
    [
        ("film.webm", "libvpx-vp9", "libopus", ".mov", ("h264", "aac")),
        ("film.mkv", "libx264", "flac", ".ts", ("h264", "aac")),
        ("film.mkv", "libx264", "pcm_s16le", ".ts", ("h264", "aac")),
        ("film.mkv", "libx265", "aac", ".mp4", ("hevc", "aac")),
        ("film.mkv", "libx264", "aac", ".avi", ("h264", "aac")),
        ("film.asf", "wmv2", "wmav2", ".mkv", ("h264", "flac")),
        ("film.avi", "ffvhuff", "mp3", ".mkv", ("h264", "mp3float")),
    ],
)
def test_what_another_format_does_not_hold_is_encoded(tmp_path, name, video, audio, suffix, codecs):
    film = write_clock(tmp_path / name, video, audio, seconds=3)
    save_clip(film, 1.0, 2.0, tmp_path / f"clip{suffix}")
    with av.open(str(tmp_path / f"clip{suffix}")) as made:
        assert (made.streams.video[0].codec_context.name, made.streams.audio[0].codec_context.name) == codecs
        assert made.streams.video[0].average_rate == 25 or suffix in TRIMMED
        if codecs[0] == "hevc":
            assert made.streams.video[0].codec_context.codec_tag == "hvc1"
    assert len(numbers_in(tmp_path / f"clip{suffix}")) >= 25


@pytest.mark.parametrize("free", [0, 1000])
def test_a_full_disk_is_no_fault_of_the_video(tmp_path, monkeypatch, free):
    film = write_clock(tmp_path / "film.mp4", seconds=2)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    def fail(*_, **__):
        raise UnreadableVideo("cannot be written")

    monkeypatch.setattr("stopcli.tasks.clips.write_moment", fail)
    with pytest.raises(CannotWrite, match="the disk is full"):
        save_clip(film, 0.5, 1.0, tmp_path / "clip.mp4")


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(("rate", "size", "depth"), [(25, (720, 576), "yuv420p"),
                                                     (Fraction(30000, 1001), (720, 480), "yuv411p")])  # fmt: skip
def test_tapes_keep_their_rate(tmp_path, suffix, rate, size, depth):
    """FFmpeg gives the average rate of a raw DV file as that of its clock, 60,000."""
    film = write_video(
        tmp_path / "tape.dv",
        frames=50,
        fps=rate,
        codec="dvvideo",
        pix_fmt=depth,
        size=size,
        options={"-": ""},
    )
    with open_video(film) as tape:
        assert tape.rate == pytest.approx(float(rate))
    clip = save_clip(film, 0.4, 1.2, tmp_path / f"clip{suffix}")
    with open_video(tmp_path / f"clip{suffix}") as made:
        assert made.rate == pytest.approx(float(rate))
        assert made.duration == pytest.approx(clip.duration, abs=0.05)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("exact", [False, True])
def test_a_raw_stream_is_cut_by_counting_its_pictures(tmp_path, codec, exact):
    kind = {"libx264": "h264", "libx265": "hevc"}[codec]
    film = write_clock(tmp_path / f"cctv.{kind}", codec, None, seconds=4, format=kind)
    save_clip(film, 1.0, 2.0, tmp_path / "clip.mkv", exact=exact)
    assert [n for _, n in numbers_in(tmp_path / "clip.mkv")] == list(range(25, 50))


def test_the_copy_of_a_raw_stream_begins_with_a_key_frame_that_is_near(tmp_path):
    film = write_clock(tmp_path / "cctv.h264", "libx264", None, seconds=8, bf="0", rate=30, format="h264")
    data = film.read_bytes()
    start = data.index(b"\0\0\1\x41")  # a camera dump: it begins with pictures that lean on others
    film.write_bytes(data[start:])
    with open_video(film) as video:
        assert video.rate == 30
        shown = [number_in(p) for _, p in video.frames_at([4.0, 4.5], 128)]
    clip = save_clip(film, 4.0, 5.0, tmp_path / "clip.mkv")
    assert (clip.mode, clip.lead < 1) == ("copy", True)
    numbers, first = [n for _, n in numbers_in(tmp_path / "clip.mkv")], round(clip.lead * 30)
    assert [numbers[first], numbers[first + 15]] == shown


def test_a_film_with_dropped_pictures_is_saved_as_avi(tmp_path):
    film = tmp_path / "phone.mp4"
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        for i in range(120):
            if i % 20 != 7:  # dropped
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * i, np.uint8), "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 30)
                out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for exact in (False, True):
        save_clip(film, 1.0, 3.0, tmp_path / f"{exact}.avi", exact=exact)
        assert read_facts(tmp_path / f"{exact}.avi").duration == pytest.approx(2, abs=1.1)


def test_the_clip_of_a_film_in_avi_counts_as_the_film_does(tmp_path):
    film = write_clock(tmp_path / "film.mp4", "mpeg4", None, seconds=3)
    assert save_clip(film, 1.0, 2.0, tmp_path / "clip.avi").mode == "copy"
    with av.open(str(tmp_path / "clip.avi")) as made:
        assert made.streams.video[0].average_rate == 25
