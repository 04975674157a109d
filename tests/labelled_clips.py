"""Labelled clips to train on, and a training that a test can follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from conftest import write_video
from stopcli.data.table import read_dataset
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.train.batches import Batches, ClipReader, Schedule
from stopcli.train.finetune import finetune
from stopcli.train.options import FinetuneOptions
from stopcli.train.trainer import Trainer
from stopcli.video.cache import FrameCache

CPU = EncoderOptions("cpu", "fp32")


def sliding(direction):
    """Draw a bar that slides over a grey ground."""

    def draw(i, width, height):
        image = np.full((height, width, 3), 90, np.uint8)
        at = (i if direction > 0 else 11 - i) * (width - 16) // 12
        image[:, at : at + 16] = (230, 230, 40)
        return image

    return draw


def write_labelled(folder: Path) -> Path:
    """Write sixteen clips of two labels that no single frame tells apart, and their table."""
    lines = ["path,label,split"]
    for i in range(16):
        quality = {"crf": str(16 + i // 2)}
        write_video(folder / f"{i}.mp4", frames=12, fps=6, draw=sliding(1 if i % 2 else -1), options=quality)
        lines.append(f"{i}.mp4,{'opening' if i % 2 else 'closing'},{'train' if i < 12 else 'val'}")
    (folder / "data.csv").write_text("\n".join(lines))
    return folder


class Killed(Exception):
    """A process ends here."""


class Recorder:
    """A training's callback that keeps what it is told."""

    def __init__(self):
        self.clips, self.decoded_clips, self.problems, self.plans, self.reports = 0, [], [], [], []
        self.notes = []

    def decoding(self, total):
        self.clips += total

    def decoded(self, path):
        self.decoded_clips.append(path)

    def skipped(self, problem):
        self.problems.append(problem)

    def noted(self, note):
        self.notes.append(note)

    def plan(self, plan):
        self.plans.append(plan)

    def progress(self, report):
        self.reports.append(report)


def train(source, model, output, callback=None, *, more=None, **options):
    """Fine-tune a model folder; ``more`` are the arguments of `finetune` beside the options."""
    callback = callback or Recorder()
    result = finetune(
        lambda: resolve(str(model)), source, output, callback, FinetuneOptions(**options), CPU, **more or {}
    )
    return result, callback


def toy_trainer(model, labelled, scratch, *, batch, by_class=True, dropout=0.0):
    """A trainer and its batches of twelve clips, computed ``batch`` at once."""
    files = resolve(str(model))
    files = replace(files, config=replace(files.config, stop=replace(files.config.stop, dropout=dropout)))
    encoder = Encoder(files, EncoderOptions("cpu", "fp32", batch), trainable=True)
    rows = read_dataset(labelled / "data.csv").of("train")
    if not by_class:
        rows = tuple(replace(r, text=f"clip {r.number}") for r in rows)
    schedule = Schedule(3, 1, 12, 1e-3, 0)
    reader = ClipReader(FrameCache(scratch / "frames"), encoder.frames, encoder.framing)
    batches = Batches(rows, schedule, reader, by_class=by_class, flip=True, color=True)
    return Trainer(encoder, schedule, {r.text: r.text for r in rows}, by_class=by_class), batches


def gradients(trainer, batches):
    """The loss of the first batch, and its gradient by parameter."""
    loss = trainer.gradients(*batches.load(0))
    return loss, {name: p.grad.clone() for name, p in trainer.parameters.items()}


def table(folder, text, name="data.csv"):
    """Write a table beside the clips it names."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
