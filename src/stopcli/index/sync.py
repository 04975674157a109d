"""What changed in folders since the index last saw them, and making the two agree."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from stopcli.errors import FileChanged, FileMissing, UnreadableVideo
from stopcli.fileio import content_key, exists
from stopcli.index.database import Database
from stopcli.index.store import Index
from stopcli.index.types import (
    GAP,
    PASSING,
    SHOTS,
    Fault,
    Faults,
    FileRecord,
    NewEntry,
    Paths,
    Progress,
    Say,
    Snapshot,
    Space,
    VideoEncoder,
)
from stopcli.results import EncodedClip, Failure

COMMIT_EVERY = 5.0  # seconds: what a kill loses at most, beside the file being read
HERE = "{path}"  # stands in a kept message for the path, which may be another one next time
absolute = os.path.abspath  # how the index names a path; links are not followed
CHANGED = "it was replaced while it was read; run the command again"
LOST = (" is not there any more", "s are not there any more")
GONE = "no such file: it, or a copy of it, went away before it was read; run the command again"


class FileDiff(NamedTuple):
    """Files as they are now, beside what the index knows of them; paths are absolute."""

    present: dict[Path, FileRecord]  # in the order given
    shown: dict[Path, str]  # as it was given
    changed: tuple[Path, ...]  # present, but not known with this content at this place
    moved: tuple[tuple[Path, Path], ...]  # (from, to): the same content, another place
    gone: tuple[Path, ...]  # known below the roots, and not there any more; those that moved too
    before: dict[Path, str]  # the contents that were known where they are no more
    failures: tuple[Failure, ...]  # files that cannot even be looked at
    away: Mapping[Path, FileRecord] = MappingProxyType({})  # known where nothing is now, nor beside it

    def contents(self) -> set[str]:
        return {record.content for record in (*self.present.values(), *self.away.values())}

    def missing(self, state: Snapshot) -> list[Path]:
        """Return the files whose content has neither vectors nor a fault yet, each content once."""
        todo: dict[str, Path] = {}
        for path, record in self.present.items():
            if record.content not in state.entries and record.content not in state.faults:
                todo.setdefault(record.content, path)
        return list(todo.values())

    def all_failures(self, state: Snapshot, passing: Faults = MappingProxyType({})) -> tuple[Failure, ...]:
        """Return what cannot be searched after an update: faults found now or before, or ``passing`` ones."""
        failures = list(self.failures)
        for path, record in self.present.items():
            shown = self.shown[path]
            if (fault := state.faults.get(record.content) or passing.get(record.content)) is not None:
                failures.append(Failure(shown, fault.error, fault.message.replace(HERE, shown)))
            elif record.content not in state.entries:
                failures.append(Failure.of(shown, FileMissing(f"{shown}: {GONE}")))
        return tuple(failures)


class Update(NamedTuple):
    """What an update would do, or did: it embedded so many files; ``todo`` and ``failures`` are as shown.

    ``passing`` are faults that may not be there next time, by content; ``tried`` are files that were read.
    """

    diff: FileDiff
    state: Snapshot
    embedded: int = 0
    passing: Faults = MappingProxyType({})
    tried: frozenset[Path] = frozenset()

    def known_faults(self, roots: Paths) -> set[str]:
        """Return which files below folders could not be read before, as shown, if others there can."""
        files, found = self.diff.present.items(), set[str]()
        new = {*self.tried, *self.diff.changed}
        for start in (below(absolute(root)) for root in roots if self.state.faults):
            inside = [(path, record.content) for path, record in files if str(path).startswith(start)]
            if any(content in self.state.entries for _, content in inside):
                faulty = (p for p, content in inside if content in self.state.faults and p not in new)
                found.update(self.diff.shown[path] for path in faulty)
        return found

    @property
    def todo(self) -> tuple[str, ...]:
        return tuple(self.diff.shown[path] for path in self.diff.missing(self.state))

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self.diff.all_failures(self.state, self.passing)


def compare(database: Database, videos: Paths, roots: Iterable[Path]) -> FileDiff:
    """Compare files with the index, and roots: folders that were walked whole. Open what has another time."""
    places = {absolute(path): path for path in videos}
    inside = tuple(below(absolute(root)) for root in roots)
    absent = {absolute(root): root for root in roots if not exists(root)}
    named = (*absent, *(place for place in places if not place.startswith(inside)))
    known = database.files_below(inside) | database.files_at(named)
    present: dict[Path, FileRecord] = {}
    shown: dict[Path, str] = {}
    failures: list[Failure] = []
    unseen: list[str] = []
    for place, given in places.items():
        path = Path(place)
        try:
            status = path.stat()
            record = known.get(path)
            if record is None or (record.size, record.mtime_ns) != (status.st_size, _time(status)):
                size, time_ns = status.st_size, _time(status)
                record = FileRecord(size, time_ns, _content(place, size, time_ns))
            present[path], shown[path] = record, str(given)
        except FileNotFoundError:
            failures.append(Failure.of(given, FileMissing(f"{given}: no such file")))
        except OSError as error:
            failures.append(Failure.of(given, UnreadableVideo(f"{given}: cannot be read ({error.strerror})")))
            unseen.append(below(place))
    changed = [path for path, record in present.items() if record != known.get(path)]
    for place, root in absent.items():
        if not any(below(str(path)).startswith(below(place)) for path in known):
            failures.append(Failure.of(root, FileMissing(f"{root}: no such file, nor known in the index")))
    lost = [path for path in known if path not in present and below(str(path)).startswith(inside)]
    lost = [path for path in lost if not below(str(path)).startswith(tuple(unseen))]
    spelled = {str(path).casefold() for path in present} if lost else set()  # Clip.MP4 may be clip.mp4 now
    there = (str(path).casefold() not in spelled and os.path.lexists(path) for path in lost)
    gone = [path for path, is_there in zip(lost, there, strict=True) if not is_there]  # walks skip some
    arrived = {record.content for path, record in present.items() if path not in known}
    away = _away({path: known[path] for path in gone}, arrived, tuple(map(below, absent)))
    gone = [path for path in gone if path not in away]
    left = {known[path].content: path for path in gone}
    new = [path for path in changed if path not in known and present[path].content in left]
    # of several copies of what is gone, one has moved
    moved = [(old, path) for path in new if (old := left.pop(present[path].content, None)) is not None]
    before = {path: known[path].content for path in (*changed, *gone) if path in known}
    lists = tuple(changed), tuple(moved), tuple(gone)
    return FileDiff(present, shown, *lists, before, tuple(failures), away)


def _away(
    gone: Mapping[Path, FileRecord], arrived: set[str], absent: tuple[str, ...]
) -> dict[Path, FileRecord]:
    """Return which files are perhaps not deleted: below ``absent`` roots, or where all is gone with them.

    Those whose content has just ``arrived`` elsewhere were moved there.
    """
    nearest = {folder: nearest_folder(folder) for folder in {path.parent for path in gone}}
    empty = {folder for folder in set(nearest.values()) if _is_empty(folder)}
    return {
        path: record
        for path, record in gone.items()
        if below(str(path)).startswith(absent)
        or (nearest[path.parent] in empty and record.content not in arrived)
    }


def nearest_folder(folder: Path) -> Path:
    """Return the folder, or what is there of those that it lay in."""
    return next(f for f in (folder, *folder.parents) if os.path.lexists(f) or f == f.parent)


def _is_empty(folder: Path) -> bool:
    """Say whether nothing can be seen in a folder, as where a drive is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except NotADirectoryError:
        return False
    except OSError:
        return True


