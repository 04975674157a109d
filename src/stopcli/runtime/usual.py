"""How well its own clips usually fit a label: a clip that fits far less is something else.

A label's share among the labels says which of them it is, if it is one of them. Of a clip of something else
it says nothing: one label must have the most. So two more things are kept of each label, its score and the
cosine with the mean of its clips, as they usually are for clips of the label that were not learned from.
Letters: N clips, C labels, E embedding size, B clips that are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

RARE = 0.05  # of a label's own clips: what fits it less than all but these is doubted
FARTHEST = 30.0  # standard deviations: more cannot be computed, and say no more


@dataclass(frozen=True)
class Usual:
    """What is usual for clips of each label: of its score, and of the cosine with the mean of its clips."""

    means: Vectors  # (C,E), of unit length
    fits: Vectors  # (C,2)
    spreads: Vectors  # (C,2), above 0
    freedom: Vectors  # (1,), degrees of it, at least 1: how well the spreads are known

    @classmethod
    def of(
        cls,
        clips: Vectors,
        truth: NDArray[np.int64],
        scores: Vectors,
        groups: Sequence[str],
        count: int,
        held_out: tuple[Vectors, NDArray[np.int64], Vectors] | None = None,
    ) -> Usual | None:
        """Measure clips (N,E) of ``count`` classes (N,); ``scores`` (N,) for their own come from the others.

        ``groups`` (N,) name what a clip stays together with. ``held_out`` are clips that nothing was learned
        from, their classes and scores: where there are any, they say how far off all are. None: too few.
        """
        sums = np.zeros((count, clips.shape[1]))
        np.add.at(sums, truth, clips)
        together, groups_of = _together(clips, truth, groups, count)
        fits = np.stack([scores, _cosines(clips, sums[truth] - together)], 1)
        known = np.isfinite(fits).all(1)  # a label of one group: nobody knows how it looks elsewhere
        if not known.any():
            return None
        usual = np.tile(fits[known].mean(0), (count, 1))
        for label in np.unique(truth[known]):
            usual[label] = fits[known & (truth == label)].mean(0)
        usual[~sums.any(1), 1] = 0.0  # the cosine with nothing
        if held_out is None:
            away, freedom, share = _deviations(fits, usual, truth, known, groups_of)
        else:
            judged, answers, own = held_out
            away = np.stack([own, _cosines(judged, sums[answers])], 1) - usual[answers]
            usual, away = usual + away.mean(0), away - away.mean(0)
            freedom, share = len(away) - 1, 1 - 1 / len(away)
        if freedom < 1:
            return None
        spread = np.maximum(np.sqrt((away**2).mean(0) / share), 1e-4)
        spreads = spread * np.sqrt(1 + 1 / np.maximum(groups_of, 1))[:, None]
        parts = (_unit(sums), usual, spreads, np.array([freedom]))
        return cls(*(part.astype(np.float32) for part in parts))

    def doubt(self, clips: Vectors, scores: Vectors, label: int) -> Vectors:
        """Return the logarithm (B,), at most 0, of how likely clips (B,E) with these scores (B,) belong here.

        It is 0 for all that fits as the label's own clips do, but for the `RARE` that fit worst.
        """
        fits = np.stack([scores, clips @ self.means[label]], 1)
        away = ((fits - self.fits[label]) / self.spreads[label]).min(1)
        share = _below(away, float(self.freedom[0]))
        out: Vectors = np.minimum(0.0, np.log(share / RARE)).astype(np.float32)
        return out

    def is_sound(self) -> bool:
        """Say whether nothing in it breaks the arithmetic."""
        return bool((self.spreads > 0).all() and self.freedom[0] >= 1)

    def of_labels(self, rows: Sequence[int]) -> Usual:
        """Return what is usual for some of the labels."""
        some = list(rows)
        return Usual(self.means[some], self.fits[some], self.spreads[some], self.freedom)


def _together(
    clips: Vectors, truth: NDArray[np.int64], groups: Sequence[str], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the sum (N,E) of the clips of each one's class in its group, and how many groups each has."""
    keys: dict[tuple[int, str], int] = {}
    at = np.array([keys.setdefault(key, len(keys)) for key in zip(truth.tolist(), groups, strict=True)])
    sums = np.zeros((len(keys), clips.shape[1]))
    np.add.at(sums, at, clips)
    return sums[at], np.bincount([label for label, _ in keys], minlength=count)


def _deviations(
    fits: NDArray[np.float64],
    usual: NDArray[np.float64],
    truth: NDArray[np.int64],
    known: NDArray[np.bool_],
    groups_of: NDArray[np.int64],
) -> tuple[NDArray[np.float64], int, float]:
    """Return how far fits (N,2) are from what is usual, in how many degrees of freedom, and their share.

    The freedom is that of groups: clips of one group are much alike. Two groups are as near to each other as
    the other way round: of labels with no more, only how labels differ is known.
    """
    many = known & (groups_of[truth] > 2)
    if many.any():
        labels = np.unique(truth[many])
        every = int(groups_of[labels].sum())
        freedom = every - len(labels)
        return fits[many] - usual[truth[many]], freedom, freedom / every
    labels = np.unique(truth[known])
    return fits[known] - usual[labels].mean(0), len(labels) - 1, 1 - 1 / len(labels)


def _cosines(clips: Vectors, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines (N,) of clips of unit length with other vectors (N,E); NaN with nothing."""
    length = np.linalg.norm(others, axis=1)
    found: NDArray[np.float64] = (clips * others).sum(1) / np.where(length > 1e-6, length, np.nan)
    return found


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return out


def _below(away: Vectors, freedom: float) -> NDArray[np.float64]:
    """Return how much of Student's t distribution lies below (Wallace 1959), always above 0."""
    most = (
        (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(away.astype(float) ** 2 / freedom))
    )
    normal = np.clip(np.copysign(most, away), -FARTHEST, FARTHEST)
    return np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in normal.tolist()])
