"""Measure what each part of STOP does: ``python -m training.evidence.run OUT [tasks] [world] ...``.

Everything goes through the command line, as a user would: ``stop finetune`` on plain mini (its
backbone without prompts) or on mini, then its test or training.mini.evaluate, on clips that no
training saw. Results are appended to OUT/results.jsonl; what is there already is not run again.
training.evidence.table turns them into docs/results.md.

OUT/data must hold the generated world (training.world.files), OUT/tasks the tasks
(training.evidence.tasks).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import stopcli
from stopcli.model.config import FORMAT
from training.evidence.focus import CHOICE_SEED
from training.world.clips import test_clips, train_clips
from training.world.files import TRAINING_SETS, write_clips
from training.world.vocabulary import caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Job = tuple[tuple, Callable[[], dict]]

TEMPLATE = "a video of {}"  # around the labels, whatever the model's own is
METHODS = {
    "static prompts": ("static", "static"),
    "spatial only": ("dynamic", "off"),
    "temporal only": ("off", "dynamic"),
    "STOP": ("dynamic", "dynamic"),
}
TASKS = {  # clips a label of a training; None is all
    "which": None,
    "which-camera": None,
    "crowd": 200,
    "where": 200,
    "order": 200,
    "count": 200,
    "blink": 200,
}
PICKS = ("which", "which-camera")  # scored by training.evidence.selection
KINDS = ("tasks", "starts", "colors", "world", "ablation", "focus", "selection")
STARTS = 10  # seeds of STOP on every task, in all
SAMPLES = Path(stopcli.__file__).parent / "assets" / "samples"
ABLATED = ("which", "which-camera", "crowd")
PARTS = ("motion", "alignment", "bound", "bound=0.3", "bound=0.6", "bias", "prompts", "counts", "log-t")
LACKING = [*product(ABLATED, PARTS), *product(TASKS, ("joint",))]  # in which task, what
WORLD = {"clips": 3000, "validation": 200, "steps": 300, "batch": 16}
STEPS = {"tasks": 200, "batch": 16}


class Runs:
    """Commands over one folder, each on so many threads."""

    def __init__(self, out: Path, threads: int, footage: Path | None) -> None:
        self.out = out
        self.footage = {} if footage is None else {"real clips": footage}
        self._environment = {
            **os.environ,
            "STOPCLI_HOME": str((out / "cache").absolute()),
            "OMP_NUM_THREADS": str(threads),
        }

    def module(self, name: str, *arguments: object, part: str = "nothing") -> str:
        """Run ``python -m name``, with a model that lacks a part, and return what it prints."""
        ablated = [] if part == "nothing" else ["training.evidence.ablated", part]
        command = [sys.executable, "-m", *ablated, name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout

    def finetune(
        self, name: str, data: Path, model: object, *more: object, part: str = "nothing"
    ) -> tuple[Path, dict]:
        """Run ``stop finetune``; return its folder and its JSON record."""
        folder = self.out / "runs" / name
        folder.parent.mkdir(exist_ok=True)
        settings = (
            "--model",
            model,
            "-o",
            folder,
            "--resume",
            "--template",
            TEMPLATE,
            "--head",
            "text",
            "--no-color",
            *more,
        )
        printed = self.module("stopcli", "finetune", data, *settings, "--format", "json", part=part)
        record = json.loads(printed)["data"][0]
        return folder, record | {"path": folder.name}

    def world(self, method: str, seed: int) -> dict:
        """Train on the generated world, and measure as mini is measured."""
        spatial, temporal = METHODS[method]
        settings = f"--spatial {spatial} --temporal {temporal} --seed {seed} --lr 2e-3".split()
        settings += ["--epochs", world_epochs(), "--batch-size", WORLD["batch"], "--template", "{}"]
        table, model = self.out / "data" / "train" / "world.csv", self.out / "plain-mini"
        folder, record = self.finetune(f"world-{spatial}-{temporal}-{seed}", table, model, *settings)
        scores = self.out / "runs" / f"{folder.name}.json"
        more = ("--data", self.out / "data", "--seed", CHOICE_SEED, "-o", scores)
        self.module("training.mini.evaluate", "--model", folder, *more)
        return {"finetuned": record, "scores": json.loads(scores.read_text())}

    def task(self, name: str, method: str, seed: int, part: str = "nothing", *, color: bool = False) -> dict:
        """Train on a harder task, of the model without a ``part`` (see training.evidence.ablated).

        With ``color``, the clips' colors are varied, as users have it.
        """
        spatial, temporal = METHODS[method]
        table, shots = self.out / "tasks" / name / "data.csv", TASKS[name]
        with table.open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
        clips = len({row["label"] for row in rows}) * shots if shots else len(rows)
        epochs = round(STEPS["tasks"] * STEPS["batch"] / clips) or 1
        settings = f"--spatial {spatial} --temporal {temporal} --seed {seed} --lr 2e-3".split()
        settings += ["--epochs", epochs, "--batch-size", STEPS["batch"]]
        settings += ["--shots", shots] if shots else ["--template", "{}"]
        settings += ["--color"] if color else []
        folder = f"{name}-{spatial}-{temporal}-{seed}" + ("" if part == "nothing" else f"-without-{part}")
        folder += "-colors" if color else ""
        folder, record = self.finetune(folder, table, self.out / "plain-mini", *settings, part=part)
        if name in PICKS:
            return {"finetuned": record, "scores": self._selection(folder, table.parent, part=part)}
        return {"finetuned": record}

    def picks(self, task: str) -> dict:
        """Score plain CLIP on a task of picking the mover."""
        return {"scores": self._selection(self.out / "plain-mini", self.out / "tasks" / task)}

    def focus(self) -> dict:
        """Score focus on plain CLIP, at every strength."""
        scores = self.out / "runs" / "focus.json"
        self.module("training.evidence.focus", self.out / "plain-mini", self.out, "-o", scores)
        return {"scores": json.loads(scores.read_text())}

    def energy(self, clips: Path) -> dict:
        """Measure which share of the change in clips mini's regions catch."""
        return {"scores": self._selection("mini", clips, "--energy")}

    def _selection(self, model: object, *more: object, part: str = "nothing") -> dict:
        return json.loads(self.module("training.evidence.selection", model, *more, part=part))

    def without(self, name: str, part: str, seed: int) -> dict:
        """Train all of STOP but a part."""
        return self.task(name, "STOP", seed, part)

    def jobs(self, what: str, seeds: int) -> Iterator[Job]:
        """Yield the key and the work of every run of one kind."""
        if what == "focus":
            yield (what,), self.focus
            return
        if what == "starts":  # the seeds that are not among those of "tasks"
            further = product(range(seeds, STARTS), TASKS)
            yield from (((what, t, "STOP", seed), partial(self.task, t, "STOP", seed)) for seed, t in further)
            return
        if what == "tasks":
            yield from (((what, t, "plain CLIP", 0), partial(self.picks, t)) for t in PICKS)
        if what == "selection":
            clips = {"samples": SAMPLES, "world": self.out / "data" / f"test-{CHOICE_SEED}"} | self.footage
            yield from (((what, name, 0), partial(self.energy, path)) for name, path in clips.items())
            return
        run, choices = {
            "world": (self.world, list(product(METHODS))),
            "tasks": (self.task, [(t, m) for m, t in product(reversed(METHODS), TASKS)]),
            "colors": (
                partial(self.task, color=True),
                [(t, m) for m, t in product(reversed(METHODS), TASKS)],
            ),
            "ablation": (self.without, LACKING),
        }[what]
        yield from (((what, *c, seed), partial(run, *c, seed)) for seed, c in product(range(seeds), choices))


