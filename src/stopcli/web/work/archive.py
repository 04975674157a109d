"""The videos as one model sees them: an index kept warm.

Files are looked at by `Archive.refresh` alone, as heavy work. R rows of the index, E embedding size.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError, UsageError
from stopcli.index.engine import SearchEngine
from stopcli.index.selection import Selection, select
from stopcli.index.sync import Update, absolute, is_unchanged
from stopcli.index.types import Filters, Progress, SearchRequest, Vectors
from stopcli.model.files import ModelFiles
from stopcli.results import Failure
from stopcli.video.workers.pool import read_facts
from stopcli.web.work.footage import Footage
from stopcli.web.work.jobs import Job
from stopcli.web.work.question import Moment, Question, moment_id

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

LENGTH = 0.2  # seconds by which two films differ in length, if they are not the same one
PEEK = 6.0  # seconds between looks at an index that is being made, at least
SHARE = 0.1  # of the time, at most, goes into them
SELECTIONS = 8  # of the last filters

Ints = NDArray[np.int64]
Meter = Callable[[int], AbstractContextManager[Progress]]


class View:
    """One state of an archive, which never changes: a question is answered from one view."""

    def __init__(self, update: Update, window: float) -> None:
        self.state = update.state
        self.matrix: Vectors = np.asarray(update.state.vectors)  # (R,E)
        self._update, self._window = update, window
        self._contents = {Footage.id_of(path): record.content for path, record in update.diff.present.items()}
        self._spans: dict[str, NDArray[np.float64]] = {}  # by content: (n,2) seconds of its windows
        self._selections: OrderedDict[tuple[object, ...], Selection] = OrderedDict()
        self.size = int(self.selection().count.sum())

    def selection(self, q: Question | None = None) -> Selection:
        """Return the files that may answer a question; all, if there is none."""
        key = (None, None, None) if q is None else (q.glob, q.min_duration, q.max_duration)
        if key not in self._selections:
            glob, shortest, longest = key
            filters = Filters(glob=glob, min_duration=shortest, max_duration=longest)
            self._selections[key] = select(self._update.diff, self.state, filters)
            while len(self._selections) > SELECTIONS:
                self._selections.popitem(last=False)
        return self._selections[key]

    def rows_of(self, file: str, start: float | None, end: float | None) -> Ints:
        """Return the rows of windows whose middle lies in a stretch of a file; none if it is not indexed."""
        content = self._contents.get(file, "")
        entry, space = self.state.entries.get(content), self.state.space
        if entry is None or space is None:
            return np.zeros(0, np.int64)
        if content not in self._spans:
            self._spans[content] = np.array(list(entry.spans(self._window, shots=space.shots)))
        spans = self._spans[content]
        middle = spans.mean(1)
        inside = (middle >= (start or 0.0)) & (middle <= (np.inf if end is None else end))
        if not inside.any() and start is not None:  # shorter than a window: the one that it lies in
            inside = (spans[:, 0] <= start) & (start < spans[:, 1])
        rows: Ints = np.flatnonzero(inside) + entry.first
        return rows

    def moment_of(self, row: int, score: float, selection: Selection) -> Moment:
        """Return the window that a row is of, in the file that stands for it in a selection."""
        file = int(np.searchsorted(selection.first, row, "right")) - 1
        place = row - int(selection.first[file])
        ((start, end),) = selection.spans(file, place, place)
        return moment(selection.paths[file], start, end, score)

    def files(self) -> list[str]:
        """Return the ids of all files."""
        return list(self._contents)

    def check_same(self, path: Path) -> None:
        """Raise UsageError if a file is not the one that was looked at."""
        record = self._update.diff.present.get(Path(absolute(path)))
        if record is not None and not is_unchanged(path, record, failed=True):
            raise UsageError(f"{path.name}: has changed since the page looked; look for new videos first")

    def content_of(self, file: str) -> str | None:
        """Return the key of a file's content."""
        return self._contents.get(file)


