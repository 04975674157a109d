"""Vectors of clips or texts, in a file that can be added to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.errors import FileExists
from stopcli.results import Embedded, EncodedClip, Failure
from stopcli.tasks.vectorfile import Journal, Row, VectorFile, check_vector_file, load, save

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder


def embed_videos(
    encoder: Encoder,
    paths: Sequence[str | Path],
    output: Path,
    *,
    window: float | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Embedded], list[Failure]]:
    """Embed files into ``output``; what it holds already is skipped, changed files are redone.

    ``window`` (seconds) None embeds whole files; ``progress`` is called with each path that is done.
    Returns where each of ``paths`` stands in the output, and the files that could not be used.

    Raises:
        FileExists: ``output`` was made in another way. UsageError: it has an unknown suffix.
    """
    vectors = _open(encoder, output, {"kind": "videos", "window": window}, force)
    journal = Journal(output, vectors.provenance)
    if not force:
        vectors.merge(journal.recover())
    keys = {str(p): _file_key(p) for p in paths}
    vectors = vectors.current(keys)
    done = {row.path for row in vectors.rows}
    todo = [p for p in dict.fromkeys(str(p) for p in paths) if p not in done]
    failures: list[Failure] = []
    if progress is not None:
        for path in done & set(keys):
            progress(path)
    if todo:
        journal.begin(vectors)
    for path, group in groupby(encoder.encode_videos(todo, window=window), key=lambda item: item.path):
        items = list(group)
        faults = [i for i in items if isinstance(i, Failure)]
        failures += faults
        if not faults:
            clips = [i for i in items if isinstance(i, EncodedClip)]
            rows = [Row(path, c.start, c.end, *keys[path]) for c in clips]
            vectors.rows += rows
            vectors.vectors += [c.vector for c in clips]
            journal.append(rows, [c.vector for c in clips])
        if progress is not None:
            progress(path)
    if vectors.rows:
        save(output, vectors)
    journal.end()
    shown = [Embedded(r.path, r.start, r.end, i) for i, r in enumerate(vectors.rows) if r.path in keys]
    return shown, failures


def embed_texts(
    encoder: Encoder, texts: Sequence[str], output: Path, *, force: bool = False
) -> list[Embedded]:
    """Embed texts into ``output``, as `embed_videos` does videos; an empty text is a UsageError."""
    vectors = _open(encoder, output, {"kind": "texts", "window": None}, force)
    done = {row.path for row in vectors.rows}
    new = [t for t in dict.fromkeys(texts) if t not in done]
    if new:
        vectors.rows += [Row(t) for t in new]
        vectors.vectors += list(encoder.encode_texts(new))
        save(output, vectors)
    wanted = set(texts)
    return [Embedded(r.path, None, None, i) for i, r in enumerate(vectors.rows) if r.path in wanted]


def _open(encoder: Encoder, output: Path, kind: dict[str, Any], force: bool) -> VectorFile:
    check_vector_file(output)
    provenance = {**encoder.describe(), **kind}
    if force or not output.exists():
        return VectorFile(provenance)
    vectors = load(output)
    for name in ("kind", "window", "focus", "weights", "frames", "precision"):
        before, now = vectors.provenance.get(name), provenance.get(name)
        if before != now:
            raise FileExists(
                f"{output} was made with {name} {before!r}, now it is {now!r}; such vectors cannot be "
                "compared: choose another --output, or start over with --force"
            )
    return VectorFile(provenance, vectors.rows, vectors.vectors)


def _file_key(path: str | Path) -> tuple[int, int]:
    """Return a file's size (bytes) and time of change (ns); (-1, -1) where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