def keys_of(spaces: Iterable[Space], plain: str, *, cuts: bool, auto: bool) -> list[str]:
    """Return the weights of the spaces that files may go on in; the last are those of new ones.

    Where windows end at cuts, those that earlier versions cut in another way count, too: they are made again.
    """
    if not cuts:
        return [plain]
    older = {s.weights for s in spaces if s.shots and s.weights.startswith(plain)} - {plain + SHOTS}
    return [*([plain] if auto else []), *sorted(older), plain + SHOTS]


def best_known(
    database: Database,
    weights: Sequence[str],
    precision: str | None,
    frames: int,
    window: float | None,
    contents: set[str],
) -> tuple[Space | None, int]:
    """Return the space that knows most of some contents, and how many; None where none has vectors.

    ``precision`` None means any. Of equals it is the one of the last ``weights``, then the largest.
    """
    like = [s for s in database.spaces() if s.weights in weights and (s.frames, s.window) == (frames, window)]
    some = [s for s in like if s.rows and precision in (None, s.precision)]
    known = {space.id: len(database.every_entry(space, contents)) for space in some}
    best = max(some, key=lambda s: (known[s.id], weights.index(s.weights), s.rows), default=None)
    return best, 0 if best is None else known[best.id]


def say_what_is_away(diff: FileDiff, say: Say) -> None:
    """Say which files may not be deleted, but on a drive that is away."""
    folders = Counter(nearest_folder(path.parent) for path in diff.away)
    for folder, count in folders.items():
        if _is_empty(folder):
            way = f"if no drive is away, 'stop index rm {quote(str(folder))}' removes them"
            say(f"note: {count} indexed file{LOST[count > 1]}, nor anything else in {folder}: {way}")


