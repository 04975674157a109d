"""The file of a space's vectors: float32, row after row, only ever added to.

What it holds is said by the database, which is written after it: a tail that no row of the database
names was left by a writer that died, and is overwritten. Letters: n new rows, R rows, E embedding size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import IndexUnusable
from stopcli.fileio import replacing, write_error

REBUILD = "rebuild it: stop index rm --all, then update"


def append(path: Path, row: int, vectors: NDArray[np.float32]) -> None:
    """Write vectors (n,E) behind the first ``row`` rows, and wait until the disk has them.

    Raises:
        IndexUnusable: the file is shorter than that. CannotWrite: the operating system refused.
    """
    data = memoryview(np.ascontiguousarray(vectors, np.float32).tobytes())
    offset = row * vectors.shape[1] * 4
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        if os.fstat(descriptor).st_size < offset:
            raise IndexUnusable(f"{path}: shorter than the index says; {REBUILD}")
        os.ftruncate(descriptor, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if descriptor is not None:
            os.close(descriptor)


def load(path: Path, rows: int, size: int) -> NDArray[np.float32]:
    """Return the vectors (R,E) as they lie on the disk.

    Raises:
        IndexUnusable: the file is shorter than that, or not there.
    """
    if not rows:
        return np.zeros((0, size), np.float32)
    try:
        return np.memmap(path, np.float32, "r", shape=(rows, size))
    except (OSError, ValueError) as error:
        raise IndexUnusable(f"{path}: gone or cut short ({error}); {REBUILD}") from error


def write(path: Path, parts: Iterable[NDArray[np.float32]]) -> None:
    """Write a new file of vectors, whole or not at all.

    Raises:
        CannotWrite: the operating system refused.
    """
    with replacing(path, sync=True) as new, new.open("wb") as stream:
        for part in parts:
            stream.write(np.ascontiguousarray(part).data)
