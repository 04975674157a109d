"""Which moments of which videos does a query mean?

Letters: R rows (windows) of a space, F files that may answer, N rows of those, E embedding size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stopcli.index.calibration import (
    SAME,
    SAMPLE,
    Calibration,
    calibration_for,
    combined,
    confidence_in,
    copy_threshold,
    learned_order,
    spread_out,
)
from stopcli.index.selection import Selection
from stopcli.index.sync import is_same
from stopcli.index.types import Asked, Example, Filters, Query, Snapshot, Vectors
from stopcli.results import Hit
from stopcli.video.cut.shots import STEP

MERGE = 0.25  # of the way from a hit's score down to the mean: neighbours above it belong to the hit
POOL = 32  # candidates sorted for each hit wanted
SPARSE = 4  # fewer than one row in so many: they are read alone
CHUNK = 512  # of those, read at once: what fits a processor's cache
COMPARED = 20_000  # moments that each is compared with, to find what is like no other
REST = "unlike the rest"
MOMENTS = 400  # of the archive: what an example or a picture is compared with

Near = Callable[[Vectors], NDArray[np.int64]]  # rows worth a look, by query (E,)


def search(
    vectors: Vectors,
    selection: Selection,
    queries: Sequence[Query],
    filters: Filters,
    unlike: Sequence[Vectors] = (),
    near: Near | None = None,
    narrow: Sequence[Query] = (),
) -> list[Hit]:
    """Rank the selected of a space's vectors (R,E), and ``near`` a query if given, by cosine; exactly.

    A query that was learned ranks by its odds, as it is judged.
    Neighbouring windows that both score are one hit, with the best score; no hit is nearer to ``unlike``.
    Where there are texts to ``narrow`` by, what counts is how well the worst of them and the query fit.
    """
    hits: list[Hit] = []
    matrix = np.asarray(vectors)
    sample = matrix[selection.rows()[spread_out(int(selection.count.sum()), SAMPLE)]]
    alike = copy_threshold(sample) if filters.fold else np.inf
    measured: dict[int, Calibration] = {}  # by what else could have been asked: many queries share it

    def ranked(query: Query, chosen: Selection) -> Iterator[Hit]:
        if not chosen.paths:
            return
        rows, moments = chosen.rows(), int(selection.count.sum())
        asked = [(q, calibration_for(sample, q, moments, measured)) for q in (query, *narrow)]
        scores = _cosines(matrix, rows, query.vector)
        order = scores if not narrow else _worst(matrix, rows, asked)
        if query.odds and not narrow:
            order = learned_order(matrix, rows, query, scores)
        seen = order if chosen is selection or narrow or query.odds else sample @ query.vector
        mean = float(seen[np.isfinite(seen)].mean()) if np.isfinite(seen).any() else 0.0
        order = np.where(np.isfinite(order), order, -np.inf)  # vectors that no model made
        if filters.min_score is not None:
            order[~(scores >= filters.min_score)] = -np.inf
        if query.without:
            order[np.isin(rows, [row for row in query.without if not chosen.copies_of(row)])] = -np.inf
        for unwanted in unlike:
            order[_cosines(matrix, rows, unwanted) >= scores] = -np.inf
        some = _elsewhere(_moments(order, mean, chosen, filters), query)
        for found, hit in folded(some, matrix, filters, alike):
            score = float(matrix[found] @ query.vector)
            known = [confidence_in(q, c, matrix[found]) for q, c in asked]
            sure = min((k for k in known if k is not None), default=None)
            yield replace(hit, query=query.name, score=score, confidence=sure)

    for query in queries:
        # what is near a query is not what fits it together with others, or is the likeliest of a label
        some = near if not narrow and query.odds is None else None
        found = [] if some is None else list(ranked(query, selection.owning(some(query.vector))))
        if some is None or len(found) < filters.top_k:  # those that are near are of few files, or left out
            found = list(ranked(query, selection))
        hits += found
    return hits


def _elsewhere(moments: Iterator[tuple[int, Hit]], query: Query) -> Iterator[tuple[int, Hit]]:
    """Yield moments; an example's own not in its file, but in those that are the same."""
    mine = set(query.without)
    for row, hit in moments:
        if row not in mine:
            yield row, hit
            continue
        places = [p for p in (hit.path, *hit.also) if not any(is_same(p, own) for own in query.own)]
        if places:
            yield row, replace(hit, path=places[0], also=tuple(places[1:]))


