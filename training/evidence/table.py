"""Write docs/results.md from what was measured: ``python table.py OUT/results.jsonl ../../docs/results.md``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from run import METHODS, SHOTS, STEPS, TASKS, WORLD

TASK_NAMES = {
    "crowd": "which way a small target goes among shapes that move too (4)",
    "order": "which of two events far apart came first (2)",
    "count": "how often it jumps: once, twice, three times (3)",
    "blink": "gone for an eighth of the clip, or not (2)",
}
CHANCE = {"crowd": 25.0, "order": 50.0, "count": 33.3, "blink": 50.0}


def spread(values: list[float]) -> str:
    """Return mean and, of several, the lowest and the highest."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}-{max(values):.1f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def world(records: dict[tuple, dict]) -> str:
    def of(path: list[str], scores: dict) -> float:
        for key in path:
            scores = scores[key]
        return 100 * float(scores)  # type: ignore[arg-type]

    columns = {
        "object": ["object_top1"],
        "motion": ["motion_top1"],
        "text to video R@1": ["text_to_video", "R@1"],
    }
    pairs = ("left/right", "up/down", "closer/away", "clockwise/counter")
    found = defaultdict(list)
    for key, record in records.items():
        if key[0] == "world":
            found[key[1]].append(record["scores"]["stop"])
            found["plain CLIP"] = [record["scores"]["plain"]]
    rows = []
    for method in ("plain CLIP", *METHODS):
        runs = found[method]
        inside = [statistics.mean(of(["inside_pairs", p], r) for p in pairs) for r in runs]
        rows.append(
            [
                method,
                *(spread([of(c, r) for r in runs]) for c in columns.values()),
                spread(inside),
                str(len(runs)),
            ]
        )
    return table(["", *columns, "inside the pairs", "seeds"], rows)


def tasks(records: dict[tuple, dict]) -> str:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, record in records.items():
        if key[0] == "tasks":
            found[key[1], key[2]].append(record["finetuned"]["test"])
            found[key[1], "plain CLIP"] = [record["finetuned"]["test_plain"]]
    rows = [
        [TASK_NAMES[t], f"{CHANCE[t]:.0f}", *(spread(found[t, m]) for m in ("plain CLIP", *METHODS))]
        for t in TASKS
    ]
    return table(["task (labels)", "chance", "plain CLIP", *METHODS], rows)


def shots(records: dict[tuple, dict]) -> str:
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    seconds: dict[int, list[float]] = defaultdict(list)
    plain = []
    for key, record in records.items():
        if key[0] == "shots":
            found[key[1], key[2]].append(record["finetuned"]["test"])
            plain.append(record["finetuned"]["test_plain"])
            if key[1] == "STOP":
                seconds[key[2]].append(record["finetuned"]["seconds"])
    rows = [["plain CLIP, zero-shot", *(spread(plain[:1]) for _ in SHOTS)]]
    rows += [
        [m, *(spread(found[m, k]) for k in SHOTS)]
        for m in ("static prompts", "STOP from new prompts", "STOP")
    ]
    rows.append(["STOP: seconds of training", *(spread(seconds[k]) for k in SHOTS)])
    return table(["", *(f"{k}" for k in SHOTS)], rows)


HEAD = """# Results

Everything here was measured with `mini`'s backbone in its generated world, on a CPU with 2 cores. It says what the
parts of STOP do on this small model; it says nothing about real footage. No STOP weights for CLIP's own backbones
are published yet; [how to make them](train-msrvtt.md). What `mini` itself was measured at stands on its
[card](../src/stopcli/assets/mini/README.md).

Percent of held-out clips, on families of backgrounds that neither training nor validation has; of several seeds the
mean and, in brackets, the lowest and the highest. Made by:

```console
python training/mini/clips.py OUT/data
python training/evidence/tasks.py OUT/tasks
python training/evidence/run.py OUT shots world tasks
python training/evidence/table.py OUT/results.jsonl docs/results.md
```

Each run is a line of `training/evidence/results.jsonl`; an empty cell has not been run yet.
"""

SHOTS_TEXT = """
## How many clips it takes to teach a new motion

Four motions that no clip ever showed `mini`: circling, bouncing, zig-zagging, fading, each done by any of the 48
objects. `stop finetune OUT/tasks/motions/data.csv --model mini --shots K`, all else at its default (300 steps, 40
clips for choosing the best weights); test: 200 clips. STOP goes on from `mini`'s own prompts, which know other
motions; the other two start anew on the same backbone. By clips of each label:

{table}
{said}
"""

WORLD_TEXT = """
## Which part of STOP carries the gain

Fresh prompts on the frozen backbone, `stop finetune` on {clips:,} clips of the generated world, {epochs} epochs of
batches of {batch}: much shorter than the training of the `mini` that ships, so lower; the same for all. Measured by
`training/mini/evaluate.py` on 500 clips of object-motion pairs that training never saw; "inside the pairs" is the
mean over left/right, up/down, closer/away and the two turnings, where 50 is a coin toss.

{table}
{said}
"""

TASKS_TEXT = """
## Harder tasks

Fresh prompts, 200 clips of each label, about {steps} steps of {batch}:

{table}
{said}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument(
        "--said", type=Path, default=Path(__file__).parent / "said.json", help="what a person concludes"
    )
    args = parser.parse_args()
    records = {}
    for line in args.results.read_text().splitlines():
        record = json.loads(line)
        records[tuple(record["key"])] = record
    said = json.loads(args.said.read_text())
    epochs = max(1, round(WORLD["steps"] * WORLD["batch"] / WORLD["clips"]))
    have = {key[0] for key in records}
    page = HEAD
    if "shots" in have:
        page += SHOTS_TEXT.format(table=shots(records), said=said["shots"])
    if "world" in have:
        page += WORLD_TEXT.format(
            clips=WORLD["clips"],
            epochs=epochs,
            batch=WORLD["batch"],
            table=world(records),
            said=said["world"],
        )
    if "tasks" in have:
        page += TASKS_TEXT.format(
            steps=STEPS["tasks"], batch=STEPS["batch"], table=tasks(records), said=said["tasks"]
        )
    args.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
