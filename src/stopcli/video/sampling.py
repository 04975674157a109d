"""Which times of a video to look at: nothing but arithmetic. Times are seconds from the first frame."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST = 10.0  # seconds that one picture may be shown
NEAR = 0.25  # seconds before a wanted frame in which nothing is skipped, besides two frames
STEADY = 1.0  # ... of at most so many seconds: of slower pictures nothing is skipped


def sample_times(duration: float, frames: int, start: float = 0.0) -> NDArray[np.float64]:
    """Return the centres of ``frames`` equal segments of ``[start, start + duration)``, seconds."""
    centres: NDArray[np.float64] = start + (np.arange(frames, dtype=np.float64) + 0.5) * (duration / frames)
    return centres


def film_times(stamps: NDArray[np.float64], frames: int, start: float, end: float) -> NDArray[np.float64]:
    """Return `sample_times` of ``[start, end)``, where nothing is shown for long leaving that time out.

    ``stamps`` are the times of all packets. Two recordings in one file may be years apart by its clock.
    """
    shown = stamps[(stamps >= start) & (stamps < end)]
    steps = np.diff(np.append(shown, end))
    if not len(shown) or steps.max() <= LONGEST:
        return sample_times(end - start, frames, start)
    usual = min(LONGEST, float(np.median(steps)))
    film = np.concatenate([[0.0], np.cumsum(np.where(steps > LONGEST, usual, steps))])
    wanted = sample_times(film[-1], frames)
    packet = np.searchsorted(film, wanted, "right") - 1
    times: NDArray[np.float64] = shown[packet] + wanted - film[packet]
    return times


def near(stamps: NDArray[np.float64] | None) -> float | None:
    """Return how long before a wanted time (seconds) every frame is decoded; None: always."""
    if stamps is None or len(stamps) < 2:
        return None
    step = float(np.diff(stamps).max())
    return NEAR + 2 * step if step <= STEADY else None


def is_far(shown: float, wanted: Sequence[float], span: float) -> bool:
    """Say whether a frame comes more than ``span`` (seconds) before the next wanted time, or after all."""
    following = bisect_left(wanted, shown - 1e-3)
    return following == len(wanted) or wanted[following] - shown > span


def windows(
    duration: float, window: float, stamps: NDArray[np.float64] | None = None
) -> Iterator[tuple[float, float]]:
    """Cut ``duration`` seconds into pieces of ``window`` seconds; a rest of less than half joins the last.

    With ``stamps``, the times of all packets, pieces in which none is shown are left out: a header may claim
    years, and a frozen picture is no new moment.
    """
    count = count_windows(duration, window)
    numbers: Iterable[int] = range(count)
    if stamps is not None and len(stamps):
        numbers = np.unique(np.clip(stamps // window, 0, count - 1).astype(np.int64)).tolist()
    for i in numbers:
        yield i * window, (i + 1) * window if i + 1 < count else duration


def count_windows(duration: float, window: float) -> int:
    """Return how many pieces `windows` cuts, with nothing left out."""
    return max(1, int(duration / window + 0.5))
