"""Films in pieces: cuts found, motion and flashes not mistaken for them, long and still pieces."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import write_video
from stopcli.results import Hit
from stopcli.tasks.clips import at_cuts
from stopcli.video.clips import read_windows
from stopcli.video.cut.shots import STEP, Look, between, pieces, read_shots, shot_at
from stopcli.video.pixels import Framing
from stopcli.video.workers.pool import read_pictures

FPS, T, SIDE = 24, 8, 64


def scene(number):
    """A still ground of its own, and a bar that moves over it."""
    rng = np.random.default_rng(number)
    ground = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)

    def draw(i):
        image = ground.copy()
        at = 3 * i % 112
        image[:, at : at + 8] = (200, 200, 90)
        return image

    return draw


def write_film(path, *lengths, still=False):
    """Write scenes of so many seconds; ``still`` ones without the bar's motion."""
    scenes = [(scene(k), i) for k, length in enumerate(lengths) for i in range(round(length * FPS))]
    return write_video(
        path, frames=len(scenes), fps=FPS, draw=lambda i, w, h: scenes[i][0](0 if still else scenes[i][1])
    )


def spans(path, window=8.0):
    return [(round(p.start, 2), round(p.end, 2)) for p in read_shots(path, T, SIDE, window)]


def test_pieces_end_at_cuts(tmp_path):
    film = write_film(tmp_path / "film.mp4", 3, 1.5, 5, 2.5)
    assert [b for _, b in spans(film)] == pytest.approx([3, 4.5, 9.5, 12], abs=0.15)
    assert [a for a, _ in spans(film)] == [0.0, *(b for _, b in spans(film)[:-1])]


@pytest.mark.parametrize(("at", "shot"), [(1.0, (0, 3)), (3.4, (3, 4.5)), (4.8, (4.5, 7.8))])
def test_the_shot_around_a_time_ends_at_cuts(tmp_path, at, shot):
    film = write_film(tmp_path / "film.mp4", 3, 1.5, 5)
    times = [float(t) for t in np.arange(max(0.0, at - 3), at + 3, STEP)]
    looks = np.array(read_pictures(film, times, SIDE))
    assert shot_at(times, looks, at) == pytest.approx(shot if at > 3 else (0, 3), abs=0.3)


def test_frames_of_a_piece_are_those_of_one_shot(tmp_path):
    film = write_film(tmp_path / "film.mp4", 3, 2, 4)
    grounds = [np.mean([p.pixels.mean((1, 2)).std(0).max()]) for p in read_shots(film, T, SIDE, 8.0)]
    assert max(grounds) < 12  # the colors of one ground, whatever the bar covers
    for piece in read_shots(film, T, SIDE, 8.0):
        assert piece.pixels.shape == (T, SIDE, SIDE, 3)
        assert (piece.times >= piece.start - 0.05).all()
        assert (piece.times < piece.end + 0.05).all()


@pytest.mark.parametrize("seconds", [1, 3, 11, 12, 20, 30.5])
def test_a_film_without_cuts_is_read_as_windows_are(tmp_path, seconds):
    film = write_film(tmp_path / "film.mp4", seconds)
    fixed = list(read_windows(film, T, SIDE, 8.0))
    found = list(read_shots(film, T, SIDE, 8.0))
    assert [(p.start, p.end) for p in found] == [pytest.approx((p.start, p.end), abs=1e-6) for p in fixed]
    for one, other in zip(found, fixed, strict=True):
        assert np.abs(one.times - other.times).max() <= (1e-6 if seconds < 12 else 0.13)


def test_still_footage_is_few_pieces(tmp_path):
    film = write_film(tmp_path / "film.mp4", 40, still=True)
    assert spans(film) == [(0.0, 40.0)]
    assert len(list(read_windows(film, T, SIDE, 8.0))) == 5


