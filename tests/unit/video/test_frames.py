"""The right frame, the right way up, in the right colours, at the time that players show."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import UnreadableVideo
from stopcli.video.clips import read_frames, read_windows
from stopcli.video.pixels import HLG, PQ, to_sdr, upright
from stopcli.video.sampling import film_times, sample_times

SIZE, FPS = 96, 25


def numbered(i, width, height):
    """Frame ``i``: its number as ten black or white tiles in the middle square; (H,W,3) uint8."""
    image = np.zeros((height, width, 3), np.uint8)
    tile, left = height // 5, (width - height) // 2
    for bit in range(10):
        row, column = divmod(bit, 5)
        if i >> bit & 1:
            y, x = row * height // 2, left + column * tile
            image[y : y + height // 2, x : x + tile] = 255
    return image


def number(pixels):
    """Read the number of a frame (S,S,3)."""
    side = len(pixels)
    places = (divmod(bit, 5) for bit in range(10))
    return sum(
        (pixels[side // 4 + r * side // 2, side // 10 + c * side // 5].mean() > 128) << bit
        for bit, (r, c) in enumerate(places)
    )


def coded(path, frames=100, **options):
    size = options.pop("size", (160, 120))
    return write_video(path, frames=frames, fps=FPS, size=size, draw=numbered, **options)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", "avi", {"bf": "2", "g": "12"}),
        ("libx264", "avi", {"bf": "3", "g": "50"}),
        ("libx264", "avi", {"bf": "0"}),
        ("mpeg4", "avi", {"bf": "2", "g": "12"}),
        ("mpeg4", "avi", {"g": "12"}),
        ("libx264", "mp4", {"bf": "2", "g": "12"}),
        ("libx264", "mkv", {"bf": "2", "g": "12"}),
        ("libx264", "ts", {"bf": "2", "g": "12"}),
    ],
)
def test_frames_that_decoders_hold_back_are_not_late(tmp_path, codec, suffix, options):
    path = coded(tmp_path / f"v.{suffix}", codec=codec, options=options)
    clip = read_frames(path, 12, SIZE)
    wanted = [int(t * FPS + 1e-6) for t in sample_times(4.0, 12)]
    assert [number(p) for p in clip.pixels] == wanted
    assert clip.times == pytest.approx([n / FPS for n in wanted], abs=0.02)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_track_that_players_show_is_the_film(tmp_path, suffix):
    path = tmp_path / f"two.{suffix}"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=FPS) for _ in range(2)]
        for stream, flag in zip(streams, (0, 1), strict=True):
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            stream.disposition = flag
        for i in range(50):
            for first, stream in zip((500, 0), streams, strict=True):
                frame = av.VideoFrame.from_ndarray(numbered(first + i, 160, 120), format="rgb24")
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode())
    assert [number(p) for p in read_frames(path, 5, SIZE).pixels] == [5, 15, 25, 35, 45]


def late(path, seconds=3.0):
    """Sound from 0 s on, pictures from ``seconds`` on."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000)
        film = out.add_stream("libx264", rate=FPS)
        film.width, film.height, film.pix_fmt = 160, 120, "yuv420p"
        film.codec_context.time_base = Fraction(1, FPS)
        for k in range(40):
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            noise.sample_rate, noise.pts, noise.time_base = 8000, 1024 * k, Fraction(1, 8000)
            out.mux(sound.encode(noise))
        for i in range(31):
            frame = av.VideoFrame.from_ndarray(numbered(i, 160, 120), format="rgb24")
            frame.pts, frame.time_base = round(seconds * FPS) + i, Fraction(1, FPS)
            out.mux(film.encode(frame))
        out.mux(film.encode())
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_times_are_those_of_the_files_own_clock(tmp_path, suffix):
    path = late(tmp_path / f"late.{suffix}")
    clip = read_frames(path, 3, SIZE)
    assert (clip.start, clip.end) == pytest.approx((3.0, 4.24), abs=0.15)
    assert [number(p) for p in clip.pixels] == [5, 15, 25]
    part = read_frames(path, 1, SIZE, start=clip.start + 0.4, end=clip.start + 0.8)
    assert number(part.pixels[0]) == 15
    (window,) = read_windows(path, 3, SIZE, 8.0)
    assert (window.start, window.end) == pytest.approx((3.0, 4.24), abs=0.15)
    with pytest.raises(UnreadableVideo, match="its picture begins at 3"):
        read_frames(path, 1, SIZE, start=0.5, end=2.0)


