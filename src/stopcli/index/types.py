"""What an index is made of, and what a search asks for and answers.

Letters: n vectors of one file, R rows of a space, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stopcli.results import Failure, Hit

if TYPE_CHECKING:
    Entries: TypeAlias = "Mapping[str, Entry]"  # by content
    Faults: TypeAlias = "Mapping[str, Fault]"  # by content
    Files: TypeAlias = "Mapping[Path, FileRecord]"  # by absolute path

WINDOW = 8.0  # seconds of a window


@dataclass(frozen=True)
class Space:
    """What vectors must have in common to be compared; ``window`` None is one vector a file."""

    model: str
    weights: str
    precision: str
    frames: int
    window: float | None
    size: int
    """E."""
    id: int = 0
    rows: int = 0
    """R."""
    file: str = ""
    """The name of the file of its vectors; another after every compaction."""


@dataclass(frozen=True)
class FileRecord:
    """A file as the index last saw it; ``content`` is its key, whatever the file is called."""

    size: int
    mtime_ns: int
    content: str


@dataclass(frozen=True)
class Entry:
    """Which rows belong to one content, and its duration in seconds."""

    first: int
    count: int
    duration: float


@dataclass(frozen=True)
class NewEntry:
    """A content to add: its duration in seconds and its vectors (n,E)."""

    content: str
    duration: float
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """Why a content cannot be embedded: the class of the error, and its message."""

    error: str
    message: str


@dataclass(frozen=True)
class Snapshot:
    """One state of a space; without a space, nothing was ever embedded for these settings."""

    space: Space | None = None
    entries: Entries = field(default_factory=dict)
    faults: Faults = field(default_factory=dict)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(R,E)."""


@dataclass(frozen=True)
class Filters:
    """What a hit must be like; seconds, cosines."""

    top_k: int = 10
    min_score: float | None = None
    glob: str | None = None
    """Of the path as shown, ``*`` matches everything: ``*/2021/*``."""
    min_duration: float | None = None
    max_duration: float | None = None
    """Of the whole file."""


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
class Query:
    """A text or an example, by name, and its vector (E,)."""

    name: str
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class SearchResult:
    """Hits, query by query, best first; and the files that cannot be searched."""

    hits: tuple[Hit, ...]
    failures: tuple[Failure, ...]
