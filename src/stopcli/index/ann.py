"""A faster, approximate way through very large indexes: usearch (``pip install 'stopcli[large]'``).

Its file is a cache: built from the vectors, added to when they grow, thrown away and built again
at any time. It only says which rows are worth a look; their files are then searched exactly, so hits,
scores and ranges mean the same. Letters: R rows, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CannotWrite
from stopcli.fileio import replacing

LEAST = 2_000_000  # rows to search; below, the exact search is fast enough
DEPTH = 512  # neighbours asked for
CHUNK = 100_000  # rows read and added at once
SETTINGS: dict[str, Any] = {
    "metric": "ip",
    "dtype": "f16",
    "connectivity": 32,
    "expansion_add": 128,
    "expansion_search": 512,
}


def available() -> bool:
    """Say whether usearch is installed."""
    return find_spec("usearch") is not None


class ANNIndex:
    """The graph of a space's vectors.

    Args:
        file: beside the vectors; made or brought up to date now.
        vectors: (R,E).
        say: called with a sentence when building takes time.
    """

    def __init__(self, file: Path, vectors: NDArray[np.float32], say: Callable[[str], None]) -> None:
        from usearch.index import Index

        self._graph: Any = Index(ndim=vectors.shape[1], **SETTINGS)
        if file.is_file():
            with suppress(Exception):  # whatever is wrong with it: it can be built again
                self._graph.load(file)
        if len(self._graph) > len(vectors):
            self._graph = Index(ndim=vectors.shape[1], **SETTINGS)
        done = len(self._graph)
        if done == len(vectors):
            return
        say(f"note: building an approximate index of {len(vectors) - done:,} vectors; this is done once")
        for i in range(done, len(vectors), CHUNK):
            part = np.asarray(vectors[i : i + CHUNK])
            self._graph.add(np.arange(i, i + len(part)), part)
        with suppress(CannotWrite), replacing(file) as new:  # a read-only place: slower next time, not wrong
            self._graph.save(new)

    def rows(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the rows nearest to a query (E,), about `DEPTH` of them."""
        keys: NDArray[np.int64] = self._graph.search(query, DEPTH).keys.astype(np.int64)
        return keys
