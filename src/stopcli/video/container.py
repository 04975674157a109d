"""A video file's container: opened, its stream of moving pictures chosen, its packets read.

Nothing is decoded here.
"""

from __future__ import annotations

import errno
import os
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from stopcli.errors import InputError, NoVideoStream, OutOfMemory, ReadFailed, UnreadableVideo, VideoTimeout

STALL_SECONDS = 20.0  # without a new frame: the decoder hangs
TIME_LIMIT = 1800.0  # seconds for one file, and one more for each
SLOWEST = 100_000  # bytes of it
DRIVE = {errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.ENODEV, errno.ENOTCONN}  # not the file's fault
RAW = ("h264", "hevc")  # FFmpeg's formats whose packets carry no times
AHEAD = 64 << 20  # bytes behind the last packet in which a fault of the drive is looked for
NO_ANSWER = f"no answer for {STALL_SECONDS:.0f} s"
NO_ROOM = "decoding it takes more memory, or threads, than a file may have; skipped"
GRACE = 2.0  # seconds for noticing that a process was stopped
FORMATS = (  # of films, by FFmpeg's names; none that opens other files (concat, hls, dash), no still pictures
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,rm,gif,h264,hevc,m4v,"
    "mjpeg,dv,yuv4mpegpipe,nut,ivf,obu,vc1,wtv,swf"
)
MAX_PIXELS = 8192 * 8192  # of one frame; more is a mistake or an attack
TIMECODE = re.compile(r"\d\d:\d\d:\d\d[:;.]\d{2,3}")
THREADS_MEMORY = 256 << 20  # bytes of pictures that the threads of a decoder may hold
waited = 0.0  # seconds that this process waited for whoever takes its frames, or was stopped
on_packet: Callable[[], None] = lambda: None  # noqa: E731 - called as decoding goes on


@dataclass(frozen=True)
class Facts:
    """What a video says of itself; a picture is ``width`` x ``height`` pixels before it is turned upright."""

    duration: float  # seconds
    rate: float  # frames a second, on average
    offset: float = 0.0  # seconds of the file before its first picture
    width: int = 0
    height: int = 0
    sound: bool = False
    timecode: str | None = None  # of the first picture, as the camera wrote it
    container: str = ""  # FFmpeg's names: of the format,
    codec: str = ""  # of its pictures,
    pixels: str = ""  # how they are stored,
    sound_codec: str = ""  # and of the sound
    aspect: float = 1.0  # a stored pixel's width by its height
    turned: bool = False  # rows are shown as columns; only a look at a picture tells it

    @property
    def end(self) -> float:
        """Seconds of the file until its pictures end."""
        return self.duration + self.offset


