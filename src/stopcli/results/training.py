"""What a training says: before, during and after."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]  # percent: in 95 of 100 such samples the true score lies within


@dataclass(frozen=True)
class TrainingPlan:
    """What a training will do: said before it begins."""

    task: str
    clips: dict[str, int]  # by split
    classes: int | None
    trainable: int  # parameters
    frozen: int
    device: str
    precision: str
    epochs: int
    steps: int
    batch_size: int
    flip: bool
    color: bool
    metric: str
    plain: float | None  # the validation score of plain CLIP, percent
    resumed: int  # steps done before
    seconds: float  # expected


@dataclass(frozen=True)
class StepReport:
    """Where a training stands after a step; ``score`` is the validation's where there was one."""

    step: int
    steps: int
    epoch: int
    loss: float
    score: float | None
    best: float | None
    plateau: float | None = None  # the loss of guessing, where the last hundred steps were no better
    seconds_left: float | None = None  # if no step is spared
    settled: int | None = None  # for so many steps the validation gained nothing: training ends here


@dataclass(frozen=True)
class CrossValidation:
    """What models made from parts of the clips say of the rest: percent, over all clips."""

    score: float
    interval: Interval
    clips: int
    folds: int


@dataclass(frozen=True)
class Finetuned:
    """A training's result; scores in percent, None where no clip was held out."""

    path: str
    task: str
    metric: str
    validation: float | None
    validation_plain: float | None
    test: float | None
    test_plain: float | None
    steps: int  # taken
    seconds: float
    head: str  # what the labels are recognized by
    validation_interval: Interval | None = None
    test_interval: Interval | None = None
    clips: dict[str, int] | None = None  # by split
    cross_validation: CrossValidation | None = None
    other_labels: float | None = None  # percent of held-out clips whose first of 400 other labels stayed
    zero_shot: float | None = None  # how much of the untuned model was kept, from 0 to 1
    advice: tuple[str, ...] = ()  # what to do where the result is no better than without training
