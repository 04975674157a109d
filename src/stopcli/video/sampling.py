"""Which times of a video to look at: nothing but arithmetic. Times are seconds from the first frame."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def sample_times(duration: float, frames: int, start: float = 0.0) -> NDArray[np.float64]:
    """Return the centres of ``frames`` equal segments of ``[start, start + duration)``, seconds."""
    centres: NDArray[np.float64] = start + (np.arange(frames, dtype=np.float64) + 0.5) * (duration / frames)
    return centres


def windows(duration: float, window: float) -> list[tuple[float, float]]:
    """Cut ``duration`` seconds into pieces of ``window`` seconds; a rest of less than half joins the last."""
    count = max(1, int(duration / window + 0.5))
    return list(pairwise([*(i * window for i in range(count)), duration]))
