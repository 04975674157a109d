"""Which of these labels does a clip show?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.data.labels import check_labels, default_labels, prompts_for
from stopcli.errors import UsageError
from stopcli.results import Classification, Failure, Score

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


def classify(
    encoder: Encoder,
    paths: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    top_k: int = 5,
    window: float | None = None,
) -> Iterator[Classification | Failure]:
    """Score each clip, or each window of so many seconds, against the labels.

    ``labels`` None takes the model's own, else the 400 actions of Kinetics; ``top_k`` are returned, best
    first, and scores sum to 1 over all of them; see `Score` for what says that none of them fits.
    For ``template`` see `stopcli.data.labels.prompts_for`.

    Raises:
        UsageError: a template without ``{}``, fewer than two labels, or one twice.
    """
    config = encoder.files.config
    names = list(labels) if labels is not None else default_labels(config)
    check_labels(names)
    if top_k < 1:
        raise UsageError(f"top_k must be at least 1, got {top_k}")
    texts = encoder.encode_texts(prompts_for(names, config, template))
    head = encoder.head.of(names, template) if encoder.head else None
    for item in encoder.encode_videos(paths, window=window):
        if isinstance(item, Failure):
            yield item
            continue
        logits, shares, cosines = (row[0] for row in encoder.label_scores(item.vector[None], texts, head))
        best = np.argsort(-logits, kind="stable")[:top_k]
        sure = {i: head.confidence(item.vector, i) if head else None for i in best}
        scores = tuple(Score(names[i], float(shares[i]), float(cosines[i]), sure[i]) for i in best)
        yield Classification(item.path, item.start, item.end, scores)
