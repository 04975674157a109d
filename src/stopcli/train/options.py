"""How to train, and who is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from stopcli.data.labels import check_template
from stopcli.errors import UsageError
from stopcli.model.config import Attention, HeadKind, Mode
from stopcli.results.training import StepReport, TrainingPlan
from stopcli.settings import MOST_SEED


@dataclass(frozen=True)
class FinetuneOptions:
    """How to train; None takes what suits the data, and for the prompts' modes what the model has.

    Raises UsageError for a value that makes no sense.
    """

    epochs: int | None = None
    lr: float = 1e-3  # the highest of the schedule
    batch_size: int | None = None  # clips a step, over all processes and pieces
    shots: int | None = None  # train on at most so many clips a class
    seed: int = 0
    spatial: Mode | None = None
    temporal: Mode | None = None
    attention: Attention | None = None  # of patches: to those of all frames, or of their own
    flip: bool | None = None  # mirror half of the clips; None does so unless a text speaks of left or right
    color: bool | None = None  # vary the clips' colors; None does so unless a text speaks of one
    template: str | None = None  # see `stopcli.data.labels.prompts_for`
    head: HeadKind = "auto"  # what labels are recognized by: their text, prototypes from clips, a mix
    keep_zero_shot: bool = False  # keep as much of the model before as costs no held-out clip
    background: bool = False  # add clips of unlabelled stretches, see `stopcli.data.background`
    folds: int | None = None  # measure by so many models, each made without its part of the clips

    def __post_init__(self) -> None:
        choices = {"head": HeadKind, "spatial": Mode, "temporal": Mode, "attention": Attention}
        for name, kind in choices.items():
            value = getattr(self, name)
            if value not in get_args(kind) and (name == "head" or value is not None):
                raise UsageError(f"--{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        for name, value, least in (
            ("epochs", self.epochs, 0),
            ("shots", self.shots, 1),
            ("folds", self.folds, 2),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"--{name} must be at least {least}, got {value}")
        if self.seed > MOST_SEED:
            raise UsageError(f"--seed must be at most {MOST_SEED}, got {self.seed}")
        if self.epochs == 0 and self.keep_zero_shot:
            raise UsageError(
                "--epochs 0 trains no prompts: all of the model is kept without --keep-zero-shot"
            )
        if self.epochs == 0 and self.head == "text":
            raise UsageError("--epochs 0 and --head text leave nothing to learn")
        if not 0 < self.lr <= 1:
            raise UsageError(f"--lr must be above 0 and at most 1, got {self.lr:g}")
        if self.batch_size is not None and not 2 <= self.batch_size <= 65536:
            raise UsageError(f"--batch-size must be auto or between 2 and 65536, got {self.batch_size}")
        if self.spatial == self.temporal == "off":
            raise UsageError("--spatial off and --temporal off leave nothing to train")
        check_template(self.template)


class TrainingCallback(Protocol):
    """Who is told how a training goes."""

    def decoding(self, total: int) -> None: ...  # so many clips will be read
    def decoded(self, path: Path) -> None: ...  # one is read
    def skipped(self, problem: str) -> None: ...  # a row is skipped
    def noted(
        self, note: str
    ) -> None: ...  # something was understood or done in another way than one may think
    def plan(self, plan: TrainingPlan) -> None: ...  # training is about to begin
    def progress(self, report: StepReport) -> None: ...  # a step was taken
