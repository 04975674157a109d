"""Cuts of files whose pictures come in odd orders, at odd times, or behind what an edit list hides."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from clock_films import SOUND, TONE, number_in, numbers_in, picture, tones_in, write_clock
from stopcli.errors import UnreadableVideo
from stopcli.tasks.clips import save_clip
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.cut.proxy import write_proxy
from stopcli.video.reader import open_video


def test_pictures_of_a_program_stream_that_share_a_packet_are_cut_where_they_are(tmp_path):
    """Of few bits each, several lie in a packet: behind a seek, FFmpeg gives the first one the packet's time."""
    film = tmp_path / "film.vob"
    with av.open(str(film), "w") as out:
        stream = out.add_stream(
            "mpeg2video", rate=25, options={"bf": "2", "b": "300000", "sc_threshold": "1000000000"}
        )
        stream.width = stream.height = 128
        stream.pix_fmt, stream.gop_size = "yuv420p", 15
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for first in range(20, 180, 9):
        clip = tmp_path / f"{first}.mkv"
        save_clip(film, first / 25, first / 25 + 0.2, clip, exact=True)
        assert [n for _, n in numbers_in(clip)] == list(range(first, first + 5)), first


def test_mxf_whose_pictures_lean_on_the_group_before_stays_in_order(tmp_path):
    film = write_clock(tmp_path / "film.mxf", "mpeg2video", None, seconds=5, key_every=15, bf="2")
    clip = save_clip(film, 2.33, 3.77, tmp_path / "clip.mxf")
    assert clip.mode == "encoded"
    with av.open(str(tmp_path / "clip.mxf")) as made:
        times = [p.pts for p in made.demux(video=0) if p.size]
    assert None not in times
    assert sorted(times) == sorted(set(times))
    shown = [n for _, n in numbers_in(tmp_path / "clip.mxf")]
    assert shown == list(range(58, 95))


