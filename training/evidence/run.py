"""Measure what each part of STOP does: ``python run.py OUT [world] [tasks] [shots]``.

Everything goes through the command line, as a user would: ``stop finetune`` on plain mini (its
backbone without prompts) or on mini, then ``stop`` or ``evaluate.py`` on clips that were held out.
Results are appended to OUT/results.jsonl; what is there already is not run again. ``table.py``
turns them into docs/results.md.

OUT/data must hold the generated world (training/mini/clips.py), OUT/tasks the tasks (tasks.py).
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
from pathlib import Path
from threading import Lock

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "mini"))
from clips import TRAIN_SEED  # noqa: E402
from world import CLIPS, caption, train_clips  # noqa: E402

METHODS = {
    "static prompts": ("static", "static"),
    "spatial only": ("dynamic", "off"),
    "temporal only": ("off", "dynamic"),
    "STOP": ("dynamic", "dynamic"),
}
TASKS = ("crowd", "order", "count", "blink")
SHOTS = (1, 2, 4, 8, 16)
SHOT_METHODS = {
    "STOP": ("mini", ()),
    "static prompts": ("plain", ("--spatial", "static", "--temporal", "static")),
    "STOP from new prompts": ("plain", ()),
}
WORLD = {"clips": 3000, "held": 200, "steps": 300, "batch": 16}
STEPS = {"tasks": 200, "batch": 16}
_lock = Lock()


def stop(*arguments: object, threads: int) -> dict:
    """Run a command; return its JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    words = [str(a) for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "stopcli", *words, "--format", "json"], capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"stop {' '.join(words)}: {done.stderr[-2000:]}")
    record = json.loads(done.stdout)["data"][0]
    return record | {"path": Path(record["path"]).name}


def plain_mini(out: Path) -> Path:
    """Make a model folder of mini's backbone without prompts, told STOP's settings by nobody."""
    import stopcli

    folder = out / "plain-mini"
    source = Path(stopcli.__file__).parent / "assets" / "mini"
    folder.mkdir(parents=True, exist_ok=True)
    told = json.loads((source / "config.json").read_text())
    kept = {k: told[k] for k in ("format", "backbone", "sampling")} | {"stop": None, "labels": None}
    (folder / "config.json").write_text(json.dumps(kept, indent=1))
    shutil.copyfile(source / "backbone.safetensors", folder / "backbone.safetensors")
    return folder


def world_table(out: Path) -> Path:
    """Write the table of the generated world's training clips; the label is the whole caption."""
    path = out / "data" / "train" / "world.csv"
    count = WORLD["clips"] + WORLD["held"]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split"))
        for i, clip in enumerate(train_clips(count, TRAIN_SEED, CLIPS)):
            split = "train" if i < WORLD["clips"] else "val"
            writer.writerow((f"{i:06d}.mp4", caption(clip.obj, clip.motion), split))
    return path


def finetune(
    out: Path, name: str, data: Path, model: object, *more: object, threads: int
) -> tuple[Path, dict]:
    folder = out / "runs" / name
    folder.parent.mkdir(exist_ok=True)
    told = stop("finetune", data, "--model", model, "-o", folder, "--resume", *more, threads=threads)
    return folder, told


def world(out: Path, method: str, seed: int, threads: int) -> dict:
    spatial, temporal = METHODS[method]
    epochs = max(1, round(WORLD["steps"] * WORLD["batch"] / WORLD["clips"]))
    folder, told = finetune(
        out, f"world-{spatial}-{temporal}-{seed}", out / "data" / "train" / "world.csv", out / "plain-mini",
        "--spatial", spatial, "--temporal", temporal, "--seed", seed, "--epochs", epochs, "--lr", "2e-3",
        "--batch-size", WORLD["batch"], "--template", "{}", threads=threads,
    )  # fmt: skip
    scores = out / "runs" / f"{folder.name}.json"
    subprocess.run(
        [sys.executable, HERE.parent / "mini" / "evaluate.py", "--model", folder, "--data", out / "data",
         "--out", scores], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    found = json.loads(scores.read_text())
    for scored in found.values():
        scored["made"]["model"] = Path(scored["made"]["model"]).name
    return {"finetuned": told, "scores": found}


def task(out: Path, name: str, method: str, seed: int, threads: int) -> dict:
    spatial, temporal = METHODS[method]
    _, told = finetune(
        out, f"{name}-{spatial}-{temporal}-{seed}", out / "tasks" / name / "data.csv", out / "plain-mini",
        "--spatial", spatial, "--temporal", temporal, "--seed", seed, "--shots", 200,
        "--epochs", round(STEPS["tasks"] * STEPS["batch"] / (200 * {"crowd": 4, "count": 3}.get(name, 2))) or 1,
        "--lr", "2e-3", "--batch-size", STEPS["batch"], threads=threads,
    )  # fmt: skip
    return {"finetuned": told}


def shots(out: Path, method: str, count: int, seed: int, threads: int) -> dict:
    """Adapt to four new motions: from mini itself, or with new prompts on its backbone."""
    model, more = SHOT_METHODS[method]
    _, told = finetune(
        out, f"shots-{method.replace(' ', '-')}-{count}-{seed}", out / "tasks" / "motions" / "data.csv",
        out / "plain-mini" if model == "plain" else model, *more,
        "--shots", count, "--seed", seed, threads=threads,
    )  # fmt: skip
    return {"finetuned": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", nargs="+", choices=("world", "tasks", "shots"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    args = parser.parse_args()
    os.environ["STOPCLI_HOME"] = str(args.out / "cache")
    plain_mini(args.out)
    world_table(args.out)
    log = args.out / "results.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    done = {tuple(json.loads(line)["key"]) for line in lines}
    threads = args.threads
    jobs = []
    for what in args.what:
        for seed in range(args.seeds):
            if what == "world":
                jobs += [
                    ((what, m, seed), lambda m=m, s=seed: world(args.out, m, s, threads)) for m in METHODS
                ]
            elif what == "tasks":
                jobs += [
                    ((what, t, m, seed), lambda t=t, m=m, s=seed: task(args.out, t, m, s, threads))
                    for t in TASKS for m in METHODS
                ]  # fmt: skip
            else:
                jobs += [
                    ((what, m, k, seed), lambda m=m, k=k, s=seed: shots(args.out, m, k, s, threads))
                    for k in reversed(SHOTS) for m in SHOT_METHODS
                ]  # fmt: skip

    def work(job) -> None:
        key, run = job
        if key in done:
            return
        began = time.time()
        record = {"key": key, **run(), "wall_seconds": round(time.time() - began, 1)}
        with _lock, log.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        print(
            *key,
            {k: v for k, v in record["finetuned"].items() if k.startswith(("test", "validation"))},
            flush=True,
        )

    with ThreadPoolExecutor(args.workers) as pool:
        for _ in pool.map(work, jobs):
            pass


if __name__ == "__main__":
    main()
