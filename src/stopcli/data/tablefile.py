"""Tables as people have them: CSV of any spreadsheet, JSONL; their columns by the names of this project.

Reading is lenient about form (encodings, separators, headers) and strict about content: a row that cannot be
meant as it stands is a problem with its number, as a spreadsheet counts.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from stopcli.errors import BadDataset

TEXTS = {"label", "caption"}
KEPT = re.compile(r"^'(?='*[=+\-@])")  # keeps a spreadsheet from computing a text, as exports have it
COLUMNS = ("path", "label", "caption", "start", "end", "split", "group")
FRAMES = ("first_frame", "end_frame")
MEASURED = ("score", "confidence", *FRAMES, "fps")  # what an export has too; nothing to learn from
LENGTHS = (
    "duration",
    "length",
    "dur",
    "duration_s",
    "duration_sec",
    "duration_(s)",
    "length_s",
    "length_(s)",
)
ALIASES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "clip"),
    "label": ("class", "category"),
    "caption": ("text", "sentence", "description"),
    "start": (
        "begin",
        "start_time",
        "from",
        "start_sec",
        "start_seconds",
        "start_s",
        "start_(s)",
        "starttime",
    ),
    "end": ("stop", "end_time", "to", "end_sec", "end_seconds", "end_s", "end_(s)", "endtime"),
    "split": ("subset", "set", "partition"),
}
PAIRS = (("onset", "offset"), ("in", "out"), ("t0", "t1"))  # start and end, where no other name says it
NAMES = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
TIMES = {"start": "start", "begin": "start", "end": "end", "stop": "end", "split": "split"}  # words in a name
CLOSE = 0.75  # how much alike the name of a column and a known one are, from 0 to 1, if it is misspelt
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
MOST_BYTES = 256 << 20  # of a file of texts
MOST_TEXT = 80  # characters of a cell that a message repeats


class Form(NamedTuple):
    """How a CSV is written: as a spreadsheet, or a person, left it."""

    encoding: str = "utf-8"
    delimiter: str = ","
    newline: str = "\n"
    names: tuple[tuple[str, str], ...] = ()  # columns: the name of this project, and the file's own
    declared: bool = False  # its first line says the delimiter, as Excel's does


Record = tuple[int, dict[str, Any] | str]  # a row's number, and its cells by column or what is wrong


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16; raises OSError, or ValueError with what to do."""
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MB")
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError("begins as UTF-16, and is not; save it as 'CSV UTF-8'") from error
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line} is not text in UTF-8; save it as 'CSV UTF-8', or convert it with iconv"
        ) from error


def short(text: object) -> str:
    """Return a cell as a message repeats it: on one line, and not all of it."""
    line = " ".join(str(text).split())
    return line if len(line) <= MOST_TEXT else f"{line[:MOST_TEXT]}…"


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a CSV or JSONL file; raises BadDataset where it is no table at all."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise BadDataset(f"{path}: not readable ({getattr(error, 'strerror', None) or error})") from error
    read = _jsonl if path.suffix.lower() in (".jsonl", ".ndjson") else _csv
    return read(path, text)


def read_form(path: Path) -> Form:
    """Return how a CSV is written; raises as `read_records`, which reads its rows."""
    with path.open("rb") as stream:
        head = stream.read(4)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    text = read_text(path)
    delimiter, rest = _delimiter(text)
    given = next(csv.reader(io.StringIO(rest, newline=""), delimiter=delimiter), [])
    names = zip(_columns(path, given), map(str.strip, given), strict=False)
    newline = "\r\n" if "\r\n" in text else "\n"
    return Form(encoding, delimiter, newline, tuple(names), rest is not text)


