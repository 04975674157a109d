"""BORIS' project files: https://www.boris.unito.it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from stopcli.data.annotations.media import Cells, beside
from stopcli.data.tablefile import read_text, short

POINT = 1.0  # seconds on both sides of an event that has no end


class Played(NamedTuple):
    """A file, and from when until when it is played, seconds of the observation."""

    file: str
    begin: float
    end: float


def read_boris(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the events of a project: of states from start to stop, of points a second on both sides."""
    project = json.loads(read_text(path))
    points = False
    for name, observation in project["observations"].items():
        players = observation.get("file") or {}
        files = [f for f in (players.get("1") if isinstance(players, dict) else None) or [] if f]
        if not files:
            yield f"observation {short(name)!r} has no video"
            continue
        played = _in_a_row(files, (observation.get("media_info") or {}).get("length") or {})
        offset = float(observation.get("time offset", 0) or 0)
        open_since: dict[tuple[str, ...], float] = {}
        kinds = {b["code"]: b["type"] for b in project.get("behaviors_conf", {}).values()}
        for event in sorted(observation.get("events", []), key=lambda e: float(e[0])):
            time, subject, code = float(event[0]) - offset, str(event[1]), str(event[2])
            if not math.isfinite(time):
                yield f"{short(code)!r} in {short(name)!r} has no time"
                continue
            key = (subject, code, str(event[3]) if len(event) > 3 else "")
            if str(kinds.get(code, "State event")).lower().startswith("point"):
                among = [next(p for p in played if time < p.end)]
                start, end, points = time - POINT, time + POINT, True
            elif key not in open_since:
                open_since[key] = time
                continue
            else:
                among, start, end = played, open_since.pop(key), time
            places = list(_places(among, start, end))
            if not places:
                yield f"{short(code)!r} in {short(name)!r} ends at {end:g} s, before its video begins"
            for file, since, until in places:
                yield {"path": beside(path, file), "text": code, "start": since, "end": until}
        for (_, code, _), since in open_since.items():
            yield f"{short(code)!r} in {short(name)!r} begins at {since:g} s and never stops"
    if points:
        notes.append(f"{path.name}: events without an end are taken as {2 * POINT:g} s around them")


def _in_a_row(files: list[str], lengths: dict[str, Any]) -> list[Played]:
    """Return when each file is played; behind one of unknown length, or the last, nothing is."""
    known = [float(lengths.get(file) or 0) or math.inf for file in files[:-1]]
    ends = [sum(known[: i + 1]) for i in range(len(known))] + [math.inf]
    return [Played(file, *span) for file, span in zip(files, pairwise([0.0, *ends]), strict=True)]


def _places(played: list[Played], start: float, end: float) -> Iterator[tuple[str, float, float]]:
    """Yield the files that are played from ``start`` to ``end``, and when, seconds of each file."""
    for file, begin, until in played:
        if start < until and end >= begin and (end > begin or start >= begin):
            yield file, max(start, begin) - begin, min(end, until) - begin
