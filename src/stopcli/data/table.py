"""Labelled videos: a CSV or JSONL file, what an annotation tool wrote, or a folder of class folders.

Columns: ``path`` and ``label`` (classification) or ``path`` and ``caption`` (retrieval, several
rows a video allowed); optional ``start``, ``end`` (seconds), ``split`` (train, val, test) and
``group`` (clips of one group never stand on both sides of a split). Paths are relative to the
file. Reading opens no video, but to learn its frame rate where labels count frames. It collects every
fault of the table, with its row; what else a table must be is for those who train on it or score it to say.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stopcli.data.annotations.reading import CERTAIN, READERS, as_records, read_annotations
from stopcli.data.labels import near_labels, one_spelling
from stopcli.data.paths import no_file, real_path, table_path
from stopcli.data.tablefile import (
    COLUMNS,
    FRAMES,
    MEASURED,
    Record,
    is_length,
    json_table,
    meant,
    read_records,
    short,
)
from stopcli.errors import BadDataset, FileMissing
from stopcli.fileio import file_hash, is_file, is_folder
from stopcli.results import LONGEST, MOST_TEXT, read_clock
from stopcli.video.discovery import find_videos

Task = Literal["classification", "retrieval"]
Clip = tuple[Path, float | None, float | None]  # a file, and the seconds of it: None is the whole
SPLITS = ("train", "val", "test")
ALSO = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}  # how others write them
MOST_LISTED = 20  # problems that are listed
ROUNDED = 0.5  # seconds by which times that were written by hand may differ
TEXT_COLUMN: dict[Task, str] = {"classification": "label", "retrieval": "caption"}


@dataclass(frozen=True)
class Row:
    """One labelled clip."""

    number: int  # as a spreadsheet counts: the header is row 1; in class folders, the file's place
    path: Path
    text: str  # its label or caption
    start: float | None = None
    end: float | None = None
    split: str | None = None
    group: str | None = None

    @property
    def clip(self) -> Clip:
        """What is decoded: rows with several captions share it."""
        return self.path, self.start, self.end


@dataclass(frozen=True)
class Problem:
    """One fault of a data set."""

    row: int
    message: str
    absent: bool = False  # its file is not there

    def __str__(self) -> str:
        return f"row {self.row}: {self.message}"


@dataclass(frozen=True)
class Dataset:
    """The good rows of a data set, and what was wrong with the others."""

    source: Path
    task: Task
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what was understood in another way than it is written
    # files with faults in their rows: what else they show is not known
    doubtful: frozenset[Path] = frozenset()
    sha256: str | None = None  # of the file as it was read; None of a folder

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the class names, sorted: those of the rows for training where a split is given."""
        return tuple(sorted({r.text for r in self.rows if r.split in (None, "train")}))

    def of(self, split: str) -> tuple[Row, ...]:
        """Return the rows of a split; those without one are for training."""
        return tuple(r for r in self.rows if (r.split or "train") == split)

    def without(self, problems: Sequence[Problem]) -> Dataset:
        """Return the same with more problems, and without their rows."""
        bad = {p.row for p in problems}
        rows = tuple(r for r in self.rows if r.number not in bad)
        doubtful = self.doubtful | {r.path for r in self.rows if r.number in bad}
        together = sorted((*self.problems, *problems), key=lambda p: (p.row, p.message))
        return replace(self, rows=rows, problems=tuple(together), doubtful=doubtful)

    @property
    def listing(self) -> str:
        """Return the problems, one a line, and how many more there are."""
        more = len(self.problems) - MOST_LISTED
        lines = [str(p) for p in self.problems[:MOST_LISTED]] + ([f"and {more} more"] if more > 0 else [])
        return "".join(f"\n  {line}" for line in lines)

    def require_sound(self, advice: str) -> None:
        """Raise BadDataset, listing all problems; ``advice`` says what was not done, and what to do next."""
        if self.problems:
            count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
            raise BadDataset(f"{self.source}: {count}, {advice}{self.listing}")


def read_dataset(source: Path) -> Dataset:
    """Read a data set; rows with faults become its problems.

    Raises FileMissing or BadDataset where it is not there, or is no table at all.
    """
    if is_folder(source):
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in READERS and is_file(p))
        certain = any(p.suffix.lower() in CERTAIN for p in files)
        rows = () if certain else tuple(_class_folders(source))
        if files and not rows:
            return _annotated(source, files)
        if not rows:
            raise BadDataset(f"{source}: no videos in class folders; expected {source}/LABEL/clip.mp4")
        notes: list[str] = []
        return Dataset(source, "classification", tuple(_spelled(rows, notes)), notes=tuple(notes))
    if not is_file(source):
        raise FileMissing(
            f"{source}: no such file or folder; give a CSV, a JSONL, or a folder of class folders"
        )
    notes = []
    sha256 = file_hash(source)
    if (records := json_table(source)) is None:
        cells = read_annotations(source, notes)
        records = list(read_records(source)) if cells is None else as_records(source, cells, notes)
    return replace(_from_records(source, records, notes), sha256=sha256)