def _delimiter(text: str) -> tuple[str, str]:
    """Return what separates cells, and the text from its header on."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # Excel's own line
        return first.strip()[4], rest
    return max(",;\t", key=first.count), text  # spreadsheets of some countries write semicolons


def _csv(path: Path, text: str) -> Iterator[Record]:
    delimiter, text = _delimiter(text)
    # not splitlines: a caption may hold any of the characters at which that cuts
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, columns = 0, [""]
    try:
        for number, cells in enumerate(reader, 1):
            if number == 1:
                columns = _columns(path, cells)
            elif any(cell.strip() for cell in cells):
                yield number, _cells(columns, cells, delimiter)
    except csv.Error as error:
        raise BadDataset(f"{path}: row {number + 1}: {_csv_fault(error)}") from error
    if not number:
        raise BadDataset(f"{path}: it is empty")


def _csv_fault(error: csv.Error) -> str:
    """Say what the CSV reader found, and what to do."""
    text = str(error)
    if "unexpected end of data" in text:
        return 'a quote (") is opened here, or later, and never closed; write a quote inside a text twice'
    if "expected after" in text:
        return 'there is text behind a closing quote ("); write a quote inside a text twice'
    return f"not readable as CSV ({text})"


def _columns(path: Path, cells: list[str]) -> list[str]:
    """Return the columns' names of this project, for a header."""
    given = [cell.strip() for cell in cells]
    while given and not given[-1]:
        given.pop()
    names = list(_ours(given))
    if names.count("") > 1:
        raise BadDataset(f"{path}: {names.count('')} columns without a name; name them")
    name, count = Counter(n for n in names if n).most_common(1)[0] if any(names) else ("", 0)
    if count > 1:
        twice = ", ".join(repr(short(g)) for g, n in zip(given, names, strict=True) if n == name)
        raise BadDataset(f"{path}: {count} columns that mean {short(name)!r}: {twice}; keep one")
    return names


def is_length(name: str) -> bool:
    """Say whether a column tells how long moments last."""
    return _plain(name) in LENGTHS


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")


def _ours(given: Sequence[str]) -> Iterator[str]:
    """Yield what this project calls columns; those of `PAIRS` only beside each other, or beside a length."""
    names = [NAMES.get(_plain(name), name) for name in given]
    lower, ends = {name.lower() for name in names}, "end" in names or any(map(is_length, names))
    pair = next((p for p in PAIRS if p[0] in lower and (p[1] in lower or ends)), None)
    known: dict[str, str] = {}
    if pair is not None and "start" not in names:
        known = {pair[0]: "start"} | ({} if "end" in names else {pair[1]: "end"})
    for name in names:
        yield known.get(name.lower(), name)


def meant(name: str, columns: Collection[str]) -> str | None:
    """Return the column that a name which is none was perhaps meant to be, if there is no such column."""
    missing = [column for column in COLUMNS if column not in columns]
    words = [TIMES[word] for word in re.findall("[a-z]+", name.lower()) if word in TIMES]
    close = [w for w in words if w in missing] + difflib.get_close_matches(name, missing, 1, CLOSE)
    return close[0] if close else None


def _cells(columns: list[str], cells: list[str], delimiter: str) -> dict[str, Any] | str:
    filled = len(cells)
    while filled > len(columns) and not cells[filled - 1].strip():
        filled -= 1
    if filled > len(columns):
        separator = {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, delimiter)
        way = f"put quotes around a text with a {separator} in it"
        return f"{filled} cells where the header has {len(columns)}; {way}"
    padded = cells + [""] * (len(columns) - len(cells))
    found: dict[str, Any] = dict(zip(columns, padded, strict=False))
    for name in TEXTS & found.keys():
        found[name] = KEPT.sub("", found[name])
    return found


def _jsonl(path: Path, text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_none)
        except (ValueError, RecursionError) as error:
            raise BadDataset(f"{path}: line {number} is no JSON ({short(error)})") from error
        if not isinstance(record, dict):
            raise BadDataset(f"{path}: line {number} must be an object, got {short(line)!r}")
        yield number, _named(record)


def json_table(path: Path) -> list[Record] | None:
    """Return the rows of a JSON file that is a list of them, as pandas writes one; None for other files."""
    if path.suffix.lower() != ".json":
        return None
    try:
        rows = json.loads(read_text(path), parse_constant=_none)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    named = [_named(row) for row in rows]
    cells = [cell for row in named if isinstance(row, dict) for cell in row.items()]
    flat = all(isinstance(value, (str, int, float, NoneType)) for name, value in cells if name in COLUMNS)
    known = {name for name, _ in cells}
    tabular = "path" in known and known & TEXTS and "annotation_id" not in known  # which Label Studio writes
    return list(enumerate(named, 1)) if flat and tabular else None


def _none(_: str) -> None:
    """Read NaN, which pandas writes for a cell that is empty."""


def _named(record: dict[Any, Any]) -> dict[str, Any] | str:
    """Return cells by the names of this project, or what is wrong with them."""
    given = list(map(str, record))
    names = dict(zip(given, _ours(given), strict=True))
    name, count = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if count > 1:
        twice = ", ".join(repr(short(given)) for given, meant in names.items() if meant == name)
        return f"{count} names that mean {short(name)!r}: {twice}; keep one"
    return {names[str(given)]: value for given, value in record.items()}
