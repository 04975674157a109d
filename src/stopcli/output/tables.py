"""How each kind of record is shown: one `View` a record, looked up in `VIEWS`.

A view gives the columns of a table, one short line for ``--quiet``, and flat rows for CSV. A new record
needs a line in `VIEWS` and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any, Literal

from stopcli import results as r
from stopcli.results import span

BAR = 20  # characters of a full bar


@dataclass(frozen=True)
class Cell:
    """A piece of text in a table, and how it looks."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Literal["text", "number", "path", "bar"] = "text"


@dataclass(frozen=True)
class Table:
    """Columns, and rows of one cell each; without a header it is a list of facts."""

    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    header: bool = True


@dataclass(frozen=True)
class View:
    """How records of one kind are shown."""

    table: Callable[[Sequence[Any]], Table]
    short: Callable[[Any], str] = lambda record: str(record.path)
    flat: Callable[[Any], Iterable[dict[str, Any]]] = lambda record: [_plain(to_dict(record))]


def to_dict(record: Any) -> dict[str, Any]:
    """Return a record as JSON holds it."""
    if isinstance(record, r.Diagnosis):
        return {**record.facts, "healthy": record.healthy}
    return asdict(record)


def table_of(records: Sequence[Any]) -> Table:
    """Return the table of records of one kind."""
    return VIEWS[type(records[0])].table(records)


# ------------------------------------------------------------------------------------ tables


def _cells(*values: object) -> list[Cell]:
    return [v if isinstance(v, Cell) else Cell(str(v)) for v in values]


def _timed(records: Sequence[Any]) -> bool:
    return any(record.start is not None for record in records)


def _classifications(records: Sequence[r.Classification]) -> Table:
    timed = _timed(records)
    rows = []
    for path, clips in groupby(records, key=lambda record: record.path):
        for n, clip in enumerate(clips):
            for i, score in enumerate(clip.scores):
                shown = path if i == 0 and (n == 0 or not timed) else ""
                when = [span(clip.start, clip.end) if i == 0 else ""] if timed else []
                label = Cell(score.label, "bold" if i == 0 else "dim")
                rows.append(
                    _cells(shown, *when, label, f"{score.score:.1%}", Cell(_bar(score.score), "cyan"))
                )
    time = [Column("time")] if timed else []
    columns = (Column("video", "path"), *time, Column("label"), Column("score", "number"), Column("", "bar"))
    return Table(columns, rows)


def _hits(records: Sequence[r.Hit]) -> Table:
    time = [Column("time")] if _timed(records) else []
    rows = []
    for hit in records:
        when = [span(hit.start, hit.end)] if time else []
        rows.append(_cells(hit.query if hit.rank == 1 else "", hit.rank, f"{hit.score:.3f}", hit.path, *when))
    head = (Column("query"), Column("rank", "number"), Column("score", "number"), Column("video", "path"))
    return Table((*head, *time), rows)


def _embedded(records: Sequence[r.Embedded]) -> Table:
    time = [Column("time")] if _timed(records) else []
    rows = [_cells(e.row, e.path, *([span(e.start, e.end)] if time else [])) for e in records]
    return Table((Column("row", "number"), Column("video", "path"), *time), rows)


def _finetuned(records: Sequence[r.Finetuned]) -> Table:
    result = records[0]
    rows = []
    for name, plain, tuned in (
        ("validation", result.validation_plain, result.validation),
        ("test", result.test_plain, result.test),
    ):
        if tuned is not None:
            before = "" if plain is None else f"{plain:.1f} %"
            rows.append(_cells(f"{name} {result.metric}", before, Cell(f"{tuned:.1f} %", "bold")))
    columns = (Column(result.path, "path"), Column("plain CLIP", "number"), Column("fine-tuned", "number"))
    return Table(columns, rows)


def _benchmark(records: Sequence[r.BenchmarkScore]) -> Table:
    names = list(dict.fromkeys(name for score in records for name in score.scores))
    rows = []
    for direction, scores in groupby(records, key=lambda record: record.direction):
        for n, score in enumerate(scores):
            method = Cell(score.method, "dim" if score.published else "")
            cells = [cell(score, name) for name in names]
            rows.append(_cells(method, "" if n else direction, *cells, score.clips or ""))
    numbers = [Column(name, "number") for name in (*names, "clips")]
    return Table((Column("method"), Column("direction"), *numbers), rows)


