"""Questions of the page: answered by words and pictures, by what was labelled, or by a random sample."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from stopcli.data.labels import check_labels, prompts_for
from stopcli.errors import UsageError
from stopcli.eval.metrics import share_interval
from stopcli.index.calibration import combined
from stopcli.index.live.feedback import draw
from stopcli.web.work.archive import Archive
from stopcli.web.work.asking import Asking
from stopcli.web.work.library import Library
from stopcli.web.work.question import Answer, Audit, Moment, Question, moment_id, split_id
from stopcli.web.work.workspace import Workspace

SAMPLE = 30  # moments of an audit


@dataclass
class _Audit:
    """A random sample of what was predicted when it was drawn: later answers do not change it."""

    predicted: int
    moments: list[Moment]


class Answering:
    """Answers questions about a workspace; from any thread."""

    def __init__(self, space: Workspace) -> None:
        self._space = space
        self._audits: dict[str, _Audit] = {}

    def answer(self, q: Question) -> Answer:
        """Answer a question."""
        began = time.perf_counter()
        archive = self._space.archive(q.model)
        picture = self._space.picture(q.picture)
        with self._space.lock:
            self._space.table.refresh()
            rows = self._space.table.rows
        audit = None
        if q.queue == "labelled":
            moments = self._labelled(q)
        elif q.queue == "audit":
            moments, audit = self._audit(q, archive)
        elif q.label is None and q.queue == "best":
            moments = self._space.on_lane(lambda: Asking(archive).find(q, picture))
        else:
            labels = (
                self._space.labels()
                if q.label is None
                else [*dict.fromkeys([*self._space.labels(), q.label])]
            )

            def work() -> list[Moment]:
                asking = Asking(archive)
                return asking.queue(q, asking.scores(labels, rows, q, picture))

            moments = self._space.on_lane(work)
        moments = [self.known(m) for m in moments]
        took = time.perf_counter() - began
        return Answer(
            moments=moments,
            model=archive.files.title,
            seconds=took,
            total=archive.size,
            audit=audit,
            note=None,
        )

    def known(self, moment: Moment) -> Moment:
        """Return a moment with what it is called."""
        path = self._space.library.path_of(moment.file)
        return moment.model_copy(update={"label": self._space.table.label_of(path, moment.start, moment.end)})

    def moment(self, file: str, start: float, end: float) -> Moment:
        """Return a stretch of a file, with what it is called."""
        path = str(self._space.library.path_of(file))
        name = moment_id(file, start, end)
        return self.known(Moment(id=name, file=file, path=path, start=start, end=end, score=0.0))

    def classify(self, moment: str, labels: list[str]) -> list[dict[str, Any]]:
        """Return how well labels fit a moment, best first, from its vectors in the index."""
        check_labels(labels)
        file, start, end = split_id(moment)
        path, archive = self._space.library.path_of(file), self._space.archive()
        encoder = archive.encoder

        def work() -> list[dict[str, Any]]:
            rows = archive.rows_of(path, start, end)
            if not len(rows):
                raise UsageError(f"{path.name}: that moment is not in the index yet")
            vector = combined(list(archive.matrix[rows]))
            head = encoder.head.of(labels) if encoder.head else None
            texts = encoder.encode_texts(prompts_for(labels, archive.files.config))
            _, shares, cosines = (row[0] for row in encoder.label_scores(vector[None], texts, head))
            best = np.argsort(-shares, kind="stable")
            return [
                {"label": labels[i], "score": float(shares[i]), "cosine": float(cosines[i])} for i in best
            ]

        return self._space.on_lane(work)

    def _labelled(self, q: Question) -> list[Moment]:
        """Return what was labelled, the last first."""
        found = []
        for row in reversed(self._space.table.rows):
            name = Library.id_of(row.path)
            if name not in self._space.library or q.label not in (None, row.label):
                continue
            shown, start = self._space.library.path_of(name), row.start or 0.0
            end = self._space.media.facts(shown).duration if row.end is None else row.end
            found.append(
                Moment(
                    id=moment_id(name, start, end),
                    file=name,
                    path=str(shown),
                    start=start,
                    end=end,
                    score=0.0,
                )
            )
            if len(found) == q.top_k:
                break
        return found

    def _audit(self, q: Question, archive: Archive) -> tuple[list[Moment], Audit]:
        """Return the moments of a sample that are still to be judged, and what it says so far."""
        label = q.label
        if label is None:
            raise UsageError("an audit is of one label; choose it first")
        if label not in self._audits:
            rows, labels = self._space.table.rows, [*dict.fromkeys([*self._space.labels(), label])]

            def work() -> _Audit:
                asking = Asking(archive)
                scores = asking.scores(labels, rows, q, self._space.picture(q.picture))
                mine = scores.values[:, scores.labels.index(label)]
                chosen = archive.selection(q).rows()
                chosen = chosen[(mine[chosen] > 0) & ~np.isin(chosen, scores.judged)]
                drawn = draw(chosen, SAMPLE, seed=len(rows))
                return _Audit(len(chosen), [archive.moment_of(int(r), float(mine[r])) for r in drawn])

            self._audits[label] = self._space.on_lane(work)
        audit = self._audits[label]
        answers = [self.known(m).label for m in audit.moments]
        right = np.array([answer == label for answer in answers if answer is not None], bool)
        said = Audit(
            label=label,
            predicted=audit.predicted,
            drawn=len(audit.moments),
            judged=len(right),
            right=int(right.sum()),
            share=100 * float(right.mean()) if len(right) else None,
            interval=share_interval(right) if len(right) else None,
        )
        return [m for m, answer in zip(audit.moments, answers, strict=True) if answer is None], said

    def timeline(self, file: str) -> dict[str, Any]:
        """Return how each label's score goes over a file: windows, and values from -1 to 1."""
        path, archive, labels = self._space.library.path_of(file), self._space.archive(), self._space.labels()
        with self._space.lock:
            answers = self._space.table.rows

        def work() -> dict[str, Any]:
            rows = archive.rows_of(path, None, None)
            moments = [archive.moment_of(int(row), 0.0) for row in rows]
            values = (
                Asking(archive).scores(labels, answers).values[rows]
                if labels and len(rows)
                else rows[:0, None]
            )
            spans = [(m.start, m.end) for m in moments]
            return {"labels": labels, "spans": spans, "values": np.clip(values, -1, 1).round(4).tolist()}

        return self._space.on_lane(work)

    def compare(self, q: Question, before: str, after: str) -> tuple[Answer, Answer]:
        """Answer a question with two models, without any moment that has a label."""
        labelled = [
            (Library.id_of(r.path), r.start or 0.0, np.inf if r.end is None else r.end)
            for r in self._space.table.rows
        ]

        def unseen(m: Moment) -> bool:
            return not any(file == m.file and a < m.end and m.start < b for file, a, b in labelled)

        both = []
        for name in (before, after):
            wide = q.model_copy(
                update={"model": name, "top_k": min(500, q.top_k + len(labelled)), "queue": "best"}
            )
            found = self.answer(wide)
            kept = [m for m in found.moments if unseen(m)][: q.top_k]
            both.append(found.model_copy(update={"moments": kept}))
        return both[0], both[1]

    def forget_audit(self, label: str) -> None:
        """Draw a new sample next time."""
        self._audits.pop(label, None)
