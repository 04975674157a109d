"""The database of an index: which files there are, and where the vectors of their content stand.

Files go by their content: one that moves keeps its vectors. Reads cost what they return. E: embedding size.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stopcli.errors import IndexBusy, IndexUnusable, StopError
from stopcli.fileio import sqlite_address, write_error
from stopcli.index.types import (
    Entries,
    Entry,
    Fault,
    Faults,
    FileRecord,
    Files,
    Space,
    Vectors,
    entry_of,
    of_kind,
    record_of,
    row_of,
    space_of,
)
from stopcli.index.vectors import REPAIR

FORMAT = 2
BATCH = 500  # values of one statement
TRIES = 5  # at opening it while others do
SPACES = 'model, weights, precision, frames, "window", size, id, rows, file'
FILES = "SELECT path, size, mtime_ns, content FROM files"
TABLES = {"spaces", "files", "entries", "faults", "texts"}
# columns of entries that the first indexes did not have
NEWER = {"numbers": "TEXT", "begin": "REAL", "ends": "TEXT"}
SCHEMA = f"""
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, weights TEXT NOT NULL, precision TEXT NOT NULL,
    frames INTEGER NOT NULL, "window" REAL, size INTEGER NOT NULL, rows INTEGER NOT NULL DEFAULT 0,
    file TEXT NOT NULL, UNIQUE (weights, precision, frames, "window")
);
CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (space INTEGER NOT NULL, content TEXT NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, duration REAL NOT NULL, numbers TEXT, begin REAL, ends TEXT,
    PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE faults (space INTEGER NOT NULL, content TEXT NOT NULL, error TEXT NOT NULL,
    message TEXT NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE texts (weights TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (weights, text)) WITHOUT ROWID;
PRAGMA user_version={FORMAT}
"""


BUSY = "database is locked"  # SQLite's words for each kind of it


def explain(path: Path, error: sqlite3.Error, writer: str = "another process") -> StopError:
    """Say in one sentence why SQLite refuses: it is busy, the disk is full, or the file is of no use."""
    reason = str(error)
    if reason == BUSY:
        return IndexBusy(f"{path}: {writer} is writing to the index; try again when it is done")
    if reason == "database or disk is full":
        return write_error(path, OSError(errno.ENOSPC, reason))
    if reason in ("unable to open database file", "disk I/O error"):  # of the disk, not of what is on it
        return IndexUnusable(f"{path}: cannot be opened ({reason}); is the disk full, or read-only?")
    return unusable(path, reason)


def unusable(path: Path, reason: str) -> IndexUnusable:
    """Say in one sentence that a database is damaged, or was made by somebody else."""
    way = "see 'stop index check', or name another with --index"
    error = IndexUnusable(f"{path}: not an index that can be used ({reason}); {way}")
    error.damaged = True
    return error


class Database:
    """An open database, made if it may be; raises IndexUnusable and, as SQLite does, any `StopError`."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        if path.is_symlink():
            raise unusable(path, "a link; it may lead anywhere")
        with self._explained():
            self._db = _connect(path, writable=writable)
        try:
            new = self._pragma("user_version") == 0 and not self._rows("SELECT 1 FROM sqlite_master")
            if not new:
                _check_format(path, self._rows)  # before anything is changed: it may be somebody else's
            if writable:
                for _ in range(1000):  # SQLite does not wait by itself where another process is at this
                    with suppress(IndexBusy):
                        self._rows("PRAGMA journal_mode=WAL")
                        break
                    time.sleep(0.01)
                self._rows("PRAGMA synchronous=FULL")  # what a commit replaces may be removed at once
                if self._pragma("user_version") == 0:
                    self._create()
            _check_format(path, self._rows)
            with self._explained():
                self._newer = _newer_columns(self._db, writable=writable)
        except StopError:
            self.close()
            raise

    def _create(self) -> None:
        with self.transaction() as db:
            if self._pragma("user_version") == 0:  # nobody was faster
                for statement in SCHEMA.split(";"):
                    db.execute(statement)

    def close(self) -> None:
        self._db.close()

    def damage(self) -> str | None:
        """Look at every page; return what is wrong, if anything is."""
        return None if (first := str(self._rows("PRAGMA quick_check(1)")[0][0])) == "ok" else first[:200]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise unusable(self._path, str(error)) from error

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Do all of a block or nothing of it; a ``DEFERRED`` one sees one state, and does not write."""
        with self._explained(), self._db:
            self._db.execute(f"BEGIN {kind}")
            yield self._db

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    def _among(self, sql: str, values: Iterable[Any], *fixed: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows of ``sql``, which ends in a column's name, where that is one of the values."""
        every = list(values)
        for part in (every[i : i + BATCH] for i in range(0, len(every), BATCH)):
            yield from self._rows(f"{sql} IN ({','.join('?' * len(part))})", (*fixed, *part))

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    def version(self) -> int:
        """Return a number that changes when another process has written."""
        return self._pragma("data_version")

    def spaces(self) -> list[Space]:
        with self._explained():
            return [space_of(*row) for row in self._rows(f"SELECT {SPACES} FROM spaces")]

    def find_space(
        self, weights: str, precision: str | None, frames: int, window: float | None
    ) -> Space | None:
        """Return a space; ``precision`` None takes the one with the most rows."""
        sql = f"""SELECT {SPACES} FROM spaces WHERE weights=? AND precision=coalesce(?, precision)
            AND frames=? AND "window" IS ? ORDER BY rows DESC, id LIMIT 1"""
        rows = self._rows(sql, (weights, precision, frames, window))
        with self._explained():
            return space_of(*rows[0]) if rows else None

    def make_space(self, wanted: Space) -> Space:
        """Return the space with these properties, made if it is new."""
        space = self.find_space(wanted.weights, wanted.precision, wanted.frames, wanted.window)
        if space is None:
            with self.transaction() as db:
                (new,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM spaces").fetchone()
                space = replace(wanted, id=new, rows=0, file=f"vectors-{new}.f32")
                space_of(*astuple(space))  # what cannot be read back would make the index useless
                db.execute(f"INSERT INTO spaces ({SPACES}) VALUES (?,?,?,?,?,?,?,?,?)", astuple(space))
        return space

    def drop_space(self, space: Space) -> None:
        """Forget a space, and what is known of contents in it."""
        with self.transaction() as db:
            for table, column in (("entries", "space"), ("faults", "space"), ("spaces", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column}=?", (space.id,))

    def files(self) -> dict[Path, FileRecord]:
        """Return every file, by absolute path."""
        return self._records(self._rows(FILES))

    def files_at(self, paths: Iterable[str]) -> dict[Path, FileRecord]:
        """Return the files that are at the absolute paths."""
        return self._records(self._among(f"{FILES} WHERE path", map(os.fsencode, paths)))

    def files_below(self, prefixes: Iterable[str]) -> dict[Path, FileRecord]:
        """Return the files whose absolute path begins with one of the prefixes, which end in a slash."""
        sql = f"{FILES} WHERE path >= ? AND path < ?"  # the second sorts behind all that begin like the first
        ranges = ((p, p[:-1] + bytes([p[-1] + 1])) for p in map(os.fsencode, prefixes))
        return self._records(row for bounds in ranges for row in self._rows(sql, bounds))

    def update_files(self, found: Files, gone: Iterable[Path] = ()) -> None:
        """Note where known contents lie now, and forget files that are gone; their vectors stay."""
        with self.transaction() as db:
            db.executemany("DELETE FROM files WHERE path=?", [(os.fsencode(p),) for p in gone])
            _set_files(db, found)

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> dict[Path, FileRecord]:
        with self._explained():
            return {Path(os.fsdecode(path)): record_of(*rest) for path, *rest in rows}

    def entries(self, space: Space, contents: Iterable[str] | None = None) -> dict[str, Entry]:
        """Return where vectors stand, by content: those of the contents, or all.

        Raises IndexUnusable: one stands where there are none.
        """
        every = self.every_entry(space, contents)
        for e in every.values():
            if e.first + e.count > space.rows:
                raise IndexUnusable(f"{self._path}: names vectors that are not there; {REPAIR}")
        return every

    def every_entry(self, space: Space, contents: Iterable[str] | None = None) -> dict[str, Entry]:
        """Return what `entries` does, without a look at whether the vectors are there."""
        columns = f"content, first, count, duration, {self._newer}"
        rows = self._of(space, f"SELECT {columns} FROM entries", contents)
        with self._explained():
            return {of_kind(str, content): entry_of(*rest) for content, *rest in rows}

    def faults(self, space: Space, contents: Iterable[str] | None = None) -> dict[str, Fault]:
        """Return why contents have no vectors: of the contents, or of all."""
        rows = self._of(space, "SELECT content, error, message FROM faults", contents)
        with self._explained():
            return {c: Fault(of_kind(str, error), of_kind(str, message)) for c, error, message in rows}

    def _of(self, space: Space, sql: str, contents: Iterable[str] | None) -> Iterable[tuple[Any, ...]]:
        if contents is None:
            return self._rows(f"{sql} WHERE space=?", (space.id,))
        return self._among(f"{sql} WHERE space=? AND content", contents, space.id)

    def add(self, space: Space, rows: int, entries: Entries, faults: Faults, files: Files) -> None:
        """Add entries, whose vectors are on the disk already, faults and files; all or nothing."""
        new = [(space.id, content, *fault) for content, fault in faults.items()]
        with self.transaction() as db:
            _set_entries(db, space, entries)
            older = [(space.id, content) for content in entries]  # faults: this time they could be read
            db.executemany("DELETE FROM faults WHERE space=? AND content=?", older)
            db.executemany("INSERT OR IGNORE INTO faults VALUES (?,?,?,?)", new)
            _set_files(db, files)
            db.execute("UPDATE spaces SET rows=? WHERE id=?", (rows, space.id))

    def replace(self, space: Space, file: str, rows: int, entries: Entries) -> None:
        """Put another file of vectors, and the entries that say what it holds, in the place of a space's."""
        with self.transaction() as db:
            db.execute("DELETE FROM entries WHERE space=?", (space.id,))
            _set_entries(db, space, entries)
            db.execute("UPDATE spaces SET rows=?, file=? WHERE id=?", (rows, file, space.id))

    def shrink(self) -> None:
        """Drop faults of contents that no file has, and give the room back."""
        with self.transaction() as db:
            db.execute("DELETE FROM faults WHERE content NOT IN (SELECT content FROM files)")
        self._rows("VACUUM")

    def texts(self, weights: str, wanted: Iterable[str]) -> dict[str, Vectors]:
        """Return those of the texts that are kept, embedded (E,)."""
        rows = self._among("SELECT text, vector FROM texts WHERE weights=? AND text", wanted, weights)
        with self._explained():
            return {text: np.frombuffer(vector, np.float32) for text, vector in rows}

    def save_texts(self, weights: str, vectors: Mapping[str, Vectors]) -> None:
        """Keep embedded texts, so that a query that was asked before needs no model."""
        new = [(weights, text, vector.astype(np.float32).tobytes()) for text, vector in vectors.items()]
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO texts VALUES (?,?,?)", new)


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open a database; where this user may not write, as it lies there, without a file made beside it.

    Raises IndexBusy where what was written last is not in it yet; IndexUnusable where others left such files.
    """
    uri = f"{sqlite_address(path)}?mode="
    connect = partial(sqlite3.connect, uri=True, timeout=60, isolation_level=None)
    beside = [path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm")]
    for _ in range(TRIES if writable else 0):  # they come and go while other processes open it
        if not any(p.exists() for p in beside if not os.access(p, os.W_OK)):
            return connect(f"{uri}rwc")
        time.sleep(0.02)
    if not writable and any(p.exists() for p in beside):
        db = connect(f"{uri}ro")
        with suppress(sqlite3.OperationalError):
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
            return db
        db.close()
    with suppress(FileNotFoundError):
        if beside[0].stat().st_size:
            raise IndexBusy(f"{path}: another user is writing to it; try again when they have finished")
    if writable:
        names = " and ".join(p.name for p in beside if p.exists())
        raise IndexUnusable(f"{path}: {names} belong to another user; when they have finished, remove these")
    return connect(f"{uri}ro&immutable=1")


def _check_format(path: Path, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """Raise IndexUnusable for a database of another format, or that nobody here made."""
    ((number,),) = rows("PRAGMA user_version")
    if number != FORMAT:
        problem = f"{path}: format {number}, this stopcli reads {FORMAT}"
        way = "upgrade stopcli" if number > FORMAT else "delete its folder, and it is made again"
        raise IndexUnusable(f"{problem}; {way}, or name another with --index; see 'stop index check'")
    if fault := _schema_fault(rows("SELECT type, name FROM sqlite_master")):
        raise unusable(path, fault)


def _schema_fault(found: Sequence[tuple[Any, ...]]) -> str | None:
    """Say what is wrong with a database that has so many (type, name), if anything is."""
    if lacking := TABLES - {name for kind, name in found if kind == "table"}:
        return f"it lacks the table {min(lacking)}"
    more = [kind for kind, name in found if kind != "index" and (kind != "table" or name not in TABLES)]
    return f"it has a {more[0]} that no index has" if more else None


def _newer_columns(db: sqlite3.Connection, *, writable: bool) -> str:
    """Add the columns that the first indexes did not have; return how to read them."""
    known = "SELECT name FROM pragma_table_info('entries')"
    for name in NEWER.keys() - {n for (n,) in db.execute(known)} if writable else ():
        with suppress(sqlite3.OperationalError):  # another process was faster, or the disk is full
            db.execute(f"ALTER TABLE entries ADD COLUMN {name} {NEWER[name]}")
    here = {n for (n,) in db.execute(known)}
    return ", ".join(name if name in here else "NULL" for name in NEWER)


def _set_files(db: sqlite3.Connection, files: Files) -> None:
    rows = [(os.fsencode(path), *record) for path, record in files.items()]
    db.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?)", rows)


def _set_entries(db: sqlite3.Connection, space: Space, entries: Entries) -> None:
    rows = [(space.id, content, *row_of(entry)) for content, entry in entries.items()]
    columns = "space, content, first, count, duration, numbers, begin, ends"
    db.executemany(f"INSERT OR REPLACE INTO entries ({columns}) VALUES (?,?,?,?,?,?,?,?)", rows)
