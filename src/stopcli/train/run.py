"""One run of training: begin, fit, validate, finish."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stopcli.data.labels import prompts_for, template_for
from stopcli.data.seen import Seen
from stopcli.data.table import SPLITS, Dataset, unique_clips
from stopcli.errors import CheckpointError, UsageError
from stopcli.fileio import to_json
from stopcli.model.config import ModelConfig
from stopcli.model.files import known_hash
from stopcli.results.training import CrossValidation, Finetuned, StepReport, TrainingPlan
from stopcli.train import distributed
from stopcli.train.batches import Batches, ClipReader, Schedule
from stopcli.train.dataset import count_clips, describe
from stopcli.train.history import PLATEAU, VALIDATIONS, History, Pace
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import METRIC, RunFolder, own_backbone, require_same_settings
from stopcli.train.scoring.conclusion import Conclusion
from stopcli.train.scoring.judge import Evaluation, Judge
from stopcli.train.scoring.retention import Retention
from stopcli.train.trainer import State, Trainer, uninterrupted

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

SAVE_EVERY = 60.0  # seconds between states; one is saved with each validation too
NOT_KEPT = {"model", "weights", "video_key", "text_key"}  # of what an encoder says of itself
MODES = ("spatial", "temporal", "attention")
COLORED = re.compile(
    r"\b(red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gr[ae]y|golden|silver|colou?r|dark"
    r"|bright)",
    re.IGNORECASE,
)
HANDED = re.compile(  # left, right and the two turnings, in the languages that labels are likely to be in
    r"\b(left|right|(counter-?|anti-?)?clockwise|links|linke|rechts|rechte|(gegen den |im )uhrzeiger"
    r"|gauche|droite|izquierd|derech|esquerd|direit|sinistr[ao]\b|destr[ao]\b|v?levo\b|v?pravo\b|lew[aoy]\b"
    r"|praw[aoy]\b|vänster|höger|venstre|h[øo]yre|højre|vasem|oikea|[вн]а?лево|[вн]а?право|слева|справа"
    r"|αριστερ|δεξι)|[左右]|왼|오른|يسار|يمين|שמאל|ימין",
    re.IGNORECASE,
)
JOINED = re.compile(r"_|(?<=[a-z])(?=[A-Z])")  # where words of a label meet without a space


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
        self.flip = _unless_named(options.flip, HANDED, texts)
        self.color = _unless_named(options.color, COLORED, texts)
        clips = len(self.training) if self.by_class else len(unique_clips(self.training))
        self.schedule = Schedule.plan(data.task, clips, options)
        how = {"by_class": self.by_class, "flip": self.flip, "color": self.color}
        self.batches = Batches(self.training, self.schedule, self.reader, **how)
        train = partial(Trainer, encoder, self.schedule, self.sentences, by_class=self.by_class)
        self.trainer = train() if self.schedule.steps else None
        self.retention = Retention(encoder, self.judge, self.validation) if self.trainer else None
        self.judged: dict[str, Evaluation] = {}  # at the end, by split
        self._pace = Pace(0.0)
        chosen = {"flip": self.flip, "color": self.color}
        self.record = self.origin | _record(encoder, data, options, self.schedule, chosen)
        self.fingerprint = self.record["settings"] | _foundations(self)
        self._config = _blank(encoder, data, template_for(config, options.template))

    def begin(self, *, resume: bool) -> TrainingPlan:
        """Restore the saved state, if there is one; make the folder ready; return what will be done.

        Raises UsageError where the saved state is of a run with other settings.
        """
        plan = self.plan(resume=resume)
        self.folder.begin(self.step_number, self._config, unique_clips(self.training), self.seen)
        return plan

    def plan(self, *, resume: bool = False, measure: bool = False) -> TrainingPlan:
        """Score plain CLIP, or restore the saved state; return what will be done.

        To ``measure`` how long it will take, two steps are computed and not taken.
        """
        history, schedule, started = self.history, self.schedule, time.monotonic()
        if resume and self.folder.has_state():
            self._restore()
            history, done = self.history, self.step_number
            expected = history.seconds / max(1, done) * (schedule.steps - done)
        else:
            plain = self.judge.evaluate(self.encoder.without_prompts(), self.validation)
            history.plain = plain.scores if plain else {}
            views = 3 * schedule.steps * schedule.batch_size + VALIDATIONS * len(self.validation)
            expected = (time.monotonic() - started) / max(1, len(unique_clips(self.validation))) * views
            expected /= distributed.world_size()
        validation = time.monotonic() - started
        self._pace = Pace(validation)
        if measure and self.trainer is not None:
            each = self.trainer.seconds_a_step(*self.batches.load(0))
            expected = each * schedule.steps + validation * VALIDATIONS
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
            color=self.color,
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
        if schedule.validates(trainer.step_number) and history.last_validated != trainer.step_number:
            self._validate()  # a validation that was interrupted
        choices = len(self.sentences) if self.by_class else schedule.batch_size
        began, saved = time.monotonic() - history.seconds, time.monotonic()
        spares = self.options.epochs is None  # who says how many epochs gets them all
        if spares and history.settled(trainer.step_number, schedule.steps):  # of a run that was resumed
            return
        with closing(self.batches.ahead(trainer.step_number)) as ahead:
            mark = time.monotonic()
            for rows, pixels in ahead:
                with uninterrupted():
                    loss = trainer.step(rows, pixels)
                    step, history.seconds = trainer.step_number, time.monotonic() - began
                    self._pace.step(time.monotonic() - mark)
                    history.losses.append((step, loss))
                    rate = schedule.rate(step - 1)
                    self.folder.log({"step": step, "loss": loss, "lr": rate, "seconds": history.seconds})
                validates = schedule.validates(step)
                mark = time.monotonic()
                score = self._validate() if validates else None
                may_end = spares and validates and step < schedule.steps
                settled = history.settled(step, schedule.steps) if may_end else None
                if validates or time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                if validates:
                    self._pace.validation(time.monotonic() - mark)
                epoch = (step - 1) // schedule.steps_per_epoch + 1
                plateau = history.plateau(choices) if step % PLATEAU == 0 else None
                left = self._pace.left(
                    schedule.steps - step, (schedule.steps - step) // schedule.validate_every
                )
                yield StepReport(
                    step, schedule.steps, epoch, loss, score, history.best, plateau, left, settled
                )
                if settled:
                    return
                mark = time.monotonic()

    def _validate(self) -> float | None:
        """Score the weights on the validation clips; write them where they are the best so far."""
        history, step = self.history, self.step_number
        result = self.judge.evaluate(self.encoder, self.validation)
        with uninterrupted():
            if result is None:
                history.best_step = step
                self._write_model({})
                return None
            score = result.scores[self.metric]
            self.folder.log({"step": step, "validation": result.scores, "validation_loss": result.loss})
            if history.validated(step, score, result.loss):
                self._write_model({"validation": {self.metric: score}})
            return score

    def finish(
        self,
        tell: Callable[[str], object],
        *,
        advises: bool = True,
        cross_validation: CrossValidation | None = None,
    ) -> Finetuned:
        """Learn the labels with the best weights, score, draw pictures, write the card, drop the state."""
        if self.options.keep_zero_shot:
            self.folder.keep_best()
        self.folder.load_best(self.encoder.model)
        parts = self.encoder, self.data, self.judge, self.retention, self.options, self.folder, self.history
        end = Conclusion(*parts, self._config)
        more = end.reach(tell, advises=advises) | {
            "cross_validation": cross_validation and asdict(cross_validation)
        }
        self.judged, self._config = end.judged, end.config
        config = self._write_model({name: result.scores for name, result in end.judged.items()}, more)
        end.draw()
        return self.folder.end(config)

    def _write_model(
        self, metrics: dict[str, dict[str, float]], more: dict[str, Any] | None = None
    ) -> ModelConfig:
        """Write the model as it stands: it is usable from the first validation on."""
        history = self.history
        plain = {"validation, plain CLIP": history.plain} if history.plain else {}
        taken = {"steps": self.step_number, "best_step": history.best_step}
        training = self.record | taken | {"seconds": round(history.seconds, 1)} | (more or {})
        config = replace(self._config, extra={"training": training, "metrics": plain | metrics})
        model = None if self.trainer is None else self.encoder.model
        self.folder.write_model(config, model, self.encoder.files)
        return config

    def save(self) -> None:
        """Save a state from which the run can be resumed."""
        if distributed.rank() == 0 and self.trainer is not None:
            values = {"history": asdict(self.history), "fingerprint": self.fingerprint}
            self.trainer.save_state(self.folder.state_file, values)

    def _restore(self) -> None:
        state = State.read(self.folder.state_file)
        self.history = _same_run(state, self.fingerprint, self.folder)
        if self.trainer is not None:
            self.trainer.restore(state)


def _record(
    encoder: Encoder, data: Dataset, options: FinetuneOptions, schedule: Schedule, chosen: dict[str, Any]
) -> dict[str, Any]:
    """Return what the model's config says of its training, beside its origin."""
    stop = encoder.files.config.stop
    modes = {} if stop is None else {mode: getattr(stop, mode) for mode in MODES}
    length = asdict(schedule) | {"steps": schedule.steps, "processes": distributed.world_size()}
    return {
        "data": describe(data),
        "settings": asdict(options) | length | chosen | modes,
        "provenance": {k: v for k, v in encoder.describe().items() if k not in NOT_KEPT},
    }


