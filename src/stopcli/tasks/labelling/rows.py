"""The rows of a table of labels: which moment each is about, and how its cells are written."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

from stopcli.data.background import BACKGROUND
from stopcli.data.paths import table_path
from stopcli.data.table import ROUNDED, is_same_stretch
from stopcli.data.tablefile import Form, is_length
from stopcli.errors import UsageError
from stopcli.output.sink import no_formula, safe_path
from stopcli.results import printable, read_clock

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
        return place_of(self.path, self.start, self.end)


def followed(
    rows: Mapping[Place | int, dict[str, str]],
    folder: Path,
    moved: Mapping[Path, Path],
    replaced: Collection[Path],
) -> dict[Place | int, dict[str, str]]:
    """Return rows as `LabelTable.follow` leaves them, also the second one of a place."""
    places = {key: key if isinstance(key, tuple) else read_place(folder, row) for key, row in rows.items()}
    leaving = {k: p for k, p in places.items() if p is not None and (p[0] in moved or p[0] in replaced)}
    taken = set(rows.keys() - leaving.keys())
    after: dict[Place | int, Place | int] = {}
    for key, place in leaving.items():
        path = moved.get(place[0])
        if path is not None and str(path) == plain(path):
            there = (path, *place[1:]) if isinstance(key, tuple) else key
            if there not in taken:
                after[key] = there
                taken.add(there)
    out: dict[Place | int, dict[str, str]] = {}
    for key, row in rows.items():
        if key in after:
            out[after[key]] = {**row, "path": path_cell(moved[leaving[key][0]], folder)}
        elif key not in leaving or leaving[key][0] not in replaced:
            out[key] = row
    return out


def checked_label(text: str) -> str:
    """Return a label on one line; raises UsageError if it is none."""
    label = unicodedata.normalize("NFC", " ".join(text.split()))
    if not label or len(label) > MOST_LABEL or label != printable(label):
        raise UsageError(f"a label is a text of 1 to {MOST_LABEL} characters, got {label[:40]!r}")
    return label


def is_none(label: str) -> bool:
    """Say whether a label means that a moment shows none of the others."""
    return label.casefold() == BACKGROUND


def place_of(path: Path, start: float | None, end: float | None) -> Place:
    """Return what names a moment: times that differ by less than a millisecond are the same."""

    def rounded(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 3)

    return Path(os.path.abspath(path)), rounded(start), rounded(end)  # noqa: PTH100


def nearest_of(places: Sequence[Place], place: Place) -> Place | None:
    """Return which of some places of one file, ascending, is nearly the same stretch: the closest."""
    start, end = place[1] or 0.0, place[2]
    if end is None:
        return None
    first = bisect_left(places, start - ROUNDED, key=_start)
    near = takewhile(lambda other: _start(other) <= start + ROUNDED, islice(places, first, None))
    found = {
        other: abs(_start(other) - start) + abs(other[2] - end)
        for other in near
        if other[2] is not None and is_same_stretch((start, end), (_start(other), other[2]))
    }
    return min(found, key=lambda other: found[other], default=None)


def by_file(places: Iterable[Place]) -> dict[Path, list[Place]]:
    """Return places by their file, ascending."""
    out: dict[Path, list[Place]] = defaultdict(list)
    for place in sorted(places, key=_start):
        out[place[0]].append(place)
    return out


def _start(place: Place) -> float:
    return place[1] or 0.0


def read_place(folder: Path, row: dict[str, str]) -> Place | None:
    """Return the moment that a row of a table in a folder is about; None if that cannot be understood."""
    times = [read_clock(cell) if (cell := row.get(name, "").strip()) else None for name in ("start", "end")]
    unread = any(t is None and row.get(n, "").strip() for n, t in zip(("start", "end"), times, strict=True))
    if unread or not row.get("path", "").strip():
        return None
    length = next((cell for name, cell in row.items() if is_length(name) and cell.strip()), None)
    if times[1] is None and times[0] is not None and length is not None:
        if (lasts := read_clock(length.strip())) is None:
            return None
        times[1] = times[0] + lasts
    return place_of(table_path(folder, row["path"].strip()), *times)


def seconds_cell(value: float | None) -> str:
    """Return seconds as a cell; nothing for the file's beginning or end."""
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def path_cell(path: Path, folder: Path) -> str:
    """Return a path as the table names it: from its own folder where it lies below that."""
    if not path.is_relative_to(folder):
        return str(path)
    name = path.relative_to(folder).as_posix()
    odd = name[0] == "~" or name != name.lstrip() or safe_path(name) != name  # taken for another, or computed
    return f"./{name}" if odd else name


def plain(path: Path) -> str:
    """Return a path without what a table cannot hold: bytes that are no text."""
    return str(path).encode(errors="replace").decode()


def table_text(rows: Collection[Mapping[str, str]], form: Form) -> str:
    """Return a table as it is written in a form: its own columns, and behind them those that rows need."""
    given = dict(form.names)
    needed = HEADER if not given else {name for row in rows for name, cell in row.items() if cell}
    columns = [*given, *(name for name in (*HEADER, *sorted(needed)) if name in needed and name not in given)]
    columns = list(dict.fromkeys(columns))
    # Python leaves a line's end that it does not write itself as it is
    odd = any("\r" in cell for row in rows for cell in row.values())
    text = io.StringIO(newline="")
    if form.declared:
        text.write(f"sep={form.delimiter}{form.newline}")
    out = csv.writer(
        text,
        delimiter=form.delimiter,
        lineterminator=form.newline,
        quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL,
    )
    out.writerow(given.get(name, name) for name in columns)
    for row in rows:
        cells = {**row, "label": no_formula(row["label"])}
        out.writerow(cells.get(name, "") for name in columns)
    return text.getvalue()
