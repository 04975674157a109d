"""Files of a benchmark's result: JSON, CSV, Markdown, scores by class, a picture of confusions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from stopcli.errors import FileExists
from stopcli.eval.accuracy import Report
from stopcli.eval.metrics import confusion
from stopcli.fileio import exists, is_folder, make_folder, read_json, to_json, write_text
from stopcli.output import figures
from stopcli.output.benchmark_tables import cell, flat, flat_trial
from stopcli.output.sink import safe_cell
from stopcli.results.measured import TrialScore

FILES = ("results.json", "results.csv", "results.md")


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise FileExists for a file, or a folder that holds results already where ``force`` is not set."""
    if exists(folder) and not is_folder(folder):
        raise FileExists(f"{folder}: is a file; -o names the folder to write results to")
    existing = [folder / name for name in FILES if (folder / name).exists()]
    if existing and not force:
        raise FileExists(f"{existing[0]}: is there already; use --force to replace it, or another -o")


def check_trials(
    folder: Path, what: str, trials: Collection[tuple[int, int]], made: Mapping[str, Any], *, force: bool
) -> None:
    """Raise FileExists as `check_folder`, unless the results are of the same trials, or of fewer.

    ``trials`` are shots and seeds; ``made`` are the model and the settings, as the results have them.
    """
    try:
        known = read_json(folder / "results.json")
        own = [score for score in known["scores"] if not score["published"]]
        done = {(score["shots"], int(seed)) for score in own for seed in score["seeds"]}
        alike = all({name: score["provenance"][name] for name in made} == made for score in own)
        if known["benchmark"] == what and alike and done <= set(trials):
            return
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
        pass
    check_folder(folder, force=force)


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write a benchmark's result and return the files; raises CannotWrite."""
    make_folder(folder)
    results = {
        "schema": 1,
        "benchmark": report.benchmark.protocol,
        "scores": [asdict(s) for s in report.scores],
        "missing": list(report.missing),
        "errors": [asdict(f) for f in report.failures],
    }
    rows = [flat(s) for s in report.scores]
    texts = {
        "results.json": to_json(results, 2) + "\n",
        "results.csv": _csv([rows[0], *(r.values() for r in rows)]),
        "results.md": markdown(report),
    }
    if report.predictions:
        head = ("method", "label", "clips", "top-1", "most often taken for")
        texts["by-class.csv"] = _csv([head, *_by_class(report)])
    for name, text in texts.items():
        write_text(folder / name, text)
    written = [folder / name for name in texts]
    labels = report.benchmark.labels
    for method, (truth, predicted) in report.predictions.items():
        written.append(_free(folder, method, written))
        counts = confusion(truth, predicted, len(labels))
        figures.confusion(written[-1], counts, labels, f"{method}: {len(truth)} clips")
    return written


def _free(folder: Path, method: str, taken: Sequence[Path]) -> Path:
    """Return where the confusion of a method is drawn: names of several may read alike."""
    name = f"confusion-{re.sub(r'[^a-z0-9]+', '-', method.lower()).strip('-')}"
    files = (folder / f"{name}{'' if n == 1 else f'-{n}'}.png" for n in count(1))
    return next(file for file in files if file not in taken)


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
    known = {
        s.method: {k: _setting(v) for k, v in s.provenance.items()} for s in report.scores if not s.published
    }
    shared, *others = ({k: v for k, v in how.items() if v} for how in known.values())
    shared = {k: v for k, v in shared.items() if all(how.get(k) == v for how in others if "model" in how)}
    parts.append(f"In brackets: 95 % intervals. {_listed(shared)}.\n")
    parts += [f"Note: {note}.\n" for note in report.notes]
    own = {name: {k: v for k, v in how.items() if v and k not in shared} for name, how in known.items()}
    parts.append("\n".join(f"- {name}: {_listed(how)}." for name, how in own.items() if how) + "\n")
    return "\n".join(parts)


def _setting(value: Any) -> str:
    """Return a setting as a person reads it; nothing for one that says nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_setting(v)}" for k, v in value.items())
    if isinstance(value, list):
        return (
            ", ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in value) if len(value) > 1 else ""
        )
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"`{value}`" if "{" in str(value) else str(value)


def _listed(settings: Mapping[str, str]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


def write_trials(
    folder: Path, what: str, command: str, rows: Sequence[TrialScore], missing: Sequence[str]
) -> list[Path]:
    """Write what models made from few clips know, and return the files; raises CannotWrite."""
    make_folder(folder)
    results = {"schema": 1, "benchmark": what, "command": command}
    results |= {"scores": [asdict(row) for row in rows], "missing": list(missing)}
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    lines = [f"{what}. `{command}`\n", "| | clips a class | weights | " + " | ".join(names) + " | seeds |"]
    lines.append("|---|---:|---|" + "---:|" * (len(names) + 1))
    for row in rows:
        values = [f"{row.scores[n]:.1f}" if n in row.scores else "" for n in names]
        each = ", ".join(f"{seed[names[-1]]:.1f}" for seed in row.seeds.values())
        lines.append("| " + " | ".join([row.method, str(row.shots or ""), row.weights, *values, each]) + " |")
    plain = [flat_trial(row) for row in rows]
    texts = {
        "results.json": to_json(results, 2) + "\n",
        "results.csv": _csv([plain[0], *(r.values() for r in plain)]),
        "results.md": "\n".join(lines) + "\n",
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def _by_class(report: Report) -> Iterator[tuple[object, ...]]:
    labels = report.benchmark.labels
    for method, (truth, predicted) in report.predictions.items():
        counts = confusion(truth, predicted, len(labels))
        for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
            total, right = int(row.sum()), int(row[i])
            row[i] = 0
            other = labels[int(row.argmax())] if row.any() else ""
            if total:
                yield method, label, total, round(100 * right / total, 2), other


def _csv(rows: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(safe_cell, row) for row in rows)
    return buffer.getvalue()
