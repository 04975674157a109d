"""How each kind of record is shown: a new one needs a line in `VIEWS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from typing import Any, Literal, NamedTuple

from stopcli import results as r
from stopcli.output.explanation_numbers import explanation_facts, explanation_numbers
from stopcli.results import clock, span
from stopcli.results import training as t

BAR = 20  # characters of a full bar


class Cell(NamedTuple):
    """A piece of text in a table, and how it looks."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: Literal["text", "number", "path", "bar"] = "text"


TIME, VIDEO, SCORE = Column("time"), Column("video", "path"), Column("score", "number")
SURE, ALSO, CLIP = Column("confidence", "number"), Column("also in", "path"), Column("clip", "path")
OPTIONAL = (TIME, SURE, ALSO, CLIP)


class Table(NamedTuple):
    """Columns, and rows of one cell each; without a header it is a list of facts."""

    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    header: bool = True


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


def _table(rows: Iterable[Sequence[object]], *columns: Column, header: bool = True) -> Table:
    """Make a table; columns that may be empty, such as times of whole files, are left out if they are."""
    cells = [[v if isinstance(v, Cell) else Cell(str(v)) for v in row] for row in rows]
    shown = [i for i, c in enumerate(columns) if c not in OPTIONAL or any(row[i].text for row in cells)]
    return Table(tuple(columns[i] for i in shown), [[row[i] for i in shown] for row in cells], header)