def world_epochs() -> int:
    """Return the epochs of a training on the generated world."""
    return max(1, round(WORLD["steps"] * WORLD["batch"] / WORLD["clips"]))


def plain_mini(out: Path) -> None:
    """Make the model folder OUT/plain-mini: mini's backbone without prompts and without their settings."""
    folder = out / "plain-mini"
    source = Path(stopcli.__file__).parent / "assets" / "mini"
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    kept = {k: config[k] for k in ("backbone", "sampling")} | {"format": FORMAT, "stop": None, "labels": None}
    (folder / "config.json").write_text(json.dumps(kept, indent=1))
    shutil.copyfile(source / "backbone.safetensors", folder / "backbone.safetensors")


def world_table(out: Path) -> None:
    """Write the table of the generated world's training clips; the label is the whole caption."""
    count = WORLD["clips"] + WORLD["validation"]
    rows = [("path", "label", "split")]
    for i, clip in enumerate(train_clips(count, *TRAINING_SETS["train"])):
        split = "train" if i < WORLD["clips"] else "val"
        rows.append((f"{i:06d}.mp4", caption(clip.obj, clip.motion), split))
    with (out / "data" / "train" / "world.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def main(
    kind: type[Runs] = Runs, choices: tuple[str, ...] = KINDS, description: str | None = __doc__
) -> None:
    """Run what has not been run yet."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", nargs="+", choices=choices)
    parser.add_argument("--footage", type=Path, help="a folder of real clips, for selection")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    args = parser.parse_args()
    plain_mini(args.out)
    if "world" in args.what:
        world_table(args.out)
    if {"world", "focus", "selection"} & set(args.what):
        write_clips(args.out / "data" / f"test-{CHOICE_SEED}", list(test_clips(500, CHOICE_SEED)))
    log, lock = args.out / "results.jsonl", Lock()
    lines = log.read_text().splitlines() if log.exists() else []
    done = {tuple(json.loads(line)["key"]) for line in lines}
    runs = kind(args.out, args.threads, args.footage)

    def work(job: Job) -> None:
        key, run = job
        if key in done:
            return
        began = time.time()
        record = {"key": key, **run(), "wall_seconds": round(time.time() - began, 1)}
        with lock, log.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        print(*key, record.get("scores"), record.get("finetuned", {}).get("test"), flush=True)

    with ThreadPoolExecutor(args.workers) as pool:
        for _ in pool.map(work, [job for what in args.what for job in runs.jobs(what, args.seeds)]):
            pass


if __name__ == "__main__":
    main()
