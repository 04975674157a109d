"""How each kind of record is shown: a new one needs a line in `VIEWS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import Any, NamedTuple

from stopcli import results as r
from stopcli.output.benchmark_tables import (
    flat,
    flat_trial,
    scores_table,
    speeds_table,
    throughput_table,
    trials_table,
)
from stopcli.output.explanation_numbers import explanation_facts, explanation_numbers
from stopcli.output.layout import (
    ALSO,
    CLIP,
    SCORE,
    SURE,
    TIME,
    VIDEO,
    Cell,
    Column,
    Table,
    facts,
    table,
    text,
)
from stopcli.results import clock, span
from stopcli.results import measured as m
from stopcli.results import training as t

BAR = 20  # characters of a full bar


def to_dict(record: Any) -> dict[str, Any]:
    """Return a record as JSON holds it."""
    if isinstance(record, r.Diagnosis):
        return {**record.facts, "healthy": record.healthy}
    if isinstance(record, r.Explanation):
        return explanation_numbers(record)
    return asdict(record)


def table_of(records: Sequence[Any]) -> Table:
    """Return the table of records of one kind."""
    return VIEWS[type(records[0])].table(records)


def _classifications(records: Sequence[r.Classification]) -> Table:
    rows = []
    for path, clips in groupby(records, key=lambda record: record.path):
        for n, clip in enumerate(clips):
            for i, score in enumerate(clip.scores):
                label = Cell(score.label, "dim" if i else "bold")
                full, rest = divmod(round(score.score * BAR * 8), 8)
                bar = Cell("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), "cyan")
                when = "" if i else span(clip.start, clip.end)
                sure = "" if i or score.confidence is None else f"{score.confidence:.2f}"
                rows.append(("" if i or (n and when) else path, when, label, f"{score.score:.1%}", sure, bar))
    return table(rows, VIDEO, TIME, Column("label"), SCORE, SURE, Column("", "bar"))


def _hits(records: Sequence[r.Hit]) -> Table:
    rows = []
    before = None
    for h in records:
        query, before = "" if h.query == before else h.query, h.query
        sure = "" if h.confidence is None else f"{h.confidence:.2f}"
        also = h.also[0] + (f" and {len(h.also) - 1} more" if len(h.also) > 1 else "") if h.also else ""
        facts = (h.path, span(h.start, h.end), also, h.clip or "")
        rows.append((query, h.rank, f"{h.score:.3f}", sure, *facts))
    return table(rows, Column("query"), Column("rank", "number"), SCORE, SURE, VIDEO, TIME, ALSO, CLIP)


MODES = {"copy": "copied", "joined": "copied, its ends encoded again", "encoded": "encoded again"}


def _saved(records: Sequence[r.SavedClip]) -> Table:
    rows = [
        (c.path, f"{clock(c.start)}-{clock(c.start + c.duration)}", c.source, MODES[c.mode]) for c in records
    ]
    return table(rows, CLIP, TIME, Column("of", "path"), Column("how"))


def _embedded(records: Sequence[r.Embedded]) -> Table:
    rows = [(e.row, e.path, span(e.start, e.end)) for e in records]
    return table(rows, Column("row", "number"), VIDEO, TIME)


def _finetuned(records: Sequence[t.Finetuned]) -> Table:
    (f,) = records
    clips = f.clips or {}
    scores = (
        ("validation", f.validation_plain, f.validation, f.validation_interval, clips.get("val")),
        ("test", f.test_plain, f.test, f.test_interval, clips.get("test")),
    )
    rows: list[tuple[object, ...]] = [
        (
            f"{name} {f.metric}",
            "" if plain is None else f"{plain:.1f} %",
            Cell(f"{tuned:.1f} %", "bold"),
            _sure(interval),
            count or "",
        )
        for name, plain, tuned, interval, count in scores
        if tuned is not None
    ]
    if f.cross_validation is not None:
        c = f.cross_validation
        rows.append((f"{c.folds}-fold {f.metric}", "", f"{c.score:.1f} %", _sure(c.interval), c.clips))
    rows += [("labels recognized by", "", f.head, "", "")] if f.task == "classification" else []
    numbers = (Column(name, "number") for name in ("plain CLIP", "fine-tuned", "95 % interval", "clips"))
    return table(rows, Column(f.path, "path"), *numbers)


def _sure(interval: t.Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.0f} to {interval[1]:.0f} %"


def _plan(records: Sequence[t.TrainingPlan]) -> Table:
    (plan,) = records
    clips = ", ".join(f"{count} {split}" for split, count in plan.clips.items() if count)
    return facts(
        {
            "clips": clips,
            "labels": plan.classes,
            "parameters to train": f"{plan.trainable:,}",
            "device": f"{plan.device}, {plan.precision}",
            "steps": f"{plan.steps} of {plan.batch_size} clips ({plan.epochs} epochs)",
            "mirrored": "half of the clips" if plan.flip else "no",
            "colors": "varied" if plan.color else "as they are",
            "plain CLIP": None if plan.plain is None else f"{plan.metric} {plan.plain:.1f} %",
            "seconds": round(plan.seconds),
        }.items()
    )


def _indexed(records: Sequence[r.IndexedFile]) -> Table:
    rows = [(f.vectors, f"{f.size / 1e6:.1f}", f.path, f.fault or "") for f in records]
    numbers = Column("vectors", "number"), Column("MB", "number")
    return table(rows, *numbers, Column("file", "path"), Column("fault"))


def _models(records: Sequence[r.ModelEntry]) -> Table:
    rows = []
    for entry in records:
        name = f"{entry.name} (default)" if entry.default else entry.name
        size = "" if entry.size is None else _megabytes(entry.size)
        rows.append(
            (
                name,
                text(entry.here),
                size,
                f"{entry.parameters} M" if entry.parameters else "",
                entry.license,
                entry.description,
            )
        )
    numbers = Column("size", "number"), Column("parameters", "number")
    return table(rows, Column("name"), Column("here"), *numbers, Column("license"), Column("description"))


def _towers(records: Sequence[r.ModelTower]) -> Table:
    rows = [
        (t.name, t.tower, t.size, t.fit or "", t.context, t.languages, t.extra or "", t.note or "yes")
        for t in records
    ]
    numbers = Column("px", "number"), Column("fit"), Column("tokens", "number")
    return table(
        rows, Column("name"), Column("tower"), *numbers, *map(Column, ("languages", "extra", "prompts"))
    )


def _written(records: Sequence[r.Written]) -> Table:
    rows = [(w.path, w.description) for w in records]
    return table(rows, Column("path", "path"), Column(""), header=False)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _record_facts(records: Sequence[Any]) -> Table:
    pairs: list[tuple[str, Any]] = []
    for name, first in vars(records[0]).items():
        value = sum(getattr(record, name) for record in records) if type(first) is int else first
        if name in ("training", "metrics") and value:
            pairs += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            pairs.append((name, _megabytes(value) if value and name in ("size", "freed") else value))
    return facts((name, value) for name, value in pairs if value != 0)  # counts of what was not done


def _index_info(records: Sequence[r.IndexInfo]) -> Table:
    (info,) = records
    pairs: list[tuple[str, Any]] = [("folder", info.folder), ("format", info.format), ("files", info.files)]
    pairs.append(("size", _megabytes(info.bytes)))
    for s in info.spaces:
        window = (
            f"{'shots of up to' if s.shots else 'windows of'} {s.window:g} s" if s.window else "whole files"
        )
        made = f"{window}, {s.frames} frames, {s.precision}, weights {s.weights[:12]}"
        pairs.append((f"space {s.id}", f"{s.model}, {s.vectors} vectors: {made}"))
    return facts(pairs)


def _check_facts(check: r.IndexCheck) -> dict[str, Any]:
    found = "; ".join(check.problems) or "none"
    return {"folder": check.folder, "problems": found, "forgotten": check.forgotten, "aside": check.aside}


def _index_check(records: Sequence[r.IndexCheck]) -> Table:
    (check,) = records
    lost = f"{check.forgotten} files' vectors" if check.forgotten else None
    what = {"folder": check.folder, "problems": len(check.problems) or "none", "forgotten": lost}
    return facts([*what.items(), ("set aside in", check.aside)])


def _flat_index(info: r.IndexInfo) -> Iterable[dict[str, Any]]:
    whole = {name: value for name, value in vars(info).items() if name != "spaces"}
    for space in info.spaces or (None,):
        yield whole | {f.name: getattr(space, f.name, None) for f in fields(r.IndexSpace)}


def _flat_scores(record: r.Classification) -> Iterable[dict[str, Any]]:
    for rank, score in enumerate(record.scores, 1):
        yield {"path": record.path, "start": record.start, "end": record.end, "rank": rank, **asdict(score)}


def _flat(record: Any) -> Iterable[dict[str, Any]]:
    """Return the one row of a record that CSV can hold: nested values as JSON."""
    nested = {k: v for k, v in to_dict(record).items() if isinstance(v, (dict, list, tuple))}
    yield to_dict(record) | {k: json.dumps(v, ensure_ascii=False) for k, v in nested.items()}


def _explanation(records: Sequence[r.Explanation]) -> Table:
    return facts(explanation_facts(records[0]).items())


def _place(record: r.Hit | r.Classification) -> str:
    """Return the path, and where it is a moment of it, when that begins and ends."""
    if record.start is None or record.end is None:
        return record.path
    return f"{record.path}\t{record.start:.3f}\t{record.end:.3f}"


class View(NamedTuple):
    """How records of one kind are shown: as a table, in a line for ``--quiet``, as rows for CSV."""

    table: Callable[[Sequence[Any]], Table]
    short: Callable[[Any], str] = lambda record: str(record.path)
    flat: Callable[[Any], Iterable[dict[str, Any]]] = _flat


VIEWS: dict[type, View] = {
    r.Classification: View(_classifications, lambda c: f"{_place(c)}\t{c.scores[0].label}", _flat_scores),
    r.Hit: View(_hits, lambda hit: _place(hit)),
    r.SavedClip: View(_saved),
    r.Embedded: View(_embedded, lambda e: _place(e)),
    t.Finetuned: View(_finetuned),
    t.TrainingPlan: View(_plan, lambda plan: f"{plan.steps}\t{plan.seconds:.0f}"),
    m.BenchmarkScore: View(
        scores_table,
        lambda s: f"{s.method}\t{s.direction}\t{next(iter(s.scores.values())):.2f}",
        lambda s: [flat(s)],
    ),
    m.TrialScore: View(
        trials_table,
        lambda s: f"{s.method}\t{s.weights}\t{list(s.scores.values())[-1]:.2f}",
        lambda s: [flat_trial(s)],
    ),
    m.Speed: View(speeds_table, lambda s: f"{s.stage}\t{s.per_second:.2f}"),
    m.Throughput: View(
        throughput_table, lambda t: f"{t.clips_per_second:.2f}\t{t.footage_hours_per_hour:.1f}"
    ),
    r.IndexedFile: View(_indexed),
    r.IndexInfo: View(_index_info, lambda info: info.folder, _flat_index),
    r.IndexChange: View(_record_facts, lambda change: change.folder),
    r.IndexCheck: View(_index_check, lambda check: check.folder, lambda check: [_check_facts(check)]),
    r.ModelEntry: View(_models, lambda model: model.name),
    r.ModelTower: View(_towers, lambda tower: tower.name),
    r.ModelInfo: View(_record_facts, lambda model: model.name),
    r.Written: View(_written),
    r.Explanation: View(_explanation, lambda e: e.written or e.path, lambda e: [explanation_facts(e)]),
    r.Diagnosis: View(lambda d: facts(d[0].facts.items()), lambda d: "healthy" if d.healthy else "unhealthy"),
}
