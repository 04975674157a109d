"""What the use cases answer: frozen records, the only thing that renderers get.

Paths are as they were given. ``start`` and ``end`` are seconds, or None for a whole clip.
Letters: T frames, G = T-1 gaps, g patches a side, S side in pixels, C labels, W windows, E embedding size.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stopcli.errors import StopError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 1e9  # seconds
MOST_TEXT = 2000  # characters of a label, a caption or a query
# what turns the direction of a line, or breaks it
_TURNS = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, *, keep: str = "") -> str:
    """Return a text without what a terminal, a page or XML would act on, or cannot hold; all else stays."""
    if text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(c) and c not in keep else c for c in text)


def _acts(c: str) -> bool:
    return c in _TURNS or unicodedata.category(c) in ("Cc", "Cs") or ord(c) & 0xFFFE == 0xFFFE


@dataclass(frozen=True)
class Score:
    """One label's share: ``score`` is the softmax over the labels, ``cosine`` is comparable.

    ``confidence`` is the share, less if the clip is unlike those that the label was learned from; None where
    it was not learned from clips.
    """

    label: str
    score: float
    cosine: float
    confidence: float | None = None


@dataclass(frozen=True)
class Classification:
    """The labels of a clip or of a window of it, best first."""

    path: str
    start: float | None
    end: float | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Hit:
    """One answer to a query; ``score`` is a cosine, ``confidence`` how often chance would give less.

    ``also`` are other files with a copy of the moment.
    """

    query: str
    rank: int
    path: str
    start: float | None
    end: float | None
    score: float
    confidence: float | None = None
    also: tuple[str, ...] = ()
    clip: str | None = None  # the file that the moment was saved as


@dataclass(frozen=True)
class SavedClip:
    """A moment of a video as a file of its own; times are seconds.

    It is shown from ``start``, the first picture's time in ``source``. ``lead`` is how much of the video
    before that is in the file too. ``mode`` is copy, joined (the ends encoded again) or encoded.
    """

    path: str
    source: str
    start: float
    duration: float
    lead: float
    mode: str
    left_out: tuple[str, ...] = ()  # streams
    sound: str | None = None  # the codec in which sound was encoded again, for the format cannot hold its own


@dataclass(frozen=True)
class Embedded:
    """Where a clip's or text's vector stands in the output file."""

    path: str
    start: float | None
    end: float | None
    row: int


@dataclass(frozen=True)
class EncodedClip:
    """An embedding (E,) float32 of unit length, of a clip or a window; it ends at ``until`` seconds."""

    path: str
    start: float | None
    end: float | None
    vector: NDArray[np.float32]
    until: float = 0.0


@dataclass(frozen=True)
class BlockTrace:
    """What one block of a model did with a clip; what the model lacks is empty."""

    regions: NDArray[np.bool_]  # (T,g,g): where spatial prompts are put
    scores: NDArray[np.float32]  # (T,g,g) in [0,1]: how discriminative each patch is
    bias: NDArray[np.float32]  # (T,g,g): added to its attention logits; 0 for the frame's best
    variation: NDArray[np.float32]  # (G,) in [0,1]: how much changes in each gap
    counts: NDArray[np.int64]  # (G,): prompts put into each gap


@dataclass(frozen=True)
class Look:
    """Where a model looks, and what it makes of a clip."""

    attention: NDArray[np.float32]  # (T,g,g): of the class token in the last block; 1 over each frame
    shares: NDArray[np.float32]  # (W,C): the labels' scores in each window
    whole: NDArray[np.float32]  # (C,): in the whole clip


@dataclass(frozen=True)
class Explanation:
    """One clip as a model saw it, block by block."""

    path: str
    model: str
    block: int  # from 1: the one that pictures show
    frames: NDArray[np.uint8]  # (T,S,S,3)
    times: NDArray[np.float64]  # (T,) seconds
    energy: NDArray[np.float32]  # (T,g,g), see `stopcli.model.motion`; empty where nothing asks what moves
    certainty: NDArray[np.float32]  # (T,) in [0,1]: how far the energy can be trusted
    trace: tuple[BlockTrace, ...]  # of the prompted blocks; with focus, one that stands for all
    most: int  # eta: prompts of the gap that changes most
    labels: tuple[str, ...]
    spans: NDArray[np.float64]  # (W,2): seconds of the windows that the labels were scored in
    look: Look
    plain: Look | None  # without prompts and focus, where that was asked for
    written: str | None = None  # the file it was drawn in

    @property
    def shown(self) -> BlockTrace:
        """What the block of the pictures did."""
        return self.trace[self.block - 1]


@dataclass(frozen=True)
class IndexedFile:
    """A file of the index: how many vectors it has (over all settings), or why it has none."""

    path: str
    size: int  # bytes
    vectors: int
    fault: str | None


@dataclass(frozen=True)
class IndexSpace:
    """Vectors of an index that can be compared; ``window`` (seconds) None is one vector a file.

    With ``shots``, windows end at cuts, and are so long at most. ``id`` is what ``--space`` takes.
    """

    id: int
    model: str
    weights: str
    precision: str
    frames: int
    window: float | None
    vectors: int
    shots: bool = False


@dataclass(frozen=True)
class IndexInfo:
    """What an index holds, and where it is."""

    folder: str
    format: int
    files: int
    bytes: int
    spaces: tuple[IndexSpace, ...]


@dataclass(frozen=True)
class IndexCheck:
    """What is wrong with an index, a sentence each; how many files were forgotten; where it was moved."""

    folder: str
    problems: tuple[str, ...]
    forgotten: int = 0
    aside: str | None = None


@dataclass(frozen=True)
class IndexChange:
    """What a command did to an index: counts of files, vectors taken over or dropped, bytes freed."""

    folder: str
    embedded: int = 0
    added: int = 0
    moved: int = 0
    removed: int = 0
    vectors: int = 0
    dropped: int = 0
    freed: int = 0


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be had, and whether its files are here; ``size`` (bytes) only if they are."""

    name: str
    here: bool
    size: int | None
    default: bool
    license: str
    description: str
    parameters: int | None = None  # millions


