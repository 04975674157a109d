"""A table of labels that a person writes, key by key: on the disk at once, and ready for `stop finetune`."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stopcli.data.background import BACKGROUND
from stopcli.data.tablefile import COLUMNS, read_records
from stopcli.errors import BadDataset, UsageError
from stopcli.fileio import alone, exists, is_file, make_folder, write_text
from stopcli.results import read_clock

HEADER = ("path", "start", "end", "label")
MOST_LABEL = 200  # characters
Place = tuple[Path, float | None, float | None]  # an absolute path, and seconds; None: the whole file


class Labelled(NamedTuple):
    """One row of the table."""

    path: Path
    start: float | None
    end: float | None
    label: str

    @property
    def place(self) -> Place:
        return _place(self.path, self.start, self.end)


@dataclass(frozen=True)
class _Change:
    place: Place
    before: str | None
    after: str | None


class LabelTable(AbstractContextManager["LabelTable"]):
    """A CSV of path, start, end and label, that this process alone writes; other people may edit it.

    Each change reads the file again if somebody else wrote it, and replaces it whole, so that no row is ever
    lost. Rows that cannot be understood stay as they are.

    Raises:
        OutputBusy: another process labels into it. BadDataset: it is there, and is no such table.
        UsageError: its name does not end in .csv.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".csv":
            raise UsageError(f"{path}: labels are kept in a table; its name must end in .csv")
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
        self._undo: list[list[_Change]] = []  # what each key did
        self._seen: tuple[int, int, int] | None = None
        self._columns: list[str] = list(HEADER)
        self._rows: dict[Place | int, dict[str, str]] = {}  # by place; those not understood by their number
        with ExitStack() as stack:
            make_folder(self.path.parent)
            stack.enter_context(alone(self.path))
            self._read()
            self._lock = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def rows(self) -> list[Labelled]:
        """Every row that says what a moment shows, in the order of the file."""
        found = ((place, row) for place, row in self._rows.items() if isinstance(place, tuple))
        return [Labelled(*place, row["label"]) for place, row in found]

    def counts(self) -> Counter[str]:
        """Count the rows of each label."""
        return Counter(row.label for row in self.rows)

    def label_of(self, path: Path, start: float | None, end: float | None) -> str | None:
        """Return what a moment was called, if it was."""
        row = self._rows.get(_place(path, start, end))
        return None if row is None else row["label"]

    def put(self, moments: Iterable[tuple[Path, float | None, float | None]], label: str | None) -> None:
        """Call moments so, or no more (None); what they were called before can be had back by `undo`.

        Raises UsageError: no text that can be a label. CannotWrite: nothing has changed.
        """
        if label is not None:
            label = checked_label(label)
        self.refresh()
        changes = [
            _Change(place, self.label_of(*place), label)
            for place in dict.fromkeys(_place(*m) for m in moments)
        ]
        changes = [change for change in changes if change.before != change.after]
        self._write(changes)
        if changes:
            self._undo.append(changes)

    def undo(self) -> list[Labelled]:
        """Take the last change back; return its moments as they are called now, '' for no label."""
        if not self._undo:
            return []
        self.refresh()
        changes = [_Change(c.place, c.after, c.before) for c in self._undo[-1]]
        self._write(changes)
        self._undo.pop()
        return [Labelled(*c.place, c.after or "") for c in changes]

    def refresh(self) -> bool:
        """Read the file again, if somebody else wrote it; say whether it was so."""
        if _stamp(self.path) == self._seen:
            return False
        self._read()
        return True

    def _read(self) -> None:
        self._seen = _stamp(self.path)
        self._rows, self._columns = {}, list(HEADER)
        if not exists(self.path):
            return
        if not is_file(self.path):
            raise BadDataset(f"{self.path}: is no file; name a table to write labels to")
        if not self.path.stat().st_size:
            return
        for number, cells in read_records(self.path):
            if isinstance(cells, str):
                raise BadDataset(f"{self.path}: row {number}: {cells}; fix it, or name another table")
            row = {name: "" if value is None else str(value) for name, value in cells.items()}
            if "caption" in row or not {"path", "label"} <= set(row) or not set(row) <= set(COLUMNS):
                expected = "path, start, end, label"
                raise BadDataset(f"{self.path}: its columns are {', '.join(row)}; expected {expected}")
            self._columns += [name for name in row if name not in self._columns]
            place = _read_place(self.path.parent, row)
            self._rows[number if place is None or place in self._rows else place] = row

    def _write(self, changes: list[_Change]) -> None:
        if not changes:
            return
        rows = dict(self._rows)
        for change in changes:
            path, start, end = change.place
            if change.after is None:
                rows.pop(change.place, None)
            else:
                times = {"start": _seconds(start), "end": _seconds(end)}
                known = rows.get(change.place, {"path": _shown(path, self.path.parent), **times})
                rows[change.place] = {**known, "label": change.after}
        text = io.StringIO(newline="")
        out = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        out.writeheader()
        out.writerows(rows.values())
        write_text(self.path, text.getvalue(), sync=True)
        self._rows, self._seen = rows, _stamp(self.path)


def checked_label(text: str) -> str:
    """Return a label on one line; raises UsageError if it is none."""
    label = " ".join(text.split())
    if not label or len(label) > MOST_LABEL or not label.isprintable():
        raise UsageError(f"a label is a text of 1 to {MOST_LABEL} characters, got {label[:40]!r}")
    return label


def is_none(label: str) -> bool:
    """Say whether a label means that a moment shows none of the others."""
    return label.casefold() == BACKGROUND


def _place(path: Path, start: float | None, end: float | None) -> Place:
    def rounded(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 3)

    return Path(os.path.abspath(path)), rounded(start), rounded(end)  # noqa: PTH100


def _read_place(folder: Path, row: dict[str, str]) -> Place | None:
    times = [read_clock(cell) if (cell := row.get(name, "").strip()) else None for name in ("start", "end")]
    unread = any(t is None and row.get(n, "").strip() for n, t in zip(("start", "end"), times, strict=True))
    if unread or not row["path"].strip() or not row["label"].strip():
        return None
    return _place(folder / os.path.expanduser(row["path"].strip()), *times)  # noqa: PTH111


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _shown(path: Path, folder: Path) -> str:
    """Return a path as the table names it: from its own folder where it lies below that."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
