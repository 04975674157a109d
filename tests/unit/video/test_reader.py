"""The reader on videos made here, frame by frame against what was drawn."""

from __future__ import annotations

import os
import sys
from fractions import Fraction

import numpy as np
import pytest

from conftest import pattern, write_video
from stopcli.errors import FileMissing, NoVideoStream, UnreadableVideo, VideoTooLarge
from stopcli.video import container, reader
from stopcli.video.clips import read_frames, read_windows
from stopcli.video.discovery import find_videos
from stopcli.video.pixels import Framing
from stopcli.video.reader import VideoReader, open_video
from stopcli.video.sampling import sample_times, windows


def drawn_at(pixels, width=128, height=96):
    """Which drawn frame this is, by the nearest of all."""
    side = pixels.shape[0]
    candidates = [
        pattern(i, width, height)[:, (width - height) // 2 : (width + height) // 2] for i in range(16)
    ]
    scale = height // side
    small = [c.reshape(side, scale, side, scale, 3).mean((1, 3)) for c in candidates]
    return int(np.argmin([np.abs(s - pixels).mean() for s in small]))


def test_sample_times_are_segment_centres():
    assert sample_times(12, 3).tolist() == [2, 6, 10]
    assert sample_times(4, 2, start=10).tolist() == [11, 13]


def test_windows_cover_everything_once():
    assert list(windows(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(windows(9, 4)) == [(0, 4), (4, 9)]  # the short rest joins the last
    assert list(windows(1, 4)) == [(0, 1)]


def test_windows_without_a_packet_of_their_own_are_none():
    stamps = np.array([0.0, 1.0, 9.0, 1e9])
    assert list(windows(1e9 + 3, 4, stamps)) == [(0, 4), (8, 12), (1e9, 1e9 + 3)]
    assert list(windows(10, 4, np.array([]))) == [(0, 4), (4, 8), (8, 10)]  # nothing is known


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx264", "mp4"), ("libx264", "mkv"), ("mpeg4", "avi"), ("mjpeg", "mov"), ("libvpx-vp9", "webm")],
)
def test_the_frame_on_screen_at_each_time_is_returned(tmp_path, codec, suffix):
    pix = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"g": "5"} if codec != "mjpeg" else {}
    path = write_video(tmp_path / f"v.{suffix}", frames=16, fps=10, codec=codec, pix_fmt=pix, options=options)
    clip = read_frames(path, 8, 48)
    assert clip.pixels.shape == (8, 48, 48, 3)
    assert clip.end == pytest.approx(1.6, abs=0.1)
    assert clip.times == pytest.approx(np.arange(8) * 0.2 + 0.1, abs=0.11)
    assert [drawn_at(p) for p in clip.pixels] == np.round(clip.times * 10).astype(int).tolist()


def test_seeking_and_reading_on_give_the_same(tmp_path):
    path = write_video(tmp_path / "long.mp4", frames=600, options={"g": "30", "bf": "3"})
    with open_video(path) as video:
        wanted = sample_times(video.duration, 4)
        assert len(video._plan(list(wanted))) == 4
        sought = list(video.frames_at(wanted, 48))
    with open_video(path) as video:
        read_on = [(t, video._to_pixels(f, 48)) for t, f in video._sequential(list(wanted))]
    assert [t for t, _ in sought] == [t for t, _ in read_on]
    assert all((a == b).all() for (_, a), (_, b) in zip(sought, read_on, strict=True))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("gop", ["90", "600"])
def test_frames_are_the_same_where_those_that_nobody_refers_to_are_left_out(
    tmp_path, monkeypatch, codec, gop
):
    options = {"g": gop, "bf": "3", "x265-params": "log-level=none"}
    path = write_video(tmp_path / "v.mp4", frames=600, codec=codec, options=options)
    decoded = []
    monkeypatch.setattr(
        reader.Clock, "read", lambda *a, read=reader.Clock.read: decoded.append(0) or read(*a)
    )

    def read():
        decoded.clear()
        clip, windows = read_frames(path, 4, 48), list(read_windows(path, 2, 48, 4.0))
        return [(part.pixels.tobytes(), part.times.tolist(), part.end) for part in (clip, *windows)], len(
            decoded
        )

    found, few = read()
    monkeypatch.setattr(container.Container, "skip", lambda *_, **__: None)
    expected, many = read()
    assert found == expected
    assert few < 0.9 * many


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("mp4", "libx265"),
        ("mkv", "libx264"),
        ("ts", "libx264"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
    ],
)
def test_key_frames_are_the_nearest_and_none_but_they_are_decoded(tmp_path, monkeypatch, codec, suffix):
    x265 = "keyint=15:min-keyint=15:scenecut=0:open-gop=1:log-level=none"
    options = {
        "g": "15",
        "keyint_min": "15",
        "x265-params": x265,
        "sc_threshold": "0",
        "bf": "0" if suffix == "avi" else "2",
    }
    path = write_video(tmp_path / f"v.{suffix}", frames=300, fps=10, codec=codec, options=options)
    decoded = []
    monkeypatch.setattr(
        reader.Clock, "read", lambda *a, read=reader.Clock.read: decoded.append(0) or read(*a)
    )
    keys = Framing(48, keyframes=True)
    for clip in (read_frames(path, 4, keys), read_frames(path, 12, keys)):
        at = np.round(clip.times * 10).astype(int)
        assert (at % 15 == 0).all()
        wanted = sample_times(30, len(at))
        late = (
            1.55 if suffix in ("ts", "mkv", "webm") else 0.8
        )  # without an index: the key frame on screen then
        assert (np.abs(clip.times - wanted) <= late).all()
        assert [drawn_at(p) for p in clip.pixels] == (at % 16).tolist()
        assert clip.end == pytest.approx(30, abs=0.2)
    assert len(decoded) <= 45
    windows = list(read_windows(path, 4, keys, 1.0))
    assert [w.start for w in windows] == pytest.approx(range(30))
    assert {round(t * 10) % 15 for w in windows for t in w.times} == {0}