def moment(path: str, start: float | None, end: float | None, score: float) -> Moment:
    """Return a stretch of a file as the page knows it."""
    file, begin, stop = Footage.id_of(path), start or 0.0, end or 0.0
    return Moment(id=moment_id(file, begin, stop), file=file, path=path, start=begin, end=stop, score=score)


def is_other(update: Update, path: Path, before: str) -> bool:
    """Say whether a file is of another length than what lay there before; an edited film keeps its own.

    ``before`` is the content that the index knew there. What nobody knows the length of is no other.
    """
    entries, record = update.state.entries, update.diff.present[path]
    if (old := entries.get(before)) is None:
        return False
    if (new := entries.get(record.content)) is not None:
        return abs(new.duration - old.duration) > LENGTH
    with suppress(InputError):
        facts = read_facts(path)
        return min(abs(seconds - old.duration) for seconds in (facts.duration, facts.end)) > LENGTH
    return False


class Archive:
    """An index and a model, for one thread that answers and one that works."""

    def __init__(
        self,
        footage: Footage,
        files: ModelFiles,
        load: Callable[[], Encoder],
        index: Path,
        window: float,
        *,
        precision: str | None = None,
        frames: int | None = None,
        follow: Callable[[Update], None] = lambda _: None,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self.footage, self.files, self.window = footage, files, window
        self._load, self._index, self._precision, self._frames = load, index, precision, frames
        self._follow = follow  # is given what has changed in the folders
        self._done = done  # is called when the index is up to date
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._quick: SearchEngine | None = None
        self._view: View | None = None
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

    @property
    def view(self) -> View:
        """The files and the index as they were last looked at."""
        if self._view is None:
            raise UsageError("the index is not open yet; wait a moment")
        return self._view

    @property
    def size(self) -> int:
        """How many moments can be found."""
        return 0 if self._view is None else self._view.size

    def open(self) -> None:
        """Take what the index knows already, without embedding."""
        self._peek(self.engine, self.footage.scan())

    def warm(self) -> None:
        """Make what every first question needs: the text tower, and sentences to compare with."""
        asked = self.engine.ask(SearchRequest(("a video",)))
        self.engine.compared(asked, self.view.state, self.view.selection())

    def refresh(self, job: Job) -> dict[str, int]:
        """Bring the index up to date with the folders, on the thread that works."""
        videos = self.footage.scan()

        @contextmanager
        def progress(total: int) -> Iterator[Progress]:
            done, due = 0, time.monotonic() + PEEK

            def step(path: object, until: float | None = None) -> None:
                nonlocal done, due
                done += until is None  # a file is done; else it is read up to a time
                job.report(done, total, f"{path}")
                if (began := time.monotonic()) >= due:
                    with self._engine() as other:
                        self._peek(other, self.footage.scan())  # names may have changed since
                    due = time.monotonic() + max(PEEK, (time.monotonic() - began) / SHARE)

            job.report(0, total, "loading the model")
            yield step

        with self._engine(progress) as engine:
            # before the index forgets where they were
            self._follow(engine.plan(videos, self.footage.roots, self.window))
            update = engine.update(videos, self.footage.roots, self.window)
        self._view, self.failures = View(update, self.window), update.failures
        self._done()
        return {"embedded": update.embedded, "failed": len(update.failures)}

    def _peek(self, engine: SearchEngine, videos: list[Path]) -> None:
        """Look at the index as it is; what is missing still waits for its turn."""
        update = engine.plan(videos, self.footage.roots, self.window)
        self._follow(update)
        self._view, self.failures = View(update, self.window), update.diff.failures

    def release(self) -> None:
        """Free the memory of the model, which is loaded again when it is asked; otherwise as `close`."""
        self.close()
        with self._loading:
            self._encoder = None

    def close(self) -> None:
        """Give the index back; to be called by the thread that answers."""
        if self._quick is not None:
            self._quick.index.close()
            self._quick = None
