"""Which clips, or which moments of them, does a query mean?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stopcli.errors import NothingFound
from stopcli.results import EncodedClip, Failure, Hit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stopcli.runtime import Runtime


@dataclass(frozen=True)
class Segments:
    """Vectors (N,E) of clips or windows, what each row is, and what could not be used."""

    vectors: NDArray[np.float32]
    rows: tuple[tuple[str, float | None, float | None], ...]
    failures: tuple[Failure, ...]


class Source(Protocol):
    """Where vectors come from: computed now, or kept from before."""

    def segments(self, paths: Sequence[str | Path], *, every: float | None) -> Segments:
        """Return the vectors of the files, whole or in windows of ``every`` seconds."""


class EncodeNow:
    """A source that encodes every file each time it is asked."""

    def __init__(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        self._runtime = runtime
        self._progress = progress

    def segments(self, paths: Sequence[str | Path], *, every: float | None) -> Segments:
        """Encode the files."""
        clips: list[EncodedClip] = []
        failures: list[Failure] = []
        for item in self._runtime.encode_videos(paths, every=every):
            if isinstance(item, Failure):
                failures.append(item)
            else:
                clips.append(item)
            if self._progress is not None:
                self._progress(str(item.path))
        vectors = np.stack([c.vector for c in clips]) if clips else np.zeros((0, 0), np.float32)
        return Segments(vectors, tuple((c.path, c.start, c.end) for c in clips), tuple(failures))


@dataclass(frozen=True)
class Query:
    """What is looked for: a text or an example video, by name, and its vector (E,)."""

    name: str
    vector: NDArray[np.float32]


def text_queries(runtime: Runtime, texts: Sequence[str]) -> list[Query]:
    """Embed texts as queries."""
    if not texts:
        return []
    return [Query(text, vector) for text, vector in zip(texts, runtime.encode_texts(texts), strict=True)]


def video_query(runtime: Runtime, path: str | Path) -> Query:
    """Embed an example video as a query.

    Raises:
        NothingFound: the example cannot be used.
    """
    item = next(iter(runtime.encode_videos([path])))
    if isinstance(item, Failure):
        raise NothingFound(f"the example cannot be used: {item.message}")
    return Query(str(path), item.vector)


def retrieve(
    source: Source,
    queries: Sequence[Query],
    paths: Sequence[str | Path],
    *,
    top_k: int = 10,
    every: float | None = None,
) -> tuple[list[Hit], list[Failure]]:
    """Rank clips, or windows of them, by the cosine of their vector with each query's.

    Args:
        source: where the clips' vectors come from.
        queries: what is looked for.
        paths: the files to search.
        top_k: hits a query.
        every: seconds of a window; None ranks whole files.

    Returns:
        The hits, query by query, best first, and the files that could not be searched.
    """
    found = source.segments(paths, every=every)
    hits: list[Hit] = []
    for query in queries if len(found.rows) else ():
        scores = found.vectors @ query.vector  # (N,)
        for rank, row in enumerate(np.argsort(-scores, kind="stable")[:top_k], 1):
            path, start, end = found.rows[row]
            hits.append(Hit(query.name, rank, path, start, end, float(scores[row])))
    return hits, list(found.failures)
