"""Scoring a model while it is made, and learning from clips what its labels look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.table import Row, unique_clips
from stopcli.eval.metrics import accuracy_scores, confusion, cross_entropy, label_ranks
from stopcli.eval.retrieval import caption_scores
from stopcli.model.config import HeadKind
from stopcli.runtime.head import Choice, alike, fit_head
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


class Judge:
    """Scores models on rows of one data set; ``sentences`` stand for its labels or captions."""

    def __init__(self, reader: ClipReader, sentences: dict[str, str], *, by_class: bool) -> None:
        self.reader, self.sentences, self.by_class = reader, sentences, by_class

    def evaluate(self, encoder: Encoder, rows: Sequence[Row]) -> Evaluation | None:
        """Score a model on held-out rows, if there are any."""
        if not rows:
            return None
        vectors = self._embed(encoder, rows)
        if not self.by_class:
            return Evaluation(*caption_scores(encoder, vectors, rows))
        truth, count = self._truth(rows), len(self.sentences)
        logits = encoder.label_scores(vectors, self._texts(encoder), encoder.head).logits
        return Evaluation(
            accuracy_scores(label_ranks(logits, truth), count),
            cross_entropy(logits, truth),
            confusion(truth, logits.argmax(1), count),
        )

    def learn_labels(
        self,
        encoder: Encoder,
        training: Sequence[Row],
        validation: Sequence[Row],
        kind: HeadKind,
        *,
        trained: bool,
    ) -> Choice | None:
        """Give an encoder what clips say of the labels, where that is better than their words alone.

        Clips that prompts were ``trained`` on cannot judge. Where none are held out, words stay alone, unless
        they are the same for two labels.
        """
        encoder.head, labels, texts = None, list(self.sentences), self._texts(encoder)
        if kind == "text" or (kind == "auto" and trained and not validation and not alike(labels, texts)):
            return None
        clips, truth, held_out = self._embed(encoder, training), self._truth(training), None
        if trained and validation:
            held_out = self._embed(encoder, validation), self._truth(validation)
        choice = fit_head(labels, texts, clips, truth, kind=kind, held_out=held_out)
        encoder.head = choice.head
        return choice

    def _texts(self, encoder: Encoder) -> NDArray[np.float32]:
        return encoder.encode_texts(list(self.sentences.values()))

    def _truth(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        class_ids = {label: i for i, label in enumerate(self.sentences)}
        return np.array([class_ids[r.text] for r in rows])

    def _embed(self, encoder: Encoder, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Embed the clips of rows (N,E); each process does a share of them."""
        encoder.model.train(False)
        mine, size = distributed.every_nth(unique_clips(rows)), encoder.batch_size
        batches = [mine[i : i + size] for i in range(0, len(mine), size)]
        done = [vector for b in batches for vector in encoder.encode_pixels(self.reader.centres(b))]
        embedded = distributed.gather_dict(dict(zip(mine, done, strict=True)))
        return np.stack([embedded[r.clip] for r in rows])
