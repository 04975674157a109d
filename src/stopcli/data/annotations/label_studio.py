"""Label Studio's exports, JSON and JSON-MIN; source: its tags' documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from stopcli.data.annotations.media import Cells, beside, facts_of, is_video
from stopcli.data.tablefile import read_text
from stopcli.fileio import is_file
from stopcli.video.container import Facts

BOOKKEEPING = {  # what it itself says of a task in JSON-MIN
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement",
}  # fmt: skip
USUAL = 24.0  # frames a second that it counts, whatever the video, unless its Video tag has a frameRate
SOUND = 0.25  # seconds: how much longer than its pictures a video may be
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
    clocks: list[Clock] = []
    found: list[str | Clock] = []
    for number, task in enumerate(tasks, 1):
        data = task.get("data", task)
        video = next((v for v in data.values() if isinstance(v, str) and is_video(v)), None)
        if video is None:
            found.append(f"task {number} names no video")
        elif isinstance(values := _values(task, video), str):
            found.append(f"task {number} {values}")
        else:
            clocks.append(Clock(path.parent, beside(path, video), data, values))
            found.append(clocks[-1])
    if note := _choose_rates(clocks):
        notes.append(f"{path.name}: {note}")
    for item in found:
        yield from [item] if isinstance(item, str) else _rows(item)


def _rows(clock: Clock) -> list[Cells]:
    """Return the rows of a task, each once: two annotators may agree."""
    said: list[Cells] = []
    for value in clock.values:
        texts = [str(text) for kind in KINDS for text in value.get(kind, [])]
        for span in _spans(value, clock) if texts else ():
            times = {} if span is None else {"start": span[0], "end": span[1]}
            rows: list[Cells] = [{"path": clock.place, "text": text, **times} for text in texts]
            said += [row for row in rows if row not in said]
    return said


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
    own = {k: v for k, v in task.items() if k not in {*BOOKKEEPING, *RATES} and v != video}  # JSON-MIN
    texts = {k: v for k, v in own.items() if isinstance(v, str)}
    if len(texts) > 1:
        return f"has several texts ({', '.join(texts)}); export it as JSON"
    found = [one for v in own.values() for one in (v if isinstance(v, list) else [v])]
    values = [{"choices": [v]} if isinstance(v, str) else v for v in found]
    return [v for v in values if isinstance(v, dict)]


class Clock:
    """When the frames are shown that a task numbers, and when its video ends; ``place`` is the video."""

    def __init__(self, folder: Path, place: str, data: Cells, values: Sequence[Cells]) -> None:
        self.place, self.values = place, values
        self._file = folder / place
        counted = [v for v in values if v.get("framesCount") and v.get("duration")]
        given = [float(data[name]) for name in RATES if _is_rate(data.get(name))]
        if counted:
            given = [float(counted[0]["framesCount"]) / float(counted[0]["duration"])]
        self.has_rate = bool(given)  # most exports do not say how many frames were counted a second
        self.rate = given[0] if given else USUAL
        self.last = max((float(r["end"]) for v in values for r in v.get("ranges", [])), default=0.0)

    @property
    def is_there(self) -> bool:
        """Whether the video is."""
        return is_file(self._file)

    @cached_property
    def own(self) -> Facts:
        """What the video says of itself."""
        return facts_of(self._file)

    @property
    def end(self) -> float:
        """When the video ends, in seconds."""
        return next((float(v["duration"]) for v in self.values if v.get("duration")), 0) or self.own.end


def _choose_rates(clocks: Sequence[Clock]) -> str | None:
    """Choose the rate of each clock whose task does not give it; return a note about it.

    A project has one Video tag: a single frame beyond a film's end shows that none was counted as usual.
    """
    unsure = [c for c in clocks if c.last and not c.has_rate and c.is_there]
    if all(c.last <= (c.own.end + SOUND) * USUAL + 1 for c in unsure):
        if all(abs(c.own.rate - USUAL) < 0.1 for c in unsure):
            return None
        usual = f"{USUAL:g} a second, as Label Studio does if its Video tag names no rate"
        return f"frames are counted at {usual}; if yours does, put it into the data of each task as fps"
    for clock in unsure:
        clock.rate = clock.own.rate
    return f"frames are counted at each video's own rate: {USUAL:g} a second would lead beyond the end of one"


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
    if len(keys) == 1 and not keys[0].get("enabled", True):  # in one frame only
        yield float(keys[0]["time"]), float(keys[0]["time"]) + 1 / clock.rate
        return
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