def _speeds(records: Sequence[r.Speed]) -> Table:
    rows = []
    for s in records:
        optional = (
            ("{:.2f}x", s.over_plain),
            ("{:.2f}", s.tflops),
            ("{:.0%}", s.share),
            ("{:,.0f}", s.peak_mib),
        )
        measured = ["" if value is None else shown.format(value) for shown, value in optional]
        rate = f"{s.per_second:,.2f} {s.unit}"
        rows.append(_cells(s.stage, s.model, s.precision, s.batch_size, rate, *measured))
    numbers = ("batch", "per second", "over plain", "TFLOP/s", "share", "MiB")
    texts = (Column("stage"), Column("model"), Column("precision"))
    return Table((*texts, *(Column(n, "number") for n in numbers)), rows)


def _indexed(records: Sequence[r.IndexedFile]) -> Table:
    rows = [_cells(f.vectors, f"{f.size / 1e6:.1f}", f.path, f.fault or "") for f in records]
    columns = (Column("vectors", "number"), Column("MB", "number"), Column("file", "path"), Column("fault"))
    return Table(columns, rows)


def _models(records: Sequence[r.ModelEntry]) -> Table:
    rows = []
    for m in records:
        here = "yes" if m.here else "no"
        size = "" if m.size is None else _megabytes(m.size)
        rows.append(
            _cells(f"{m.name} (default)" if m.default else m.name, here, size, m.license, m.description)
        )
    columns = (
        Column("name"),
        Column("here"),
        Column("size", "number"),
        Column("license"),
        Column("description"),
    )
    return Table(columns, rows)


def _written(records: Sequence[r.Written]) -> Table:
    return Table(
        (Column("path", "path"), Column("")), [_cells(w.path, w.description) for w in records], header=False
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one pair a line; absent values are left out."""
    rows = [_cells(Cell(name, "bold"), _text(value)) for name, value in pairs if value is not None]
    return Table((Column("name"), Column("value")), rows, header=False)


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


def _record_facts(record: Any) -> Table:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name in ("training", "metrics") and value:
            pairs += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            pairs.append((name, _megabytes(value) if name in ("size", "freed") else value))
    return facts(pairs)


def _index_info(records: Sequence[r.IndexInfo]) -> Table:
    info = records[0]
    pairs: list[tuple[str, Any]] = [
        ("folder", info.folder),
        ("format", info.format),
        ("files", info.files),
        ("size", _megabytes(info.bytes)),
    ]
    for s in info.spaces:
        window = f"windows of {s.window:g} s" if s.window else "whole files"
        made = f"{window}, {s.frames} frames, {s.precision}, weights {s.weights[:12]}"
        pairs.append((s.model, f"{s.vectors} vectors: {made}"))
    return facts(pairs)


# ------------------------------------------------------------------------- scores, flat rows


def cell(score: r.BenchmarkScore, name: str) -> str:
    """Return a score with its interval, as tables show it."""
    if name not in score.scores:
        return ""
    value = f"{score.scores[name]:.1f}"
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


def _flat_scores(record: r.Classification) -> Iterable[dict[str, Any]]:
    for rank, score in enumerate(record.scores, 1):
        yield {"path": record.path, "start": record.start, "end": record.end, "rank": rank, **asdict(score)}


def _flat_index(info: r.IndexInfo) -> Iterable[dict[str, Any]]:
    whole = {"folder": info.folder, "format": info.format, "files": info.files, "bytes": info.bytes}
    names = [f.name for f in fields(r.IndexSpace)]
    for space in info.spaces or (None,):
        yield whole | {n: getattr(space, n, None) for n in names}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values that a CSV cell can hold: nested ones as JSON."""
    nested = (dict, list, tuple)
    return {k: json.dumps(v, ensure_ascii=False) if isinstance(v, nested) else v for k, v in values.items()}


def _bar(share: float) -> str:
    full, rest = divmod(round(share * BAR * 8), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _facts_view(short: Callable[[Any], str]) -> View:
    return View(lambda records: _record_facts(records[0]), short)


VIEWS: dict[type, View] = {
    r.Classification: View(_classifications, lambda c: f"{c.path}\t{c.scores[0].label}", _flat_scores),
    r.Hit: View(_hits),
    r.Embedded: View(_embedded),
    r.Finetuned: View(_finetuned),
    r.BenchmarkScore: View(
        _benchmark,
        lambda s: f"{s.method}\t{s.direction}\t{next(iter(s.scores.values())):.2f}",
        lambda s: [flat(s)],
    ),
    r.Speed: View(_speeds, lambda s: f"{s.stage}\t{s.per_second:.2f}"),
    r.IndexedFile: View(_indexed),
    r.IndexInfo: View(_index_info, lambda info: info.folder, _flat_index),
    r.IndexChange: _facts_view(lambda change: change.folder),
    r.ModelEntry: View(_models, lambda model: model.name),
    r.ModelInfo: _facts_view(lambda model: model.name),
    r.Written: View(_written),
    r.Diagnosis: View(lambda d: facts(d[0].facts.items()), lambda d: "healthy" if d.healthy else "unhealthy"),
}
