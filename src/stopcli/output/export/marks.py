"""Moments as editors and annotators count them: in frames of a video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

from stopcli.results import Classification, Hit
from stopcli.video.container import Facts
from stopcli.video.cut.timecode import frame_number

RATES = [Fraction(n, d) for n in (24, 30, 48, 60, 120) for d in (1,)] + [
    Fraction(25), Fraction(50), *(Fraction(1000 * n, 1001) for n in (24, 30, 48, 60, 120)),
]  # fmt: skip
NEAR = Fraction(1, 2000)  # of a rate: averages are that far from what was meant


@dataclass(frozen=True)
class Mark:
    """What a moment of a video, from ``start`` to ``end`` seconds of it, is called."""

    path: str
    start: float
    end: float
    text: str
    score: float
    query: bool = False  # the text was looked for, not chosen from labels
    confidence: float | None = None

    @property
    def remark(self) -> str:
        """What is known of it beside its name."""
        return f"score {self.score:.3f}"


@dataclass(frozen=True)
class Media:
    """A video as marks refer to it."""

    path: str
    facts: Facts

    @property
    def rate(self) -> Fraction:
        """Frames a second: a standard rate, where the average comes near one."""
        average = Fraction(self.facts.rate).limit_denominator(1001)
        near = min(RATES, key=lambda rate: abs(rate - average))
        return near if abs(near - average) <= NEAR * near else average

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return max(1, round(self.facts.duration * self.rate))

    @property
    def first(self) -> int:
        """The number of its first frame by its own timecode; 0 without one."""
        return frame_number(self.facts.timecode, self.rate) if self.facts.timecode else 0

    def frame(self, seconds: float) -> int:
        """Return which frame, from 0 on, is shown at a time."""
        return min(max(0, round((seconds - self.facts.offset) * self.rate)), self.frames)

    def span(self, mark: Mark) -> tuple[int, int]:
        """Return a moment's first frame, and the one after its last."""
        first = min(self.frame(mark.start), self.frames - 1)
        return first, max(first + 1, self.frame(mark.end))


def marks_of(records: Iterable[object]) -> list[Mark]:
    """Return the moments of hits, and of classified windows: neighbours with the same label are one."""
    marks: list[Mark] = []
    for record in records:
        if isinstance(record, Hit) and record.start is not None and record.end is not None:
            place = record.path, record.start, record.end
            marks.append(Mark(*place, record.query, record.score, query=True, confidence=record.confidence))
        elif isinstance(record, Classification) and record.start is not None and record.end is not None:
            best, last = record.scores[0], marks[-1] if marks else None
            joins = last is not None and (last.path, last.end, last.text) == (
                record.path, record.start, best.label,
            )  # fmt: skip
            if last is not None and joins:
                score, sure = max(last.score, best.score), _most(last.confidence, best.confidence)
                marks[-1] = Mark(last.path, last.start, record.end, last.text, score, confidence=sure)
            else:
                place = record.path, record.start, record.end
                marks.append(Mark(*place, best.label, best.score, confidence=best.confidence))
    return marks


def _most(first: float | None, second: float | None) -> float | None:
    return max((c for c in (first, second) if c is not None), default=None)


def by_video(marks: Sequence[Mark]) -> dict[str, list[Mark]]:
    """Return the marks of each video, in order of time; videos as they come."""
    order = {path: i for i, path in enumerate(dict.fromkeys(m.path for m in marks))}
    ordered = sorted(marks, key=lambda m: (order[m.path], m.start, m.end))
    return {path: list(group) for path, group in groupby(ordered, key=lambda m: m.path)}


def apart(marks: Sequence[Mark]) -> list[Mark]:
    """Return ascending marks; of one text, those that share time are one: some programs know no others."""
    last: dict[str, int] = {}
    out: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.start, m.end)):
        at = last.get(mark.text)
        if at is not None and mark.start < out[at].end:
            end, score = max(out[at].end, mark.end), max(out[at].score, mark.score)
            out[at] = replace(out[at], end=end, score=score)
        else:
            last[mark.text] = len(out)
            out.append(mark)
    return out


def nudged(frames: Iterable[int]) -> list[int]:
    """Return ascending frame numbers of which no two are the same: editors drop one of two markers."""
    out: list[int] = []
    for frame in frames:
        out.append(max(frame, out[-1] + 1) if out else frame)
    return out
