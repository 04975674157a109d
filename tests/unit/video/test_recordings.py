"""Several recordings in one file, each with a clock of its own, are one film."""

from __future__ import annotations

from contextlib import closing

import av
import numpy as np
import pytest

from clock_films import lag_of_sound, number_in, numbers_in, tones_in, write_clock
from stopcli.tasks.clips import save_clip
from stopcli.video import recordings
from stopcli.video.clips import read_windows
from stopcli.video.container import Container
from stopcli.video.cut.proxy import write_proxy
from stopcli.video.cut.shots import read_shots
from stopcli.video.pixels import Framing
from stopcli.video.reader import open_video

RATE, FIRST, SECOND = 25, 7, 5  # pictures a second; seconds
KINDS = {"ts": ("libx264", "aac"), "mts": ("libx264", "ac3"), "vob": ("mpeg2video", "mp2")}


def join(target, *parts):
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.fixture(scope="module", params=KINDS)
def joined(request, tmp_path_factory):
    """Two recordings, of which the later and shorter one lies within the clock of the other."""
    folder, (video, audio) = tmp_path_factory.mktemp("joined"), KINDS[request.param]
    parts = [
        write_clock(folder / f"{seconds}.{request.param}", video, audio, seconds=seconds)
        for seconds in (FIRST, SECOND)
    ]
    return join(folder / f"joined.{request.param}", *parts)


def shown(film, times):
    """Return the numbers of the pictures at some times, each read on its own."""
    found = []
    for time in times:
        with open_video(film) as video:
            found += [number_in(pixels) for _, pixels in video.frames_at([time], 128)]
    return found


def test_all_of_them_are_seen(joined):
    with open_video(joined) as video:
        assert video.duration == pytest.approx(FIRST + SECOND, abs=0.2)
        assert len(video._container.recordings.places) == 2
        numbers = [
            number_in(pixels) for _, pixels in video.frames_at(np.arange(0.02, video.duration, 0.04), 128)
        ]
    seam = numbers.index(0, RATE)
    assert sorted(set(numbers[:seam])) == list(range(FIRST * RATE))
    assert sorted(set(numbers[seam:])) == list(range(SECOND * RATE))
    begins = [(clip.start, number_in(clip.pixels[0])) for clip in read_windows(joined, 2, 128, 2.0)]
    assert begins[-1][0] == 10.0
    assert begins[-1][1] == pytest.approx((10.5 - FIRST) * RATE, abs=5)
    assert [shot.end for shot in read_shots(joined, 4, 128, 3.0)][-1] == pytest.approx(12, abs=0.2)


def test_a_look_at_one_picture_does_not_read_all_before(joined):
    times = [11.5, 8.3, 7.4, 6.5, 2.1]
    with open_video(joined) as video:
        expected = [number_in(video._to_pixels(frame, 128)) for _, frame in video._sequential(times[::-1])]
    assert shown(joined, times) == expected[::-1]
    assert expected == pytest.approx([52, 162, 0.3 * RATE, 1.2 * RATE, 4.4 * RATE], abs=5)
    packets = []
    with open_video(joined) as video:
        read = video._container.read
        video._container.read = lambda *streams: (packets.append(p) or p for p in read(*streams))
        next(video.frames_at([11.5], 128))
    assert len(packets) < 60


@pytest.mark.parametrize("exact", [False, True])
def test_a_moment_of_a_later_one_is_cut_with_its_sound(joined, tmp_path, exact):
    clip = save_clip(joined, 8.0, 11.0, tmp_path / "clip.mp4", exact=exact)
    assert clip.start == pytest.approx(8.0, abs=0.05)
    numbers = [number for _, number in numbers_in(tmp_path / "clip.mp4")]
    assert numbers[0] == pytest.approx(RATE, abs=5)
    assert numbers[:70] == list(range(numbers[0], numbers[0] + 70))
    lags = lag_of_sound(tmp_path / "clip.mp4")
    assert len(lags) >= 2
    assert np.ptp(lags) < 0.02


def test_a_moment_across_the_seam_has_both(joined, tmp_path):
    save_clip(joined, 5.0, 9.0, tmp_path / "clip.mkv", exact=True)
    numbers = [number for _, number in numbers_in(tmp_path / "clip.mkv")]
    seam = numbers.index(0)
    assert numbers[:seam] == list(range(5 * RATE, FIRST * RATE))
    assert numbers[seam:] == list(range(len(numbers) - seam))
    assert len(tones_in(tmp_path / "clip.mkv")) in (4, 5)  # the last one may just begin


def test_its_preview_has_the_sound_of_the_later_one(joined, tmp_path):
    write_proxy(str(joined), str(tmp_path / "proxy.mp4"), 8.0, 11.0, height=128, rate=25, sound=True)
    assert len(tones_in(tmp_path / "proxy.mp4")) == 3


