"""The file of a space's vectors: float32, row after row, only ever added to.

What it holds is said by the database, which is written after it: a tail that no row of the database
names was left by a writer that died, and is overwritten. Letters: n new rows, R rows, E embedding size.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stopcli.errors import IndexUnusable
from stopcli.fileio import write_error
from stopcli.index.types import Vectors

REBUILD = "rebuild it: stop index rm --all, then update"


def append(path: Path, row: int, vectors: Vectors) -> None:
    """Write vectors (n,E) behind the first ``row`` rows, on the disk; IndexUnusable: there are fewer."""
    offset = row * vectors.shape[1] * 4
    try:
        with path.open("ab") as stream:
            if stream.tell() < offset:
                raise IndexUnusable(f"{path}: shorter than the index says; {REBUILD}")
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
        return np.memmap(path, np.float32, "r", shape=(rows, size))
    except (OSError, ValueError) as error:
        raise IndexUnusable(f"{path}: gone or cut short ({error}); {REBUILD}") from error
