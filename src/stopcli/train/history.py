"""What a run has come to: when it is over before its time, and how long it will still take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from stopcli.train.losses import guessing_loss

VALIDATIONS = 25  # about, in a run
PATIENCE = 0.25  # of the planned steps: a run whose validation gained nothing for so long is over
PLATEAU = 100  # steps: whether training is stuck is asked once every so many
GAIN = 0.01  # a smaller loss is a gain from here on


@dataclass
class History:
    """What a run has come to: saved with its state."""

    best: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    gained_loss: float = 0.0  # of the last validation that gained anything worth waiting for
    gained_step: int = 0
    seconds: float = 0.0
    plain: dict[str, float] = field(default_factory=dict)  # validation scores of plain CLIP
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    @property
    def last_validated(self) -> int:
        """The step after which the weights were last scored; without clips to score, were last written."""
        return max(self.best_step, self.scores[-1][0] if self.scores else 0)

    def validated(self, step: int, score: float, loss: float) -> bool:
        """Take note of a validation; say whether its weights are the best so far."""
        self.scores.append((step, score))
        before, lower = self.best, self.gained_loss - loss >= GAIN
        if before is None or score > before or (score == before and lower):
            self.gained_step, self.gained_loss = step, loss
        if before is not None and (score, -loss) < (before, -self.best_loss):
            return False
        self.best, self.best_loss, self.best_step = score, loss, step
        return True

    def settled(self, step: int, steps: int) -> int | None:
        """Return for how many steps nothing was gained, if that is long enough to end a run of ``steps``.

        It ends with a validation only, so that a run that was interrupted ends where it would have ended.
        """
        since, validated = step - self.gained_step, bool(self.scores) and self.scores[-1][0] == step
        return since if validated and since >= PATIENCE * steps else None

    def plateau(self, choices: int) -> float | None:
        """Return the loss of guessing among ``choices``, if the last steps were no better."""
        return guessing_loss([loss for _, loss in self.losses[-PLATEAU:]], choices)


class Pace:
    """How long steps and validations take: the middle of the last ones."""

    def __init__(self, validation: float) -> None:
        self._steps, self._validations = deque[float](maxlen=50), deque[float](maxlen=5)
        self._guess = validation

    def step(self, seconds: float) -> None:
        """Take note of a step."""
        self._steps.append(seconds)

    def validation(self, seconds: float) -> None:
        """Take note of a validation."""
        self._validations.append(seconds)

    def left(self, steps: int, validations: int) -> float:
        """Return the seconds that so many steps and validations will take."""
        each = median(self._validations) if self._validations else self._guess
        return steps * median(self._steps) + validations * each
