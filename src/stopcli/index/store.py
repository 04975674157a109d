"""An index folder: the database, the files of vectors, and the lock of whoever writes.

The database is the truth: vectors are written and synced before the row that names them is committed.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stopcli.errors import CannotWrite, IndexUnusable
from stopcli.fileio import make_private_folder, write_text
from stopcli.index import vectors
from stopcli.index.database import BUSY, Database, explain, unusable
from stopcli.index.types import PASSING, Entry, Faults, Files, NewEntry, Snapshot, Space, Vectors
from stopcli.settings import data_folder

Result = TypeVar("Result")

TURN, PATIENCE = 0.2, 1.0  # seconds: of one attempt to be the writer; until it is said who is
READS = 3  # attempts at reading while others compact
DATABASE, LOCK, HOLDER = "index.sqlite", "writer.lock", "writer.txt"


def default_folder() -> Path:
    """Return where the index is kept unless another place is named."""
    return data_folder() / "index"


class Index(AbstractContextManager["Index"]):
    """An index folder, made if need be, or IndexUnusable; another writer is waited for ``wait`` seconds.

    ``say`` is called with a sentence that names it.
    """

    def __init__(
        self, folder: Path, *, wait: float = 600.0, say: Callable[[str], object] = lambda _: None
    ) -> None:
        self.folder, self._wait, self._say, self._locked = folder, wait, say, False
        try:
            make_private_folder(folder)
        except CannotWrite as error:
            problem = f"cannot hold an index ({error})"
            raise IndexUnusable(
                f"{folder}: {problem}; name another place with --index or STOPCLI_HOME"
            ) from error
        database = folder / DATABASE
        self.writable = all(os.access(p, os.W_OK) for p in (folder, database) if p is folder or p.exists())
        self.database = Database(database, writable=self.writable)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def writing(self, wait: float | None = None) -> Iterator[None]:
        """Be the only writer; a block within such a block is part of it. A dead process holds no lock.

        ``wait`` seconds for another one; None is as long as the index waits.

        Raises IndexBusy: another process writes, and did not finish in time; IndexUnusable: read-only.
        """
        if self._locked:
            yield
            return
        if not self.writable:
            raise IndexUnusable(f"{self.folder}: is read-only; name another place with --index")
        lock, holder = None, self.folder / HOLDER
        if (self.folder / LOCK).is_symlink():
            raise unusable(self.folder / LOCK, "a link; it may lead anywhere")
        try:
            most = self._wait if wait is None else wait
            lock = sqlite3.connect(self.folder / LOCK, timeout=min(TURN, most))
            self._take(lock, most)
            with suppress(CannotWrite):
                write_text(holder, f"process {os.getpid()} on {socket.gethostname()} (since {time.ctime()})")
            self._locked = True
            yield
        except sqlite3.Error as error:
            raise explain(self.folder / DATABASE, error, self._writer()) from error
        finally:
            self._locked = False
            if lock is not None:
                lock.close()

    def _take(self, lock: sqlite3.Connection, wait: float) -> None:
        """Take the lock, by many short attempts: within one, Python would hear of no Ctrl-C."""
        began, said = time.monotonic(), False
        while True:
            try:
                lock.execute("BEGIN EXCLUSIVE")
                return
            except sqlite3.OperationalError as error:
                if str(error) != BUSY or time.monotonic() - began >= wait:
                    raise
            if not said and time.monotonic() - began > PATIENCE:
                said = True
                self._say(f"waiting: {self._writer()} is writing to the index")

    def _writer(self) -> str:
        with suppress(OSError, ValueError):
            return (self.folder / HOLDER).read_text(encoding="utf-8")
        return "another process"

    def add(self, space: Space, new: Sequence[NewEntry], faults: Faults, files: Files) -> Space:
        """Add contents, their faults and where they lie, all or nothing; return the space as it is then.

        To be called inside `writing`. Raises CannotWrite: nothing is lost; IndexUnusable: too few vectors.
        """
        if any(item.vectors.shape[1] != space.size for item in new):
            raise IndexUnusable(f"{self.folder}: holds vectors of {space.size} numbers; those are of others")
        entries, row = {}, space.rows
        for item in new:
            entries[item.content] = Entry(row, len(item.vectors), item.duration, *item[3:])
            row += len(item.vectors)
        if new:
            vectors.append(self.folder / space.file, space.rows, np.concatenate([i.vectors for i in new]))
        self.database.add(space, row, entries, faults, files)
        return replace(space, rows=row)

    def vectors(self, space: Space) -> Vectors:
        """Return all vectors of a space (R,E), or raise IndexUnusable: cut short, or compacted away."""
        return vectors.load(self.folder / space.file, space.rows, space.size)

    def together(self, read: Callable[[], Result], attempts: int = READS) -> Result:
        """Do reads that must see one state of the index, whatever other processes write meanwhile."""
        try:
            with self.database.transaction("DEFERRED"):
                return read()
        except IndexUnusable:  # perhaps `compact` put another file of vectors in its place
            if attempts == 1:
                raise
            return self.together(read, attempts - 1)

    def snapshot(
        self, contents: set[str], weights: str, precision: str | None, frames: int, window: float | None
    ) -> Snapshot:
        """Return one state of what a space knows about contents; the space as `find_space` finds it."""

        def read() -> Snapshot:
            space = self.database.find_space(weights, precision, frames, window)
            if space is None:
                return Snapshot(None, {}, {}, np.zeros((0, 0), np.float32))
            entries, faults = self.database.entries(space, contents), self.database.faults(space, contents)
            faults = {c: fault for c, fault in faults.items() if fault.error not in PASSING}
            return Snapshot(space, entries, faults, self.vectors(space))

        return self.together(read)
