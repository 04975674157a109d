"""A moment written into a file: packets as they are, or pictures encoded again where ``exact`` needs it."""

from __future__ import annotations

import errno
import heapq
import math
from collections.abc import Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stopcli.errors import InputError, UnreadableVideo
from stopcli.video.container import Container, rate_of, reason
from stopcli.video.cut.encoding import Joint, Pictures, encoded, joint, turned
from stopcli.video.cut.moment import (
    CHANGED,
    LONG,
    Moment,
    decoding_stamps,
    from_key,
    locate,
    stamp_of,
    times_pictures,
)
from stopcli.video.cut.streams import (
    OTHER,
    CannotHold,
    NewFile,
    Sound,
    add_stream,
    holds_covers,
    muxer_of,
    open_like,
    starts_in_time,
    suffix_of,
)
from stopcli.video.cut.timecode import frame_number, timecode
from stopcli.video.cut.upright import TURNS
from stopcli.video.reader import check_file, open_video

SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)  # what another way would not mend
PRIMING = 0.1  # seconds of sound that its decoder needs before it sounds right
READ = 15.0  # seconds for which a subtitle may stay on the screen
LATE = 2.0  # seconds: how much later in the file sound may stand than the picture that it belongs to
TICK = 0.001  # seconds: no format that times pictures is coarser
CHECKED = 32  # pixels: enough to see what a picture shows
COMPARED, UNLIKE = 9, 12.0  # pictures of a joined moment, and grey levels that are another picture


class WrittenMoment(NamedTuple):
    """What was written: when it begins and for how long it is shown (seconds); how much is before that."""

    start: float
    duration: float
    lead: float
    mode: str  # copy, joined or encoded
    left_out: tuple[str, ...]  # streams that the format cannot hold
    sound: str | None  # the codec in which sound was encoded again, for the format cannot hold its own


def write_moment(source: str, target: str, start: float, end: float, *, exact: bool) -> WrittenMoment:
    """Write the moment of a video; ``target``'s suffix, one of `MUXERS`, says the format.

    Without ``exact``, packets are copied from the key frame before ``start`` on, and players that know edit
    lists show an MP4 from ``start`` on. With it, as few pictures as possible are encoded again.

    Raises:
        InputError: one of its kinds, with the file's fault in one sentence.
    """
    check_file(Path(source))
    with closing(Container(source, 0)) as video:
        moment = locate(video, start, end)
        for pictures in _ways(video, moment, target, exact=exact):
            try:
                written = _write(source, target, video, moment, pictures)
            except CannotHold:
                continue
            except UnreadableVideo as error:
                as_it_is = suffix_of(Path(source)) == Path(target).suffix.lower()
                system = getattr(error.__cause__, "errno", None) in SYSTEM
                if system or pictures.mode == "encoded" or (pictures.mode == "copy" and as_it_is):
                    raise
                continue
            if pictures.mode != "joined" or _agree(source, target, moment):
                return written
    suffix, other = Path(target).suffix, OTHER if Path(target).suffix.lower() != OTHER else ".mp4"
    raise UnreadableVideo(f"{source}: a {suffix} file holds no such pictures; name a file {other}")


def _ways(video: Container, moment: Moment, target: str, *, exact: bool) -> Iterator[Pictures]:
    """Yield how the pictures can be written, the best way first; one that fails is followed by the next."""
    muxer = muxer_of(target)
    # MXF's own order of pictures does not allow for those that are cut off behind an open key frame
    headless = muxer == "mxf" and 0 not in moment.closed
    in_order = muxer == "avi"  # it tells no times: reordered pictures would come late, beside the sound
    untold = not times_pictures(video) and bool(video.codec.has_b_frames)  # nor when to show them elsewhere
    if (muxer in TURNS or not turned(video, moment)) and not (in_order and moment.reordered):
        if not exact and (in_order or not untold) and not headless:
            yield Pictures("copy", _copied(video, moment))
        elif exact and (plan := joint(video, moment)) is not None:
            packets = plan.packets(video, moment, _copied(video, moment, plan))
            yield Pictures("joined", packets, plan.extradata)
        if exact or untold or headless:
            with suppress(UnreadableVideo):  # its own encoder may not take it
                yield encoded(video, moment, in_order=in_order, beforehand=muxer == "matroska")
    kind = "libvpx-vp9" if muxer == "webm" else "libx264"
    yield encoded(video, moment, kind, in_order=in_order, beforehand=muxer == "matroska")


def _agree(source: str, target: str, moment: Moment) -> bool:
    """Say whether a joined file shows all pictures of a moment, none damaged, and those of the video."""
    if _count(target) != moment.shown:
        return False
    length = moment.length * moment.unit
    times = np.linspace(0, length, COMPARED, endpoint=False) + 1e-3
    with suppress(InputError), open_video(source) as theirs, open_video(target) as ours:
        begin = max(0.0, moment.start - theirs.offset)
        pairs = zip(theirs.frames_at(begin + times, CHECKED), ours.frames_at(times, CHECKED), strict=True)
        return all(np.abs(a.astype(float) - b).mean() < UNLIKE for (_, a), (_, b) in pairs)
    return False


