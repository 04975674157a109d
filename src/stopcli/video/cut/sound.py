"""Sound that a format cannot hold as it is, encoded again in a codec that it can."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

CODECS = {  # by FFmpeg's format: without loss where it can be
    "matroska": "flac", "nut": "flac", "webm": "libopus", "mp4": "aac", "mov": "aac", "3gp": "aac",
    "mpegts": "aac", "flv": "aac", "avi": "libmp3lame", "mxf": "pcm_s16le",
}  # fmt: skip
OPUS_RATE = 48_000  # samples a second
BY_COUNT = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # channels


class Sound:
    """A stream of sound in a new file, made of one that it cannot hold; ValueError: nor can it hold this."""

    def __init__(self, output: Any, source: Any, muxer: str) -> None:
        self.codec = CODECS[muxer]
        rate = OPUS_RATE if self.codec == "libopus" else source.codec_context.sample_rate
        self.stream = output.add_stream(self.codec, rate=rate)
        self.stream.codec_context.layout = _layout(source.codec_context.layout)
        self._source = source
        self._resampler: Any = None

    def packets(self, packet: Any, begin: Fraction) -> list[Any]:
        """Return what comes of a packet of the source, or at the end of None, from ``begin`` (seconds) on."""
        import av

        encoder = self.stream.codec_context
        if self._resampler is None:
            shape = encoder.format.name, encoder.layout.name, encoder.sample_rate
            self._resampler = av.AudioResampler(*shape, frame_size=encoder.frame_size or None)
        made = []
        for frame in _decoded(packet) if packet is not None else [None]:
            if frame is None or frame.pts is None or frame.pts * frame.time_base + _length(frame) > begin:
                for part in self._resampler.resample(frame):
                    made += encoder.encode(part)
        if packet is None:
            made += encoder.encode(None)
        for one in made:
            unit = one.time_base
            one.stream = self._source  # by which it is known
            one.time_base = unit
        return made


def _layout(source: Any) -> str:
    """Return the name of an arrangement of channels as encoders know it."""
    named = source.name.removesuffix("(side)")  # other places for the same two
    return str(named) if named in BY_COUNT.values() else BY_COUNT.get(source.nb_channels, str(named))


def _decoded(packet: Any) -> list[Any]:
    import av

    try:
        return packet.decode()  # type: ignore[no-any-return]
    except (av.FFmpegError, ValueError):
        return []  # of a damaged file


def _length(frame: Any) -> Fraction:
    return Fraction(frame.samples, frame.sample_rate)
