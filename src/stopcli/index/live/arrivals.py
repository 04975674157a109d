"""New videos in a folder, each when it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from stopcli.errors import FileMissing, UsageError
from stopcli.fileio import is_folder
from stopcli.video.discovery import could_be_video, find_files, is_video

TICK = 0.5  # seconds between looks at files that may still grow
LOOK = 60.0  # seconds between looks at the whole folder: network drives bring no news of what others write
GONE = 10.0  # seconds without the folder, as while it is mounted again, that are borne
BLIND = 5.0  # the same where the system brings no news at all
SHARE = 10.0  # a look is followed by at least so many times its length without one

Looks = tuple[int, int, int]  # size and times of a file: of its content, and of its rights


def arrivals(
    folder: Path, settle: float, say: Callable[[str], None] = lambda _: None, again: Collection[Path] = ()
) -> Iterator[Path]:
    """Yield the videos in a folder and its subfolders: those that are there, then new and changed ones.

    A file must have kept its size and times for ``settle`` seconds. What cannot be looked into is yielded,
    too. ``say`` gets a note where the system brings no news of changes. A file that is among ``again`` when
    the whole folder is looked at is yielded once more.

    Raises:
        UsageError: ``watchfiles`` is not installed. FileMissing: the folder is gone.
    """
    news = _News(folder, say)
    pending: dict[Path, _Growth] = {}
    done: dict[Path, Looks | None] = {}
    known = True
    while True:
        for path in news.changed():
            if path not in pending and (path in again or done.get(path) != _looks(path)):
                pending[path] = _Growth(known=known)
        known = False
        for path in [path for path, growth in pending.items() if growth.is_over(path, settle)]:
            done[path] = pending.pop(path).looks
            if done[path] is None:
                del done[path]  # it is gone
            elif is_folder(path) or is_video(path):
                yield path


class _News:
    """Which files in a folder may have changed: by the system's news, and by looking now and then."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._changes: Iterator[Any] | None = None
        self._place: tuple[int, int] | None = None
        self._there = time.monotonic()  # when the folder was there last
        self._due = 0.0  # when to look at the whole folder

    def changed(self) -> Iterator[Path]:
        """Yield files, some of them as they were; it takes `TICK` if there is nothing new."""
        try:
            status = self._folder.stat()
        except OSError:
            status = None
        if status is None or not is_folder(self._folder):
            if time.monotonic() > self._there + GONE:
                raise FileMissing(f"{self._folder}: the folder is gone; start again when it is back")
            time.sleep(TICK)
            return
        self._there = time.monotonic()
        if (place := (status.st_dev, status.st_ino)) != self._place:  # put in its place, or mounted there
            self._place, self._changes, self._due = place, None, 0.0
        if (begun := time.monotonic()) >= self._due:
            if self._changes is None:
                self._changes = self._listen()
            yield from _files(self._folder)
            took = time.monotonic() - begun
            self._due = begun + max(BLIND if self._changes is None else LOOK, SHARE * took)
        yield from self._told()

    def _told(self) -> Iterable[Path]:
        if self._changes is None:
            time.sleep(TICK)
            return
        import watchfiles

        try:
            changes = next(self._changes)
        except (RuntimeError, StopIteration):  # a name that is no text: look instead
            self._changes, self._due = None, 0.0
            time.sleep(TICK)
            return
        for change, name in changes:
            if change != watchfiles.Change.deleted:
                yield from self._at(_as_given(Path(name), self._folder))

    def _listen(self) -> Iterator[Any] | None:
        """Begin to get the system's news of the folder; None if it has none to give."""
        try:
            import watchfiles
        except ImportError as error:
            raise UsageError("stop watch needs watchfiles; install 'stopcli[watch]'") from error
        changes = watchfiles.watch(
            self._folder,
            watch_filter=None,
            rust_timeout=round(TICK * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        try:
            next(changes)  # from here on nothing is missed
        except (RuntimeError, OSError, StopIteration) as error:
            self._say(f"note: the system brings no news of changes ({error}); looking every {BLIND:.0f} s")
            self._say = lambda _: None
            return None
        return changes

    def _at(self, path: Path) -> Iterator[Path]:
        """Yield what `_files` would find at a path: not in hidden folders, nor behind links to folders."""
        within = path.relative_to(self._folder).parts if path.is_relative_to(self._folder) else (".",)
        if any(part.startswith(".") for part in within):
            return
        if any((self._folder / Path(*within[:depth])).is_symlink() for depth in range(1, len(within))):
            return
        if not is_folder(path):
            if could_be_video(path):
                yield path
        elif not path.is_symlink():
            yield from _files(path)


def _files(folder: Path) -> Iterator[Path]:
    """Yield files that may be videos, and folders that cannot be looked into."""
    return (path for path in find_files(folder) if could_be_video(path))


def _as_given(path: Path, folder: Path) -> Path:
    """Return a path below the folder as the folder was given."""
    with suppress(ValueError):
        return folder / path.relative_to(folder.absolute())
    with suppress(ValueError):
        return folder / path.relative_to(folder.resolve())
    return path


def _looks(path: Path) -> Looks | None:
    """Return a file's size and time; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Growth:
    """What a file looked like, and since when."""

    def __init__(self, *, known: bool) -> None:
        self._known = known  # it was there at the start: its own time says since when
        self.looks: Looks | None = None
        self._since = 0.0

    def is_over(self, path: Path, settle: float) -> bool:
        """Say whether a file is as it was ``settle`` seconds ago; one that is gone will not change."""
        looks = _looks(path)
        if looks is None:
            self.looks = None
            return True
        if looks != self.looks:
            old = time.time() - looks[1] / 1e9 if self._known and self.looks is None else 0.0
            self.looks, self._since = looks, time.monotonic() - min(max(0.0, old), settle)
        whole = looks[0] > 0 or is_folder(path)
        return whole and time.monotonic() - self._since >= settle
