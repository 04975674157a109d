"""An open video file: frames at wanted times, without decoding it all, whatever the file claims.

Times are seconds from the first frame. The frame *at* a time is the one on screen then: the last
whose presentation time is not later. Headers lie about durations, frame counts and rates, so
what they say is a plan that the decoded frames must confirm; a plan that fails is dropped for a
sequential read, because wrong frames are worse than slow frames.

Letters: S side in pixels.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.errors import (
    FileMissing,
    InputError,
    NoVideoStream,
    UnreadableVideo,
    VideoTimeout,
    VideoTooLarge,
)
from stopcli.video.pixels import Clock, to_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 8192 * 8192  # of one frame; more is a mistake or an attack
STALL_SECONDS = 20.0  # without a new frame: the decoder hangs
TIME_LIMIT = 1800.0  # seconds for one file
SEQUENTIAL_SHARE = 0.75  # of the file to be decoded anyway: reading on is cheaper than seeking


@contextmanager
def open_video(path: str | Path, *, threads: int = 0) -> Iterator[VideoReader]:
    """Open a file, find its video stream, and close it again whatever happens.

    Raises:
        FileMissing, UnreadableVideo, NoVideoStream, VideoTooLarge.
    """
    import av

    file = Path(path)
    if not file.is_file():
        raise FileMissing(f"{path}: {'a folder that cannot be read' if file.is_dir() else 'no such file'}")
    if file.stat().st_size == 0:
        raise UnreadableVideo(f"{path}: the file is empty (0 bytes)")
    video = None
    try:
        video = VideoReader(path, threads)
        yield video
    except (av.FFmpegError, MemoryError) as error:
        raise UnreadableVideo(f"{path}: damaged or encrypted ({_reason(error)})") from error
    finally:
        if video is not None:
            video.close()


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "strerror", None) or error)
    return re.sub(r"^\[Errno -?\d+\] |: 'file:.*'$", "", text)[:120]


class VideoReader:
    """An open file; decoding corrects `duration` where the header lied, and finds it `damaged`."""

    def __init__(self, path: str | Path, threads: int) -> None:
        self.path = path
        self._threads = threads
        self.damaged = False  # then slice threads: FFmpeg's concealment, off with them, paints it all gray
        self._open()
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        import av

        try:
            # a name with a colon would be taken for a protocol: the prefix makes it a file
            self._container: Any = av.open(
                f"file:{self.path}", timeout=(STALL_SECONDS, STALL_SECONDS), **lenient_tags()
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UnreadableVideo(
                f"{self.path}: not a video that can be opened ({_reason(error)})"
            ) from error
        self._untouched = True
        try:
            self._stream = _choose_stream(self._container, self.path)
        except InputError:
            self.close()
            raise
        self._stream.codec_context.thread_type = "SLICE" if self.damaged else "AUTO"
        threads = 2 if self.damaged else self._threads
        if threads:
            self._stream.codec_context.thread_count = threads

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def _look(self) -> None:
        context = self._stream.codec_context
        self._check_size(context.width, context.height)
        self._deadline = time.monotonic() + TIME_LIMIT
        self._base = self._stream.time_base
        self._keys, indexed = self._read_index()
        self._origin, self.duration = self._find_extent(indexed)

    # ------------------------------------------------------------------ what the header says

    def _read_index(self) -> tuple[list[float], float | None]:
        """Return the key frames' times (s) and the extent (s) of an index that lists every packet."""
        entries = [(e.timestamp, e.is_keyframe) for e in self._stream.index_entries if not e.is_discard]
        if len(entries) < 2 or self._base is None:
            return [], None
        first, last = entries[0][0], max(t for t, _ in entries)
        keys = sorted(float((t - first) * self._base) for t, is_key in entries if is_key)
        complete = len(keys) < len(entries)
        step = (last - first) / (len(entries) - 1)
        return keys, float((last - first + step) * self._base) if complete else None

    def _find_extent(self, indexed: float | None) -> tuple[float, float]:
        """Return the first frame's time on the stream's clock and the duration, in seconds."""
        stream, container = self._stream, self._container
        origin = float(stream.start_time * self._base) if stream.start_time is not None else None
        if stream.duration and self._base:
            claimed = float(stream.duration * self._base)
        else:
            claimed = container.duration / 1_000_000 if container.duration else 0.0
        if origin is not None and claimed > 0:
            if indexed is not None:
                if abs(claimed - indexed) <= max(0.5, 0.02 * claimed):
                    return origin, indexed
            elif not self._keys or self._keys[-1] <= claimed <= 2 * self._keys[-1] + 60:
                return origin, claimed
        return self._scan_packets(origin)

    def _scan_packets(self, origin: float | None) -> tuple[float, float]:
        """Find the extent by reading the packets, without decoding them."""
        times = []
        for packet in self._demux():
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                times.append(float(stamp * packet.time_base))
        self._rewind()
        if not times:
            return origin or 0.0, 0.0
        first, last = min(times), max(times)
        return first, last - first + (last - first) / max(1, len(times) - 1)

    # ------------------------------------------------------------------------------ decoding

    def frames_at(
        self, wanted: Sequence[float] | NDArray[np.float64], size: int, *, whole: bool = False
    ) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (time, pixels (S,S,3)) of the frame on screen at each wanted time, ascending.

        ``whole`` frames are not cut to squares: their short side is S.

        Raises:
            UnreadableVideo: no frame decodes.
            VideoTimeout: the decoder hangs or takes too long.
        """
        times = [float(t) for t in wanted]
        done = 0
        for group in [] if self.damaged else self._plan(times):
            try:
                found = [(t, self._to_pixels(f, size, whole)) for t, f in self._after_seek(group)]
            except _Distrusted:
                break
            yield from found
            done += len(group)
        while done < len(times):
            try:
                for shown, frame in self._sequential(times[done:]):
                    yield shown, self._to_pixels(frame, size, whole)
                    done += 1
            except _Distrusted:
                self.damaged = True

    def _plan(self, times: list[float]) -> list[list[float]]:
        """Group wanted times by key frame; an empty plan means one sequential read."""
        if len(self._keys) < 2 or self._seeks_wrong():
            return []
        groups: dict[int, list[float]] = {}
        for t in times:
            groups.setdefault(max(0, bisect_right(self._keys, t + 1e-6) - 1), []).append(t)
        decoded = sum(ts[-1] - self._keys[k] for k, ts in groups.items())
        return list(groups.values()) if decoded < SEQUENTIAL_SHARE * times[-1] else []

    def _seeks_wrong(self) -> bool:
        """Say whether this stream decodes right only from its first packet on.

        x264 before build 151 wrote 4:4:4 pictures that a decoder must treat specially, and it
        names itself in the first packet only.
        """
        context = self._stream.codec_context
        kind = context.format  # not context.pix_fmt: PyAV 17 crashes there where the header is broken
        if context.codec.name != "h264" or kind is None or "444" not in kind.name:
            return False
        head = next((bytes(p) for p in self._demux() if p.size), b"")
        self._rewind()
        build = re.search(rb"x264 - core (\d+)", head)
        return build is not None and int(build[1]) < 151

    def _after_seek(self, group: list[float]) -> Iterator[tuple[float, Any]]:
        """Yield the frames at the times of one group of pictures."""
        target = round((self._origin + group[0]) / float(self._base))
        self._untouched = False
        try:
            self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
        except OSError as error:
            raise _Distrusted from error
        remaining = iter(group)
        t = next(remaining)
        previous: tuple[float, Any] | None = None
        for shown, frame in self._decode():
            while shown > t + 1e-6:
                if previous is None:
                    raise _Distrusted  # landed behind the wanted time
                yield previous
                following = next(remaining, None)
                if following is None:
                    return
                t = following
            previous = (shown, frame)
        if previous is None or self.duration - previous[0] > max(1.0, 0.02 * self.duration):
            raise _Distrusted  # ended too early to be the end of the file
        yield previous
        for _ in remaining:
            yield previous

    def _sequential(self, times: list[float]) -> Iterator[tuple[float, Any]]:
        """Yield the frames at the wanted times from one read of the whole file."""
        self._rewind()
        pending = iter(times)
        t: float | None = next(pending)
        previous: tuple[float, Any] | None = None
        gap = 0.0
        for shown, frame in self._decode():
            if previous is not None:
                gap = shown - previous[0]
            while t is not None and shown > t + 1e-6:
                yield previous or (shown, frame)
                t = next(pending, None)
            if t is None:
                return
            previous = (shown, frame)
        if previous is None:
            raise UnreadableVideo(f"{self.path}: no frame of it can be decoded; damaged or encrypted")
        # the end of the file is known now; nothing but frames can be trusted about it
        self.duration = previous[0] + min(gap, 10.0) if previous[0] > 0 else self.duration
        while t is not None:
            yield previous
            t = next(pending, None)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise VideoTooLarge(
                f"{self.path}: frames of {width}x{height} pixels; the limit is "
                f"{MAX_PIXELS // 1_000_000} million pixels"
            )

    def _to_pixels(self, frame: Any, size: int, whole: bool = False) -> NDArray[np.uint8]:
        self._check_size(frame.width, frame.height)
        return to_pixels(frame, size, self._stream.sample_aspect_ratio, whole=whole)

    def _rewind(self) -> None:
        """Go back to the first packet: by opening anew, which cannot fail half-way."""
        if not self._untouched:
            self.close()
            self._open()

    def _demux(self) -> Iterator[Any]:
        """Yield the stream's packets until the end or the first unreadable one."""
        import av

        self._untouched = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                return
            if time.monotonic() > self._deadline:
                raise VideoTimeout(f"{self.path}: not done after {TIME_LIMIT:.0f} s; skipped")
            yield packet

    def _decode(self) -> Iterator[tuple[float, Any]]:
        """Yield (seconds, frame) until the end.

        Raises:
            _Distrusted: the first damaged packet or frame, unless the file is known to be
                `damaged`; then such packets are passed over.
        """
        import av

        stamps = "dts" if self._container.format.name == "avi" else "pts"  # AVI has no others
        clock = Clock(self._origin, float(self._stream.average_rate or 25), stamps)
        last_progress = time.monotonic()
        for packet in self._demux():
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                if not self.damaged:
                    raise _Distrusted from error
                frames = []
            for frame in frames:
                if frame.is_corrupt and not self.damaged:
                    raise _Distrusted
                yield clock.read(frame), frame
            if frames:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > STALL_SECONDS:
                raise VideoTimeout(f"{self.path}: no frame for {STALL_SECONDS:.0f} s; skipped")


class _Distrusted(Exception):
    """The frames cannot be trusted: read them in a slower way."""


def lenient_tags() -> dict[str, Any]:
    """Return what `av.open` must be told so that tags need not be UTF-8: from PyAV 19 on, nothing."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _choose_stream(container: Any, path: str | Path) -> Any:
    """Return the first stream of moving pictures; cover art does not count."""
    from av.stream import Disposition

    usable = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not usable:
        held = sorted({s.type for s in container.streams}) or ["nothing"]
        raise NoVideoStream(f"{path}: no video in it, only {' and '.join(held)}")
    if usable[0].codec_context is None:
        raise UnreadableVideo(f"{path}: its video codec is unknown; damaged or encrypted")
    return usable[0]
