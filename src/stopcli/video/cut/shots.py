"""A film in pieces that do not cross its cuts: found in the frames as they are read, in one pass.

A cut is a change from one look to the next that is large, stands alone (what moves changes every look), and
does not go back (a flash does): of the picture, or of its colors wherever they are, which a shaking camera
leaves as they were. The idea is that of PySceneDetect's AdaptiveDetector. Letters: T frames, S pixels a side.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.video.clips import Frames, read_windows
from stopcli.video.pixels import Framing
from stopcli.video.reader import VideoReader, open_video
from stopcli.video.sampling import LONGEST, count_windows, sample_times

STEP = 0.25  # seconds between looks, at most
SIGHT = 96  # pixels a side: what is enough to see a cut
CELLS, FEW = 12, 48  # a side: a look is summed up in so many squares, of so many of its pixels
PICTURE = (14.0, 2.4)  # grey levels, and times the changes around it (plus one): what makes a cut
COLORS = (12.0, 3.2)  # the same, of the colors
AROUND = 3  # looks before and after
CLOSE = 1e-6  # seconds
SHORT = 0.75  # seconds, or half a window: no piece is shorter, but a whole film
STILL = 10.0  # grey levels, in one of the squares: less is noise, no motion
BESIDE = 0.05  # seconds: frames are as long, and times are rounded
MOST = 256  # looks of one piece that are held
PATIENCE = 8  # windows that a piece in which nothing moves may take


class Look(NamedTuple):
    """A frame (S,S,3) at a time, what it looks like from afar, and since when it is shown (seconds)."""

    time: float
    pixels: NDArray[np.uint8]
    sight: NDArray[np.float32]
    shown: float = 0.0


def _has_gaps(video: VideoReader) -> bool:
    """Say whether nothing is shown for long: between recordings, or because a header lies."""
    stamps = video.stamps(scan=True)
    if stamps is None:
        return False
    return len(stamps) < 2 or float(np.diff(np.append(stamps, video.duration)).max()) > LONGEST


class Change(NamedTuple):
    """How much of the picture, and of its colors, is another in the next look: grey levels on average."""

    picture: float
    colors: float


Piece = tuple[list[Look], float, float]  # its looks, its start and its end (seconds)


def read_shots(
    path: str | Path, frames: int, size: int | Framing, window: float, *, threads: int = 0
) -> Iterator[Frames]:
    """Yield T frames of each piece of a film, as `stopcli.video.clips.read_windows` does of windows.

    A piece ends at a cut, or after ``window`` seconds; one in which nothing moves may be longer. Memory holds
    one piece. Raises InputError: one of its kinds.
    """
    with open_video(path, threads=threads) as video:
        if _has_gaps(video):
            yield from read_windows(path, frames, size, window, threads=threads)
            return
        long = count_windows(video.duration, window) > 1
        step = between(window if long else video.duration, frames)
        count = max(1, math.ceil(video.duration / step - 1e-6))
        wanted = np.minimum(sample_times(count * step, count), max(0.0, video.duration - 1e-3))
        decoded = video.frames_at(wanted, size)
        looks = (
            Look(float(at), pixels, _sight(pixels), shown)
            for at, (shown, pixels) in zip(wanted, decoded, strict=False)
        )
        most, keys = max(MOST, 6 * frames), Framing.of(size).keyframes
        for piece, start, end in _ended(pieces(looks, window, step / 2, most, keyframes=keys), window):
            stop = min(end, video.duration) if video.duration > start else end
            yield _frames_of(piece, frames, start, stop, video.offset)
            if end >= video.duration:
                return  # the header promised more than there is


def between(span: float, frames: int) -> float:
    """Return how many seconds lie between looks, for the middles of T parts of a span to be among them."""
    odd = max(3, 2 * math.ceil((span / (frames * STEP) - 1) / 2) + 1)
    return span / (frames * odd)


def pieces(
    looks: Iterable[Look], window: float, half: float, most: int = MOST, *, keyframes: bool = False
) -> Iterator[Piece]:
    """Yield the pieces of a film whose looks are twice ``half`` seconds apart; the last may be short.

    Of a long piece, about ``most`` looks are held, evenly spread. One in which nothing moves ends where
    something does.
    """
    held: list[Look] = []
    every, first = 1, 0  # each look of so many is held, from the one of that number on
    start = end = 0.0
    still = True
    groups = _of_each_frame(looks) if keyframes else ([look] for look in looks)
    for number, (cut, look) in enumerate(_cuts(groups)):
        end = max(look.time - half, look.shown if cut and keyframes else 0.0)  # seen before it is there
        moves = bool(held) and _moves(held[0], look)
        long = end - start > 1.5 * window + CLOSE
        if (
            held
            and end - start >= _shortest(window)
            and (cut or (still and ((moves and end - start >= window) or end - start >= PATIENCE * window)))
        ):
            yield held, start, end
            held, start, still, moves = [], end, True, False
            every, first = 1, number
        elif held and long and not still:
            done = _before(held, start + window)
            yield done, start, start + window
            held, start = held[len(done) :], start + window
            first += len(done) * every
            still = not any(_moves(held[0], other) for other in held)
            moves = _moves(held[0], look)
        still = still and not moves
        if (number - first) % every == 0:
            held.append(look)
        if len(held) > most:
            held, every = held[::2], 2 * every
    end += 2 * half
    if held and end - start >= 1.5 * window - CLOSE and not still:
        done = _before(held, start + window)
        yield done, start, start + window
        held, start = held[len(done) :], start + window
    if held:
        yield held, start, end


def shot_at(times: Sequence[float], pictures: Sequence[NDArray[np.uint8]], at: float) -> tuple[float, float]:
    """Return when the shot around a time begins and ends, as far as pictures (H,W,3) at ascending times show.

    They are at most `STEP` seconds apart, and a cut is somewhere between two of them.
    """
    looks = [Look(t, p, _sight(_square(p))) for t, p in zip(times, pictures, strict=False)]
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.0
    cuts = [look.time - half for cut, look in _cuts([look] for look in looks) if cut]
    start = max((c for c in cuts if c <= at), default=times[0])
    return float(start), float(min((c for c in cuts if c > at), default=times[-1] + 2 * half))


def cut_near(times: Sequence[float], pixels: NDArray[np.uint8], at: float) -> float | None:
    """Return when the frame after a cut is shown, of those near a time after the largest, if there is one.

    ``pixels`` (T,S,S,3) are all frames around it, shown at ascending ``times``. The pieces of a film end up
    to half a `STEP` beside their cuts, for these are somewhere between two looks.
    """
    looks = [Look(float(t), p, _sight(p)) for t, p in dict(zip(times, pixels, strict=True)).items()]
    found: dict[float, float] = {}  # how much changes, by time
    for i, (cut, look) in enumerate(_cuts([look] for look in looks)):
        if cut and abs(look.time - at) <= STEP / 2 + BESIDE:
            over = _change(looks[max(0, i - 2)], look)  # over the end of a flash, nothing
            if over.picture >= PICTURE[0] or over.colors >= COLORS[0]:
                found[look.time] = _change(looks[i - 1], look).picture
    return max(found, key=lambda time: (found[time], -abs(time - at)), default=None)


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of a picture."""
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _before(held: list[Look], time: float) -> list[Look]:
    """Return the looks before a time: one at least, and not all."""
    return held[: min(max(1, sum(look.time < time for look in held)), len(held) - 1)]


