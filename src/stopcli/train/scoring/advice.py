"""What to do where a model came out no better than without training: more clips, and of which labels.

A learning curve says it: heads learnt from plain CLIP's vectors of fewer and fewer clips, without training.
Letters: N clips, E embedding size.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stopcli.data.split import few_shots, units_of, with_validation
from stopcli.data.table import Dataset, Row
from stopcli.runtime.head import fit_head, score_labels
from stopcli.train.scoring.judge import Evaluation, Judge

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

REPEATS = 8  # random divisions of the clips
WORTH = 2.0  # points that twice as many clips must have brought
FEW = 7  # clips a label to learn from: fewer make no curve
MOST_WEAK = 3  # labels that are named
MOST_CLIPS = 5000  # more are not embedded for a piece of advice
MOST_FITTED = 200_000  # clips times labels: more take minutes to learn so often


class Curve(NamedTuple):
    """How many percent are right, by clips a label, and at the most of them by label."""

    points: dict[int, float]
    by_label: dict[str, float]


def advise(
    judge: Judge, plain: Encoder, data: Dataset, shown: Evaluation | None, plain_score: float | None
) -> tuple[str, ...]:
    """Say what to do where a result is no better than guessing or than ``plain`` CLIP; else nothing.

    ``shown`` are the scores of held-out clips, ``plain_score`` those of plain CLIP on the same.
    """
    if shown is None or shown.answers is None:
        return ()
    score, chance, count = shown.scores["top-1"], 100 / len(judge.sentences), len(shown.answers)
    if shown.interval[0] <= chance:
        found = (
            f"{score:.0f} % of {count} held-out clips cannot be distinguished from guessing ({chance:.0f} %)"
        )
    elif plain_score is not None and score <= plain_score:
        found = f"plain CLIP does as well on the held-out clips ({plain_score:.0f} %)"
    else:
        return ()
    rows = [r for r in data.rows if r.split != "test"]
    if len(rows) > MOST_CLIPS or len(rows) * len(judge.sentences) > MOST_FITTED:
        return (found,)
    curve = learning_curve(judge, plain, data, rows)
    points = list(curve.points.items())
    if not points:  # each label is one group: nothing can be held out
        return (found,)
    steps = ", ".join(f"{share:.0f} % with {n}" for n, share in points)
    said = [found, f"clips a label, learnt without prompts: {steps}"]
    most = points[-1][0]
    gain = points[-1][1] - max(share for _, share in points[:-1]) if len(points) > 1 else WORTH
    if points[-1][1] >= 99:
        said.append("labels learnt without prompts are enough here: --epochs 0")
    elif most < FEW:
        said.append(f"so few clips say little: label at least {2 * FEW} of each")
    elif gain >= WORTH:
        said.append("label more: twice as many may bring as much again")
    else:
        said.append("more such clips bring little: cut closer to the action, or take a larger model")
    weak = sorted(curve.by_label.items(), key=lambda pair: pair[1])[:MOST_WEAK]
    said.append("weakest: " + ", ".join(f"{label!r} ({share:.0f} %)" for label, share in weak if share < 99))
    return tuple(said) if any(share < 99 for _, share in weak) else tuple(said[:-1])


def learning_curve(judge: Judge, plain: Encoder, data: Dataset, rows: list[Row]) -> Curve:
    """Learn labels from a quarter, half and all of the clips of each, several times over."""
    vectors = dict(zip([r.number for r in rows], judge.embed(plain, rows), strict=True))
    texts, labels = judge.texts(plain), list(judge.sentences)
    free = replace(data, rows=tuple(replace(r, split=None) for r in rows))
    divisions = [with_validation(free, seed) for seed in range(REPEATS)]
    fewest = min(min(Counter(r.text for r in d.of("train")).values()) for d in divisions)
    shots = sorted({max(1, fewest // 4), max(1, fewest // 2), fewest})
    hits: dict[int, list[bool]] = {n: [] for n in shots}
    by_label: dict[str, list[bool]] = {label: [] for label in labels}

    def stack(some: tuple[Row, ...]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return np.stack([vectors[r.number] for r in some]), judge.truth(some)

    for seed, divided in enumerate(divisions):
        held_out = divided.of("val")
        if not held_out:
            break
        judged, answers = stack(held_out)
        for n in shots:
            learned = few_shots(divided, n, seed).of("train")
            clips, truth = stack(learned)
            head = fit_head(labels, texts, clips, truth, groups=units_of(learned)).head
            right = score_labels(judged, texts, plain.logit_scale, head).logits.argmax(1) == answers
            hits[n] += right.tolist()
            if n == shots[-1]:
                for row, hit in zip(held_out, right.tolist(), strict=True):
                    by_label[row.text].append(hit)
    return Curve(
        {n: 100 * float(np.mean(found)) for n, found in hits.items() if found},
        {label: 100 * float(np.mean(found)) for label, found in by_label.items() if found},
    )