def out_of_memory(error: BaseException) -> bool:
    """Say whether FFmpeg, or Python, got no memory, or no thread for want of it."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in (errno.ENOMEM, errno.EAGAIN)


class Recordings(NamedTuple):
    """Several recordings in one file, on one clock; times are stamps of that clock."""

    places: list[int]  # where each begins, in bytes
    shifts: list[int]  # what its own stamps lack
    keys: list[int]  # when each key frame is shown, ascending,
    before: list[int]  # and from which byte on it can be read
    stamps: NDArray[Any]  # when each picture is shown, ascending

    def shift(self, place: int) -> int:
        """Return what the stamps of a packet at a place in the file lack."""
        return self.shifts[bisect_right(self.places, place) - 1]


class Container:
    """An open file; UnreadableVideo or NoVideoStream if it cannot be opened as a video."""

    def __init__(self, path: str | Path, threads: int) -> None:
        self.path = path
        self._threads = threads
        self._limit = TIME_LIMIT + Path(path).stat().st_size / SLOWEST
        self._deadline, self._place = self.clock() + self._limit, 0
        self.recordings: Recordings | None = None  # if there are several
        self.key: float | None = None  # when the key frame is shown at which reading began, in seconds
        self._open(conceal=False)

    def _open(self, *, conceal: bool) -> None:
        import av

        began = time.monotonic()
        try:
            # a name with a colon would be taken for a protocol: the prefix makes it a file
            self.file: Any = av.open(
                f"file:{self.path}",
                options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
                timeout=(STALL_SECONDS, STALL_SECONDS),
                **lenient_tags(),
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            if time.monotonic() - began >= STALL_SECONDS:  # FFmpeg calls what it then has invalid
                raise ReadFailed(f"{self.path}: opening it failed ({NO_ANSWER}); skipped") from error
            if out_of_memory(error):
                raise OutOfMemory(f"{self.path}: {NO_ROOM}") from error
            if isinstance(error, av.FFmpegError) and self._is_of_drive(error):
                raise ReadFailed(f"{self.path}: opening it failed ({reason(error)}); skipped") from error
            raise UnreadableVideo(f"{self.path}: not a video that can be opened ({reason(error)})") from error
        self._at_start, self._from = True, 0
        try:
            self.stream = _choose_stream(self.file, self.path)
        except InputError:
            self.close()
            raise
        self.codec = self.stream.codec_context
        self.codec.thread_type = "SLICE" if conceal else "AUTO"
        self.codec.thread_count = min(2 if conceal else self._threads or cpus(), self._most_threads())
        self.codec.options = {"max_pixels": str(MAX_PIXELS)}
        self._skips = False

    def _most_threads(self) -> int:
        """Return how many threads may each hold a picture."""
        pixels: int = self.codec.width * self.codec.height
        return max(1, THREADS_MEMORY // max(1, 3 * pixels))

    def close(self) -> None:
        """Give the file back."""
        self.file.close()

    @staticmethod
    def clock() -> float:
        """Return seconds that go on while the film is worked on, and stand still while this process waits."""
        return time.monotonic() - waited

    def is_past(self, moment: float) -> bool:
        """Say whether the clock is past a moment, once whoever watches had time to put it right."""
        if self.clock() <= moment:
            return False
        time.sleep(GRACE)
        return self.clock() > moment

    @staticmethod
    def beat() -> None:
        """Say that the file is being read on: who waits for a decoder that hangs would end it."""
        on_packet()

    def packets(self) -> Iterator[Any]:
        """Yield the packets of the pictures as `read` does; where a seek lands anywhere, key frame first."""
        waits, self.key = self.may_jump() and not self._at_start, None
        # the packets of MPEG-PS have times, which pictures share: behind a seek, the first one's may be wrong
        guessed = waits and self.file.format.name == "mpeg" and self.recordings is None
        for packet in self.read(self.stream):
            if guessed and packet.is_keyframe:
                guessed = False
                continue
            if not waits or packet.is_keyframe or not packet.size:
                if waits and packet.pts is not None:
                    self.key = float(packet.pts * packet.time_base)
                waits = False
                yield packet

    def read(self, *streams: Any) -> Iterator[Any]:
        """Yield the packets of streams until the end or the first unreadable one.

        Raises VideoTimeout: it takes too long. ReadFailed: the drive fails.
        """
        import av

        packets = self.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                if self._is_of_drive(error):
                    why = NO_ANSWER if isinstance(error, av.error.ExitError) else reason(error)
                    raise ReadFailed(f"{self.path}: reading it failed ({why}); skipped") from error
                return
            self.beat()
            if self.is_past(self._deadline):
                raise VideoTimeout(f"{self.path}: not done after {self._limit:.0f} s; skipped")
            self._place = packet.pos if packet.size and packet.pos is not None else self._place
            yield packet

    def demux(self, *streams: Any) -> Iterator[Any]:
        """Yield the packets of streams, or of all, on one clock; av.FFmpegError: one is unreadable."""
        self._at_start = False
        places: dict[int, int] = {}
        with suppress(IndexError):  # PyAV's, at the end, where further streams appeared on the way
            for packet in self.file.demux(*streams):
                if self.recordings is not None:
                    known = places.get(packet.stream_index, self._from)
                    places[packet.stream_index] = place = known if packet.pos is None else packet.pos
                    shift = self.recordings.shift(place)
                    packet.pts = None if packet.pts is None else packet.pts + shift
                    packet.dts = None if packet.dts is None else packet.dts + shift
                yield packet

    def _is_of_drive(self, error: Any) -> bool:
        """Say whether a fault is the drive's; of files that are cut off, FFmpeg may say EIO too."""
        import av

        if isinstance(error, av.error.ExitError) or error.errno in DRIVE:
            return True
        if error.errno != errno.EIO:
            return False
        try:
            with Path(self.path).open("rb") as stream:
                stream.seek(max(0, self._place))
                stream.read(AHEAD)
        except OSError:
            return True
        return False

    def decode_singly(self) -> None:
        """Decode without threads: each of them holds a frame back, and key frames may be far apart."""
        self._threads = 1
        if not self.codec.is_open:
            self.codec.thread_count = 1

    def skip(self, *, unreferred: bool) -> None:
        """Leave out, from the next packet on, the frames that no other refers to; or no longer."""
        if unreferred != self._skips:
            self.codec.skip_frame = "NONREF" if unreferred else "DEFAULT"
            self._skips = unreferred

    def seek(self, seconds: float) -> None:
        """Go to the last key frame at or before a time of the stream's own clock; OSError if it cannot."""
        self._at_start = False
        stamp = round(seconds / float(self.stream.time_base))
        if self.recordings is not None:
            key = bisect_right(self.recordings.keys, stamp) - 1
            self.seek_byte(self.recordings.before[key] if key >= 0 else 0)
            return
        self._seek(stamp, stream=self.stream, backward=True, any_frame=False)

    def seek_byte(self, place: int) -> None:
        """Go to a place in the file, or what comes next there; OSError if it cannot."""
        self._at_start, self._from = False, place
        self._seek(place, unsupported_byte_offset=True)

    def _seek(self, offset: int, **how: Any) -> None:
        import av

        try:
            self.file.seek(offset, **how)
        except OSError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise OSError(reason(error)) from error

    def rewind(self, *, conceal: bool = False) -> None:
        """Go back to the first packet: by opening the file again, which cannot fail half-way.

        ``conceal`` is for damaged files: slice threads, because with frame threads FFmpeg paints all gray.
        """
        if not self._at_start:
            self.close()
            self._open(conceal=conceal)

    @property
    def sounds(self) -> list[Any]:
        """The streams of sound of codecs that FFmpeg knows."""
        return [s for s in self.file.streams.audio if s.codec_context is not None]

    def timecode(self) -> str | None:
        """Return the first picture's timecode, hh:mm:ss:ff; a semicolon before ff means drop-frame."""
        every = [*(stream.metadata for stream in self.file.streams), self.file.metadata]
        texts = [data.get(name) for data in every for name in ("timecode", "TIMECODE")]
        return next((t for t in texts if t and TIMECODE.fullmatch(t)), None)

    def may_jump(self) -> bool:
        """Say whether the file may be several recordings, each with a clock of its own, and has no index."""
        return self.file.format.name in ("mpegts", "mpeg")


