"""Write docs/models/search.md: ``python -m training.search.table RESULTS docs/models/search.md``."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.evidence.table import read_records, table, write_page
from training.search.run import ARCHIVES, COPIES, READINGS, TAUGHT

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.evidence.table import Kinds, Records

LEVELS = (0.5, 0.9, 0.99)


def percent(share: float) -> str:
    """Return a share as tables show it."""
    return f"{100 * share:.0f} %"


def _answers(records: Records, archive: tuple[int, int]) -> list:
    return records[("confidence", *archive)]["answers"]


def _rates(answers: list, given: Callable[[list], bool]) -> tuple[str, str, str]:
    """Return precision, recall, and how many queries for what is not there are answered."""
    right = sum(a[1] and given(a) for a in answers)
    wrong = sum(not a[1] and given(a) for a in answers)
    present = sum(a[1] for a in answers)
    parts = (right, right + wrong), (right, present), (wrong, len(answers) - present)
    return tuple(percent(n / max(1, of)) for n, of in parts)


def flat_threshold(answers: list) -> float:
    """Return the cosine from which on to answer gives the best F1."""
    levels = sorted({a[2] for a in answers})

    def f1(level: float) -> float:
        right = sum(a[1] and a[2] >= level for a in answers)
        return 2 * right / (sum(a[2] >= level for a in answers) + sum(a[1] for a in answers))

    return max(levels, key=f1)


def confidence(records: Records) -> str:
    """Return precision and recall of ways to say no, over all archives."""
    every = [a for archive in ARCHIVES for a in _answers(records, archive)]
    flat = flat_threshold(every)
    ways = {"always answer": lambda _: True}
    ways |= {f"confidence from {level}": lambda a, level=level: a[3] >= level for level in LEVELS}
    ways[f"cosine from {flat:.2f}, the best for these queries"] = lambda a: a[2] >= flat
    rows = [[name, *_rates(every, given)] for name, given in ways.items()]
    return table(["rule", "precision", "recall", "answers to what is not there"], rows)


def archives(records: Records) -> str:
    """Return the same for each archive, at the level that the command uses."""
    rows = []
    for clips, objects in ARCHIVES:
        for sort in ("object and motion", "object"):
            answers = [a for a in _answers(records, (clips, objects)) if a[0] == sort]
            rows.append(
                [f"{clips} clips of {objects} objects", sort, *_rates(answers, lambda a: a[3] >= 0.9)]
            )
    return table(["archive", "query", "precision", "recall", "answers to what is not there"], rows)


def learned(records: Records) -> str:
    """Return how often learned labels are found, and how often what is none of them is taken for one."""
    rows = []
    for sort, clips, background in TAUGHT:
        record = records[("learned", sort, clips, background)]
        rates = [
            percent(record[what][rule]) for rule in ("share", "confidence") for what in ("found", "alarms")
        ]
        rows.append([f"4 {sort}s", str(clips), "yes" if background else "no", *rates])
    heads = ["share: found", "share: false alarms", "confidence: found", "confidence: false alarms"]
    return table(["labels", "clips of each", "`background`", *heads], rows)


def copies(records: Records) -> str:
    """Return how many copies are folded, by how they were made, and how many other clips."""
    rows, others, threshold = [], [], 0.0
    for how in COPIES:
        record = records["copies", how]
        threshold, others = record["threshold"], record["others"]
        found = np.array(record["copies"])
        rows.append([f"a copy, {how}", f"{np.median(found):.3f}", percent(np.mean(found >= threshold))])
    other = np.array(others)
    rows.append(
        ["another clip of the same label", f"{np.median(other):.3f}", percent(np.mean(other >= threshold))]
    )
    return table([f"cosine from {threshold:.3f} on", "median cosine", "folded"], rows)


def cuts(records: Records) -> str:
    """Return how well times agree, and what it costs."""
    rows = []
    for reading in READINGS:
        record = records["cuts", reading]
        overlaps = np.array(record["overlaps"])
        shares = [percent(np.mean(overlaps >= level)) for level in (0.5, 0.7)]
        rows.append(
            [
                reading,
                str(record["vectors"]),
                f"{statistics.mean(overlaps):.2f}",
                *shares,
                f"{record['decoding']:.1f} s",
            ]
        )
    return table(
        ["windows", "vectors", "mean overlap", "overlap from 0.5", "from 0.7", "decoding, CPU time"], rows
    )


def found(records: Records) -> str:
    """Say in a sentence how many cuts were found."""
    record = next(r["cuts"] for k, r in records.items() if k[0] == "cuts" and r["cuts"])
    ends = f"{record['other ends']} windows end elsewhere"
    return f"{record['found']} of {record['cuts']} cuts were found, and {ends}"


def near(records: Records) -> str:
    """Say in a sentence how often what is half there is taken for there."""
    answers = [a for archive in ARCHIVES for a in records[("near", *archive)]["answers"]]
    shares = [percent(np.mean([a[3] >= level for a in answers])) for level in (0.9, 0.99)]
    return f"{shares[0]} of such queries get an answer at 0.9, {shares[1]} at 0.99"


KINDS: Kinds = {
    "near": ("near", near),
    "confidence": ("confidence", confidence),
    "archives": ("confidence", archives),
    "learned": ("learned", learned),
    "copies": ("copies", copies),
    "cuts": ("cuts", cuts),
    "found": ("cuts", found),
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    args = parser.parse_args()
    template = Path(__file__).parent / "search.md.template"
    write_page(args.page, template, KINDS, read_records(args.results), {})


if __name__ == "__main__":
    main()