def _foundations(run: FinetuneRun) -> dict[str, str]:
    """Return what, beside the settings, must be the same for a run to be resumed."""
    encoder, rows = run.encoder, run.data.rows
    clips = to_json([run.reader.content_of(r.clip for r in rows), [(r.text, r.split) for r in rows]])
    look = encoder.framing
    how = f"{look.size} px, {look.fit}, {look.interpolation}, {encoder.files.config.sampling}"
    return {
        "the frames": f"{encoder.frames} of {how}",
        "the clips": hashlib.sha256(clips.encode()).hexdigest()[:12],
        "the model to start from": run.origin["base_weights"][:12],
        "the precision": encoder.precision,
    }


def _same_run(state: State, now: dict[str, Any], folder: RunFolder) -> History:
    """Return the history of a saved state; raises CheckpointError, or UsageError for other settings."""
    try:
        then, history = dict(state.values["fingerprint"]), History(**state.values["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder.state_file}: damaged; start over with --force") from error
    if "the clips" not in then:
        problem = "was begun by an earlier version, which did not note its clips"
        raise UsageError(f"{folder.path}: {problem}; use --force to start over")
    then.setdefault("the precision", now["the precision"])  # earlier versions did not note it
    require_same_settings(folder.path, then, now)
    return history


def _blank(encoder: Encoder, data: Dataset, template: str) -> ModelConfig:
    """Return the config of the model to make, which says nothing of its making yet."""
    by_class = data.task == "classification"
    return replace(
        encoder.files.config,
        weights=own_backbone(encoder.files.config.weights),
        frames=encoder.frames,
        labels=data.labels if by_class else None,
        template=template if by_class else None,
        head=None,
        backbone_sha256=known_hash(encoder.files.backbone),
    )


def _unless_named(given: bool | None, words: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Return what the user said, else whether no text speaks of what would be changed."""
    return given if given is not None else not any(words.search(JOINED.sub(" ", text)) for text in texts)
