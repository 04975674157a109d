"""What a person's answers say about all other moments: ranked anew from the index, without training.

Ridge regression on the vectors of the moments that were judged, around what the words say: with no answer the
words decide, with each answer they count for less where it is near. Moments drawn from the archive stand for
what nobody asked for. Letters: R rows, n judged moments, C classes, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.index.calibration import Calibration
from stopcli.index.types import Vectors

Ints = NDArray[np.int64]

RIDGE = 1.0  # of the mean square of the judged vectors
DRAWN, FAINT = 200, 0.05  # moments of the archive that stand for "no", and how much each of them counts
UNSURE, SPREAD = 3.0, 2.0  # spreads above what is usual: where words say neither yes nor no, and how steeply
NOTHING = -0.5  # what is believed of a moment where there are no words
MOST_COMPARED = 20_000  # moments, to find the most diverse


class Answers(NamedTuple):
    """Judged moments: their rows (n,), and which of C classes each shows, -1 for none of them."""

    rows: Ints
    classes: Ints


def belief(scores: Vectors, calibration: Calibration | None) -> Vectors:
    """Return what cosines' standardized scores (R,) say before anybody answered: from -1 (no) to 1 (yes)."""
    if calibration is None or calibration.spread == 0:
        return np.full(len(scores), NOTHING, np.float32)
    out: Vectors = np.tanh((scores - UNSURE) / SPREAD).astype(np.float32)
    return out


def learn(matrix: Vectors, selected: Ints, prior: Vectors, answers: Answers, kind: int) -> Vectors:
    """Return how much each row of a matrix (R,E) is of class ``kind``: about 1 is yes, -1 is no.

    ``selected`` are the rows that count, ``prior`` (R,) is what is believed of them, see `belief`.
    """
    if not len(answers.rows):
        return prior
    drawn = selected[:: max(1, len(selected) // DRAWN)]
    drawn = drawn[~np.isin(drawn, answers.rows)]
    rows = np.concatenate([answers.rows, drawn])
    goals = np.where(answers.classes == kind, 1.0, -1.0)
    goals = np.concatenate([goals, np.full(len(drawn), -1.0)])
    slack = np.concatenate([np.ones(len(answers.rows)), np.full(len(drawn), 1 / FAINT)])
    middle = np.nan_to_num(matrix[drawn]).mean(0) if len(drawn) else np.zeros(matrix.shape[1], np.float32)
    near = np.nan_to_num(matrix[rows]) - middle
    kernel = near @ near.T
    ridge = RIDGE * max(float(np.diag(kernel).mean()), 1e-9)
    weights = np.linalg.solve(kernel + np.diag(ridge * slack), goals - prior[rows])
    direction = (near.T @ weights).astype(np.float32)
    out: Vectors = prior + matrix @ direction - float(middle @ direction)
    return out


def most_uncertain(scores: Vectors) -> Ints:
    """Order rows by how little their scores (R,C) say: the distance of one from 0, else of the best two."""
    if scores.shape[1] == 1:
        return np.argsort(np.abs(scores[:, 0]), kind="stable")
    best = np.partition(scores, -2, axis=1)[:, -2:]
    return np.argsort(best[:, 1] - best[:, 0], kind="stable")


def most_diverse(vectors: Vectors, known: Vectors, count: int) -> Ints:
    """Return ``count`` of the vectors (R,E), each as far as can be from those before and from ``known``."""
    step = max(1, len(vectors) // MOST_COMPARED)
    some = np.nan_to_num(vectors[::step])
    near = (some @ known.T).max(1) if len(known) else some @ some.mean(0)
    chosen: list[int] = []
    for _ in range(min(count, len(some))):
        far = int(np.argmin(near))
        chosen.append(far)
        near = np.maximum(near, some @ some[far])
        near[far] = np.inf
    return np.array(chosen, np.int64) * step


def draw(rows: Ints, count: int, seed: int) -> Ints:
    """Draw rows at random, each with the same chance: what an honest share is measured on."""
    generator = np.random.default_rng(seed)
    return generator.choice(rows, min(count, len(rows)), replace=False)


def still_worth(counts: Sequence[int], enough: int) -> int:
    """Return how many more clips of the classes are worth labelling, until each has ``enough``."""
    return sum(max(0, enough - count) for count in counts)
