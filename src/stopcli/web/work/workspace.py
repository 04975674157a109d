"""All that one page works on: videos, labels, models, trainings; and the threads on which it does.

One thread answers questions, for the index is its; one does heavy work, a piece at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stopcli.errors import UsageError
from stopcli.model.files import ModelFiles
from stopcli.tasks.labelling import LabelTable, checked_label, is_none
from stopcli.web.work.adapting import Adapting, advise
from stopcli.web.work.archive import Archive
from stopcli.web.work.jobs import Job, Jobs
from stopcli.web.work.library import Library
from stopcli.web.work.media import Media
from stopcli.web.work.question import moment_id, split_id

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

Result = TypeVar("Result")


@dataclass(frozen=True)
class Models:
    """Where models come from: found by name, and loaded."""

    find: Callable[[str], ModelFiles]
    load: Callable[[ModelFiles], Encoder]


@dataclass
class Settings:
    """What a page is opened with."""

    index: Path
    cache: Path
    window: float = 8.0
    precision: str | None = None
    frames: int | None = None
    labels: tuple[str, ...] = ()
    query: str = ""
    training: tuple[str, ...] = ()  # options of `stop finetune`
    side: str = "search"  # or label
    failures: list[str] = field(default_factory=list)


class Workspace:
    """What is done for the page; every method may be called from any thread."""

    def __init__(
        self, library: Library, table: LabelTable, model: str, models: Models, settings: Settings
    ) -> None:
        self.library, self.table, self.settings = library, table, settings
        self.media = Media(settings.cache / "page")
        self.jobs = Jobs()
        self.adapting = Adapting(table.path)
        self._models = models
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="stopcli-index")
        self.lock = threading.RLock()
        self._labels = list(dict.fromkeys(map(checked_label, settings.labels)))
        self._archives: dict[str, Archive] = {}
        self.trained: dict[str, str] = {}  # the open model of a training, by its name
        self.base = model  # what trainings start from
        self.model = self.add_model(model)

    def add_model(self, name: str) -> str:
        """Open a model's index, and bring it up to date as heavy work; return the model's name."""
        files = self._models.find(name)
        with self.lock:
            if files.title in self._archives:
                return files.title
            s = self.settings
            archive = Archive(
                self.library,
                files,
                lambda: self._models.load(files),
                s.index,
                s.window,
                precision=s.precision,
                frames=s.frames,
            )
            self.on_lane(archive.open)
            self._lane.submit(archive.warm)
            self._archives[files.title] = archive
        self.rescan(files.title)
        return files.title

    def use(self, name: str) -> None:
        """Answer with a model from now on; raises UsageError if it is not open."""
        self.archive(name)
        self.model = name

    @property
    def models(self) -> list[str]:
        """The models that are open, the first one first."""
        return list(self._archives)

    def archive(self, name: str | None = None) -> Archive:
        """Return what a model sees; raises UsageError if it is not open."""
        try:
            return self._archives[name or self.model]
        except KeyError:
            raise UsageError(
                f"the model {name!r} is not open; those that are: {', '.join(self._archives)}"
            ) from None

    def rescan(self, name: str | None = None) -> Job:
        """Look for new videos, and embed them as heavy work."""
        archive = self.archive(name)
        return self.jobs.start(f"indexing with {archive.files.title}", archive.refresh)

    def on_lane(self, work: Callable[[], Result]) -> Result:
        """Do something with an index, on the thread that it belongs to."""
        future: Future[Result] = self._lane.submit(work)
        return future.result()

    def labels(self) -> list[str]:
        """Return the labels there are, those given first; the one for none of them is left out."""
        with self.lock:
            found = sorted(self.table.counts())
            return [name for name in dict.fromkeys([*self._labels, *found]) if not is_none(name)]

    def add_label(self, name: str) -> list[str]:
        """Add a label to choose from; return all of them."""
        with self.lock:
            self._labels = list(dict.fromkeys([*self._labels, checked_label(name)]))
            return self.labels()

    def judge(self, moments: Sequence[str], label: str | None) -> None:
        """Call moments by a label; it is on the disk when this returns."""
        places = []
        for moment in moments:
            file, start, end = split_id(moment)
            places.append((self.library.path_of(file), start, end))
        with self.lock:
            self.table.put(places, label)
            if label is not None and not is_none(label):
                self.add_label(label)

    def undo(self) -> list[str]:
        """Take the last answer back; return the moments that it was of."""
        with self.lock:
            back = self.table.undo()
        return [moment_id(Library.id_of(r.path), r.start or 0.0, r.end or 0.0) for r in back]

    def train(self, options: Sequence[str] = ()) -> str:
        """Begin a training from the labels as they are, of the first model; return its name."""
        advice = advise(dict(self.table.counts()))
        if not advice.ready:
            raise UsageError(advice.words)
        return self.adapting.start(self.base, [*self.settings.training, *options]).name

    def picture(self, name: str | None) -> Path | None:
        """Return a picture that was sent; raises UsageError if it is gone."""
        if name is None:
            return None
        file = self.settings.cache / "page" / "pictures" / name
        if not file.is_file():
            raise UsageError("that picture is gone; drop it in again")
        return file

    def status(self) -> dict[str, Any]:
        """Return what changes while nobody asks: work, trainings, labels."""
        with self.lock:
            self.table.refresh()
            counts = dict(self.table.counts())
        archive, advice = self.archive(), advise({k: v for k, v in counts.items()})
        return {
            "model": self.model,
            "models": self.models,
            "videos": len(self.library),
            "moments": archive.size if archive.update is not None else 0,
            "failures": [f.message for f in archive.failures[:100]],
            "labels": self.labels(),
            "counts": counts,
            "advice": {"ready": advice.ready, "more": advice.more, "words": advice.words},
            "jobs": self.jobs.listing(),
            "runs": [run.to_dict() | {"loss": [], "score": []} for run in self.adapting.runs()],
            "table": str(self.table.path),
        }

    def close(self) -> None:
        """Call off heavy work, and give the index back; trainings go on."""
        self.jobs.close()
        for archive in self._archives.values():
            self.on_lane(archive.close)
        self._lane.shutdown(wait=False, cancel_futures=True)