def _shortest(window: float) -> float:
    return min(SHORT, window / 2)


def _ended(found: Iterable[Piece], window: float) -> Iterator[Piece]:
    """Give a rest that is too short to the piece before it."""
    last: Piece | None = None
    for piece, start, end in found:
        if last is not None and end - start < _shortest(window) - CLOSE:
            last = ([*last[0], *piece], last[1], end)
            continue
        if last is not None:
            yield last
        last = (piece, start, end)
    if last is not None:
        yield last


def _of_each_frame(looks: Iterable[Look]) -> Iterator[list[Look]]:
    """Put the looks at one frame together: key frames are far apart, and compared with each other."""
    return (list(same) for _, same in groupby(looks, key=attrgetter("shown")))


def _cuts(groups: Iterable[list[Look]]) -> Iterator[tuple[bool, Look]]:
    """Yield whether a cut is right before each look, and the look, as soon as those after it are known.

    There is none within a group, whose first look stands for the others.
    """
    held: deque[list[Look]] = deque()
    seen: list[Look] = []  # a few around the one in question
    changes: list[Change] = []  # changes[i]: from seen[i-1] to seen[i]
    at = 0
    for group in chain(groups, [None] * AROUND):
        if group is not None:
            changes.append(_change(seen[-1], group[0]) if seen else Change(0.0, 0.0))
            seen.append(group[0])
            held.append(group)
        elif at >= len(seen):
            return
        if len(seen) - at > AROUND or (group is None and at < len(seen)):
            first, *others = held.popleft()
            yield _is_cut(seen, changes, at), first
            yield from ((False, look) for look in others)
            at += 1
            if at > AROUND + 1:
                seen, changes, at = seen[1:], changes[1:], at - 1


def _is_cut(seen: list[Look], changes: list[Change], at: int) -> bool:
    if at == 0:
        return False
    around = [c for i, c in enumerate(changes) if i and i != at and abs(i - at) <= AROUND]
    after = _change(seen[at - 1], seen[min(at + 1, len(seen) - 1)])  # of a flash, nothing
    for kind, (least, alone) in enumerate((PICTURE, COLORS)):
        usual = float(np.mean([c[kind] for c in around])) if around else 0.0
        if changes[at][kind] >= max(least, alone * (usual + 1)) and after[kind] >= least:
            return True
    return False


def _change(one: Look, other: Look) -> Change:
    colors = [np.sort(look.sight.reshape(-1, 3), axis=0) for look in (one, other)]
    pictures = one.sight - other.sight
    return Change(float(np.abs(pictures).mean()), float(np.abs(colors[0] - colors[1]).mean()))


def _moves(first: Look, look: Look) -> bool:
    """Say whether anything has changed since the first look, be it small."""
    return bool(np.abs(first.sight - look.sight).max() >= STILL)


def _sight(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean of each of some squares (CELLS,CELLS,3) of a frame (S,S,3)."""
    some = pixels[:: max(1, pixels.shape[0] // FEW), :: max(1, pixels.shape[0] // FEW)]
    side = max(1, some.shape[0] // CELLS)
    cells = min(CELLS, some.shape[0] // side)
    cut: NDArray[np.uint8] = some[: side * cells, : side * cells]
    means: NDArray[np.float32] = cut.reshape(cells, side, cells, side, 3).mean((1, 3), dtype=np.float32)
    return means


def _frames_of(piece: list[Look], frames: int, start: float, end: float, offset: float) -> Frames:
    """Choose the looks nearest to the middles of T equal parts of a piece."""
    times = np.array([look.time for look in piece])
    wanted = sample_times(end - start, frames, start)
    nearest = np.abs(times[None] - wanted[:, None]).argmin(1)
    chosen = [piece[int(i)] for i in nearest]
    return Frames.of([(look.shown, look.pixels) for look in chosen], start, end, offset)
