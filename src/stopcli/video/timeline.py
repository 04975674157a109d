"""What a header says of a video's times: a plan, which the decoded frames must confirm.

Headers lie about durations, frame counts and rates. Times are seconds from the first frame.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stopcli.video.container import Container, rate_of
from stopcli.video.recordings import unite
from stopcli.video.sampling import LONGEST

SEQUENTIAL_SHARE = 0.75  # of the file to be decoded anyway: reading on is cheaper than seeking
LATE_INDEX = {"matroska", "asf"}  # formats whose index FFmpeg reads when it must seek
PERCEPTIBLE = 0.1  # seconds


@dataclass(frozen=True)
class Timeline:
    """Where a video begins and ends, and where decoding may start."""

    origin: float  # the first frame's time on the stream's own clock
    offset: float  # ... and on the file's: players count from its first stream's beginning
    duration: float
    keys: tuple[float, ...]  # the key frames' times; empty where the file has no index
    stamps: NDArray[np.float64] | None = None  # all packets' times, ascending, where the index lists them

    def group_by_key_frame(self, times: list[float], share: float = SEQUENTIAL_SHARE) -> list[list[float]]:
        """Group ascending times by the key frame to decode them from; empty means: read sequentially.

        That is so where more than a ``share`` of the film must be decoded anyway.
        """
        if len(self.keys) < 2:
            return []
        groups: dict[int, list[float]] = {}
        for t in times:
            groups.setdefault(max(0, bisect_right(self.keys, t + 1e-6) - 1), []).append(t)
        decoded = sum(ts[-1] - self.keys[k] for k, ts in groups.items())
        return list(groups.values()) if decoded < share * times[-1] else []

    @property
    def is_steady(self) -> bool:
        """Whether key frames come so often that no picture can be shown for long."""
        ends = [*self.keys, self.duration]
        return bool(self.keys) and self.keys[0] <= LONGEST >= max(b - a for a, b in pairwise(ends))

    def group_by_distance(self, times: list[float], early: float) -> list[list[float]]:
        """Group ascending times by the seek that leads to them, as above, where the file has no index.

        A seek goes ``early`` seconds before a time, for a key frame to come before it.
        """
        far = np.flatnonzero(np.diff(times) > early) + 1
        groups = [part.tolist() for part in np.split(np.array(times), far)]
        decoded = sum(ts[-1] - max(0.0, ts[0] - early) for ts in groups)
        return groups if decoded < SEQUENTIAL_SHARE * times[-1] else []

    def aim_at_keys(self, times: NDArray[np.float64], late: float) -> NDArray[np.float64]:
        """Return times shortly after the key frames nearest to some times; without an index, as they are.

        The index may tell when they are decoded: up to ``late`` seconds later they are shown.
        """
        if not self.keys:
            return times
        keys = np.array([*self.keys, np.inf])
        place = np.clip(np.searchsorted(keys, times, "right") - 1, 0, len(self.keys) - 1)
        place += keys[place + 1] - times < times - keys[place]
        aims: NDArray[np.float64] = keys[place] + np.minimum(late, (keys[place + 1] - keys[place]) / 2)
        return aims


def read_timeline(container: Container) -> Timeline:
    """Read the times from the header, or from all packets where the header contradicts itself."""
    unite(container)
    if container.recordings is not None:
        return _of_recordings(container)
    keys, stamps, indexed = _read_index(container)
    stream = container.stream
    origin = float(stream.start_time * stream.time_base) if stream.start_time is not None else None
    if stream.duration and stream.time_base:
        claimed = float(stream.duration * stream.time_base)
    else:
        claimed = (container.file.duration or 0) / 1_000_000
        if "matroska" in container.file.format.name:
            claimed -= max(0.0, origin or 0.0)  # it counts from 0, wherever the pictures begin
    if _is_late(container) and (claimed <= 0 or max(np.diff([0.0, *keys, claimed])) > 2 * LONGEST):
        keys = ()  # not an index of the whole
    if origin is not None and claimed > 0:
        if indexed is not None:
            if abs(claimed - indexed) <= max(0.5, 0.02 * claimed):
                return Timeline(origin, _offset(container, origin), indexed, keys, stamps)
        elif not keys or keys[-1] <= claimed <= 2 * keys[-1] + 60:
            return Timeline(origin, _offset(container, origin), claimed, keys)
    origin, duration = _scan_packets(container, origin)
    if indexed is not None and indexed < duration - max(0.5, 0.02 * duration):
        keys, stamps = (), None  # of the first fragment only
    return Timeline(origin, _offset(container, origin), duration, keys, stamps)


def _of_recordings(container: Container) -> Timeline:
    assert container.recordings is not None
    unit = float(container.stream.time_base)
    stamps, keys = (np.array(x) * unit for x in (container.recordings.stamps, container.recordings.keys))
    origin, last = float(stamps[0]), float(stamps[-1])
    step = (last - origin) / max(1, len(stamps) - 1)
    starts = tuple((keys - origin).tolist())
    return Timeline(origin, _offset(container, origin), last - origin + step, starts, stamps - origin)


def _offset(container: Container, origin: float) -> float:
    """Return when the picture begins, on the file's own clock; what nobody can perceive is 0."""
    begin = container.file.start_time
    offset = 0.0 if begin is None else origin - begin / 1_000_000
    return offset if offset >= PERCEPTIBLE else 0.0


def _read_index(container: Container) -> tuple[tuple[float, ...], NDArray[np.float64] | None, float | None]:
    """Return the key frames' times; and where the index lists every packet, their times and the extent."""
    start, base = container.stream.start_time, container.stream.time_base
    late = _is_late(container)
    if late:
        with suppress(OSError):
            container.seek(1.0)  # going to 0 would need none
    entries = [(e.timestamp, e.is_keyframe) for e in container.stream.index_entries if not e.is_discard]
    if late:
        container.rewind()
    if len(entries) < 2 or base is None:
        return (), None, None
    first, last = entries[0][0], max(t for t, _ in entries)
    if late and start is not None:
        first = start  # the first entry may be of a later picture
    keys = tuple(sorted(float((t - first) * base) for t, is_key in entries if is_key))
    if len(keys) == len(entries):
        return keys, None, None
    step = (last - first) / (len(entries) - 1)
    stamps = np.sort([float((t - first) * base) for t, _ in entries])
    return keys, stamps, float((last - first + step) * base)


def _is_late(container: Container) -> bool:
    """Say whether FFmpeg reads a file's index only when it must seek; without one, it lists what it saw."""
    return bool(LATE_INDEX & set(container.file.format.name.split(",")))


def _scan_packets(container: Container, origin: float | None) -> tuple[float, float]:
    """Return origin and duration from the packets, without decoding them."""
    times = _packet_times(container)
    if not len(times):
        return origin or 0.0, 0.0
    first, last = float(times[0]), float(times[-1])
    return first, last - first + (last - first) / max(1, len(times) - 1)


def scan_stamps(container: Container) -> NDArray[np.float64]:
    """Return the times of all packets from the first one's on, ascending; nothing is decoded."""
    times = _packet_times(container)
    return times - times[0] if len(times) else times


def _packet_times(container: Container) -> NDArray[np.float64]:
    """Return the packets' times, ascending; of a raw stream, which has none, by counting its pictures."""
    times, pictures = [], 0
    for packet in container.packets():
        stamp = packet.pts if packet.pts is not None else packet.dts
        pictures += packet.size > 0
        if stamp is not None:
            times.append(float(stamp * packet.time_base))
    container.rewind()
    if not times:
        return np.arange(pictures) / float(rate_of(container.stream))
    return np.sort(np.array(times, np.float64))
