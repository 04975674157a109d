"""A table of labels that a person writes, key by key: on the disk at once, and ready for `stop finetune`."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import count
from pathlib import Path

from stopcli.data.tablefile import COLUMNS, MEASURED, NAMES, Form, meant, read_form, read_records, read_text
from stopcli.errors import BadDataset, CannotWrite, UsageError
from stopcli.fileio import alone, exists, file_hash, is_file, make_folder, replacing
from stopcli.tasks.labelling.rows import (
    Labelled,
    Place,
    by_file,
    checked_label,
    followed,
    nearest_of,
    path_cell,
    place_of,
    plain,
    read_place,
    seconds_cell,
    table_text,
)

PATIENCE, SETTLED = 5.0, 0.2  # seconds that another program may write, and after which it is done


_Files = Mapping[Path, Sequence[Place]]
_List = tuple[list[Labelled], Counter[str], tuple[_Files, ...]]


@dataclass(frozen=True)
class _Change:
    place: Place
    before: dict[str, str] | None  # the row; None: there was none
    after: dict[str, str] | None


class LabelTable(AbstractContextManager["LabelTable"]):
    """A CSV of path, start, end and label, that this process alone writes; other people may edit it.

    Each change reads the file again if somebody else wrote it, and replaces it whole: no row is ever lost.
    Its form stays, and so do rows that cannot be understood. A row without a label waits for one.

    Raises:
        OutputBusy: another process labels into it. BadDataset: it is there, and is no such table.
        UsageError: its name does not end in .csv.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".csv":
            raise UsageError(f"{path}: labels are kept in a table; its name must end in .csv")
        self.path = path.resolve()  # one file has one lock, whatever links lead to it
        self._undo: list[list[_Change]] = []  # what each key did
        self.edited: set[Path] = set()  # files whose rows somebody else has changed, since it was cleared
        self.sha256: str | None = None  # of the file as it is known
        self._seen: tuple[int, int, int] | None = None
        self._form = Form()
        self._list: tuple[object, _List] = None, ([], Counter(), ())
        self._rows: dict[Place | int, dict[str, str]] = {}  # by place; those not understood by their number
        with ExitStack() as stack:
            make_folder(self.path.parent)
            stack.enter_context(alone(self.path))
            _tidy(self.path)
            self._read()
            self._lock = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def rows(self) -> list[Labelled]:
        """Every row that says what a moment shows, in the order of the file."""
        return self._listed()[0]

    def counts(self) -> Counter[str]:
        """Count the rows of each label."""
        return self._listed()[1].copy()

    def _listed(self) -> _List:
        """Return rows, how many each label has, and places by file: listed once, for a page asks often."""
        if self._list[0] is not self._rows:
            found = ((place, row["label"]) for place, row in self._rows.items() if isinstance(place, tuple))
            rows = [Labelled(*place, label) for place, label in found if label]
            self._list = self._rows, (rows, Counter(row.label for row in rows), _places(self._rows))
        return self._list[1]

    def label_of(self, path: Path, start: float | None, end: float | None) -> str | None:
        """Return what a moment was called, if it was."""
        row = self._rows.get(place_of(path, start, end))
        return None if row is None else row["label"] or None

    def near(self, place: Place) -> Place | None:
        """Return the place of a row that is nearly the same stretch of the file; rather one with a label."""
        found = (nearest_of(files.get(place[0], ()), place) for files in self._listed()[2])
        return next(filter(None, found), None)

    @property
    def left(self) -> str | None:
        """A hash of the table as this process left it; None if somebody else has changed rows since."""
        return None if self.edited else self.sha256

    def put(self, answers: Mapping[Place, str | None]) -> None:
        """Call moments so, or no more (None); `undo` takes all of them back at once, or that nothing changed.

        Raises UsageError: no text that can be a label. CannotWrite: nothing has changed.
        """
        known = {None, *self.counts()}  # what others wrote may be more than a new label may
        named = {place_of(*p): t if t in known else checked_label(t or "") for p, t in answers.items()}
        for path, start, end in named:
            if str(path) != plain(path):
                raise UsageError(f"{plain(path)}: its name is no plain text; rename it to label it")
            if end is not None and end <= (start or 0.0):
                raise UsageError(f"{path.name}: a moment must end after it starts, got {start} and {end}")
        self.refresh()
        moved = {place[0]: place for place, label in named.items() if label is None}
        changes = [self._change(place, label, moved.get(place[0])) for place, label in named.items()]
        changes = [change for change in changes if change.before != change.after]
        if changes:
            self._write(changes)
        self._undo.append(changes)

    def follow(self, moved: Mapping[Path, Path], replaced: Collection[Path] = ()) -> bool:
        """Keep the labels of files that lie at another place now; say whether any row changed.

        Paths that are ``replaced`` hold other footage now: a row that can neither follow nor stay goes, and
        the table as it was is kept beside it. Raises CannotWrite.
        """
        self.refresh()
        after = followed(self._rows, self.path.parent, moved, replaced)
        if after == self._rows:
            return False
        copy = _kept_copy(self.path) if len(after) < len(self._rows) else None
        try:
            self._save(after)
        except CannotWrite:
            if copy is not None:
                copy.unlink(missing_ok=True)
            raise
        self.forget()  # it names the places of before
        return True

    def _change(self, place: Place, label: str | None, instead: Place | None) -> _Change:
        """Return what becomes of a row; a new one takes over what is known of the row that it replaces."""
        before = self._rows.get(place)
        after = before if before is not None and not before["label"] else None
        if label is not None:
            path, start, end = place
            new = {
                "path": path_cell(path, self.path.parent),
                "start": seconds_cell(start),
                "end": seconds_cell(end),
            }
            known = self._rows.get(instead, {}) if instead is not None else {}
            kept = {name: cell for name, cell in known.items() if name not in MEASURED}
            after = {**(before or {**kept, **new}), "label": label}
        return _Change(place, before, after)

    @property
    def undoable(self) -> list[set[Path]]:
        """The files that each `undo` would give labels back to; the last set is that of the next one."""
        return [{c.place[0] for c in changes if c.before is not None} for changes in self._undo]

    @property
    def idle(self) -> bool:
        """Whether the last key changed nothing."""
        return bool(self._undo) and not self._undo[-1]

    def forget(self) -> None:
        """Take nothing back any more."""
        self._undo.clear()

    def undo(self) -> list[Labelled]:
        """Take the last change back; return its moments as they are called now, '' for no label."""
        if not self._undo:
            return []
        self.refresh()
        # not what others wrote since
        changes = [c for c in self._undo[-1] if self._rows.get(c.place) == c.after]
        if changes:
            self._write([_Change(c.place, c.after, c.before) for c in changes])
        self._undo.pop()
        return [Labelled(*c.place, (c.before or {"label": ""})["label"]) for c in changes]

    def refresh(self) -> bool:
        """Read the file again, if somebody else wrote it; say whether it was so."""
        if _stamp(self.path) == self._seen:
            return False
        before = set(self.rows)
        self._read()
        self.edited |= {row.path for row in before ^ set(self.rows)}
        return True

    def _read(self) -> None:
        """Read the file; what is known stays as it was unless all of it can be read."""
        seen = _settled(self.path, len(self._rows))
        rows: dict[Place | int, dict[str, str]] = {}
        if exists(self.path) and not is_file(self.path):
            raise BadDataset(f"{self.path}: is no file; name a table to write labels to")
        filled = seen is not None and seen[1] > 0
        for number, cells in read_records(self.path) if filled else ():
            if isinstance(cells, str):
                raise BadDataset(f"{self.path}: row {number}: {cells}; fix it, or name another table")
            row = {name: "" if value is None else str(value) for name, value in cells.items()}
            row |= {"label": " ".join(row["label"].split())} if "label" in row else {}
            _check_columns(self.path, tuple(row))
            place = read_place(self.path.parent, row)
            if place in rows and row["label"] and not rows[place]["label"]:
                rows[-number] = rows.pop(place)  # it waits for what this one says
            rows[number if place is None or place in rows else place] = row
        if not rows and seen is not None:
            _check_empty(self.path, len(self._rows))
        self._rows, self._seen, self.sha256 = rows, seen, None
        self._form = read_form(self.path) if filled else Form()
        with suppress(OSError):  # it is not there
            self.sha256 = file_hash(self.path)

    def _write(self, changes: list[_Change]) -> None:
        rows = dict(self._rows)
        for change in changes:
            if change.after is None:
                rows.pop(change.place, None)
            else:
                rows[change.place] = change.after
        self._save(rows)

    def _save(self, rows: dict[Place | int, dict[str, str]]) -> None:
        data = table_text(rows.values(), self._form).encode(self._form.encoding)
        with replacing(self.path, sync=True) as part:
            part.write_bytes(data)
            if exists(self.path):
                shutil.copymode(self.path, part)
            if _stamp(self.path) != self._seen:
                raise CannotWrite(
                    f"{self.path}: another program is writing it; nothing was changed, try again"
                )
        self._rows, self._seen = rows, _stamp(self.path)
        self.sha256 = sha256(data).hexdigest()