def below(folder: str) -> str:
    """Return how the names of all that lies in a folder begin."""
    return folder.rstrip(os.sep) + os.sep


def settle(database: Database, diff: FileDiff, todo: Iterable[Path]) -> None:
    """Note where known contents lie now, and forget files that are gone; files to embed come later."""
    later = set(todo)
    known = {path: diff.present[path] for path in diff.changed if path not in later}
    if known or diff.gone:
        database.update_files(known, diff.gone)


def embed(
    index: Index, space: Space, diff: FileDiff, todo: Paths, encoder: VideoEncoder, progress: Progress
) -> tuple[int, Faults]:
    """Embed files and commit them, a few seconds' worth at a time.

    To be called inside `Index.writing`, with the space and files as they are now. Returns how many have
    vectors now, and why others have none where that is not kept: it may be another story next time.
    """
    new: list[NewEntry] = []
    faults: dict[str, Fault] = {}
    passing: dict[str, Fault] = {}
    files: dict[Path, FileRecord] = {}
    count, committed = 0, time.monotonic()

    def commit() -> None:
        nonlocal space, new, faults, files, committed
        if files:
            space = index.add(space, new, faults, files)
        new, faults, files, committed = [], {}, {}, time.monotonic()

    try:
        for name, items in groupby(
            encoder.encode_videos(todo, window=space.window, shots=space.shots, steady=True),
            lambda i: str(i.path),
        ):
            path, found = Path(name), []
            for item in items:
                found.append(item)
                if isinstance(item, EncodedClip) and item.end is not None:
                    progress(name, item.end)
            progress(name)
            record = diff.present[path]
            clips = [item for item in found if isinstance(item, EncodedClip)]
            failures = [item for item in found if isinstance(item, Failure)]
            if not is_unchanged(path, record, failed=bool(failures)):
                failures = [Failure.of(name, FileChanged(f"{name}: {CHANGED}"))]
            for failure in failures:
                fault = Fault(failure.error, failure.message.replace(name, HERE))
                lasting = failure.error not in PASSING and _holds(path, record)
                (faults if lasting else passing)[record.content] = fault
            if record.content in passing:
                continue
            if clips:
                vectors = np.stack([c.vector for c in clips])
                where = placed(clips, space.window, shots=space.shots)
                new.append(NewEntry(record.content, clips[-1].until, vectors, *where))
                count += 1
            files[path] = record
            if time.monotonic() - committed > COMMIT_EVERY:
                commit()
    finally:
        commit()  # whole files only; after Ctrl-C, the one being read starts over next time
    return count, passing


def is_same(one: str | Path, other: str | Path) -> bool:
    """Say whether two paths are the same file, whatever links lead to it."""
    with suppress(OSError):
        return Path(one).samefile(other)
    return absolute(one) == absolute(other)


def is_unchanged(path: Path, record: FileRecord, *, failed: bool) -> bool:
    """Say whether a file is as it was when it was looked at; if it is gone, whether reading it failed."""
    try:
        status = path.stat()
    except OSError:
        return failed  # else its drive may have gone while the end was read
    return (status.st_size, _time(status)) == (record.size, record.mtime_ns)


@lru_cache(maxsize=1 << 17)
def _content(place: str, size: int, time_ns: int) -> str:  # noqa: ARG001 - what it was as it was looked at
    """Return a file's key: a page that is open looks at files again and again while they are embedded."""
    return content_key(Path(place))


def _holds(path: Path, record: FileRecord) -> bool:
    """Say whether a file can be read, and holds what it did: a fault is then not its drive's."""
    try:
        return content_key(path) == record.content
    except OSError:
        return False


def _time(status: os.stat_result) -> int:
    """Return when a file was changed, in nanoseconds, as far as a database can hold it: to the year 2262."""
    return max(-(2**63), min(status.st_mtime_ns, 2**63 - 1))


def placed(
    clips: list[EncodedClip], window: float | None, *, shots: bool
) -> tuple[tuple[int, ...] | None, float, tuple[int, ...] | None]:
    """Return which windows of a file were embedded, where the first begins, when they end: as in Entry."""
    if not window:
        return None, 0.0, None
    begin = clips[0].start or 0.0
    unit = 0.001 if shots else window
    numbers = tuple(round(((c.start or 0.0) - begin) / unit) for c in clips)
    ends = tuple(round((c.until - begin) / unit) for c in clips)
    apart = shots and any(n - e > GAP for e, n in zip(ends, numbers[1:], strict=False))
    return None if numbers == tuple(range(len(numbers))) else numbers, begin, ends if apart else None
