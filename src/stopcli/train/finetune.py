"""Adapt a model to labelled clips: from a table of videos to a model folder."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stopcli.data.labels import TEMPLATE
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import Dataset, Row, check_classes, decode_problem, read_dataset, unique_clips
from stopcli.errors import BadDataset, InputError, UsageError
from stopcli.eval.metrics import accuracy_scores, confusion, ranks_of
from stopcli.eval.retrieval import caption_scores
from stopcli.model.checkpoint import load_prompts
from stopcli.model.config import ModelConfig, StopConfig
from stopcli.output import figures as plots
from stopcli.results import Finetuned, StepReport, TrainingPlan
from stopcli.settings import cache_folder
from stopcli.train import distributed as parallel
from stopcli.train.run_folder import CONFUSION_FILE, CURVE_FILE, RunFolder
from stopcli.train.trainer import Batches, Schedule, Trainer, clip_frames
from stopcli.video.cache import FrameCache
from stopcli.video.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.model.config import Mode
    from stopcli.model.files import ModelFiles
    from stopcli.runtime.encoder import Encoder, EncoderOptions

SAVE_EVERY = 60.0  # seconds between states; one is saved with each validation too
LEAST_STEPS, LEAST_EPOCHS, MOST_EPOCHS, VALIDATIONS = 300, 5, 300, 25
BATCH = {"classification": 32, "retrieval": 128}
HANDED = re.compile(r"\b(left|right|(counter-?|anti-?)?clockwise)", re.IGNORECASE)


@dataclass(frozen=True)
class FinetuneOptions:
    """How to train; None takes what suits the data."""

    epochs: int | None = None
    lr: float = 1e-3
    batch_size: int | None = None
    """Clips a step, over all processes and pieces."""
    shots: int | None = None
    """Train on at most so many clips a class."""
    seed: int = 0
    spatial: Mode | None = None
    temporal: Mode | None = None
    """dynamic, static or off; None is as the model has it."""
    flip: bool | None = None
    """Mirror half of the clips; None does so unless a text speaks of left or right."""
    template: str = TEMPLATE
    """What a label becomes before it is embedded."""


class TrainingCallback(Protocol):
    """Who is told how it goes."""

    def decoding(self, total: int) -> None:
        """So many clips will be read."""

    def decoded(self, path: Path) -> None:
        """One is read."""

    def skipped(self, problem: str) -> None:
        """A row is left out."""

    def plan(self, plan: TrainingPlan) -> None:
        """Training is about to begin."""

    def progress(self, progress: StepReport) -> None:
        """A step was taken."""


@dataclass
class _Run:
    """What a run has come to: saved with its state."""

    best: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    seconds: float = 0.0
    plain: dict[str, float] | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


def finetune(
    files: ModelFiles,
    source: Path,
    output: Path,
    watcher: TrainingCallback,
    options: FinetuneOptions | None = None,
    encoder_options: EncoderOptions | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    skip_bad: bool = False,
    command: str | None = None,
) -> Finetuned:
    """Train STOP prompts on labelled clips and write a model folder.

    Args:
        files: the model to start from; its prompts go on training where it has such prompts.
        source: a CSV, a JSONL, or a folder of class folders: see `stopcli.data`.
        output: the model folder to write.
        watcher: who is told how it goes.
        options: how to train.
        encoder_options: where to compute.
        resume: go on where the run in ``output`` was interrupted.
        force: begin anew in a folder that holds a run.
        skip_bad: leave rows with faults out instead of refusing them.
        command: the command line, kept with the model.

    Raises:
        FileExists: ``output`` holds something, and neither ``resume`` nor ``force`` was given.
        BadDataset: the data has faults: all of them, by row.
        TrainingDiverged: the loss became infinite; the best weights so far are kept.
    """
    options = options or FinetuneOptions()
    if "{}" not in options.template:
        raise UsageError(f"--template must hold {{}} where the label goes, got {options.template!r}")
    folder = RunFolder(output)
    folder.prepare(resume=resume, force=force)
    data = read_dataset(source)
    started = _start(files, options)
    encoder = _encoder(started, encoder_options, options.seed)
    cache = FrameCache(cache_folder() / "frames")
    data = _readable(data, encoder, cache, watcher)
    if skip_bad:
        for problem in data.problems:
            watcher.skipped(str(problem))
    data.check(skip_bad=skip_bad)
    data = with_validation(data, options.seed)
    if options.shots is not None and data.task == "classification":
        data = few_shots(data, options.shots, options.seed)
    job = FinetuneRun(files, started, data, folder, encoder, cache, options, command)
    if resume and folder.finished:
        return job.result(folder.metrics())
    return job.run(watcher, resume=resume)


def _start(files: ModelFiles, options: FinetuneOptions) -> ModelFiles:
    """Return the model to train: with its own prompts, or with new ones of the modes asked for."""
    base = files.config.stop or StopConfig()
    wanted = replace(
        base, spatial=options.spatial or base.spatial, temporal=options.temporal or base.temporal
    )
    if wanted.spatial == "off" and wanted.temporal == "off":
        raise UsageError("--spatial off and --temporal off leave nothing to train")
    if wanted == files.config.stop:
        return files
    return replace(files, config=replace(files.config, stop=wanted), folder=None)


def _encoder(files: ModelFiles, options: EncoderOptions | None, seed: int) -> Encoder:
    import torch

    from stopcli.runtime.encoder import Encoder, EncoderOptions

    options = options or EncoderOptions()
    if parallel.world_size() > 1 and options.device == "auto" and torch.cuda.is_available():
        options = replace(options, device=f"cuda:{parallel.local_rank()}")
    torch.manual_seed(seed)
    encoder = Encoder(files, options, trainable=True)
    parallel.start(encoder.device)
    return encoder


def _readable(data: Dataset, encoder: Encoder, cache: FrameCache, watcher: TrainingCallback) -> Dataset:
    """Decode every clip once, into the cache; rows whose video cannot be read become problems."""
    clips = unique_clips(data.rows)
    mine = clips[parallel.rank() :: parallel.world_size()]
    watcher.decoding(len(mine))

    def read(clip: tuple[Path, float | None, float | None]) -> list[None]:
        cache.read(clip[0], encoder.frames, encoder.size, clip[1], clip[2])
        return [None]

    faults: dict[object, InputError] = {}
    for clip, item in prefetch(read, mine):
        if isinstance(item, InputError):
            faults[clip] = item
        watcher.decoded(clip[0])
    for others in parallel.gather_objects(faults):
        faults |= others
    bad = [r for r in data.rows if r.clip in faults]
    return check_classes(data.without(bad, [decode_problem(r, faults[r.clip]) for r in bad]))


class FinetuneRun:
    """One run: its data, its model, its folder."""

    def __init__(
        self, base: ModelFiles, files: ModelFiles, data: Dataset, folder: RunFolder, encoder: Encoder,
        cache: FrameCache, options: FinetuneOptions, command: str | None,
    ) -> None:  # fmt: skip
        self.base, self.files, self.data, self.folder = base, files, data, folder
        self.encoder, self.cache, self.options, self.command = encoder, cache, options, command
        self.by_class = data.task == "classification"
        self.labels = data.labels if self.by_class else None
        self.training, self.validation, self.test = (data.of(s) for s in ("train", "val", "test"))
        if not self.training:
            raise BadDataset(f"{data.source}: no row is for training")
        texts = dict.fromkeys(self.labels or [r.text for r in self.training])
        self.texts = {t: options.template.replace("{}", t) if self.by_class else t for t in texts}
        self.flip = options.flip if options.flip is not None else not any(map(HANDED.search, texts))
        self.schedule = self._schedule()
        self.state = _Run()

    def _schedule(self) -> Schedule:
        options = self.options
        count = len(self.training) if self.by_class else len(unique_clips(self.training))
        size = min(options.batch_size or BATCH[self.data.task], count)
        if size < parallel.world_size():
            raise UsageError(f"a batch of {size} clips cannot be shared by {parallel.world_size()} processes")
        per_epoch = -(-count // size)
        if not self.by_class and per_epoch > 1 and count % size < 2:
            per_epoch = count // size  # a batch of one teaches nothing by contrast
        if count - (per_epoch - 1) * size < parallel.world_size():
            per_epoch -= 1
        epochs = options.epochs or max(LEAST_EPOCHS, min(MOST_EPOCHS, -(-LEAST_STEPS // per_epoch)))
        return Schedule(epochs, per_epoch, size, options.lr, options.seed)

    # ------------------------------------------------------------------------------- the run

    def run(self, watcher: TrainingCallback, *, resume: bool) -> Finetuned:
        """Train, keeping the best weights, and write everything."""
        trainer = Trainer(self.encoder, self.schedule, self.texts, by_class=self.by_class)
        if resume and self.folder.interrupted:
            self._load(trainer)
        else:
            began = time.monotonic()
            self.state.plain = self._score(self.encoder.without_prompts(), self.validation)[0]
            self._pace = (time.monotonic() - began) / max(1, len(unique_clips(self.validation)))
        watcher.plan(self._plan(trainer.step_number))
        self.folder.begin(trainer.step_number)
        self._train(trainer, watcher)
        return self._finish()

    def _train(self, trainer: Trainer, watcher: TrainingCallback) -> None:
        batches = Batches(
            self.training, self.schedule, self.cache, self.encoder, by_class=self.by_class, flip=self.flip
        )
        between = max(1, self.schedule.epochs // VALIDATIONS) * self.schedule.steps_per_epoch
        state, began = self.state, time.monotonic() - self.state.seconds
        saved = time.monotonic()
        batch = batches.ahead(trainer.step_number)
        try:
            for rows, pixels in batch:
                loss = trainer.step(rows, pixels)
                step = trainer.step_number
                state.seconds = time.monotonic() - began
                state.losses.append((step, loss))
                score = None
                self.folder.log(
                    {"step": step, "loss": loss, "lr": self.schedule.rate(step - 1), "seconds": state.seconds}
                )
                if step % between == 0 or step == self.schedule.steps:
                    score = self._validate(trainer)
                if score is not None or time.monotonic() - saved > SAVE_EVERY:
                    self._save(trainer)
                    saved = time.monotonic()
                epoch = (step - 1) // self.schedule.steps_per_epoch + 1
                watcher.progress(StepReport(step, self.schedule.steps, epoch, loss, score, state.best))
        except KeyboardInterrupt:
            self._save(trainer)
            raise
        finally:
            batch.close()

    def _validate(self, trainer: Trainer) -> float | None:
        """Score the weights on the validation clips; keep them where they are the best so far."""
        state = self.state
        scores, loss = self._score(self.encoder, self.validation)
        score = scores[self.metric] if scores else None
        if scores and score is not None:
            state.scores.append((trainer.step_number, score))
            self.folder.log({"step": trainer.step_number, "validation": scores, "validation_loss": loss})
        better = score is None or state.best is None or (score, -loss) >= (state.best, -state.best_loss)
        if better:
            state.best, state.best_loss, state.best_step = score, loss, trainer.step_number
            self._write_model(self._metrics())
        return score

    @property
    def metric(self) -> str:
        """The score that decides which weights are best."""
        return "top-1" if self.by_class else "R@1"

    def _score(self, encoder: Encoder, rows: Sequence[Row]) -> tuple[dict[str, float], float]:
        """Return scores (percent) and loss of a model on clips; nothing where there are none."""
        if not rows:
            return {}, 0.0
        vectors = self._vectors(encoder, rows)
        if not self.by_class:
            return caption_scores(encoder, vectors, rows)
        texts = encoder.encode_texts([self.texts[label] for label in self.labels or ()])
        logits = encoder.logit_scale * vectors @ texts.T
        truth = self._truth(rows)
        shifted = logits - logits.max(1, keepdims=True)
        loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]
        scores = accuracy_scores(ranks_of(logits, truth))
        return ({"top-1": scores["top-1"]} if len(texts) <= 5 else scores), float(loss.mean())

    def _truth(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        places = {label: i for i, label in enumerate(self.labels or ())}
        return np.array([places[r.text] for r in rows])

    def _vectors(self, encoder: Encoder, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Embed the rows' clips (N,E), each process a share; a clip of several rows is embedded once."""
        encoder.model.train(False)
        firsts = {r.clip: r for r in reversed(rows)}
        clips = [firsts[c] for c in unique_clips(rows)]
        mine = clips[parallel.rank() :: parallel.world_size()]
        size = encoder.batch_size
        done = [
            encoder.encode_pixels(clip_frames(self.cache, mine[i : i + size], encoder.frames, encoder.size))
            for i in range(0, len(mine), size)
        ]
        found: dict[object, NDArray[np.float32]] = {}
        for clip_vectors in parallel.gather_objects(
            dict(zip((r.clip for r in mine), np.concatenate(done) if done else [], strict=True))
        ):
            found |= clip_vectors
        return np.stack([found[r.clip] for r in rows])

    # ------------------------------------------------------------------------------- the files

    def _plan(self, done: int) -> TrainingPlan:
        trainable, frozen = self.encoder.model.count_parameters()
        pace = getattr(self, "_pace", 0.0)
        views = (self.schedule.steps - done) * self.schedule.batch_size
        return TrainingPlan(
            task=self.data.task,
            clips={s: len(unique_clips(self.data.of(s))) for s in ("train", "val", "test")},
            classes=len(self.labels) if self.labels else None,
            trainable=trainable,
            frozen=frozen,
            device=self.encoder.describe()["device"],
            precision=self.encoder.precision,
            epochs=self.schedule.epochs,
            steps=self.schedule.steps,
            batch_size=self.schedule.batch_size,
            flip=self.flip,
            metric=self.metric,
            plain=(self.state.plain or {}).get(self.metric),
            resumed=done,
            seconds=pace * (3 * views + VALIDATIONS * len(self.validation)) / parallel.world_size(),
        )

    def _settings(self) -> dict[str, Any]:
        told = asdict(self.options) | {
            "epochs": self.schedule.epochs, "batch_size": self.schedule.batch_size, "flip": self.flip,
            "steps": self.schedule.steps, "processes": parallel.world_size(),
        }  # fmt: skip
        config = self.files.config.stop
        return told | {"spatial": config.spatial, "temporal": config.temporal} if config else told

    def _data_told(self) -> dict[str, Any]:
        rows = json.dumps([[str(r.path.name), r.text, r.start, r.end, r.split] for r in self.data.rows])
        counts = {f"{s} clips": len(unique_clips(self.data.of(s))) for s in ("train", "val", "test")}
        return {
            "source": self.data.source.name, "task": self.data.task, **counts,
            "rows left out": len(self.data.problems), "sha256": hashlib.sha256(rows.encode()).hexdigest(),
        }  # fmt: skip

    def _config(self, metrics: dict[str, Any]) -> ModelConfig:
        config = self.files.config
        training = {
            "base": self.base.name, "origin": self.base.origin, "data": self._data_told(),
            "settings": self._settings(),
            "made": {k: v for k, v in self.encoder.describe().items() if k not in ("model", "weights")},
            "base_weights": self.base.weights_hash(), "command": self.command,
            "best_step": self.state.best_step,
        }  # fmt: skip
        extra: dict[str, Any] = {"training": training, "metrics": metrics}
        template = self.options.template if self.labels else None
        return replace(config, frames=self.encoder.frames, labels=self.labels, template=template, extra=extra)

    def _write_model(self, metrics: dict[str, Any]) -> None:
        """Write the model as it stands: usable from the first validation on."""
        self.folder.write_model(self._config(metrics), self.encoder.model, self.files.backbone)

    def _metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.state.plain:
            found["validation, plain CLIP"] = self.state.plain
        if self.state.best is not None:
            found["validation"] = {self.metric: self.state.best}
        return found

    def _save(self, trainer: Trainer) -> None:
        if parallel.rank() == 0:
            told = asdict(self.state) | {"settings": self._settings(), "data": self._data_told()["sha256"]}
            trainer.save_state(self.folder.path, told)

    def _load(self, trainer: Trainer) -> None:
        told = trainer.load_state(self.folder.path)
        now = json.loads(json.dumps(self._settings()))
        then, data = told.pop("settings"), told.pop("data")
        changed = [f"{k} was {then.get(k)!r}, now {now[k]!r}" for k in now if now[k] != then.get(k)]
        if data != self._data_told()["sha256"]:
            changed.append("the data set has changed")
        if changed:
            raise UsageError(
                f"{self.folder.path}: cannot resume with other settings: {'; '.join(changed)}; "
                "use --force to begin anew"
            )
        self.state = _Run(**told)

    def _finish(self) -> Finetuned:
        """Score the best weights, draw the pictures, write the card, drop the state."""
        if parallel.rank() == 0:
            load_prompts(self.encoder.model, self.folder.path)
        if parallel.world_size() > 1:
            parallel.broadcast(self.encoder.model.prompts.parameters())
        metrics = self._metrics()
        for name, rows in (("validation", self.validation), ("test", self.test)):
            scores = self._score(self.encoder, rows)[0]
            if scores:
                metrics[name] = scores
        if self.test:
            metrics["test, plain CLIP"] = self._score(self.encoder.without_prompts(), self.test)[0]
        shown = self.test or self.validation
        vectors = self._vectors(self.encoder, shown) if shown and self.by_class else None
        self._write_model(metrics)
        if parallel.rank() == 0:
            told = {"metric": self.metric, "plain": (self.state.plain or {}).get(self.metric)}
            plots.curve(self.folder.path / CURVE_FILE, self.state.losses, self.state.scores, told)
            if vectors is not None and self.labels:
                texts = self.encoder.encode_texts([self.texts[label] for label in self.labels])
                counts = confusion(self._truth(shown), (vectors @ texts.T).argmax(1), len(self.labels))
                which = "test" if self.test else "validation"
                plots.confusion(
                    self.folder.path / CONFUSION_FILE, counts, self.labels, f"{len(shown)} {which} clips"
                )
        self.folder.end(self._config(metrics))
        return self.result(metrics)

    def result(self, metrics: dict[str, Any]) -> Finetuned:
        """Return what a run with these scores came to."""

        def of(name: str) -> float | None:
            value = metrics.get(name, {}).get(self.metric)
            return None if value is None else float(value)

        return Finetuned(
            path=str(self.folder.path), task=self.data.task, metric=self.metric,
            validation=of("validation"), validation_plain=of("validation, plain CLIP"),
            test=of("test"), test_plain=of("test, plain CLIP"), steps=self.schedule.steps,
            seconds=round(self.state.seconds, 1),
        )  # fmt: skip
