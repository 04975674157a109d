"""One run of training: begin, fit, validate, finish."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stopcli.data.labels import prompts_for, template_for
from stopcli.data.seen import Seen, write_seen
from stopcli.data.table import SPLITS, Dataset, unique_clips
from stopcli.errors import CheckpointError, UsageError
from stopcli.model.config import HEAD_FILE, ModelConfig
from stopcli.model.files import known_hash
from stopcli.output import figures
from stopcli.results import Finetuned, StepReport, TrainingPlan
from stopcli.train import distributed
from stopcli.train.batches import Batches, ClipReader, Schedule
from stopcli.train.dataset import count_clips, describe
from stopcli.train.judge import Judge
from stopcli.train.losses import guessing_loss
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import CONFUSION_FILE, CURVE_FILE, METRIC, RunFolder
from stopcli.train.trainer import State, Trainer

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

SAVE_EVERY = 60.0  # seconds between states; one is saved with each validation too
VALIDATIONS = 25  # about
NOT_KEPT = {"model", "weights", "video_key", "text_key"}  # of what an encoder says of itself
MODES = ("spatial", "temporal", "attention")
PLATEAU = 100  # steps: whether training is stuck is asked once every so many
HANDED = re.compile(r"\b(left|right|(counter-?|anti-?)?clockwise)", re.IGNORECASE)


@dataclass
class History:
    """What a run has come to: saved with its state."""

    best: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    seconds: float = 0.0
    plain: dict[str, float] = field(default_factory=dict)  # validation scores of plain CLIP
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class FinetuneRun:
    """One run: a model, its clips, each in a split, and where the result goes."""

    encoder: Encoder
    data: Dataset
    reader: ClipReader
    folder: RunFolder
    options: FinetuneOptions
    origin: dict[str, Any]  # the model that training started from, as `train.finetune` describes it
    seen: Seen = field(default_factory=Seen)  # what that was trained on
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        encoder, data, options, config = self.encoder, self.data, self.options, self.encoder.files.config
        self.training, self.validation, self.test = (data.of(split) for split in SPLITS)
        self.by_class, self.metric = data.task == "classification", METRIC[data.task]
        texts = data.labels if self.by_class else tuple(dict.fromkeys(r.text for r in self.training))
        prompts = prompts_for(texts, config, options.template) if self.by_class else texts
        self.sentences = dict(zip(texts, prompts, strict=True))
        self.judge = Judge(self.reader, self.sentences, by_class=self.by_class)
        self.flip = options.flip if options.flip is not None else not any(map(HANDED.search, texts))
        clips = len(self.training) if self.by_class else len(unique_clips(self.training))
        self.schedule = Schedule.plan(data.task, clips, options)
        train = partial(Trainer, encoder, self.schedule, self.sentences, by_class=self.by_class)
        self.trainer = train() if self.schedule.steps else None
        modes = {} if config.stop is None else {m: getattr(config.stop, m) for m in MODES}
        chosen = {"flip": self.flip, **modes}
        length = asdict(self.schedule) | {"steps": self.schedule.steps, "processes": distributed.world_size()}
        self.record = self.origin | {  # what the model's config says of its training
            "data": describe(data),
            "settings": asdict(options) | length | chosen,
            "provenance": {k: v for k, v in encoder.describe().items() if k not in NOT_KEPT},
        }
        self.fingerprint = {  # what must be the same for a run to be resumed
            **self.record["settings"],
            "the frames": str(encoder.framing),
            "the data set": self.record["data"]["sha256"][:12],
            "the model to start from": self.origin["base_weights"][:12],
        }
        labels = data.labels if self.by_class else None
        template = template_for(config, options.template) if self.by_class else None
        self._config = replace(
            config,
            frames=encoder.frames,
            labels=labels,
            template=template,
            head=None,
            backbone_sha256=known_hash(encoder.files.backbone),
        )

    def begin(self, *, resume: bool) -> TrainingPlan:
        """Score plain CLIP, or restore the saved state; make the folder ready; return what will be done.

        Raises UsageError where the saved state is of a run with other settings.
        """
        history, schedule, started = self.history, self.schedule, time.monotonic()
        if resume and self.folder.state_file.exists():
            self._restore()
            history, done = self.history, self.step_number
            expected = history.seconds / max(1, done) * (schedule.steps - done)
        else:
            plain = self.judge.evaluate(self.encoder.without_prompts(), self.validation)
            history.plain = plain.scores if plain else {}
            views = 3 * schedule.steps * schedule.batch_size + VALIDATIONS * len(self.validation)
            expected = (time.monotonic() - started) / max(1, len(unique_clips(self.validation))) * views
            expected /= distributed.world_size()
        self.folder.begin(self.step_number, self._config)
        if distributed.rank() == 0:
            write_seen(self.folder.path, unique_clips(self.training), self.seen)
        trainable, frozen = self.encoder.model.count_parameters()
        return TrainingPlan(
            task=self.data.task,
            clips=count_clips(self.data),
            classes=len(self.data.labels) if self.by_class else None,
            trainable=trainable,
            frozen=frozen,
            device=self.record["provenance"]["device"],
            precision=self.encoder.precision,
            epochs=schedule.epochs,
            steps=schedule.steps,
            batch_size=schedule.batch_size,
            flip=self.flip,
            metric=self.metric,
            plain=history.plain.get(self.metric),
            resumed=self.step_number,
            seconds=expected,
        )

    @property
    def step_number(self) -> int:
        """How many steps were taken."""
        return self.trainer.step_number if self.trainer else 0

    def fit(self) -> Generator[StepReport, None, None]:
        """Train to the end, step by step; validate, and save states, on the way."""
        if self.trainer is None:
            self._validate()
            return
        trainer, schedule, history = self.trainer, self.schedule, self.history
        batches = Batches(self.training, schedule, self.reader, by_class=self.by_class, flip=self.flip)
        validate_every = max(1, schedule.epochs // VALIDATIONS) * schedule.steps_per_epoch
        began, saved = time.monotonic() - history.seconds, time.monotonic()
        with closing(batches.ahead(trainer.step_number)) as ahead:
            for rows, pixels in ahead:
                loss = trainer.step(rows, pixels)
                step, history.seconds = trainer.step_number, time.monotonic() - began
                history.losses.append((step, loss))
                rate = schedule.rate(step - 1)
                self.folder.log({"step": step, "loss": loss, "lr": rate, "seconds": history.seconds})
                validates = step % validate_every == 0 or step == schedule.steps
                score = self._validate() if validates else None
                if validates or time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                epoch = (step - 1) // schedule.steps_per_epoch + 1
                plateau = self._plateau() if step % PLATEAU == 0 else None
                yield StepReport(step, schedule.steps, epoch, loss, score, history.best, plateau)

    def _plateau(self) -> float | None:
        """Return the loss of guessing, if the last steps were no better."""
        choices = len(self.sentences) if self.by_class else self.schedule.batch_size
        return guessing_loss([loss for _, loss in self.history.losses[-PLATEAU:]], choices)

    def _validate(self) -> float | None:
        """Score the weights on the validation clips; write them where they are the best so far."""
        history, step = self.history, self.step_number
        result = self.judge.evaluate(self.encoder, self.validation)
        score, loss = (result.scores[self.metric], result.loss) if result else (None, 0.0)
        if result and score is not None:
            history.scores.append((step, score))
            self.folder.log({"step": step, "validation": result.scores, "validation_loss": loss})
        if score is None or history.best is None or (score, -loss) >= (history.best, -history.best_loss):
            history.best, history.best_loss, history.best_step = score, loss, step
            self._write_model({} if score is None else {"validation": {self.metric: score}})
        return score

    def finish(self) -> Finetuned:
        """Learn the labels with the best weights, score, draw pictures, write the card, drop the state."""
        self.folder.load_best(self.encoder.model)
        encoder = as_used(self.encoder, self._config) if self.trainer is not None else self.encoder
        if self.by_class:
            self._learn_labels(encoder)
        validation = self.judge.evaluate(encoder, self.validation)
        test = self.judge.evaluate(encoder, self.test)
        plain = self.judge.evaluate(encoder.without_prompts(), self.test)
        results = {"validation": validation, "test": test, "test, plain CLIP": plain}
        config = self._write_model({name: r.scores for name, r in results.items() if r is not None})
        if distributed.rank() == 0:
            path, history = self.folder.path, self.history
            score = history.plain.get(self.metric)
            if history.losses:
                losses, scores = history.losses, history.scores
                figures.curve(path / CURVE_FILE, losses, scores, metric=self.metric, plain=score)
            shown = test or validation
            if shown is not None and shown.confusion is not None:
                title = f"{shown.confusion.sum()} {'test' if test else 'validation'} clips"
                figures.confusion(path / CONFUSION_FILE, shown.confusion, self.data.labels, title)
        self.folder.end(config)
        return self.folder.result(config)

    def _learn_labels(self, encoder: Encoder) -> None:
        """Give the model what the clips say of the labels, where that is better than their words alone."""
        trained = self.trainer is not None
        choice = self.judge.learn_labels(
            encoder, self.training, self.validation, self.options.head, trained=trained
        )
        if choice is not None and choice.head is not None:
            self._config = replace(self._config, head={"share": choice.share, "ridge": choice.ridge})
            if distributed.rank() == 0:
                choice.head.save(self.folder.path / HEAD_FILE)

    def _write_model(self, metrics: dict[str, dict[str, float]]) -> ModelConfig:
        """Write the model as it stands: it is usable from the first validation on."""
        history = self.history
        plain = {"validation, plain CLIP": history.plain} if history.plain else {}
        training = self.record | {"best_step": history.best_step, "seconds": round(history.seconds, 1)}
        config = replace(self._config, extra={"training": training, "metrics": plain | metrics})
        self.folder.write_model(config, self.encoder.model, self.encoder.files)
        return config

    def save(self) -> None:
        """Save a state from which the run can be resumed."""
        if distributed.rank() == 0 and self.trainer is not None:
            values = {"history": asdict(self.history), "fingerprint": self.fingerprint}
            self.trainer.save_state(self.folder.state_file, values)

    def _restore(self) -> None:
        state = State.read(self.folder.state_file)
        try:
            then, history = dict(state.values["fingerprint"]), History(**state.values["history"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder.state_file}: damaged; start over with --force") from error
        now = self.fingerprint
        changes = [f"{k} was {then.get(k)!r}, now {now[k]!r}" for k in now if now[k] != then.get(k)]
        if changes:
            problem = f"cannot resume with other settings: {'; '.join(changes)}"
            raise UsageError(f"{self.folder.path}: {problem}; use --force to start over")
        if self.trainer is not None:
            self.trainer.restore(state)
        self.history = history


def as_used(trained: Encoder, config: ModelConfig) -> Encoder:
    """Return a model that was trained, in the precision that other commands run it in."""
    from stopcli.runtime.encoder import Encoder

    files = replace(trained.files, folder=None, config=config)  # only one machine has the folder
    encoder = Encoder(files, replace(trained.options, frames=trained.frames, compile=False))
    encoder.model.prompts.load_state_dict(trained.model.prompts.state_dict())
    return encoder
