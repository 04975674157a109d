"""The last part of a run: from the best weights to labels that are learnt, scores, advice and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.data.split import units_of
from stopcli.data.table import Dataset, Row
from stopcli.model.config import HEAD_FILE, ModelConfig
from stopcli.output import figures
from stopcli.train import distributed
from stopcli.train.history import History
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import CONFUSION_FILE, CURVE_FILE, METRIC, RunFolder
from stopcli.train.scoring.advice import advise
from stopcli.train.scoring.judge import Evaluation, Judge
from stopcli.train.scoring.retention import Retention

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

FILES = 3  # as many tell how a label's clips differ from film to film: see `stopcli.runtime.usual`


@dataclass
class Conclusion:
    """What comes of a model with its best weights; ``config`` and ``judged`` hold it in the end."""

    encoder: Encoder  # with the best weights
    data: Dataset
    judge: Judge
    retention: Retention | None  # None where no prompts were trained
    options: FinetuneOptions
    folder: RunFolder
    history: History
    config: ModelConfig
    judged: dict[str, Evaluation] = field(default_factory=dict)  # by split

    def __post_init__(self) -> None:
        self.training, self.validation, self.test = (self.data.of(s) for s in ("train", "val", "test"))
        self._metric = METRIC[self.data.task]

    def reach(self, tell: Callable[[str], object], *, advises: bool) -> dict[str, Any]:
        """Learn the labels, and score; return what the model says of its making beside the scores."""
        more: dict[str, Any] = {}
        if self.retention and self.validation and self.options.keep_zero_shot:
            kept = self.retention.keep(self.encoder, self._score_mixture, tell)
            self.config = replace(self.config, stop=self.encoder.model.config)
            more["zero_shot"] = kept.share
        encoder = self.encoder if self.retention is None else as_used(self.encoder, self.config)
        clips = self.judge.embed(encoder, self.validation) if self.validation else None
        if self.judge.by_class:
            self._learn_labels(encoder, clips)
        if clips is not None:
            self.judged["validation"] = self.judge.score(encoder, clips, self.validation)
            if self.retention:
                more["other_labels"] = self.retention.other_labels(encoder, clips)
        plain, validation, test = encoder.without_prompts(), self.judged.get("validation"), None
        if self.test:
            test = self.judge.evaluate(encoder, self.test)
            results = {"test": test, "test, plain CLIP": self.judge.evaluate(plain, self.test)}
            self.judged |= {name: result for name, result in results.items() if result is not None}
        before = self.judged["test, plain CLIP"].scores if test else self.history.plain
        if self.judge.by_class:
            self.folder.write_predictions(self._predictions())
        if self.judge.by_class and advises:
            more["advice"] = advise(
                self.judge, plain, self.data, test or validation, before.get(self._metric)
            )
            if self.config.head is not None and (few := self._of_few_files()):
                names = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
                tell(f"{names}: clips of fewer than {FILES} files; how sure a search is says little then")
        return more | {"intervals": {name: result.interval for name, result in self.judged.items()}}

    def draw(self) -> None:
        """Draw the curve of the training, and what was taken for what."""
        if distributed.rank():
            return
        path, history = self.folder.path, self.history
        if history.losses:
            plain = history.plain.get(self._metric)
            figures.curve(path / CURVE_FILE, history.losses, history.scores, metric=self._metric, plain=plain)
        split = "test" if "test" in self.judged else "validation"
        shown = self.judged.get(split)
        if shown is not None and shown.confusion is not None:
            title = f"{shown.confusion.sum()} {split} clips"
            figures.confusion(path / CONFUSION_FILE, shown.confusion, self.data.labels, title)

    def _learn_labels(self, encoder: Encoder, clips: NDArray[np.float32] | None) -> None:
        """Give the model what the clips say of the labels, where that is better than their words alone."""
        trained = self.retention is not None
        held_out = None if clips is None else (clips, self.validation)
        choice = self.judge.learn_labels(encoder, self.training, held_out, self.options.head, trained=trained)
        if choice is not None and choice.head is not None:
            self.config = replace(self.config, head={"share": choice.share, "ridge": choice.ridge})
            if distributed.rank() == 0:
                choice.head.save(self.folder.path / HEAD_FILE)

    def _score_mixture(self, encoder: Encoder, clips: NDArray[np.float32]) -> float:
        """Score a mixture of the tuned and the untuned model; labels are learnt again from its vectors."""
        if self.judge.by_class:
            held_out = clips, self.validation
            self.judge.learn_labels(encoder, self.training, held_out, self.options.head, trained=True)
        result = self.judge.score(encoder, clips, self.validation)
        encoder.head = None
        return result.scores[self._metric]

    def _of_few_files(self) -> list[str]:
        """Return the labels whose clips are of so few files that nobody knows how they look in others."""
        rows = (*self.training, *self.validation)
        files = Counter(label for label, _ in set(zip((r.text for r in rows), units_of(rows), strict=True)))
        return [label for label in self.data.labels if files[label] < FILES]

    def _predictions(self) -> list[tuple[Row, str, float]]:
        """Return what each held-out clip was taken for, and its score."""
        out, labels = [], self.data.labels
        for split, rows in (("validation", self.validation), ("test", self.test)):
            judged = self.judged.get(split)
            if judged is not None and judged.answers is not None and judged.shares is not None:
                answers = zip(rows, judged.answers.tolist(), judged.shares.tolist(), strict=True)
                out += [(row, labels[answer], share) for row, answer, share in answers]
        return out


def as_used(trained: Encoder, config: ModelConfig) -> Encoder:
    """Return a model that was trained, in the precision that other commands run it in."""
    from stopcli.runtime.encoder import Encoder

    files = replace(trained.files, folder=None, config=config)  # only one machine has the folder
    encoder = Encoder(files, replace(trained.options, frames=trained.frames, compile=False))
    encoder.model.prompts.load_state_dict(trained.model.prompts.state_dict())
    return encoder
