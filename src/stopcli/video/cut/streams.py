"""The streams of a new file: like those of another, as far as its format holds them.

Sound that it cannot hold is encoded again, in a codec that it can.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from stopcli.video.container import lenient_tags, rate_of

MUXERS = {  # FFmpeg's formats by suffix: what a moment of such a file can be written as
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".3gp": "3gp", ".mkv": "matroska", ".webm": "webm",
    ".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts", ".avi": "avi", ".flv": "flv",
    ".nut": "nut", ".mxf": "mxf",
}  # fmt: skip
TRIMS = ("mp4", "mov", "3gp")  # players show such a file from its edit list's time on
OTHER = ".mkv"  # of moments of all other files: it takes nearly every codec
PRORES = ("apco", "apcs", "apcn", "apch", "ap4h", "ap4x")
TAGS = {  # by format: names of codecs that players go by, where FFmpeg would choose others
    "mp4": ("hvc1", "avc1", "dvh1"),
    "mov": ("hvc1", "avc1", "dvh1", *PRORES),
    "avi": ("XVID", "DX50", "DIVX"),
}
IN_TS = {  # what readers of MPEG-TS know again; FFmpeg writes all else as private data
    "video": ("h264", "hevc", "mpeg2video", "mpeg1video", "mpeg4", "vc1", "cavs", "dirac"),
    "audio": ("aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "dts", "opus", "s302m"),
}
OPTIONAL = ("data", "attachment", "subtitle")  # what is left out first where a format does not hold it
LEFT = [OPTIONAL[n:] for n in range(len(OPTIONAL) + 1)]

SOUND = {  # by FFmpeg's format: without loss where it can be
    "matroska": "flac", "nut": "flac", "webm": "libopus", "mp4": "aac", "mov": "aac", "3gp": "aac",
    "mpegts": "aac", "flv": "aac", "avi": "libmp3lame", "mxf": "pcm_s16le",
}  # fmt: skip
OPUS_RATE = 48_000  # samples a second
BY_COUNT = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # channels

Add = Callable[[Any, Any], Any]  # (new file, stream) -> its stream there; ValueError: it holds no such


class CannotHold(Exception):
    """The format takes no pictures of this codec, or not beside this sound."""


class Sound:
    """A stream of sound in a new file, made of one that it cannot hold; ValueError: nor can it hold this."""

    def __init__(self, output: Any, source: Any, muxer: str) -> None:
        self.codec = SOUND[muxer]
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
        for frame in _heard(packet) if packet is not None else [None]:
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


def _heard(packet: Any) -> list[Any]:
    import av

    try:
        return packet.decode()  # type: ignore[no-any-return]
    except (av.FFmpegError, ValueError):
        return []  # of a damaged file


def _length(frame: Any) -> Fraction:
    return Fraction(frame.samples, frame.sample_rate)


class NewFile(NamedTuple):
    """A file that is written, its streams by their number in the source, and those that it lacks."""

    output: Any
    streams: dict[int, Any]
    sounds: dict[int, Sound]  # those that are encoded again
    left_out: tuple[str, ...]


def muxer_of(path: str | Path) -> str:
    """Return FFmpeg's name of a file's format."""
    return MUXERS[Path(path).suffix.lower()]


def suffix_of(source: Path) -> str:
    """Return the suffix of a moment of a file: its own, where such a file can be written."""
    return source.suffix.lower() if source.suffix.lower() in MUXERS else OTHER


def starts_in_time(path: Path) -> bool:
    """Say whether players show a copied moment from its start on, not from the key frame before it."""
    return muxer_of(path) in TRIMS


def holds_covers(path: str | Path) -> bool:
    """Say whether such a file may have a cover: elsewhere that would be a film of its own, or be lost."""
    return muxer_of(path) == "mp4"


def open_like(
    source: Any,
    target: str,
    add: Add,
    finish: Callable[[Any, dict[int, Any]], None],
    *,
    copied: bool = True,
    encodes: bool = True,
) -> NewFile:
    """Open a file with the streams of another: with as many as its format holds.

    ``finish`` adds what concerns the whole file, before its header is written. ``copied`` says that
    pictures stay as they are; ``encodes``, that sound may be encoded again. Raises CannotHold.
    """
    import av

    muxer = muxer_of(target)
    options = {"mpegts_m2ts_mode": "1"} if Path(target).suffix.lower() in (".mts", ".m2ts") else {}
    if copied:
        options["strict"] = "unofficial"  # else Dolby Vision is lost
    fault: Exception | None = None
    for again, kinds in product((False, True) if encodes else (False,), LEFT):
        output = av.open(f"file:{target}", "w", format=muxer, options=options, **lenient_tags())
        new = NewFile(output, {}, {}, ())
        try:
            for stream in source.streams:
                if not is_timecode(stream):
                    new = _with(new, stream, add, muxer, again=again, kinds=kinds)
            finish(output, new.streams)
            output.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            fault = error
        except BaseException:
            output.close()
            raise
        else:
            return new
        with suppress(av.FFmpegError, ValueError):
            output.close()
    raise CannotHold from fault


def _with(new: NewFile, stream: Any, add: Add, muxer: str, *, again: bool, kinds: tuple[str, ...]) -> NewFile:
    """Return a new file with a stream more, or its name among those that are left out."""
    import av

    known = stream.codec_context is not None
    try:
        if stream.type not in kinds if stream.type in OPTIONAL else not known:
            raise ValueError(stream.type)
        if again and stream.type == "audio":
            raise ValueError(stream.type)
        new.streams[stream.index] = add(new.output, stream)
    except (ValueError, av.FFmpegError):
        if stream.type == "audio" and known:
            new.sounds[stream.index] = sound = Sound(new.output, stream, muxer)
            new.streams[stream.index] = sound.stream
        else:
            return new._replace(left_out=(*new.left_out, f"{stream.type} stream {stream.index}"))
    return new


def add_stream(output: Any, stream: Any, encoder: Any = None) -> Any:
    """Add a stream like another: its codec, its rotation and colors, its language, its part in the file.

    Its pictures may come from an ``encoder``. Raises ValueError: the format does not hold it.
    """
    muxer = output.format.name
    held = IN_TS.get(stream.type) if muxer == "mpegts" else None
    if held is not None and stream.codec_context.codec.canonical_name not in held:
        raise ValueError(f"MPEG-TS has no name for {stream.codec_context.name}")
    made = describe(output.add_stream_from_template(stream, opaque=True), stream)
    if stream.type == "video":
        made.codec_context.framerate = rate_of(stream)
        if stream.sample_aspect_ratio:
            made.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
    if stream.codec_context is not None and (tag := _tag(muxer, encoder or stream.codec_context)):
        made.codec_context.codec_tag = tag
    return made


def _tag(muxer: str, codec: Any) -> str | None:
    """Return the name by which a codec is known in a file; None leaves the choice to FFmpeg."""
    with suppress(UnicodeDecodeError):  # of a number that is no text
        if codec.codec_tag in TAGS.get(muxer, ()):
            return str(codec.codec_tag)
    apart = codec.is_encoder or (codec.extradata or b"")[:1] == b"\1"  # parameter sets are in the header only
    if muxer in ("mp4", "mov") and codec.codec.canonical_name == "hevc" and apart:
        return "hvc1"  # Apple's players refuse hev1
    return None


def describe(made: Any, stream: Any) -> Any:
    """Give a new stream what its source says of itself; return it."""
    made.metadata.update({k: v for k, v in stream.metadata.items() if k != "timecode"})
    made.disposition = stream.disposition
    return made


def is_timecode(stream: Any) -> bool:
    """Say whether a stream is a timecode track: muxers write a new one from the pictures' timecode."""
    return stream.type == "data" and "timecode" in stream.metadata
