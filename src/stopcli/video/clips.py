"""The frames of a clip, of its windows, or of a few moments for people to look at.

Times are seconds from the first frame. Letters: T frames, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import UnreadableVideo
from stopcli.video.reader import VideoReader, open_video
from stopcli.video.sampling import sample_times, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Frames:
    """Frames of one clip: pixels (T,S,S,3) uint8 RGB; their times (T,) in seconds."""

    pixels: NDArray[np.uint8]
    times: NDArray[np.float64]
    start: float
    end: float


def read_frames(
    path: str | Path,
    frames: int,
    size: int,
    *,
    start: float | None = None,
    end: float | None = None,
    threads: int = 0,
) -> Frames:
    """Read ``frames`` frames at segment centres, the short side resized to ``size``, centre cut.

    Args:
        path: a video file.
        frames: T, how many.
        size: S, pixels.
        start: first second wanted; None is the beginning.
        end: last second wanted; None is the end.
        threads: of the decoder; 0 lets FFmpeg choose.

    Raises:
        InputError: one of its kinds, with the file's fault in one sentence.
    """
    with open_video(path, threads=threads) as video:
        begin = start or 0.0
        if begin >= video.duration and start is not None:
            raise UnreadableVideo(f"{path}: it ends at {video.duration:.2f} s, but {begin:.2f} s was wanted")
        stop = min(end, video.duration) if end is not None else video.duration
        pixels, times = _collect(video, sample_times(stop - begin, frames, begin), size)
        if end is None and video.duration < stop * 0.98 - 0.05:
            # the file ended early: sample what is really there
            stop = video.duration
            pixels, times = _collect(video, sample_times(stop - begin, frames, begin), size)
        return Frames(pixels, times, begin, stop)


def read_windows(
    path: str | Path, frames: int, size: int, window: float, *, threads: int = 0
) -> Iterator[Frames]:
    """Yield ``frames`` frames of each window of ``window`` seconds, in one pass over the file.

    Memory holds one window, whatever the file's length.

    Raises:
        InputError: as `read_frames`.
    """
    with open_video(path, threads=threads) as video:
        spans = windows(video.duration, window)
        wanted = np.concatenate([sample_times(b - a, frames, a) for a, b in spans])
        decoded = video.frames_at(wanted, size)
        for index, (a, b) in enumerate(spans):
            buffer = list(islice(decoded, frames))
            if index and a >= video.duration:
                return  # the header promised more than there is
            times, pixels = zip(*buffer, strict=True)
            yield Frames(np.stack(pixels), np.array(times), a, min(b, video.duration))


def read_pictures(path: str | Path, times: Sequence[float], size: int) -> list[NDArray[np.uint8]]:
    """Read whole frames for people to look at: (H,W,3) uint8, the short side S pixels.

    Args:
        path: a video file.
        times: seconds, ascending.
        size: S.

    Raises:
        InputError: as `read_frames`.
    """
    with open_video(path) as video:
        last = max(0.0, video.duration - 0.01)
        return [p for _, p in video.frames_at([min(t, last) for t in times], size, whole=True)]


def _collect(
    video: VideoReader, wanted: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    was_damaged = video.damaged
    decoded = list(video.frames_at(wanted, size))
    if video.damaged and not was_damaged:  # damage shows late: what came before it may be harmed too
        decoded = list(video.frames_at(wanted, size))
    times, pixels = zip(*decoded, strict=True)
    return np.stack(pixels), np.array(times)
