"""The file of a space's vectors: float32, row after row, only ever added to.

What it holds is said by the database, which is written after it: a tail that no row of the database
names was left by a writer that died, and is overwritten. Letters: n new rows, R rows, E embedding size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from stopcli.errors import IndexUnusable
from stopcli.fileio import write_error
from stopcli.index.types import Vectors

REPAIR = "'stop index check --repair' forgets what is lost, and 'stop index update' embeds it again"
UNIT = 0.02  # how far from 1 the length of a vector may be, whatever its precision was
CHUNK = 100_000  # rows looked at together


def whole_rows(path: Path, size: int) -> int:
    """Return how many vectors of so many numbers are on the disk; 0 where there is no file."""
    try:
        return path.stat().st_size // (4 * size)
    except FileNotFoundError:
        return 0


def broken_rows(vectors: Vectors) -> set[int]:
    """Return the rows (R,E) that no model made: their length is not 1."""
    rows: set[int] = set()
    for i in range(0, len(vectors), CHUNK):
        length = np.linalg.norm(vectors[i : i + CHUNK].astype(np.float64), axis=1)
        rows.update((i + np.flatnonzero(~(np.abs(length - 1) < UNIT))).tolist())
    return rows


def append(path: Path, row: int, vectors: Vectors) -> None:
    """Write vectors (n,E) behind the first ``row`` rows, on the disk; IndexUnusable: there are fewer."""
    offset = row * vectors.shape[1] * 4
    try:
        # a link is not followed: it may lead to any file of the user
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o666), "ab") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise IndexUnusable(f"{path}: no regular file; {REPAIR}")
            if stream.tell() < offset:
                raise IndexUnusable(f"{path}: shorter than the index says; {REPAIR}")
            stream.truncate(offset)
            stream.write(np.ascontiguousarray(vectors, np.float32).data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def load(path: Path, rows: int, size: int) -> Vectors:
    """Return the vectors (R,E) as they lie on the disk, or raise IndexUnusable: too short, or not there."""
    if not rows:
        return np.zeros((0, size), np.float32)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("no regular file")
        return np.memmap(path, np.float32, "r", shape=(rows, size))
    except (OSError, ValueError, OverflowError) as error:
        raise IndexUnusable(f"{path}: gone or cut short ({error}); {REPAIR}") from error
