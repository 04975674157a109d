"""Questions, answered from an index that is kept warm: found by words and pictures, or by what was labelled.

Letters: R rows of the index, n judged moments, C labels, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.data.labels import prompts_for
from stopcli.errors import UsageError
from stopcli.index.calibration import SAMPLE, Calibration, combined, copy_threshold, spread_out
from stopcli.index.live.feedback import Answers, belief, learn, most_diverse, most_uncertain
from stopcli.index.ranking import Selection, folded
from stopcli.index.types import Asked, Filters, Query, SearchRequest, Vectors
from stopcli.results import Hit
from stopcli.tasks.labelling import Labelled, is_none
from stopcli.web.work.archive import Archive
from stopcli.web.work.question import Moment, Question, split_id

MOST_LABELS = 32  # that are told apart at once
NONE: Vectors = np.zeros((0, 0), np.float32)

Ints = NDArray[np.int64]


class Scores(NamedTuple):
    """How well the rows of the index (R,) fit each of C labels, so far: about 1 is yes, -1 is no."""

    labels: tuple[str, ...]
    values: Vectors  # (R,C)
    judged: Ints  # (n,): rows that have an answer


class Asking:
    """Answers questions from an archive; all on the one thread that its engine belongs to."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def ask(self, q: Question, picture: Path | None) -> tuple[SearchRequest, Asked]:
        """Embed what a question asks for."""
        filters = Filters(q.top_k, None, q.glob, q.min_duration, q.max_duration, q.per_file, fold=q.fold)
        texts = (q.query,) if q.query.strip() else ()
        pictures = () if picture is None else (picture,)
        several = len(texts) + len(pictures) + len(q.like) > 1
        request = SearchRequest(
            texts,
            tuple(q.unlike),
            (),
            pictures,
            combine=several,
            window=self._archive.window,
            filters=filters,
        )
        asked = self._archive.engine.ask(request)
        like = [self._like(moment) for moment in q.like]
        unlike = [self._like(moment).vector for moment in q.unlike_moments]
        seen = (*(s._replace(name="a picture") for s in asked.seen), *like)
        return request, asked._replace(seen=seen, unlike=(*asked.unlike, *unlike))

    def _like(self, moment: str) -> Query:
        """Return a moment of the archive as a query: its vectors are in the index."""
        file, start, end = split_id(moment)
        path = self._archive.library.path_of(file)
        rows = self._archive.rows_of(path, start, end)
        if not len(rows):
            raise UsageError(f"{path.name}: that moment is not in the index yet")
        return Query(
            f"like {path.name}", combined(list(self._archive.matrix[rows])), without=tuple(rows.tolist())
        )

    def find(self, q: Question, picture: Path | None = None) -> list[Moment]:
        """Return the moments that fit a question best."""
        request, asked = self.ask(q, picture)
        selection = self._archive.selection(q)
        if not (asked.written or asked.seen):
            return self._few(selection, most_diverse(self._archive.matrix[selection.rows()], NONE, q.top_k))
        hits = self._archive.engine.answer(request, asked, self._archive.state.state, selection)
        return [self._of(hit) for hit in hits if hit.confidence is None or hit.confidence >= q.min_confidence]

    def _of(self, hit: Hit) -> Moment:
        moment = self._archive.moment(hit.path, hit.start, hit.end, hit.score)
        return moment.model_copy(update={"confidence": hit.confidence, "also": list(hit.also)})

    def _few(self, selection: Selection, places: Ints) -> list[Moment]:
        rows = selection.rows()
        return [self._archive.moment_of(int(rows[place]), 0.0) for place in places]

    def scores(self, labels: Sequence[str], answers: Sequence[Labelled], q: Question | None = None,
               picture: Path | None = None) -> Scores:  # fmt: skip
        """Return how well every row fits each label: by its words, or a question's, and by the answers."""
        names = tuple(labels)[:MOST_LABELS]
        selection, state = self._archive.selection(), self._archive.state.state
        sample = self._archive.matrix[selection.rows()[spread_out(self._archive.size, SAMPLE)]]
        asked = self._archive.engine.ask(SearchRequest(tuple(prompts_for(names, self._archive.files.config))))
        queries = list(self._archive.engine.compared(asked, state, selection).written)
        if q is not None and q.label in names and (q.query.strip() or q.like or picture is not None):
            _, own = self.ask(q, picture)
            own = self._archive.engine.compared(own, state, selection)
            given = [*own.written, *own.seen]
            queries[names.index(q.label)] = given[0]
        rows = [self._archive.rows_of(a.path, a.start, a.end) for a in answers]
        kinds = [-1 if is_none(a.label) or a.label not in names else names.index(a.label) for a in answers]
        judged = Answers(
            np.concatenate([np.zeros(0, np.int64), *rows]),
            np.repeat(np.array(kinds, np.int64), [len(r) for r in rows]) if rows else np.zeros(0, np.int64),
        )
        values = np.empty((len(self._archive.matrix), len(names)), np.float32)
        for kind, query in enumerate(queries):
            values[:, kind] = self._prior(query, sample)
            values[:, kind] = learn(self._archive.matrix, selection.rows(), values[:, kind], judged, kind)
        return Scores(names, values, judged.rows)

    def _prior(self, query: Query, sample: Vectors) -> Vectors:
        calibration = None if query.nulls is None else Calibration.of(sample, query.nulls, self._archive.size)
        if calibration is None:
            return belief(np.zeros(len(self._archive.matrix), np.float32), None)
        return belief(calibration.deviations(self._archive.matrix, query.vector), calibration)

    def queue(self, q: Question, scores: Scores) -> list[Moment]:
        """Return the moments that a person should look at next, none of them judged."""
        selection = self._archive.selection(q)
        rows = selection.rows()
        rows = rows[~np.isin(rows, scores.judged)]
        if not len(rows):
            return []
        if q.queue == "diverse":
            chosen = rows[
                most_diverse(self._archive.matrix[rows], self._archive.matrix[scores.judged], q.top_k)
            ]
            return [self._suggested(int(row), scores, q.label) for row in chosen]
        mine = scores.labels.index(q.label) if q.label in scores.labels else None
        if q.queue == "uncertain":
            order = rows[most_uncertain(_margins(scores.values[rows], mine))]
        else:
            value = scores.values[rows].max(1) if mine is None else scores.values[rows, mine]
            order = rows[np.argsort(-value, kind="stable")]
        alike = (
            copy_threshold(self._archive.matrix[rows[spread_out(len(rows), SAMPLE)]]) if q.fold else np.inf
        )
        hits = ((int(row), self._hit(int(row))) for row in order)
        found = folded(hits, self._archive.matrix, Filters(q.top_k, per_file=q.per_file, fold=q.fold), alike)
        moments = [self._suggested(row, scores, q.label) for row, _ in found]
        return [m.model_copy(update={"also": list(h.also)}) for m, (_, h) in zip(moments, found, strict=True)]

    def _hit(self, row: int) -> Hit:
        moment = self._archive.moment_of(row, 0.0)
        return Hit("", 0, moment.path, moment.start, moment.end, 0.0)

    def _suggested(self, row: int, scores: Scores, label: str | None) -> Moment:
        values = scores.values[row]
        best = int(np.argmax(values)) if len(values) else 0
        mine = scores.labels.index(label) if label in scores.labels else best
        moment = self._archive.moment_of(row, float(values[mine]) if len(values) else 0.0)
        suggestion = scores.labels[best] if len(values) and values[best] > 0 else None
        return moment.model_copy(update={"suggestion": suggestion})


def _margins(values: Vectors, mine: int | None) -> Vectors:
    """Return scores (R,C) of which the closest are the most uncertain: one label against all others."""
    if mine is None or values.shape[1] == 1:
        return values
    others = np.delete(values, mine, axis=1).max(1)
    return np.stack([values[:, mine], others], axis=1)
