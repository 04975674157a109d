"""Which times of a video to look at: nothing but arithmetic. Times are seconds from the first frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def sample_times(duration: float, frames: int, start: float = 0.0) -> NDArray[np.float64]:
    """Return the centres of ``frames`` equal segments of ``[start, start + duration)``, seconds."""
    centres: NDArray[np.float64] = start + (np.arange(frames, dtype=np.float64) + 0.5) * (duration / frames)
    return centres


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
