"""One decoded frame: when it is shown, and what it looks like."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18  # FFmpeg's numbers of the transfer functions of HDR
WHITE = 203.0  # cd/m2
BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
MAX_ASPECT = 32  # longer frames are squeezed to this before the centre is cut out


@dataclass(frozen=True)
class Framing:
    """How a frame becomes a square of ``size`` pixels a side, and which frames are looked at."""

    size: int
    fit: Literal["crop", "squash", "pad"] = "crop"  # cut out, squeezed, or between black bars
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    keyframes: bool = False  # nothing but key frames, those nearest to the wanted times

    @classmethod
    def of(cls, size: int | Framing) -> Framing:
        """Return a framing; a number is CLIP's own way to make squares of that side."""
        return size if isinstance(size, Framing) else cls(size)


class Scaler:
    """Turns decoded frames into pixels, one after the other, on this thread."""

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        # each frame's own reformatter would start threads for every core, and keep them
        self._reformatter = VideoReformatter()
        # without the two flags, brightness depends on whether the width is odd
        exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        kinds = {"bicubic": Interpolation.BICUBIC, "bilinear": Interpolation.BILINEAR}
        self._flags = {name: kind | exact for name, kind in kinds.items()}
        self._matrices: dict[int, tuple[int, int, int, int] | None] = {}

    def to_pixels(
        self, frame: Any, framing: Framing, aspect: Fraction | None, *, whole: bool = False
    ) -> NDArray[np.uint8]:
        """Resize, turn upright and make square: (S,S,3) uint8; ``whole`` frames have S as their short side.

        swscale does the resize and the colour conversion in one step.
        """
        size, fit = framing.size, "crop" if whole else framing.fit
        wide = frame.width * float(aspect) if aspect and 0.05 < float(aspect) < 20 else float(frame.width)
        if fit == "crop":
            scale = size / min(wide, frame.height)
            width, height = (
                min(max(size, round(s * scale)), MAX_ASPECT * size) for s in (wide, frame.height)
            )
        elif fit == "pad":
            scale = size / max(wide, frame.height)
            width, height = (min(max(1, round(s * scale)), size) for s in (wide, frame.height))
        else:
            width = height = size
        hdr = frame.color_trc in (PQ, HLG)
        kind: dict[str, Any] = {
            "format": "rgb48le" if hdr else "rgb24",
            "interpolation": self._flags[framing.interpolation],
            "threads": 1,
        }
        rgb: NDArray[Any] = self._reformatter.reformat(frame, width=width, height=height, **kind).to_ndarray()
        if hdr:
            rgb = to_sdr(rgb.astype(np.float32) / 65535, frame.color_trc)
        rgb = upright(rgb, self._matrix(frame))
        if fit == "pad":
            before = [(size - side) // 2 for side in rgb.shape[:2]]
            after = [size - side - b for side, b in zip(rgb.shape[:2], before, strict=True)]
            rgb = np.pad(rgb, [*zip(before, after, strict=True), (0, 0)])
        elif not whole:
            top, left = (rgb.shape[0] - size) // 2, (rgb.shape[1] - size) // 2
            rgb = rgb[top : top + size, left : left + size]
        pixels: NDArray[np.uint8] = np.ascontiguousarray(rgb)
        return pixels

    def _matrix(self, frame: Any) -> tuple[int, int, int, int] | None:
        """Return `display_matrix`, looked at again only where the rotation changes.

        A frame whose side data were looked at refers to itself, and stays until Python collects garbage.
        """
        turn = frame.rotation
        if turn not in self._matrices:
            self._matrices[turn] = display_matrix(frame)
        return self._matrices[turn]


def display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """Return how the file wants a frame turned: x, y become a x + c y, b x + d y; None says nothing of it."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None or data.buffer_size < 36:
        return None
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(data)[:36])
    return a, b, c, d


def upright(rgb: NDArray[np.uint8], matrix: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """Turn and mirror a picture (H,W,3); a matrix for anything but quarter turns is ignored."""
    turn = quarter_turn(matrix)
    if turn is None:
        return rgb
    across, down, left = turn
    return (rgb.transpose(1, 0, 2) if across else rgb)[:: -1 if down else 1, :: -1 if left else 1]


def quarter_turn(matrix: tuple[int, int, int, int] | None) -> tuple[bool, bool, bool] | None:
    """Return whether rows become columns, and what is then mirrored: top and bottom, left and right.

    None says that the picture stays: without a matrix, or with one for anything but quarter turns.
    """
    if matrix is None:
        return None
    a, b, c, d = matrix
    if min(abs(a), abs(d)) > 50 * max(abs(b), abs(c)):
        return False, d < 0, a < 0
    if min(abs(b), abs(c)) > 50 * max(abs(a), abs(d)):
        return True, b < 0, c < 0
    return None


def to_sdr(rgb: NDArray[Any], transfer: int) -> NDArray[np.uint8]:
    """Turn BT.2020 pictures in PQ or HLG, in [0,1], into sRGB: what is white on paper becomes 255.

    Source: ITU-R BT.2100-2, tables 4 and 5; BT.2408-7 puts white at 203 cd/m2, BT.2087 has the matrix.
    """
    if transfer == PQ:
        power = rgb ** (32 / 2523)
        light = 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (16384 / 2610)
    else:
        scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1000 * scene * (scene @ np.array([0.2627, 0.678, 0.0593]))[..., None] ** 0.2
    linear = np.clip(light / WHITE @ BT709.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.round(255 * srgb).astype(np.uint8)
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


def nearest_format(source: Any, formats: list[str], *, exact: bool) -> str:
    """Return the format of pixels that an encoder takes and that keeps most of the source's.

    RGB becomes the YUV that all players know, but for an ``exact`` encoder, which loses nothing.
    """
    from av.codec.codec import find_best_pix_fmt_of_list

    drawn = source.is_rgb or source.has_palette
    if not formats or (source.name in formats and (exact or not drawn)):
        return str(source.name)
    if drawn and not exact:
        deep = source.components[0].bits > 8 and "yuv420p10le" in formats
        return "yuv420p10le" if deep else formats[0]
    best, _ = find_best_pix_fmt_of_list(formats, source, is_clear(source))
    return str(best.name) if best is not None else formats[0]


def is_clear(pixels: Any) -> bool:
    """Say whether a format of pixels has transparency."""
    return any(component.is_alpha for component in pixels.components)