def _places(rows: Mapping[Place | int, Mapping[str, str]]) -> tuple[_Files, _Files]:
    """Return the places of rows by file: of those with a label, and of those that wait for one."""
    known = [(place, row["label"]) for place, row in rows.items() if isinstance(place, tuple)]
    return by_file(p for p, label in known if label), by_file(p for p, label in known if not label)


@lru_cache(maxsize=64)  # rows have the same
def _check_columns(path: Path, names: tuple[str, ...]) -> None:
    """Raise BadDataset if a row is of another sort of table."""
    if "caption" in names or not {"path", "label"} <= set(names):
        raise BadDataset(f"{path}: its columns are {', '.join(names)}; expected path, start, end, label")
    for name in names:
        if name not in COLUMNS and (close := meant(name, names)):
            raise BadDataset(f"{path}: unknown column {name!r}; did you mean {close!r}?")


def _check_empty(path: Path, before: int) -> None:
    """Raise BadDataset if a file without rows is no table, or if it had some ``before``."""
    if before:
        way = "put them back, or delete the file to start over"
        raise BadDataset(f"{path}: had {before} rows, and has none now; {way}")
    names = {cell.strip().lower() for cell in re.split(r"[,;\t]", read_text(path).strip())}
    if names != {""} and not {"path", "label"} <= {NAMES.get(name, name) for name in names}:
        raise BadDataset(f"{path}: is no table of labels; its columns must be path, start, end, label")


def _tidy(table: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    stem = table.stem
    known = {
        stem: "csv",
        f".{stem}.page": "json",
        f".{stem}.files": "json",
    }  # see `stopcli.tasks.labelling.memory`
    for name, suffix in known.items():
        for part in table.parent.glob(f".{glob.escape(name[:40])}-*.part.{suffix}"):
            part.unlink(missing_ok=True)


def _kept_copy(table: Path) -> Path:
    """Copy a table beside itself, under a name that is free; return that one."""
    names = (table.with_name(f"{table.stem}-before-{number}.csv") for number in count(1))
    free = next(name for name in names if not os.path.lexists(name))
    with replacing(free, sync=True, fresh=True) as part:
        shutil.copyfile(table, part)
    return free


def _settled(path: Path, rows: int) -> tuple[int, int, int] | None:
    """Return the stamp of a table; if it has fewer lines than known ``rows``, once nobody writes it."""
    stamp, late = _stamp(path), time.monotonic() + PATIENCE
    while stamp is not None and rows and time.monotonic() < late:
        with suppress(OSError), path.open("rb") as stream:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))
            if lines > rows:
                break
        time.sleep(SETTLED)
        before, stamp = stamp, _stamp(path)
        if before == stamp:
            break
    return stamp


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
