"""What a person's answers say about all other moments: ranked again from the index, without training.

Ridge regression on the vectors of the moments that were judged, around what the words say: with no answer the
words decide, with each answer they count for less where it is near. Moments drawn from the archive stand for
what nobody asked for. Letters: R moments, n of them judged, C classes, E embedding size.
"""

from __future__ import annotations

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


class Lesson(NamedTuple):
    """Moments to learn from: vectors (n,E), what is believed of them (n,C), which class they show (n,).

    Class -1 is none of them.
    """

    vectors: Vectors
    prior: Vectors
    classes: Ints


def belief(scores: Vectors, calibration: Calibration | None) -> Vectors:
    """Return what cosines' standardized scores (R,) say before anybody answered: from -1 (no) to 1 (yes)."""
    if calibration is None or calibration.spread == 0:
        return np.full(len(scores), NOTHING, np.float32)
    out: Vectors = np.tanh((scores - UNSURE) / SPREAD).astype(np.float32)
    return out


def learn(matrix: Vectors, prior: Vectors, judged: Lesson, drawn: Lesson) -> Vectors:
    """Return how much each vector (R,E) is of each class: about 1 is yes, -1 is no (R,C).

    ``prior`` (R,C) is what is believed of them, see `belief`; ``drawn`` are moments of the archive that stand
    for what nobody asked for.
    """
    if not len(judged.classes):
        return prior
    near = np.nan_to_num(np.concatenate([judged.vectors, drawn.vectors]))
    middle = (
        np.nan_to_num(drawn.vectors).mean(0) if len(drawn.vectors) else np.zeros(near.shape[1], np.float32)
    )
    near = near - middle
    classes = np.concatenate([judged.classes, drawn.classes])
    goals = np.where(classes[:, None] == np.arange(prior.shape[1]), 1.0, -1.0)
    counts = np.concatenate([np.ones(len(judged.classes)), np.full(len(drawn.classes), FAINT)])
    left = np.nan_to_num(goals - np.concatenate([judged.prior, drawn.prior])) * counts[:, None]
    ridge = RIDGE * max(float((near**2).sum(1).mean()), 1e-9)
    normal = (near * counts[:, None]).T @ near + ridge * np.eye(near.shape[1])
    direction = np.linalg.solve(normal, near.T @ left).astype(np.float32)  # (E,C)
    out: Vectors = prior + matrix @ direction - middle @ direction
    return out


def most_uncertain(scores: Vectors) -> Ints:
    """Order rows by how little their scores (R,C) say: the distance of one from 0, else of the best two."""
    if scores.shape[1] == 1:
        return np.argsort(np.abs(scores[:, 0]), kind="stable")
    best = np.partition(scores, -2, axis=1)[:, -2:]
    return np.argsort(best[:, 1] - best[:, 0], kind="stable")


def most_diverse(vectors: Vectors, known: Vectors, count: int) -> Ints:
    """Return ``count`` of the vectors (R,E), each as far as can be from those before and from ``known``."""
    some = np.nan_to_num(vectors)
    near = (some @ np.nan_to_num(known).T).max(1) if len(known) else some @ some.mean(0)
    chosen: list[int] = []
    for _ in range(min(count, len(some))):
        far = int(np.argmin(near))
        chosen.append(far)
        near = np.maximum(near, some @ some[far])
        near[far] = np.inf
    return np.array(chosen, np.int64)


def draw(rows: Ints, count: int, seed: int) -> Ints:
    """Draw rows at random, each with the same chance: what an honest share is measured on."""
    generator = np.random.default_rng(seed)
    return generator.choice(rows, min(count, len(rows)), replace=False)
