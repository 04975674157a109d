"""Where a moment lies in a video's packets: nothing is decoded here.

A stamp is a time in a stream's own units; what is called on screen at a time is as in `video.reader`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from stopcli.errors import UnreadableVideo
from stopcli.video.container import RAW, Container, rate_of
from stopcli.video.timeline import read_timeline

CLOSE = 1e-6  # seconds: stamps are rounded
LONG = 0.5  # seconds: a picture that was on the screen for longer already is not shown from its beginning on
UNTIMED = ("avi", "flv")  # formats that do not say how long the last picture stays
CHANGED = "its packets are others when they are read again"
EARLY = (0.0, 10.0)  # seconds before a wanted time, to seek to


class Place(NamedTuple):
    """A picture's packet: when it is shown, and whether decoding may begin with it."""

    stamp: int
    key: bool


@dataclass(frozen=True)
class Moment:
    """Packets in decoding order, from the key frame on that the first shown picture needs.

    Pictures from ``first`` on and before ``stop`` are shown, from ``zero`` on: stamps. The first one begins
    there, unless it stays on the screen for long. ``start`` is ``zero`` in seconds, as players count.
    """

    packets: Sequence[Place]
    first: int
    zero: int
    stop: int
    end: int  # of the video
    start: float
    unit: float  # seconds of a stamp

    @cached_property
    def shown(self) -> int:
        """How many pictures are shown."""
        return len(self._stamps())

    @property
    def step(self) -> float:
        """How long after each other pictures come on average, as a stamp's difference."""
        return (self.packets[-1].stamp - self.packets[0].stamp) / max(1, len(self.packets) - 1)

    @cached_property
    def last(self) -> int:
        """When the last picture comes, as a stamp."""
        return max(self.zero, *self._stamps())

    @property
    def length(self) -> int:
        """How long they are shown, as a stamp's difference."""
        return min(self.stop, max(self.end, self.last + 1)) - self.zero

    def _stamps(self) -> set[int]:
        return {p.stamp for p in self.packets if self.first <= p.stamp < self.stop}

    @property
    def reordered(self) -> bool:
        """Whether pictures are shown in another order than they are decoded in."""
        return any(a.stamp > b.stamp for a, b in pairwise(self.packets))

    @property
    def lead(self) -> int:
        """How long before the first shown picture the packets begin, as a stamp's difference."""
        begin = self.packets[0].stamp
        return 0 if begin == self.first else self.zero - begin

    @cached_property
    def closed(self) -> set[int]:
        """The numbers of the key frames before which no picture is shown that is decoded after them."""
        found, earliest = set(), self.packets[-1].stamp
        for number in range(len(self.packets) - 1, -1, -1):
            place = self.packets[number]
            earliest = min(earliest, place.stamp)
            if place.key and place.stamp == earliest:
                found.add(number)
        return found

    def is_even(self, rate: Fraction) -> bool:
        """Say whether no two packets are the same picture, counted at a rate."""
        stamps = {p.stamp for p in self.packets}
        return len({round(stamp * self.unit * rate) for stamp in stamps}) == len(stamps)

    @property
    def ends_clean(self) -> bool:
        """Say whether no shown picture needs one that is shown after the end."""
        late = [i for i, p in enumerate(self.packets) if p.stamp >= self.stop]
        return not late or all(p.stamp >= self.stop for p in self.packets[late[0] :])


def decoding_stamps(places: Sequence[Place]) -> tuple[list[int], int]:
    """Return when packets are decoded at the latest, in order, and how long that is before they are shown.

    Right behind a seek, not every container tells.
    """
    shown = sorted(p.stamp for p in places)
    delay = max((s - p.stamp for s, p in zip(shown, places, strict=True)), default=0)
    return [s - delay for s in shown], delay


