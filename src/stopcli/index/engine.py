"""Searching videos: an index brought up to date, a model loaded only if it must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stopcli.data.labels import null_sentences, prompts_for
from stopcli.errors import FileMissing, IndexBusy, IndexUnusable, StopError, UnreadableVideo, UsageError
from stopcli.fileio import content_key, is_file, is_folder
from stopcli.index import sync
from stopcli.index.maintenance import forget_lost, lost_spaces
from stopcli.index.ranking import Near, compared, search, together, unlike_the_rest
from stopcli.index.scale import ann
from stopcli.index.selection import Selection, select
from stopcli.index.store import Index
from stopcli.index.sync import LOST, FileDiff, Update
from stopcli.index.types import (
    Asked,
    Example,
    Filters,
    Paths,
    Progress,
    Query,
    Say,
    SearchRequest,
    SearchResult,
    Snapshot,
    Space,
)
from stopcli.index.vectors import UNIT
from stopcli.model.files import ModelFiles
from stopcli.results import MOST_TEXT, Failure, Hit
from stopcli.runtime.head import Head, head_of
from stopcli.runtime.text import TextEncoder, check_texts
from stopcli.video.clips import READER
from stopcli.video.cut.shots import SIGHT, STEP, shot_at
from stopcli.video.workers.pool import read_facts, read_frames, read_photo, read_pictures

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


TORN = "files lost their vectors with the end of the file that held them; embedding again"
KEPT = "; vectors are kept until 'stop index compact'"
OTHERS = "; the vectors of others are kept (stop index info)"
KNOWN = (" is known, and left out: stop index ls", "s are known, and left out: stop index ls")


class SearchEngine(AbstractContextManager["SearchEngine"]):
    """An index and a model, ready to search; ``load_encoder`` is called only if something must be embedded.

    ``precision`` None takes what the index has, or what the device is fast at; ``frames`` of each window,
    None is the model's own; ``cuts`` says whether windows end at cuts, None: unless the index has others;
    ``wait`` seconds for another writer; ``say`` gets a message before slow work; ``progress``, given how
    many files will be embedded, yields what to call with each path.
    Raises IndexUnusable: the folder holds no index that can be used, or cannot hold one.
    """

    def __init__(
        self,
        folder: Path,
        files: ModelFiles,
        load_encoder: Callable[[], Encoder],
        *,
        precision: str | None = None,
        frames: int | None = None,
        cuts: bool | None = None,
        wait: float = 600.0,
        say: Say = lambda _: None,
        progress: Callable[[int], AbstractContextManager[Progress]] = lambda _: nullcontext(lambda *_: None),
    ) -> None:
        self._files, self._load, self._precision = files, load_encoder, precision
        self._frames = frames or files.config.frames
        self._say, self._progress, self._cuts = say, progress, cuts
        self._texts, self._words = TextEncoder(files), files.text_key()
        self.index, self._held = Index(folder, wait=wait, say=say), precision
        self._plain = self._weights = files.video_key(READER)
        self._once = cache(say)  # notes that are said once
        self._refused: set[str | None] = set()  # precisions that this device does not compute in
        self._graph: tuple[tuple[str, int], ann.ANNIndex] | None = None

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @property
    def space_key(self) -> str:
        """The weights, and how they see frames, as a space has it."""
        return self._weights

    @property
    def settings(self) -> list[object]:
        """What makes vectors those of this engine."""
        return [self._plain, self._frames]

    def _choose(self, diff: FileDiff, window: float | None) -> None:
        """Choose windows that end at cuts or that do not, and a precision: files go on as they began."""
        cuts = self._cuts is not False and window is not None
        keys = sync.keys_of(self.index.database.spaces(), self._plain, cuts=cuts, auto=self._cuts is None)
        how = self._precision, self._frames, window
        space, known = sync.best_known(self.index.database, keys, *how, diff.contents())
        again = space is None or not known or (space.shots and diff.present)  # older cuts are made again
        self._weights = keys[-1] if again or space is None else space.weights
        self._held = self._precision if space is None else space.precision

    def plan(self, videos: Paths, roots: Paths, window: float | None) -> Update:
        """Return how files, and folders that were walked whole, differ from the index; change nothing."""
        diff = sync.compare(self.index.database, videos, roots)
        self._choose(diff, window)
        return Update(diff, self._snapshot(diff, window, self._held))

    def update(self, videos: Paths, roots: Paths, window: float | None) -> Update:
        """Make the index agree with the files, or raise IndexBusy, CannotWrite or ModelError."""
        database = self.index.database
        if lost_spaces(self.index):
            self._say(f"note: {forget_lost(self.index)} {TORN}")
        version = database.version()
        plan = self.plan(videos, roots, window)
        sync.say_what_is_away(plan.diff, self._once)
        if not plan.todo:
            return _noted(self.index, plan, version, self._say)
        with self.index.writing():
            if database.version() != version:  # another process wrote since the files were looked at
                plan = self.plan(videos, roots, window)
            _say_what_is_gone(plan.diff, self._say)
            if not plan.todo:
                sync.settle(database, plan.diff, ())
                return plan
            encoder = self._encoder
            if self._held not in self._refused and not _go_on_in(encoder, self._held, self._once):
                self._refused.add(self._held)
            key = (self._files.title, self._weights, encoder.precision, self._frames, window)
            space = database.make_space(Space(*key, encoder.embed_dim))
            todo = plan.diff.missing(self._snapshot(plan.diff, window, space.precision))
            sync.settle(database, plan.diff, todo)
            if not space.rows and any(other.rows for other in database.spaces()):
                self._say(f"note: {len(todo)} files must be embedded for these settings{OTHERS}")
            with self._progress(len(todo)) as progress:
                embedded, passing = sync.embed(self.index, space, plan.diff, todo, encoder, progress)
            state = self._snapshot(plan.diff, window, space.precision)
            return Update(plan.diff, state, embedded, passing, frozenset(todo))

    def _snapshot(self, diff: FileDiff, window: float | None, precision: str | None) -> Snapshot:
        contents = diff.contents() | set(diff.before.values())
        return self.index.snapshot(contents, self._weights, precision, self._frames, window)

    def search(self, request: SearchRequest, videos: Paths, roots: Paths) -> SearchResult:
        """Bring the index up to date with the files, as `update` does, and answer.

        Raises UsageError: a text is empty or no text; InputError: an example cannot be used.
        """
        if not (request.texts or request.examples or request.pictures):
            raise UsageError("nothing to look for: a text, an example or a picture")
        window = None if self._cuts is False else request.window  # else windows cross cuts
        request = request._replace(examples=tuple(_placed(e, window) for e in request.examples))
        asked = self.ask(request)
        update = self.update(videos, roots, request.window)
        selection = select(update.diff, update.state, request.filters)
        names = () if request.combine else tuple(q.name for q in (*asked.written, *asked.seen))
        hits = self.answer(request, asked, update.state, selection)
        return SearchResult(tuple(hits), *_failed(update, roots, request.filters, self._once), names)

    def ask(self, request: SearchRequest) -> Asked:
        """Embed all that a search asks for, a label as it was learned; errors as `search`."""
        asked = [*request.texts, *request.narrow, *request.unlike]
        sentences = [_sentence(text, self._files) for text in asked]
        texts = [q._replace(name=t) for q, t in zip(self._embed(sentences), asked, strict=True)]
        seen = [self._query(example, request.window) for example in request.examples]
        seen += [_picture(path, self._encoder) for path in request.pictures]
        written = [texts.pop(0) for _ in request.texts]
        if not (request.narrow or request.combine):  # there, all are measured alike: by words
            written = _as_learned(written, self._files, self._once)
        narrow = [texts.pop(0) for _ in request.narrow]
        return Asked(tuple(written), tuple(seen), tuple(narrow), tuple(text.vector for text in texts))

    def compared(
        self, asked: Asked, state: Snapshot, selection: Selection, examples: Sequence[Example] = ()
    ) -> Asked:
        """Add to what is asked what else could have been, as `ranking.compared`; raises IndexUnusable."""
        sizes = {q.vector.size for q in (*asked.written, *asked.seen)}
        if state.vectors.size and sizes - {state.vectors.shape[1]}:
            problem = f"{self.index.folder}: its vectors are of another size than the model makes"
            raise IndexUnusable(f"{problem}; see 'stop index check', or name another with --index")
        texts = (
            self._texts.encode(null_sentences(self._files.config)) if asked.written or asked.narrow else None
        )
        keys = [content_key(example.path) for example in examples]
        return compared(asked, texts, state, selection, examples, keys)

    def answer(
        self, request: SearchRequest, asked: Asked, state: Snapshot, selection: Selection
    ) -> list[Hit]:
        """Rank the selected moments of a state of the index by what was asked; look at no file."""
        asked = self.compared(asked, state, selection, request.examples)
        queries = [*asked.written, *asked.seen]
        if request.combine and selection.paths:
            queries = [together(queries)]
        sought = not asked.narrow and any(q.odds is None for q in queries)
        near = self._near(state, selection) if sought else None
        return search(state.vectors, selection, queries, request.filters, asked.unlike, near, asked.narrow)

    def highlights(self, videos: Paths, roots: Paths, window: float | None, filters: Filters) -> SearchResult:
        """Bring the index up to date with the files, and return the moments least like all others."""
        update = self.update(videos, roots, window)
        hits = unlike_the_rest(update.state.vectors, select(update.diff, update.state, filters), filters)
        return SearchResult(tuple(hits), *_failed(update, roots, filters, self._once))

    def _near(self, state: Snapshot, selection: Selection) -> Near | None:
        """Return what finds the rows near a query, where there are so many that looking at all is slow."""
        if state.space is None or selection.count.sum() < ann.LEAST:
            return None
        if not ann.available():
            self._say("note: so large an index is searched faster with: pip install 'stopcli[large]'")
            return None
        key = (state.space.file, len(state.vectors))
        if self._graph is None or self._graph[0] != key:  # loading it takes longer than a search
            file = self.index.folder / f"{state.space.file}.usearch"
            self._graph = key, ann.ANNIndex(file, state.vectors, self._say)
        return self._graph[1].rows

    @cached_property
    def _encoder(self) -> Encoder:
        return self._load()

    def _embed(self, texts: Sequence[str]) -> list[Query]:
        """Return texts embedded: kept ones without a model, new ones by the text tower alone."""
        check_texts(texts, MOST_TEXT)
        database = self.index.database
        sizes = {space.size for space in database.spaces() if space.weights == self._weights}
        kept = database.texts(self._words, texts)
        vectors = {
            text: vector
            for text, vector in kept.items()
            if abs(float(np.linalg.norm(vector)) - 1) < UNIT and (not sizes or vector.size in sizes)
        }
        if new := [text for text in dict.fromkeys(texts) if text not in vectors]:
            fresh = dict(zip(new, self._texts.encode(new), strict=True))
            with suppress(StopError):  # read-only, full or busy: computed again next time
                database.save_texts(self._words, fresh)
            vectors |= fresh
        return [Query(text, vectors[text]) for text in texts]

    def _query(self, example: Example, window: float | None) -> Query:
        start, end = example.span(window)
        frames = read_frames(example.path, self._encoder.frames, self._encoder.framing, start=start, end=end)
        (vector,) = self._encoder.encode_pixels(frames.pixels[None])
        return Query(example.name, vector)


def _noted(index: Index, plan: Update, version: int, say: Say) -> Update:
    """Note where files lie now that are all known; another time, if another process writes, or nobody may."""
    if index.writable and (plan.diff.changed or plan.diff.gone):
        with suppress(IndexBusy), index.writing(wait=0):
            if index.database.version() == version:
                _say_what_is_gone(plan.diff, say)
                sync.settle(index.database, plan.diff, ())
    return plan


def _say_what_is_gone(diff: FileDiff, say: Say) -> None:
    if lost := len(diff.gone) - len(diff.moved):
        say(f"note: {lost} indexed file{LOST[lost > 1]}{KEPT}")


def _go_on_in(encoder: Encoder, held: str | None, say: Say) -> bool:
    """Have the model compute in the precision of the vectors that are there; say whether it can."""
    if held is None or held == encoder.precision:
        return True
    before = encoder.precision
    try:
        encoder.change_precision(held)
        say(f"note: the index holds vectors in {held}, and goes on in it; --precision chooses another")
    except StopError as error:
        say(f"note: the index holds vectors in {held}; new ones are made in {before} ({error})")
        return False
    return True


def _placed(example: Example, window: float | None) -> Example:
    """Return an example with the shot that its time lies in."""
    if not is_file(example.path):
        problem = "is a folder" if is_folder(example.path) else "no such file"
        raise FileMissing(f"{example.path}: {problem}; --like takes one video to look for")
    if example.at is None:
        return example
    end = read_facts(example.path).end
    if example.at >= end:
        problem = f"it ends at {end:.2f} s, but {example.at:.2f} s was wanted"
        raise UnreadableVideo(f"{example.path}: {problem}")
    if window is None:
        return example
    start, stop = max(0.0, example.at - window / 2), example.at + window / 2
    times = [float(t) for t in np.arange(start, min(stop, end), STEP)]
    return example._replace(shot=shot_at(times, read_pictures(example.path, times, SIGHT), example.at))


def _failed(
    update: Update, roots: Paths, filters: Filters, say: Say
) -> tuple[tuple[Failure, ...], tuple[Failure, ...]]:
    """Return the files that cannot be searched, and were to be; and those that are known, and noted only."""
    failures = [f for f in update.failures if f.path is None or filters.fits(f.path)]
    known = update.known_faults(roots)
    if before := [f for f in failures if f.path in known]:
        say(f"note: {len(before)} unreadable file{KNOWN[len(before) > 1]}")
    return tuple(f for f in failures if f.path not in known), tuple(before)


def _sentence(text: str, files: ModelFiles) -> str:
    """Return the sentence that a label of the model was trained in, in capitals or not; else the text."""
    labels = files.config.labels or ()
    same = [label for label in labels if label == text or label.casefold() == text.casefold()]
    return prompts_for([text if text in same else same[0]], files.config)[0] if same else text


def _as_learned(queries: list[Query], files: ModelFiles, say: Say) -> list[Query]:
    """Return queries; those for labels, by what the model learned of them from clips, if it did."""
    head = head_of(files, queries[0].vector.size) if queries else None
    learned = [q.name for q in queries if head and head.knows(q.name)]
    if head is None or not learned:
        return queries
    many = f"the model's {len(head.labels)} labels"
    doubt = (
        ", less where a moment is unlike the label's clips" if head.usual else ", however unlike its clips"
    )
    say(f"note: {', '.join(learned)}: learned from clips; the confidence is its share among {many}{doubt}")
    return [_learned(q, head) if q.name in learned else q for q in queries]


def _learned(query: Query, head: Head) -> Query:
    """Return the query for a label by what was learned of it from clips."""
    at = head.place_of(query.name)

    vector = head.vectors[at] / max(float(np.linalg.norm(head.vectors[at])), 1e-12)
    return query._replace(vector=vector, odds=lambda rows: head.odds(rows, at))


def _picture(path: Path, encoder: Encoder) -> Query:
    """Return a picture as a query: a video of so many frames in which nothing moves."""
    frame = read_photo(path, encoder.framing)
    (vector,) = encoder.encode_pixels(np.stack([frame] * encoder.frames)[None])
    return Query(str(path), vector)