def _from_records(source: Path, records: list[Record], notes: list[str]) -> Dataset:
    if not records:
        raise BadDataset(f"{source}: has no rows; write one a clip, below a header with 'path' and 'label'")
    columns = list(dict.fromkeys(name for _, r in records if isinstance(r, dict) for name in r))
    if not columns:
        number, fault = records[0]
        raise BadDataset(f"{source}: no row can be read; row {number} has {fault}")
    if "path" not in columns or not {"label", "caption"} & set(columns):
        found = [", ".join(map(short, columns[:20]))]
        lacking = "label" if "path" in columns else "path"
        for name in columns:
            if name not in COLUMNS and (close := meant(name, columns)):
                found.append(f"is {short(name)!r} meant as {close!r}?")
        if len(found) == 1:
            found.append(f"call the column of {'labels' if lacking == 'label' else 'files'} {lacking!r}")
        wanted = "a column 'path' and a column 'label' or 'caption'"
        raise BadDataset(f"{source}: needs {wanted}; found {'; '.join(found)}")
    if {"label", "caption"} <= set(columns):
        raise BadDataset(f"{source}: has both 'label' and 'caption'; keep the one that you mean")
    task: Task = "classification" if "label" in columns else "retrieval"
    problems: list[Problem] = []
    lengths = [name for name in columns if is_length(name)]
    length = lengths[0] if lengths and "start" in columns else None  # it stands for the end
    counted = [name for name in FRAMES if name in columns]
    if counted and not {"start", "end"} & set(columns):
        message = f"the column {counted[0]!r} counts frames; write start and end in seconds"
        problems.append(Problem(1, message))
    for name in columns:
        if name not in (*COLUMNS, *MEASURED, length):
            if close := meant(name, columns):
                message = f"unknown column {short(name)!r}; did you mean {close!r}? if not, rename it"
                problems.append(Problem(1, message))
            else:
                notes.append(f"the column {short(name)!r} is not read")
    rows: list[Row] = []
    waiting = 0
    doubtful: set[Path] = set()
    seen: dict[tuple[object, ...], Row] = {}
    for number, record in records:
        try:
            if isinstance(record, str):
                raise ValueError(record)
            row = _row(source, number, record, task, length)
            key = (real_path(row.path), *row.clip[1:], None if task == "classification" else row.text)
            first = seen.setdefault(key, row)
            if first is not row:
                same = "again" if first.text == row.text else f"as {row.text!r}, there as {first.text!r}"
                raise ValueError(f"{short(record['path'])} is in row {first.number} already, {same}")
            rows.append(row)
        except ValueError as error:
            if isinstance(error, _Unlabelled):
                waiting += 1
            else:
                problems.append(Problem(number, str(error), isinstance(error, _Absent)))
            if isinstance(record, dict):
                doubtful.add(table_path(source.parent, str(record.get("path") or "").strip()))
    if task == "classification":
        rows = _spelled(rows, notes)
        notes += _contradictions(rows)
    notes += _counted(waiting, "{} no label yet, and {} left out")
    endless = sum(row.start is not None and row.end is None for row in rows)
    notes += _counted(endless, "{} a start and no end, and {} taken until the end of the file")
    if waiting and not rows and not problems:
        raise BadDataset(f"{source}: no row has a label yet; write one into the column 'label'")
    return Dataset(source, task, tuple(rows), tuple(problems), tuple(notes), frozenset(doubtful))


