"""Write docs/results.md: ``python -m training.evidence.table RESULTS docs/results.md``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.evidence.run import ABLATED, METHODS, PICKS, STEPS, WORLD, world_epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    Records = dict[tuple, dict[str, Any]]
    Kinds = dict[str, tuple[str, Callable[[Records], str]]]

TASK_NAMES = {
    "which": "which of four things moves? (4)",
    "which-camera": "the same, filmed by a moving camera (4)",
    "which-pan": "... those trained on it, where the camera only pans (4)",
    "where": "in which half does it move? (2)",
    "crowd": "which way a small target goes among shapes that move too (4)",
    "order": "which of two events far apart came first (2)",
    "count": "how often it jumps: once, twice, three times (3)",
    "blink": "gone for an eighth of the clip, or not (2)",
}
CHANCE = defaultdict(lambda: 25, {"where": 50, "order": 50, "count": 33, "blink": 50})
PART_NAMES = {
    "motion": "motion (regions from attention and a network that begins anywhere)",
    "alignment": "taking the camera out",
    "bound": "the bound on spatial prompts",
    "bound=0.3": "size: bounded at 0.3 of the tokens'",
    "bound=0.6": "size: bounded at 0.6",
    "bias": "the bias on attention",
    "prompts": "spatial prompts (the bias alone)",
    "counts": "the gradient of the counts",
    "log-t": "log T on the class token",
    "drops": "in training, temporal prompts in 40 % of the blocks",
}


def cell(values: list[float]) -> str:
    """Return the mean and, of several seeds, every value."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({'/'.join(f'{v:.1f}' for v in values)})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def score(record: dict[str, Any]) -> float:
    """Return a run's score, percent: of new movers, where it picks."""
    return float(record["scores"]["new"]["own"] if "scores" in record else record["finetuned"]["test"])


def tasks(records: Records, kind: str = "tasks") -> str:
    """Return the table of the tasks: a column a method."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, record in sorted(records.items(), key=str):
        if key[0] == kind:
            scores[key[1], key[2]].append(score(record))
            if "pan" in record.get("scores", {}):
                scores["which-pan", key[2]].append(record["scores"]["pan"]["own"])
            if key[1] not in PICKS:
                scores[key[1], "plain CLIP"] = [record["finetuned"]["test_plain"]]
    methods = ("plain CLIP", *METHODS) if kind == "tasks" else tuple(METHODS)  # plain CLIP is not trained
    rows = [[name, f"{CHANCE[t]}", *(cell(scores[t, m]) for m in methods)] for t, name in TASK_NAMES.items()]
    return table(["task (choices)", "chance", *methods], rows)


def starts(records: Records) -> str:
    """Return the table of every seed of STOP: the lowest score, and all in their order."""
    scores: dict[str, list[float]] = defaultdict(list)
    found = {k: r for k, r in records.items() if k[0] in ("tasks", "starts") and k[2] == "STOP"}
    for key, record in sorted(found.items(), key=lambda item: item[0][-1]):  # by seed
        scores[key[1]].append(score(record))
    rows = [
        [name, f"{CHANCE[t]}", f"{len(scores[t])}", f"{min(scores[t]):.1f}", cell(scores[t])]
        for t, name in TASK_NAMES.items()
        if scores[t]
    ]
    return table(["task (choices)", "chance", "seeds", "lowest", "all"], rows)


def regions(records: Records) -> str:
    """Return the table of what regions catch, and of what they are good for."""
    rows = []
    for task in PICKS:
        found = [
            r["scores"]["new"]
            for k, r in sorted(records.items(), key=str)
            if k[:3] == ("tasks", task, "STOP")
        ]
        caught = [s["regions on the mover, by block"] for s in found]
        by_block = " / ".join(f"{statistics.mean(b):.2f}" for b in zip(*caught, strict=True))
        rows.append(
            [
                TASK_NAMES[task],
                *(cell([s[c] for s in found]) for c in ("own", "random", "all alike")),
                by_block,
            ]
        )
    return table(["task (choices)", "own regions", "random", "all alike", "on the mover, by block"], rows)


def selection(records: Records) -> str:
    """Return the table of the change that mini's regions catch."""
    rows = [
        [
            key[1],
            str(r["scores"]["clips"]),
            " / ".join(f"{v:.2f}" for v in r["scores"]["lift of change, by block"]),
        ]
        for key, r in records.items()
        if key[0] == "selection"
    ]
    return table(["clips of", "number", "by block"], rows)


