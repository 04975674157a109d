"""Measure how fine-tuning serves few clips: ``python -m training.adapting.run OUT [shots] ...``.

    shots     few clips a label, by every head; prompts from mini, new ones, static ones, and none
    spared    training that ends when the validation gains nothing, and training to the end
    folds     does the interval of a cross-validation hold the true score?
    retained  what mini still knows of its world when it was adapted, with and without --keep-zero-shot
    changes   varied colors; and what the product does not have: crops, another speed, label smoothing

OUT is that of training.evidence.run, and so is what is written: OUT/results.jsonl, one line a run.
"""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.data.table import Task
from stopcli.train.batches import Schedule
from stopcli.train.options import FinetuneOptions
from training.evidence.focus import CHOICE_SEED
from training.evidence.run import TEMPLATE, Runs, main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.evidence.run import Job

SHOTS = (1, 2, 4, 8, 16)
SHOT_METHODS = {  # the model to start from, and the prompts
    "STOP from mini": ("mini", ()),
    "STOP": ("plain", ()),
    "static prompts": ("plain", ("--spatial", "static", "--temporal", "static")),
}
SPARED = {"motions": 16, "blink": 200, "order": 200}  # clips a label
FOLDS = {"new prompts": ("plain", ()), "labels alone": ("mini", ("--epochs", 0, "--head", "auto"))}
FOLDED, JUDGED, REPETITIONS = 12, 50, 20  # clips a label for the cross-validation, and beside it
CHANGES = ("nothing", "color", "crop", "speed", "smoothing")
TASK: Task = "classification"


class Adapting(Runs):
    """Runs of fine-tuning on few clips."""

    def _base(self, name: str) -> object:
        return self.out / "plain-mini" if name == "plain" else name

    def _table(self, task: str = "motions") -> Path:
        return self.out / "tasks" / task / "data.csv"

    def _heads(self, model: object, count: int, seed: int) -> dict:
        more = ("--shots", count, "--seed", seed, "--template", TEMPLATE)
        return json.loads(self.module("training.adapting.heads", model, self._table(), *more))

    def shots(self, method: str, count: int, seed: int) -> dict:
        """Adapt to four new motions; score every head."""
        if method == "no prompts":
            return {"scores": self._heads(self.out / "plain-mini", count, seed)}
        base, more = SHOT_METHODS[method]
        name = f"shots-{method.replace(' ', '-')}-{count}-{seed}"
        settings = (*more, "--shots", count, "--seed", seed)
        folder, record = self.finetune(name, self._table(), self._base(base), *settings)
        return {"finetuned": record, "scores": self._heads(folder, count, seed)}

    def spared(self, task: str, how: str, seed: int) -> dict:
        """Train until nothing is gained, or to the end of the same schedule."""
        count = SPARED[task]
        with self._table(task).open() as stream:
            labels = {row["label"] for row in csv.DictReader(stream)}
        epochs = Schedule.plan(TASK, len(labels) * count, FinetuneOptions()).epochs
        more = () if how == "until nothing is gained" else ("--epochs", epochs)
        name = f"spared-{task}-{'early' if not more else 'late'}-{seed}"
        settings = (*more, "--shots", count, "--seed", seed)
        return {"finetuned": self.finetune(name, self._table(task), self._base("plain"), *settings)[1]}

    def folds(self, how: str, seed: int) -> dict:
        """Cross-validate on few clips; score the model on many more of the same kind."""
        with self._table().open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
        rng, drawn = np.random.default_rng([7, seed]), []
        for label in sorted({row["label"] for row in rows}):
            of_label = [row["path"] for row in rows if row["label"] == label]
            chosen = rng.permutation(len(of_label))[: FOLDED + JUDGED]
            drawn += [
                (of_label[i], label, "" if n < FOLDED else "test") for n, i in enumerate(chosen.tolist())
            ]
        table = self._table().parent / f"folds-{seed}.csv"
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([("path", "label", "split"), *drawn])
        base, more = FOLDS[how]
        settings = (*more, "--folds", 5, "--seed", seed)
        name = f"folds-{how.replace(' ', '-')}-{seed}"
        return {"finetuned": self.finetune(name, table, self._base(base), *settings)[1]}

    def retained(self, base: str, how: str, seed: int) -> dict:
        """Adapt to four new motions; score mini's own world afterwards."""
        more = ("--keep-zero-shot",) if how == "kept" else ()
        name = f"retained-{base}-{how}-{seed}"
        settings = (*more, "--shots", 16, "--seed", seed)
        if how == "before":
            folder, record = self._base(base), None
        else:
            folder, record = self.finetune(name, self._table(), self._base(base), *settings)
        scores = self.out / "runs" / f"{name}.json"
        more = ("--data", self.out / "data", "--seed", CHOICE_SEED, "-o", scores)
        self.module("training.mini.evaluate", "--model", folder, *more)
        return {"finetuned": record, "scores": json.loads(scores.read_text())}

    def changes(self, change: str, count: int, seed: int) -> dict:
        """Train with another augmentation or loss."""
        settings = ("--shots", count, "--seed", seed, *(("--color",) if change == "color" else ()))
        part = change if change not in ("nothing", "color") else "nothing"
        name = f"changes-{change}-{count}-{seed}"
        record = self.finetune(name, self._table(), self._base("plain"), *settings, part=part)[1]
        return {"finetuned": record}

    def jobs(self, what: str, seeds: int) -> Iterator[Job]:
        """Yield the key and the work of every run of one kind."""
        run, choices = {
            "shots": (self.shots, list(product(("no prompts", *SHOT_METHODS), reversed(SHOTS)))),
            "spared": (self.spared, list(product(SPARED, ("to the end", "until nothing is gained")))),
            "folds": (self.folds, list(product(FOLDS))),
            "retained": (self.retained, list(product(("mini", "plain"), ("before", "tuned", "kept")))),
            "changes": (self.changes, list(product(CHANGES, (4, 16)))),
        }[what]
        counts = range(REPETITIONS if what == "folds" else seeds)
        yield from (((what, *c, seed), partial(run, *c, seed)) for seed, c in product(counts, choices))


if __name__ == "__main__":
    main(Adapting, ("shots", "spared", "folds", "retained", "changes"), __doc__)
