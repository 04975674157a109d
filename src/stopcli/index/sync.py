"""What changed in folders since the index last saw them, and making the two agree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import FileMissing, InputError, UnreadableVideo
from stopcli.fileio import content_key
from stopcli.index.types import Fault, FileRecord, NewEntry
from stopcli.results import Failure

if TYPE_CHECKING:
    from stopcli.index.database import Database
    from stopcli.index.store import Index
    from stopcli.index.types import Snapshot, Space
    from stopcli.runtime.encoder import Encoder

COMMIT_EVERY = 5.0  # seconds: what a kill loses at most, beside the file being read
HERE = "{path}"  # stands in a kept message for the path, which may be another one next time


@dataclass(frozen=True)
class FileDiff:
    """Files as they are now, beside what the index knows of them."""

    present: dict[Path, FileRecord]
    """By absolute path, in the order given."""
    shown: dict[Path, str]
    """Absolute path to the path as it was given."""
    changed: tuple[Path, ...]
    """Present, but not known with this content at this place."""
    moved: tuple[tuple[Path, Path], ...]
    """(from, to): the same content, another place."""
    gone: tuple[Path, ...]
    """Known below the roots, and not there any more; those that moved too."""
    failures: tuple[Failure, ...]
    """Files that cannot even be looked at."""

    def contents(self) -> set[str]:
        """Return the contents of the files that are present."""
        return {record.content for record in self.present.values()}

    def missing(self, state: Snapshot) -> list[Path]:
        """Return the files whose content has neither vectors nor a fault yet, each content once."""
        todo: dict[str, Path] = {}
        for path, record in self.present.items():
            if record.content not in state.entries and record.content not in state.faults:
                todo.setdefault(record.content, path)
        return list(todo.values())

    def all_failures(self, state: Snapshot) -> tuple[Failure, ...]:
        """Return what cannot be searched: faults found now or before."""
        known = [
            Failure(self.shown[path], fault.error, fault.message.replace(HERE, self.shown[path]))
            for path, record in self.present.items()
            if (fault := state.faults.get(record.content)) is not None
        ]
        return (*self.failures, *known)


@dataclass(frozen=True)
class UpdatePlan:
    """What an update would do; ``todo`` are the files to embed, as shown."""

    diff: FileDiff
    todo: tuple[str, ...]


@dataclass(frozen=True)
class UpdateResult:
    """What an update did: how many files were embedded, and which cannot be."""

    diff: FileDiff
    embedded: int
    failures: tuple[Failure, ...]


def compare(database: Database, videos: Sequence[Path], roots: Iterable[Path]) -> FileDiff:
    """Compare files with the index; a file of the same size and time is not opened.

    Args:
        database: of the index.
        videos: the files, as given.
        roots: folders that were walked whole: what the index knows below them and is not there is gone.
    """
    places = {absolute(path): path for path in videos}
    inside = tuple(below(absolute(root)) for root in roots)
    known = database.files_below(inside) | database.files_at(p for p in places if not p.startswith(inside))
    present: dict[Path, FileRecord] = {}
    shown: dict[Path, str] = {}
    changed: list[Path] = []
    failures: list[Failure] = []
    unseen: list[str] = []
    for place, given in places.items():
        path = Path(place)
        try:
            status = path.stat()
            record = known.get(path)
            if record is None or (record.size, record.mtime_ns) != (status.st_size, status.st_mtime_ns):
                record = FileRecord(status.st_size, status.st_mtime_ns, content_key(path))
                changed.append(path)
            present[path], shown[path] = record, str(given)
        except OSError as error:
            failures.append(Failure.of(given, _reason(given, error)))
            unseen.append(below(place))
    gone = [
        path
        for path in known
        if path not in present and str(path).startswith(inside) and not str(path).startswith(tuple(unseen))
    ]
    left = {known[path].content: path for path in gone}
    moved = [
        (left[content], path)
        for path in changed
        if path not in known and (content := present[path].content) in left
    ]
    return FileDiff(present, shown, tuple(changed), tuple(moved), tuple(gone), tuple(failures))


def absolute(path: Path) -> str:
    """Return how the index names a path; links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100


def below(folder: str) -> str:
    """Return how the names of all that lies in a folder begin."""
    return folder.rstrip(os.sep) + os.sep


def _reason(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return FileMissing(f"{path}: no such file")
    return UnreadableVideo(f"{path}: cannot be read ({error.strerror})")


def settle(database: Database, diff: FileDiff, todo: Iterable[Path]) -> None:
    """Note where known contents lie now, and forget files that are gone; files to embed come later."""
    later = set(todo)
    known = {path: diff.present[path] for path in diff.changed if path not in later}
    if known or diff.gone:
        database.update_files(known, diff.gone)


def embed(
    index: Index,
    space: Space,
    diff: FileDiff,
    todo: Sequence[Path],
    encoder: Encoder,
    progress: Callable[[str], None],
) -> int:
    """Embed files and commit them, a few seconds' worth at a time; return how many have vectors now.

    Args:
        index: being written: inside `Index.writing`.
        space: where the vectors go, as it is now.
        diff: made while being the writer, or while nobody else wrote.
        todo: the files.
        encoder: of the space.
        progress: called with each path when its first vector is there.
    """
    new: list[NewEntry] = []
    faults: dict[str, Fault] = {}
    files: dict[Path, FileRecord] = {}
    count = 0
    committed = time.monotonic()

    def commit() -> None:
        nonlocal space, committed
        if files:
            space = index.add(space, new, faults, files)
        for batch in (new, faults, files):
            batch.clear()
        committed = time.monotonic()

    try:
        for name, items in groupby(encoder.encode_videos(todo, window=space.window), lambda i: str(i.path)):
            progress(name)
            path, clips = Path(name), []
            content = diff.present[path].content
            for item in items:
                if isinstance(item, Failure):
                    faults[content] = Fault(item.error, item.message.replace(name, HERE))
                else:
                    clips.append(item)
            if clips:
                new.append(NewEntry(content, clips[-1].until, np.stack([clip.vector for clip in clips])))
                count += 1
            files[path] = diff.present[path]
            if time.monotonic() - committed > COMMIT_EVERY:
                commit()
    except KeyboardInterrupt:
        commit()  # whole files only; the one being read starts over next time
        raise
    commit()
    return count
