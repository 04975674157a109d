"""A stretch of a video as every browser plays it: small, H.264 and AAC in MP4.

Browsers show black where they do not know a codec. Times are seconds on the file's clock, as players count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import UnreadableVideo
from stopcli.video.container import Container, lenient_tags
from stopcli.video.reader import check_file, open_video
from stopcli.video.recordings import unite

SOUND_RATE = 48_000  # samples a second
QUALITY = "26"  # of x264: small, and good enough to judge a moment by
LONGEST = 900.0  # seconds of one proxy


def write_proxy(
    source: str, target: str, start: float, end: float, *, height: int, rate: float, sound: bool
) -> None:
    """Write the stretch from ``start`` to ``end``, ``height`` pixels on its short side, upright.

    Without a first picture in that stretch, the nearest one is shown. Raises InputError.
    """
    import av

    check_file(Path(source))
    end = min(end, start + LONGEST)
    with (
        open_video(source) as video,
        av.open(
            f"file:{target}", "w", format="mp4", options={"movflags": "+faststart"}, **lenient_tags()
        ) as output,
    ):
        first, last = start - video.offset, max(0.0, video.duration - 0.01)
        count = max(1, round((min(end - video.offset, video.duration) - first) * rate))
        wanted = np.clip(first + np.arange(count) / rate, 0.0, last)
        pictures = (pixels for _, pixels in video.frames_at(wanted, height, whole=True))
        stream: Any = None
        heard = None
        for number, pixels in enumerate(pictures):
            if stream is None:
                stream = _stream(output, pixels, rate)
                heard = _Sound.of(source, output, start, end) if sound else None
            frame = av.VideoFrame.from_ndarray(_even(pixels), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = number, 1 / _rate(rate)
            output.mux(stream.encode(frame))
        if stream is None:
            raise UnreadableVideo(f"{source}: no picture can be decoded from {start:.1f} s on")
        output.mux(stream.encode(None))
        if heard is not None:
            for packet in heard.packets():
                output.mux(packet)


def _rate(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(1001)


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out a last row or column: H.264 halves the sides of its colors."""
    height, width = (n - n % 2 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def _stream(output: Any, pixels: NDArray[np.uint8], rate: float) -> Any:
    stream = output.add_stream("libx264", rate=_rate(rate))
    height, width = _even(pixels).shape[:2]
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.options = {"preset": "veryfast", "crf": QUALITY, "tune": "fastdecode"}
    stream.codec_context.gop_size = max(1, round(2 * rate))
    stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
    return stream


class _Sound:
    """The sound of a stretch, encoded again."""

    def __init__(self, source: str, output: Any, start: float, end: float) -> None:
        self._source, self._start, self._end = source, start, end
        self.stream = output.add_stream("aac", rate=SOUND_RATE)
        self.stream.codec_context.layout = "stereo"

    @classmethod
    def of(cls, source: str, output: Any, start: float, end: float) -> _Sound | None:
        """Return the sound of a file, if it has any."""
        with closing(Container(source, 1)) as container:
            return cls(source, output, start, end) if container.sounds else None

    def packets(self) -> Iterator[Any]:
        """Yield the encoded sound; nothing where it cannot be decoded."""
        import av

        resampler = av.AudioResampler("fltp", "stereo", SOUND_RATE)
        heard: int | None = None  # samples since the start
        for at, frame in self._frames():
            since = round((at - self._start) * SOUND_RATE)
            heard = since if heard is None else max(heard, since)  # it may begin late, or pause
            for part in resampler.resample(frame):
                first, heard = heard, heard + part.samples
                if heard <= 0:
                    continue
                if first < 0:  # a frame may begin long before the stretch
                    samples = np.ascontiguousarray(part.to_ndarray()[:, -first:])
                    part = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
                    part.sample_rate = SOUND_RATE
                part.pts, part.time_base = max(0, first), Fraction(1, SOUND_RATE)
                yield from self.stream.encode(part)
        if heard is not None and heard > 0:
            yield from self.stream.encode(None)

    def _frames(self) -> Iterator[tuple[float, Any]]:
        """Yield decoded sound that is heard in the stretch, and since when (seconds)."""
        import av

        with closing(Container(self._source, 1)) as container:
            unite(container)
            stream = container.sounds[0]
            begin = (container.file.start_time or 0) / 1_000_000
            try:
                container.seek(max(0.0, self._start + begin))
                for packet in container.read(stream):
                    for frame in packet.decode():
                        at = None if frame.pts is None else float(frame.pts * frame.time_base) - begin
                        if at is None or at + frame.samples / frame.sample_rate <= self._start:
                            continue
                        if at >= self._end:
                            return
                        yield self._start if at is None else at, frame
            except (av.FFmpegError, OSError, ValueError):
                return  # sound that cannot be read is left out; the pictures are there
