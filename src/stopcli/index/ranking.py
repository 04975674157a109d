"""Which moments of which videos does a query mean? Answered from an index.

Letters: R rows (windows) of the index, E embedding size, Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np

from stopcli.results import Hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.index.ann import ANNIndex
    from stopcli.index.database import FileRecord, Index, Space

WINDOW = 8.0  # seconds of a window
MERGE = 0.25  # of the way from a hit's score down to the mean: neighbours above it belong to the hit
SAMPLE = 20_000  # rows that tell the mean, where not all are looked at
POOL = 32  # candidates looked at for each hit wanted


@dataclass(frozen=True)
class Query:
    """What is looked for: a text or an example, by name, and its vector (E,)."""

    name: str
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Filters:
    """What a hit must be like; seconds, cosines."""

    top_k: int = 10
    min_score: float | None = None
    glob: str | None = None
    """Of the path as shown, ``*`` matches everything: ``*/2021/*``."""
    min_duration: float | None = None
    max_duration: float | None = None
    """Of the whole file."""


@dataclass(frozen=True)
class Selection:
    """The rows that may answer: files in the order of their vectors; all arrays (N,)."""

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    duration: NDArray[np.float64]
    paths: tuple[str, ...]
    window: float | None

    def mask(self, rows: int) -> NDArray[np.bool_] | None:
        """Return which of the index's rows are meant (R,); None: all."""
        if int(self.count.sum()) == rows:
            return None
        steps = np.zeros(rows + 1, np.int32)
        np.add.at(steps, self.first, 1)
        np.add.at(steps, self.first + self.count, -1)
        out: NDArray[np.bool_] = np.cumsum(steps[:-1]) > 0
        return out

    def span(self, file: int, begin: int, end: int) -> tuple[float | None, float | None]:
        """Return the seconds of windows ``begin`` to ``end`` (inclusive) of a file."""
        if self.window is None:
            return None, None
        last = end == self.count[file] - 1
        return begin * self.window, float(self.duration[file]) if last else (end + 1) * self.window


def select(
    index: Index, space: Space, found: Mapping[Path, FileRecord], shown: Mapping[Path, str], filters: Filters
) -> Selection:
    """Choose the rows of files; of several with the same content, the first answers.

    Args:
        index: open.
        space: of the vectors.
        found: the files to choose among.
        shown: what each is called in the answer.
        filters: which of them may answer.
    """
    entries = index.entries(space)
    chosen: dict[int, tuple[int, float, str]] = {}
    for path, known in found.items():
        entry = entries.get(known.content)
        if entry is None or not entry.count or entry.first in chosen:
            continue
        if filters.glob is not None and not fnmatch(shown[path], filters.glob):
            continue
        if filters.min_duration is not None and entry.duration < filters.min_duration:
            continue
        if filters.max_duration is not None and entry.duration > filters.max_duration:
            continue
        chosen[entry.first] = entry.count, entry.duration, shown[path]
    order = sorted(chosen)
    return Selection(
        np.array(order, np.int64),
        np.array([chosen[f][0] for f in order], np.int64),
        np.array([chosen[f][1] for f in order], np.float64),
        tuple(chosen[f][2] for f in order),
        space.window,
    )


def search(
    vectors: NDArray[np.float32],
    selection: Selection,
    queries: Sequence[Query],
    filters: Filters,
    unlike: Sequence[NDArray[np.float32]] = (),
    shortcut: ANNIndex | None = None,
) -> list[Hit]:
    """Rank moments by the cosine of their vector with each query's, exactly.

    Neighbouring windows that both score are one hit, which carries the best one's score.

    Args:
        vectors: (R,E), all rows of the index.
        selection: which of them may answer.
        queries: what is looked for.
        filters: how many hits a query, and what they must be like.
        unlike: vectors (E,) of what is not wanted: a moment that is nearer to one of them is no hit.
        shortcut: chooses the files that are worth a look; None looks at all.
    """
    hits: list[Hit] = []
    if not len(selection.first):
        return hits
    if shortcut is not None:
        sample = vectors[:: max(1, len(vectors) // SAMPLE)]
        for query in queries:
            near, files = shortcut.narrow(selection, query.vector)
            mean = float((sample @ query.vector).mean())
            hits += _ranked(near, files, query, mean, filters, unlike)
        return hits
    for query in queries:
        hits += _ranked(vectors, selection, query, None, filters, unlike)
    return hits


def _ranked(
    vectors: NDArray[np.float32], selection: Selection, query: Query, mean: float | None, filters: Filters,
    unlike: Sequence[NDArray[np.float32]],
) -> list[Hit]:  # fmt: skip
    """Search rows exactly; ``mean`` None takes that of the rows that may answer."""
    mask = selection.mask(len(vectors))
    scores = vectors @ query.vector  # (R,)
    if mean is None:
        mean = float(scores.mean() if mask is None else scores[mask].mean())
    if mask is not None:
        scores[~mask] = -np.inf
    for unwanted in unlike:
        scores[vectors @ unwanted >= scores] = -np.inf
    return _hits(query.name, scores, mean, selection, filters)


def _hits(
    name: str, scores: NDArray[np.float32], mean: float, selection: Selection, filters: Filters
) -> list[Hit]:
    floor = -np.inf if filters.min_score is None else filters.min_score
    pool = POOL * filters.top_k
    while True:
        found = _best_of(name, scores, mean, selection, filters.top_k, floor, pool)
        if len(found) == filters.top_k or pool >= len(scores):
            return found
        pool *= 8  # nearly all candidates were neighbours of each other


def _best_of(
    name: str,
    scores: NDArray[np.float32],
    mean: float,
    selection: Selection,
    top_k: int,
    floor: float,
    pool: int,
) -> list[Hit]:
    rows = np.argpartition(scores, -pool)[-pool:] if pool < len(scores) else np.arange(len(scores))
    rows = rows[np.lexsort((rows, -scores[rows]))]  # of equals, the first
    used: set[int] = set()
    hits: list[Hit] = []
    for row in rows.tolist():
        score = float(scores[row])
        if len(hits) == top_k or score < floor or score == -np.inf:
            break
        if row in used:
            continue
        file = int(np.searchsorted(selection.first, row, "right")) - 1
        start, stop = int(selection.first[file]), int(selection.first[file] + selection.count[file])
        cut = max(score - MERGE * max(0.0, score - mean), floor)
        begin = end = row
        while begin > start and begin - 1 not in used and scores[begin - 1] >= cut:
            begin -= 1
        while end + 1 < stop and end + 1 not in used and scores[end + 1] >= cut:
            end += 1
        used.update(range(begin, end + 1))
        hits.append(
            Hit(
                name,
                len(hits) + 1,
                selection.paths[file],
                *selection.span(file, begin - start, end - start),
                score,
            )
        )
    return hits
