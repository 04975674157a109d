"""What an index is made of, what a search asks for and answers. n vectors of a file, R of a space, E wide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from stopcli.results import EncodedClip, Failure, Hit
from stopcli.video.cut.shots import PATIENCE

WINDOW = 8.0  # seconds of a window
LONGEST, MAX_SIZE = 1e10, 65_536  # seconds of a film, numbers of a vector
VECTORS = re.compile(r"vectors-\d{1,9}(\.\d{1,9})?\.f32")  # the names of their files: never a path
GAP = 100  # milliseconds between two windows, from which on they do not follow each other
SHOTS_OF_ANY = re.compile(r"-shots\d+$")  # of earlier versions, too
SHOTS = "-shots2"  # ends the key of vectors of windows that end at cuts
Vectors = NDArray[np.float32]
Paths = Sequence[Path]
Say = Callable[[str], object]
Value = TypeVar("Value", str, int, float)
Progress = Callable[..., object]  # with each path that is done; with a time (seconds), how far it has come


@dataclass(frozen=True)
class Space:
    """What vectors must have in common to be compared; ``window`` None is one vector a file."""

    model: str
    weights: str
    precision: str
    frames: int
    window: float | None
    size: int  # E
    id: int = 0
    rows: int = 0  # R
    file: str = ""  # of its vectors; called otherwise after every compaction

    @property
    def shots(self) -> bool:
        """Whether windows end at cuts: each then has its own length, ``window`` at most."""
        return SHOTS_OF_ANY.search(self.weights) is not None


class FileRecord(NamedTuple):
    """A file as the index last saw it; ``content`` is its key, whatever the file is called."""

    size: int
    mtime_ns: int
    content: str


@dataclass(frozen=True)
class Entry:
    """Which rows belong to one content, and its duration in seconds.

    ``numbers`` (count,) says which windows of the file they are; None: the first, and all that follow. Where
    windows end at cuts, it says when each begins, in milliseconds from the first one. The first window begins
    at ``begin`` (seconds). ``ends`` (count,) says in the same way when each ends; None: as the next begins.
    """

    first: int
    count: int
    duration: float
    numbers: tuple[int, ...] | None = None
    begin: float = 0.0
    ends: tuple[int, ...] | None = None

    def spans(self, window: float, *, shots: bool) -> Iterator[tuple[float, float]]:
        """Yield when its windows begin and end, in seconds."""
        numbers = self.numbers or range(self.count)
        return spans_of(numbers, window, self.begin, self.duration, self.ends, shots=shots)


class NewEntry(NamedTuple):
    """A content to add: its duration in seconds, its vectors (n,E); the rest as in Entry."""

    content: str
    duration: float
    vectors: Vectors
    numbers: tuple[int, ...] | None = None
    begin: float = 0.0
    ends: tuple[int, ...] | None = None


class Fault(NamedTuple):
    """Why a content cannot be embedded: the class of the error, and its message."""

    error: str
    message: str


def spans_of(
    numbers: Sequence[int],
    window: float,
    begin: float,
    duration: float,
    ends: Sequence[int] | None = None,
    *,
    shots: bool,
) -> Iterator[tuple[float, float]]:
    """Yield when windows begin and end, in seconds; arguments as in Entry. The last ends with the film."""
    for i, number in enumerate(numbers):
        if i == len(numbers) - 1:
            yield begin + (number / 1000 if shots else number * window), duration
        elif shots and ends is not None:
            yield begin + number / 1000, begin + ends[i] / 1000
        elif shots:
            most = number / 1000 + PATIENCE * window  # vectors of an earlier version have no ends
            yield begin + number / 1000, begin + min(numbers[i + 1] / 1000, most)
        else:
            yield begin + number * window, begin + (number + 1) * window


# faults that may be gone next time: they are not the content's
PASSING = {
    "file-missing",
    "file-changed",
    "decoder-crashed",
    "out-of-memory",
    "read-failed",
    "video-timeout",
    "internal-error",
}


class VideoEncoder(Protocol):
    """What makes the vectors of an index."""

    precision: str
    embed_dim: int

    def encode_videos(
        self, paths: Sequence[str | Path], *, window: float | None, shots: bool, steady: bool
    ) -> Iterator[EncodedClip | Failure]:
        """Embed videos in order; see `stopcli.runtime.encoder.Encoder`."""
        ...


Entries = Mapping[str, Entry]  # by content
Faults = Mapping[str, Fault]  # by content
Files = Mapping[Path, FileRecord]  # by absolute path


class Snapshot(NamedTuple):
    """One state of a space, vectors (R,E); without a space, nothing was ever embedded for these settings."""

    space: Space | None
    entries: Entries
    faults: Faults
    vectors: Vectors


def _nfc(text: str) -> str:
    """Return a text as all systems but macOS spell it."""
    return text if text.isascii() else normalize("NFC", text)


class Filters(NamedTuple):
    """What a hit must be like; durations are seconds of the whole file."""

    top_k: int = 10
    min_score: float | None = None  # cosine
    glob: str | None = None  # of the path as shown; ``*`` matches slashes too: ``*/2021/*``
    min_duration: float | None = None
    max_duration: float | None = None
    per_file: int | None = None  # hits of one file, at most
    fold: bool = True  # copies of a moment in other files are one hit
    away: bool = False  # files that are not there may have hits: what is known of drives that are away

    def take(self, path: str, duration: float) -> bool:
        """Say whether moments of a file may be hits: its path as shown, its seconds."""
        longest = np.inf if self.max_duration is None else self.max_duration
        return self.fits(path) and (self.min_duration or 0.0) <= duration <= longest

    def fits(self, path: str) -> bool:
        """Say whether a path, as shown, or its end matches the pattern."""
        if self.glob is None:
            return True
        whole, glob = _nfc(path), _nfc(self.glob)
        end = "/".join(whole.split("/")[-1 - glob.count("/") :])  # as many of its parts as the pattern has
        return any(fnmatch(name, glob) for name in (whole, f"/{whole}", end))


class Example(NamedTuple):
    """A video, or the moment of it around ``at`` seconds, as a query."""

    path: Path
    at: float | None = None
    shot: tuple[float, float] | None = None  # from where to where the film shows the same around that time

    @property
    def name(self) -> str:
        return str(self.path) if self.at is None else f"{self.path}@{self.at:g}"

    def span(self, window: float | None) -> tuple[float, float] | tuple[None, None]:
        """Return from where to where (seconds) to look; a window long, unless all of it is the example."""
        half = (window or WINDOW) / 2
        if self.at is None:
            return None, None
        return self.shot or (max(0.0, self.at - half), self.at + half)


class SearchRequest(NamedTuple):
    """All that one search wants to know: each text, example and picture is a query of its own."""

    texts: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()  # texts: moments nearer to one of them are no hits
    examples: tuple[Example, ...] = ()
    pictures: tuple[Path, ...] = ()
    narrow: tuple[str, ...] = ()  # texts that hits must fit as well
    combine: bool = False  # all queries are one: what is like all of them
    window: float | None = WINDOW  # seconds; None searches whole files
    filters: Filters = Filters()


class Query(NamedTuple):
    """A text, an example or a picture, by name, and its vector (E,).

    ``nulls`` (M,E) are what else could have been asked. Rows ``without`` are the examples themselves, in
    their ``own`` files. ``odds`` says how much better rows (N,E) fit it than anything else, where that was
    learned: log-odds (N,).
    """

    name: str
    vector: Vectors
    nulls: Vectors | None = None
    without: tuple[int, ...] = ()
    own: tuple[Path, ...] = ()
    odds: Callable[[Vectors], Vectors] | None = None


class Asked(NamedTuple):
    """What a search asks for, embedded: ``seen`` are examples and pictures."""

    written: tuple[Query, ...] = ()
    seen: tuple[Query, ...] = ()
    narrow: tuple[Query, ...] = ()
    unlike: tuple[Vectors, ...] = ()


class SearchResult(NamedTuple):
    """Hits, query by query, best first; the files that cannot be searched; what was asked, each by itself.

    ``known`` are files of folders of which it is known from before that they cannot be.
    """

    hits: tuple[Hit, ...]
    failures: tuple[Failure, ...]
    known: tuple[Failure, ...] = ()
    queries: tuple[str, ...] = ()


def of_kind(kind: type[Value], value: object, least: float = 0, most: float = 4e18) -> Value:
    """Return a value of a database if it is what was written; else ValueError."""
    if type(value) is not kind or (isinstance(value, int | float) and not least <= value < most):
        raise ValueError(f"{str(value)[:40]!r} where a {kind.__name__} was expected")
    return value


def space_of(*row: Any) -> Space:
    """Return a space as its row has it; ValueError for what cannot be."""
    model, weights, precision, frames, window, size, id, rows, file = row
    if not VECTORS.fullmatch(of_kind(str, file)):
        raise ValueError(f"{file[:40]!r} is no file of vectors")
    model, weights, precision = (of_kind(str, v) for v in (model, weights, precision))
    span = None if window is None else of_kind(float, window, 1e-6)
    frames, size, id = (of_kind(int, v, 1) for v in (frames, size, id))
    if size > MAX_SIZE:
        raise ValueError(f"vectors of {size} numbers")
    return Space(model, weights, precision, frames, span, size, id, of_kind(int, rows, 0, 1e12), file)


def record_of(size: object, time: object, content: object) -> FileRecord:
    """Return a file as its row has it; ValueError."""
    return FileRecord(of_kind(int, size), of_kind(int, time, -(2**63), 2**63), of_kind(str, content))


def entry_of(
    first: object, count: object, duration: object, numbers: object, begin: object, ends: object
) -> Entry:
    """Return an entry as its row has it; ValueError."""
    length, start = (of_kind(float, 0.0 if t is None else t, 0, LONGEST) for t in (duration, begin))
    entry = Entry(of_kind(int, first), of_kind(int, count, 1), length, begin=start)
    return replace(entry, numbers=_ascending(numbers, entry.count), ends=_ascending(ends, entry.count))


def row_of(entry: Entry) -> tuple[object, ...]:
    """Return what `entry_of` reads."""
    numbers, ends = (None if n is None else json.dumps(n) for n in (entry.numbers, entry.ends))
    return entry.first, entry.count, entry.duration, numbers, entry.begin, ends


def _ascending(text: object, count: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    numbers = tuple(of_kind(int, n, 0, 1000 * LONGEST) for n in json.loads(of_kind(str, text)))
    if len(numbers) != count or list(numbers) != sorted(set(numbers)):
        raise ValueError(f"{len(numbers)} numbers of {count} windows")
    return numbers
