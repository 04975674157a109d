"""An index folder: the database, the files of vectors, and the lock of whoever writes.

The database is the truth: vectors are written and synced before the row that names them is committed.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CannotWrite, IndexUnusable
from stopcli.fileio import write_text
from stopcli.index import vectors
from stopcli.index.database import Database, explain
from stopcli.index.types import Entry, Snapshot
from stopcli.settings import data_folder

if TYPE_CHECKING:
    from typing_extensions import Self

    from stopcli.index.types import Faults, Files, NewEntry, Space

Result = TypeVar("Result")

READS = 3  # attempts at reading while others compact
DATABASE, LOCK, HOLDER = "index.sqlite", "writer.lock", "writer.txt"


def default_folder() -> Path:
    """Return where the index is kept unless another place is named."""
    return data_folder() / "index"


class Index:
    """An index folder, open.

    Args:
        folder: made if it is not there.
        wait: seconds to wait for another writer; 0 refuses at once.

    Raises:
        IndexUnusable: no index of this format, damaged, or in a place that cannot be read.
    """

    def __init__(self, folder: Path, *, wait: float = 600.0) -> None:
        self.folder, self._wait, self._locked = folder, wait, False
        try:
            if not (folder / DATABASE).exists():
                folder.mkdir(parents=True, exist_ok=True)
            self._writable = os.access(folder, os.W_OK)
        except OSError as error:
            raise IndexUnusable(
                f"{folder}: cannot hold an index ({error.strerror}); "
                "name another place with --index or STOPCLI_HOME"
            ) from error
        self.database = Database(folder / DATABASE, writable=self._writable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self.database.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer; wait for another one, or refuse. A block within such a block is part of it.

        The operating system lets go of the lock when a process dies.

        Raises:
            IndexBusy: another process writes, and did not finish in time.
            IndexUnusable: the folder is read-only.
        """
        if self._locked:
            yield
            return
        if not self._writable:
            raise IndexUnusable(f"{self.folder}: is read-only; name another place with --index")
        lock = sqlite3.connect(self.folder / LOCK, timeout=self._wait, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            with suppress(CannotWrite):
                me = f"process {os.getpid()} on {socket.gethostname()} (since {since})"
                write_text(self.folder / HOLDER, me)
            self._locked = True
            yield
        except sqlite3.Error as error:
            raise explain(self.folder / DATABASE, error, self._holder()) from error
        finally:
            self._locked = False
            lock.close()

    def _holder(self) -> str:
        try:
            return (self.folder / HOLDER).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "another process"

    def add(self, space: Space, new: Sequence[NewEntry], faults: Faults, files: Files) -> Space:
        """Add contents with their vectors, others with their faults, and where they lie; all or nothing.

        To be called inside `writing`, with the space as it is now; returns it as it is then.

        Raises:
            CannotWrite: the disk is full; nothing is lost. IndexUnusable: vectors are missing.
        """
        entries, row = {}, space.rows
        for item in new:
            entries[item.content] = Entry(row, len(item.vectors), item.duration)
            row += len(item.vectors)
        if new:
            vectors.append(self.folder / space.file, space.rows, np.concatenate([i.vectors for i in new]))
        self.database.add(space, row, entries, faults, files)
        return replace(space, rows=row)

    def vectors(self, space: Space) -> NDArray[np.float32]:
        """Return all vectors of a space (R,E), as they lie on the disk.

        Raises:
            IndexUnusable: the file is shorter than the database says, or was compacted away.
        """
        return vectors.load(self.folder / space.file, space.rows, space.size)

    def together(self, read: Callable[[], Result]) -> Result:
        """Do reads that must see one state of the index, whatever other processes write meanwhile."""
        for attempt in range(READS):
            try:
                with self.database.transaction("DEFERRED"):
                    return read()
            except IndexUnusable:  # perhaps `compact` put another file of vectors in its place
                if attempt == READS - 1:
                    raise
        raise AssertionError

    def snapshot(
        self, contents: set[str], weights: str, precision: str | None, frames: int, window: float | None
    ) -> Snapshot:
        """Return one state of what a space knows about contents; the space as `find_space` finds it."""

        def read() -> Snapshot:
            space = self.database.find_space(weights, precision, frames, window)
            if space is None:
                return Snapshot()
            entries, faults = self.database.entries(space, contents), self.database.faults(space, contents)
            return Snapshot(space, entries, faults, self.vectors(space))

        return self.together(read)