def test_of_key_frames_a_file_cut_short_ends_where_its_frames_do(tmp_path):
    options = {"g": "15", "keyint_min": "15", "sc_threshold": "0"}
    front = {"movflags": "faststart"}
    whole = write_video(tmp_path / "whole.mp4", frames=600, fps=10, options=options, container=front)
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    keys = Framing(48, keyframes=True)
    exact, found = (list(read_windows(half, 4, size, 4.0)) for size in (48, keys))
    assert len(exact) > 5
    assert [w.start for w in found] == [w.start for w in exact]
    assert read_frames(half, 4, keys).end == pytest.approx(read_frames(half, 4, 48).end, abs=0.2)


def test_without_a_key_frame_of_its_own_a_cut_is_read_exactly(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", frames=60, options={"g": "600"})
    monkeypatch.setattr(VideoReader, "_plan", lambda *_: [])
    decode = VideoReader._decode
    monkeypatch.setattr(
        VideoReader, "_decode", lambda self, wanted=(): iter(()) if self.keys_only else decode(self, wanted)
    )
    assert (
        read_frames(path, 4, Framing(48, keyframes=True)).times.tolist()
        == read_frames(path, 4, 48).times.tolist()
    )


@pytest.mark.parametrize("size", [48, Framing(48, keyframes=True)])
def test_an_index_of_the_first_fragment_only_is_not_believed(tmp_path, size):
    path = tmp_path / "dash.mp4"
    options = {"g": "15", "keyint_min": "15", "sc_threshold": "0"}
    write_video(
        path, frames=300, fps=10, options=options, container={"movflags": "dash+delay_moov+global_sidx"}
    )
    clip = read_frames(path, 4, size)
    assert clip.end == pytest.approx(30, abs=0.2)
    assert (np.abs(clip.times - sample_times(30, 4)) < 1.6).all()


def test_of_slow_pictures_and_of_files_that_end_early_none_is_left_out(tmp_path):
    slow = write_video(tmp_path / "slow.mp4", frames=30, fps=Fraction(1, 2), options={"g": "30", "bf": "3"})
    with open_video(slow) as video:
        assert video._near is None
    path = write_video(tmp_path / "v.mp4", frames=600, options={"g": "600", "bf": "3"})
    with open_video(path) as video:
        wanted = [1.0, 5.0, 30.0]  # behind the end
        assert video._plan(wanted) == [wanted]
        assert [round(t * 30) for t, _ in video.frames_at(wanted, 48)] == [30, 150, 599]
        assert video.duration == pytest.approx(20, abs=0.01)


def test_a_part_of_a_video(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=90)
    part = read_frames(path, 3, 48, start=1, end=2)
    assert (part.start, part.end) == (1, 2)
    assert part.times == pytest.approx([1.1667, 1.5, 1.8333], abs=0.04)
    with pytest.raises(UnreadableVideo, match=r"ends at 3\.00 s"):
        read_frames(path, 3, 48, start=5)


def test_windows_are_read_in_one_pass_and_match_parts(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=150)
    cut = list(read_windows(path, 3, 48, 2.0))
    assert [(w.start, w.end) for w in cut] == [(0, 2), (2, 4), (4, 5)]
    for window in cut:
        part = read_frames(path, 3, 48, start=window.start, end=window.end)
        assert (part.pixels == window.pixels).all()


def test_fewer_frames_than_wanted_are_repeated(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=2, fps=10)
    assert read_frames(path, 12, 48).pixels.shape == (12, 48, 48, 3)


@pytest.mark.parametrize("size", [(320, 48), (48, 320), (98, 98)])
def test_the_short_side_is_resized_and_the_centre_cut(tmp_path, size):
    def halves(_, width, height):
        image = np.zeros((height, width, 3), np.uint8)
        image[:, width // 2 :, 0] = 255
        image[height // 2 :, :, 1] = 255
        return image

    path = write_video(tmp_path / "v.mp4", frames=3, size=size, draw=halves)
    pixels = read_frames(path, 1, 32).pixels[0].astype(int)
    assert pixels[2:12, 2:12].mean() < 30
    assert pixels[2:12, 20:30, 0].mean() > 200
    assert pixels[20:30, 2:12, 1].mean() > 200


def test_faults_have_their_own_kinds(tmp_path, monkeypatch):
    import av

    with pytest.raises(FileMissing):
        read_frames(tmp_path / "none.mp4", 4, 32)
    with pytest.raises(UnreadableVideo, match="is a folder; a video file was expected"):
        read_frames(tmp_path, 4, 32)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableVideo, match="is a pipe"):
        read_frames(tmp_path / "pipe.mp4", 4, 32)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideo, match="0 bytes"):
        read_frames(tmp_path / "empty.mp4", 4, 32)
    (tmp_path / "text.mp4").write_text("hello " * 99)
    with pytest.raises(UnreadableVideo, match=r"not a video that can be opened"):
        read_frames(tmp_path / "text.mp4", 4, 32)
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(NoVideoStream, match="only audio"):
        read_frames(tmp_path / "sound.m4a", 4, 32)
    path = write_video(tmp_path / "big.mp4", frames=2)
    monkeypatch.setattr(reader, "MAX_PIXELS", 100)
    with pytest.raises(VideoTooLarge, match="128x96"):
        read_frames(path, 4, 32)


def test_a_decoder_that_gives_nothing_is_given_up(tmp_path, monkeypatch):
    from stopcli.errors import VideoTimeout

    path = write_video(tmp_path / "v.mp4", frames=30)
    monkeypatch.setattr(container, "TIME_LIMIT", -1.0)
    with pytest.raises(VideoTimeout, match="skipped"):
        read_frames(path, 4, 32)


def test_odd_names_are_only_names(tmp_path):
    for name in (
        "-v.mp4",
        "a:b.mp4",
        "ünïcödé 動画.mp4",
        "%03d.mp4",
        "new\nline.mp4",
        "quote's.mp4",
        "http:x.mp4",
    ):
        path = write_video(tmp_path / "plain.mp4", frames=3).rename(tmp_path / name)
        assert read_frames(path, 2, 32).pixels.shape[0] == 2


def test_folders_are_walked_in_order(clips, tmp_path):
    names = [p.relative_to(clips).as_posix() for p in find_videos([clips])]
    assert names == ["a.mp4", "broken.mp4", "deeper/b.mkv"]
    assert list(find_videos([clips / "notes.txt"])) == [clips / "notes.txt"]  # named: taken at its word
    write_video(tmp_path / "v.mp4", frames=3).rename(tmp_path / "noextension")
    (tmp_path / "README").write_text("not a video")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(find_videos([tmp_path])) == [tmp_path / "noextension"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_walked(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").touch()
    scan = os.scandir

    def refuse(path):
        if path == tmp_path / "b":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(find_videos([tmp_path])) == [
        tmp_path / "a" / "v.mp4",
        tmp_path / "b",
        tmp_path / "c" / "v.mp4",
    ]


def test_folders_nest_deeper_than_the_interpreter_recurses(tmp_path):
    folders = [tmp_path / "/".join("d" * (depth + 1)) for depth in range(sys.getrecursionlimit() + 50)]
    try:
        for folder in folders:
            folder.mkdir()
        video = write_video(tmp_path / "v.mp4", frames=3).rename(folders[-1] / "v.mp4")
        assert list(find_videos([tmp_path])) == [video]
        video.unlink()
    finally:
        for folder in reversed(folders):
            folder.rmdir()
