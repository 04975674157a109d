"""Looking after an index: what it holds, what is wrong with it, giving room back, taking over another."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stopcli.errors import IndexUnusable, NothingFound, UsageError
from stopcli.fileio import replacing, write_error
from stopcli.index.database import FORMAT, unusable
from stopcli.index.store import DATABASE, READS, Index
from stopcli.index.sync import absolute, below
from stopcli.index.types import (
    PASSING,
    Entry,
    Faults,
    Files,
    NewEntry,
    Paths,
    Say,
    Space,
    Vectors,
    entry_of,
    of_kind,
    record_of,
)
from stopcli.index.vectors import broken_rows, whole_rows
from stopcli.results import IndexChange, IndexCheck, IndexedFile, IndexInfo, IndexSpace
from stopcli.video.discovery import as_spelled

# the files of vectors, graphs made of them, and what killed processes left of both
OURS = re.compile(r"\.?vectors-\d+(\.\d+)?(\.f32(\.usearch)?|(\.f32)?-[0-9a-f]+\.part\.(f32|usearch))")
BATCH = 256  # contents taken over at once
# texts as bytes: what is no text cannot even be fetched
ENTRIES = """SELECT space, CAST(content AS BLOB), first, count, duration, CAST(numbers AS BLOB), begin,
    CAST(ends AS BLOB) FROM entries"""
PLACES = "SELECT CAST(path AS BLOB), typeof(path), size, mtime_ns, CAST(content AS BLOB) FROM files"
NO_VECTORS = "FROM texts WHERE typeof(vector) <> 'blob' OR length(vector) % 4"


def files_of(index: Index, paths: Paths) -> Files:
    """Return the files of the index that are one of the paths, or lie below one of them."""
    places = [absolute(as_spelled(Path(path))) for path in paths]
    return index.database.files_at(places) | index.database.files_below(map(below, places))


def listing(index: Index, paths: Paths = ()) -> list[IndexedFile]:
    """Return the files of the index, all or those below the paths, by path."""
    database = index.database
    files = files_of(index, paths) if paths else database.files()
    contents = {record.content for record in files.values()} if paths else None
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    for space in database.spaces():
        counts.update({content: e.count for content, e in database.entries(space, contents).items()})
        faults |= {content: fault.error for content, fault in database.faults(space, contents).items()}
    return [
        IndexedFile(str(path), record.size, counts[record.content], faults.get(record.content))
        for path, record in sorted(files.items())
    ]


def describe(index: Index) -> IndexInfo:
    """Return what the index holds, and for which settings."""
    size = sum(path.stat().st_size for path in index.folder.iterdir() if path.is_file())
    spaces = index.database.spaces()
    shown = (
        IndexSpace(s.id, s.model, s.weights, s.precision, s.frames, s.window, s.rows, s.shots) for s in spaces
    )
    return IndexInfo(str(index.folder), FORMAT, len(index.database.files()), size, tuple(shown))


def remove(index: Index, paths: Paths | None) -> int:
    """Drop the files that are one of the paths or below one, or raise IndexBusy; return how many.

    Their vectors stay until `compact`, in case they come back; ``paths`` None drops all, vectors too.
    """
    with index.writing():
        files = index.database.files() if paths is None else files_of(index, paths)
        index.database.update_files({}, files)
        with index.database.transaction() as db:  # what could not be read is tried again if it comes back
            contents = {record.content for record in files.values()}
            every = ((space.id, content) for space in index.database.spaces() for content in contents)
            db.executemany("DELETE FROM faults WHERE space=? AND content=?", every)
        if paths is None:
            compact(index)
    return len(files)


def choose_space(index: Index, number: int | None, *, empty: bool = False) -> Space:
    """Return the space with this number, or the only one: one with vectors, or an ``empty`` one, too.

    Raises UsageError: there are several, or none has this number. NothingFound: the index is empty.
    """
    spaces = {space.id: space for space in index.database.spaces() if space.rows or empty}
    if number is None and len(spaces) == 1:
        return next(iter(spaces.values()))
    if number in spaces:
        return spaces[number]
    if not spaces:
        raise NothingFound(f"{index.folder}: holds no vectors; 'stop index update' makes them")
    known = "; ".join(f"{s.id} is {s.model}, {s.precision}, {_windows(s)}" for s in spaces.values())
    problem = f"{index.folder}: holds vectors of {len(spaces)} setting{'s' if len(spaces) > 1 else ''}"
    raise UsageError(f"{problem}; choose by --space: {known}")


def _windows(space: Space) -> str:
    return "whole files" if space.window is None else f"windows of {space.window:g} s"


def remove_space(index: Index, number: int) -> int:
    """Drop the vectors of one model and its settings, or raise IndexBusy; return the bytes that were freed.

    The files stay known: other models may have embedded them. Raises UsageError: no space has this number.
    """
    with index.writing():
        space = choose_space(index, number, empty=True)
        index.database.drop_space(space)
        _clear(index)
    return space.rows * space.size * 4


def lost_spaces(index: Index) -> list[Space]:
    """Return the spaces whose file of vectors is shorter than it should be, or not there."""
    spaces = index.database.spaces()
    return [s for s in spaces if whole_rows(index.folder / s.file, s.size) < s.rows]


def forget_lost(index: Index, *, look: bool = False) -> int:
    """Drop what vectors stand beyond the end of their file, or raise IndexBusy; return how many contents.

    They are embedded again with the next update. ``look`` reads all vectors, and drops broken ones too.
    """
    dropped = 0
    with index.writing():
        for space in index.database.spaces():
            entries, bad = index.database.every_entry(space), _bad_contents(index, space, look=look)
            rows = min(space.rows, whole_rows(index.folder / space.file, space.size))
            if not bad and rows == space.rows:
                continue
            (index.folder / f"{space.file}.usearch").unlink(missing_ok=True)  # made of other vectors
            kept = {content: e for content, e in entries.items() if content not in bad}
            index.database.replace(space, space.file, rows, kept)
            dropped += len(bad)
    return dropped


def _bad_contents(index: Index, space: Space, *, look: bool) -> set[str]:
    """Return the contents whose vectors are not on the disk; with ``look``, those with broken ones too."""
    entries = index.database.every_entry(space)
    rows = min(space.rows, whole_rows(index.folder / space.file, space.size))
    bad = {content for content, e in entries.items() if e.first + e.count > rows}
    last, owner = 0, ""
    for content, e in sorted(entries.items(), key=lambda item: item[1].first):
        if e.first < last:  # two contents never share vectors
            bad |= {content, owner}
        last, owner = e.first + e.count, content
    if look and (broken := broken_rows(index.vectors(replace(space, rows=rows)))):
        inside = ((c, range(e.first, e.first + e.count)) for c, e in entries.items() if c not in bad)
        bad |= {content for content, rows_of in inside if not broken.isdisjoint(rows_of)}
    return bad


def problems(index: Index) -> list[str]:
    """Look at all of an index; return what is wrong with it, a sentence each.

    While another process writes, files of vectors come and go: then it is looked at again.
    """
    for _ in range(READS):
        spaces = index.database.spaces()
        found = index.together(lambda: _problems(index))
        if not found or spaces == index.database.spaces():
            break
    return found


def _problems(index: Index) -> list[str]:
    found = [f"{index.folder / DATABASE}: damaged ({d})"] if (d := index.database.damage()) else []
    index.database.files()  # raises for a row that cannot be read
    for space in index.database.spaces():
        file = index.folder / space.file
        there = whole_rows(file, space.size)
        if there < space.rows:
            found.append(f"{file}: {there} of {space.rows} vectors are there")
        if bad := _bad_contents(index, space, look=True):
            found.append(f"{file}: the vectors of {len(bad)} files are lost or broken")
    return found


def check(folder: Path, *, repair: bool = False, say: Say = lambda _: None) -> IndexCheck:
    """Look at all of an index; ``repair`` forgets what is lost, and sets aside what cannot be read.

    It also forgets which files could not be read: they are tried again with the next update.
    """
    dropped = 0
    try:
        with Index(folder, say=say) as index:
            dropped = _forget_unreadable(index) if repair and index.writable else 0
            found = problems(index)
            if dropped:
                found.insert(0, f"{folder / DATABASE}: what it says of {dropped} files cannot be read")
            if found and repair:
                dropped += forget_lost(index, look=True)
                if left := problems(index):
                    raise unusable(folder / DATABASE, "; ".join(left))
    except IndexUnusable as error:
        if repair and not error.damaged:  # setting it aside would not help
            raise
        aside = str(set_aside(folder)) if repair else None
        return IndexCheck(str(folder), (str(error),), dropped, aside)
    return IndexCheck(str(folder), tuple(found), dropped)


def _forget_unreadable(index: Index) -> int:
    """Drop what cannot be read of contents, and all faults, or raise IndexBusy; return how many contents."""
    with index.database.transaction("DEFERRED") as db:
        bad = [(row[0], row[1]) for row in db.execute(ENTRIES) if not _reads(_entry, row[1:])]
        lost = [(path,) for path, *row in db.execute(PLACES) if not _reads(_record, row)]
        (more,) = db.execute(
            f"SELECT (SELECT count(*) FROM faults) + (SELECT count(*) {NO_VECTORS})"
        ).fetchone()
    if bad or lost or more:
        with index.writing(), index.database.transaction() as db:
            db.executemany("DELETE FROM entries WHERE space=? AND CAST(content AS BLOB)=?", bad)
            db.executemany("DELETE FROM files WHERE CAST(path AS BLOB)=?", lost)
            db.execute(f"DELETE {NO_VECTORS}")
            db.execute("DELETE FROM faults")
    return len(bad) + len(lost)


def _reads(read: Callable[..., object], row: Sequence[Any]) -> bool:
    """Say whether a row can be read; its texts are as they lie on the disk."""
    try:
        read(*(value.decode() if isinstance(value, bytes) else value for value in row))
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError):
        return False
    return True


def _entry(content: object, *row: Any) -> None:
    of_kind(str, content)
    entry_of(*row)


def _record(path: object, *row: Any) -> None:
    if path != "blob":
        raise ValueError("a path is kept as bytes")
    record_of(*row)


def set_aside(folder: Path) -> Path:
    """Move the files of an index that cannot be opened into a folder of their own; return that one."""
    aside = folder / time.strftime("damaged-%Y%m%d-%H%M%S")
    try:
        aside.mkdir()
        for file in list(folder.iterdir()):
            if file.name.startswith(DATABASE) or OURS.fullmatch(file.name):
                file.rename(aside / file.name)
    except OSError as error:
        raise write_error(aside, error) from error
    return aside


def compact(index: Index) -> IndexChange:
    """Drop what no file has any more; return how many vectors, and bytes. Raises IndexBusy or CannotWrite."""
    with index.writing():
        contents = {record.content for record in index.database.files().values()}
        spaces = [(_compact_space(index, space, contents), space) for space in index.database.spaces()]
        index.database.shrink()
        _clear(index)
    freed = sum(rows * space.size * 4 for rows, space in spaces)
    return IndexChange(str(index.folder), dropped=sum(rows for rows, _ in spaces), freed=freed)


def _clear(index: Index) -> None:
    """Remove files of vectors that no space names: old, made of old ones, or left by a killed process."""
    named = tuple(space.file for space in index.database.spaces())
    for path in index.folder.iterdir():
        if OURS.fullmatch(path.name) and not path.name.startswith(named):
            with suppress(OSError):  # a reader elsewhere may have it open
                path.unlink()


def _compact_space(index: Index, space: Space, contents: set[str]) -> int:
    """Drop the vectors of other contents; return how many."""
    kept, row = {}, 0
    used = sorted(index.database.entries(space, contents).items(), key=lambda item: item[1].first)
    for content, entry in used:
        kept[content] = replace(entry, first=row)
        row += entry.count
    if row == space.rows:
        return 0
    stem, _, number = space.file.removesuffix(".f32").partition(".")
    file = f"{stem}.{int(number or 0) + 1}.f32"
    if used:  # otherwise the vectors may be lost, and this is how to be rid of them
        matrix = index.vectors(space)
        with replacing(index.folder / file, sync=True) as new, new.open("wb") as stream:
            stream.writelines(matrix[e.first : e.first + e.count].data for _, e in used)
    index.database.replace(space, file, row, kept)
    return space.rows - row


def merge(index: Index, source: Index) -> tuple[int, int]:
    """Take over what only another index has, or raise IndexBusy; return how many files and vectors came."""
    with index.writing():
        rows = sum(_merge_space(index, source, space) for space in source.database.spaces())
        theirs = source.database.files()
        mine = index.database.files_at(map(str, theirs))
        new = {path: record for path, record in theirs.items() if path not in mine}
        index.database.update_files(new)
    return len(new), rows


def _merge_space(index: Index, source: Index, space: Space) -> int:
    def read() -> tuple[dict[str, Entry], Vectors, Faults]:
        now = next((s for s in source.database.spaces() if s.id == space.id), None)
        if now is None:
            raise IndexUnusable(f"{source.folder}: was rebuilt during the merge; merge it again")
        bad = _bad_contents(source, now, look=True)
        entries = source.database.entries(now)
        kept = {c: e for c, e in entries.items() if c not in bad}
        return kept, source.vectors(now), source.database.faults(now)

    entries, matrix, faults = source.together(read)
    here = index.database.make_space(space)
    if here.size != space.size:
        problem = f"{source.folder}: its vectors of {space.model} have {space.size} numbers, here {here.size}"
        raise IndexUnusable(f"{problem}; see 'stop index check'")
    have, before = index.database.entries(here, entries), here.rows
    new = sorted(((c, e) for c, e in entries.items() if c not in have), key=lambda item: item[1].first)
    for i in range(0, len(new), BATCH):
        part = new[i : i + BATCH]
        batch = [
            NewEntry(c, e.duration, matrix[e.first : e.first + e.count], e.numbers, e.begin, e.ends)
            for c, e in part
        ]
        here = index.add(here, batch, {}, {})
    index.add(here, [], {c: f for c, f in faults.items() if f.error not in PASSING and c not in have}, {})
    return here.rows - before
