"""A faster, approximate way through very large indexes: usearch (``pip install 'stopcli[large]'``).

Its file is a cache, built from the vectors and added to when they grow. It only says which rows are worth
a look; their files are then searched exactly, so hits, scores and ranges mean the same.
Letters: R rows, E embedding size.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CannotWrite
from stopcli.fileio import replacing
from stopcli.index.types import Say, Vectors

LEAST = 2_000_000  # rows to search; below, the exact search is fast enough
DEPTH = 512  # neighbours asked for
CHUNK = 100_000  # rows read and added at once


def available() -> bool:
    """Say whether usearch is installed."""
    return find_spec("usearch") is not None


class ANNIndex:
    """The graph of a space's vectors (R,E); its file is made or brought up to date, which ``say`` tells."""

    def __init__(self, file: Path, vectors: Vectors, say: Say) -> None:
        from usearch.index import Index

        search = {"connectivity": 32, "expansion_add": 128, "expansion_search": DEPTH}
        self._graph: Any = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", **search)
        with suppress(Exception):  # whatever is wrong with it: it can be built again
            self._graph.load(file)
        if len(self._graph) > len(vectors):
            self._graph.reset()
        done = len(self._graph)
        if done == len(vectors):
            return
        say(f"note: building an approximate index of {len(vectors) - done:,} vectors; this is done once")
        for i in range(done, len(vectors), CHUNK):
            part = np.asarray(vectors[i : i + CHUNK])
            self._graph.add(np.arange(i, i + len(part)), part)
        with suppress(CannotWrite), replacing(file) as new:  # a read-only place: slower next time, not wrong
            self._graph.save(new)

    def rows(self, query: Vectors) -> NDArray[np.int64]:
        """Return the rows nearest to a query (E,), about `DEPTH` of them."""
        return np.asarray(self._graph.search(query, DEPTH).keys, np.int64)
