"""From records to stdout: tables for people, json, jsonl and csv for programs.

JSON is one object ``{"schema": 1, "command", "status", "data", "errors"}``; jsonl is one record a line as
it is known, errors among them. stdout is data and stderr is talk: errors are said there too, whatever the
format. Every command and every failure goes through a `Sink`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stopcli.errors import ExitStatus, StopError
from stopcli.output.tables import VIEWS, table_of, to_dict
from stopcli.results import Failure

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Self

    from stopcli.output.tables import Table

SCHEMA = 1
NARROW = 110  # columns: bars are left out of narrower terminals, so that names have room
PLAIN_WIDTH = 10_000  # columns of a table that no terminal cuts


class Sink:
    """The records of one command, shown as they come where the format allows it.

    Use as a context manager around all of the command's work: an error that ends it is a record
    too, without a path. Afterwards `exit_status` says how it went: 0, 1 where some inputs failed,
    3 where none could be used.
    """

    def __init__(
        self, command: str, format: str = "auto", *, quiet: bool = False, null: bool = False
    ) -> None:
        self.command = command
        self.format = format if format not in ("auto", "table") else "quiet" if quiet else "table"
        self.records: list[Any] = []
        self._quiet = quiet
        self._end = "\0" if null else "\n"
        self._failures: list[Failure] = []
        self._csv_header: list[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, StopError):
            self._fail(error)
        elif kind is None and self._failures and not self.records:
            count = len(self._failures)
            inputs = "the input" if count == 1 else f"none of the {count} inputs"
            self._talk(f"error: nothing was done: {inputs} could {'not ' if count == 1 else ''}be used")
        if self.format == "json":
            self._print_json(interrupted=kind is not None)
        elif self.format == "table" and self.records:
            _print_table(table_of(self.records))

    def add(self, record: Any) -> None:
        """Show a record, or keep it for the end."""
        if isinstance(record, Failure):
            self._failures.append(record)
            self._talk(f"skipped: {record.message}")
            if self.format == "jsonl":
                self._line(asdict(record))
            return
        self.records.append(record)
        if self.format == "jsonl":
            self._line(to_dict(record))
        elif self.format == "csv":
            self._csv(record)
        elif self.format == "quiet":
            print(VIEWS[type(record)].short(record), end=self._end, flush=True)

    def add_all(self, records: Iterable[Any]) -> None:
        """Show several records."""
        for record in records:
            self.add(record)

    def mute(self) -> None:
        """Show nothing: another process speaks for all."""
        self.format = "none"

    def say(self, text: str) -> None:
        """Talk to the user, on stderr, unless --quiet."""
        if not self._quiet:
            self._talk(text)

    @property
    def exit_status(self) -> ExitStatus:
        """Return what the process should answer."""
        if not self._failures:
            return ExitStatus.OK
        return ExitStatus.FAILED if self.records else ExitStatus.INPUT

    def _fail(self, error: StopError) -> None:
        error.reported = True
        self._failures.append(Failure(None, error.kind, str(error)))
        self._talk(f"error: {error}")
        if self.format == "jsonl":
            self._line(asdict(self._failures[-1]))

    def _talk(self, text: str) -> None:
        print(printable(text, keep="\n"), file=sys.stderr)

    def _print_json(self, *, interrupted: bool) -> None:
        status = "partial" if self.records else "error"
        self._line(
            {
                "schema": SCHEMA,
                "command": self.command,
                "status": status if self._failures or interrupted else "ok",
                "data": [to_dict(record) for record in self.records],
                "errors": [asdict(failure) for failure in self._failures],
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
        rows = list(VIEWS[type(record)].flat(record))
        if self._csv_header is None:
            self._csv_header = list(rows[0])
            csv.writer(sys.stdout, lineterminator="\n").writerow(self._csv_header)
        csv.DictWriter(sys.stdout, self._csv_header, lineterminator="\n").writerows(rows)
        sys.stdout.flush()


def printable(text: str, *, keep: str = "") -> str:
    """Return a text without control characters, which must not reach a terminal."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def _print_table(table: Table) -> None:
    """Print a table; one that no terminal reads is plain and never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, markup=False, width=PLAIN_WIDTH, color_system=None)
    box = SIMPLE_HEAD if table.header else None
    grid = Grid(box=box, show_header=table.header, pad_edge=False)
    shown = [i for i, c in enumerate(table.columns) if c.kind != "bar" or console.width >= NARROW]
    for i in shown:
        column = table.columns[i]
        number = column.kind == "number"
        name = printable(column.name)
        grid.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
    room = _room_for_paths(table, shown, console)
    for row in table.rows:
        cells = [(table.columns[i].kind, row[i]) for i in shown]
        texts = [break_path(printable(c.text), room) if k == "path" else printable(c.text) for k, c in cells]
        grid.add_row(*(Text(t, c.style) for t, (_, c) in zip(texts, cells, strict=True)))
    console.print(grid)


def _room_for_paths(table: Table, shown: list[int], console: Console) -> int:
    others = [i for i in shown if table.columns[i].kind != "path"]
    widths = [
        max(len(table.columns[i].name), *(len(r[i].text) for r in table.rows)) for i in others if table.rows
    ]
    return max(console.width // 3, console.width - sum(widths) - 2 * len(shown) - 2)


def break_path(path: str, width: int) -> str:
    """Return a path over several lines, broken after a separator and never inside a name that fits."""
    lines, line = [], ""
    for part in path.replace("\\", "\\\0").replace("/", "/\0").split("\0"):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return "\n".join([*lines, line])
