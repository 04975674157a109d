"""Adapt a model to labelled clips: from a table of videos to a model folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.data.seen import Seen, read_seen
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import read_dataset
from stopcli.errors import UsageError
from stopcli.fileio import alone
from stopcli.model.checkpoint import PARTS, keep_prompts
from stopcli.model.config import StopConfig, read_config
from stopcli.model.files import ModelFiles
from stopcli.results import Finetuned
from stopcli.settings import cache_folder
from stopcli.train import distributed
from stopcli.train.batches import ClipReader
from stopcli.train.dataset import check_table, check_videos
from stopcli.train.options import FinetuneOptions, TrainingCallback
from stopcli.train.run import MODES, FinetuneRun
from stopcli.train.run_folder import RunFolder
from stopcli.video.cache import FrameCache

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
        return folder.result(read_config(output))
    cache = FrameCache(cache_folder() / "frames")
    table = read_dataset(source)
    for note in table.notes:
        callback.noted(note)
    data = check_table(table, callback, skip_bad=skip_bad)
    with alone(output) if distributed.rank() == 0 else nullcontext():
        folder.check(resume=resume, force=force)  # again: another process may have been faster
        base = resolve_model()
        if base.folder is not None and base.folder.resolve() == output.resolve():
            raise UsageError(f"{output}: is the model to start from, and would be lost; choose another -o")
        encoder = _load(base, options, encoder_options, callback)
        reader = ClipReader(cache, encoder.frames, encoder.framing)
        data = with_validation(check_videos(data, reader, callback, skip_bad=skip_bad), options.seed)
        if options.shots is not None and data.task == "classification":
            data = few_shots(data, options.shots, options.seed)
        origin = {"base": base.name, "origin": base.origin, "base_weights": base.weights_hash()}
        seen = Seen() if base.folder is None else read_seen(base.folder)
        run = FinetuneRun(encoder, data, reader, folder, options, origin | {"command": command}, seen)
        return _train(run, callback, resume=resume)


def _train(run: FinetuneRun, callback: TrainingCallback, *, resume: bool) -> Finetuned:
    callback.plan(run.begin(resume=resume))
    try:
        with closing(run.fit()) as steps:
            for report in steps:
                callback.progress(report)
    except KeyboardInterrupt:
        run.save()
        raise
    return run.finish()


def _load(
    base: ModelFiles,
    options: FinetuneOptions,
    encoder_options: EncoderOptions | None,
    callback: TrainingCallback,
) -> Encoder:
    """Load the model to train. Where other modes are asked for, keep those of its prompts that still fit."""
    import torch

    from stopcli.runtime.encoder import Encoder, EncoderOptions

    if options.epochs == 0:  # no prompts are trained: the model stays as it is
        return Encoder(base, encoder_options or EncoderOptions())
    base.require_blocks("finetune")
    before = base.config.stop
    asked = {mode: value for mode in MODES if (value := getattr(options, mode)) is not None}
    stop = replace(before or StopConfig(), **asked)
    if stop.spatial == stop.temporal == "off":
        raise UsageError(f"--spatial off and --temporal off leave nothing to train of {base.name}")
    folder = base.folder
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
    distributed.start(encoder.device)
    return encoder
