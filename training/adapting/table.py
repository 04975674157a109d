"""Write docs/models/few-clips.md: ``python -m training.adapting.table RESULTS docs/models/few-clips.md``."""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from training.adapting.run import CHANGES, FOLDS, SHOTS, SPARED
from training.evidence.table import cell, read_records, table, write_page

if TYPE_CHECKING:
    from training.evidence.table import Kinds, Records

ROWS = {  # of the first table: the runs, and the head
    "plain CLIP, zero-shot": ("no prompts", "text"),
    "plain CLIP, nearest class mean": ("no prompts", "nearest class mean"),
    "plain CLIP, linear probe": ("no prompts", "linear probe"),
    "static prompts, text": ("static prompts", "text"),
    "STOP, new prompts, text": ("STOP", "text"),
    "STOP, new prompts, `--head auto`": ("STOP", "auto"),
    "STOP, new prompts, nearest class mean": ("STOP", "nearest class mean"),
}
CHANGE_NAMES = {
    "nothing": "nothing",
    "color": "varied colors (`--color`)",
    "crop": "crops of 60 to 100 % of the side",
    "speed": "60 to 100 % of the clip, slower",
    "smoothing": "label smoothing of 0.1",
}


def shots(records: Records) -> str:
    """Return the scores by number of clips, a row a method and head."""
    scores: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for key, record in sorted(records.items(), key=str):
        if key[0] == "shots":
            for head, value in record["scores"].items():
                scores[key[1], head, key[2]].append(value)
    rows = [[name, *(cell(scores[(*of, count)]) for count in SHOTS)] for name, of in ROWS.items()]
    return table(["clips a label", *map(str, SHOTS)], rows)


def spared(records: Records) -> str:
    """Return the steps, the seconds and the score, with and without an early end."""
    found = {key: record["finetuned"] for key, record in records.items() if key[0] == "spared"}
    rows = []
    for task in SPARED:
        for how in ("to the end", "until nothing is gained"):
            runs = [f for key, f in found.items() if key[1:3] == (task, how)]
            means = [statistics.mean(f[name] for f in runs) for name in ("steps", "seconds")]
            rows.append([task, how, *(f"{m:.0f}" for m in means), cell([f["test"] for f in runs])])
    return table(["task", "trained", "steps", "seconds", "test"], rows)


def folds(records: Records) -> str:
    """Return how often the interval of a cross-validation held the true score."""
    rows = []
    for how in FOLDS:
        runs = [r["finetuned"] for key, r in records.items() if key[:2] == ("folds", how)]
        if runs:
            found = [run["cross_validation"] for run in runs]
            held = sum(
                c["interval"][0] <= run["test"] <= c["interval"][1]
                for c, run in zip(found, runs, strict=True)
            )
            width = statistics.mean(c["interval"][1] - c["interval"][0] for c in found)
            scores = [
                f"{statistics.mean(v):.1f}" for v in ([c["score"] for c in found], [r["test"] for r in runs])
            ]
            rows.append([how, *scores, f"{width:.0f} points", f"{held} of {len(runs)}"])
    return table(["trained", "5 folds", "true", "width of the interval", "true score inside"], rows)


def retained(records: Records) -> str:
    """Return what a model still knows of mini's world."""
    rows = []
    names = {"before": "before", "tuned": "adapted", "kept": "adapted, `--keep-zero-shot`"}
    for base, title in (("mini", "mini"), ("plain", "plain CLIP, new prompts")):
        for how, name in names.items():
            runs = [r for key, r in sorted(records.items(), key=str) if key[:3] == ("retained", base, how)]
            worlds = [r["scores"].get("stop") or r["scores"]["plain"] for r in runs]
            tuned = [r["finetuned"] for r in runs if r.get("finetuned")]
            rows.append(
                [
                    f"{title}: {name}",
                    cell([t["test"] for t in tuned]),
                    cell([100 * w["object_top1"] for w in worlds]),
                    cell([100 * w["motion_top1"] for w in worlds]),
                    cell([100 * w["text_to_video"]["R@1"] for w in worlds]),
                ]
            )
    return table(["", "new motions", "objects", "old motions", "R@1"], rows)


def changes(records: Records) -> str:
    """Return what other ways to augment clips do."""
    rows = []
    for change in CHANGES:
        of = [
            cell(
                [
                    r["finetuned"]["test"]
                    for key, r in sorted(records.items(), key=str)
                    if key[:3] == ("changes", change, count)
                ]
            )
            for count in (4, 16)
        ]
        rows.append([CHANGE_NAMES[change], *of])
    return table(["added", "4 clips a label", "16 clips a label"], rows)


KINDS: Kinds = {
    "shots": ("shots", shots),
    "spared": ("spared", spared),
    "folds": ("folds", folds),
    "retained": ("retained", retained),
    "changes": ("changes", changes),
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    args = parser.parse_args()
    template = Path(__file__).parent / "few-clips.md.template"
    write_page(args.page, template, KINDS, read_records(args.results), {})


if __name__ == "__main__":
    main()
