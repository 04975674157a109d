"""Files of a benchmark's result: JSON, CSV, Markdown, scores by class, a picture of confusions."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import FileExists
from stopcli.eval.metrics import confusion
from stopcli.output import figures as plots
from stopcli.output.tables import cell, flat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stopcli.eval.accuracy import Report
    from stopcli.results import BenchmarkScore

FILES = ("results.json", "results.csv", "results.md")


def check_folder(folder: Path, *, force: bool) -> None:
    """Make sure that results can be written.

    Raises:
        FileExists: it holds results already, and ``force`` is not set.
    """
    held = [folder / name for name in FILES if (folder / name).exists()]
    if held and not force:
        raise FileExists(f"{held[0]}: is there already; use --force to replace it, or another -o")


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write a benchmark's result; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "schema": 1,
        "benchmark": report.benchmark.protocol,
        "scores": [asdict(s) for s in report.scores],
        "missing": list(report.missing),
        "errors": [asdict(f) for f in report.failures],
    }
    written = [
        _write(folder / "results.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n"),
        _write(folder / "results.csv", _csv(report.scores)),
        _write(folder / "results.md", markdown(report)),
    ]
    labels = report.benchmark.labels
    if report.said:
        written.append(_write(folder / "by-class.csv", _by_class(report)))
    for name, (truth, said) in report.said.items():
        counts = confusion(truth, said, len(labels))
        path = folder / f"confusion-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
        plots.confusion(path, counts, labels, f"{name}: {len(truth)} clips")
        written.append(path)
    return written


def markdown(report: Report) -> str:
    """Return tables, one a direction."""
    parts = [f"{report.benchmark.protocol}.\n"]
    for direction in dict.fromkeys(s.direction for s in report.scores):
        rows = [s for s in report.scores if s.direction == direction]
        names = list(dict.fromkeys(name for s in rows for name in s.scores))
        measured = next(s for s in rows if not s.published)
        parts.append(f"## {direction}: {measured.clips} clips, {measured.missing} missing\n")
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        lines += [f"| {s.method} | " + " | ".join(cell(s, n) for n in names) + " |" for s in rows]
        parts.append("\n".join(lines) + "\n")
    made = next(s.provenance for s in report.scores if not s.published)
    parts.append(
        "In brackets: bootstrap 95 % intervals. " + "; ".join(f"{k} {v}" for k, v in made.items()) + ".\n"
    )
    return "\n".join(parts)


def _csv(scores: Sequence[BenchmarkScore]) -> str:
    held = io.StringIO()
    rows = [flat(s) for s in scores]
    writer = csv.DictWriter(held, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return held.getvalue()


def _by_class(report: Report) -> str:
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(["method", "label", "clips", "top-1", "most often taken for"])
    labels = report.benchmark.labels
    for name, (truth, said) in report.said.items():
        counts = confusion(truth, said, len(labels))
        for i, label in enumerate(labels):
            total = int(counts[i].sum())
            if not total:
                continue
            wrong = counts[i].copy()
            wrong[i] = 0
            other = labels[int(np.argmax(wrong))] if wrong.any() else ""
            writer.writerow([name, label, total, round(100 * counts[i, i] / total, 2), other])
    return held.getvalue()


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return path