def test_a_copy_of_slow_pictures_ends_where_it_should(tmp_path):
    """A picture behind the end, kept as others need it, came at its own time: seconds later in a time lapse."""
    film = tmp_path / "slow.mp4"
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=1, options={"bf": "3", "x264-params": "b-adapt=0:keyint=20"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for number in range(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        out.mux(stream.encode(None))
    for suffix in (".mp4", ".mkv"):
        for start in (21.0, 22.0, 23.0):
            target = tmp_path / f"{start}{suffix}"
            assert save_clip(film, start, start + 3, target).mode == "copy"
            shown = dict(reversed([(n, t) for t, n in numbers_in(target)]))
            assert [n for n in range(int(start), int(start) + 3) if n in shown] == list(
                range(int(start), int(start) + 3)
            )
            assert max(shown.values()) - shown[int(start)] < 3.1, (suffix, start)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_chapters_stand_where_they_should_behind_what_an_edit_list_hides(tmp_path, suffix):
    film = write_clock(tmp_path / "film.mp4", audio=None, seconds=6)
    save_clip(
        film, 1.2, 5.5, tmp_path / "clip.mp4"
    )  # from the key frame at 0.96 on; an edit list hides 0.24 s
    write_chapters(str(tmp_path / "clip.mp4"), str(tmp_path / f"out{suffix}"), [(2.0, 3.0, "here")])
    with av.open(str(tmp_path / f"out{suffix}")) as made:
        (chapter,) = [c for c in made.chapters() if c["metadata"].get("title") == "here"]
        begin = float(chapter["start"] * chapter["time_base"])
        (frame,) = [f for f in made.decode(video=0) if abs(f.time - begin) < 0.02]
        assert number_in(frame.to_ndarray(format="rgb24")) == 80  # 1.2 + 2.0 s


def test_the_last_chapter_ends_with_a_film_that_begins_late(tmp_path):
    film = write_clock(tmp_path / "film.mp4", audio=None, seconds=4)
    late = tmp_path / "late.mkv"
    with av.open(str(film)) as source, av.open(str(late), "w", container_options={}) as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts += round(100 / packet.time_base)
                packet.dts += round(100 / packet.time_base)
                packet.stream = stream
                out.mux(packet)
    write_chapters(str(late), str(tmp_path / "out.mp4"), [(1.0, 2.0, "here")])
    with av.open(str(tmp_path / "out.mp4")) as made:
        ends = [float(c["end"] * c["time_base"]) for c in made.chapters()]
    assert max(ends) == pytest.approx(104.0, abs=0.3)
    assert np.isfinite(ends).all()


def remux(source, target, *, only_pictures=False, until=None, **options):
    """Copy a film into another container; pictures from ``until`` seconds on are left out."""
    with av.open(str(source)) as film, av.open(str(target), "w", container_options=options) as out:
        wanted = film.streams.video if only_pictures else film.streams
        streams = {s.index: out.add_stream_from_template(s, opaque=True) for s in wanted}
        for packet in film.demux(*wanted):
            late = (
                until is not None
                and packet.stream.type == "video"
                and (packet.pts or 0) >= until / packet.time_base
            )
            if packet.size and not late:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return target


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_that_was_cut_off_ends_with_its_last_picture(tmp_path, suffix, silent):
    """Its header still has the whole length: clips had seconds of nothing, or pictures of another moment."""
    film = write_clock(tmp_path / "film.mkv", seconds=10, audio="libmp3lame")
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = remux(film, tmp_path / f"whole{suffix}", only_pictures=silent, **options).read_bytes()
    torn = tmp_path / f"torn{suffix}"
    torn.write_bytes(whole[: len(whole) // 2])
    with av.open(str(torn)) as begun:
        end = sum(p.size > 0 for p in begun.demux(video=0)) / 25
    assert 3 < end < 7
    for exact in (False, True):
        clip = save_clip(torn, end - 1, end + 1.5, tmp_path / f"{exact}{suffix}", exact=exact)
        assert clip.start + clip.duration == pytest.approx(end, abs=0.09)
        with pytest.raises(UnreadableVideo, match=r"it ends at [\d.]+ s, but 8\.00 s was wanted"):
            save_clip(torn, 8, 9, tmp_path / f"none{suffix}", exact=exact)


def test_a_torn_film_of_a_format_that_tells_no_lengths_ends_with_its_last_picture(tmp_path):
    film = write_clock(tmp_path / "film.mkv", seconds=10, audio=None)
    whole = remux(film, tmp_path / "whole.flv").read_bytes()
    torn = tmp_path / "torn.flv"
    torn.write_bytes(whole[: len(whole) // 2])
    clip = save_clip(torn, 3, 9, tmp_path / "clip.flv")
    assert 0 < clip.duration < 4
    with pytest.raises(UnreadableVideo, match="it ends at"):
        save_clip(torn, 8, 9, tmp_path / "none.flv")


@pytest.mark.parametrize("suffix", [".flv", ".avi", ".mkv", ".mp4"])
def test_a_last_picture_that_stands_long_is_no_torn_film(tmp_path, suffix):
    """Some formats do not tell how long it stays."""
    film = tmp_path / f"slides{suffix}"
    with av.open(str(film), "w") as out:
        stream = out.add_stream(
            "mpeg4" if suffix == ".avi" else "libx264", rate=25 if suffix == ".flv" else Fraction(1, 5)
        )
        stream.width = stream.height = 128
        stream.pix_fmt, stream.gop_size = "yuv420p", 1
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            if suffix == ".flv":
                frame.pts, frame.time_base = 125 * number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with open_video(film) as video:
        end = video.duration
    clip = save_clip(film, 12, end, tmp_path / f"clip{suffix}")
    assert clip.start + clip.duration == pytest.approx(end, abs=0.1)
    assert end > 15.03


def test_the_last_picture_stays_while_the_sound_goes_on(tmp_path):
    film = write_clock(tmp_path / "film.mkv", seconds=10)
    long = remux(film, tmp_path / "long.mkv", until=6.0)
    clip = save_clip(long, 5, 9, tmp_path / "clip.mkv")
    assert (clip.start, clip.start + clip.duration) == (
        pytest.approx(5.0, abs=0.05),
        pytest.approx(9.0, abs=0.05),
    )


def test_sound_of_a_preview_is_in_time_whatever_its_packets_hold(tmp_path):
    """A frame of sound may begin long before the stretch: it was heard from its beginning on, all of it late."""
    pictures, film = write_clock(tmp_path / "clock.mkv", audio=None, seconds=10), tmp_path / "film.mkv"
    seconds = np.arange(10 * SOUND) / SOUND
    wave = 0.5 * np.sin(2 * np.pi * 1000 * seconds) * (seconds % 1 < TONE)
    with av.open(str(pictures)) as source, av.open(str(film), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0], opaque=True)
        sound = out.add_stream("pcm_s16le", rate=SOUND, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        for at in range(0, len(wave), 38_400):  # 0.8 s
            part = (wave[None, at : at + 38_400] * 32_000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND, at, Fraction(1, SOUND)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    for start in (4.4, 4.7, 5.6):
        proxy = tmp_path / "proxy.mp4"
        write_proxy(str(film), str(proxy), start, start + 3, height=96, rate=25, sound=True)
        heard = [tone + start for tone in tones_in(proxy)]
        assert heard == pytest.approx([np.ceil(start) + i for i in range(3)], abs=0.03), start
