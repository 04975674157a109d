"""New videos in a folder: each when it is complete, and the same content only once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from stopcli.errors import FileMissing, UsageError
from stopcli.fileio import is_folder
from stopcli.index.database import explain
from stopcli.video.discovery import EXTENSIONS, find_videos, is_video

TICK = 500  # milliseconds between looks at files that may still grow
FILE = "watch.sqlite"
EITHER = "SELECT content FROM seen WHERE watch=? UNION SELECT content FROM skipped WHERE watch=?"


class Seen(AbstractContextManager["Seen"]):
    """Which contents a watch has handled, kept in the folder of an index.

    ``watch`` names what is looked for, where and how: another question has seen nothing. Contents that were
    there when the watch began may be skipped instead. Raises IndexUnusable or IndexBusy.
    """

    def __init__(self, folder: Path, watch: str) -> None:
        self._path, self._watch = folder / FILE, watch
        try:
            self._db = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            for table in ("seen", "skipped"):
                self._db.execute(
                    f"CREATE TABLE IF NOT EXISTS {table}"
                    " (watch TEXT, content TEXT, PRIMARY KEY (watch, content))"
                )
            found = self._db.execute(f"{EITHER} LIMIT 1", (watch, watch)).fetchone()
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
        self.new = found is None  # nothing was ever seen

    def __contains__(self, content: str) -> bool:
        try:  # another process may have added it
            found = self._db.execute(
                f"SELECT 1 FROM ({EITHER}) WHERE content=?", (self._watch, self._watch, content)
            ).fetchone()
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
        return found is not None

    def add(self, contents: Iterable[str]) -> None:
        """Record contents as handled."""
        self._change("INSERT OR IGNORE INTO seen VALUES (?,?)", contents)

    def skip(self, contents: Iterable[str]) -> None:
        """Pass over contents, until `take_back`; the watch has begun, even if there are none."""
        self._change("INSERT OR IGNORE INTO skipped VALUES (?,?)", ["", *contents])

    def take_back(self) -> None:
        """Look at the skipped contents after all."""
        self._change("DELETE FROM skipped WHERE watch=? AND content<>?", [""])

    def _change(self, command: str, contents: Iterable[str]) -> None:
        try:
            with self._db:
                self._db.executemany(command, [(self._watch, content) for content in contents])
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def __exit__(self, *_: object) -> None:
        self._db.close()


def arrivals(folder: Path, settle: float) -> Iterator[Path]:
    """Yield the videos in a folder and its subfolders: those that are there, then new and changed ones.

    A file must have kept its size and time for ``settle`` seconds. Raises UsageError without ``watchfiles``,
    and FileMissing when the folder goes away.
    """
    try:
        import watchfiles
    except ImportError as error:
        raise UsageError("stop watch needs watchfiles; install 'stopcli[watch]'") from error
    changes: Iterator[Any] | None = None
    pending: dict[Path, _Growth] = {}
    known = True
    while True:
        if changes is None:
            changes = watchfiles.watch(folder, rust_timeout=TICK, yield_on_timeout=True)
            with suppress(RuntimeError):
                next(changes)  # from here on nothing is missed
            pending |= {path: _Growth(known=known) for path in find_videos([folder])}
            known = False
        for path in [path for path, growth in pending.items() if growth.is_over(path, settle)]:
            del pending[path]
            if path.exists() and is_video(path):
                yield path
        if not is_folder(folder):
            raise FileMissing(f"{folder}: the folder is gone; start again when it is back")
        try:
            for change, name in next(changes):
                path = _as_given(Path(name), folder)
                if change != watchfiles.Change.deleted:
                    for video in _videos_of(path, folder):
                        pending.setdefault(video, _Growth())
        except (RuntimeError, StopIteration):  # a name that is no text: look at the whole folder again
            changes = None


def _videos_of(path: Path, folder: Path) -> Iterator[Path]:
    """Yield what `find_videos` would find at a path: not hidden files, which are often half copied."""
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return
    if is_folder(path):
        if not path.is_symlink():
            yield from find_videos([path])
    elif path.suffix.lower() in EXTENSIONS or not path.suffix:  # what it is shows when it is whole
        yield path


def _as_given(path: Path, folder: Path) -> Path:
    """Return a path below the folder as the folder was given."""
    with suppress(ValueError):
        return folder / path.relative_to(folder.absolute())
    with suppress(ValueError):
        return folder / path.relative_to(folder.resolve())
    return path


class _Growth:
    """What a file looked like, and since when."""

    def __init__(self, *, known: bool = False) -> None:
        self._known = known  # it was there at the start: its own time says since when
        self._last: tuple[int, int] | None = None
        self._since = 0.0

    def is_over(self, path: Path, settle: float) -> bool:
        """Say whether a file is as it was ``settle`` seconds ago; one that is gone will not change."""
        try:
            status = path.stat()
        except OSError:
            return True
        looks = (status.st_size, status.st_mtime_ns)
        if looks != self._last:
            old = time.time() - status.st_mtime if self._known and self._last is None else 0.0
            self._last, self._since = looks, time.monotonic() - min(max(0.0, old), settle)
        return status.st_size > 0 and time.monotonic() - self._since >= settle