def test_large_files_are_looked_into(joined, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "WHOLE", 0)
    for film, several in ((joined, True), (joined.with_name(f"{FIRST}{joined.suffix}"), False)):
        with closing(Container(film, 1)) as container:
            assert recordings._may_be_several(container) is several


def test_a_clock_that_is_reset_far_back_runs_on(tmp_path):
    """FFmpeg takes a clock that is more than a minute back for one that ran over, after 26 hours."""
    late, parts = tmp_path / "late.ts", [write_clock(tmp_path / f"{n}.ts", seconds=n) for n in (4, 3)]
    with av.open(str(parts[0])) as film, av.open(str(late), "w") as out:
        stream = out.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts + 9_000_000, packet.dts + 9_000_000
                packet.stream = stream
                out.mux(packet)
    with open_video(join(tmp_path / "reset.ts", late, parts[1])) as video:
        assert video.duration == pytest.approx(7, abs=0.2)
        assert number_in(next(video.frames_at([6.0], 128))[1]) == pytest.approx(2 * RATE, abs=3)


def test_one_damaged_time_is_no_other_clock():
    steady = np.arange(0, 90_000 * 60, 3600)
    assert recordings._seams(steady, 90_000) == []
    for wrong in (10**9, -(10**6)):
        damaged = steady.copy()
        damaged[700:703] = wrong
        assert recordings._seams(damaged, 90_000) == []
    assert recordings._seams(np.concatenate([steady, steady[:9], steady + 10**10]), 90_000) == [1500, 1509]
    late = steady.copy()
    late[700:720] -= 3 * 90_000  # for a while, and then the clock goes on as before
    assert recordings._seams(late, 90_000) == []
    assert recordings._seams(np.concatenate([steady, steady]), 90_000) == [1500]


def test_without_an_index_a_picture_is_found_by_its_time(tmp_path):
    film = write_clock(tmp_path / "film.ts", seconds=30, key_every=50)
    times = [29.9, 17.03, 13.99, 0.5]
    assert shown(film, times) == [int(time * RATE) % 256 for time in times]
    with open_video(film) as video:
        assert video._plan([14.9, 29.9]) == [[14.9], [29.9]]
        assert not video.damaged


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("wmv", "wmv2")])
def test_an_index_that_is_read_late_is_used(tmp_path, suffix, codec):
    """FFmpeg reads that of Matroska and WMV when it must seek, not as it opens the file."""
    film = write_clock(tmp_path / f"film.{suffix}", codec, audio=None, seconds=20, key_every=50)
    assert shown(film, [19.9, 7.03, 0.5]) == [497 % 256, 175, 12]
    packets = []
    with open_video(film) as video:
        assert video.stamps(scan=True) is None  # no picture is shown for long: nothing is read for that
        read = video._container.read
        video._container.read = lambda *streams: (packets.append(p) or p for p in read(*streams))
        next(video.frames_at([19.9], 128))
    assert len(packets) < 110


def test_streams_that_appear_on_the_way_end_nothing(tmp_path):
    """A later recording may have a track more, of which its beginning knew nothing."""
    first = write_clock(tmp_path / "a.ts", audio=None, seconds=4)
    second = write_clock(tmp_path / "b.ts", seconds=3)
    with open_video(join(tmp_path / "both.ts", first, second)) as video:
        assert video.duration == pytest.approx(7, abs=0.2)
        found = [number_in(pixels) for _, pixels in video.frames_at([1.0, 3.0, 5.0, 6.5], 128)]
    assert found == pytest.approx([25, 75, 25, 62], abs=3)


def test_damaged_times_and_places_without_pictures_are_left_out():
    shown = np.concatenate([np.arange(40), np.arange(50)])
    shown[[10, 11, 70]] = 10**9
    pictures = recordings._Stream(np.arange(90), shown, shown, shown, shown)
    assert len(pictures.sane(60).shown) == 87
    assert pictures.sane(60).shown.max() == 49
    assert pictures.within(10, 20).sum() == 10
    assert not pictures.within(90, np.inf).any()


def test_an_index_of_the_beginning_is_none(tmp_path):
    """A film that was streamed has no index; FFmpeg then lists what it happened to see."""
    film, live = (
        write_clock(tmp_path / "film.mkv", audio=None, seconds=40, key_every=12),
        tmp_path / "live.mkv",
    )
    with av.open(str(film)) as source, av.open(str(live), "w", options={"live": "1"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    for path, keys in ((film, 84), (live, 0)):
        with open_video(path) as video:
            assert len(video._timeline.keys) == keys
            found = [number_in(p) for _, p in video.frames_at([2, 10, 20, 30], Framing(128, keyframes=True))]
        assert found == pytest.approx([50, 250, 500 % 256, 750 % 256], abs=12)
