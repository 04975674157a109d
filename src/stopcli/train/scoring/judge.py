"""Scoring a model while it is made, and learning from clips what its labels look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.data.split import units_of
from stopcli.data.table import Row, unique_clips
from stopcli.eval.metrics import accuracy_scores, confusion, cross_entropy, label_ranks, share_interval
from stopcli.eval.retrieval import caption_scores
from stopcli.model.config import HeadKind
from stopcli.results.training import Interval
from stopcli.runtime.head import Choice, alike, fit_head
from stopcli.train import distributed
from stopcli.train.batches import ClipReader

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


@dataclass(frozen=True)
class Evaluation:
    """Scores in percent, how sure the first of them is, the loss; of labels, what each clip was taken for.

    Letters: N clips, C labels. In ``confusion`` (C,C) a row is the truth.
    """

    scores: dict[str, float]
    interval: Interval
    loss: float
    confusion: NDArray[np.int64] | None = None
    truth: NDArray[np.int64] | None = None  # (N,), numbers of labels
    answers: NDArray[np.int64] | None = None  # (N,)
    shares: NDArray[np.float32] | None = None  # (N,), of each answer


class Judge:
    """Scores models on rows of one data set; ``sentences`` stand for its labels or captions."""

    def __init__(self, reader: ClipReader, sentences: dict[str, str], *, by_class: bool) -> None:
        self.reader, self.sentences, self.by_class = reader, sentences, by_class

    def evaluate(self, encoder: Encoder, rows: Sequence[Row]) -> Evaluation | None:
        """Score a model on held-out rows, if there are any."""
        return self.score(encoder, self.embed(encoder, rows), rows) if rows else None

    def score(self, encoder: Encoder, vectors: NDArray[np.float32], rows: Sequence[Row]) -> Evaluation:
        """Score a model by its vectors (N,E) of rows."""
        if not self.by_class:
            return Evaluation(*caption_scores(encoder, vectors, rows))
        truth, count = self.truth(rows), len(self.sentences)
        found = encoder.label_scores(vectors, self.texts(encoder), encoder.head)
        ranks, answers = label_ranks(found.logits, truth), found.logits.argmax(1)
        groups = units_of(rows)
        return Evaluation(
            accuracy_scores(ranks, count),
            share_interval(ranks <= 1, groups),
            cross_entropy(found.logits, truth),
            confusion(truth, answers, count),
            truth,
            answers,
            found.shares.max(1),
        )

    def learn_labels(
        self,
        encoder: Encoder,
        training: Sequence[Row],
        held_out: tuple[NDArray[np.float32], Sequence[Row]] | None,
        kind: HeadKind,
        *,
        trained: bool,
    ) -> Choice | None:
        """Give an encoder what clips say of the labels, where that is better than their words alone.

        ``held_out`` are the vectors (N,E) of other clips, and their rows. Clips that prompts were ``trained``
        on cannot judge. Where none are held out, words stay alone, unless they are the same for two labels.
        """
        encoder.head, labels, texts = None, list(self.sentences), self.texts(encoder)
        if kind == "text" or (kind == "auto" and trained and held_out is None and not alike(labels, texts)):
            return None
        clips, truth = self.embed(encoder, training), self.truth(training)
        judges = (held_out[0], self.truth(held_out[1])) if trained and held_out else None
        choice = fit_head(labels, texts, clips, truth, kind=kind, held_out=judges, groups=units_of(training))
        encoder.head = choice.head
        return choice

    def texts(self, encoder: Encoder) -> NDArray[np.float32]:
        """Return what stands for the labels or captions, as vectors (C,E)."""
        return encoder.encode_texts(list(self.sentences.values()))

    def truth(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """Return the numbers of the rows' labels (N,)."""
        class_ids = {label: i for i, label in enumerate(self.sentences)}
        return np.array([class_ids[r.text] for r in rows])

    def embed(self, encoder: Encoder, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Embed the clips of rows (N,E); each process does a share of them."""
        encoder.model.train(False)
        mine, size = distributed.every_nth(unique_clips(rows)), encoder.batch_size
        batches = [mine[i : i + size] for i in range(0, len(mine), size)]
        done = [vector for b in batches for vector in encoder.encode_pixels(self.reader.centres(b))]
        embedded = distributed.gather_dict(dict(zip(mine, done, strict=True)))
        return np.stack([embedded[r.clip] for r in rows])
