"""One decoded frame: when it is shown, and what it looks like."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ASPECT = 32  # longer frames are squeezed to this before the centre is cut out


def to_pixels(frame: Any, size: int, aspect: Fraction | None, *, whole: bool = False) -> NDArray[np.uint8]:
    """Resize to the short side, turn upright and cut the centre: (S,S,3) uint8; ``whole`` cuts nothing.

    swscale does the resize and the colour conversion in one step.
    """
    from av.video.reformatter import Interpolation

    wide = frame.width * float(aspect) if aspect and 0.05 < float(aspect) < 20 else float(frame.width)
    scale = size / min(wide, frame.height)
    width = min(max(size, round(wide * scale)), MAX_ASPECT * size)
    height = min(max(size, round(frame.height * scale)), MAX_ASPECT * size)
    rgb = frame.reformat(
        width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC
    ).to_ndarray()
    turn = frame.rotation  # degrees counter-clockwise; files may say anything
    if turn % 90 == 0 and -360 <= turn <= 360:
        rgb = np.rot90(rgb, turn // 90 % 4)
    if not whole:
        top, left = (rgb.shape[0] - size) // 2, (rgb.shape[1] - size) // 2
        rgb = rgb[top : top + size, left : left + size]
    pixels: NDArray[np.uint8] = np.ascontiguousarray(rgb)
    return pixels


class Clock:
    """Tells when a frame is shown, from stamps that may be absent or out of order.

    As FFmpeg's best-effort timestamp: whichever of presentation and decoding stamps has been out
    of order less often. ``origin`` is the first frame's time, ``rate`` frames a second.
    """

    def __init__(self, origin: float, rate: float, *, prefer_dts: bool) -> None:
        self._origin, self._step = origin, 1 / rate
        self._last = {"pts": -(1 << 62), "dts": -(1 << 62)}
        self._faults = {"pts": int(prefer_dts), "dts": 0}
        self._shown: float | None = None

    def read(self, frame: Any) -> float:
        """Return a frame's time in seconds from the first."""
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for kind, stamp in stamps.items():
            if stamp is not None:
                self._faults[kind] += stamp <= self._last[kind]
                self._last[kind] = stamp
        first, second = ("pts", "dts") if self._faults["pts"] <= self._faults["dts"] else ("dts", "pts")
        stamp = stamps[first] if stamps[first] is not None else stamps[second]
        if stamp is not None and frame.time_base is not None:
            shown = max(float(stamp * frame.time_base) - self._origin, 0.0)
            if self._shown is None or shown >= self._shown:
                self._shown = shown
                return shown
        self._shown = 0.0 if self._shown is None else self._shown + self._step
        return self._shown