def unlike_the_rest(vectors: Vectors, selection: Selection, filters: Filters) -> list[Hit]:
    """Rank moments by their distance (1 - cosine) from the moment most like them, the greatest first.

    The windows beside one do not count, for they show much the same; nor do copies in other files. Of very
    many moments, each is compared with a sample.
    """
    if selection.count.sum() < 2:
        return []
    rows = selection.rows()
    matrix = np.nan_to_num(np.asarray(vectors)[rows])
    owner = np.repeat(np.arange(len(selection.paths)), selection.count)
    others = np.arange(len(rows))[spread_out(len(rows), COMPARED)]
    sample = matrix[spread_out(len(rows), SAMPLE)]
    alike = copy_threshold(sample) if filters.fold else np.inf
    order = np.empty(len(rows), np.float32)
    for at in range(0, len(rows), CHUNK):
        part = slice(at, at + CHUNK)
        cosines = matrix[part] @ matrix[others].T
        near = owner[part, None] == owner[others]
        beside = near & (np.abs(np.arange(len(rows))[part, None] - others) <= 1)
        cosines[beside | (~near & (cosines >= alike))] = np.inf
        order[part] = 1.0 - np.where(np.isinf(cosines), -np.inf, cosines).max(1)
    order[np.isinf(order)] = -np.inf  # nothing is left to compare it with
    mean = float(order[np.isfinite(order)].mean()) if np.isfinite(order).any() else 0.0
    found = folded(_moments(order, mean, selection, filters), vectors, filters, alike)
    return [replace(hit, query=REST) for _, hit in found]


def _worst(
    matrix: Vectors, rows: NDArray[np.int64], asked: Sequence[tuple[Query, Calibration | None]]
) -> Vectors:
    """Return how well rows fit the query that they fit worst, in spreads, so that queries are comparable."""
    fits = []
    for query, calibration in asked:
        usual = 0.0 if calibration is None else calibration.usual
        away = _cosines(matrix, rows, query.vector - usual)
        fits.append(away if calibration is None else calibration.standardized(away))
    worst: Vectors = np.min(fits, axis=0)
    return worst


def folded(
    moments: Iterator[tuple[int, Hit]], matrix: Vectors, filters: Filters, alike: float
) -> list[tuple[int, Hit]]:
    """Return the best moments and their rows; copies in other files are listed under the best of them."""
    kept: list[tuple[int, Hit]] = []
    also: list[dict[str, None]] = []  # ordered sets
    files: Counter[str] = Counter()
    vectors = np.empty((min(filters.top_k, len(matrix)), matrix.shape[1] if filters.fold else 0), np.float32)
    for row, hit in moments:
        others = filters.fold and len(files) > (hit.path in files)  # hits in other files
        close = np.flatnonzero(vectors[: len(kept)] @ matrix[row] >= alike) if others else ()
        first = next((int(i) for i in close if kept[i][1].path != hit.path), None)
        if first is not None:
            also[first] |= dict.fromkeys((hit.path, *hit.also))
            continue
        if len(kept) == filters.top_k:
            break
        places = (hit.path,) if filters.fold else (hit.path, *hit.also)  # files that are the same
        for path in places[: filters.top_k - len(kept)]:
            if filters.per_file is not None and files[path] >= filters.per_file:
                continue
            files[path] += 1
            if filters.fold:
                vectors[len(kept)] = matrix[row]
            kept.append((row, replace(hit, path=path, rank=len(kept) + 1)))
            also.append(dict.fromkeys(hit.also if filters.fold else ()))
    return [(row, replace(hit, also=tuple(a))) for (row, hit), a in zip(kept, also, strict=True)]


def _cosines(matrix: Vectors, rows: NDArray[np.int64], query: Vectors) -> Vectors:
    """Return the cosines (N,) of rows with a query; the cost grows with the number of rows selected."""
    if len(rows) * SPARSE < len(matrix):
        parts = (rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK))
        return np.concatenate([matrix[part] @ query for part in parts])
    scores: Vectors = matrix @ query
    return scores if len(rows) == len(matrix) else scores[rows]


