"""How long a film is, and when its pictures begin, whatever the container counts."""

from __future__ import annotations

import errno
import os
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import OutOfMemory, ReadFailed, UnreadableVideo
from stopcli.index.types import PASSING
from stopcli.video import container
from stopcli.video.clips import read_frames, read_windows
from stopcli.video.container import Container
from stopcli.video.discovery import find_videos
from stopcli.video.reader import open_video
from stopcli.video.workers.pool import read_facts


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "mov"])
def test_a_film_whose_sound_begins_first_is_as_long_as_its_pictures(tmp_path, suffix):
    """Matroska counts its length from 0, wherever the pictures begin."""
    film = tmp_path / f"film.{suffix}"
    codecs = ("libvpx-vp9", "libopus") if suffix == "webm" else ("libx264", "aac")
    with av.open(str(film), "w") as out:
        picture, sound = out.add_stream(codecs[0], rate=25), out.add_stream(codecs[1], rate=48000)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for i in range(400):  # eight seconds of sound
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960 * 2), np.float32), "flt", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 960 * i, Fraction(1, 48000)
            out.mux(sound.encode(frame))
        for i in range(125):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i, np.uint8), "rgb24")
            frame.pts, frame.time_base = 75 + i, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
        out.mux(sound.encode())
    facts = read_facts(film)
    assert (facts.duration, facts.offset) == pytest.approx((5.0, 3.0), abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "codec", "kind"), [("h264", "libx264", "h264"), ("hevc", "libx265", "hevc")]
)
def test_a_raw_stream_without_times_is_as_long_as_its_pictures(tmp_path, suffix, codec, kind):
    film = tmp_path / f"film.{suffix}"
    with av.open(str(film), "w", format=kind) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * i, np.uint8), "rgb24")))
        out.mux(stream.encode())
    read = read_frames(film, 4, 16)
    assert (read.start, read.end) == pytest.approx((0, 4.0), abs=0.05)
    assert read.pixels.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=4)
    windows = list(read_windows(film, 2, 16, 1.0))
    assert [w.start for w in windows] == pytest.approx([0, 1, 2, 3])


def test_what_begins_behind_the_real_end_of_a_file_is_refused(tmp_path):
    """The header of half a download still promises the whole film."""
    whole = write_video(tmp_path / "whole.mp4", frames=200, fps=20, container={"movflags": "faststart"})
    half, most = tmp_path / "half.mp4", tmp_path / "most.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    most.write_bytes(whole.read_bytes()[: round(whole.stat().st_size * 0.985)])
    for film, start in ((half, 9.0), (most, 9.96)):
        with pytest.raises(UnreadableVideo, match=rf"but {start:.2f} s was wanted"):
            read_frames(film, 4, 16, start=start, end=10.0)
    real = read_frames(half, 4, 16).end
    part = read_frames(half, 4, 16, start=real - 1, end=9.8)
    assert part.end == pytest.approx(real, abs=0.2)
    assert len(set(part.times.tolist())) == 4


def test_a_drive_that_fails_is_no_end_of_the_film(tmp_path, monkeypatch):
    film = write_video(tmp_path / "film.mkv", frames=60, fps=20)

    class Failing:
        """A container's packets, of which the tenth cannot be read."""

        def __init__(self, packets):
            self.packets, self.count = packets, 0

        def __iter__(self):
            return self

        def __next__(self):
            self.count += 1
            if self.count == 10:
                raise av.error.FFmpegError(errno.ESTALE, "Stale file handle")
            return next(self.packets)

    real = Container.packets

    def packets(self):
        file = self.file
        self.file = SimpleNamespace(demux=lambda stream: Failing(file.demux(stream)), format=file.format)
        try:
            yield from real(self)
        finally:
            self.file = file

    monkeypatch.setattr(Container, "packets", packets)
    with pytest.raises(ReadFailed, match="reading it failed"):
        read_frames(film, 4, 16)
    assert ReadFailed().kind in PASSING
    assert OutOfMemory().kind in PASSING


@pytest.mark.parametrize(
    ("seconds", "number", "error"),
    [
        (0.3, 1094995529, ReadFailed),
        (0, errno.ENOTCONN, ReadFailed),
        (0, errno.EAGAIN, OutOfMemory),
        (0, 1094995529, UnreadableVideo),
    ],
)
def test_a_drive_that_wakes_up_slowly_is_no_damage_of_the_film(tmp_path, monkeypatch, seconds, number, error):
    """FFmpeg says that what it then has is invalid; that was kept for good."""
    film = write_video(tmp_path / "film.mkv", frames=6, fps=20)

    def opened(*_, **__):
        time.sleep(seconds)
        raise av.error.FFmpegError(number, "Invalid data found when processing input")

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(container, "STALL_SECONDS", 0.2)
    with pytest.raises(error, match=r"open|memory"), open_video(film):
        pass


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_only_a_drive_that_cannot_be_read_makes_an_eio_its_own_fault(tmp_path, monkeypatch, cut):
    film = write_video(tmp_path / "film.mkv", frames=60, fps=20)
    container = Container(film, 1)
    try:
        assert container._is_of_drive(av.error.ExitError(1, "Immediate exit requested"))
        assert not container._is_of_drive(av.error.InvalidDataError(1, "Invalid data"))
        fault = av.error.FFmpegError(errno.EIO, "Input/output error")
        container._place = round(cut * film.stat().st_size)
        assert not container._is_of_drive(fault)  # the file itself can be read: it is cut off

        def broken(*_):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(Path, "open", broken)
        assert container._is_of_drive(fault)
    finally:
        container.close()


def test_source_code_with_the_names_of_films_is_none(tmp_path):
    (tmp_path / "app.ts").write_text("export const film = 1;\n" * 99)
    (tmp_path / "go.mod").write_text("module film\n")
    (tmp_path / "broken.ts").write_bytes(b"G\0" * 999)
    write_video(tmp_path / "film.ts", frames=10, fps=5)
    os.mkfifo(tmp_path / "live.ts")
    found = [path.name for path in find_videos([tmp_path])]
    assert found == ["broken.ts", "film.ts", "live.ts"]  # reading the others says what is wrong with them