@dataclass(frozen=True)
class ModelTower:
    """An architecture of open_clip's; ``fit`` is how its published weights want frames made square."""

    name: str
    tower: str
    size: int
    fit: str | None
    context: int
    languages: str
    extra: str | None  # of stopcli, that it needs
    prompts: bool
    note: str | None


@dataclass(frozen=True)
class ModelInfo:
    """What a model is made of, and how it was made."""

    name: str
    description: str | None
    architecture: str
    backbone: str
    prompts: str | None
    size: int  # bytes of all weights
    sha256: str
    stop: dict[str, Any] | None
    tower: str
    preprocess: str
    words: str
    frames: int
    labels: int | None
    license: str | None
    training: dict[str, Any] | None
    metrics: dict[str, Any] | None


@dataclass(frozen=True)
class Written:
    """A file, folder or address that a command made."""

    path: str
    description: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Facts about this installation by name, and whether the device computes right."""

    facts: dict[str, str]
    healthy: bool


@dataclass(frozen=True)
class Failure:
    """An input that could not be used, the class of fault, and why; ``path`` None ended the command."""

    path: str | None
    error: str
    message: str

    @classmethod
    def of(cls, path: object, error: StopError) -> Failure:
        """Make the record of an error."""
        return cls(str(path), error.kind, str(error))


def span(start: float | None, end: float | None) -> str:
    """Return ``0:08.0-0:16.0``, or nothing for a whole file."""
    return "" if start is None or end is None else f"{clock(start)}-{clock(end)}"


def read_clock(text: str) -> float | None:
    """Return seconds as people write them, ``83.5``, ``1:23.5`` or ``0:01:23,5``; None for anything else."""
    parts = re.fullmatch(r"(?:(?:(\d{1,9}):)?(\d{1,12}):)?(\d{1,18}(?:[.,]\d+)?)", text)
    if parts is None:
        return None
    hours, minutes, seconds = parts.groups()
    number = 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds.replace(",", "."))
    return number if number < LONGEST else None


def clock(seconds: float) -> str:
    """Return seconds as people read them: ``1:02:03.5``."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
