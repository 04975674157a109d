"""The videos as one model sees them: an index kept warm.

Files are looked at by `refresh` alone, as heavy work of its own. R rows of the index, E embedding size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import UsageError
from stopcli.index.engine import SearchEngine
from stopcli.index.ranking import Selection, select
from stopcli.index.sync import Update
from stopcli.index.types import Filters, Progress, SearchRequest, Vectors
from stopcli.model.files import ModelFiles
from stopcli.results import Failure
from stopcli.web.work.jobs import Job
from stopcli.web.work.library import Library
from stopcli.web.work.question import Moment, Question, moment_id

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

PEEK = 6.0  # seconds between looks at an index that is being made

Ints = NDArray[np.int64]
Meter = Callable[[int], AbstractContextManager[Progress]]


class Archive:
    """An index and a model, for one thread that answers and one that works."""

    def __init__(
        self,
        library: Library,
        files: ModelFiles,
        load: Callable[[], Encoder],
        index: Path,
        window: float,
        *,
        precision: str | None = None,
        frames: int | None = None,
    ) -> None:
        self.library, self.files, self.window = library, files, window
        self._load, self._index, self._precision, self._frames = load, index, precision, frames
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._quick: SearchEngine | None = None
        self._selections: dict[tuple[object, ...], Selection] = {}
        self.update: Update | None = None
        self.failures: tuple[Failure, ...] = ()

    @property
    def encoder(self) -> Encoder:
        """The model, loaded once."""
        with self._loading:
            if self._encoder is None:
                self._encoder = self._load()
            return self._encoder

    def _engine(self, progress: Meter = lambda _: nullcontext(lambda *_: None)) -> SearchEngine:
        return SearchEngine(
            self._index,
            self.files,
            lambda: self.encoder,
            precision=self._precision,
            frames=self._frames,
            progress=progress,
        )

    @property
    def engine(self) -> SearchEngine:
        """The engine of the thread that answers."""
        if self._quick is None:
            self._quick = self._engine()
        return self._quick

    def open(self) -> int:
        """Take what the index knows already, without embedding; return how many files are missing."""
        update = self.engine.plan(self.library.scan(), self.library.roots, self.window)
        self._take(update)
        self.failures = update.diff.failures  # what is missing still waits for its turn
        return len(update.todo)

    def warm(self) -> None:
        """Make what every first question needs: the text tower, and sentences to compare with."""
        asked = self.engine.ask(SearchRequest(("a video",)))
        self.engine.compared(asked, self.state.state, self.selection())

    def refresh(self, job: Job) -> dict[str, int]:
        """Bring the index up to date with the folders, on the thread that works."""

        @contextmanager
        def progress(total: int) -> Iterator[Progress]:
            done, seen = 0, time.monotonic()

            def step(path: object, *_: object, **__: object) -> None:
                nonlocal done, seen
                done += 1
                job.report(min(done, total), total, f"{path}")
                if time.monotonic() - seen > PEEK:
                    with self._engine() as other:
                        update = other.plan(videos, self.library.roots, self.window)
                    self._take(update)
                    self.failures = update.diff.failures
                    seen = time.monotonic()

            job.report(0, total, "loading the model")
            yield step

        videos = self.library.scan()
        with self._engine(progress) as engine:
            update = engine.update(videos, self.library.roots, self.window)
        self._take(update)
        return {"embedded": update.embedded, "failed": len(update.failures)}

    def _take(self, update: Update) -> None:
        self._selections = {}
        self.failures = update.failures
        self.update = update

    def selection(self, question: Question | None = None) -> Selection:
        """Return the files that may answer a question; all, if there is none."""
        q = question or Question()
        update = self.state
        key = (id(update), q.glob, q.min_duration, q.max_duration)
        if key not in self._selections:
            filters = Filters(glob=q.glob, min_duration=q.min_duration, max_duration=q.max_duration)
            self._selections[key] = select(update.diff, update.state, filters)
        return self._selections[key]

    @property
    def state(self) -> Update:
        """The files and the index as they were last looked at."""
        if self.update is None:
            raise UsageError("the index is not open yet; wait a moment")
        return self.update

    @property
    def matrix(self) -> Vectors:
        """All vectors (R,E)."""
        return np.asarray(self.state.state.vectors)

    @property
    def size(self) -> int:
        """How many moments can be found."""
        return int(self.selection().count.sum())

    def rows_of(self, path: str | Path, start: float | None, end: float | None) -> Ints:
        """Return the rows of windows whose middle lies in a stretch of a file; none if it is not indexed."""
        selection, name = self.selection(), Library.id_of(path)
        file = self._places.get(name)
        if file is None:
            return np.zeros(0, np.int64)
        spans = np.array(selection.spans(file, 0, int(selection.count[file]) - 1))
        middle = spans.mean(1)
        inside = (middle >= (start or 0.0)) & (middle <= (np.inf if end is None else end))
        if not inside.any() and start is not None:  # shorter than a window: the one that it lies in
            inside = (spans[:, 0] <= start) & (start < spans[:, 1])
        rows: Ints = np.flatnonzero(inside) + int(selection.first[file])
        return rows

    @property
    def _places(self) -> dict[str, int]:
        """The place in the selection of each file's id."""
        key = ("places", id(self.update))
        if key not in self._selections:
            paths = self.selection().paths
            self._selections[key] = {Library.id_of(p): i for i, p in enumerate(paths)}  # type: ignore[assignment]
        return self._selections[key]  # type: ignore[return-value]

    def moment_of(self, row: int, score: float) -> Moment:
        """Return the window that a row is of."""
        selection = self.selection()
        file = int(np.searchsorted(selection.first, row, "right")) - 1
        place = row - int(selection.first[file])
        ((start, end),) = selection.spans(file, place, place)
        return self.moment(selection.paths[file], start, end, score)

    def moment(self, path: str, start: float | None, end: float | None, score: float) -> Moment:
        """Return a stretch of a file as the page knows it."""
        file, begin, stop = Library.id_of(path), start or 0.0, end or 0.0
        return Moment(
            id=moment_id(file, begin, stop), file=file, path=path, start=begin, end=stop, score=score
        )

    def close(self) -> None:
        """Give the index back; to be called by the thread that answers."""
        if self._quick is not None:
            self._quick.index.close()
            self._quick = None
