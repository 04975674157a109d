"""Which moments of which videos does a query mean?

Letters: R rows (windows) of a space, F files that may answer, N rows of those, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.results import Hit

if TYPE_CHECKING:
    from stopcli.index.sync import FileDiff
    from stopcli.index.types import Filters, Query, Snapshot

MERGE = 0.25  # of the way from a hit's score down to the mean: neighbours above it belong to the hit
SAMPLE = 20_000  # rows that tell the mean, where not all are looked at
POOL = 32  # candidates sorted for each hit wanted
SPARSE = 4  # fewer than one row in so many: they are read alone
CHUNK = 512  # of those, read at once: what fits a processor's cache


@dataclass(frozen=True)
class Selection:
    """The files that may answer, in the order of their vectors; all arrays (F,)."""

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    """At least 1."""
    duration: NDArray[np.float64]
    paths: tuple[str, ...]
    window: float | None

    def rows(self) -> NDArray[np.int64]:
        """Return the rows of the files (N,)."""
        shift = self.first - (np.cumsum(self.count) - self.count)
        out: NDArray[np.int64] = np.arange(self.count.sum()) + np.repeat(shift, self.count)
        return out

    def owning(self, rows: NDArray[np.int64]) -> Selection:
        """Return the files that one of the rows belongs to."""
        owner = np.searchsorted(self.first, rows, "right") - 1
        inside = (owner >= 0) & (rows < (self.first + self.count)[owner])
        kept = np.unique(owner[inside])
        paths = tuple(self.paths[f] for f in kept)
        return replace(
            self, first=self.first[kept], count=self.count[kept], duration=self.duration[kept], paths=paths
        )

    def span(self, file: int, begin: int, end: int) -> tuple[float | None, float | None]:
        """Return the seconds of windows ``begin`` to ``end`` (inclusive) of a file."""
        if self.window is None:
            return None, None
        last = end == self.count[file] - 1
        return begin * self.window, float(self.duration[file]) if last else (end + 1) * self.window


def select(diff: FileDiff, state: Snapshot, filters: Filters) -> Selection:
    """Choose the files that may answer; of several with the same content, the first does."""
    chosen: dict[int, tuple[int, float, str]] = {}
    longest = np.inf if filters.max_duration is None else filters.max_duration
    for path, record in diff.present.items():
        entry = state.entries.get(record.content)
        if entry is None or not entry.count or entry.first in chosen:
            continue
        if not (filters.min_duration or 0.0) <= entry.duration <= longest:
            continue
        if filters.glob is None or fnmatch(diff.shown[path], filters.glob):
            chosen[entry.first] = entry.count, entry.duration, diff.shown[path]
    order = sorted(chosen)
    return Selection(
        np.array(order, np.int64),
        np.array([chosen[f][0] for f in order], np.int64),
        np.array([chosen[f][1] for f in order], np.float64),
        tuple(chosen[f][2] for f in order),
        state.space.window if state.space else None,
    )


def search(
    vectors: NDArray[np.float32],
    selection: Selection,
    queries: Sequence[Query],
    filters: Filters,
    unlike: Sequence[NDArray[np.float32]] = (),
    near: Callable[[NDArray[np.float32]], NDArray[np.int64]] | None = None,
) -> list[Hit]:
    """Rank moments by the cosine of their vector with each query's, exactly.

    Neighbouring windows that both score are one hit, which carries the best one's score.

    Args:
        vectors: (R,E), all rows of the space.
        selection: which of them may answer.
        queries: what is looked for.
        filters: how many hits a query, and what they must be like.
        unlike: vectors (E,) of what is not wanted: a moment that is nearer to one of them is no hit.
        near: the rows whose files are worth a look, by query (E,); None looks at all.
    """
    hits: list[Hit] = []
    matrix = np.asarray(vectors)
    sample = matrix[:: max(1, len(matrix) // SAMPLE)]
    for query in queries:
        chosen = selection if near is None else selection.owning(near(query.vector))
        if not len(chosen.first):
            continue
        rows = chosen.rows()
        scores = _cosines(matrix, rows, query.vector)
        mean = float((scores if near is None else sample @ query.vector).mean())
        for unwanted in unlike:
            scores[_cosines(matrix, rows, unwanted) >= scores] = -np.inf
        hits += _hits(query.name, scores, mean, chosen, filters)
    return hits


def _cosines(
    matrix: NDArray[np.float32], rows: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the cosines (N,) of rows with a query, at a cost that goes by the rows."""
    if len(rows) * SPARSE < len(matrix):
        parts = (rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK))
        return np.concatenate([matrix[part] @ query for part in parts])
    scores: NDArray[np.float32] = matrix @ query
    return scores if len(rows) == len(matrix) else scores[rows]


def _hits(
    name: str, scores: NDArray[np.float32], mean: float, selection: Selection, filters: Filters
) -> list[Hit]:
    """Return the best moments, given the scores (N,) of the selection's rows."""
    floor = -np.inf if filters.min_score is None else filters.min_score
    starts = np.cumsum(selection.count) - selection.count
    used: set[int] = set()
    hits: list[Hit] = []
    for row in _best_first(scores, POOL * filters.top_k):
        score = float(scores[row])
        if len(hits) == filters.top_k or score < floor or score == -np.inf:
            break
        if row in used:
            continue
        file = int(np.searchsorted(starts, row, "right")) - 1
        start = int(starts[file])
        stop = start + int(selection.count[file])
        cut = max(score - MERGE * max(0.0, score - mean), floor)
        begin = end = row
        while begin > start and begin - 1 not in used and scores[begin - 1] >= cut:
            begin -= 1
        while end + 1 < stop and end + 1 not in used and scores[end + 1] >= cut:
            end += 1
        used.update(range(begin, end + 1))
        span = selection.span(file, begin - start, end - start)
        hits.append(Hit(name, len(hits) + 1, selection.paths[file], *span, score))
    return hits


def _best_first(scores: NDArray[np.float32], pool: int) -> Iterator[int]:
    """Yield rows from the best score down, of equals the first; no more are sorted than are asked for.

    A row may come again.
    """
    while True:
        rows = np.argpartition(scores, -pool)[-pool:] if pool < len(scores) else np.arange(len(scores))
        yield from rows[np.lexsort((rows, -scores[rows]))].tolist()
        if pool >= len(scores):
            return
        pool *= 8  # nearly all candidates were neighbours of each other