def test_what_moves_briefly_in_still_footage_has_a_piece_of_its_own(tmp_path):
    """A small animal runs through the picture for two seconds of a minute."""

    def draw(i, width, height):
        image = np.full((height, width, 3), 110, np.uint8)
        if 40 * 8 <= i < 42 * 8:
            image[50:62, (i - 320) * 8 : (i - 320) * 8 + 12] = 20
        return image

    film = write_video(tmp_path / "film.mp4", frames=60 * 8, fps=8, draw=draw)
    (before, during, after) = spans(film)
    assert before == (0.0, pytest.approx(40, abs=0.3))
    assert during == (before[1], pytest.approx(48, abs=0.6))
    assert after[1] == 60.0


def test_long_windows_hold_few_looks():
    most = 0
    sights = np.random.default_rng(0).integers(0, 255, (50, 12, 12, 3)).astype(np.float32)

    def looks():
        for i in range(4 * 3600):
            yield Look(0.25 * i + 0.125, i, sights[i // 2 % 50] * 0.1)

    spans = []
    for piece, start, end in pieces(looks(), 1800.0, 0.125, 256):
        most = max(most, len(piece))
        spans.append((start, end))
        times = [look.time for look in piece]
        gaps = np.diff([start, *times, end])
        assert gaps.max() < 1800 / (T * 4)  # evenly spread: none is far from the middle of a part
    assert most <= 257
    assert spans == [(0.0, 1800.0), (1800.0, 3600.0)]


@pytest.mark.parametrize("window", [64.0, 300.0])
def test_frames_of_a_long_window_are_near_the_middles_of_its_parts(tmp_path, window):
    """What was held was halved again and again, the oldest most often: seconds of a minute had no frame."""
    bar = scene(1)  # four pictures a second, as many as are looked at
    film = write_video(tmp_path / "film.mp4", round(8.4 * window), fps=4, draw=lambda i, w, h: bar(i))
    found = list(read_shots(film, T, SIDE, window))
    assert len(found) == 2
    for piece in found:
        middles = piece.start + (np.arange(T) + 0.5) * (piece.end - piece.start) / T
        assert np.abs(piece.times - middles).max() < window / T / 8


@pytest.mark.parametrize("window", [0.3, 0.5, 1.0])
def test_short_windows_stay_short(tmp_path, window):
    """A second of footage was too short to be a window: all of a film became one."""
    film = write_film(tmp_path / "film.mp4", 6)
    found = spans(film, window)
    assert [b - a for a, b in found[:-1]] == pytest.approx([window] * (len(found) - 1), abs=0.02)
    assert len(found) == pytest.approx(6 / window, abs=1)


def test_a_flash_is_no_cut(tmp_path):
    draw = scene(0)
    film = write_video(
        tmp_path / "film.mp4",
        frames=6 * FPS,
        fps=FPS,
        draw=lambda i, w, h: np.full((h, w, 3), 255, np.uint8) if 70 <= i < 74 else draw(i),
    )
    assert spans(film) == [(0.0, 6.0)]


def test_what_moves_fast_is_no_cut(tmp_path):
    """A camera that pans changes much from look to look, but always."""
    wide = np.kron(np.random.default_rng(3).integers(0, 255, (6, 80, 3)), np.ones((16, 16, 1))).astype(
        np.uint8
    )
    film = write_video(
        tmp_path / "film.mp4", frames=5 * FPS, fps=FPS, draw=lambda i, w, h: wide[:, 8 * i : 8 * i + w]
    )
    assert spans(film) == [(0.0, 5.0)]


def test_key_frames_far_apart_are_compared_with_each_other(tmp_path):
    """Between two of them much changes where the camera moves, and nothing while one is shown."""
    ground = np.random.default_rng(3).integers(0, 255, (6, 240, 3))
    wide = np.kron(ground, np.ones((16, 16, 1))).astype(np.uint8)
    keys, far = Framing(SIDE, keyframes=True), {"g": "36", "keyint_min": "36", "sc_threshold": "0"}

    def pieces_of(name, draw, frames):
        film = write_video(tmp_path / name, frames=frames, fps=FPS, draw=draw, options=far)
        return [(round(p.start), round(p.end)) for p in read_shots(film, T, keys, 8.0)]

    pan = pieces_of("pan.mp4", lambda i, w, h: wide[:, 5 * i : 5 * i + w], 24 * FPS)
    assert pan == [(0, 8), (8, 16), (16, 24)]
    scenes = [scene(0), scene(1)]
    cut = pieces_of("cut.mp4", lambda i, w, h: scenes[i // (9 * FPS)](i), 18 * FPS)
    assert cut == [(0, 9), (9, 18)]


def test_a_rest_that_is_too_short_belongs_to_the_piece_before(tmp_path):
    assert spans(write_film(tmp_path / "film.mp4", 4, 0.4)) == [(0.0, 4.42)]


def test_a_film_of_very_short_shots_is_not_cut_to_bits(tmp_path):
    film = write_film(tmp_path / "film.mp4", *[0.3] * 20)
    assert all(b - a >= 0.7 for a, b in spans(film))


def test_memory_holds_a_piece_of_a_still_film():
    """An hour in which nothing happens is held as few looks."""
    sight = np.zeros((12, 12, 3), np.float32)
    most = 0

    def looks():
        for i in range(4 * 3600):
            yield Look(0.25 * i + 0.125, i, sight)

    for piece, start, end in pieces(looks(), 8.0, 0.125):
        most = max(most, len(piece))
        assert end - start <= 65
    assert most < 300


def test_the_middles_of_parts_are_looked_at():
    for frames in (1, 4, 8, 12, 64):
        for span in (0.5, 3.0, 8.0):
            step = between(span, frames)
            assert step <= 0.25 + 1e-9
            parts = (np.arange(frames) + 0.5) * span / frames
            assert ((parts / step - 0.5) % 1 % 1 == pytest.approx(0, abs=1e-6)) or np.allclose(
                np.round(parts / step - 0.5), parts / step - 0.5
            )


def test_a_lying_header_does_not_fill_the_memory(tmp_path):
    from stopcli.video.cut import shots

    film = write_film(tmp_path / "film.mp4", 3)
    data = bytearray(film.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4 + 16
        data[at : at + 4] = (2**31 - 1).to_bytes(4, "big")
    (tmp_path / "liar.mp4").write_bytes(data)
    assert len(list(shots.read_shots(tmp_path / "liar.mp4", T, SIDE, 8.0))) <= 2


def test_what_leaves_the_tool_begins_and_ends_with_its_shots_to_the_frame(tmp_path):
    """Looks are a quarter of a second apart: hits had up to three frames of the shots around them."""
    lengths = [35 / FPS, 50 / FPS, 41 / FPS, 66 / FPS]
    film = write_film(tmp_path / "film.mp4", *lengths)
    edges = [0.0, *np.cumsum(lengths)]
    found = [(p.start, p.end) for p in read_shots(film, T, SIDE, 8.0)]
    assert max(abs(a - b) for (a, _), b in zip(found, edges, strict=False)) > 0.03  # what is to be mended
    hits = [at_cuts(Hit("x", 1, str(film), a, b, 0.5)) for a, b in found]
    assert [h.start for h in hits] == pytest.approx(edges[:-1], abs=1e-3)
    assert [h.end for h in hits[:-1]] == pytest.approx(edges[1:-1], abs=1e-3)
    assert hits[-1].end == found[-1][1]


def test_a_flash_beside_a_cut_moves_no_edge(tmp_path):
    one, other = scene(1), scene(2)

    def draw(i, width, height):
        return np.full((96, 128, 3), 250, np.uint8) if i in (62, 110) else (one if i < 60 else other)(i)

    film = write_video(tmp_path / "film.mp4", frames=150, fps=FPS, draw=draw)
    for edge in (60 / FPS, 108 / FPS):
        hit = Hit("x", 1, str(film), edge, 5.5, 0.5)
        assert at_cuts(hit).start == pytest.approx(edge, abs=1e-3)


def test_an_edge_that_is_no_cut_stays_where_it_is(tmp_path):
    film = write_film(tmp_path / "film.mp4", 4, 4)
    for hit in (Hit("x", 1, str(film), 2.0, 3.6, 0.5), Hit("x", 1, str(film), None, None, 0.5)):
        assert at_cuts(hit) == hit
    assert at_cuts(gone := Hit("x", 1, str(tmp_path / "gone.mp4"), 1.0, 2.0, 0.5)) == gone
