"""What a table is made of, before a terminal, a spreadsheet or a page draws it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple


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


def table(rows: Iterable[Sequence[object]], *columns: Column, header: bool = True) -> Table:
    """Make a table; columns that may be empty, such as times of whole files, are left out if they are."""
    cells = [[v if isinstance(v, Cell) else Cell(str(v)) for v in row] for row in rows]
    shown = [i for i, c in enumerate(columns) if c not in OPTIONAL or any(row[i].text for row in cells)]
    return Table(tuple(columns[i] for i in shown), [[row[i] for i in shown] for row in cells], header)


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one pair a line; absent values are left out."""
    rows = [(Cell(name, "bold"), text(value)) for name, value in pairs if value is not None]
    return table(rows, Column("name"), Column("value"), header=False)


def text(value: Any) -> str:
    """Return a value as people read it; of nested ones what fits on a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        plain = {k: v for k, v in value.items() if v is not None and not isinstance(v, dict)}
        return ", ".join(f"{k} {text(v)}" for k, v in plain.items())
    return str(value)
