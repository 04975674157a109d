"""What changed in folders since the index last saw them, and making the two agree."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.fileio import content_key
from stopcli.index.database import FileRecord, Index, Space
from stopcli.results import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from stopcli.runtime.encoder import Encoder

COMMIT_EVERY = 5.0  # seconds: what a kill loses at most, beside the file being read


@dataclass(frozen=True)
class FileDiff:
    """Files as they are now, beside what the index knows of them."""

    found: dict[Path, FileRecord]
    """By absolute path, in the order found."""
    shown: dict[Path, str]
    """Absolute path to the path as it was given or found."""
    changed: tuple[Path, ...]
    """Found, but not known with this content at this place."""
    moved: tuple[tuple[Path, Path], ...]
    """(from, to): the same content, another place."""
    gone: tuple[Path, ...]
    """Known below the roots, and not there any more."""
    failures: tuple[Failure, ...]
    """Files that cannot even be looked at."""


def compare(index: Index, found: Sequence[Path], roots: Iterable[Path]) -> FileDiff:
    """Compare files with the index; a file of the same size and time is not opened.

    Args:
        index: open.
        found: the files, as given.
        roots: folders that were walked whole: what the index knows below them and is not found is gone.
    """
    known = index.files()
    now: dict[Path, FileRecord] = {}
    shown: dict[Path, str] = {}
    changed: list[Path] = []
    failures: list[Failure] = []
    for path in found:
        place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
        try:
            told = place.stat()
            before = known.get(place)
            if before is None or (before.size, before.mtime_ns) != (told.st_size, told.st_mtime_ns):
                before = FileRecord(told.st_size, told.st_mtime_ns, content_key(place))
                changed.append(place)
            now[place], shown[place] = before, str(path)
        except OSError as error:
            failures.append(Failure(str(path), "unreadable-video", f"{path}: {error.strerror}"))
    walked = [os.path.abspath(r) + os.sep for r in roots]  # noqa: PTH100
    gone = [p for p in known if p not in now and str(p).startswith(tuple(walked))] if walked else []
    left = {known[p].content: p for p in gone}
    moved = [(left[now[p].content], p) for p in changed if p not in known and now[p].content in left]
    return FileDiff(now, shown, tuple(changed), tuple(moved), tuple(gone), tuple(failures))


def missing(index: Index, space: Space | None, files: FileDiff) -> list[Path]:
    """Return the files whose content has no vectors in the space yet, each content once."""
    have = {*index.entries(space), *index.faults(space)} if space is not None else set()
    todo: dict[str, Path] = {}
    for path, known in files.found.items():
        if known.content not in have:
            todo.setdefault(known.content, path)
    return list(todo.values())


def update(
    index: Index,
    space: Space,
    files: FileDiff,
    encoder: Encoder | None,
    progress: Callable[[str], None] | None = None,
) -> int:
    """Make the index agree with the files; return how many were embedded.

    Args:
        index: being written: inside `Index.writing`.
        space: where the vectors go.
        files: from `scan`, made while being the writer.
        encoder: None where nothing is `missing`.
        progress: called with each path that is done.
    """
    todo = missing(index, space, files)
    elsewhere = set(todo)
    if settled := [(p, files.found[p]) for p in files.changed if p not in elsewhere]:
        index.set_files(settled)
    if files.gone:
        index.forget(files.gone)
    if todo:
        assert encoder is not None
        _embed(index, space, files, todo, encoder, progress)
    return len(todo)


def _embed(
    index: Index, space: Space, files: FileDiff, todo: list[Path], encoder: Encoder,
    progress: Callable[[str], None] | None,
) -> None:  # fmt: skip
    """Embed files and commit them, a few seconds' worth at a time."""
    done: list[tuple[Path, FileRecord, float, NDArray[np.float32]]] = []
    faults: list[tuple[Path, FileRecord, str, str]] = []
    open_path: Path | None = None
    vectors: list[NDArray[np.float32]] = []
    until = 0.0
    committed = time.monotonic()

    def close() -> None:
        nonlocal vectors
        if open_path is not None and vectors:
            done.append((open_path, files.found[open_path], until, np.stack(vectors)))
        vectors = []

    def commit() -> None:
        nonlocal committed
        if done or faults:
            index.add(space, done, faults)
            done.clear()
            faults.clear()
        committed = time.monotonic()

    try:
        for item in encoder.encode_videos(todo, window=space.window):
            path = Path(str(item.path))
            if path != open_path:
                close()
                if time.monotonic() - committed > COMMIT_EVERY:
                    commit()
                open_path = path
                if progress is not None:
                    progress(str(path))
            if isinstance(item, Failure):
                message = item.message.replace(str(path), files.shown[path])
                faults.append((path, files.found[path], item.error, message))
            else:
                vectors.append(item.vector)
                until = item.until
        close()
    except KeyboardInterrupt:
        commit()  # whole files only; the one being read is begun anew next time
        raise
    commit()


def failures(index: Index, space: Space, files: FileDiff) -> list[Failure]:
    """Return what cannot be searched: faults found now or before."""
    held = index.faults(space)
    told = [Failure(files.shown[p], *held[k.content]) for p, k in files.found.items() if k.content in held]
    return [*files.failures, *told]
