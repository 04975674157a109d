"""Searching videos: an index brought up to date, a model loaded only if it must be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import CannotWrite, FileMissing, StopError
from stopcli.fileio import write_text
from stopcli.index import ann, sync
from stopcli.index.ranking import search, select
from stopcli.index.store import Index
from stopcli.index.types import WINDOW, Query, SearchResult, Snapshot, Space
from stopcli.model.files import ModelFiles
from stopcli.runtime.text import TextEncoder
from stopcli.settings import cache_folder
from stopcli.video.clips import read_frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    from stopcli.index.ranking import Selection
    from stopcli.index.types import Example, SearchRequest
    from stopcli.runtime.encoder import Encoder

    Progress = Callable[[int], AbstractContextManager[Callable[[str], None]]]


class SearchEngine:
    """An index and a model, ready to search; the model is loaded only if something must be embedded.

    Args:
        folder: of the index.
        files: the model, and
        load_encoder: what loads it.
        precision: of the vectors; None takes what the index has, or what the device is fast at.
        frames: of each window; None is the model's own.
        wait: seconds to wait for another writer.
        say: called with what costs time, in a sentence.
        progress: given how many files will be embedded, yields what to call with the path of each.

    Raises:
        IndexUnusable: the folder holds no index that can be used, or cannot hold one.
    """

    def __init__(
        self,
        folder: Path,
        files: ModelFiles,
        load_encoder: Callable[[], Encoder],
        *,
        precision: str | None = None,
        frames: int | None = None,
        wait: float = 600.0,
        say: Callable[[str], None] = lambda _: None,
        progress: Progress | None = None,
    ) -> None:
        self._files, self._load, self._precision = files, load_encoder, precision
        self._frames = frames or files.config.frames
        self._say = say
        self._progress = progress or (lambda _: nullcontext(lambda _: None))
        self._texts = TextEncoder(files)
        self._weights = weights_hash(files)
        self.index = Index(folder, wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    # ------------------------------------------------------------------------------- the index

    def plan(self, videos: Sequence[Path], roots: Iterable[Path], window: float | None) -> sync.UpdatePlan:
        """Return how files and index differ, and what would be embedded; nothing is changed.

        Args:
            videos: the files.
            roots: the folders among what was named: walked whole.
            window: seconds; None is whole files.
        """
        diff = sync.compare(self.index.database, videos, roots)
        todo = diff.missing(self._snapshot(diff, window))
        return sync.UpdatePlan(diff, tuple(diff.shown[path] for path in todo))

    def update(
        self, videos: Sequence[Path], roots: Iterable[Path], window: float | None
    ) -> sync.UpdateResult:
        """Make the index agree with the files; the arguments are those of `plan`.

        Raises:
            IndexBusy: another process is writing. CannotWrite: the disk is full.
            StopError: the model cannot be loaded.
        """
        diff, state, embedded = self._synchronize(videos, roots, window)
        return sync.UpdateResult(diff, embedded, diff.all_failures(state))

    def _snapshot(self, diff: sync.FileDiff, window: float | None, precision: str | None = None) -> Snapshot:
        precision = precision or self._precision
        return self.index.snapshot(diff.contents(), self._weights, precision, self._frames, window)

    def _synchronize(
        self, videos: Sequence[Path], roots: Iterable[Path], window: float | None
    ) -> tuple[sync.FileDiff, Snapshot, int]:
        """Write what must be written, and return what the index then knows of the files.

        The files are looked at once; again only if another process wrote after that.
        """
        database, roots = self.index.database, list(roots)
        version = database.version()
        diff = sync.compare(database, videos, roots)
        state = self._snapshot(diff, window)
        if not (diff.changed or diff.gone or diff.missing(state)):
            return diff, state, 0
        with self.index.writing():
            if database.version() != version:
                diff = sync.compare(database, videos, roots)
                state = self._snapshot(diff, window)
            todo = diff.missing(state)
            sync.settle(database, diff, todo)
            if not todo:
                return diff, state, 0
            encoder = self._encoder
            key = (self._files.name, self._weights, encoder.precision, self._frames, window)
            space = database.make_space(Space(*key, encoder.model.backbone.embed_dim))
            todo = diff.missing(self._snapshot(diff, window, space.precision))
            self._announce(space, len(todo))
            with self._progress(len(todo)) as progress:
                embedded = sync.embed(self.index, space, diff, todo, encoder, progress)
            return diff, self._snapshot(diff, window, space.precision), embedded

    def _announce(self, space: Space, count: int) -> None:
        """Say that other settings cost embedding again, and lose nothing."""
        others = [other for other in self.index.database.spaces() if other.id != space.id and other.rows]
        if space.rows or not others:
            return
        kept = others[-1]
        what = f"windows of {kept.window:g} s" if kept.window else "whole files"
        self._say(
            f"note: {count} files must be embedded for these settings; "
            f"the vectors of {kept.model}, {kept.precision}, {kept.frames} frames, {what} are kept"
        )

    # ------------------------------------------------------------------------------ the search

    def search(self, request: SearchRequest, videos: Sequence[Path], roots: Iterable[Path]) -> SearchResult:
        """Bring the index up to date with the files, as `update` does, and answer.

        Raises:
            UsageError: a text is empty. InputError: an example cannot be used.
        """
        texts = self._embed([*request.texts, *request.unlike])
        queries = [Query(text, texts[text]) for text in request.texts]
        queries += [self._query(example, request.window) for example in request.examples]
        diff, state, _ = self._synchronize(videos, roots, request.window)
        selection = select(diff, state, request.filters)
        unlike = [texts[text] for text in request.unlike]
        near = self._near(state, selection)
        hits = search(state.vectors, selection, queries, request.filters, unlike, near)
        return SearchResult(tuple(hits), diff.all_failures(state))

    def _near(
        self, state: Snapshot, selection: Selection
    ) -> Callable[[NDArray[np.float32]], NDArray[np.int64]] | None:
        """Return what finds the rows near a query, where there are so many that looking at all is slow."""
        if state.space is None or selection.count.sum() < ann.LEAST:
            return None
        if not ann.available():
            self._say("note: so large an index is searched faster with: pip install 'stopcli[large]'")
            return None
        file = self.index.folder / f"{state.space.file}.usearch"
        return ann.ANNIndex(file, state.vectors, self._say).rows

    @cached_property
    def _encoder(self) -> Encoder:
        return self._load()

    def _embed(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return texts embedded: kept ones without a model, new ones by the text tower alone."""
        database = self.index.database
        vectors = database.texts(self._weights, texts)
        if new := [text for text in dict.fromkeys(texts) if text not in vectors]:
            fresh = dict(zip(new, self._texts.encode(new), strict=True))
            with suppress(StopError):  # read-only, full or busy: computed again next time
                database.save_texts(self._weights, fresh)
            vectors |= fresh
        return vectors

    def _query(self, example: Example, window: float | None) -> Query:
        if not example.path.is_file():
            raise FileMissing(f"{example.path}: no such file; it was given as the example to look for")
        encoder, start, end, name = self._encoder, None, None, str(example.path)
        if example.at is not None:
            half = (window or WINDOW) / 2
            start, end, name = max(0.0, example.at - half), example.at + half, f"{name}@{example.at:g}"
        frames = read_frames(example.path, encoder.frames, encoder.size, start=start, end=end)
        (vector,) = encoder.encode_pixels(frames.pixels[None])
        return Query(name, vector)


def weights_hash(files: ModelFiles) -> str:
    """Return `ModelFiles.weights_hash`, computed once for files that do not change."""
    cache = cache_folder() / "weights.json"
    parts = [(part, part.stat()) for part in (files.backbone, files.prompts) if part is not None]
    key = " ".join(f"{part.absolute()}:{status.st_size}:{status.st_mtime_ns}" for part, status in parts)
    try:
        known = dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    if key not in known:
        known[key] = files.weights_hash()
        with suppress(OSError, CannotWrite):
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(known))
    return str(known[key])
