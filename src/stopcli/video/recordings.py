"""Recordings written one behind the other into a file, each with a clock of its own.

Copying camcorder files together gives such a file, and DVDs are full of them. FFmpeg takes the clocks for
one: where a later one starts over, it sees one recording and loses the other. Here they get one clock, on
which each recording begins where the one before it ends.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stopcli.video.container import Container, Recordings

WHOLE = 16 << 20  # bytes of a file that is read as a whole, rather than looked into
LOOK = 8 << 20  # bytes that are read for one
LOOKS = 64  # places of a larger one that are looked at, and more near its ends
BACK, FAR = 1.0, 12 * 3600.0  # seconds that a clock goes back, or on, from one recording to the next
SOON = 500  # packets within which a clock that went back may go on as before
SURE = 5  # packets on either side that say so: fewer are damage
ODD, AROUND = 60.0, 5  # seconds from the median of so many packets that a time is damaged
NEAR = 2.0  # seconds that sound may begin before the picture, or last longer
EARLIER = 8  # packets before a key frame, to read from: several may share one place


def unite(container: Container) -> None:
    """Give the recordings in a file one clock, if there are several."""
    if container.recordings is None and container.may_jump() and _may_be_several(container):
        container.recordings = _find(container)


def _may_be_several(container: Container) -> bool:
    """Say whether clocks differ at some places of a file; a small file is not worth a look."""
    size = container.file.size
    if size <= WHOLE:
        return True
    ends = [size >> n for n in range(7, 12)]
    places = sorted([*np.linspace(0, size, LOOKS, endpoint=False).astype(int).tolist(), *ends])
    times: list[float] = []
    for place in [*places, *(size - end for end in ends)]:
        try:
            container.seek_byte(place)
        except OSError:
            continue
        for packet in container.read():
            if packet.stream_index == container.stream.index and packet.dts is not None:
                times.append(float(packet.dts * packet.time_base))
                break
            if (packet.pos or 0) > place + LOOK:
                break  # no picture is near
    container.rewind()
    steps = np.diff(np.maximum.accumulate(times)) if times else np.zeros(0)
    return bool((np.array(times) < np.maximum.accumulate(times) - BACK).any() or (steps > FAR).any())


class _Stream(NamedTuple):
    """The packets of one stream: where they are in the file, when decoded, shown or heard, and over."""

    places: NDArray[np.int64]
    decoded: NDArray[np.int64]
    shown: NDArray[np.int64]
    until: NDArray[np.int64]
    keys: NDArray[np.int64]  # 1: decoding may begin with it

    def sane(self, far: float) -> _Stream:
        """Return those with times like those of the packets around them; others are damaged."""
        if len(self.shown) < AROUND:
            return self
        around = sliding_window_view(np.pad(self.shown, AROUND // 2, mode="edge"), AROUND)
        kept = np.abs(self.shown - np.median(around, axis=1)) <= far
        return _Stream._make(field[kept] for field in self)

    def within(self, begin: int, end: float) -> NDArray[np.bool_]:
        """Say which are between two places of the file."""
        inside: NDArray[np.bool_] = (self.places >= begin) & (self.places < end)
        return inside

    def of(self, begin: int, end: float) -> _Stream:
        """Return those between two places of the file."""
        inside = self.within(begin, end)
        return _Stream._make(field[inside] for field in self)


def _find(container: Container) -> Recordings | None:
    """Read all packets, and return what recordings there are; None: there is but one."""
    streams = _read(container)
    pictures, second = streams[0], round(1 / container.stream.time_base)
    begins = {_first_place(streams, i, second // 2) for i in _seams(pictures.decoded, second)}
    places = [0, *sorted(begins - {0})]
    places = [
        p for p, end in zip(places, [*places[1:], np.inf], strict=True) if pictures.within(p, end).any()
    ]
    if len(places) < 2:
        return None
    places[0] = 0
    shifts, shown, end = [], [], None
    for begin, stop in zip(places, [*places[1:], np.inf], strict=True):
        parts = [stream.of(begin, stop) for stream in streams]
        first, last = _extent(parts, NEAR * second)
        shifts.append(0 if end is None else end - first)
        end = last + shifts[-1]
        shown.append(parts[0].shown + shifts[-1])
    stamps = np.concatenate(shown)
    key = np.flatnonzero(pictures.keys)
    order = np.argsort(stamps[key], kind="stable")
    before = pictures.places[np.maximum(key - EARLIER, 0)]
    return Recordings(places, shifts, stamps[key][order].tolist(), before[order].tolist(), np.sort(stamps))


def _read(container: Container) -> list[_Stream]:
    """Return the packets of the pictures and of all sound."""
    streams = [container.stream, *container.sounds]
    found = {stream.index: array("q") for stream in streams}  # five numbers a packet: there may be millions
    for packet in container.read(*streams):
        stamps = [stamp for stamp in (packet.dts, packet.pts) if stamp is not None]
        if packet.size and stamps:
            rows = found[packet.stream_index]
            place = packet.pos if packet.pos is not None else rows[-5] if rows else 0
            until = stamps[-1] + (packet.duration or 0)
            rows.extend((place, stamps[0], stamps[-1], until, int(packet.is_keyframe)))
    container.rewind()
    far = ODD / float(container.stream.time_base)
    return [_Stream._make(np.array(rows, np.int64).reshape(-1, 5).T).sane(far) for rows in found.values()]


def _seams(decoded: NDArray[np.int64], second: int) -> list[int]:
    """Return the numbers of the packets with which another clock begins."""
    back, far = BACK * second, FAR * second
    steps = np.diff(decoded)
    seams: list[int] = []
    for i in (np.flatnonzero((steps < -back) | (steps > far)) + 1).tolist():
        before, after = decoded[max(0, i - SURE) : i], decoded[i : i + SURE]
        is_back = before.min() > after.max() + back
        if (is_back and not _rejoins(decoded, i, second)) or after.min() > before.max() + far:
            seams.append(i)
    return seams


def _rejoins(decoded: NDArray[np.int64], seam: int, second: int) -> bool:
    """Say whether a clock that goes back soon goes on as if it had not: its times were damaged."""
    soon = decoded[seam - 1 : seam + SOON]
    steps = np.diff(soon)
    expected = decoded[seam - 1] + np.median(steps) * np.arange(1, len(soon))
    return bool(((steps > BACK * second) & (np.abs(soon[1:] - expected) < BACK * second)).any())


def _first_place(streams: list[_Stream], seam: int, jump: int) -> int:
    """Return where a recording begins, given the number of its first packet of pictures.

    Its first sound, with a ``jump`` of its stamps, may come before that.
    """
    pictures, *sounds = streams
    last, first = pictures.places[seam - 1 : seam + 1]
    found = [int(first)]
    for sound in sounds:
        inside = np.flatnonzero((sound.places > last) & (sound.places <= first))
        jumps = [i for i in inside if i and abs(sound.decoded[i] - sound.decoded[i - 1]) > jump]
        found += [int(sound.places[i]) for i in jumps[:1]]
    return min(found)


def _extent(parts: list[_Stream], near: float) -> tuple[int, int]:
    """Return when a recording begins and ends on its own clock: with its picture, or its sound."""
    pictures, *sounds = parts
    step = round(np.ptp(pictures.shown) / max(1, len(pictures.shown) - 1))
    first, last = int(pictures.shown.min()), int(pictures.shown.max()) + step
    starts = [int(s.shown.min()) for s in sounds if len(s.shown)]
    ends = [int(s.until.max()) for s in sounds if len(s.until)]
    begin = min([first, *(s for s in starts if s > first - near)])
    return begin, max([last, *(e for e in ends if e < last + near)])
