"""Films whose pictures and sound tell the time: each picture is its number, a tone begins each second."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE = 128
BITS = 8
SOUND = 48_000  # samples a second
TONE = Fraction(1, 25)  # seconds


def picture(number: int) -> np.ndarray:
    """Draw a number as bright and dark columns, a bit each; (H,W,3) uint8."""
    image = np.full((SIDE, SIDE, 3), 60, np.uint8)
    for bit in range(BITS):
        image[: SIDE // 2, bit * 16 : bit * 16 + 16] = 235 if number >> bit & 1 else 16
    image[SIDE // 2 :, : SIDE // 2] = (200, 30, 30)
    image[SIDE // 2 :, SIDE // 2 :] = (30, 30, 200)
    return image


def copy_with_timecode(source: Path, target: Path, code: str) -> Path:
    """Copy a film's pictures, with a camera's timecode; return ``target``."""
    with av.open(str(source)) as film, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(film.streams.video[0], opaque=True)
        stream.metadata["timecode"] = code
        for packet in film.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def number_in(pixels: np.ndarray) -> int:
    """Read the number of a picture (H,W,3)."""
    return sum(int(pixels[16:48, bit * 16 + 4 : bit * 16 + 12].mean() > 128) << bit for bit in range(BITS))


def write_clock(
    path: Path,
    video="libx264",
    audio: str | None = "aac",
    *,
    seconds=6,
    rate=25,
    key_every=24,
    format=None,
    **options,
) -> Path:
    """Encode a film with a key frame every so many pictures."""
    depth = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(video, "yuv420p")
    fast = {
        "libx264": {"preset": "ultrafast", "bf": "2"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=0"},
    }
    fast |= {name: {"deadline": "realtime", "cpu-used": "8"} for name in ("libvpx", "libvpx-vp9")}
    fast["libsvtav1"] = {"preset": "10", "crf": "10"}
    rate = Fraction(rate)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(video, rate=rate, options=fast.get(video, {}) | options)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.gop_size = depth, key_every
        if video not in fast:
            stream.bit_rate = 8_000_000
        stream.codec_context.time_base = 1 / rate
        sound = out.add_stream(audio, rate=SOUND) if audio else None
        resampler = None
        if sound is not None:
            sound.codec_context.bit_rate = 128_000
            sound.codec_context.open()
            resampler = av.AudioResampler(
                sound.codec_context.format.name,
                "stereo",
                SOUND,
                frame_size=sound.codec_context.frame_size or None,
            )
        for number in range(int(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(format=depth)
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
            if sound is not None:
                for chunk in resampler.resample(_sound(number, rate)):
                    out.mux(sound.encode(chunk))
        out.mux(stream.encode(None))
        if sound is not None:
            for chunk in resampler.resample(None):
                out.mux(sound.encode(chunk))
            out.mux(sound.encode(None))
    return path


def _sound(number: int, rate: Fraction) -> av.AudioFrame:
    first, last = int(number / rate * SOUND), int((number + 1) / rate * SOUND)
    times = np.arange(first, last) / SOUND
    wave = (0.5 * np.sin(2 * np.pi * 1000 * times) * (times % 1 < TONE)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND, first, Fraction(1, SOUND)
    return frame


def numbers_in(path: Path) -> list[tuple[float, int]]:
    """Decode a film: (seconds on its own clock, number) of each picture."""
    with av.open(str(path)) as film:
        return [(frame.time, number_in(frame.to_ndarray(format="rgb24"))) for frame in film.decode(video=0)]


def tones_in(path: Path) -> list[float]:
    """Decode a film's sound: when tones begin, in seconds on its own clock."""
    begins: list[float] = []
    last, at = -1.0, 0.0
    with av.open(str(path)) as film:
        to_mono = av.AudioResampler("fltp", "mono", SOUND)
        for frame in film.decode(audio=0):
            for part in to_mono.resample(frame):
                at = at if part.pts is None else float(part.pts * part.time_base)
                times = at + np.arange(part.samples) / SOUND
                at += part.samples / SOUND
                for time in times[np.abs(part.to_ndarray()[0]) > 0.15]:
                    if time - last > 0.3:
                        begins.append(float(time))
                    last = float(time)
    return begins


def lag_of_sound(path: Path, rate=25) -> list[float]:
    """Return how much later than its picture each tone begins, in seconds."""
    tones = tones_in(path)
    shown = [time for time, number in numbers_in(path) if number % rate == 0]
    nearest = [min(tones, key=lambda tone: abs(tone - time)) - time for time in shown] if tones else []
    return [lag for lag in nearest if abs(lag) < 0.4]
