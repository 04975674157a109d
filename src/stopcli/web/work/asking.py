"""Questions, answered from one view of an index: by words and pictures, or by what was labelled.

Letters: R rows of the index, N rows that are scored, n judged moments, C labels, E embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.data.labels import check_labels, prompts_for
from stopcli.errors import UsageError
from stopcli.index.calibration import SAMPLE, Calibration, combined, copy_threshold, spread_out
from stopcli.index.live.feedback import DRAWN, Lesson, belief, learn, most_diverse, most_uncertain
from stopcli.index.ranking import folded
from stopcli.index.types import Filters, Query, SearchRequest, Vectors
from stopcli.results import Hit, Score
from stopcli.tasks.labelling.rows import Labelled, is_none
from stopcli.web.work.archive import Archive, moment
from stopcli.web.work.footage import Footage
from stopcli.web.work.question import Moment, Question, split_id

COMPARED = 20_000  # moments, to find the most different

Ints = NDArray[np.int64]
NONE: Vectors = np.zeros((0, 0), np.float32)


class Judged(NamedTuple):
    """Rows that have an answer (n,), and which of the labels: -1 for none of them."""

    rows: Ints
    classes: Ints


class Scores(NamedTuple):
    """How well rows of the index fit each of C labels, so far: about 1 is yes, -1 is no."""

    labels: tuple[str, ...]
    rows: Ints  # (N,)
    values: Vectors  # (N,C)
    judged: Ints  # (n,): rows that have an answer


class Asking:
    """Answers questions from an archive as it is now; on the one thread that its engine belongs to."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._engine, self._view = archive, archive.engine, archive.view

    def find(self, q: Question, picture: Path | None = None, without: Sequence[int] = ()) -> list[Moment]:
        """Return the moments that fit a question best; none of the rows ``without``."""
        selection = self._view.selection(q)
        texts = (q.query,) if q.query.strip() else ()
        pictures = () if picture is None else (picture,)
        several = len(texts) + len(pictures) + len(q.like) > 1
        filters = Filters(q.top_k, None, q.glob, q.min_duration, q.max_duration, q.per_file, fold=q.fold)
        request = SearchRequest(
            texts, tuple(q.unlike), (), pictures, (), several, self._archive.window, filters
        )
        asked = self._engine.ask(request)
        like = [self._like(name) for name in q.like]
        seen = (*(s._replace(name="a picture") for s in asked.seen), *like)
        unlike = (*asked.unlike, *(self._like(name).vector for name in q.unlike_moments))
        asked = asked._replace(seen=seen, unlike=unlike)
        if not (asked.written or asked.seen):
            rows = selection.rows()
            return self._different(rows[~np.isin(rows, np.array(without, np.int64))], NONE, q)
        left = tuple(without)
        written, seen = (tuple(_except(x, left) for x in some) for some in (asked.written, asked.seen))
        asked = asked._replace(written=written, seen=seen)
        hits = self._engine.answer(request, asked, self._view.state, selection)
        return [_of(hit) for hit in hits if hit.confidence is None or hit.confidence >= q.min_confidence]

    def _like(self, name: str) -> Query:
        """Return a moment of the archive as a query: its vectors are in the index."""
        rows = self._rows(name)
        path = self._archive.footage.path_of(split_id(name)[0])
        return Query(
            f"like {path.name}", combined(list(self._view.matrix[rows])), without=tuple(rows.tolist())
        )

    def _rows(self, name: str) -> Ints:
        file, start, end = split_id(name)
        path = self._archive.footage.path_of(file)
        rows = self._view.rows_of(file, start, end)
        if not len(rows):
            raise UsageError(f"{path.name}: that moment is not in the index yet")
        return rows

    def _different(self, rows: Ints, known: Vectors, q: Question) -> list[Moment]:
        """Return moments that are as different as can be."""
        some = rows[spread_out(len(rows), COMPARED)]
        if not len(some):
            return []
        chosen = some[most_diverse(self._view.matrix[some], known, q.top_k)]
        selection = self._view.selection(q)
        return [self._view.moment_of(int(row), 0.0, selection) for row in chosen]

    def scores(self, labels: Sequence[str], answers: Sequence[Labelled], rows: Ints | None = None) -> Scores:
        """Return how well rows, by default all, fit each label: by its words, and by the answers."""
        names, view = tuple(labels), self._view
        every = view.selection().rows()
        wanted = every if rows is None else rows
        judged = self.judged(names, answers)
        drawn = every[spread_out(len(every), SAMPLE)]
        sample = view.matrix[drawn]
        asked = self._engine.ask(SearchRequest(tuple(prompts_for(names, self._archive.files.config))))
        queries = self._engine.compared(asked, view.state, view.selection()).written
        places = np.concatenate([wanted, judged.rows, drawn])
        prior = np.stack([self._prior(q, sample, places) for q in queries], axis=1)
        asked_for, of_judged, of_drawn = np.split(prior, [len(wanted), len(wanted) + len(judged.rows)])
        known = Lesson(view.matrix[judged.rows], of_judged, judged.classes)
        thin = spread_out(len(drawn), DRAWN)
        rest = Lesson(sample[thin], of_drawn[thin], np.full(len(sample[thin]), -1))
        values = learn(_rows_of(view.matrix, wanted), asked_for, known, rest)
        return Scores(names, wanted, values, judged.rows)

    def judged(self, labels: Sequence[str], answers: Sequence[Labelled]) -> Judged:
        """Return the rows that were labelled, and which of the labels they have: -1 for none of them."""
        rows = [self._view.rows_of(Footage.id_of(a.path), a.start, a.end) for a in answers]
        kinds = [-1 if is_none(a.label) or a.label not in labels else labels.index(a.label) for a in answers]
        none = np.zeros(0, np.int64)
        classes = np.repeat(np.array(kinds, np.int64), [len(r) for r in rows]) if rows else none
        return Judged(np.concatenate([none, *rows]), classes)

    def _prior(self, query: Query, sample: Vectors, rows: Ints) -> Vectors:
        if query.nulls is None:
            return belief(np.zeros(len(rows), np.float32), None)
        calibration = Calibration.of(sample, query.nulls, self._view.size)
        away = _rows_of(self._view.matrix, rows) @ (query.vector - calibration.usual)
        return belief(calibration.standardized(away), calibration)

    def queue(self, q: Question, scores: Scores) -> list[Moment]:
        """Return the moments that a person should look at next, none of them judged."""
        selection = self._view.selection(q)
        kept = np.isin(scores.rows, selection.rows()) & ~np.isin(scores.rows, scores.judged)
        rows, values = scores.rows[kept], scores.values[kept]
        if not len(rows):
            return []
        mine = scores.labels.index(q.label) if q.label in scores.labels else None
        if q.queue == "diverse":
            some = spread_out(len(rows), COMPARED)
            order = most_diverse(self._view.matrix[rows[some]], self._view.matrix[scores.judged], q.top_k)
            order = np.arange(len(rows))[some][order]
        elif q.queue == "uncertain":
            order = most_uncertain(_margins(values, mine))
        else:
            order = np.argsort(-(values.max(1) if mine is None else values[:, mine]), kind="stable")
        places: dict[int, int] = {}

        def hits() -> Iterator[tuple[int, Hit]]:
            for place in order:
                row = int(rows[place])
                m = self._view.moment_of(row, 0.0, selection)
                places[row] = int(place)
                yield row, Hit("", 0, m.path, m.start, m.end, 0.0, also=selection.copies_of(row))

        sample = self._view.matrix[rows[spread_out(len(rows), SAMPLE)]]
        alike = copy_threshold(sample) if q.fold else np.inf
        found = folded(hits(), self._view.matrix, Filters(q.top_k, per_file=q.per_file, fold=q.fold), alike)
        return [
            _suggested(_of(hit), values[places[row]], scores.labels, mine, hit.also) for row, hit in found
        ]

    def predicted(self, label: str, scores: Scores, q: Question) -> Ints:
        """Return the rows that are taken for a label, and were not judged: what an audit draws from."""
        mine = scores.labels.index(label)
        best = (scores.values.argmax(1) == mine) & (scores.values[:, mine] > 0)
        inside = np.isin(scores.rows, self._view.selection(q).rows())
        found: Ints = scores.rows[best & inside & ~np.isin(scores.rows, scores.judged)]
        return found

    def moments(self, rows: Ints, q: Question) -> list[Moment]:
        """Return the moments of rows."""
        selection = self._view.selection(q)
        return [self._view.moment_of(int(row), 0.0, selection) for row in rows]

    def classify(self, name: str, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return how well labels fit a moment, best first, from its vectors in the index."""
        check_labels(labels)
        encoder = self._archive.encoder
        vector = combined(list(self._view.matrix[self._rows(name)]))
        head = encoder.head.of(labels) if encoder.head else None
        texts = encoder.encode_texts(prompts_for(labels, self._archive.files.config))
        _, shares, cosines = (row[0] for row in encoder.label_scores(vector[None], texts, head))
        best = np.argsort(-shares, kind="stable")
        sure = {i: head.confidence(vector, i) if head else None for i in best}
        return [asdict(Score(labels[i], float(shares[i]), float(cosines[i]), sure[i])) for i in best]


def _of(hit: Hit) -> Moment:
    found = moment(hit.path, hit.start, hit.end, hit.score)
    return found.model_copy(update={"confidence": hit.confidence, "also": list(hit.also)})


def _except(query: Query, rows: tuple[int, ...]) -> Query:
    return query._replace(without=(*query.without, *rows))


def _suggested(
    m: Moment, values: Vectors, labels: tuple[str, ...], mine: int | None, also: tuple[str, ...]
) -> Moment:
    best = int(np.argmax(values)) if len(values) else 0
    suggestion = labels[best] if len(values) and values[best] > 0 else None
    score = float(values[best if mine is None else mine]) if len(values) else 0.0
    return m.model_copy(update={"suggestion": suggestion, "score": score, "also": list(also)})


def _rows_of(matrix: Vectors, rows: Ints) -> Vectors:
    """Return rows of a matrix: itself where these are all, for then nothing need be copied."""
    return matrix if len(rows) == len(matrix) and bool((rows == np.arange(len(rows))).all()) else matrix[rows]


def _margins(values: Vectors, mine: int | None) -> Vectors:
    """Return scores of which the closest are the most uncertain: one label against all others."""
    if mine is None or values.shape[1] == 1:
        return values
    others = np.delete(values, mine, axis=1).max(1)
    return np.stack([values[:, mine], others], axis=1)