def _moments(
    order: Vectors, mean: float, selection: Selection, filters: Filters
) -> Iterator[tuple[int, Hit]]:
    """Yield moments and the best row of each, from the best down, as ``order`` (N,) ranks the rows."""
    starts = np.cumsum(selection.count) - selection.count
    rows = selection.rows()
    used: set[int] = set()
    chains: dict[int, NDArray[np.int64]] = {}
    for row in _best_first(order, POOL * filters.top_k):
        score = float(order[row])
        if score == -np.inf:
            return
        if row in used:
            continue
        file = int(np.searchsorted(starts, row, "right")) - 1
        start = int(starts[file])
        stop = start + int(selection.count[file])
        cut = score - MERGE * max(0.0, score - mean)
        if (chain := chains.get(file)) is None:
            chain = chains[file] = selection.chain_of(file)
        joins = partial(_joins, scores=order[start:stop], cut=cut, used=used, start=start, chain=chain)
        first = last = row - start
        while first > 0 and joins(first - 1, first):
            first -= 1
        while start + last + 1 < stop and joins(last + 1, last):
            last += 1
        used.update(range(start + first, start + last + 1))
        since = until = None
        if selection.window is not None:
            spans = selection.spans(file, first, last)
            since, until = spans[0][0], spans[-1][1]
        best = int(rows[row])
        hit = Hit("", 0, selection.paths[file], since, until, score, also=selection.copies_of(best))
        yield best, hit


def _joins(
    row: int, other: int, *, scores: Vectors, cut: float, used: set[int], start: int, chain: NDArray[np.int64]
) -> bool:
    """Say whether a row of a file belongs to the hit that ``other`` is part of; both count from its first."""
    follows = bool(abs(chain[row] - chain[other]) == 1)
    return follows and start + row not in used and bool(scores[row] >= cut)


def _best_first(scores: Vectors, pool: int) -> Iterator[int]:
    """Yield rows from the best score down, of equals the first; none is sorted in vain, some come again."""
    while True:
        rows = np.argpartition(scores, -pool)[-pool:] if pool < len(scores) else np.arange(len(scores))
        yield from rows[np.lexsort((rows, -scores[rows]))].tolist()
        if pool >= len(scores):
            return
        pool *= 8  # nearly all candidates were neighbours of each other


def compared(
    asked: Asked,
    sentences: Vectors | None,
    state: Snapshot,
    selection: Selection,
    examples: Sequence[Example],
    contents: Sequence[str],
) -> Asked:
    """Add to what is asked what else could have been: by that, matches are measured.

    Texts are compared with ``sentences`` (M,E), pictures and examples with other moments. ``examples`` are
    those of the first ``asked.seen``, with the keys of their ``contents``: they are no hits themselves.
    """
    if not selection.paths:
        return asked
    written, narrow = (
        tuple(q._replace(nulls=sentences) for q in some) for some in (asked.written, asked.narrow)
    )
    seen = list(asked.seen)
    if seen:
        rows = state.vectors[selection.rows()[spread_out(int(selection.count.sum()), SAMPLE)]]
        seen = [q._replace(nulls=_others(rows, q.vector)) for q in seen]
    for i, (example, content) in enumerate(zip(examples, contents, strict=True)):
        own = _left_out(state, selection, example, content)
        seen[i] = seen[i]._replace(without=own, own=(example.path,) if own else ())
    return asked._replace(written=written, seen=tuple(seen), narrow=narrow)


def _others(rows: Vectors, vector: Vectors) -> Vectors:
    """Return some of the archive's moments that are not what is asked for."""
    others = rows[~(rows @ vector >= SAME)]
    return others[spread_out(len(others), MOMENTS)]


def _left_out(state: Snapshot, selection: Selection, example: Example, content: str) -> tuple[int, ...]:
    """Return the rows that are the example itself: of its own file, not of a copy elsewhere, at its time."""
    entry = state.entries.get(content)
    homes = () if entry is None else np.flatnonzero(selection.first == entry.first)
    if entry is None:
        return ()
    places = (p for i in homes for p in (selection.paths[i], *selection.copies_of(entry.first)))
    if not any(is_same(place, example.path) for place in places):
        return ()
    start, end = example.span(window := selection.window)
    if start is None or end is None or window is None:
        return tuple(range(entry.first, entry.first + entry.count))
    spans = entry.spans(window, shots=selection.shots)
    shared = ((min(b, end) - max(a, start), min(STEP, (b - a) / 2)) for a, b in spans)
    return tuple(entry.first + i for i, (length, least) in enumerate(shared) if length > least)


def together(queries: Sequence[Query]) -> Query:
    """Return one query for what is like all of some."""
    nulls = [q.nulls for q in queries if q.nulls is not None]
    without = tuple(row for q in queries for row in q.without)
    own = tuple(path for q in queries for path in q.own)
    name, vector = " + ".join(q.name for q in queries), combined([q.vector for q in queries])
    return Query(name, vector, combined(nulls), without, own)
