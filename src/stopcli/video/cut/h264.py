"""The units of H.264 (ITU-T H.264, 7.3.1): behind start codes or lengths, and in a file's header."""

from __future__ import annotations

import re
from typing import Any

from stopcli.video.container import Container
from stopcli.video.cut.moment import from_key

IDR, SPS, PPS = 5, 7, 8  # kinds of units


def _units(data: bytes) -> list[bytes]:
    """Return the units of H.264 that stand between start codes."""
    return [unit.rstrip(b"\0") for unit in re.split(rb"\0\0\x01", data) if unit.strip(b"\0")]


def prefixed(packet: Any) -> Any:
    """Return a packet whose units begin with their length."""
    import av

    data = b"".join(len(u).to_bytes(4, "big") + u for u in _units(bytes(packet)))
    made: Any = av.Packet(data)
    made.pts, made.dts, made.time_base, made.duration = (
        packet.pts,
        packet.dts,
        packet.time_base,
        packet.duration,
    )
    made.is_keyframe, made.stream = packet.is_keyframe, packet.stream
    return made


def begins_anew(video: Container, stamp: int, *, prefixed: bool) -> bool:
    """Say whether the packet of a key frame lets a decoder forget all before it: not all of them do."""
    data = bytes(next(from_key(video, stamp)))
    return IDR in {u[0] & 31 for u in (_by_length(data) if prefixed else _units(data)) if u}


def _by_length(data: bytes) -> list[bytes]:
    """Return the units of H.264 that begin with their length."""
    units, at = [], 0
    while at + 4 < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def joint_header(head: bytes, ours: bytes | None) -> bytes:
    """Return a header (ISO/IEC 14496-15, 5.3.3.1) with the parameter sets of a file and of an encoder."""
    units = _units(ours or b"")
    at, sets = 5, []
    for kind in (SPS, PPS):
        count = head[at] & (31 if kind == SPS else 255)
        at += 1
        theirs = []
        for _ in range(count):
            length = int.from_bytes(head[at : at + 2], "big")
            theirs.append(head[at + 2 : at + 2 + length])
            at += 2 + length
        every = [*theirs, *(u for u in units if u[0] & 31 == kind)]
        marks = 0xE0 if kind == SPS else 0
        sets.append(bytes([marks | len(every)]) + b"".join(len(u).to_bytes(2, "big") + u for u in every))
    return head[:5] + b"".join(sets) + head[at:]