def ablation(records: Records) -> str:
    """Return the table of what is lost without each part."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, record in sorted(records.items(), key=str):
        if key[0] == "ablation":
            scores[key[1], key[2]].append(score(record))
        elif key[0] == "tasks" and key[2] == "STOP":
            scores[key[1], ""].append(score(record))
    names = {"": "nothing"} | PART_NAMES
    rows = [[name, *(cell(scores[t, part]) for t in ABLATED)] for part, name in names.items()]
    return table(["without", *ABLATED], rows)


def attention(records: Records) -> str:
    """Return the table of what patches attend to: all frames, or their own."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, record in sorted(records.items(), key=str):
        which = {("tasks", "STOP"): "joint", ("ablation", "joint"): "frame"}.get((key[0], *key[2:3]))
        if which is not None:
            scores[key[1], which].append(score(record))
            if "pan" in record.get("scores", {}):
                scores["which-pan", which].append(record["scores"]["pan"]["own"])
    rows = [
        [name, f"{CHANCE[t]}", cell(scores[t, "joint"]), cell(scores[t, "frame"])]
        for t, name in TASK_NAMES.items()
        if scores[t, "frame"]
    ]
    return table(["task (choices)", "chance", "joint", "frame"], rows)


def world(records: Records) -> str:
    """Return the table of the generated world."""
    columns = {
        "object": ("object_top1",),
        "motion": ("motion_top1",),
        "text to video R@1": ("text_to_video", "R@1"),
    }
    pairs = ("left/right", "up/down", "closer/away", "clockwise/counter")

    def of(scores: Any, *path: str) -> float:
        for key in path:
            scores = scores[key]
        return 100 * float(scores)

    runs = defaultdict(list)
    for key, record in sorted(records.items(), key=str):
        if key[0] == "world":
            runs[key[1]].append(record["scores"]["stop"])
            runs["plain CLIP"] = [record["scores"]["plain"]]
    rows = []
    for method in ("plain CLIP", *METHODS):
        inside = [statistics.mean(of(r, "inside_pairs", p) for p in pairs) for r in runs[method]]
        rows.append(
            [method, *(cell([of(r, *c) for r in runs[method]]) for c in columns.values()), cell(inside)]
        )
    return table(["", *columns, "inside the pairs"], rows)


def focus(records: Records) -> str:
    """Return the table of focus: a column a strength."""
    scores = next(r["scores"] for k, r in records.items() if k[0] == "focus")
    rows = [[name, *(f"{s[name]:.1f}" for s in scores.values())] for name in next(iter(scores.values()))]
    return table(["strength", *(f"{float(s):g}" for s in scores)], rows)


KINDS: Kinds = {
    "tasks": ("tasks", tasks),
    "starts": ("starts", starts),
    "regions": ("tasks", regions),
    "ablation": ("ablation", ablation),
    "colors": ("colors", partial(tasks, kind="colors")),
    "attention": ("ablation", attention),
    "selection": ("selection", selection),
    "world": ("world", world),
    "focus": ("focus", focus),
}


def write_page(page: Path, template: Path, kinds: Kinds, records: Records, more: dict[str, object]) -> None:
    """Fill a template: the tables of each kind, what a person says of them, and more."""
    conclusions = json.loads((template.parent / "conclusions.json").read_text())
    tables = {
        kind: draw(records) if any(key[0] == source for key in records) else "(not measured yet)\n"
        for kind, (source, draw) in kinds.items()
    }
    text = template.read_text()
    for name, value in (tables | {f"{k}: conclusions": v for k, v in conclusions.items()} | more).items():
        text = text.replace("{{" + name + "}}", str(value).strip())
    assert "{{" not in text, text[text.index("{{") :][:60]
    page.write_text(text, encoding="utf-8")


def read_records(file: Path) -> Records:
    """Return the runs of a file by their keys; of two with one key, the later."""
    return {tuple(record["key"]): record for record in map(json.loads, file.read_text().splitlines())}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    args = parser.parse_args()
    settings = {
        "steps": STEPS["tasks"],
        "batch": STEPS["batch"],
        "clips": WORLD["clips"],
        "epochs": world_epochs(),
    }
    template = Path(__file__).parent / "results.md.template"
    write_page(args.page, template, KINDS, read_records(args.results), settings)


if __name__ == "__main__":
    main()
