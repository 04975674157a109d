"""From every command's records and failures to stdout: tables for people, json, jsonl and csv for programs.

Errors are said on stderr too, whatever the format.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from stopcli.errors import ExitStatus, NoMatch, StopError
from stopcli.fileio import to_json
from stopcli.output.layout import Table
from stopcli.output.tables import VIEWS, table_of, to_dict
from stopcli.results import Failure, Hit, printable

SCHEMA = 1
FORMULA = re.compile(r"'*[=+\-@]")  # what a spreadsheet would compute, and what was kept from that
NARROW = 110  # columns: bars are left out of narrower terminals, so that names have room
PLAIN_WIDTH = 10_000  # columns of a table that no terminal cuts


class Sink(AbstractContextManager["Sink"]):
    """The records of one command, shown as they come where the format allows it.

    A context manager around all of the command's work: an error that ends it is a record too, of no path.
    """

    def __init__(
        self,
        command: str,
        format: str = "auto",
        *,
        quiet: bool = False,
        null: bool = False,
        raw: bool = False,
    ) -> None:
        self.command = command
        self.format = format if format not in ("auto", "table") else "quiet" if quiet else "table"
        self.records: list[Any] = []
        self.inputs = 0  # how many there are, where they are counted
        self.several = False  # hits answer several queries: a line of a moment says which
        self.goes_on = False  # where nobody reads any more: files are still to be written
        self._quiet = quiet
        self._null, self._raw = null, raw
        self._failures: list[Failure] = []
        self._shown: set[str] = set()
        self._documented = False
        self._csv: csv.DictWriter[str] | None = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, StopError):
            error.reported = True
            self._fail(Failure(None, error.kind, str(error)))
        elif kind is None and self.exit_status == ExitStatus.INPUT:
            count = len(self._failures)
            inputs = "the input could not" if count == 1 else f"none of the {count} inputs could"
            self._talk(f"error: nothing was done: {inputs} be used")
        self.print_document(failed=kind is not None)
        if self.format == "table" and self.records:
            _print_table(table_of(self.records))

    @property
    def exit_status(self) -> ExitStatus:
        """What the process should answer: whether no input failed, or some, or all."""
        if not self._failures:
            return ExitStatus.OK
        faulty = sum(f.error != NoMatch().kind for f in self._failures)  # the inputs of a search were read
        some = self.records or faulty < max(self.inputs, 1)
        return ExitStatus.FAILED if some else ExitStatus.INPUT

    def add(self, record: Any) -> None:
        """Show a record, or keep it for the end."""
        try:
            self._add(record)
        except BrokenPipeError:  # as with `| head`
            if not self.goes_on:
                raise
            self.format = "none"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _add(self, record: Any) -> None:
        if isinstance(record, Failure):
            return self._fail(record)
        self.records.append(record)
        if self.format == "jsonl":
            self._line(to_dict(record))
        elif self.format == "csv":
            rows = list(VIEWS[type(record)].flat(record))
            if self._csv is None:
                self._csv = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
                self._csv.writeheader()
            self._csv.writerows(
                rows if self._raw else [{k: safe_cell(v) for k, v in r.items()} for r in rows]
            )
            sys.stdout.flush()
        elif self.format == "quiet":
            text = no_option(VIEWS[type(record)].short(record))
            if isinstance(record, Hit) and record.start is None:  # a whole file, perhaps of another query too
                if text in self._shown:
                    return
                self._shown.add(text)
            elif isinstance(record, Hit) and self.several:
                text += f"\t{record.query}"
            if self._null:
                print(text, end="\0", flush=True)
            else:
                print(printable(text, keep="\t"), flush=True)

    def print_document(self, *, failed: bool = False) -> None:
        """Print the one document of the format json: at the end, or earlier by a command that goes on."""
        if self._documented or self.format != "json":
            return
        self._documented = True
        failure = "partial" if self.records else "error"
        status = failure if self._failures or failed else "ok"
        head = {"schema": SCHEMA, "command": self.command, "status": status}
        data, errors = map(to_dict, self.records), map(to_dict, self._failures)
        self._line({**head, "data": list(data), "errors": list(errors)})

    def add_all(self, records: Iterable[Any]) -> None:
        """Show several records."""
        for record in records:
            self.add(record)

    def say(self, text: str) -> None:
        """Talk to the user, on stderr, unless --quiet."""
        if not self._quiet:
            self._talk(text)

    def _fail(self, failure: Failure) -> None:
        self._failures.append(failure)
        word = "" if failure.error == NoMatch().kind else "error: " if failure.path is None else "skipped: "
        self._talk(word + failure.message)
        if self.format == "jsonl":
            self._line(to_dict(failure))

    def _talk(self, text: str) -> None:
        print(printable(text, keep="\n"), file=sys.stderr)

    def _line(self, value: dict[str, Any]) -> None:
        text = to_json(value)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):  # a terminal of few letters
            text = json.dumps(value)
        if not text.isprintable():  # JSON lets some control characters through
            text = json.dumps(value).replace("\x7f", "\\u007f")
        print(text, flush=True)


def safe_cell(value: Any) -> Any:
    """Return a cell of CSV that neither a terminal nor a spreadsheet acts on."""
    if not isinstance(value, str):
        return value
    return no_formula(printable(value))


def no_formula(text: str) -> str:
    """Return a text as a cell that no spreadsheet computes; readers of tables take the apostrophe off."""
    return f"'{text}" if FORMULA.match(text) else text


def no_option(path: str) -> str:
    """Return a path that no program takes for one of its options."""
    return f"./{path}" if path.startswith("-") else path


def safe_path(path: str) -> str:
    """Return a path as a cell of CSV that is still the path."""
    return f"./{path}" if FORMULA.match(path) else path


def break_path(path: str, width: int) -> str:
    """Return a path over several lines, broken after a separator and never inside a name that fits."""
    lines = [""]
    for part in re.split(r"(?<=[/\\])", path):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _print_table(table: Table) -> None:
    """Print a table; one that no terminal reads is plain and never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the reader has seen enough: not an exit status of its own

    console = Plain(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    columns = [(i, c) for i, c in enumerate(table.columns) if c.kind != "bar" or console.width >= NARROW]
    grid = Grid(box=SIMPLE_HEAD if table.header else None, show_header=table.header, pad_edge=False)
    room = console.width - 2
    for i, column in columns:
        number = column.kind == "number"
        name = printable(column.name)
        grid.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
        widest = max(map(len, [name, *(row[i].text for row in table.rows)]))
        room -= 2 if column.kind == "path" else 2 + widest
    for row in table.rows:
        texts = []
        for i, column in columns:
            text = printable(row[i].text)
            if column.kind == "path":
                text = break_path(text, max(room, console.width // 3))
            texts.append(Text(text, row[i].style))
        grid.add_row(*texts)
    console.print(grid)
