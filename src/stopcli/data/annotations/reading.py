"""Labels of other programs as rows of a table.

Each reader turns a file into the cells of rows, or into what is wrong with one. Where no text occurs twice,
annotations are captions; else they are labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from stopcli.data.annotations.boris import read_boris
from stopcli.data.annotations.elan import read_elan
from stopcli.data.annotations.label_studio import read_label_studio
from stopcli.data.annotations.media import Cells
from stopcli.data.annotations.otio import read_otio
from stopcli.data.annotations.subtitles import read_subtitles
from stopcli.data.tablefile import Record, short
from stopcli.errors import BadDataset


def read_annotations(path: Path, notes: list[str]) -> list[Cells | str] | None:
    """Return the cells of each annotation of a file, or None for a file of another kind.

    ``notes`` gets what was understood in another way than one may think. Raises BadDataset where it is not
    what its suffix says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        return None
    try:
        cells = list(reader(path, notes))
    except OSError as error:
        raise BadDataset(f"{path}: not readable ({error.strerror})") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
        SyntaxError,
        RecursionError,
    ) as error:
        kind = KINDS[path.suffix.lower()]
        raise BadDataset(
            f"{path}: not as {kind} writes it ({short(error) or type(error).__name__})"
        ) from error
    if not cells:
        raise BadDataset(f"{path}: no annotation in it")
    if not any(isinstance(c, dict) for c in cells):
        raise BadDataset(f"{path}: {cells[0]}")
    return cells


def as_records(source: Path, cells: list[Cells | str], notes: list[str]) -> list[Record]:
    """Return annotations as rows of a table: with labels, or with captions where no text occurs twice."""
    texts = Counter(c["text"] for c in cells if isinstance(c, dict))
    column = "label" if max(texts.values(), default=0) > 1 or len(texts) < 2 else "caption"
    if column == "caption":
        notes.append(f"{source.name}: no text occurs twice, so they are captions, not labels")
    named = [
        c if isinstance(c, str) else {column if k == "text" else k: v for k, v in c.items()} for c in cells
    ]
    return list(enumerate(named, 1))


Reader = Callable[[Path, list[str]], Iterable[Cells | str]]
READERS: dict[str, Reader] = {
    ".boris": read_boris,
    ".eaf": read_elan,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
    ".json": read_label_studio,
    ".otio": read_otio,
}
CERTAIN = {".boris", ".eaf", ".otio"}  # nothing else has these
KINDS = {
    ".boris": "BORIS", ".eaf": "ELAN", ".srt": "SubRip", ".vtt": "WebVTT", ".json": "Label Studio",
    ".otio": "OpenTimelineIO",
}  # fmt: skip