def test_hits_say_when_the_picture_is_shown(run_json, toy, tmp_path):
    path = late(tmp_path / "late.mp4")
    status, told = run_json(
        "retrieve", path, "-m", toy, "--query", "a dog", "--window", "1", "--min-confidence", "0"
    )
    assert status == 0
    spans = sorted((d["start"], d["end"]) for d in told["data"])
    assert (spans[0][0], spans[-1][1]) == pytest.approx((3.0, 4.24), abs=0.05)


def test_two_recordings_in_one_file_are_seen_both(tmp_path):
    first, second = coded(tmp_path / "a.ts"), tmp_path / "b.ts"
    with av.open(str(second), "w") as out:
        film = out.add_stream("libx264", rate=FPS)
        film.width, film.height, film.pix_fmt = 160, 120, "yuv420p"
        film.codec_context.time_base = Fraction(1, FPS)
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(numbered(500 + i, 160, 120), format="rgb24")
            frame.pts, frame.time_base = 25_000 + i, Fraction(1, FPS)  # a clock that is 1000 s ahead
            out.mux(film.encode(frame))
        out.mux(film.encode())
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    shown = [number(p) for p in read_frames(both, 12, SIZE).pixels]
    assert [n < 500 for n in shown] == [True] * 6 + [False] * 6
    assert len(set(shown)) == 12
    assert len(list(read_windows(both, 2, SIZE, 8.0))) <= 2


def test_time_in_which_nothing_is_shown_is_left_out():
    stamps = np.array([0, 1, 2, 3, 1000, 1001, 1002, 1003.0])
    assert film_times(stamps, 4, 0.0, 1004.0).tolist() == [1, 3, 1001, 1003]
    steady = np.arange(0, 100, 5.0)
    assert np.array_equal(film_times(steady, 7, 0.0, 100.0), sample_times(100.0, 7))


