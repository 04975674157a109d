"""Searching an archive: an index brought up to date, a model loaded only if it must be."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import NothingFound, UsageError
from stopcli.index.database import Index, Space
from stopcli.index.ranking import WINDOW, Filters, Query, search, select
from stopcli.index.sync import compare, failures, missing, update
from stopcli.results import Failure, IndexedFile
from stopcli.runtime.text import TextEncoder
from stopcli.video.clips import read_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from typing_extensions import Self

    from stopcli.index.ann import ANNIndex
    from stopcli.index.sync import FileDiff
    from stopcli.model.files import ModelFiles
    from stopcli.results import Hit
    from stopcli.runtime.encoder import Encoder


def under(index: Index, paths: Sequence[Path]) -> list[Path]:
    """Return the files of the index that are one of the paths, or lie below one of them."""
    places = [os.path.abspath(p) for p in paths]  # noqa: PTH100
    return [
        p
        for p in index.files()
        if str(p) in places or str(p).startswith(tuple(f"{place}{os.sep}" for place in places))
    ]


def listing(index: Index, paths: Sequence[Path]) -> list[IndexedFile]:
    """Return the files of the index, all or those below the paths, by path."""
    known = index.files()
    chosen = under(index, paths) if paths else list(known)
    counts: dict[str, int] = {}
    faults: dict[str, str] = {}
    for space in index.spaces():
        for content, entry in index.entries(space).items():
            counts[content] = counts.get(content, 0) + entry.count
        faults |= {content: error for content, (error, _) in index.faults(space).items()}
    return [
        IndexedFile(str(p), known[p].size, counts.get(known[p].content, 0), faults.get(known[p].content))
        for p in sorted(chosen)
    ]


@dataclass(frozen=True)
class Example:
    """A video, or the moment of it around ``at`` seconds, as a query."""

    path: Path
    at: float | None = None


@dataclass(frozen=True)
class SearchRequest:
    """All that one search wants to know."""

    texts: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    """Texts: moments nearer to one of them are no hits."""
    examples: tuple[Example, ...] = ()
    window: float | None = WINDOW
    """Seconds of a window; None searches whole files."""
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True)
class SearchResult:
    """Hits, query by query, best first; files that cannot be searched; what was embedded for it."""

    hits: tuple[Hit, ...]
    failures: tuple[Failure, ...]
    embedded: int


class SearchEngine:
    """An index and a model, ready to search; the model is loaded only if something must be embedded.

    Args:
        folder: of the index.
        files: the model.
        encoder: loads it.
        precision: of the vectors; None takes what the index has, or what the device is fast at.
        frames: of each window; None is the model's own.
        wait: seconds to wait for another writer.
        say: told what costs time, in a sentence.
        watch: given how many files will be embedded, gives what to call with each that is done.
    """

    def __init__(
        self, folder: Path, files: ModelFiles, encoder: Callable[[], Encoder], *,
        precision: str | None = None, frames: int | None = None, wait: float = 600.0,
        say: Callable[[str], None] = lambda _: None,
        watch: Callable[[int], AbstractContextManager[Callable[[str], None]]] | None = None,
    ) -> None:  # fmt: skip
        self.index = Index(folder, wait=wait)
        self.files, self._make, self._precision = files, encoder, precision
        self.frames = frames or files.config.frames
        self._say = say
        self._watch = watch or (lambda _: nullcontext(lambda _: None))
        self._encoder: Encoder | None = None
        self.weights = self.index.weights_hash(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @property
    def encoder(self) -> Encoder:
        """The model, loaded now if it was not."""
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder

    def _space(self, window: float | None) -> Space | None:
        return self.index.find_space(self.weights, self._precision, self.frames, window)

    def plan(
        self, found: Sequence[Path], roots: Iterable[Path], window: float | None
    ) -> tuple[FileDiff, list[Path]]:
        """Return how files and index differ, and what would be embedded; nothing is changed."""
        files = compare(self.index, found, roots)
        return files, missing(self.index, self._space(window), files)

    def refresh(
        self, found: Sequence[Path], roots: Iterable[Path], window: float | None
    ) -> tuple[FileDiff, Space | None, int]:
        """Make the index agree with the files; return them, their space, and how many were embedded."""
        roots = list(roots)
        files = compare(self.index, found, roots)
        space = self._space(window)
        if space is not None and not (files.changed or files.gone or missing(self.index, space, files)):
            return files, space, 0
        with self.index.writing():
            files = compare(self.index, found, roots)  # another writer may have been at it
            space = self._space(window)
            todo = missing(self.index, space, files)
            if todo:
                space = self._own_space(window)
                todo = missing(self.index, space, files)
                self._explain(space, todo)
            if space is None:
                return files, None, 0
            with self._watch(len(todo)) as progress:
                count = update(self.index, space, files, self.encoder if todo else None, progress)
        return files, self._space(window), count

    def _own_space(self, window: float | None) -> Space:
        encoder = self.encoder
        (size,) = {v.shape[-1] for v in self._embed(["a video"]).values()}
        return self.index.space(
            Space(self.files.name, self.weights, encoder.precision, self.frames, window, size)
        )

    def _explain(self, space: Space, todo: Sequence[Path]) -> None:
        others = [s for s in self.index.spaces() if s.id != space.id and s.rows]
        if not space.rows and others:
            kept = others[-1]
            what = f"{kept.model}, {kept.precision}, {kept.frames} frames, " + (
                f"windows of {kept.window:g} s" if kept.window else "whole files"
            )
            self._say(
                f"note: {len(todo)} files must be embedded for these settings; the vectors of {what} are kept"
            )

    def _embed(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return texts embedded: kept ones without a model, new ones by the text tower alone."""
        if any(not t.strip() for t in texts):
            raise UsageError("a text to look for is empty")
        found = self.index.texts(self.weights, texts)
        new = [t for t in dict.fromkeys(texts) if t not in found]
        if new:
            fresh = dict(zip(new, TextEncoder(self.files).encode(new), strict=True))
            self.index.save_texts(self.weights, fresh)
            found |= fresh
        return found

    def search(self, ask: SearchRequest, found: Sequence[Path], roots: Iterable[Path]) -> SearchResult:
        """Bring the index up to date with the files, and answer.

        Args:
            ask: what is looked for.
            found: the files to search.
            roots: the folders among what was named: walked whole.
        """
        files, space, count = self.refresh(found, roots, ask.window)
        if space is None:
            return SearchResult((), files.failures, 0)
        texts = self._embed([*ask.texts, *ask.unlike])
        queries = [Query(t, texts[t]) for t in ask.texts]
        queries += [self._query(example, ask.window) for example in ask.examples]
        unlike = [texts[t] for t in ask.unlike]
        selection, vectors = self.index.together(
            lambda: (
                select(self.index, space, files.found, files.shown, ask.filters),
                self.index.vectors(space),
            )
        )
        shortcut = self._shortcut(space, vectors)
        hits = search(vectors, selection, queries, ask.filters, unlike, shortcut)
        return SearchResult(tuple(hits), tuple(failures(self.index, space, files)), count)

    def _shortcut(self, space: Space, vectors: NDArray[np.float32]) -> ANNIndex | None:
        from stopcli.index import ann as shortcut

        if len(vectors) < shortcut.LEAST:
            return None
        if not shortcut.available():
            self._say("note: so large an index is searched faster with: pip install 'stopcli[large]'")
            return None
        return shortcut.ANNIndex(self.index.cache_file(space, ".usearch"), vectors, self._say)

    def _query(self, example: Example, window: float | None) -> Query:
        if example.at is None:
            item = next(iter(self.encoder.encode_videos([example.path])))
            if isinstance(item, Failure):
                raise NothingFound(f"the example cannot be used: {item.message}")
            return Query(str(example.path), item.vector)
        half = (window or WINDOW) / 2
        begin = max(0.0, example.at - half)
        frames = read_frames(
            example.path, self.encoder.frames, self.encoder.size, start=begin, end=example.at + half
        )
        (vector,) = self.encoder.encode_pixels(frames.pixels[None])
        return Query(f"{example.path}@{example.at:g}", vector)
