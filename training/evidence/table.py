"""Write docs/results.md: ``python -m training.evidence.table RESULTS docs/results.md``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from training.evidence.run import METHODS, SHOTS, STEPS, TASKS, WORLD, world_epochs

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
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def world(records: dict[tuple, dict]) -> str:
    """Return the table of the generated world."""

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
    runs = defaultdict(list)
    for key, record in records.items():
        if key[0] == "world":
            runs[key[1]].append(record["scores"]["stop"])
            runs["plain CLIP"] = [record["scores"]["plain"]]
    rows = []
    for method in ("plain CLIP", *METHODS):
        inside = [statistics.mean(of(["inside_pairs", p], r) for p in pairs) for r in runs[method]]
        cells = [spread([of(c, r) for r in runs[method]]) for c in columns.values()]
        rows.append([method, *cells, spread(inside), str(len(inside))])
    return table(["", *columns, "inside the pairs", "seeds"], rows)


def tasks(records: dict[tuple, dict]) -> str:
    """Return the table of the harder tasks."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, record in records.items():
        if key[0] == "tasks":
            scores[key[1], key[2]].append(record["finetuned"]["test"])
            scores[key[1], "plain CLIP"] = [record["finetuned"]["test_plain"]]
    rows = [
        [TASK_NAMES[t], f"{CHANCE[t]:.0f}", *(spread(scores[t, m]) for m in ("plain CLIP", *METHODS))]
        for t in TASKS
    ]
    return table(["task (labels)", "chance", "plain CLIP", *METHODS], rows)


def shots(records: dict[tuple, dict]) -> str:
    """Return the table of the scores by number of clips."""
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    seconds: dict[int, list[float]] = defaultdict(list)
    plain = []
    for key, record in records.items():
        if key[0] == "shots":
            scores[key[1], key[2]].append(record["finetuned"]["test"])
            plain.append(record["finetuned"]["test_plain"])
            if key[1] == "STOP":
                seconds[key[2]].append(record["finetuned"]["seconds"])
    rows = [["plain CLIP, zero-shot", *(spread(plain[:1]) for _ in SHOTS)]]
    rows += [
        [m, *(spread(scores[m, k]) for k in SHOTS)]
        for m in ("static prompts", "STOP from new prompts", "STOP")
    ]
    rows.append(["STOP: seconds of training", *(spread(seconds[k]) for k in SHOTS)])
    return table(["", *(f"{k}" for k in SHOTS)], rows)


HEAD = """# Results

What each part of STOP adds, measured with `mini`'s backbone in its generated world, on a CPU with 2 cores.
These figures say nothing about real footage. No STOP weights for CLIP's own backbones are published yet; here
is [how to train them](train-msrvtt.md). The scores of `mini` itself are on its
[card](../src/stopcli/assets/mini/README.md).

All scores are percent of test clips that are right. Test clips have families of backgrounds that neither
training nor validation has. Where several seeds were run, a cell shows their mean and, in brackets, the
lowest and the highest. An empty cell has not been measured. To repeat the measurements, from a checkout of
stopcli:

```console
python -m training.world.files OUT/data
python -m training.evidence.tasks OUT/tasks
python -m training.evidence.run OUT shots world tasks
python -m training.evidence.table OUT/results.jsonl docs/results.md
```

Each run is a line of `training/evidence/results.jsonl`.
"""

SHOTS_TEXT = """
## How many clips does it take to teach a new motion?

Four motions that no clip ever showed `mini`: circling, bouncing, zig-zagging and fading, each done by any of
the 48 objects. The command is `stop finetune OUT/tasks/motions/data.csv --model mini --shots K`, with
everything else at its default (300 steps; the best weights are chosen on 40 clips). The test has 200 clips.
"STOP" starts from `mini`'s own prompts, which know other motions; the other two start from new prompts on the
same backbone. The columns are the number of clips of each label:

{table}
{conclusions}
"""

WORLD_TEXT = """
## Which part of STOP makes the difference?

New prompts on the frozen backbone: `stop finetune` on {clips:,} clips of the generated world, {epochs} epochs
in batches of {batch}. The training is the same for all rows, and much shorter than that of the `mini` that
ships, so the scores are lower. Measured by `training.mini.evaluate` on 500 clips of object-motion pairs that
training never saw. "Inside the pairs" is the mean over left/right, up/down, closer/away and the two turnings;
guessing scores 50.

{table}
{conclusions}
"""

TASKS_TEXT = """
## Harder tasks

New prompts, 200 clips of each label, about {steps} steps of {batch} clips:

{table}
{conclusions}
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument(
        "--predictions",
        type=Path,
        default=Path(__file__).with_name("predictions.json"),
        help="what a person concludes from each table",
    )
    args = parser.parse_args()
    lines = map(json.loads, args.results.read_text().splitlines())
    records = {tuple(record["key"]): record for record in lines}
    conclusions = json.loads(args.predictions.read_text())
    kinds = {
        "shots": (SHOTS_TEXT, shots, {}),
        "world": (WORLD_TEXT, world, {**WORLD, "epochs": world_epochs()}),
        "tasks": (TASKS_TEXT, tasks, {"steps": STEPS["tasks"], "batch": STEPS["batch"]}),
    }
    page = HEAD
    for kind, (text, table_of, settings) in kinds.items():
        if any(key[0] == kind for key in records):
            page += text.format(table=table_of(records), conclusions=conclusions[kind], **settings)
    args.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