@pytest.mark.parametrize("seconds", [2.0**31, 160_000.0])
def test_a_header_that_claims_years_gives_as_many_windows_as_frames(tmp_path, seconds):
    """16 pictures, each of which the file claims to show for hours."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w", options={"video_track_timescale": "1"}) as out:
        film = out.add_stream("libx264", rate=1)
        film.width, film.height, film.pix_fmt = 160, 120, "yuv420p"
        film.codec_context.time_base = film.time_base = Fraction(1, 1)
        film.options = {"bf": "0"}
        for i in range(16):
            frame = av.VideoFrame.from_ndarray(numbered(i, 160, 120), format="rgb24")
            frame.pts, frame.time_base = round(i * seconds / 16), Fraction(1, 1)
            out.mux(film.encode(frame))
        out.mux(film.encode())
    found = list(read_windows(path, 2, 32, 8.0))
    assert 12 <= len(found) <= 16
    assert read_frames(path, 12, SIZE).pixels.shape[0] == 12


@pytest.mark.parametrize(("suffix", "frames"), [("mp4", 1), ("mkv", 1), ("avi", 1), ("gif", 1), ("mp4", 2)])
def test_a_clip_of_a_frame_lasts_a_while(tmp_path, suffix, frames):
    codec, pix = ("gif", "rgb8") if suffix == "gif" else ("libx264", "yuv420p")
    path = coded(tmp_path / f"v.{suffix}", frames=frames, codec=codec, pix_fmt=pix, options={"x": "0"})
    clip = read_frames(path, 1, 32)
    assert clip.end > clip.start


CORNERS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (None, CORNERS),
        ((1, 0, 0, 1), CORNERS),
        ((-1, 0, 0, 1), CORNERS[:, ::-1]),
        ((1, 0, 0, -1), CORNERS[::-1]),
        ((-1, 0, 0, -1), np.rot90(CORNERS, 2)),
        ((0, 1, -1, 0), np.rot90(CORNERS, -1)),
        ((0, -1, 1, 0), np.rot90(CORNERS, 1)),
        ((0, 1, 1, 0), CORNERS.transpose(1, 0, 2)),
        ((1, 1, -1, 1), CORNERS),  # an eighth of a turn
        ((0, 0, 0, 0), CORNERS),
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_file_says(matrix, expected):
    scaled = None if matrix is None else tuple(65536 * v for v in matrix)
    assert np.array_equal(upright(CORNERS, scaled), expected)


def test_a_mirrored_film_is_read_mirrored(tmp_path):
    path = coded(tmp_path / "v.mp4", frames=5)
    plain = read_frames(path, 1, SIZE).pixels[0].astype(int)
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4 + 40  # version 0: its matrix
    data[at : at + 36] = struct.pack(">9i", 65536, 0, 0, 0, -65536, 0, 0, 120 << 16, 1 << 30)
    path.write_bytes(data)
    assert np.abs(read_frames(path, 1, SIZE).pixels[0].astype(int) - plain[::-1]).mean() < 2


PATCHES = np.array(
    [[255, 255, 255], [128, 128, 128], [200, 40, 30], [30, 160, 60], [20, 40, 180], [10, 10, 10.0]]
)


def to_hdr(rgb, transfer):
    """Turn sRGB colours (N,3) of 0 to 255 into BT.2020 in PQ or HLG, white at 203 cd/m2."""
    v = rgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.088, 0.8956]])
    light = 203 * linear @ to_2020.T
    if transfer == PQ:
        y = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    display = light / 1000
    luma = (display @ np.array([0.2627, 0.678, 0.0593]))[:, None]
    scene = display * np.where(luma > 0, luma, 1) ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12,
        np.sqrt(3 * scene),
        0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
    )


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_looks_like_the_picture_it_was_made_of(transfer):
    back = to_sdr(to_hdr(PATCHES, transfer)[None].astype(np.float32), transfer)[0]
    assert np.abs(back.astype(int) - PATCHES).max() <= 3


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_films_have_the_colours_of_their_source(tmp_path, transfer):
    path = tmp_path / "hdr.mp4"
    picture = np.repeat(np.repeat(to_hdr(PATCHES, transfer).reshape(2, 3, 3), 40, 0), 40, 1)
    with av.open(str(path), "w") as out:
        film = out.add_stream("libx264", rate=FPS)
        film.width, film.height, film.pix_fmt = 120, 80, "yuv420p10le"
        film.options = {"crf": "4"}
        film.codec_context.color_trc, film.codec_context.color_primaries = transfer, 9
        film.codec_context.colorspace = 9
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray((picture * 65535).astype(np.uint16), format="rgb48le")
            out.mux(film.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        out.mux(film.encode())
    pixels = read_frames(path, 1, 80).pixels[0].astype(int)  # the middle 80 of 120 columns
    for row, column, k in ((20, 40, 1), (60, 40, 4), (20, 8, 0), (60, 72, 5)):
        assert np.abs(pixels[row, column] - PATCHES[k]).max() <= 20, (row, column)


@pytest.mark.parametrize("width", [97, 98, 99, 100])
def test_brightness_does_not_depend_on_the_width(tmp_path, width):
    """A grey film that is a bit wider than it is high: its grey is the same for odd and even widths."""

    def grey(_, w, h):
        return np.full((h, w, 3), 120, np.uint8)

    path = write_video(tmp_path / "v.mkv", frames=3, size=(2 * width, 192), draw=grey, options={"crf": "1"})
    assert np.abs(read_frames(path, 1, 96).pixels.astype(int) - 120).max() <= 1
