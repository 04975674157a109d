"""Questions of the page: answered by words and pictures, by what was labelled, or by a random sample."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from stopcli.data.seen import Seen, read_seen
from stopcli.errors import InputError, UnreadableVideo, UsageError
from stopcli.eval.metrics import share_interval
from stopcli.index.live.feedback import draw
from stopcli.index.sync import absolute
from stopcli.index.types import Filters
from stopcli.web.work.archive import Archive, moment
from stopcli.web.work.asking import Asking
from stopcli.web.work.footage import Footage
from stopcli.web.work.question import Answer, Audit, Moment, Question
from stopcli.web.work.workspace import Workspace

SAMPLE = 30  # moments of an audit
LABELS = 64  # the most that are scored at once


@dataclass
class _Audit:
    """A random sample of what was predicted when it was drawn: later answers do not change it."""

    predicted: int
    moments: list[Moment]


class Answering:
    """Answers questions about a workspace; from any thread."""

    def __init__(self, space: Workspace) -> None:
        self._space = space
        self._audits: dict[tuple[object, ...], _Audit] = {}

    def answer(self, q: Question) -> Answer:
        """Answer a question."""
        began = time.perf_counter()
        archive, space, audit = self._space.archive(q.model), self._space, None
        total = int(archive.view.selection(q).count.sum())
        if q.queue == "labelled":
            moments, total = self._labelled(q)
        elif q.queue == "audit":
            moments, audit = self._audit(q, archive)
        elif q.label is None and q.queue == "best":
            moments = self._found(q, archive)
        else:
            labels, rows = self._labels(q), space.rows()
            if not labels:
                raise UsageError("there are no labels yet; add one first")

            def work() -> list[Moment]:
                asking = Asking(archive)
                return asking.queue(q, asking.scores(labels, rows))

            moments = space.on_lane(work)
        return Answer(
            moments=self._known(moments[: q.top_k]),
            model=archive.files.title,
            seconds=time.perf_counter() - began,
            total=total,
            audit=audit,
        )

    def _found(self, q: Question, archive: Archive) -> list[Moment]:
        picture = self._space.settings.picture(q.picture)
        try:
            return self._space.on_lane(lambda: Asking(archive).find(q, picture))
        except UnreadableVideo as error:
            if picture is None:
                raise
            raise UsageError("that is not a picture that can be read; JPEG, PNG and WebP can") from error

    def _labels(self, q: Question) -> list[str]:
        """Return the labels to score, the question's own first."""
        own = [] if q.label is None else [q.label]
        return list(dict.fromkeys([*own, *self._space.labels()]))[:LABELS]

    def _known(self, moments: list[Moment]) -> list[Moment]:
        """Return moments with what they are called, without those of files that are gone."""
        here = [m for m in moments if m.file in self._space.footage]
        return [m.model_copy(update={"label": self._space.label_of(m.id)}) for m in here]

    def moment(self, file: str, start: float, end: float) -> Moment:
        """Return a stretch of a file, with what it is called."""
        found = moment(str(self._space.footage.path_of(file)), start, end, 0.0)
        return found.model_copy(update={"label": self._space.label_of(found.id)})

    def classify(self, name: str, labels: list[str]) -> list[dict[str, Any]]:
        """Return how well labels fit a moment, best first."""
        archive = self._space.archive()
        return self._space.on_lane(lambda: Asking(archive).classify(name, labels))

    def _labelled(self, q: Question) -> tuple[list[Moment], int]:
        """Return what was labelled, the last first, and how many there are; no more files are opened."""
        found: list[Moment] = []
        filters = Filters(glob=q.glob, min_duration=q.min_duration, max_duration=q.max_duration)
        by_length = q.min_duration is not None or q.max_duration is not None
        shown = Counter[str]()  # of each file
        rest = 0
        for row in reversed(self._space.rows()):
            name, end = Footage.id_of(row.path), row.end
            if name not in self._space.footage or q.label not in (None, row.label):
                continue
            if q.per_file is not None and shown[name] == q.per_file:
                continue
            if len(found) == q.top_k and not by_length:
                shown[name] += 1
                rest += filters.take(str(row.path), 0.0)
                continue
            try:
                path = self._space.footage.path_of(name)
                whole = self._space.media.length(path) if end is None or by_length else 0.0
            except InputError:
                continue  # it can be shown no more
            end = whole if end is None else end
            if end <= (row.start or 0.0) or not filters.take(str(path), whole):
                continue  # edited by hand, the file is shorter now, or it is not looked for
            shown[name] += 1
            found.append(moment(str(path), row.start, end, 0.0))
        return found, len(found) + rest

    def _audit(self, q: Question, archive: Archive) -> tuple[list[Moment], Audit]:
        """Return the moments of a sample that are still to be judged, and what it says so far.

        What counts is judged in the order of the sample: nobody picks which to judge.
        """
        label = q.label
        if label is None:
            raise UsageError("an audit is of one label; choose it first")
        key = self._key(q)
        if key not in self._audits:
            labels, rows = self._labels(q), self._space.rows()

            def work() -> _Audit:
                asking = Asking(archive)
                chosen = asking.predicted(label, asking.scores(labels, rows), q)
                return _Audit(len(chosen), asking.moments(draw(chosen, SAMPLE, secrets.randbits(32)), q))

            self._audits[key] = self._space.on_lane(work)
        audit = self._audits[key]
        moments = [m for m in audit.moments if m.file in self._space.footage]
        answers = [_label_near(self._space, m) for m in moments]
        right = np.array([a == label for a in takewhile(lambda a: a is not None, answers)], bool)
        said = Audit(
            label=label,
            predicted=audit.predicted,
            drawn=len(moments),
            judged=len(right),
            right=int(right.sum()),
            share=100 * float(right.mean()) if len(right) else None,
            interval=share_interval(right) if len(right) else None,
        )
        return [m for m, answer in zip(moments, answers, strict=True) if answer is None], said

    def _key(self, q: Question) -> tuple[object, ...]:
        return (q.label, q.model or self._space.model, q.glob, q.min_duration, q.max_duration)

    def forget_audit(self, q: Question) -> None:
        """Draw a new sample next time."""
        self._audits.pop(self._key(q), None)

    def timeline(self, file: str) -> dict[str, Any]:
        """Return how each label's score goes over a file: windows, and values from -1 to 1."""
        self._space.footage.path_of(file)
        archive, labels, answers = self._space.archive(), self._space.labels()[:LABELS], self._space.rows()

        def work() -> dict[str, Any]:
            asking, rows = Asking(archive), archive.view.rows_of(file, None, None)
            spans = [(m.start, m.end) for m in asking.moments(rows, Question())]
            values = asking.scores(labels, answers, rows).values if labels and len(rows) else rows[:0, None]
            return {"labels": labels, "spans": spans, "values": np.clip(values, -1, 1).round(4).tolist()}

        return self._space.on_lane(work)

    def compare(self, q: Question, name: str) -> tuple[Answer, Answer]:
        """Answer a question with the model of a training and with that which it was made from.

        Moments that the training saw, or that have a label now, are left out of both; their copies too.
        """
        run = self._space.adapting.read(name)
        after = self._space.trained.get(name)
        if after is None:
            raise UsageError(f"{name}: search with it first")
        before = self._space.add_model(run.base)
        seen, rows = read_seen(self._space.adapting.usable(name)), self._space.rows()
        both = []
        for model in (before, after):
            archive, began = self._space.archive(model), time.perf_counter()

            def work(archive: Archive = archive) -> list[Moment]:
                asking = Asking(archive)
                judged = asking.judged((), rows).rows.tolist()
                return asking.find(
                    q, self._space.settings.picture(q.picture), [*judged, *_rows_seen(archive, seen)]
                )

            moments = self._known(self._space.on_lane(work))
            took = time.perf_counter() - began
            both.append(Answer(moments=moments, model=model, seconds=took, total=archive.size))
        return both[0], both[1]


def _label_near(space: Workspace, moment: Moment) -> str | None:
    """Return what a moment is called, or what the same stretch is called with another start and end."""
    known = space.label_of(moment.id)
    if known is None:
        path, middle = Path(absolute(space.footage.path_of(moment.file))), (moment.start + moment.end) / 2
        for row in space.table.rows:
            if row.path == path and (row.start or 0.0) <= middle <= (row.end or math.inf):
                return row.label
    return known


def _rows_seen(archive: Archive, seen: Seen) -> list[int]:
    """Return the rows of an archive that show what a model was trained on."""
    view, rows = archive.view, []
    for file in view.files():
        for start, end in seen.spans.get(view.content_of(file) or "", ()):
            rows += view.rows_of(file, start, end).tolist()
    return rows
