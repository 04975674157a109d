"""The index of an archive: SQLite for what is where, one append-only file of vectors a space.

A space is what makes vectors comparable: weights, precision, frames, length of the windows. Files
go by their content, so that a file that moves keeps its vectors. Whatever happens, the database is
the truth: vectors are written and synced before the row that names them is committed, and a tail
that no row names is overwritten by the next writer.

Letters: R rows of a space, E embedding size.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stopcli.errors import IndexBusy, IndexUnusable
from stopcli.settings import data_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from stopcli.model.files import ModelFiles

Result = TypeVar("Result")

FORMAT = 1
READS = 3  # attempts at reading while others compact
DATABASE, LOCK, HOLDER = "index.sqlite", "writer.lock", "writer.json"
SCHEMA = """
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, weights TEXT NOT NULL, precision TEXT NOT NULL,
    frames INTEGER NOT NULL, every REAL, size INTEGER NOT NULL, vectors TEXT NOT NULL,
    rows INTEGER NOT NULL DEFAULT 0, UNIQUE (weights, precision, frames, every)
);
CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (space INTEGER NOT NULL, content TEXT NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, duration REAL NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE faults (space INTEGER NOT NULL, content TEXT NOT NULL, error TEXT NOT NULL,
    message TEXT NOT NULL, PRIMARY KEY (space, content)) WITHOUT ROWID;
CREATE TABLE texts (weights TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (weights, text)) WITHOUT ROWID;
CREATE TABLE hashes (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX files_by_content ON files (content);
"""


@dataclass(frozen=True)
class Space:
    """What vectors must have in common to be compared; ``every`` None is one vector a file."""

    model: str
    weights: str
    precision: str
    frames: int
    window: float | None
    size: int
    """E."""
    id: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Entry:
    """Where the vectors of one content stand."""

    first: int
    count: int
    duration: float


@dataclass(frozen=True)
class FileRecord:
    """A file as the index last saw it."""

    size: int
    mtime_ns: int
    content: str


def default_folder() -> Path:
    """Return where the index is kept unless another place is named."""
    return data_folder() / "index"


class Index:
    """An index folder, open.

    Args:
        folder: made when something is written.
        wait: seconds to wait for another writer; 0 refuses at once.

    Raises:
        IndexUnusable: no index of this format, damaged, or in a place that cannot be read.
    """

    def __init__(self, folder: Path, *, wait: float = 600.0) -> None:
        self.folder = folder
        self._wait = wait
        self._db = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        try:
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
            self._writable = writable = os.access(self.folder, os.W_OK)
            mode = "rwc" if writable else "ro&immutable=1"
            db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60, isolation_level=None
            )
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if writable:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
            if found == 0 and writable:
                self._create(db)
                found = FORMAT
        except sqlite3.DatabaseError as error:
            raise IndexUnusable(
                f"{path}: not an index that can be used ({error}); remove it, or name another with --index"
            ) from error
        except OSError as error:
            raise IndexUnusable(
                f"{self.folder}: cannot hold an index ({error.strerror}); "
                "name another place with --index or STOPCLI_HOME"
            ) from error
        if found != FORMAT:
            raise IndexUnusable(
                f"{path}: format {found}, this stopcli reads {FORMAT}; "
                "upgrade stopcli, or name another with --index"
            )
        return db

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody was faster
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")

    # --------------------------------------------------------------------------------- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer; wait for another one, or refuse.

        The operating system lets go of the lock when a process dies.

        Raises:
            IndexBusy: another process writes, and did not finish in time.
        """
        if not self._writable:
            raise IndexUnusable(f"{self.folder}: is read-only; name another place with --index")
        lock = sqlite3.connect(self.folder / LOCK, timeout=self._wait, isolation_level=None)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise IndexBusy(
                    f"{self.folder}: {self._holder()} is writing to the index; try again when it is done"
                ) from error
            with suppress(OSError):
                told = {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                }
                (self.folder / HOLDER).write_text(json.dumps(told), encoding="utf-8")
            yield
        except sqlite3.OperationalError as error:
            raise IndexUnusable(f"{self.folder}: cannot be written ({error}); is the disk full?") from error
        finally:
            lock.close()

    def _holder(self) -> str:
        try:
            told = json.loads((self.folder / HOLDER).read_text(encoding="utf-8"))
            return f"process {told['pid']} on {told['host']} (since {told['since']})"
        except (OSError, ValueError, KeyError):
            return "another process"

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def space(self, wanted: Space) -> Space:
        """Return the space with these properties, made if it is new."""
        found = self.find_space(wanted.weights, wanted.precision, wanted.frames, wanted.window)
        if found is not None:
            return found
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO spaces (model, weights, precision, frames, every, size, vectors) "
                "VALUES (?,?,?,?,?,?,'')",
                (wanted.model, wanted.weights, wanted.precision, wanted.frames, wanted.window, wanted.size),
            )
            db.execute(
                "UPDATE spaces SET vectors=? WHERE id=?",
                (f"vectors-{cursor.lastrowid}.f32", cursor.lastrowid),
            )
        again = self.find_space(wanted.weights, wanted.precision, wanted.frames, wanted.window)
        assert again is not None
        return again

    def add(
        self,
        space: Space,
        done: Sequence[tuple[Path, FileRecord, float, NDArray[np.float32]]],
        faults: Sequence[tuple[Path, FileRecord, str, str]] = (),
    ) -> None:
        """Add files with their vectors, and those that cannot be used; all or nothing.

        Args:
            space: theirs.
            done: (path, what the file was, duration in seconds, vectors (n,E)).
            faults: (path, what the file was, class of the error, message).
        """
        self._add_entries(space, done, faults, files=True)

    def _add_entries(
        self,
        space: Space,
        done: Sequence[tuple[Path, FileRecord, float, NDArray[np.float32]]],
        faults: Sequence[tuple[Path, FileRecord, str, str]] = (),
        *,
        files: bool = False,
    ) -> None:
        (rows, name) = self._db.execute("SELECT rows, vectors FROM spaces WHERE id=?", (space.id,)).fetchone()
        entries = []
        first = rows
        for _, known, duration, vectors in done:
            entries.append((space.id, known.content, first, len(vectors), duration))
            first += len(vectors)
        if done:
            self._append(name, rows * space.size * 4, np.concatenate([v for *_, v in done]))
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO entries VALUES (?,?,?,?,?)", entries)
            db.executemany(
                "INSERT OR REPLACE INTO faults VALUES (?,?,?,?)",
                [(space.id, k.content, error, message) for _, k, error, message in faults],
            )
            if files:
                self._set_files(db, [(p, k) for p, k, *_ in [*done, *faults]])
            db.execute("UPDATE spaces SET rows=? WHERE id=?", (first, space.id))

    def _append(self, name: str, offset: int, vectors: NDArray[np.float32]) -> None:
        path = self.folder / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if os.fstat(descriptor).st_size < offset:
                raise IndexUnusable(
                    f"{path}: shorter than the index says; rebuild it: stop index rm --all, then update"
                )
            os.ftruncate(descriptor, offset)  # what a killed writer left behind
            os.lseek(descriptor, offset, os.SEEK_SET)
            data = memoryview(np.ascontiguousarray(vectors, np.float32).tobytes())
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError as error:
            raise IndexUnusable(
                f"{path}: cannot be written ({error.strerror}); nothing is lost, make room and go on"
            ) from error
        finally:
            os.close(descriptor)

    def set_files(self, found: Sequence[tuple[Path, FileRecord]]) -> None:
        """Note where known contents lie now."""
        with self._transaction() as db:
            self._set_files(db, found)

    @staticmethod
    def _set_files(db: sqlite3.Connection, found: Sequence[tuple[Path, FileRecord]]) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO files VALUES (?,?,?,?)",
            [(os.fsencode(p), k.size, k.mtime_ns, k.content) for p, k in found],
        )

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop files; their vectors stay until `compact`, in case the file comes back."""
        with self._transaction() as db:
            db.executemany("DELETE FROM files WHERE path=?", [(os.fsencode(p),) for p in paths])

    def compact(self) -> int:
        """Drop the vectors that no file has any more, and old faults; return the bytes that were freed."""
        freed = 0
        for space in self.spaces():
            (name,) = self._db.execute("SELECT vectors FROM spaces WHERE id=?", (space.id,)).fetchone()
            kept = self._db.execute(
                "SELECT content, first, count, duration FROM entries WHERE space=? AND content IN "
                "(SELECT content FROM files) ORDER BY first", (space.id,),
            ).fetchall()  # fmt: skip
            matrix = self.vectors(space)
            stem, _, number = name.removesuffix(".f32").partition(".")
            fresh = f"{stem}.{int(number or 0) + 1}.f32"
            moved, first = [], 0
            part = self.folder / f".{fresh}.part"
            with part.open("wb") as stream:
                for content, at, count, duration in kept:
                    stream.write(np.ascontiguousarray(matrix[at : at + count]).tobytes())
                    moved.append((space.id, content, first, count, duration))
                    first += count
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.folder / fresh)
            with self._transaction() as db:
                db.execute("DELETE FROM entries WHERE space=?", (space.id,))
                db.execute(
                    "DELETE FROM faults WHERE space=? AND content NOT IN (SELECT content FROM files)",
                    (space.id,),
                )
                db.executemany("INSERT INTO entries VALUES (?,?,?,?,?)", moved)
                db.execute("UPDATE spaces SET rows=?, vectors=? WHERE id=?", (first, fresh, space.id))
            freed += (space.rows - first) * space.size * 4
            del matrix
            with suppress(OSError):  # a reader elsewhere may hold it
                (self.folder / name).unlink()
            for cache in self.folder.glob(f"{name}.*"):
                with suppress(OSError):
                    cache.unlink()
        self._db.execute("VACUUM")
        return freed

    def merge(self, other: Index) -> tuple[int, int]:
        """Take over another index's files, vectors and faults; return how many files and rows came.

        What both have stays as it is here. To be called inside `writing`.
        """
        mine = self.files()
        fresh = [(path, known) for path, known in other.files().items() if path not in mine]
        rows = 0
        for space in other.spaces():
            here = self.space(space)
            have = self.entries(here)
            matrix = other.vectors(space)
            done = [
                (
                    Path(),
                    FileRecord(0, 0, content),
                    entry.duration,
                    matrix[entry.first : entry.first + entry.count],
                )
                for content, entry in other.entries(space).items()
                if content not in have
            ]
            for i in range(0, len(done), 256):
                part = done[i : i + 256]
                self._add_entries(here, part)
                rows += sum(len(v) for *_, v in part)
            with self._transaction() as db:
                db.executemany(
                    "INSERT OR IGNORE INTO faults VALUES (?,?,?,?)",
                    [(here.id, content, *told) for content, told in other.faults(space).items()],
                )
        self.set_files(fresh)
        return len(fresh), rows

    def save_texts(self, weights: str, vectors: dict[str, NDArray[np.float32]]) -> None:
        """Keep embedded texts, so that a query that was asked before needs no model."""
        if not self._writable:
            return
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO texts VALUES (?,?,?)",
                [(weights, text, vector.astype(np.float32).tobytes()) for text, vector in vectors.items()],
            )

    def weights_hash(self, files: ModelFiles) -> str:
        """Return `ModelFiles.weights_hash`, computed once for files that do not change."""
        parts = [p for p in (files.backbone, files.prompts) if p is not None]
        told = [p.stat() for p in parts]
        key = os.fsencode("\0".join(str(p.absolute()) for p in parts))
        size, mtime = sum(t.st_size for t in told), max(t.st_mtime_ns for t in told)
        row = self._db.execute("SELECT size, mtime_ns, sha256 FROM hashes WHERE path=?", (key,)).fetchone()
        if row is not None and row[:2] == (size, mtime):
            return str(row[2])
        found = files.weights_hash()
        if self._writable:
            with self._transaction() as db:
                db.execute("INSERT OR REPLACE INTO hashes VALUES (?,?,?,?)", (key, size, mtime, found))
        return found

    # --------------------------------------------------------------------------------- reading

    def together(self, read: Callable[[], Result]) -> Result:
        """Do reads that must see one state of the index, whatever other processes write meanwhile."""
        for attempt in range(READS):
            self._db.execute("BEGIN")
            try:
                return read()
            except IndexUnusable:  # perhaps `compact` put another file of vectors in its place
                if attempt == READS - 1:
                    raise
            finally:
                self._db.execute("COMMIT")
        raise AssertionError

    def spaces(self) -> list[Space]:
        """Return all spaces."""
        rows = self._db.execute("SELECT model, weights, precision, frames, every, size, id, rows FROM spaces")
        return [Space(*row) for row in rows]

    def find_space(
        self, weights: str, precision: str | None, frames: int, window: float | None
    ) -> Space | None:
        """Return a space; ``precision`` None takes the one with the most rows."""
        found = [
            s for s in self.spaces()
            if (s.weights, s.frames, s.window) == (weights, frames, window)
            and precision in (None, s.precision)
        ]  # fmt: skip
        return max(found, key=lambda s: s.rows, default=None)

    def files(self) -> dict[Path, FileRecord]:
        """Return every file, by absolute path."""
        rows = self._db.execute("SELECT path, size, mtime_ns, content FROM files")
        return {Path(os.fsdecode(path)): FileRecord(*rest) for path, *rest in rows}

    def entries(self, space: Space) -> dict[str, Entry]:
        """Return where each content's vectors stand."""
        rows = self._db.execute(
            "SELECT content, first, count, duration FROM entries WHERE space=?", (space.id,)
        )
        return {content: Entry(*rest) for content, *rest in rows}

    def faults(self, space: Space) -> dict[str, tuple[str, str]]:
        """Return contents that could not be used: class of the error, message."""
        rows = self._db.execute("SELECT content, error, message FROM faults WHERE space=?", (space.id,))
        return {content: (error, message) for content, error, message in rows}

    def vectors(self, space: Space) -> NDArray[np.float32]:
        """Return all vectors of a space (R,E), as they lie on the disk.

        Raises:
            IndexUnusable: the file is shorter than the database says.
        """
        rows, name = self._db.execute("SELECT rows, vectors FROM spaces WHERE id=?", (space.id,)).fetchone()
        if not rows:
            return np.zeros((0, space.size), np.float32)
        try:
            return np.memmap(self.folder / name, np.float32, "r", shape=(rows, space.size))
        except (OSError, ValueError) as error:
            raise IndexUnusable(
                f"{self.folder / name}: gone or cut short ({error}); "
                "rebuild it: stop index rm --all, then update"
            ) from error

    def cache_file(self, space: Space, suffix: str) -> Path:
        """Return where something made of a space's vectors may be kept; another after `compact`."""
        (name,) = self._db.execute("SELECT vectors FROM spaces WHERE id=?", (space.id,)).fetchone()
        return self.folder / f"{name}{suffix}"

    def texts(self, weights: str, wanted: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return those of the texts that are kept, embedded."""
        found = {}
        for text in wanted:
            row = self._db.execute(
                "SELECT vector FROM texts WHERE weights=? AND text=?", (weights, text)
            ).fetchone()
            if row is not None:
                found[text] = np.frombuffer(row[0], np.float32)
        return found

    def describe(self) -> dict[str, object]:
        """Return counts and sizes."""
        (files,) = self._db.execute("SELECT count(*) FROM files").fetchone()
        size = sum(p.stat().st_size for p in self.folder.iterdir() if p.is_file())
        return {"folder": str(self.folder), "format": FORMAT, "files": files, "bytes": size,
                "spaces": [asdict(s) for s in self.spaces()]}  # fmt: skip
