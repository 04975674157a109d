"""What an adapted model still knows of everything else, and how to keep more of it.

Adapting pulls a model towards its labels; what it says of other words drifts. Two remedies, by what there is
to go back to: prompts that were trained further move back towards what they were, weight by weight (WiSE-FT,
arXiv 2109.01903); new prompts have nothing to go back to, so plain CLIP's vector is mixed with theirs.
Letters: N clips, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.data.labels import TEMPLATE, kinetics400
from stopcli.data.table import Row
from stopcli.model.config import StopConfig
from stopcli.train.scoring.judge import Judge

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

SHARES = (0.0, 0.1, 0.25, 0.4, 0.6, 0.8)  # of the model as it was


@dataclass(frozen=True)
class Kept:
    """One mixture of a model with what it was before: scores in percent."""

    share: float  # of the model before
    score: float
    other_labels: float


class Retention:
    """A model before it is adapted; ``encoder`` holds it, with trained prompts or with new ones."""

    def __init__(self, encoder: Encoder, judge: Judge, rows: Sequence[Row]) -> None:
        anew = encoder.files.folder is None or encoder.files.config.stop is None
        self._judge, self._rows, self._anew = judge, rows, anew
        self._before = weights_of(encoder)
        names = [name for name in kinetics400() if name not in judge.sentences]
        self._sentences = [TEMPLATE.replace("{}", name) for name in names]  # whatever the model's template
        self._texts: NDArray[np.float32] | None = None
        self._first: NDArray[np.int64] | None = None

    def other_labels(self, encoder: Encoder, clips: NDArray[np.float32]) -> float:
        """Return how many percent of clips, now (N,E), still have the same first of Kinetics' names.

        Nobody knows which of them is right: this is what changed, not what was lost of the truth.
        """
        if self._first is None:
            self._first = self._names(encoder, self._embed_before(encoder))
        return float((self._names(encoder, clips) == self._first).mean() * 100)

    def keep(
        self,
        encoder: Encoder,
        score: Callable[[Encoder, NDArray[np.float32]], float],
        tell: Callable[[str], object],
    ) -> Kept:
        """Mix a tuned model with what it was, as much as costs no more than chance does; it stays so.

        ``score`` says how good a mixture is by its vectors of the N held-out clips. Of those within one
        standard error of the best, the one that keeps most is taken.
        """
        tuned, tried = weights_of(encoder), []
        for share in SHARES:
            self.mix(encoder, tuned, share)
            clips = self._judge.embed(encoder, self._rows)
            tried.append(Kept(share, score(encoder, clips), self.other_labels(encoder, clips)))
            now = tried[-1]
            tell(
                f"{share:.0%} of the old model mixed in: {now.score:.1f} % of the validation clips right, "
                f"{now.other_labels:.0f} % keep their best Kinetics name"
            )
        best, count = max(k.score for k in tried) / 100, len(self._rows)
        smoothed = (best * count + 2) / (count + 4)  # where all are right, chance is not gone
        error = 100 * float(np.sqrt(smoothed * (1 - smoothed) / count))
        chosen = [k for k in tried if k.score >= 100 * best - error][-1]
        self.mix(encoder, tuned, chosen.share)
        return chosen

    def mix(self, encoder: Encoder, tuned: dict[str, Any], share: float) -> None:
        """Give a model a ``share`` of what it was before, and the rest of the ``tuned`` weights."""
        if self._anew:
            encoder.model.config = replace(encoder.model.config or StopConfig(), plain=share)
        else:
            mixed = {name: w + share * (self._before[name] - w) for name, w in tuned.items()}
            encoder.model.prompts.load_state_dict(mixed)

    def _embed_before(self, encoder: Encoder) -> NDArray[np.float32]:
        if self._anew:
            return self._judge.embed(encoder.without_prompts(), self._rows)
        tuned = weights_of(encoder)
        encoder.model.prompts.load_state_dict(self._before)
        vectors = self._judge.embed(encoder, self._rows)
        encoder.model.prompts.load_state_dict(tuned)
        return vectors

    def _names(self, encoder: Encoder, clips: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return which of the names each clip (N,E) would be given first: (N,)."""
        if self._texts is None:
            self._texts = encoder.encode_texts(self._sentences)
        names: NDArray[np.int64] = (clips @ self._texts.T).argmax(1)
        return names


def weights_of(encoder: Encoder) -> dict[str, Any]:
    """Return a copy of a model's prompts."""
    return {name: w.detach().clone() for name, w in encoder.model.prompts.state_dict().items()}
