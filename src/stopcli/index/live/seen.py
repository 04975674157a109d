"""Which contents a watch has handled, kept in the folder of an index."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from stopcli.errors import IndexBusy, IndexUnusable, OutputBusy
from stopcli.fileio import alone, content_key
from stopcli.index.database import explain, unusable

FILE = "watch.sqlite"
TABLES = (
    "seen (watch TEXT, content TEXT, PRIMARY KEY (watch, content))",
    "skipped (watch TEXT, content TEXT, PRIMARY KEY (watch, content))",
    "files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, content TEXT)",
)
EITHER = "SELECT content FROM seen WHERE watch=? UNION ALL SELECT content FROM skipped WHERE watch=?"


class Seen(AbstractContextManager["Seen"]):
    """What one watch has handled, and what it passes over because it was there when the watch began.

    ``watch`` names what is looked for, where and how: another question has seen nothing.

    Raises:
        IndexUnusable: the folder cannot hold this. IndexBusy: another process keeps the same watch.
    """

    def __init__(self, folder: Path, watch: str) -> None:
        self._path, self._watch = folder / FILE, watch
        self._held = ExitStack()
        name = f"watch-{hashlib.sha256(watch.encode()).hexdigest()[:12]}"
        try:
            self._held.enter_context(alone(folder / name))
        except OutputBusy as error:
            who = str(error).partition(": ")[2].partition(" is writing")[0]
            raise IndexBusy(f"{who} watches the same folder for the same already; end that first") from error
        try:
            if self._path.is_symlink():
                raise unusable(self._path, "a link; it may lead anywhere")
            self._db = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._held.callback(self._db.close)
            if self._rows("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')"):
                raise unusable(self._path, "it holds what stopcli never makes")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            for table in TABLES:
                self._db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            self.new = not self._rows(f"{EITHER} LIMIT 1", watch, watch)  # nothing was ever seen or skipped
        except sqlite3.Error as error:
            self._held.close()
            raise explain(self._path, error) from error
        except IndexUnusable:
            self._held.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def __contains__(self, content: str) -> bool:
        rows = self._rows(f"SELECT 1 FROM ({EITHER}) WHERE content=?", self._watch, self._watch, content)
        return bool(rows)

    def content_of(self, path: Path) -> str:
        """Return `content_key` of a file, which is read again only if it looks different; raises OSError."""
        name, status = str(path).encode(errors="surrogateescape"), path.stat()
        looks = (name, status.st_size, status.st_mtime_ns)
        if rows := self._rows("SELECT content FROM files WHERE path=? AND size=? AND mtime_ns=?", *looks):
            return str(rows[0][0])
        content = content_key(path)
        self._change("INSERT OR REPLACE INTO files VALUES (?,?,?,?)", [(*looks, content)])
        return content

    def add(self, content: str) -> None:
        """Record a content as handled."""
        self._change("INSERT OR IGNORE INTO seen VALUES (?,?)", [(self._watch, content)])

    def skip(self, contents: Iterable[str]) -> None:
        """Pass over contents, until `take_back`; the watch has begun, even if there are none."""
        rows = [(self._watch, content) for content in ("", *contents)]
        self._change("INSERT OR IGNORE INTO skipped VALUES (?,?)", rows)

    def take_back(self) -> None:
        """Look at the skipped contents after all."""
        self._change("DELETE FROM skipped WHERE watch=? AND content<>''", [(self._watch,)])

    def _rows(self, command: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(command, values).fetchall()
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def _change(self, command: str, rows: Iterable[tuple[object, ...]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                self._db.executemany(command, rows)
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