def _count(path: str) -> int | None:
    """Return how many pictures a file shows; None where one of them is damaged."""
    import av

    count = 0
    try:
        with closing(Container(path, 0)) as container:
            for packet in container.packets():
                for frame in packet.decode():
                    if frame.is_corrupt:
                        return None
                    count += 1
    except (av.FFmpegError, UnreadableVideo):
        return None
    return count


def _copied(video: Container, moment: Moment, plan: Joint | None = None) -> Iterator[Any]:
    """Yield the moment's packets, or those between the joints, in decoding order.

    A picture that is shown too late is there only where one that is not needs it, and comes right at the end.
    """
    places = moment.packets[plan.first : plan.last] if plan else moment.packets
    late: list[Any] = []
    tick = math.ceil(TICK / moment.unit)
    beyond = sorted({p.stamp for p in places if p.stamp >= moment.stop})
    ends = {stamp: moment.stop + i * tick for i, stamp in enumerate(beyond)}
    stamps, _ = decoding_stamps([p._replace(stamp=ends.get(p.stamp, p.stamp)) for p in places])
    for packet, place, decoded in zip(from_key(video, places[0].stamp), places, stamps, strict=False):
        if stamp_of(packet) != place.stamp:
            raise UnreadableVideo(f"{video.path}: {CHANGED}")
        if place.stamp < places[0].stamp:
            continue  # what it needs is cut off
        packet.dts = decoded
        if place.stamp in ends:
            packet.pts, packet.duration = ends[place.stamp], tick
        late.append(packet)
        if place.stamp < moment.stop:
            yield from late
            late = []


def _write(source: str, target: str, video: Container, moment: Moment, pictures: Pictures) -> WrittenMoment:
    """Put pictures, and all else that the file has at that time, into a new file."""
    import av

    unit = video.stream.time_base
    zero, stop = moment.zero * unit, moment.stop * unit
    trims = starts_in_time(Path(target)) and pictures.mode == "copy"
    lead = max(0, moment.lead) * unit if pictures.mode == "copy" else Fraction(0)
    begin = zero - (Fraction(PRIMING) if trims else lead)
    try:
        with closing(Container(source, 1)) as rest:
            rest.recordings = video.recordings
            output, streams, sounds, left_out = _open(target, video, rest, moment, pictures)
            with output:
                shown = zero if trims else begin
                span = begin, shown, stop
                others = _others(rest, streams, sounds, span, timed=muxer_of(target) != "avi")
                for packet in heapq.merge(pictures.packets, others, key=_time):
                    if packet.stream_index == video.stream.index:
                        _fit(packet, moment, unit / packet.time_base)
                    _shift(packet, zero)
                    packet.stream = streams[packet.stream_index]
                    output.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        other = "" if Path(target).suffix.lower() == suffix_of(Path(source)) else f"; name a file {OTHER}"
        why = f"a moment of it cannot be written ({reason(error)}) as {Path(target).suffix}{other}"
        raise UnreadableVideo(f"{source}: {why}") from error
    codec = next((sound.codec for sound in sounds.values()), None)
    if not _decodes(target):
        raise UnreadableVideo(f"{source}: no picture of the moment can be decoded; damaged or encrypted")
    length, lost = float(moment.length * unit), (*left_out, *pictures.left_out)
    return WrittenMoment(moment.start, length, float(lead), pictures.mode, lost, codec)


def _decodes(path: str) -> bool:
    with suppress(InputError), open_video(path, threads=1) as video:
        return next(video.frames_at([0.0], CHECKED), None) is not None
    return False


def _time(packet: Any) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return Fraction((stamp or 0) * packet.time_base)


def _fit(packet: Any, moment: Moment, unit: Fraction) -> None:
    """Let the first picture come when the moment begins, and the last one stay until it ends.

    ``unit`` is a stamp of the moment in the packet's own units.
    """
    if packet.pts is not None and packet.pts == round(moment.first * unit):
        late = round(moment.zero * unit) - packet.pts
        packet.pts += late
        packet.dts += late if moment.first == moment.packets[0].stamp else 0
        packet.duration = max(0, (packet.duration or 0) - late)
    if packet.pts is None or packet.pts != round(moment.last * unit):
        return
    left = round((moment.zero + moment.length - moment.last) * unit)
    long = LONG / float(packet.time_base)
    if not packet.duration or left > packet.duration or packet.duration - left > long:
        packet.duration = left