def _spelled(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Return rows whose labels are one where they differ in capitals only; note those that did."""
    spelling, said = one_spelling([row.text for row in rows])
    notes += [*said, *near_labels([spelling[row.text] for row in rows])]
    return [replace(row, text=spelling[row.text]) for row in rows]


def is_same_stretch(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Say whether two stretches of a film (seconds) are nearly the same: by hand, times are rounded."""
    (start, end), (begin, stop) = one, other
    shared, whole = min(end, stop) - max(start, begin), max(end, stop) - min(start, begin)
    return max(abs(start - begin), abs(end - stop)) <= ROUNDED and 2 * shared > whole


def _contradictions(rows: Sequence[Row]) -> list[str]:
    """Return a note where nearly the same stretch of a file has two labels: one of them is likely wrong."""
    timed = [(row.path, row.start or 0.0, row.end, row) for row in rows if row.end is not None]
    timed.sort(key=lambda one: one[:3])
    found: list[tuple[Row, Row]] = []
    for i, (path, start, end, row) in enumerate(timed):
        for other_path, begin, stop, other in timed[i + 1 :]:
            if other_path != path or begin > start + ROUNDED:
                break
            if row.text != other.text and is_same_stretch((start, end), (begin, stop)):
                found.append((row, other))
    if not found:
        return []
    first, second = sorted(found[0], key=lambda row: row.number)
    where = (
        f"rows {first.number} and {second.number} call nearly the same seconds of {short(first.path.name)}"
    )
    more = f" ({len(found) - 1} more such pairs)" if len(found) > 1 else ""
    return [f"{where} {first.text!r} and {second.text!r}{more}: keep the one that is right"]


def _counted(count: int, what: str) -> list[str]:
    """Return a note about so many rows, if there are any."""
    has, are = ("1 row has", "is") if count == 1 else (f"{count} rows have", "are")
    return [what.format(has, are)] if count else []


class _Absent(ValueError):
    """The file of a row is not there."""


class _Unlabelled(ValueError):
    """A row waits for its label."""


def _annotated(source: Path, files: list[Path]) -> Dataset:
    """Read the annotation files of a folder as one table."""
    notes: list[str] = []
    found: list[Any] = []
    for file in files:
        first = len(found) + 1
        if (rows := json_table(file)) is not None:
            if len(files) > 1:
                raise BadDataset(f"{file}: is a table, which is read alone; name it instead of its folder")
            return _from_records(file, rows, notes)
        found += read_annotations(file, notes) or ()
        notes.append(f"rows {first} to {len(found)} are those of {file.name}")
    return _from_records(source / files[0].name, as_records(source, found, notes), notes)


def _row(source: Path, number: int, record: dict[str, Any], task: Task, length: str | None) -> Row:
    def cell(name: str) -> str:
        value = record.get(name)
        return "" if value is None else " ".join(str(value).split())  # a label is one line

    given = str(record.get("path") or "").strip()
    if not given:
        raise ValueError("the path is empty")
    text = unicodedata.normalize("NFC", cell(TEXT_COLUMN[task]))  # macOS writes ü as u and two dots
    if not text and task == "classification":
        raise _Unlabelled
    if not text:
        raise ValueError(f"the {TEXT_COLUMN[task]} is empty")
    if text != text.encode(errors="ignore").decode():
        raise ValueError(f"the {TEXT_COLUMN[task]} is no text: {text[:40]!a}")
    if len(text) > MOST_TEXT:
        raise ValueError(f"the {TEXT_COLUMN[task]} has {len(text)} characters; {MOST_TEXT} are the most")
    path = table_path(source.parent, given)
    if not is_file(path):
        raise _Absent(no_file(path, given))
    start, end = (_seconds(name, record.get(name), cell(name)) for name in ("start", "end"))
    if (
        end is None
        and length is not None
        and (lasts := _seconds(length, record.get(length), cell(length))) is not None
    ):
        end = (start or 0.0) + lasts
    if end is not None and end <= (start or 0):
        raise ValueError(f"it ends at {end:g} s, before it starts ({start or 0:g} s)")
    split = cell("split").lower() or None
    split = ALSO.get(split or "", split)
    if split is not None and split not in SPLITS:
        raise ValueError(f"the split must be train, val or test, got {short(cell('split'))!r}")
    return Row(number, path, text, start, end, split, cell("group") or None)


def _seconds(name: str, given: object, value: str) -> float | None:
    """Read seconds, or minutes and hours as this tool prints them; some countries write a decimal comma."""
    if isinstance(given, float) and 0 <= given < LONGEST:
        return given
    if not value:
        return None
    if (number := read_clock(value)) is not None:
        return number
    raise ValueError(f"the {name} must be seconds from 0 up, or h:mm:ss, got {short(value)!r}")


def _class_folders(source: Path) -> Iterator[Row]:
    """Yield the videos of ``class/clip`` or of ``train/class/clip``; BadDataset: a mixture of both."""
    folders = _folders(source)
    splits = {p: name for p in folders if (name := ALSO.get(p.name.lower(), p.name.lower())) in SPLITS}
    named: list[tuple[str | None, Path]] = [(None, p) for p in folders]
    others = [p.name for p in folders if p not in splits]
    if not others or any(map(_folders, splits)):  # a "train" among others without folders is a label
        if others:
            said = (
                f"{', '.join(p.name for p in splits)} are splits, and {short(others[0])} beside them is none"
            )
            raise BadDataset(f"{source}: {said}; call it train, val or test, or move it away")
        named = [(splits[top], p) for top in splits for p in _folders(top)]
    found = [(split, folder, path) for split, folder in named for path in find_videos([folder])]
    for number, (split, folder, path) in enumerate(found, 1):
        label = unicodedata.normalize("NFC", folder.name).replace("_", " ")
        yield Row(number, path, label, split=split)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def unique_clips(rows: Sequence[Row]) -> list[Clip]:
    """Return what must be decoded for the rows, each once, in order."""
    return list(dict.fromkeys(r.clip for r in rows))