def locate(container: Container, start: float, end: float) -> Moment:
    """Find the moment from ``start`` to ``end``, seconds on the file's own clock.

    Raises UnreadableVideo: nothing is shown in it, or no packet says when it is shown.
    """
    timeline = read_timeline(container)
    base = timeline.origin - timeline.offset
    unit = float(container.stream.time_base)
    limit = math.floor((base + start + CLOSE) / unit)
    stop = math.ceil((base + end - CLOSE) / unit)
    found: list[Place] = []
    ended: int | None = None
    gap = 0
    for _ in approach(container, base + start):
        found, ended, gap = _scan(container, limit, stop)
        if found and found[0].stamp <= limit:
            break
    last = timeline.duration + timeline.offset
    lacks = 0.0 if ended is None else last - (ended * unit - base)
    certain = container.file.format.name not in UNTIMED or bool(container.sounds)
    if ended is not None and lacks > LONG and (certain or (gap and lacks > 2 * gap * unit)):
        # the file was cut off, or only its sound goes on
        last = min(last, max(ended * unit, _heard_until(container, ended * unit)) - base)
    if start >= last:
        raise UnreadableVideo(f"{container.path}: it ends at {last:.2f} s, but {start:.2f} s was wanted")
    first = max((p.stamp for p in found if p.stamp <= limit), default=limit)
    zero = first if (limit - first) * unit <= LONG else limit
    moment = Moment(found, first, zero, stop, math.ceil((base + last) / unit), zero * unit - base, unit)
    if not moment.shown:
        raise UnreadableVideo(
            f"{container.path}: no picture between {start:.2f} and {end:.2f} s can be shown"
        )
    return moment


def _scan(container: Container, limit: int, stop: int) -> tuple[list[Place], int | None, int]:
    """Return the packets from the last key frame shown by ``limit`` to ``stop``, read on from here.

    Also return when the last picture ends, if the file ends before ``stop`` (its header may claim more), and
    the longest time between two pictures, 0 if there was only one.
    """
    seen: list[int] = []
    found: list[Place] = []
    step, ended = round(1 / (rate_of(container.stream) * container.stream.time_base)), 0
    for packet in pictures(container):
        stamp = stamp_of(packet)
        if stamp is None or not packet.size:
            continue
        if found and packet.dts is not None and packet.dts >= stop:
            return found, None, 0
        ended = max(ended, stamp + (packet.duration or step))
        seen.append(stamp)
        if packet.is_keyframe and stamp <= limit:
            found = []
        if found or packet.is_keyframe:
            found.append(Place(stamp, bool(packet.is_keyframe)))
    gap = max((b - a for a, b in pairwise(sorted(seen))), default=0)
    return found, ended if found else None, gap


def _heard_until(container: Container, seconds: float) -> float:
    """Return when the sound ends, read from a time on; both are seconds on the stream's own clock."""
    with suppress(OSError):
        container.seek(seconds)
    packets = container.read(*container.sounds) if container.sounds else iter(())
    heard = (float((p.pts + (p.duration or 0)) * p.time_base) for p in packets if p.pts is not None)
    return max(heard, default=seconds)


def approach(container: Container, seconds: float) -> Iterator[None]:
    """Go to places from which to read up to a time of the stream's own clock: ever earlier ones.

    Where a file has no index, a seek may land too late; the last place is the file's start, and of a raw
    stream, whose pictures are counted, the only one.
    """
    for early in EARLY if not is_raw(container) else ():
        with suppress(OSError):
            container.seek(seconds - early)
            yield
    container.rewind()
    yield


def from_key(container: Container, stamp: int) -> Iterator[Any]:
    """Yield the packets of pictures from the key frame on that is shown at ``stamp``, and what ends them.

    Raises UnreadableVideo: it is gone.
    """
    for _ in approach(container, float(stamp * container.stream.time_base)):
        packets = pictures(container)
        for packet in packets:
            if packet.is_keyframe and stamp_of(packet) == stamp:
                yield packet
                yield from (p for p in packets if not p.size or stamp_of(p) is not None)
                return
            if packet.dts is not None and packet.dts > stamp:
                break
    raise UnreadableVideo(f"{container.path}: {CHANGED}")


def pictures(container: Container) -> Iterator[Any]:
    """Yield the packets of pictures from here on; those of AVI files count as shown when they are decoded.

    Those of raw streams are counted from the first key frame on, at the stream's rate.
    """
    timed, raw = times_pictures(container), is_raw(container)
    step = 1 / (rate_of(container.stream) * container.stream.time_base)
    count, begun = 0, False
    for packet in container.packets():
        begun = begun or bool(packet.is_keyframe)
        if raw and packet.size and begun:
            packet.dts, count = round(count * step), count + 1
        if not timed:
            packet.pts = packet.dts
        yield packet


def times_pictures(container: Container) -> bool:
    """Say whether a file tells when pictures are shown; some tell only in which order they are decoded."""
    return container.file.format.name not in ("avi", *RAW)


def is_raw(container: Container) -> bool:
    """Say whether no packet has times: pictures are counted from the first one on, as they are shown."""
    return container.file.format.name in RAW


def stamp_of(packet: Any) -> int | None:
    """Return when a packet, or the picture in it, is shown."""
    return packet.pts if packet.pts is not None else packet.dts  # type: ignore[no-any-return]
