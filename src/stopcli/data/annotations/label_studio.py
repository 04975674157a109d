"""Label Studio's exports, JSON and JSON-MIN; source: its tags' documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stopcli.data.annotations.media import Cells, beside, facts_of, is_video
from stopcli.data.tablefile import read_text
from stopcli.fileio import is_file

BOOKKEEPING = {  # what it itself says of a task in JSON-MIN
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement",
}  # fmt: skip
USUAL = 24.0  # frames a second that it counts, whatever the video, unless its Video tag has a frameRate
RATES = ("fps", "framerate", "frame_rate", "frameRate")  # what a task's own rate is called, if it has one
KINDS = ("choices", "labels", "timelinelabels")

Span = tuple[float, float]


def read_label_studio(path: Path, notes: list[str]) -> Iterator[Cells | str]:
    """Yield the labels of an export: of a region its seconds, of a task the whole file."""
    tasks = json.loads(read_text(path))
    if not isinstance(tasks, list):
        raise TypeError("a list of tasks was expected")
    if any(t.get("predictions") and not t.get("annotations") for t in tasks):
        notes.append(f"{path.name}: predictions that nobody has accepted yet are taken as labels")
    for number, task in enumerate(tasks, 1):
        data = task.get("data", task)
        video = next((v for v in data.values() if isinstance(v, str) and is_video(v)), None)
        if video is None:
            yield f"task {number} names no video"
            continue
        values = _values(task, video)
        if isinstance(values, str):
            yield f"task {number} {values}"
            continue
        place = beside(path, video)
        clock = Clock(path, place, data, values, notes)
        said: list[Cells] = []  # two annotators may agree
        for value in values:
            texts = [str(text) for kind in KINDS for text in value.get(kind, [])]
            for span in _spans(value, clock) if texts else ():
                times = {} if span is None else {"start": span[0], "end": span[1]}
                rows: list[Cells] = [{"path": place, "text": text, **times} for text in texts]
                said += [row for row in rows if row not in said]
        yield from said


def _values(task: Cells, video: str) -> list[Cells] | str:
    """Return what was said of a video, or what is wrong with it."""
    if "annotations" in task or "predictions" in task:
        return [
            result["value"]
            for annotation in task.get("annotations") or task.get("predictions") or []
            if not annotation.get("was_cancelled")
            for result in annotation.get("result", [])
            if isinstance(result.get("value"), dict)
        ]
    own = {k: v for k, v in task.items() if k not in BOOKKEEPING and v != video}  # JSON-MIN
    texts = {k: v for k, v in own.items() if isinstance(v, str)}
    if len(texts) > 1:
        return f"has several texts ({', '.join(texts)}); export it as JSON"
    found = [one for v in own.values() for one in (v if isinstance(v, list) else [v])]
    values = [{"choices": [v]} if isinstance(v, str) else v for v in found]
    return [v for v in values if isinstance(v, dict)]


class Clock:
    """When the frames of a video are shown that a task numbers, and when the video ends."""

    def __init__(
        self, path: Path, place: str, data: Cells, values: Sequence[Cells], notes: list[str]
    ) -> None:
        self._file, self._data, self._values = path.parent / place, data, values
        self._name, self._notes, self._rate = path.name, notes, 0.0

    @property
    def is_there(self) -> bool:
        """Whether the video is."""
        return is_file(self._file)

    @property
    def end(self) -> float:
        """When the video ends, in seconds."""
        return (
            next((float(v["duration"]) for v in self._values if v.get("duration")), 0)
            or facts_of(self._file).end
        )

    @property
    def rate(self) -> float:
        """How many frames were counted a second: neither the video's own, nor said in every export."""
        if not self._rate:
            counted = [v for v in self._values if v.get("framesCount") and v.get("duration")]
            given = [float(self._data[name]) for name in RATES if _is_rate(self._data.get(name))]
            if counted:
                given = [float(counted[0]["framesCount"]) / float(counted[0]["duration"])]
            self._rate = given[0] if given else self._guessed()
        return self._rate

    def _guessed(self) -> float:
        facts = facts_of(self._file)
        last = max((float(r["end"]) for v in self._values for r in v.get("ranges", [])), default=0)
        fits = last <= (facts.end + 1) * USUAL
        rate = USUAL if fits else facts.rate
        if abs(facts.rate - USUAL) > 0.1:
            note = "frames are counted at a video's own rate where 24 a second would lead beyond its end"
            if fits:
                note = (
                    "frames are counted at 24 a second, as Label Studio does if its Video tag names no rate;"
                    " if yours has one, put it into the data of each task as fps"
                )
            note = f"{self._name}: {note}"
            self._notes += [note] if note not in self._notes else []
        return rate


def _is_rate(value: Any) -> bool:
    try:
        return 0 < float(value) < 1000
    except (TypeError, ValueError):
        return False


def _spans(value: Cells, clock: Clock) -> Iterator[Span | None]:
    """Yield from when until when something is seen, in seconds; None is the whole file."""
    if "ranges" in value and clock.is_there:
        for span in value["ranges"]:  # whole frames from 1; the last one is included
            yield (float(span["start"]) - 1) / clock.rate, float(span["end"]) / clock.rate
    elif "sequence" in value and clock.is_there:
        yield from _shown([key for key in value["sequence"] if "time" in key], clock)
    elif "start" in value and "end" in value:
        yield float(value["start"]), float(value["end"])
    else:
        yield None  # a video that is not there is a fault of the row


def _shown(keys: Sequence[Cells], clock: Clock) -> Iterator[Span]:
    """Yield when a box is on the screen: from a key frame to the next one that ends it, or to the end."""
    keys = sorted(keys, key=lambda key: float(key["time"]))
    begin = None
    for key in keys:
        goes_on = key.get("enabled", begin is None or key is not keys[-1])
        if begin is not None and not goes_on:
            yield begin, float(key["time"])
            begin = None
        elif begin is None and goes_on:
            begin = float(key["time"])
    if begin is not None:
        yield begin, clock.end
