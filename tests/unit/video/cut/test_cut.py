"""Moments as files: the right pictures, the sound beside them, whatever the container and the codec."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from clock_films import copy_with_timecode, lag_of_sound, number_in, numbers_in, write_clock
from conftest import write_video
from stopcli.errors import FileExists, UnreadableVideo, UsageError
from stopcli.results import Failure, Hit
from stopcli.tasks.clips import clip_name, notes_on, save_clip, save_hits
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.cut.streams import MUXERS, TRIMS
from stopcli.video.reader import open_video
from stopcli.video.workers.pool import read_facts

KINDS = [
    ("mp4", "libx264", "aac"), ("mp4", "libx265", "aac"), ("mp4", "mpeg4", "libmp3lame"), ("mp4", "libsvtav1", "aac"),
    ("mov", "libx264", "aac"), ("mov", "prores_ks", "pcm_s16le"), ("mov", "mjpeg", "pcm_s16le"),
    ("mkv", "libx264", "libopus"), ("mkv", "libx265", "aac"), ("mkv", "mpeg2video", "mp2"), ("mkv", "ffv1", "flac"),
    ("webm", "libvpx", "libopus"), ("webm", "libvpx-vp9", "libopus"),
    ("ts", "libx264", "aac"), ("ts", "libx265", "aac"), ("ts", "mpeg2video", "mp2"),
    ("avi", "mjpeg", "pcm_s16le"),
]  # fmt: skip
START, END = 2.7, 4.53  # picture 67 is on screen at 2.7 s, 113 is the last before 4.53 s
ALL = {f"{c}.{s}": (s, c, a) for s, c, a in KINDS}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clocks")

    def film(name):
        suffix, video, audio = ALL[name]
        path = folder / f"{video}.{suffix}"
        return path if path.exists() else write_clock(path, video, audio)

    return film


@pytest.mark.parametrize("exact", [False, True], ids=["copy", "exact"])
@pytest.mark.parametrize("name", list(ALL))
def test_a_clip_shows_the_moment_with_its_sound(films, tmp_path, name, exact):
    suffix, video, _ = ALL[name]
    film = films(name)
    clip = save_clip(film, START, END, tmp_path / f"clip.{suffix}", exact=exact)
    shown = numbers_in(tmp_path / f"clip.{suffix}")
    numbers = [number for _, number in shown]
    keys_only = video in ("prores_ks", "mjpeg")
    first = 67 if exact or MUXERS[f".{suffix}"] in TRIMS or keys_only else 48
    late = 2 if video in ("libx264", "libx265") and not exact else 0  # pictures that those before need
    assert numbers[: 114 - first] == list(range(first, 114))
    assert len(numbers) - (114 - first) <= late
    times = [time for time, number in shown if number < 114]
    assert np.diff(times) == pytest.approx(0.04, abs=2e-3)
    lags, before = lag_of_sound(tmp_path / f"clip.{suffix}"), np.median(lag_of_sound(film))
    assert len(lags) == len([n for n in numbers if n % 25 == 0])
    assert np.abs(np.array(lags) - before).max() < 0.02
    assert clip.start == pytest.approx(2.68, abs=1e-3)
    assert clip.duration == pytest.approx(4.53 - 2.68, abs=0.03)
    assert clip.lead == (0 if exact or keys_only else pytest.approx(0.76, abs=1e-3))
    joined = video == "libx264"
    assert clip.mode == ("copy" if not exact else "joined" if joined else "encoded")


def test_copied_pictures_are_the_same_bits(films, tmp_path):
    """Nothing is encoded again: packets are those of the film, and so are most of a joined moment."""

    def packets(path):
        with av.open(str(path)) as film:
            return [bytes(p) for p in film.demux(video=0) if p.size]

    film = films("libx264.mp4")
    save_clip(film, START, END, tmp_path / "a.mp4")
    assert set(packets(tmp_path / "a.mp4")) <= set(packets(film))
    save_clip(film, START, END, tmp_path / "b.mp4", exact=True)
    kept = set(packets(tmp_path / "b.mp4")) & set(packets(film))
    assert len(kept) == 24  # between the key frames 72 and 96


def test_exact_leaves_nothing_before_the_moment_in_the_file(films, tmp_path):
    save_clip(films("libx264.mp4"), START, END, tmp_path / "copy.mp4")
    save_clip(films("libx264.mp4"), START, END, tmp_path / "exact.mp4", exact=True)

    def all_pictures(path):
        with av.open(str(path), options={"ignore_editlist": "1"}) as film:
            return [number_in(f.to_ndarray(format="rgb24")) for f in film.decode(video=0)]

    assert min(all_pictures(tmp_path / "copy.mp4")) == 48
    assert min(all_pictures(tmp_path / "exact.mp4")) == 67


def test_all_streams_are_kept(films, tmp_path):
    film = tmp_path / "two.mkv"
    with av.open(str(films("libx264.mkv"))) as source, av.open(str(film), "w") as out:
        streams = [
            out.add_stream_from_template(s, opaque=True) for s in (*source.streams, source.streams.audio[0])
        ]
        for language, stream in zip(("", "deu", "fra"), streams, strict=True):
            stream.metadata["language"] = language
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                copy = bytes(packet)
                times = packet.pts, packet.dts, packet.time_base
                out.mux(packet)
                if packet.stream_index == 1:
                    again = av.Packet(copy)
                    again.pts, again.dts, again.time_base = times
                    again.stream = streams[2]
                    out.mux(again)
    clip = save_clip(film, START, END, tmp_path / "clip.mkv")
    assert clip.left_out == ()
    with av.open(str(tmp_path / "clip.mkv")) as made:
        assert [s.type for s in made.streams][:3] == ["video", "audio", "audio"]
        assert [s.metadata.get("language") for s in made.streams.audio] == ["deu", "fra"]


def test_open_groups_of_pictures_lose_no_picture(tmp_path):
    """Pictures that lean on the group before a key frame are not copied behind a joint."""
    film = write_clock(
        tmp_path / "open.mp4",
        audio=None,
        seconds=5,
        **{"x264-params": "open-gop=1:bframes=2:keyint=24:min-keyint=24:scenecut=0", "preset": "medium"},
    )
    save_clip(film, 1.2, 3.5, tmp_path / "clip.mp4", exact=True)
    assert [n for _, n in numbers_in(tmp_path / "clip.mp4")] == list(range(30, 88))


def test_a_format_that_cannot_hold_the_codec_gets_it_encoded(tmp_path):
    film = write_clock(tmp_path / "film.mkv", "ffv1", None, seconds=2)
    clip = save_clip(film, 0.5, 1.5, tmp_path / "clip.webm")
    assert clip.mode == "encoded"
    assert [n for _, n in numbers_in(tmp_path / "clip.webm")] == list(range(12, 38))


def test_reordered_pictures_are_not_late_in_a_format_without_times(films, tmp_path):
    film, clip = films("libx264.mp4"), tmp_path / "clip.avi"
    assert save_clip(film, START, END, clip).mode == "encoded"
    times, numbers = zip(*numbers_in(clip), strict=True)
    assert numbers == tuple(range(67, 114))
    assert np.diff(times[:-1]) == pytest.approx(0.04, abs=1e-3)  # FFmpeg guesses when the last one is shown
    assert np.abs(lag_of_sound(clip)).max() < 0.05  # FFmpeg counts H.264 in AVI one picture late


@pytest.mark.parametrize(("audio", "suffix", "codec"), [("wmav2", "mkv", "flac"), ("aac", "webm", "opus")])
def test_sound_that_a_format_cannot_hold_is_encoded_again(tmp_path, audio, suffix, codec):
    """Old WMV files are saved as MKV, which the library gives no WMA."""
    old = audio == "wmav2"
    name, video = ("film.asf", "mpeg4") if old else ("film.mp4", "libx264")
    film = write_clock(tmp_path / name, video, audio, seconds=4)
    clip = save_clip(film, 1.7, 3.5, tmp_path / f"clip.{suffix}", exact=True)
    assert codec in clip.sound
    assert "encoded again, as" in " ".join(notes_on([clip]))
    with av.open(str(tmp_path / f"clip.{suffix}")) as made:
        assert made.streams.audio[0].codec_context.name == codec
        assert made.duration / 1e6 == pytest.approx(1.8, abs=0.1)
    lags, before = lag_of_sound(tmp_path / f"clip.{suffix}"), np.median(lag_of_sound(film))
    assert len(lags) == 2
    assert np.abs(np.array(lags) - before).max() < 0.02


def test_pictures_without_loss_are_not_joined(tmp_path):
    """Decoders take what follows our own pictures for noise: the parameter sets say too little."""
    film = write_clock(tmp_path / "film.mp4", audio=None, seconds=4, qp="0")
    clip = save_clip(film, 0.6, 3.5, tmp_path / "clip.mp4", exact=True)
    assert clip.mode == "encoded"
    assert [n for _, n in numbers_in(tmp_path / "clip.mp4")] == list(range(15, 88))


def with_streams(path, *parts):
    """Mux the streams of several files into one: (file, whether its pictures are a cover)."""
    from av.stream import Disposition

    sources = [av.open(str(file)) for file, _ in parts]
    with av.open(str(path), "w") as out:
        streams = {}
        for n, (source, (_, cover)) in enumerate(zip(sources, parts, strict=True)):
            for stream in source.streams:
                streams[n, stream.index] = made = out.add_stream_from_template(stream, opaque=True)
                if cover:
                    made.disposition = Disposition.attached_pic
        for n, source in enumerate(sources):
            for packet in source.demux():
                if packet.size:
                    packet.stream = streams[n, packet.stream_index]
                    out.mux(packet)
            source.close()
    return path


def test_exact_leaves_out_what_it_cannot_cut_exactly(films, tmp_path):
    """A second film could only be copied from its key frame on, with pictures from before the moment."""
    two = with_streams(tmp_path / "two.mkv", (films("libx264.mkv"), False), (films("libx264.mp4"), False))
    clip = save_clip(two, START, END, tmp_path / "clip.mkv", exact=True)
    assert (clip.mode, len(clip.left_out)) == ("joined", 1)
    with av.open(str(tmp_path / "clip.mkv")) as made:
        assert len(made.streams.video) == 1
    assert len(save_clip(two, START, END, tmp_path / "copy.mkv").left_out) == 0


@pytest.mark.parametrize(("codec", "depth"), [("mjpeg", "yuvj420p"), ("png", "rgb24")])
def test_chapters_keep_a_cover_where_it_stays_one(films, tmp_path, codec, depth):
    cover = write_video(tmp_path / "cover.mov", frames=1, codec=codec, pix_fmt=depth, options={"-": ""})
    film = with_streams(tmp_path / "film.mp4", (films("libx264.mp4"), False), (cover, True))
    with av.open(str(film)) as known:
        number = next(s.index for s in known.streams.video if s.codec_context.name == codec)
    for name, lost in (("out.mp4", []), ("out.mkv", [f"video stream {number}"])):
        assert write_chapters(str(film), str(tmp_path / name), [(0.0, 1.0, "a")]) == lost
        with av.open(str(tmp_path / name)) as made:
            assert len(made.streams.video) == 2 - len(lost)


def test_a_cover_does_not_put_the_moment_off(films, tmp_path):
    cover = write_video(tmp_path / "cover.mov", frames=1, codec="mjpeg", pix_fmt="yuvj420p", options={})
    film = with_streams(tmp_path / "film.mp4", (films("libx264.mp4"), False), (cover, True))
    for name in ("clip.mp4", "clip.mkv"):
        save_clip(film, START, END, tmp_path / name, exact=True)
        with av.open(str(tmp_path / name)) as made:
            first = min(float(p.pts * p.time_base) for p in made.demux(video=0) if p.size)
            assert first == pytest.approx(0, abs=0.05)
            assert made.duration / 1e6 == pytest.approx(END - START, abs=0.1)


@pytest.mark.parametrize(("exact", "name", "code"), [
    (False, "a.mov", "10:00:02:17"), (True, "a.mov", "10:00:02:17"), (False, "a.mkv", "10:00:01:23"),
])  # fmt: skip
def test_the_cameras_timecode_goes_on(films, tmp_path, exact, name, code):
    film = tmp_path / "film.mov"
    copy_with_timecode(films("libx264.mov"), film, "10:00:00:00")
    save_clip(film, START, END, tmp_path / name, exact=exact)
    assert read_facts(tmp_path / name).timecode == code


def test_a_suffix_may_be_in_capitals(films, tmp_path):
    film = shutil.copy(films("libx264.mp4"), tmp_path / "FILM.MP4")
    assert save_clip(film, 1, 2, tmp_path / "CLIP.MP4").mode == "copy"


def test_what_exists_is_not_replaced_and_the_video_itself_never(films, tmp_path):
    film = shutil.copy(films("libx264.mp4"), tmp_path / "film.mp4")
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    with pytest.raises(FileExists):
        save_clip(film, 1, 2, tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == b"mine"
    before = film.read_bytes()
    with pytest.raises(UsageError, match="itself"):
        save_clip(film, 1, 2, film, force=True)
    (tmp_path / "link.mp4").symlink_to(film)
    with pytest.raises(UsageError, match="itself"):
        save_clip(film, 1, 2, tmp_path / "link.mp4", force=True)
    assert film.read_bytes() == before
    save_clip(film, 1, 2, tmp_path / "clip.mp4", force=True)
    assert numbers_in(tmp_path / "clip.mp4")[0][1] == 25


@pytest.mark.parametrize(
    ("start", "end", "error", "words"),
    [(20, 30, UnreadableVideo, "it ends at"), (3, 3, UsageError, "after it starts"), (5.9, 90, None, "")],
)
def test_moments_outside_the_video(films, tmp_path, start, end, error, words):
    film = films("libx264.mp4")
    if error is None:
        assert save_clip(film, start, end, tmp_path / "c.mp4").duration < 0.2
        return
    with pytest.raises(error, match=words):
        save_clip(film, start, end, tmp_path / "c.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_leaves_nothing_behind(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"this is no video" * 100)
    with pytest.raises(UnreadableVideo):
        save_clip(tmp_path / "broken.mp4", 0, 1, tmp_path / "c.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["broken.mp4"]


def test_hits_become_clips_named_after_what_and_when(films, tmp_path):
    film = films("libx264.mp4")
    hits = [
        Hit("A goal!", 1, str(film), 1.0, 2.0, 0.5), Hit("../../x", 2, str(tmp_path / "gone.mp4"), 0.0, 1.0, 0.4)
    ]  # fmt: skip
    made = list(save_hits(hits, tmp_path / "clips", pad=0.5))
    (first, saved), (failure, _), (second, _) = made
    assert (
        saved.path == first.clip == str(tmp_path / "clips" / "a-goal-01_libx264_00.00.00.50-00.00.02.50.mp4")
    )
    assert isinstance(failure, Failure)
    assert (failure.error, second.clip) == ("file-missing", None)
    assert [p.name for p in tmp_path.iterdir()] == ["clips"]
    with open_video(saved.path) as video:
        assert video.duration == pytest.approx(2.0, abs=0.2)
    again = list(save_hits(hits[:1], tmp_path / "clips", pad=0.5))
    assert again[0][0].error == "file-exists"


def test_a_note_says_what_else_is_in_the_files(films, tmp_path):
    trimmed = save_clip(films("libx264.mp4"), START, END, tmp_path / "a.mp4")
    early = save_clip(films("libx264.mkv"), START, END, tmp_path / "a.mkv")
    exact = save_clip(films("libx264.mkv"), START, END, tmp_path / "b.mkv", exact=True)
    assert "hidden from players" in " ".join(notes_on([trimmed, exact]))
    assert "0.8 s early" in " ".join(notes_on([early]))
    assert list(notes_on([exact], exact=True)) == []
    assert "could not be copied" in " ".join(notes_on([replace(exact, mode="encoded")]))
    assert "data stream 2" in " ".join(notes_on([replace(exact, left_out=("data stream 2",))]))


def test_names_fit_every_file_system(tmp_path):

    name = clip_name(Path("ü" * 300 + ".mp4"), 3723.456, 3724, "ü" * 10)
    assert len(name.encode()) < 255
    assert name.endswith("_01.02.03.46-01.02.04.00.mp4")
    assert clip_name(Path("a.wmv"), 0, 1).endswith(".mkv")
