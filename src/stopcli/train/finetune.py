"""Adapt a model to labelled clips: from a table of videos to a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.data.background import with_background
from stopcli.data.labels import prompts_for
from stopcli.data.seen import Seen, read_seen
from stopcli.data.split import divided_units, few_shots, folds_of, with_validation
from stopcli.data.table import Dataset, read_dataset
from stopcli.errors import CannotWrite, FileExists, UsageError
from stopcli.fileio import alone, file_hash, is_file
from stopcli.model.checkpoint import PARTS, keep_prompts
from stopcli.model.config import StopConfig, read_config
from stopcli.model.files import ModelFiles
from stopcli.results.training import CrossValidation, Finetuned, TrainingPlan
from stopcli.runtime.head import alike
from stopcli.settings import cache_folder
from stopcli.train import distributed
from stopcli.train.batches import ClipReader
from stopcli.train.dataset import check_table, check_videos
from stopcli.train.options import FinetuneOptions, TrainingCallback
from stopcli.train.run import MODES, FinetuneRun
from stopcli.train.run_folder import FOLDS, RunFolder
from stopcli.train.scoring.folds import cross_validate
from stopcli.video.cache import FrameCache
from stopcli.video.workers.pool import read_facts

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder, EncoderOptions


def finetune(
    resolve_model: Callable[[], ModelFiles],
    source: Path,
    output: Path,
    callback: TrainingCallback,
    options: FinetuneOptions | None = None,
    encoder_options: EncoderOptions | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    skip_bad: bool = False,
    command: str | None = None,
) -> Finetuned:
    """Train STOP prompts on labelled clips (see `stopcli.data.table`) and write a model folder.

    ``resolve_model`` returns the model to start from, whose prompts are trained further where it has such; it
    is called only when the table was read and found good, because it may download. ``force`` starts over in
    a folder that holds a run, which is removed when training begins. ``command`` is kept with the model.

    Raises:
        FileExists: ``output`` holds something, and neither ``resume`` nor ``force`` was given.
        BadDataset: the data has faults: all of the table's, by row; then all of the videos'.
        OutputBusy: another process is training into ``output``.
        TrainingDiverged: the loss became infinite; the best weights so far are kept.
    """
    options = options or FinetuneOptions()
    folder = RunFolder(output)
    folder.check(resume=resume, force=force)
    if resume and folder.finished:
        _require_same_table(source, output)
        callback.noted(f"{output}: the run was finished already, and stays as it is; --force trains again")
        return folder.result(read_config(output))
    table = _checked_table(source, callback, options, skip_bad=skip_bad)
    with alone(output) if distributed.rank() == 0 else nullcontext():
        folder.check(resume=resume, force=force)  # again: another process may have been faster
        base = resolve_model()
        if base.folder is not None and base.folder.resolve() == output.resolve():
            raise UsageError(f"{output}: is the model to start from, and would be lost; choose another -o")
        workshop = _Workshop(base, options, encoder_options, callback, command)
        begun = resume and folder.state_file.exists()
        data, measured = workshop.read(table, skip_bad=skip_bad, begun=begun), None
        if options.folds is not None:
            if not resume:
                shutil.rmtree(output / FOLDS, ignore_errors=True)
            measured = workshop.cross_validate(data, output / FOLDS, options.folds)
        return workshop.train(workshop.prepare(data, folder), resume=resume, cross_validation=measured)


def plan(
    resolve_model: Callable[[], ModelFiles],
    source: Path,
    output: Path,
    callback: TrainingCallback,
    options: FinetuneOptions | None = None,
    encoder_options: EncoderOptions | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    skip_bad: bool = False,
) -> TrainingPlan:
    """Do all of `finetune` that comes before training, and write nothing: say what would be done.

    Arguments and errors are those of `finetune`; what keeps the ``output`` from being written is noted only.
    The clips are read and kept in the cache.
    """
    options = options or FinetuneOptions()
    folder = RunFolder(output)
    try:
        folder.check(resume=resume, force=force)
    except (FileExists, CannotWrite) as error:
        callback.noted(str(error))
    table = _checked_table(source, callback, options, skip_bad=skip_bad)
    workshop = _Workshop(resolve_model(), options, encoder_options, callback, None)
    data = workshop.read(table, skip_bad=skip_bad)
    runs = 1 + (0 if options.folds is None else len(folds_of(data, options.folds, options.seed)))
    found = workshop.prepare(data, folder).plan(measure=True)
    return replace(found, seconds=found.seconds * runs)


def _checked_table(
    source: Path, callback: TrainingCallback, options: FinetuneOptions, *, skip_bad: bool
) -> Dataset:
    table = read_dataset(source)
    if options.folds is not None and table.task != "classification":
        raise UsageError("--folds needs labels: of captions, how many there are decides the score")
    if options.folds is not None and distributed.world_size() > 1:
        raise UsageError("--folds runs in one process; leave it out, or leave out torchrun")
    if options.epochs == 0 and distributed.world_size() > 1:
        raise UsageError("--epochs 0 runs in one process; leave out torchrun")
    if table.task == "retrieval":
        _check_for_captions(options)
    for note in (*table.notes, *divided_units(table.rows)):
        callback.noted(note)
    return check_table(table, callback, skip_bad=skip_bad)


def _require_same_table(source: Path, output: Path) -> None:
    """Raise UsageError if a table is another one than that of a run that is finished."""
    made: object = read_config(output).extra
    for name in ("training", "data"):
        made = made.get(name) if isinstance(made, dict) else None
    known = made.get("table_sha256") if isinstance(made, dict) else None
    if known is not None and known != (file_hash(source) if is_file(source) else None):
        problem = (
            f"{output}: is finished, and was made from another table, or from {source.name} as it was then"
        )
        way = f"with more labels, start from it: --model {output} and another -o; --force starts over here"
        raise UsageError(f"{problem}; {way}")


def _check_for_captions(options: FinetuneOptions) -> None:
    """Raise UsageError for what is learned of labels only."""
    given = {"--epochs 0": options.epochs == 0, "--shots": options.shots, "--head": options.head != "auto"}
    if wrong := next((name for name, value in given.items() if value), None):
        raise UsageError(f"{wrong} needs labels; this table has captions")


class _Workshop:
    """Where models are made from one base: the real one, and those of a cross-validation."""

    def __init__(
        self,
        base: ModelFiles,
        options: FinetuneOptions,
        encoder_options: EncoderOptions | None,
        callback: TrainingCallback,
        command: str | None,
    ) -> None:
        self._base, self._options, self._where, self._callback = base, options, encoder_options, callback
        self._encoder: Encoder | None = load_trainable(base, options, encoder_options, callback)
        self._reader = ClipReader(
            FrameCache(cache_folder() / "frames"), self._encoder.frames, self._encoder.framing
        )
        origin: dict[str, str | None] = {
            "base": base.name,
            "origin": base.origin,
            "base_weights": base.weights_hash(),
        }
        self._origin = origin | {"command": command}
        self._seen = Seen() if base.folder is None else read_seen(base.folder)

    def read(self, table: Dataset, *, skip_bad: bool, begun: bool = False) -> Dataset:
        """Read the clips into the cache; return the rows of those that can be.

        A run that was ``begun`` goes on as it is.
        """
        if self._options.background:
            table = with_background(table, self._options.seed, _span_of)
            self._callback.noted(table.notes[-1])
        data = check_videos(table, self._reader, self._callback, skip_bad=skip_bad)
        if not begun:
            self._spare_prompts(data)
        return data

    def _spare_prompts(self, data: Dataset) -> None:
        """Train no prompts where that would gain nothing: all labels read the same. ``epochs`` insists."""
        options, encoder = self._options, self._encoder
        if data.task != "classification" or options.epochs is not None or options.head == "text":
            return
        if encoder is None or distributed.world_size() > 1:
            return
        prompts = prompts_for(data.labels, encoder.files.config, options.template)
        groups = alike(data.labels, encoder.encode_texts(prompts))
        if len(data.labels) > 1 and groups == [data.labels]:
            self._options, self._encoder = replace(options, epochs=0), None
            why = "all labels read the same to this model, so that no prompts are trained"
            self._callback.noted(f"{why}: labels are learnt from the clips alone (--epochs 10 trains them)")

    def prepare(self, data: Dataset, folder: RunFolder, *, fold: bool = False) -> FinetuneRun:
        """Return a run from the base as it is: each run has an encoder of its own.

        A ``fold`` that trains no prompts needs no validation clips: it judges each clip by all others.
        """
        options = self._options
        encoder = self._encoder or load_trainable(self._base, options, self._where, self._callback)
        self._encoder = None
        known = {row.number for row in data.rows if self._seen.has(row.clip)}
        data = self._without_known(data, known)
        if not (fold and options.epochs == 0):
            data = with_validation(data, options.seed, known)
        if options.shots is not None and data.task == "classification":
            data = few_shots(data, options.shots, options.seed)
        return FinetuneRun(encoder, data, self._reader, folder, options, self._origin, self._seen)

    def _without_known(self, data: Dataset, known: set[int]) -> Dataset:
        """Leave out what would judge the model by clips that its base was trained on."""
        judges = {row.number for row in data.rows if row.split in ("val", "test") and row.number in known}
        if judges:
            what = "1 clip" if len(judges) == 1 else f"{len(judges)} clips"
            note = f"{what} for validation or test left out: {self._base.name} was trained on what they show"
            self._callback.noted(note)
        return replace(data, rows=tuple(row for row in data.rows if row.number not in judges))

    def cross_validate(self, data: Dataset, folder: Path, count: int) -> CrossValidation:
        """Score the way that the model will be made, on all clips that are not for the test.

        Raises UsageError: the base was trained on some of them.
        """
        if known := sum(self._seen.has(row.clip) for row in data.rows if row.split != "test"):
            found = f"{self._base.name} was trained on {known} of these clips, and cannot be judged by them"
            raise UsageError(f"{found}; start from the model that it was made from, or leave out --folds")

        def train(run: FinetuneRun, number: int) -> None:
            self._callback.noted(f"fold {number} of {count}: {len(run.test)} clips are judged")
            self.train(run, resume=True, advises=False)

        options = self._options
        prepare = partial(self.prepare, fold=True)
        return cross_validate(
            data, folder, count, options.seed, lambda d, path: prepare(d, RunFolder(path)), train
        )

    def train(
        self,
        run: FinetuneRun,
        *,
        resume: bool,
        advises: bool = True,
        cross_validation: CrossValidation | None = None,
    ) -> Finetuned:
        """Bring a run to its end."""
        if advises:
            _note_alike(run, self._callback)
        fit(run, self._callback, resume=resume)
        return run.finish(self._callback.noted, advises=advises, cross_validation=cross_validation)


def _span_of(path: Path) -> tuple[float, float]:
    facts = read_facts(path)
    return facts.offset, facts.end


def _note_alike(run: FinetuneRun, callback: TrainingCallback) -> None:
    """Say before a training which labels its prompts cannot learn to tell apart."""
    if not run.by_class or run.trainer is None:
        return
    if groups := alike(list(run.sentences), run.judge.texts(run.encoder)):
        names = " and ".join(map(repr, groups[0][:2]))
        others = sum(map(len, groups)) - 2
        more = f", as {others} more do to others" if others else ""
        way = "give them other names" if run.options.head == "text" else "--epochs 0 learns from clips alone"
        callback.noted(
            f"{names} read the same to this model{more}, and prompts cannot tell them apart; {way}"
        )


def fit(run: FinetuneRun, callback: TrainingCallback, *, resume: bool) -> None:
    """Train a run to its last step; what was learnt is saved where the user interrupts it."""
    callback.plan(run.begin(resume=resume))
    try:
        with closing(run.fit()) as steps:
            for report in steps:
                callback.progress(report)
    except KeyboardInterrupt:
        run.save()
        raise


def load_trainable(
    base: ModelFiles,
    options: FinetuneOptions,
    encoder_options: EncoderOptions | None,
    callback: TrainingCallback,
) -> Encoder:
    """Load the model to train. Where other modes are asked for, keep those of its prompts that still fit.

    What it learned about its own labels from clips is left out: the new labels are others.
    """
    import torch

    from stopcli.runtime.encoder import Encoder, EncoderOptions

    if base.focus:
        raise UsageError(
            f"{base.name}: has a focus, which is no part of a model; load it without, and adapt that"
        )
    if options.epochs == 0:  # no prompts are trained: the model stays as it is
        return Encoder(base.without_head(), encoder_options or EncoderOptions())
    base.require_blocks("finetune")
    before = base.config.stop
    asked = {mode: value for mode in MODES if (value := getattr(options, mode)) is not None}
    stop = replace(before or StopConfig(), **asked)
    if stop.spatial == stop.temporal == "off":
        raise UsageError(f"--spatial off and --temporal off leave nothing to train of {base.name}")
    base, folder = base.without_head(), base.folder
    if stop != before:
        base = replace(base, config=replace(base.config, stop=stop), folder=None)
    where = encoder_options or EncoderOptions()
    if distributed.world_size() > 1 and where.device == "auto" and torch.cuda.is_available():
        where = replace(where, device=f"cuda:{distributed.local_rank()}")
    torch.manual_seed(options.seed)
    encoder = Encoder(base, where, trainable=True)
    if before is not None and folder is not None and stop != before:
        kept = keep_prompts(encoder.model, before, folder)
        there = [kind for kind in PARTS if getattr(stop, kind) != "off"]
        told = [f"{kind} prompts {'were kept' if kind in kept else 'start from scratch'}" for kind in there]
        callback.noted(f"{base.name}: {', '.join(told)}")
        if set(there) <= set(kept):  # trained further: `Retention` can go back to them
            encoder.files = replace(encoder.files, folder=folder)
    distributed.start(encoder.device)
    return encoder