def _classifications(records: Sequence[r.Classification]) -> Table:
    rows = []
    for path, clips in groupby(records, key=lambda record: record.path):
        for n, clip in enumerate(clips):
            for i, score in enumerate(clip.scores):
                label = Cell(score.label, "dim" if i else "bold")
                full, rest = divmod(round(score.score * BAR * 8), 8)
                bar = Cell("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), "cyan")
                when = "" if i else span(clip.start, clip.end)
                rows.append(("" if i or (n and when) else path, when, label, f"{score.score:.1%}", bar))
    return _table(rows, VIDEO, TIME, Column("label"), SCORE, Column("", "bar"))


def _hits(records: Sequence[r.Hit]) -> Table:
    rows = []
    for h in records:
        sure = "" if h.confidence is None else f"{h.confidence:.2f}"
        also = h.also[0] + (f" and {len(h.also) - 1} more" if len(h.also) > 1 else "") if h.also else ""
        facts = (h.path, span(h.start, h.end), also, h.clip or "")
        rows.append((h.query if h.rank == 1 else "", h.rank, f"{h.score:.3f}", sure, *facts))
    return _table(rows, Column("query"), Column("rank", "number"), SCORE, SURE, VIDEO, TIME, ALSO, CLIP)


MODES = {"copy": "copied", "joined": "copied, its ends encoded again", "encoded": "encoded again"}


def _saved(records: Sequence[r.SavedClip]) -> Table:
    rows = [
        (c.path, f"{clock(c.start)}-{clock(c.start + c.duration)}", c.source, MODES[c.mode]) for c in records
    ]
    return _table(rows, CLIP, TIME, Column("of", "path"), Column("how"))


def _embedded(records: Sequence[r.Embedded]) -> Table:
    rows = [(e.row, e.path, span(e.start, e.end)) for e in records]
    return _table(rows, Column("row", "number"), VIDEO, TIME)


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
    return _table(rows, Column(f.path, "path"), *numbers)


def _sure(interval: t.Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.0f} to {interval[1]:.0f} %"


def _plan(records: Sequence[t.TrainingPlan]) -> Table:
    (plan,) = records
    clips = ", ".join(f"{count} {split}" for split, count in plan.clips.items() if count)
    return _facts(
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


def _benchmark(records: Sequence[r.BenchmarkScore]) -> Table:
    names = list(dict.fromkeys(name for score in records for name in score.scores))
    rows = []
    for direction, scores in groupby(records, key=lambda record: record.direction):
        for n, score in enumerate(scores):
            method = Cell(score.method, "dim" if score.published else "")
            cells = (cell(score, name) for name in names)
            rows.append((method, "" if n else direction, *cells, score.clips or ""))
    numbers = (Column(name, "number") for name in (*names, "clips"))
    return _table(rows, Column("method"), Column("direction"), *numbers)


def cell(score: r.BenchmarkScore, name: str) -> str:
    """Return a score with its interval, as tables show it."""
    value = f"{score.scores[name]:.1f}" if name in score.scores else ""
    if name not in score.interval:
        return value
    low, high = score.interval[name]
    return f"{value} ({low:.1f}-{high:.1f})"


def flat(score: r.BenchmarkScore) -> dict[str, object]:
    """Return a score as one row of plain values."""
    out: dict[str, object] = {"method": score.method, "dataset": score.dataset, "direction": score.direction}
    for name in ("top-1", "top-5", "R@1", "R@5", "R@10", "MdR", "MnR"):
        low, high = score.interval.get(name, (None, None))
        out |= {name: score.scores.get(name), f"{name} low": low, f"{name} high": high}
    return out | {"clips": score.clips, "missing": score.missing, "published": score.published}


def _speeds(records: Sequence[r.Speed]) -> Table:
    forms = ("{:.0%}", "{:.2f}x", "{:.2f}", "{:.0%}", "{:,.0f}")
    rows = []
    for s in records:
        values = (s.spread, s.over_plain, s.tflops, s.share, s.peak_mib)
        measured = ("" if v is None else form.format(v) for form, v in zip(forms, values, strict=True))
        rate = f"{s.per_second:,.2f} {s.unit}"
        rows.append((s.stage, s.model, s.precision, s.batch_size, rate, *measured))
    numbers = ("batch", "per second", "spread", "over plain", "TFLOP/s", "share", "MiB")
    columns = (Column(name, "number") for name in numbers)
    return _table(rows, Column("stage"), Column("model"), Column("precision"), *columns)


def _throughput(records: Sequence[r.Throughput]) -> Table:
    (t,) = records
    length = "whole files" if t.window is None else f"windows of {t.window:g} s"
    return _facts(
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


def _indexed(records: Sequence[r.IndexedFile]) -> Table:
    rows = [(f.vectors, f"{f.size / 1e6:.1f}", f.path, f.fault or "") for f in records]
    numbers = Column("vectors", "number"), Column("MB", "number")
    return _table(rows, *numbers, Column("file", "path"), Column("fault"))


def _models(records: Sequence[r.ModelEntry]) -> Table:
    rows = []
    for m in records:
        name = f"{m.name} (default)" if m.default else m.name
        size = "" if m.size is None else _megabytes(m.size)
        rows.append(
            (name, _text(m.here), size, f"{m.parameters} M" if m.parameters else "", m.license, m.description)
        )
    numbers = Column("size", "number"), Column("parameters", "number")
    return _table(rows, Column("name"), Column("here"), *numbers, Column("license"), Column("description"))


def _towers(records: Sequence[r.ModelTower]) -> Table:
    rows = [
        (t.name, t.tower, t.size, t.fit or "", t.context, t.languages, t.extra or "", t.note or "yes")
        for t in records
    ]
    numbers = Column("px", "number"), Column("fit"), Column("tokens", "number")
    return _table(
        rows, Column("name"), Column("tower"), *numbers, *map(Column, ("languages", "extra", "prompts"))
    )


def _written(records: Sequence[r.Written]) -> Table:
    rows = [(w.path, w.description) for w in records]
    return _table(rows, Column("path", "path"), Column(""), header=False)


def _facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one pair a line; absent values are left out."""
    rows = [(Cell(name, "bold"), _text(value)) for name, value in pairs if value is not None]
    return _table(rows, Column("name"), Column("value"), header=False)


def _text(value: Any) -> str:
    """Return a value as people read it; of nested ones what fits on a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if v is not None and not isinstance(v, dict)}
        return ", ".join(f"{k} {_text(v)}" for k, v in plain.items())
    return str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _record_facts(records: Sequence[Any]) -> Table:
    pairs: list[tuple[str, Any]] = []
    for name, value in vars(records[0]).items():
        if name in ("training", "metrics") and value:
            pairs += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            pairs.append((name, _megabytes(value) if value and name in ("size", "freed") else value))
    return _facts((name, value) for name, value in pairs if value != 0)  # counts of what was not done


def _index_info(records: Sequence[r.IndexInfo]) -> Table:
    (info,) = records
    pairs: list[tuple[str, Any]] = [("folder", info.folder), ("format", info.format), ("files", info.files)]
    pairs.append(("size", _megabytes(info.bytes)))
    for s in info.spaces:
        window = (
            f"{'shots of up to' if s.shots else 'windows of'} {s.window:g} s" if s.window else "whole files"
        )
        made = f"{window}, {s.frames} frames, {s.precision}, weights {s.weights[:12]}"
        pairs.append((s.model, f"{s.vectors} vectors: {made}"))
    return _facts(pairs)


def _check_facts(check: r.IndexCheck) -> dict[str, Any]:
    found = "; ".join(check.problems) or "none"
    return {"folder": check.folder, "problems": found, "forgotten": check.forgotten, "aside": check.aside}


def _index_check(records: Sequence[r.IndexCheck]) -> Table:
    facts = {"folder": records[0].folder, "problems": len(records[0].problems) or "none"}
    if records[0].forgotten:
        facts["forgotten"] = f"{records[0].forgotten} files' vectors"
    return _facts([*facts.items(), ("set aside in", records[0].aside)])


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
    return _facts(explanation_facts(records[0]).items())


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
    r.Embedded: View(_embedded),
    t.Finetuned: View(_finetuned),
    t.TrainingPlan: View(_plan, lambda plan: f"{plan.steps}\t{plan.seconds:.0f}"),
    r.BenchmarkScore: View(
        _benchmark,
        lambda s: f"{s.method}\t{s.direction}\t{next(iter(s.scores.values())):.2f}",
        lambda s: [flat(s)],
    ),
    r.Speed: View(_speeds, lambda s: f"{s.stage}\t{s.per_second:.2f}"),
    r.Throughput: View(_throughput, lambda t: f"{t.clips_per_second:.2f}\t{t.footage_hours_per_hour:.1f}"),
    r.IndexedFile: View(_indexed),
    r.IndexInfo: View(_index_info, lambda info: info.folder, _flat_index),
    r.IndexChange: View(_record_facts, lambda change: change.folder),
    r.IndexCheck: View(_index_check, lambda check: check.folder, lambda check: [_check_facts(check)]),
    r.ModelEntry: View(_models, lambda model: model.name),
    r.ModelTower: View(_towers, lambda tower: tower.name),
    r.ModelInfo: View(_record_facts, lambda model: model.name),
    r.Written: View(_written),
    r.Explanation: View(_explanation, lambda e: e.written or e.path, lambda e: [explanation_facts(e)]),
    r.Diagnosis: View(
        lambda d: _facts(d[0].facts.items()), lambda d: "healthy" if d.healthy else "unhealthy"
    ),
}
