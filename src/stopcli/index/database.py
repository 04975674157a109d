"""The database of an index: which files there are, and where the vectors of their content stand.

Files go by their content, so that a file that moves keeps its vectors. Reads cost what they return,
not what the index holds beside it. Letter: E embedding size.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import IndexBusy, IndexUnusable, StopError
from stopcli.fileio import write_error
from stopcli.index.types import Entry, Fault, FileRecord, Space

if TYPE_CHECKING:
    from stopcli.index.types import Entries, Faults, Files

FORMAT = 1
BATCH = 500  # values of one statement
SCHEMA = """
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, weights TEXT NOT NULL, precision TEXT NOT NULL,
    frames INTEGER NOT NULL, "window" REAL, size INTEGER NOT NULL, rows INTEGER NOT NULL DEFAULT 0,
    file TEXT NOT NULL, UNIQUE (weights, precision, frames, "window")
);
CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (space INTEGER NOT NULL, content TEXT NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, duration REAL NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE faults (space INTEGER NOT NULL, content TEXT NOT NULL, error TEXT NOT NULL,
    message TEXT NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE texts (weights TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (weights, text)) WITHOUT ROWID;
"""


def explain(path: Path, error: sqlite3.Error, writer: str = "another process") -> StopError:
    """Say in one sentence why SQLite refuses: it is busy, the disk is full, or the file is of no use."""
    reason = str(error)
    if reason == "database is locked":  # SQLITE_BUSY; Python 3.10 does not give the number
        return IndexBusy(f"{path}: {writer} is writing to the index; try again when it is done")
    if reason == "database or disk is full":
        return write_error(path, OSError(errno.ENOSPC, reason))
    return IndexUnusable(
        f"{path}: not an index that can be used ({reason}); remove it, or name another with --index"
    )


class Database:
    """An open database; every fault of SQLite comes out as a `StopError`.

    Args:
        path: made if it is not there and may be.
        writable: whether the folder can be written to.

    Raises:
        IndexUnusable: no index of this format, or damaged.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        mode = "rwc" if writable else "ro&immutable=1"
        with self._explained():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60, isolation_level=None
            )
        try:
            if writable:
                self._prepare()
            if (number := self._pragma("user_version")) != FORMAT:
                raise IndexUnusable(
                    f"{path}: format {number}, this stopcli reads {FORMAT}; "
                    "upgrade stopcli, or name another with --index"
                )
        except StopError:
            self.close()
            raise

    def _prepare(self) -> None:
        self._rows("PRAGMA journal_mode=WAL")
        self._rows("PRAGMA synchronous=NORMAL")
        if self._pragma("user_version") == 0:
            with self.transaction() as db:
                if self._pragma("user_version") == 0:  # nobody was faster
                    for statement in SCHEMA.split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version={FORMAT}")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Do all of a block or nothing of it; a ``DEFERRED`` one sees one state, and does not write."""
        with self._explained():
            self._db.execute(f"BEGIN {kind}")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    def _among(self, sql: str, values: Iterable[Any], *fixed: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows of ``sql`` for each of the values, which stand where it says ``{}``."""
        rest = iter(values)
        while part := list(islice(rest, BATCH)):
            yield from self._rows(sql.format(",".join("?" * len(part))), (*fixed, *part))

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    def version(self) -> int:
        """Return a number that changes when another process has written."""
        return self._pragma("data_version")

    # ---------------------------------------------------------------------------------- spaces

    def spaces(self) -> list[Space]:
        """Return all spaces."""
        rows = self._rows(
            'SELECT model, weights, precision, frames, "window", size, id, rows, file FROM spaces'
        )
        return [Space(*row) for row in rows]

    def find_space(
        self, weights: str, precision: str | None, frames: int, window: float | None
    ) -> Space | None:
        """Return a space; ``precision`` None takes the one with the most rows."""
        matches = [
            space
            for space in self.spaces()
            if (space.weights, space.frames, space.window) == (weights, frames, window)
            and precision in (None, space.precision)
        ]
        return max(matches, key=lambda space: space.rows, default=None)

    def make_space(self, wanted: Space) -> Space:
        """Return the space with these properties, made if it is new."""
        key = wanted.weights, wanted.precision, wanted.frames, wanted.window
        space = self.find_space(*key)
        if space is None:
            with self.transaction() as db:
                (new,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM spaces").fetchone()
                space = replace(wanted, id=new, rows=0, file=f"vectors-{new}.f32")
                values = (new, space.model, *key, space.size, 0, space.file)
                db.execute("INSERT INTO spaces VALUES (?,?,?,?,?,?,?,?,?)", values)
        return space

    # ----------------------------------------------------------------------------------- files

    def files(self) -> dict[Path, FileRecord]:
        """Return every file, by absolute path."""
        return _records(self._rows("SELECT path, size, mtime_ns, content FROM files"))

    def files_at(self, paths: Iterable[str]) -> dict[Path, FileRecord]:
        """Return the files that are at the absolute paths."""
        sql = "SELECT path, size, mtime_ns, content FROM files WHERE path IN ({})"
        return _records(self._among(sql, map(os.fsencode, paths)))

    def files_below(self, prefixes: Iterable[str]) -> dict[Path, FileRecord]:
        """Return the files whose absolute path begins with one of the prefixes, which end in a slash."""
        records: dict[Path, FileRecord] = {}
        for prefix in map(os.fsencode, prefixes):
            beyond = prefix[:-1] + bytes([prefix[-1] + 1])  # sorts behind all that begins with it
            sql = "SELECT path, size, mtime_ns, content FROM files WHERE path >= ? AND path < ?"
            records |= _records(self._rows(sql, (prefix, beyond)))
        return records

    def update_files(self, found: Files, gone: Iterable[Path] = ()) -> None:
        """Note where known contents lie now, and forget files that are gone; their vectors stay."""
        with self.transaction() as db:
            db.executemany("DELETE FROM files WHERE path=?", [(os.fsencode(p),) for p in gone])
            _set_files(db, found)

    # --------------------------------------------------------------------------------- entries

    def entries(self, space: Space, contents: Iterable[str] | None = None) -> dict[str, Entry]:
        """Return where vectors stand, by content: those of the contents, or all."""
        sql = "SELECT content, first, count, duration FROM entries WHERE space=?"
        return {content: Entry(*rest) for content, *rest in self._of(sql, space, contents)}

    def faults(self, space: Space, contents: Iterable[str] | None = None) -> dict[str, Fault]:
        """Return why contents have no vectors: of the contents, or of all."""
        sql = "SELECT content, error, message FROM faults WHERE space=?"
        return {content: Fault(*rest) for content, *rest in self._of(sql, space, contents)}

    def _of(self, sql: str, space: Space, contents: Iterable[str] | None) -> Iterable[tuple[Any, ...]]:
        if contents is None:
            return self._rows(sql, (space.id,))
        return self._among(sql + " AND content IN ({})", contents, space.id)

    def add(self, space: Space, rows: int, entries: Entries, faults: Faults, files: Files) -> None:
        """Add entries, whose vectors are on the disk already, faults and files; all or nothing."""
        with self.transaction() as db:
            _set_entries(db, space, entries)
            db.executemany(
                "INSERT OR IGNORE INTO faults VALUES (?,?,?,?)",
                [(space.id, content, fault.error, fault.message) for content, fault in faults.items()],
            )
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

    # ----------------------------------------------------------------------------------- texts

    def texts(self, weights: str, wanted: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return those of the texts that are kept, embedded (E,)."""
        rows = self._among("SELECT text, vector FROM texts WHERE weights=? AND text IN ({})", wanted, weights)
        return {text: np.frombuffer(vector, np.float32) for text, vector in rows}

    def save_texts(self, weights: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep embedded texts, so that a query that was asked before needs no model."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO texts VALUES (?,?,?)",
                [(weights, text, vector.astype(np.float32).tobytes()) for text, vector in vectors.items()],
            )


def _records(rows: Iterable[tuple[Any, ...]]) -> dict[Path, FileRecord]:
    return {Path(os.fsdecode(path)): FileRecord(*rest) for path, *rest in rows}


def _set_files(db: sqlite3.Connection, files: Files) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO files VALUES (?,?,?,?)",
        [(os.fsencode(path), f.size, f.mtime_ns, f.content) for path, f in files.items()],
    )


def _set_entries(db: sqlite3.Connection, space: Space, entries: Entries) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO entries VALUES (?,?,?,?,?)",
        [(space.id, content, e.first, e.count, e.duration) for content, e in entries.items()],
    )
