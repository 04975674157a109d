"""All that one page works on: videos, labels, models, trainings; and the threads on which it does.

One thread answers questions, for the index is its; one does heavy work, a piece at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stopcli.errors import InputError, StopError, UsageError
from stopcli.fileio import is_folder
from stopcli.index.sync import Update, absolute
from stopcli.model.files import ModelFiles
from stopcli.tasks.labelling.memory import LabelMemory
from stopcli.tasks.labelling.rows import Labelled, Place, checked_label, is_none, place_of
from stopcli.tasks.labelling.table import LabelTable
from stopcli.web.work.adapting import Adapting, advise, require_clips
from stopcli.web.work.archive import Archive, is_other
from stopcli.web.work.footage import Footage
from stopcli.web.work.jobs import Job, Jobs
from stopcli.web.work.media import Media, forget_old
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

    def picture(self, name: str | None) -> Path | None:
        """Return a picture that was sent; raises UsageError if it is gone."""
        if name is None:
            return None
        file = self.cache / "page" / "pictures" / name
        if not file.is_file():
            raise UsageError("that picture is gone; drop it in again")
        return file


class _Order:
    """The labels to choose from: each keeps its place, and so its key, whatever is labelled."""

    def __init__(self, given: Sequence[str], known: Sequence[str]) -> None:
        self.names: list[str] = []
        self._answers: list[tuple[list[str], list[str]] | None] = []  # names before and after, of a renaming
        self.add(map(checked_label, given))
        self.add(known)

    def forget_answers(self) -> None:
        """Take no answer back any more."""
        self._answers.clear()

    def add(self, names: Iterable[str]) -> None:
        self.names += [name for name in dict.fromkeys(names) if name not in self.names]

    def answered(self) -> None:
        self._answers.append(None)

    def renamed(self, old: str, new: str) -> None:
        before = list(self.names)
        self.names = list(dict.fromkeys(new if name == old else name for name in before))
        self._answers.append((before, list(self.names)))

    def undo(self) -> bool:
        """Take the names of a renaming back; say whether there was one."""
        renamed = self._answers.pop() if self._answers else None
        if renamed is not None:
            before, after = renamed
            self.names = [*before, *(n for n in self.names if n not in {*before, *after})]
        return renamed is not None


class Workspace:
    """What is done for the page; every method may be called from any thread."""

    def __init__(
        self, footage: Footage, table: LabelTable, model: str, models: Models, settings: Settings
    ) -> None:
        self.footage, self.table, self.settings = footage, table, settings
        self.media = Media(settings.cache / "page")
        self.jobs = Jobs()
        self.adapting = Adapting(table.path)
        self._models = models
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="stopcli-index")
        self.lock, self._opening = threading.RLock(), threading.Lock()
        self._memory = LabelMemory(table.path)
        if self._memory.table != table.sha256:  # which rows others have changed, nobody knows
            table.edited = {row.path for row in table.rows}
        self._order = _Order(settings.labels, self._memory.names)
        self._archives: dict[str, Archive] = {}
        self.trained: dict[str, str] = {}  # the open model of a training, by its name
        self.taken = settings.cache / "page" / "taken"  # what waits to be fetched
        self.base = str(Path(model).resolve()) if is_folder(Path(model)) else model  # of trainings
        forget_old(self.taken)
        self.model = model  # until its index is open
        self.model = self.add_model(model)

    def add_model(self, name: str) -> str:
        """Open a model's index, and bring it up to date as heavy work; return the model's name."""
        files = self._models.find(name)
        with self._opening:  # two may ask for one
            if files.title not in self._archives:
                s = self.settings
                load = partial(self._models.load, files)
                opened = partial(Archive, self.footage, files, load, s.index, s.window)
                archive = opened(precision=s.precision, frames=s.frames, follow=self._follow, done=self._rest)
                self.on_lane(archive.open)
                self._lane.submit(archive.warm)
                self._archives[files.title] = archive
                self._index(archive)
        return files.title

    def use(self, name: str) -> None:
        """Answer with a model from now on; raises UsageError if it is not open."""
        self.archive(name)
        self.model = name
        self._rest()

    def _rest(self) -> None:
        """Free the memory of models that are neither the first one nor in use: these are compared."""
        for title in set(self.models[1:]) - {self.model}:
            self._lane.submit(self._archives[title].release)

    @property
    def models(self) -> list[str]:
        """The models that are open, the first one first."""
        return list(self._archives)

    def archive(self, name: str | None = None) -> Archive:
        """Return what a model sees; raises UsageError if it is not open."""
        if (found := self._archives.get(name or self.model)) is not None:
            return found
        raise UsageError(f"the model {name!r} is not open; those that are: {', '.join(self._archives)}")

    def _follow(self, update: Update) -> None:
        """Have labels follow their footage, before the index forgets where it was."""
        with self.lock, suppress(StopError):  # of a table that cannot be used now: what is remembered stays
            present = {path: record.content for path, record in update.diff.present.items()}
            roots = [Path(absolute(path)) for path in self.footage.roots]
            seen = [row.path for row in self.rows()], present, update.diff.before, update.diff.changed, roots
            moves = self._memory.moves(*seen, self.table.edited, partial(is_other, update))
            followed = self.table.follow(*moves)
            if followed or self._memory.differs(set().union(*self.table.undoable), present):
                self.table.forget()
                self._order.forget_answers()
            self.table.edited.clear()
            self._memory.look({row.path for row in self.table.rows}, present)
            self._memory.keep(self.labels(), self.table.left)

    def rescan(self) -> list[dict[str, Any]]:
        """Look for new videos, and embed them as heavy work with every model that is open."""
        return [self._index(archive).to_dict() for archive in self._archives.values()]

    def _index(self, archive: Archive) -> Job:
        return self.jobs.start(f"indexing with {archive.files.title}", archive.refresh)

    def on_lane(self, work: Callable[[], Result]) -> Result:
        """Do something with an index, on the thread that it belongs to."""
        future: Future[Result] = self._lane.submit(work)
        return future.result()

    def labels(self) -> list[str]:
        """Return the labels there are, those given first; the one for none of them is left out."""
        with self.lock:
            self._order.add(sorted(self.table.counts()))
            return [name for name in self._order.names if not is_none(name)]

    def add_label(self, name: str) -> list[str]:
        """Add a label to choose from; return all of them."""
        with self.lock:
            self._order.add([checked_label(name)])
            self._memory.keep(self.labels(), self.table.left)
            return self.labels()

    def rename(self, old: str, new: str) -> list[str]:
        """Call by another label all that has this one; return all labels."""
        with self.lock:
            self.labels()
            name = new if new in self._order.names else checked_label(new)
            self.table.put({row.place: name for row in self.rows() if row.label == old})
            self._order.renamed(old, name)
            self._memory.keep(self.labels(), self.table.left)
            return self.labels()

    def judge(self, answers: Mapping[str, str | None]) -> None:
        """Call moments by labels; it is on the disk when this returns."""
        with self.lock:
            self.labels()
            for file in {split_id(moment)[0] for moment, label in answers.items() if label}:
                self.archive().view.check_same(self.footage.path_of(file))
            self.table.put(_answered(self, answers))
            self._order.answered()
            counts = self.table.counts()
            self._order.add(label for label in answers.values() if label and label in counts)
            self._memory.keep(self.labels(), self.table.left)

    def _place(self, moment: str) -> Place:
        """Return where a moment stands in the table."""
        file, start, end = split_id(moment)
        return _place_in(self.table, self.media, self.footage.path_of(file), start, end)

    def label_of(self, moment: str) -> str | None:
        """Return what the moment of an id is called."""
        return self.table.label_of(*self._place(moment))

    def undo(self) -> list[str]:
        """Take the last answers back that changed anything; return the moments that they were of."""
        back: list[Labelled] = []
        with self.lock:
            while paths := self.table.undoable:
                for path in paths[-1]:
                    self.archive().view.check_same(path)
                idle, back = self.table.idle, self.table.undo()
                if self._order.undo() or not idle:
                    break
            self._memory.keep(self.labels(), self.table.left)
        return [moment_id(Footage.id_of(r.path), r.start or 0.0, r.end or 0.0) for r in back]

    def rows(self) -> list[Labelled]:
        """Return what is labelled, as the table says now."""
        with self.lock:
            self.table.refresh()
            return self.table.rows

    def train(self, options: Sequence[str] = ()) -> dict[str, Any]:
        """Begin a training from the labels as they are, of the first model, once no other work runs."""
        gone = {"gone": require_clips(self.rows())}
        given = [*self.settings.training, *options]
        if not self.jobs.busy():
            return self.adapting.start(self.base, given).to_dict() | gone

        def start(_: Job) -> dict[str, str]:
            return {"name": self.adapting.start(self.base, given).name}

        return self.jobs.start("starting the training", start).to_dict() | gone

    def status(self) -> dict[str, Any]:
        """Return what changes while nobody asks: work, trainings, labels."""
        problem = None
        try:
            self.rows()
        except InputError as error:  # somebody is editing it
            problem = str(error)
        archive, counts = self.archive(), self.table.counts()
        advice = advise(counts)
        return {
            "model": self.model,
            "models": self.models,
            "videos": len(self.footage),
            "moments": archive.size,
            "failures": [f.message for f in archive.failures[:100]],
            "labels": self.labels(),
            "counts": dict(counts),
            "advice": {"ready": advice.ready, "more": advice.more, "words": advice.words},
            "jobs": self.jobs.listing(),
            "runs": [run.to_dict() | {"loss": [], "score": []} for run in self.adapting.runs()],
            "table": str(self.table.path),
            "sha256": self.table.sha256,
            "problem": problem,
        }

    def close(self) -> None:
        """Call off heavy work, and give the index back; trainings go on."""
        self.jobs.close()
        for archive in self._archives.values():
            self.on_lane(archive.close)
        self._lane.shutdown(wait=False, cancel_futures=True)


def _answered(space: Workspace, answers: Mapping[str, str | None]) -> dict[Place, str | None]:
    """Return the places in the table that answers are about."""
    gone = {space._place(moment) for moment, label in answers.items() if label is None}
    trimmed = {place[0] for place in gone}  # their moments are not where they were, however near
    places: dict[Place, str | None] = dict.fromkeys(gone)
    for moment, label in answers.items():
        if label is not None:
            place, here = space._place(moment), _exactly(space, moment)
            places[here if place[0] in trimmed or place in places else place] = label
    return places


def _exactly(space: Workspace, moment: str) -> Place:
    file, start, end = split_id(moment)
    return place_of(space.footage.path_of(file), start, end)


def _place_in(table: LabelTable, media: Media, path: Path, start: float, end: float) -> Place:
    """Return where a moment stands in a table: a row may lack a start of 0, or the end, or be rounded."""
    for begin in (start, None) if start == 0 else (start,):
        if table.label_of(path, begin, end) is not None:
            return path, begin, end
        if table.label_of(path, begin, None) is not None and media.is_end(path, end):
            return path, begin, None
    place = place_of(path, start, end)
    return table.near(place) or place
