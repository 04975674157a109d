"""The frames of a clip, of its windows, or of a few moments for people to look at.

Times are seconds on the file's own clock, as players show them. Letters: T frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import UnreadableVideo
from stopcli.video.pixels import Framing
from stopcli.video.reader import VideoReader, open_video
from stopcli.video.sampling import count_windows, sample_times, windows

READER = 3  # counts up whenever the frames of some file become others
MANY = 5000  # windows: so many must be in a file, not in its header only


@dataclass(frozen=True)
class Frames:
    """Frames of one clip: pixels (T,S,S,3) uint8 RGB; their times (T,) in seconds."""

    pixels: NDArray[np.uint8]
    times: NDArray[np.float64]
    start: float
    end: float

    @classmethod
    def of(
        cls, decoded: Iterable[tuple[float, NDArray[np.uint8]]], start: float, end: float, offset: float
    ) -> Frames:
        """Stack what `VideoReader.frames_at` yields; ``offset`` (seconds) is added to all times."""
        times, pixels = zip(*decoded, strict=True)
        return cls(np.stack(pixels), np.array(times) + offset, start + offset, end + offset)


def read_frames(
    path: str | Path,
    frames: int,
    size: int | Framing,
    *,
    start: float | None = None,
    end: float | None = None,
    threads: int = 0,
) -> Frames:
    """Read T frames at segment centres, made square as ``size`` says; a number is CLIP's way.

    ``threads`` are the decoder's; 0 lets FFmpeg choose.

    Raises:
        InputError: one of its kinds, with the file's fault in one sentence.
    """
    with open_video(path, threads=threads) as video:
        begin = max(0.0, start - video.offset) if start is not None else 0.0
        if begin >= video.duration and start is not None:
            raise _too_late(path, video, start)
        if end is not None and end <= video.offset:
            raise UnreadableVideo(f"{path}: its picture begins at {video.offset:.2f} s, after {end:.2f} s")
        stop = min(end - video.offset, video.duration) if end is not None else video.duration
        clip = _read_part(video, begin, stop, frames, size)
        if start is not None and begin >= video.duration:  # which is known only now
            raise _too_late(path, video, start)
        if video.duration < stop * 0.98 - 0.05:
            # the file ended early: sample what is really there
            clip = _read_part(video, begin, video.duration, frames, size)
        return clip


def _too_late(path: str | Path, video: VideoReader, start: float) -> UnreadableVideo:
    last = video.duration + video.offset
    return UnreadableVideo(f"{path}: it ends at {last:.2f} s, but {start:.2f} s was wanted")


def _read_part(video: VideoReader, start: float, end: float, frames: int, size: int | Framing) -> Frames:
    wanted = video.sample(frames, start, end)
    was_damaged = video.damaged
    decoded = list(video.frames_at(wanted, size))
    if video.damaged and not was_damaged:  # damage shows late: what came before it may be harmed too
        decoded = list(video.frames_at(wanted, size))
    return Frames.of(decoded, start, end, video.offset)


def read_windows(
    path: str | Path, frames: int, size: int | Framing, window: float, *, threads: int = 0
) -> Iterator[Frames]:
    """Yield T frames of each window of so many seconds, as `read_frames`, in one pass over the file.

    Memory holds one window, whatever the file's length. A window in which no frame begins is none.
    """
    with open_video(path, threads=threads) as video:
        # where windows are few, the frames will tell which have none of their own
        many = count_windows(video.duration, window) > MANY
        stamps = video.stamps(scan=many or video.may_jump)
        spans = list(windows(video.duration, window, stamps))
        wanted = np.concatenate([sample_times(b - a, frames, a) for a, b in spans])
        decoded = video.frames_at(wanted, size)
        for index, (a, b) in enumerate(spans):
            buffer = list(islice(decoded, frames))  # may correct the duration
            if index and a >= video.duration:
                return  # the header promised more than there is
            if index and buffer[-1][0] < a and not video.keys_only:
                continue
            yield Frames.of(buffer, a, min(b, video.duration), video.offset)


def read_pictures(path: str | Path, times: Sequence[float], size: int) -> list[NDArray[np.uint8]]:
    """Read whole frames (H,W,3) at ascending times for people to look at; errors as `read_frames`."""
    with open_video(path) as video:
        last = max(0.0, video.duration - 0.01)
        wanted = [min(max(0.0, t - video.offset), last) for t in times]
        return [p for _, p in video.frames_at(wanted, size, whole=True)]
