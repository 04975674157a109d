"""From records to stdout: tables for people, json, jsonl and csv for programs.

JSON is one object ``{"schema": 1, "command", "status", "data", "errors"}``; jsonl is one record a
line as it is known, errors among them. Errors are said on stderr too, whatever the format.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stopcli.errors import ExitStatus, StopError
from stopcli.output.tables import cell, flat
from stopcli.results import (
    BenchmarkScore,
    Classification,
    Embedded,
    Failure,
    Finetuned,
    Hit,
    IndexedFile,
    Speed,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table
    from typing_extensions import Self

    Record = Classification | Hit | Embedded | Finetuned | BenchmarkScore | Speed | IndexedFile | Failure

SCHEMA = 1
BAR = 20  # characters of a full bar
PLAIN_WIDTH = 10_000  # columns of a table that no terminal cuts


class Output:
    """The records of one command, shown as they come where the format allows it.

    Use as a context manager around all of the command's work: an error that ends it is a record
    too, without a path. Afterwards `exit_status` says how it went: 0, 1 where some inputs failed,
    3 where none could be used.
    """

    def __init__(
        self, command: str, format: str = "auto", *, quiet: bool = False, null: bool = False
    ) -> None:
        self.command = command
        self.format = "quiet" if quiet else "table" if format == "auto" else format
        self._end = "\0" if null else "\n"
        self._data: list[Any] = []
        self._errors: list[Failure] = []
        self._header_done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, StopError):  # whoever catches it says it on stderr
            self._errors.append(Failure(None, error.kind, str(error)))
            if self.format == "jsonl":
                self._line(asdict(self._errors[-1]))
        if self.format == "json":
            self._print_json(interrupted=kind is not None)
        elif self.format == "table" and self._data:
            _console().print(self._table())

    def add(self, record: Record) -> None:
        """Show a record, or keep it for the end."""
        if isinstance(record, Failure):
            self._errors.append(record)
            print(f"skipped: {record.message}", file=sys.stderr)
            if self.format == "jsonl":
                self._line(asdict(record))
            return
        self._data.append(record)
        if self.format == "jsonl":
            self._line(asdict(record))
        elif self.format == "csv":
            self._csv(record)
        elif self.format == "quiet":
            print(_short(record), end=self._end, flush=True)

    def add_all(self, records: Iterable[Record]) -> None:
        """Show several records."""
        for record in records:
            self.add(record)

    @property
    def exit_status(self) -> ExitStatus:
        """Return what the process should answer."""
        if not self._errors:
            return ExitStatus.OK
        return ExitStatus.FAILED if self._data else ExitStatus.INPUT

    @property
    def classifications(self) -> list[Classification]:
        """Return the clips and windows classified so far."""
        return [r for r in self._data if isinstance(r, Classification)]

    def _print_json(self, *, interrupted: bool) -> None:
        status = "partial" if self._data else "error"
        self._line(
            {
                "schema": SCHEMA,
                "command": self.command,
                "status": status if self._errors or interrupted else "ok",
                "data": [asdict(r) for r in self._data],
                "errors": [asdict(r) for r in self._errors],
            }
        )

    def _line(self, value: dict[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # a file name that is no text
            text = json.dumps(value)
        print(text, flush=True)

    def _csv(self, record: Any) -> None:
        rows = list(_flat(record))
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        if not self._header_done:
            writer.writeheader()
            self._header_done = True
        writer.writerows(rows)
        sys.stdout.flush()

    def _table(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        first = self._data[0]
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        if isinstance(first, Finetuned):
            _add_finetuned(table, first)
            return table
        if isinstance(first, BenchmarkScore):
            _add_benchmark(table, self._data)
            return table
        if isinstance(first, IndexedFile):
            for name in ("vectors", "MB", "file", "fault"):
                table.add_column(
                    name, justify="right" if name in ("vectors", "MB") else "left", overflow="fold"
                )
            for r in self._data:
                table.add_row(str(r.vectors), f"{r.size / 1e6:.1f}", _text(r.path), r.fault or "")
            return table
        if isinstance(first, Speed):
            _add_speeds(table, self._data)
            return table
        timed = any(r.start is not None for r in self._data)
        if isinstance(first, Hit):
            for name in ("query", "rank", "score", "video", *(["time"] if timed else [])):
                table.add_column(
                    name, justify="right" if name in ("rank", "score") else "left", overflow="fold"
                )
            self._add_hits(table, timed)
        elif isinstance(first, Classification):
            for name in ("video", *(["time"] if timed else []), "label", "score", ""):
                table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
            self._add_classifications(table, timed)
        else:
            for name in ("row", "video", *(["time"] if timed else [])):
                table.add_column(name, justify="right" if name == "row" else "left", overflow="fold")
            for r in self._data:
                table.add_row(str(r.row), _text(r.path), *([span(r.start, r.end)] if timed else []))
        return table

    def _add_hits(self, table: Table, timed: bool) -> None:
        for r in self._data:
            query = _text(r.query if r.rank == 1 else "")
            when = [span(r.start, r.end)] if timed else []
            table.add_row(query, str(r.rank), f"{r.score:.3f}", _text(r.path), *when)

    def _add_classifications(self, table: Table, timed: bool) -> None:
        shown = None
        for r in self._data:
            for i, s in enumerate(r.scores):
                path = _text(r.path if i == 0 and r.path != shown else "")
                when = [span(r.start, r.end) if i == 0 else ""] if timed else []
                style = "bold" if i == 0 else "dim"
                table.add_row(path, *when, _text(s.label, style), f"{s.score:.1%}", _bar(s.score))
            shown = r.path if timed else None


def _add_finetuned(table: Table, result: Finetuned) -> None:
    for name in (result.path, "plain CLIP", "fine-tuned"):
        table.add_column(_text(name), justify="left" if name == result.path else "right", overflow="fold")
    for name, plain, tuned in (
        ("validation", result.validation_plain, result.validation),
        ("test", result.test_plain, result.test),
    ):
        if tuned is not None:
            table.add_row(
                f"{name} {result.metric}",
                "" if plain is None else f"{plain:.1f} %",
                _text(f"{tuned:.1f} %", "bold"),
            )


def _add_benchmark(table: Table, scores: list[BenchmarkScore]) -> None:
    names = list(dict.fromkeys(name for s in scores for name in s.scores))
    for name in ("method", "direction", *names, "clips"):
        table.add_column(
            name, justify="left" if name in ("method", "direction") else "right", overflow="fold"
        )
    shown = None
    for s in scores:
        cells = [cell(s, name) for name in names]
        style = "dim" if s.published else ""
        direction = s.direction if s.direction != shown else ""
        table.add_row(_text(s.method, style), direction, *cells, str(s.clips or ""))
        shown = s.direction


def _add_speeds(table: Table, speeds: list[Speed]) -> None:
    for name in (
        "stage",
        "model",
        "precision",
        "batch",
        "per second",
        "over plain",
        "TFLOP/s",
        "share",
        "MiB",
    ):
        table.add_column(name, justify="left" if name in ("stage", "model", "precision") else "right")
    for s in speeds:
        table.add_row(
            s.stage, s.model, s.precision, str(s.batch_size), f"{s.per_second:,.2f} {s.unit}",
            _if("{:.2f}x", s.over_plain), _if("{:.2f}", s.tflops), _if("{:.0%}", s.share),
            _if("{:,.0f}", s.peak_mib),
        )  # fmt: skip


def _if(shown: str, value: float | None) -> str:
    return "" if value is None else shown.format(value)


def _console() -> Console:
    """Return where tables go; one that no terminal reads is plain and never cut."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, emoji=False, markup=False, width=PLAIN_WIDTH, color_system=None)