def _shift(packet: Any, zero: Fraction) -> None:
    """Count a packet's times from ``zero`` (seconds)."""
    by = round(zero / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - by
    packet.dts = None if packet.dts is None else packet.dts - by


def _open(target: str, video: Container, rest: Container, moment: Moment, pictures: Pictures) -> NewFile:
    """Open a file for a moment of another, with as many of its streams as it can hold."""
    import av

    def add(output: Any, stream: Any) -> Any:
        if stream.index != video.stream.index:
            if not _may_stay(stream, pictures, target):
                raise ValueError(stream.type)
            return add_stream(output, stream)
        try:
            made = pictures.add(output, stream)
        except (ValueError, av.FFmpegError) as error:
            raise CannotHold from error
        if muxer_of(target) == "avi" and moment.is_even(rate_of(stream)):
            made.time_base = 1 / rate_of(stream)  # by which it counts pictures
        return made

    def finish(output: Any, streams: dict[int, Any]) -> None:
        output.metadata.update({k: v for k, v in rest.file.metadata.items() if k != "timecode"})
        if (began := rest.timecode()) is not None:
            streams[video.stream.index].metadata["timecode"] = _later(began, video, moment, pictures, target)

    return open_like(rest.file, target, add, finish, copied=pictures.mode == "copy")


def _later(began: str, video: Container, moment: Moment, pictures: Pictures, target: str) -> str:
    """Return the timecode of a clip's first picture, given that of the video's."""
    hidden = pictures.mode != "copy" or starts_in_time(Path(target))
    seconds = moment.start - (0.0 if hidden else moment.lead * moment.unit)
    rate = rate_of(video.stream)
    number = frame_number(began, rate) + round(seconds * rate)
    return timecode(number, rate, drop=began[8] != ":")


def _may_stay(stream: Any, pictures: Pictures, target: str) -> bool:
    """Say whether another stream may be in a clip: other films are copied from a key frame on, or not."""
    from av.stream import Disposition

    if stream.type != "video":
        return True
    cover = bool(stream.disposition & Disposition.attached_pic)
    return holds_covers(target) if cover else pictures.mode == "copy"


def _others(
    rest: Container,
    streams: dict[int, Any],
    sounds: dict[int, Sound],
    span: tuple[Fraction, Fraction, Fraction],
    *,
    timed: bool,
) -> Iterator[Any]:
    """Yield the packets of all streams but the pictures' that are heard, or read, in a span.

    It says from when on they are heard, from when on they are read, and until when, in seconds.
    Where the file will not tell times, all streams begin together: the nearest packet comes first.
    """
    from av.stream import Disposition

    begin, zero, stop = span
    wanted = [s for s in rest.file.streams if s.index in streams and s.index != rest.stream.index]
    if not wanted:
        return
    early = READ if any(s.type == "subtitle" for s in wanted) else LATE / 2
    if begin > (rest.stream.start_time or 0) * rest.stream.time_base:  # else sound may come first
        try:
            rest.seek(float(begin) - early)
        except OSError:
            rest.rewind()
            wanted = [s for s in rest.file.streams if s.index in streams and s.index != rest.stream.index]
    waiting = {s.index for s in wanted if s.type == "audio"}
    before: dict[int, list[Any]] = {}  # pictures of other streams, from the key frame before the moment on
    for packet in rest.read(rest.stream, *wanted):
        if not packet.size or (packet.dts is None and packet.pts is None):
            continue
        since, kind = _time(packet), packet.stream.type
        length = (packet.duration or 0) * packet.time_base
        until = since + (length if timed else length / 2)
        if packet.stream_index == rest.stream.index:
            if since >= stop + Fraction(LATE) or (since >= stop and not waiting):
                break
        elif kind == "video" and packet.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = round(max(begin, Fraction(0)) / packet.time_base)
            yield packet
        elif since >= stop:
            waiting.discard(packet.stream_index)
        elif kind == "video" and since <= begin:
            held = before.setdefault(packet.stream_index, [])
            if packet.is_keyframe:
                held.clear()
            if held or packet.is_keyframe:
                held.append(packet)
        elif kind == "video":
            yield from before.pop(packet.stream_index, ())
            yield packet
        elif until > begin and packet.stream_index in sounds:
            yield from sounds[packet.stream_index].packets(packet, begin)
        elif kind == "subtitle" and until > zero:
            yield _within(packet, zero, stop)
        elif until > begin and kind != "subtitle":
            yield packet
    for sound in sounds.values():
        yield from sound.packets(None, begin)


def _within(packet: Any, begin: Fraction, stop: Fraction) -> Any:
    """Return a subtitle that is shown in the moment only."""
    unit = packet.time_base
    end = min(packet.pts + packet.duration, round(stop / unit))
    packet.pts = packet.dts = max(packet.pts, round(begin / unit))
    packet.duration = end - packet.pts
    return packet