def decodes_from_start_only(container: Container) -> bool:
    """Say whether a stream decodes right only from its first packet on.

    x264 before build 151 wrote 4:4:4 pictures that a decoder must treat specially, and it
    names itself in the first packet only.
    """
    kind = container.codec.format  # not codec.pix_fmt: PyAV 17 crashes there where the header is broken
    if container.codec.codec.name != "h264" or kind is None or "444" not in kind.name:
        return False
    head = next((bytes(p) for p in container.packets() if p.size), b"")
    container.rewind()
    build = re.search(rb"x264 - core (\d+)", head)
    return build is not None and int(build[1]) < 151


def cpus() -> int:
    """Return how many threads FFmpeg would take."""
    return min(16, (os.cpu_count() or 1) + 1)


def lenient_tags() -> dict[str, Any]:
    """Return the options of `av.open` that let tags be other than UTF-8: from PyAV 19 on, none."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}


def reason(error: BaseException) -> str:
    """Return FFmpeg's words for a fault, without number and file name."""
    text = str(getattr(error, "strerror", None) or error)
    return re.sub(r"^\[Errno -?\d+\] |: 'file:.*'$", "", text)[:120]


def _choose_stream(file: Any, path: str | Path) -> Any:
    """Return the stream of moving pictures that players show; cover art does not count."""
    from av.stream import Disposition

    usable = [s for s in file.streams.video if not s.disposition & Disposition.attached_pic]
    if not usable:
        kinds = sorted({"pictures" if s.type == "video" else s.type for s in file.streams})
        raise NoVideoStream(f"{path}: no video in it, only {' and '.join(kinds) or 'an empty container'}")
    best = file.streams.best("video")  # the one that is flagged as the default, where one is
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    if stream.codec_context is None:
        raise UnreadableVideo(f"{path}: its video codec is unknown; damaged or encrypted")
    return stream


def rate_of(stream: Any) -> Fraction:
    """Return how many pictures a second a stream has on average, as far as its file says.

    For some formats (DV, and AVI made of other films) FFmpeg's average is that of its clock, and for raw ones
    its own default.
    """
    average, guessed = stream.average_rate, stream.guessed_rate
    if guessed and (stream.container.format.name in RAW or (average and average > 2 * guessed)):
        return Fraction(guessed)
    return Fraction(average or 25)
