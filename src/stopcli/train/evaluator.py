"""How good a model is on clips that are held out. Letters: N rows, C classes, E embedding size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.table import Clip, Row, unique_clips
from stopcli.eval.metrics import accuracy_scores, confusion, cross_entropy, ranks_of
from stopcli.eval.retrieval import caption_scores
from stopcli.train import distributed
from stopcli.train.batches import ClipReader

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


@dataclass(frozen=True)
class Evaluation:
    """Scores in percent, the loss, and in classification the confusions (C,C): row is the truth."""

    scores: dict[str, float]
    loss: float
    confusion: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Evaluator:
    """Scores models on clips; ``prompts`` holds the sentence of each label, and is None in retrieval."""

    reader: ClipReader
    prompts: dict[str, str] | None

    def evaluate(self, encoder: Encoder, rows: Sequence[Row]) -> Evaluation | None:
        """Score a model on rows; None where there are none."""
        if not rows:
            return None
        vectors = self._embed(encoder, rows)
        if self.prompts is None:
            return Evaluation(*caption_scores(encoder, vectors, rows))
        class_ids = {label: i for i, label in enumerate(self.prompts)}
        truth = np.array([class_ids[r.text] for r in rows])
        cosines, _ = encoder.label_scores(vectors, encoder.encode_texts(list(self.prompts.values())))
        return Evaluation(
            accuracy_scores(ranks_of(cosines, truth), len(class_ids)),
            cross_entropy(encoder.logit_scale * cosines, truth),
            confusion(truth, cosines.argmax(1), len(class_ids)),
        )

    def _embed(self, encoder: Encoder, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Embed the rows' clips (N,E), each process a share; a clip of several rows is embedded once."""
        encoder.model.train(False)
        mine, size = distributed.every_nth(unique_clips(rows)), encoder.batch_size
        batches = [mine[i : i + size] for i in range(0, len(mine), size)]
        done = [vector for b in batches for vector in encoder.encode_pixels(self.reader.centres(b))]
        vectors: dict[Clip, NDArray[np.float32]] = {}
        for part in distributed.gather_objects(dict(zip(mine, done, strict=True))):
            vectors |= part
        return np.stack([vectors[r.clip] for r in rows])
