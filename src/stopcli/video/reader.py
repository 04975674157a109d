"""An open video file: frames at wanted times, without decoding it all, whatever the file claims.

Times are seconds from the first frame; the file's own clock shows ``offset`` then. The frame *at* a time is
the one on screen then: the last
whose presentation time is not later. What the header says is a plan that the decoded frames must
confirm; a plan that fails is dropped for a sequential read, because wrong frames are worse than
slow frames. Letters: S side in pixels.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import FileMissing, OutOfMemory, UnreadableVideo, VideoTimeout, VideoTooLarge
from stopcli.video.container import (
    MAX_PIXELS,
    NO_ROOM,
    STALL_SECONDS,
    Container,
    Facts,
    decodes_from_start_only,
    out_of_memory,
    rate_of,
    reason,
)
from stopcli.video.pixels import Clock, Framing, Scaler, display_matrix, quarter_turn
from stopcli.video.sampling import film_times, is_far, near, sample_times
from stopcli.video.timeline import SEQUENTIAL_SHARE, read_timeline, scan_stamps

LONGEST = 1e10  # seconds
MOST_DELAY = 16  # pictures that a decoder may hold back
SKIPPING = {"h264", "hevc", "mpeg2video", "mpeg4"}  # codecs that tell which frames nobody refers to
WORTH = 0.97  # of a film to be decoded anyway: where frames are skipped, seeking pays up to this share
SEEK = 3  # key frames that a seek costs as much as
EARLY = (1.0, 10.0)  # seconds before a wanted time, to seek to where a file has no index


@contextmanager
def open_video(path: str | Path, *, threads: int = 0) -> Iterator[VideoReader]:
    """Open a file, find its video stream, and close it again whatever happens.

    ``threads`` are the decoder's; 0 lets FFmpeg choose.

    Raises:
        FileMissing, UnreadableVideo, NoVideoStream, VideoTooLarge, OutOfMemory, ReadFailed.
    """
    import av

    check_file(Path(path))
    try:
        with closing(Container(path, threads)) as container:
            yield VideoReader(container)
    except (av.FFmpegError, MemoryError) as error:
        if out_of_memory(error):
            raise OutOfMemory(f"{path}: {NO_ROOM}") from error
        raise UnreadableVideo(f"{path}: damaged or encrypted ({reason(error)})") from error


def check_file(path: Path) -> None:
    """Make sure that a path names a file with something in it; else FileMissing or UnreadableVideo."""
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            next(path.iterdir(), None)  # may it be read?
            raise UnreadableVideo(f"{path}: is a folder; a video file was expected")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise FileMissing(f"{path}: no such file") from error
    except OSError as error:
        raise UnreadableVideo(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(info.st_mode):
        raise UnreadableVideo(f"{path}: is a pipe, a socket or a device; a video file was expected")
    if info.st_size == 0:
        raise UnreadableVideo(f"{path}: the file is empty (0 bytes)")


class VideoReader:
    """An open file; decoding corrects `duration` where the header lied, and finds the file `damaged`."""

    def __init__(self, container: Container) -> None:
        self.damaged = self.keys_only = False  # nothing but key frames is decoded
        self._scaler = Scaler()
        self._container = container
        self._last = self._delay = 0.0  # seconds: when the latest packet is shown; how late pictures come out
        check_size(container.path, container.codec.width, container.codec.height)
        self._timeline = read_timeline(container)
        self.rate = float(rate_of(container.stream))  # frames a second, on average
        self._step = 1 / self.rate
        self.duration = self._timeline.duration or self._step  # of a single frame, nothing tells it
        self.offset = self._timeline.offset
        if not self.duration + self.offset < LONGEST:
            years = f"{(self.duration + self.offset) / 31_557_600:.0f} years"
            raise UnreadableVideo(f"{container.path}: claims to last {years}; its times are damaged")
        self.may_jump = container.may_jump()
        self._only_dts = container.file.format.name == "avi"
        if self._only_dts:
            self._delay = _measure_delay(self)

    def stamps(self, *, scan: bool = False) -> NDArray[np.float64] | None:
        """Return the times of all packets, ascending, as the file lists them; ``scan`` reads them."""
        if self._timeline.stamps is None and scan and not self._timeline.is_steady:
            self._timeline = replace(self._timeline, stamps=scan_stamps(self._container))
        return self._timeline.stamps

    def sample(self, frames: int, start: float, end: float) -> NDArray[np.float64]:
        """Return the times of so many frames of ``[start, end)``; see `film_times`."""
        stamps = self.stamps(scan=self.may_jump)
        if stamps is None:
            return sample_times(end - start, frames, start)
        return film_times(stamps, frames, start, end)

    def frames_at(
        self, wanted: Sequence[float] | NDArray[np.float64], size: int | Framing, *, whole: bool = False
    ) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (time, pixels (S,S,3)) of the frame on screen at each wanted time, ascending.

        ``whole`` frames do not become squares: their short side is S. A framing that wants key frames gets
        those nearest to the wanted times.

        Raises:
            UnreadableVideo: no frame decodes. VideoTimeout: the decoder hangs or takes too long.
        """
        times = [float(t) for t in wanted]
        if Framing.of(size).keyframes and not self._delay:  # when an AVI file's key frames are, nothing says
            self.keys_only = True
            self._container.decode_singly()
            aims = self._timeline.aim_at_keys(np.array(times), MOST_DELAY * self._step)
            try:
                yield from self._read(aims.tolist(), size, whole)
                return
            except _NoKeyFrame:  # the only one may be cut off
                self.keys_only = False
        yield from self._read(times, size, whole)

    def _read(
        self, times: list[float], size: int | Framing, whole: bool
    ) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield as `frames_at` the frames at ascending times."""
        done, to_pixels = 0, partial(self._to_pixels, size=size, whole=whole)
        with suppress(_Distrusted):
            for group in self._plan(times):
                found = converted(self._after_seek(group, whole=group is times), to_pixels)
                for frame in found if group is times or not self._timeline.keys else list(found):
                    yield frame
                    done += 1
        while done < len(times):
            try:
                for frame in converted(self._sequential(times[done:]), to_pixels):
                    yield frame
                    done += 1
            except _Distrusted:
                self.damaged = True

    def _plan(self, times: list[float]) -> list[list[float]]:
        """Group wanted times by the seek that leads to them; an empty plan is a read from the start.

        All ``times`` as one group are read on from the first, without what nobody refers to.
        """
        if self.damaged:
            return []
        near = self._near
        skips = near is not None and len(times) * 4 * near < times[-1] - times[0]
        groups = self._timeline.group_by_key_frame(times, WORTH if skips else SEQUENTIAL_SHARE)
        if self.keys_only:
            passed = sum(times[0] <= key <= times[-1] for key in self._timeline.keys)
            groups = groups if SEEK * len(groups) <= passed else []
        elif not self._timeline.keys and self.may_jump:
            groups = self._timeline.group_by_distance(times, EARLY[-1])
        if not (groups or self.keys_only) and near is not None and times[-1] - times[0] > 4 * near:
            groups = [times]
        return [] if groups and decodes_from_start_only(self._container) else groups

    @property
    def _near(self) -> float | None:
        """How long before a wanted time (seconds) every frame is decoded; None: always."""
        skips = self._container.codec.codec.name in SKIPPING and not self._only_dts and not self.keys_only
        return near(self._timeline.stamps) if skips else None

    def _after_seek(self, group: list[float], *, whole: bool) -> Iterator[tuple[float, Any]]:
        """Yield the frames at the times of one group of pictures, or of the ``whole`` of the file."""
        slack = 0.0 if whole else max(1.0, 0.02 * self.duration)
        if self.keys_only:  # behind the last of them there may be much
            slack = self.duration - group[-1] + MOST_DELAY * self._step
        for early in (0.0,) if self._timeline.keys else EARLY:
            try:
                self._container.seek(self._timeline.origin + group[0] - early)
                found = self._on_screen(group, slack)
                first = next(found)
            except (OSError, _Distrusted):
                continue
            yield first
            yield from found
            return
        raise _Distrusted

    def _sequential(self, times: list[float]) -> Iterator[tuple[float, Any]]:
        """Return the frames at the times from one read of the whole file."""
        self._container.rewind(conceal=self.damaged)
        return self._on_screen(times, None)

    def _on_screen(self, times: list[float], slack: float | None) -> Iterator[tuple[float, Any]]:
        """Decode on, and yield (seconds, frame) for each of the ascending times.

        ``slack`` (seconds): how much too early the file may end; None means that it was read from the start.
        """
        sought = slack is not None
        pending, gap = iter(times), 0.0
        t: float | None = next(pending)
        previous: tuple[float, Any] | None = None
        for shown, frame in self._decode(times if sought else ()):
            if previous is not None:
                gap = shown - previous[0]
            elif sought and _comes_late(self, shown):
                raise _Distrusted
            while t is not None and shown > t + 1e-6:
                if previous is None and sought:
                    raise _Distrusted  # landed behind the wanted time
                yield previous or (shown, frame)
                t = next(pending, None)
            if t is None:
                return
            previous = (shown, frame)
        if slack is not None and (previous is None or self.duration - previous[0] > slack):
            raise _Distrusted  # ended too early to be the end of the file
        if previous is None:
            if self.keys_only:
                raise _NoKeyFrame
            path = self._container.path
            raise UnreadableVideo(f"{path}: no frame of it can be decoded; damaged or encrypted")
        if not sought and self.keys_only:
            self.duration = max(self._last, previous[0]) + self._step
        elif not sought and previous[0] > 0:  # the end is known now; only frames can be trusted about it
            self.duration = previous[0] + min(gap, 10.0)
        yield previous
        for _ in pending:
            yield previous

    def _to_pixels(self, frame: Any, size: int | Framing, whole: bool = False) -> NDArray[np.uint8]:
        check_size(self._container.path, frame.width, frame.height)
        aspect = self._container.stream.sample_aspect_ratio
        return self._scaler.to_pixels(frame, Framing.of(size), aspect, whole=whole)

    def _decode(self, wanted: Sequence[float] = ()) -> Iterator[tuple[float, Any]]:
        """Yield (seconds, frame); `_Distrusted` at the first fault, which a `damaged` file passes over.

        Far from all of the ``wanted`` times, frames that no other refers to are left out.
        """
        import av

        rate = float(rate_of(self._container.stream))
        clock = Clock(self._timeline.origin + self._delay, rate, prefer_dts=self._only_dts)
        last_progress, near = self._container.clock(), self._near if wanted else None
        for packet in self._container.packets():
            if packet.pts is not None and packet.time_base is not None:
                self._last = float(packet.pts * packet.time_base) - self._timeline.origin
            if self.keys_only and packet.size and not packet.is_keyframe:
                last_progress = self._container.clock()
                continue
            if near is not None:
                self._container.skip(unreferred=is_far(self._last, wanted, near))
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                if out_of_memory(error):
                    raise
                if not self.damaged:
                    raise _Distrusted from error
                frames = []
            for frame in frames:
                if frame.is_corrupt and not self.damaged:
                    raise _Distrusted
                yield clock.read(frame), frame
            if frames:
                last_progress = self._container.clock()
            elif self._container.is_past(last_progress + STALL_SECONDS):
                raise VideoTimeout(f"{self._container.path}: no frame for {STALL_SECONDS:.0f} s; skipped")


def _comes_late(video: VideoReader, shown: float) -> bool:
    """Say whether the first picture comes after its key frame, which then only began to refresh it."""
    key = video._container.key
    return key is not None and shown > key - video._timeline.origin + 1.5 * video._step


def _measure_delay(video: VideoReader) -> float:
    """Return how late the first picture is by stamps of decoding: AVI files have no others."""
    try:
        first = next(video._decode(), (0.0, None))[0]
    except (_Distrusted, VideoTimeout):
        first = 0.0
    video._container.rewind()
    return first if first <= MOST_DELAY * video._step else 0.0


def facts_of(video: VideoReader, *, look: bool = False) -> Facts:
    """Return what an open file says of itself; with a ``look`` at a picture, whether that is turned too."""
    c = video._container
    size, sounds, aspect = (c.codec.width, c.codec.height), c.sounds, c.stream.sample_aspect_ratio
    names = c.file.format.name, c.codec.name, c.codec.pix_fmt or "", sounds[0].codec.name if sounds else ""
    shape = float(aspect) if aspect and aspect > 0 else 1.0
    lengths = video.duration, video.rate, video.offset
    turned = look and _is_turned(video)
    return Facts(*lengths, *size, bool(sounds), c.timecode(), *names, shape, turned)


def _is_turned(video: VideoReader) -> bool:
    """Say whether rows of the first picture are shown as columns; False where none can be decoded."""
    with suppress(_Distrusted):
        for _, frame in video._decode():
            turn = quarter_turn(display_matrix(frame))
            return turn is not None and turn[0]
    return False


def check_size(path: str | Path, width: int, height: int) -> None:
    """Raise VideoTooLarge for frames that are a mistake or an attack."""
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
        raise VideoTooLarge(f"{path}: frames of {width}x{height} pixels; {limit}")


def converted(
    frames: Iterator[tuple[float, Any]], to_pixels: Callable[[Any], NDArray[np.uint8]]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (seconds, pixels) for (seconds, frame); one that is on screen for long is converted once."""
    last, pixels = None, None
    for shown, frame in frames:
        if frame is not last or pixels is None:
            last, pixels = frame, to_pixels(frame)
        yield shown, pixels


class _Distrusted(Exception):
    """The frames cannot be trusted: read them in a slower way."""


class _NoKeyFrame(Exception):
    """Nothing comes of key frames alone."""
