"""How measurements are shown: of accuracy, of speed, of what goes through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stopcli.output.layout import Cell, Column, Table, facts, table
from stopcli.results import measured as m

NAMES = ("top-1", "top-5", "R@1", "R@5", "R@10", "MdR", "MnR")


def scores_table(records: Sequence[m.BenchmarkScore]) -> Table:
    """Return the table of scores of methods on a data set."""
    names = list(dict.fromkeys(name for score in records for name in score.scores))
    rows = []
    for direction, scores in groupby(records, key=lambda record: record.direction):
        for n, score in enumerate(scores):
            method = Cell(score.method, "dim" if score.published else "")
            cells = (cell(score, name) for name in names)
            rows.append((method, "" if n else direction, *cells, score.clips or ""))
    numbers = (Column(name, "number") for name in (*names, "clips"))
    return table(rows, Column("method"), Column("direction"), *numbers)


def cell(score: m.BenchmarkScore, name: str) -> str:
    """Return a score with its interval, as tables show it."""
    value = f"{score.scores[name]:.1f}" if name in score.scores else ""
    if name not in score.interval:
        return value
    low, high = score.interval[name]
    return f"{value} ({low:.1f}-{high:.1f})"


def flat(score: m.BenchmarkScore) -> dict[str, object]:
    """Return a score as one row of plain values."""
    out: dict[str, object] = {"method": score.method, "dataset": score.dataset, "direction": score.direction}
    for name in dict.fromkeys((*NAMES, *score.scores)):
        low, high = score.interval.get(name, (None, None))
        out |= {name: score.scores.get(name), f"{name} low": low, f"{name} high": high}
    return out | {"clips": score.clips, "missing": score.missing, "published": score.published}


def speeds_table(records: Sequence[m.Speed]) -> Table:
    """Return the table of measurements of speed."""
    forms = ("{:.0%}", "{:.2f}x", "{:.2f}", "{:.0%}", "{:,.0f}")
    rows = []
    for s in records:
        values = (s.spread, s.over_plain, s.tflops, s.share, s.peak_mib)
        measured = ("" if v is None else form.format(v) for form, v in zip(forms, values, strict=True))
        rate = f"{s.per_second:,.2f} {s.unit}"
        rows.append((s.stage, s.model, s.precision, s.batch_size, rate, *measured))
    numbers = ("batch", "per second", "spread", "over plain", "TFLOP/s", "share", "MiB")
    columns = (Column(name, "number") for name in numbers)
    return table(rows, Column("stage"), Column("model"), Column("precision"), *columns)


def throughput_table(records: Sequence[m.Throughput]) -> Table:
    """Return the facts of what went through."""
    (t,) = records
    length = "whole files" if t.window is None else f"windows of {t.window:g} s"
    return facts(
        {
            "device": f"{t.device}, {t.precision}, {t.cores} cores",
            "clips": f"{t.clips:,} ({length}, {t.frames} frames each) of {t.files:,} files",
            "failed": t.failed,
            "footage": f"{t.footage_seconds / 3600:,.2f} h in {t.seconds:,.1f} s",
            "together": f"{t.clips_per_second:,.2f} clips/s, {t.footage_hours_per_hour:,.0f} h an hour",
            "decoding alone": f"{t.decoded_per_second_and_core:,.2f} clips/s a core",
            "the model alone": f"{t.encoded_per_second:,.2f} clips/s in batches of {t.batch_size}",
            "cores that keep it busy": f"{t.decode_cores_per_encoder:,.1f}",
        }.items()
    )


def trials_table(records: Sequence[m.TrialScore]) -> Table:
    """Return the table of models made from few clips."""
    names = list(dict.fromkeys(name for score in records for name in score.scores))
    rows = []
    for s in records:
        key = names[-1] if s.seeds else ""
        each = ", ".join(f"{scores[key]:.1f}" for scores in s.seeds.values())
        values = (f"{s.scores[name]:.1f}" if name in s.scores else "" for name in names)
        rows.append((Cell(s.method, "dim" if s.published else ""), s.shots or "", s.weights, *values, each))
    numbers = (Column(name, "number") for name in (*names, "each seed"))
    return table(rows, Column("method"), Column("clips a class", "number"), Column("weights"), *numbers)


def flat_trial(score: m.TrialScore) -> dict[str, object]:
    """Return a row of a trial as plain values."""
    names = ("top-1", "base", "novel", "harmonic mean")
    what = (score.method, score.dataset, score.protocol, score.shots, score.weights)
    out: dict[str, object] = dict(
        zip(("method", "dataset", "protocol", "shots", "weights"), what, strict=True)
    )
    out |= {name: score.scores.get(name) for name in names}
    return out | {"seeds": len(score.seeds), "clips": score.clips, "published": score.published}