def _text(value: str, style: str = "") -> Any:
    from rich.text import Text

    # control characters in a file name must not reach the terminal
    return Text(
        "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in value), style
    )


def _bar(share: float) -> Any:
    from rich.text import Text

    eighths = round(share * BAR * 8)
    full, rest = divmod(eighths, 8)
    return Text("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), "cyan")


def _short(record: Any) -> str:
    if isinstance(record, Classification):
        return f"{record.path}\t{record.scores[0].label}"
    if isinstance(record, BenchmarkScore):
        return f"{record.method}\t{record.direction}\t{next(iter(record.scores.values())):.2f}"
    if isinstance(record, Speed):
        return f"{record.stage}\t{record.per_second:.2f}"
    return str(record.path)


def _flat(record: Any) -> Any:
    if isinstance(record, BenchmarkScore):
        yield flat(record)
        return
    if not isinstance(record, Classification):
        yield asdict(record)
        return
    for rank, s in enumerate(record.scores, 1):
        yield {"path": record.path, "start": record.start, "end": record.end, "rank": rank, **asdict(s)}


def fact_table(facts: Any) -> None:
    """Print (name, value) pairs, one a line."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, _text(value))
    _console().print(table)


def grid(records: list[dict[str, str]]) -> None:
    """Print records as rows under their keys."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in records[0]:
        table.add_column(name, overflow="fold")
    for record in records:
        table.add_row(*(_text(v) for v in record.values()))
    _console().print(table)
