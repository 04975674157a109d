"""A faster, approximate way through very large indexes: usearch (``pip install 'stopcli[large]'``).

Its file is a cache: built from the vectors, added to when they grow, thrown away and built again
at any time. It only chooses which files are worth a look; those are then searched exactly, so hits,
scores and ranges mean the same. Letters: R rows, E embedding size.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.index.ranking import Selection

LEAST = 2_000_000  # rows; below, the exact search is fast enough
DEPTH = 512  # neighbours asked for
CHUNK = 100_000  # rows added between two reports
SETTINGS: dict[str, Any] = {
    "metric": "ip",
    "dtype": "f16",
    "connectivity": 32,
    "expansion_add": 128,
    "expansion_search": 512,
}


def available() -> bool:
    """Say whether usearch is installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError:
        return False
    return True


class ANNIndex:
    """The graph of a space's vectors.

    Args:
        file: beside the vectors; made or brought up to date now.
        vectors: (R,E).
        say: told when building takes time.
    """

    def __init__(self, file: Path, vectors: NDArray[np.float32], say: Callable[[str], None]) -> None:
        from usearch.index import Index

        self._vectors = vectors
        self._graph: Any = Index(ndim=vectors.shape[1], **SETTINGS)
        held = 0
        if file.is_file():
            with suppress(Exception):  # whatever is wrong with it: it can be built again
                self._graph.load(file)
                held = len(self._graph)
        if held > len(vectors):
            self._graph, held = Index(ndim=vectors.shape[1], **SETTINGS), 0
        if held == len(vectors):
            return
        say(f"note: making a shortcut through {len(vectors) - held:,} vectors; this is done once")
        for i in range(held, len(vectors), CHUNK):
            part = np.asarray(vectors[i : i + CHUNK])
            self._graph.add(np.arange(i, i + len(part)), part)
        part_file = file.with_name(f".{file.name}.part")
        with suppress(OSError):  # a read-only place: slower next time, not wrong
            self._graph.save(part_file)
            os.replace(part_file, file)

    def narrow(
        self, selection: Selection, query: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Selection]:
        """Return the files near a query: their vectors, and the selection of just them."""
        found = self._graph.search(query, DEPTH).keys.astype(np.int64)
        owner = np.searchsorted(selection.first, found, "right") - 1
        inside = (owner >= 0) & (found < (selection.first + selection.count)[owner])
        kept = np.unique(owner[inside])
        ranges = [np.arange(selection.first[f], selection.first[f] + selection.count[f]) for f in kept]
        rows = np.concatenate(ranges) if ranges else np.zeros(0, np.int64)
        counts = selection.count[kept]
        local = replace(
            selection,
            first=np.cumsum(counts) - counts,
            count=counts,
            duration=selection.duration[kept],
            paths=tuple(selection.paths[f] for f in kept),
        )
        return np.asarray(self._vectors[rows]), local
