"""How well moments are found in videos: R1 and mAP at overlaps, as QVHighlights and Charades-STA score them.

Moments are (start, end) in seconds; P predictions of a sentence, the best first, T true moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stopcli.data.protocols.moments import Asked
from stopcli.data.seen import Seen
from stopcli.errors import InputError, StopError
from stopcli.eval.metrics import share_interval
from stopcli.results import Failure, Hit
from stopcli.results.measured import BenchmarkScore

OVERLAPS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
Spans = Sequence[tuple[float, float]]
Find = Callable[[Path, Sequence[str]], list[list[Hit]]]


def moments(
    asked: Sequence[Asked],
    find: Find,
    blank: BenchmarkScore,
    progress: Callable[[str], object] = lambda _: None,
) -> tuple[BenchmarkScore, list[Failure]]:
    """Look for every sentence in its video; return the scores in percent, and videos that cannot be read.

    Raises InputError: none can be read.
    """
    first: list[float] = []  # of each sentence: how much its first prediction overlaps
    precision: list[NDArray[np.float64]] = []
    files: list[str] = []
    failures: list[Failure] = []
    for path, group in groupby(
        sorted(asked, key=lambda a: str(a.item.clip[0])), key=lambda a: a.item.clip[0]
    ):
        questions = list(group)
        try:
            answers = find(path, list(dict.fromkeys(a.text for a in questions)))
        except StopError as error:
            failures.append(Failure.of(path, error))
            progress(str(path))
            continue
        by_text = dict(zip(dict.fromkeys(a.text for a in questions), answers, strict=True))
        for a in questions:
            spans = [(h.start or 0.0, h.end or 0.0) for h in by_text[a.text]]
            shared = overlaps(spans, a.spans)
            first.append(float(shared[0].max()) if len(spans) else 0.0)
            precision.append(np.array([average_precision(shared, least) for least in OVERLAPS]))
            files.append(str(path))
        progress(str(path))
    if not first:
        raise InputError(f"{blank.dataset}: none of its videos can be read")
    best, ap = np.array(first), np.stack(precision) * 100
    hits = {f"R1@{least:g}": best >= least for least in (0.5, 0.7)}
    scores = {name: float(hit.mean() * 100) for name, hit in hits.items()}
    scores |= {"mAP@0.5": float(ap[:, 0].mean()), "mAP@0.75": float(ap[:, 5].mean()), "mAP": float(ap.mean())}
    sure = {name: share_interval(hit, files) for name, hit in hits.items()}
    method, how = blank.method, blank.provenance
    missing = blank.missing + len(failures)
    return BenchmarkScore(
        method, blank.dataset, "moments", scores, sure, len(first), missing, False, how
    ), failures


def unseen(asked: Sequence[Asked], seen: Seen) -> list[Asked]:
    """Return the questions of whose moments a model was trained on none; InputError where it was on all."""
    left = [a for a in asked if not any(seen.has((a.item.clip[0], *span)) for span in a.spans)]
    if asked and not left:
        way = "ask of others, or mark some rows as test in a column 'split' and train again"
        raise InputError(f"the model was trained on moments of each of the {len(asked)} questions; {way}")
    return left


def overlaps(predicted: Spans, true: Spans) -> NDArray[np.float64]:
    """Return intersection over union of each prediction with each true moment: (P,T)."""
    p, t = (np.array(s, float).reshape(-1, 2) for s in (predicted, true))
    shared = np.minimum(p[:, None, 1], t[None, :, 1]) - np.maximum(p[:, None, 0], t[None, :, 0])
    shared = np.maximum(shared, 0.0)
    union = (p[:, 1] - p[:, 0])[:, None] + (t[:, 1] - t[:, 0])[None] - shared
    out: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return out


def average_precision(shared: NDArray[np.float64], least: float) -> float:
    """Return the area below precision over recall of predictions in order, by overlaps (P,T), from 0 to 1.

    A true moment is found once, by the first prediction that overlaps it so much and no other one more.
    """
    free = np.ones(shared.shape[1], bool)
    right = np.zeros(len(shared))
    for i, row in enumerate(shared):
        for j in np.argsort(-row, kind="stable"):
            if row[j] < least:
                break
            if free[j]:
                free[j], right[i] = False, 1.0
                break
    if not len(right):
        return 0.0
    found = np.cumsum(right)
    precision, recall = found / np.arange(1, len(right) + 1), found / len(free)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * envelope))
