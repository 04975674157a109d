"""How sure is a match? Cosines differ from sentence to sentence; what they are worth must be measured.

A moment's score for a query is compared with the scores of moments of the same archive for null queries:
other sentences, or for a picture other moments. Letters: R rows, M null queries, E embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.index.types import Query, Vectors
from stopcli.results import Hit

SAMPLE = 2000  # rows that tell what is usual
SURE = 0.9  # a match below this may well be chance; docs/models/search.md has the figures
ENOUGH = 20  # null queries: fewer measure nothing
SAME = 0.97  # cosine of a moment with itself, or with a copy
JUDGED = 20_000  # moments that a learned query is asked of
COPY = 0.035  # of the archive's mean distance: two moments that are closer are copies


class Calibration(NamedTuple):
    """What null queries score in an archive: a moment's score less its own mean has this mean and spread."""

    usual: Vectors  # (E,): the mean of the null queries
    mean: float
    spread: float
    moments: int  # R, of the whole archive

    @classmethod
    def of(cls, rows: Vectors, nulls: Vectors, moments: int) -> Calibration:
        """Measure M null queries (M,E) on a sample of rows (R,E) of an archive of so many moments."""
        finite = rows[np.isfinite(rows).all(1)]
        if len(nulls) < ENOUGH or not len(finite):
            return cls(np.zeros(nulls.shape[1], np.float32), 0.0, 0.0, moments)
        usual: Vectors = nulls.mean(0)
        scores = finite @ nulls.T
        counted = scores < SAME  # a moment says nothing about itself or its copies
        scores, counted = scores[counted.any(1)], counted[counted.any(1)]
        if not scores.size:
            return cls(usual, 0.0, 0.0, moments)
        away = scores - scores.mean(1, keepdims=True, where=counted)
        return cls(usual, float(away.mean(where=counted)), float(away.std(where=counted)), moments)

    def deviations(self, rows: Vectors, query: Vectors) -> Vectors:
        """Return by how many spreads rows (R,E) fit a query (E,) better than what is usual (R,)."""
        away: Vectors = rows @ (query - self.usual)
        return self.standardized(away)

    def standardized(self, away: Vectors) -> Vectors:
        """Return how many spreads scores (R,), less the moments' own means, are from what is usual."""
        out: Vectors = ((away - self.mean) / max(self.spread, 1e-6)).astype(np.float32)
        return out

    def confidence_of(self, row: Vectors, query: Vectors) -> float | None:
        """Return how sure it is that a row (E,) fits a query (E,)."""
        return self.confidence(float(self.deviations(row[None], query)[0]))

    def confidence(self, deviation: float) -> float | None:
        """Return how often the best moment of so large an archive fits a null query less well than this.

        The null scores are taken as normally distributed, and the moments as independent. None: there was
        too little to measure.
        """
        if self.spread == 0 or not math.isfinite(deviation):
            return None
        tail = min(0.5 * math.erfc(deviation / math.sqrt(2)), 1 - 1e-12)
        return math.exp(self.moments * math.log1p(-tail))


def calibration_for(
    sample: Vectors, query: Query, moments: int, measured: dict[int, Calibration]
) -> Calibration | None:
    """Return the calibration of a query, None if it has no null queries; many queries share theirs."""
    if query.nulls is None:
        return None
    if id(query.nulls) not in measured:
        measured[id(query.nulls)] = Calibration.of(sample, query.nulls, moments)
    return measured[id(query.nulls)]


def stand_out(hits: Sequence[Hit], least: float, *, every: bool) -> tuple[list[Hit], list[Hit]]:
    """Return the hits of queries whose best is at least so sure, and the best hit of each other query.

    With ``every``, the hits themselves must be so sure, if at all. Otherwise, hits of unknown confidence are.
    """
    shown: list[Hit] = []
    nearest: list[Hit] = []
    for _, group in groupby(hits, key=lambda hit: hit.query):
        mine = list(group)
        unknown = -1.0 if every and least > 0 else 1.0
        sure = [h for h in mine if (unknown if h.confidence is None else h.confidence) >= least]
        if not sure:
            nearest.append(max(mine, key=lambda h: h.confidence or 0.0))
        shown += sure if every else mine if sure else []
    return shown, nearest


def learned_order(matrix: Vectors, rows: NDArray[np.int64], query: Query, scores: Vectors) -> Vectors:
    """Return the log-odds (N,) that rows fit a learned query; of very many, of those with the best scores."""
    assert query.odds is not None
    best = np.arange(len(rows))
    if len(rows) > JUDGED:
        best = np.argpartition(scores, -JUDGED)[-JUDGED:]
    order = np.full(len(rows), -np.inf, np.float32)
    order[best] = np.clip(
        query.odds(matrix[rows[best]]), -500, 500
    )  # a label without others is as sure as can be
    return order


def confidence_in(query: Query, calibration: Calibration | None, row: Vectors) -> float | None:
    """Return how sure it is that a row (E,) fits a query: learned, or by what else could have been asked."""
    if query.odds is not None:
        return float(1 / (1 + np.exp(-np.clip(query.odds(row[None])[0], -500, 500))))
    return None if calibration is None else calibration.confidence_of(row, query=query.vector)


def spread_out(count: int, most: int) -> slice:
    """Return a slice that takes at most about so many of ``count``, evenly."""
    return slice(None, None, max(1, count // most))


def copy_threshold(rows: Vectors) -> float:
    """Return the cosine from which moments of two files count as copies, given a sample of rows (R,E)."""
    finite = rows[np.isfinite(rows).all(1)]
    if len(finite) < 2:
        return 1.0
    among = float(
        (len(finite) * (finite.mean(0) ** 2).sum() - 1) / (len(finite) - 1)
    )  # the mean of all pairs
    return 1.0 - COPY * max(0.0, 1.0 - among)


def combined(vectors: Sequence[Vectors]) -> Vectors:
    """Return what is like all of some queries: the mean of vectors (E,) or (M,E), of unit length again."""
    least = min(len(v) for v in vectors)
    total = np.sum([v[:least] if v.ndim == 2 else v for v in vectors], axis=0)
    out: Vectors = (total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-9)).astype(
        np.float32
    )
    return out
