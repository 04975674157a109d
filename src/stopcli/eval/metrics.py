"""Scores and how sure they are. Letters: V videos, Q queries, C classes, N clips or queries.

Ranks of retrieval count ties honestly: rank = 1 + how many score higher + half of the others that score the
same, so that a constant model scores as chance does. A class is what `argmax` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Floats = NDArray[np.floating]
    Ints = NDArray[np.integer]

RECALLS = (1, 5, 10)


def ranks_of(scores: Floats, truth: Ints) -> NDArray[np.float64]:
    """Return the rank of column ``truth[i]`` in row i of ``scores`` (Q,V): (Q,), from 1."""
    right = scores[np.arange(len(scores)), truth][:, None]
    ties = (scores == right).sum(1) - 1
    out: NDArray[np.float64] = 1.0 + (scores > right).sum(1) + ties / 2
    return out


def label_ranks(scores: Floats, truth: Ints) -> NDArray[np.float64]:
    """Return the rank of column ``truth[i]`` in row i of scores (N,C): (N,), from 1; of equals, the first.

    So that top-1 is what is shown as the answer, also where labels have the same score.
    """
    right = scores[np.arange(len(scores)), truth][:, None]
    before = np.arange(scores.shape[1]) < np.asarray(truth)[:, None]
    out: NDArray[np.float64] = 1.0 + (scores > right).sum(1) + ((scores == right) & before).sum(1)
    return out


def best_ranks(scores: Floats, truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, for rows of ``scores`` (Q,V) with several right columns, the rank of the best of them: (Q,).

    ``truths`` (Q,V) says which are right, at least one in each row.
    """
    best = np.where(truths, scores, -np.inf).max(1)[:, None]
    wrong = ~truths
    out: NDArray[np.float64] = 1.0 + ((scores > best) & wrong).sum(1) + ((scores == best) & wrong).sum(1) / 2
    return out


def retrieval_scores(ranks: Floats) -> dict[str, float]:
    """Return R@1, R@5, R@10 (percent), median and mean rank."""
    recalls = {f"R@{k}": float((ranks <= k).mean() * 100) for k in RECALLS}
    return recalls | {"MdR": float(np.median(ranks)), "MnR": float(ranks.mean())}


def tops(classes: int) -> tuple[int, ...]:
    """Return which top-k accuracies tell anything of so many classes."""
    return (1, 5) if classes > 5 else (1,)


def accuracy_scores(ranks: Floats, classes: int) -> dict[str, float]:
    """Return top-1 accuracy (percent), and top-5 where there are more than five classes."""
    return {f"top-{k}": float((ranks <= k).mean() * 100) for k in tops(classes)}


def cross_entropy(logits: Floats, truth: Ints) -> float:
    """Return the mean over rows of -log softmax(logits)[truth]: logits (N,C), truth (N,)."""
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]
    return float(losses.mean())


def confusion(truth: Ints, predictions: Ints, classes: int) -> NDArray[np.int64]:
    """Count (C,C): row is the true class, column the predicted one."""
    out = np.zeros((classes, classes), np.int64)
    np.add.at(out, (truth, predictions), 1)
    return out


def share_interval(hits: NDArray[np.bool_], groups: Sequence[object] | None = None) -> tuple[float, float]:
    """Return Wilson's 95 % interval, in percent, of a share that was measured on clips: hits (N,).

    It says something of few clips, and where all or none are hits, too. Clips of one of the ``groups`` (N,)
    are alike, as those of one person or file, or the captions of one video: they count for fewer (Kish's
    effective sample size, from the variance between groups), and few groups widen the interval (Student's t).
    Where all are hits or none, each group counts once.
    """
    count, share, z = float(len(hits)), float(np.mean(hits)), 1.96
    known = {group: i for i, group in enumerate(dict.fromkeys(groups or ()))}
    if groups is not None and len(known) < len(hits):
        places = np.array([known[group] for group in groups])
        surplus = np.bincount(places, np.asarray(hits) - share)
        free = len(known) - 1
        between = (surplus**2).sum() / count**2 * len(known) / max(1, free)
        within = share * (1 - share) / count
        if not within or not free:
            count = len(known)
        else:
            count, z = min(count, count * within / between) if between else count, _student(free)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(100 * max(0.0, middle - half)), float(100 * min(1.0, middle + half))


def _student(free: int) -> float:
    """Return Student's t at 97.5 % by degrees of freedom: Fisher's expansion, below three the table."""
    if free < 3:
        return (12.71, 4.303)[free - 1]
    z = 1.96
    terms = [(z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96]
    terms.append((3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(z + sum(term / free**power for power, term in enumerate(terms, 1)))


def interval(
    values: Floats, groups: Ints | None = None, *, seed: int = 0, draws: int = 1000
) -> tuple[float, float]:
    """Return the bootstrap 95 % interval (percentile) of the mean of values (N,), one a query or clip.

    Values of one of the ``groups`` (N,) depend on each other, such as the captions of one video: groups
    are drawn, not values. Without groups each value is its own.
    """
    places = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(places, values), np.bincount(places)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        drawn = rng.integers(len(sums), size=len(sums))
        means.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
