"""What the tests of the index share."""

from __future__ import annotations

import sqlite3
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from stopcli.index.selection import Selection
from stopcli.index.store import Index
from stopcli.index.types import FileRecord, NewEntry, Space


def unit(*values):
    v = np.array(values, np.float32)
    return v / np.linalg.norm(v)


def unit_rows(matrix):
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def toy_space(**other) -> Space:
    return replace(Space("toy", "w" * 64, "fp32", 4, 8.0, 4), **other)


def filled_index(folder, files=6) -> Index:
    """Make an index of files /v/0.mp4... with contents c0... of 1, 2 or 3 random vectors."""
    index = Index(folder)
    weakref.finalize(index, _close, index.database._db)  # when a test needs it no more
    rng = np.random.default_rng(0)
    with index.writing():
        space = index.database.make_space(toy_space())
        for i in range(files):
            vectors = unit_rows(rng.normal(size=(i % 3 + 1, 4)))
            entry = NewEntry(f"c{i}", 8.0 * len(vectors), vectors)
            space = index.add(space, [entry], {}, {Path(f"/v/{i}.mp4"): FileRecord(10 + i, 1, f"c{i}")})
    return index


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.ProgrammingError):  # it is another thread that tidies up
        connection.close()


def space_of(index: Index) -> Space:
    (space,) = index.database.spaces()
    return space


def vectors_by_content(index: Index) -> dict[str, bytes]:
    """Return the vectors of all contents of all spaces."""
    return {
        content: index.vectors(space)[e.first : e.first + e.count].tobytes()
        for space in index.database.spaces()
        for content, e in index.database.entries(space).items()
    }


def selection(counts, window=8.0, durations=None) -> Selection:
    """Select files 0.mp4... that lie one after the other."""
    durations = durations or [window * c for c in counts]
    paths = tuple(f"{i}.mp4" for i in range(len(counts)))
    first = np.cumsum([0, *counts[:-1]])
    return Selection(first, np.array(counts), np.array(durations, float), paths, window)


def part_of(files: Selection, kept) -> Selection:
    """Select some of the files."""
    paths = tuple(np.array(files.paths)[kept])
    return Selection(files.first[kept], files.count[kept], files.duration[kept], paths, files.window)
