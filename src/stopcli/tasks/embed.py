"""Vectors of clips or texts, in a file that can be added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import FileChanged, FileExists, InputError
from stopcli.fileio import alone
from stopcli.results import Embedded, EncodedClip, Failure
from stopcli.tasks.vectorfile import Journal, Row, VectorFile, check_vector_file, load, save

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

FileKey = tuple[int, int]  # size in bytes, time of change in ns


def embed_videos(
    encoder: Encoder,
    paths: Sequence[str | Path],
    output: Path,
    *,
    window: float | None = None,
    force: bool = False,
    progress: Callable[..., object] | None = None,
) -> tuple[list[Embedded], list[Failure]]:
    """Embed files into ``output``; what it holds already is skipped, changed files are redone.

    Files that are absent or cannot be read now keep the vectors of an earlier run.

    ``window`` (seconds) None embeds whole files; ``progress`` is called with each path that is done,
    and with a window's end (seconds) as well while it is not.
    Returns where each of ``paths`` stands in the output, and the files that could not be used.

    Raises:
        FileExists: ``output`` was made in another way. UsageError: it has an unknown suffix.
        OutputBusy: another process is writing it.
    """
    check_vector_file(output)
    with alone(output):
        journal = Journal(output, {**encoder.describe(), "kind": "videos", "window": window})
        vectors = _open(journal, output, force)
        keys = {str(p): _file_key(p) for p in paths}
        done = {p for p, key in keys.items() if key is not None and _key_of(vectors, p) == key}
        if progress is not None:
            for path in done:
                progress(path)
        todo = [p for p in keys if p not in done]
        failures = _embed(encoder, todo, keys, vectors, journal, window, progress)
        if vectors.parts:
            save(output, vectors)
        journal.end()
    shown = [Embedded(r.path, r.start, r.end, i) for i, r in enumerate(vectors.rows) if r.path in keys]
    return shown, failures


def _embed(
    encoder: Encoder,
    todo: Sequence[str],
    keys: Mapping[str, FileKey | None],
    vectors: VectorFile,
    journal: Journal,
    window: float | None,
    progress: Callable[..., object] | None,
) -> list[Failure]:
    """Embed files into ``vectors``, and the journal; what cannot be read keeps what was known of it."""
    failures: list[Failure] = []
    if todo:
        journal.begin(vectors)
    for path, group in groupby(encoder.encode_videos(todo, window=window), key=lambda item: item.path):
        items = []
        for item in group:
            items.append(item)
            if progress is not None and isinstance(item, EncodedClip) and item.end is not None:
                progress(path, item.end)
        faults = [i for i in items if isinstance(i, Failure)]
        if not faults and _file_key(path) != keys[path]:
            changed = FileChanged(f"{path}: it was replaced while it was read; run the command again")
            faults = [Failure.of(path, changed)]
        if faults and (kept := vectors.parts.get(path)):
            note = f"{len(kept[0])} of its vectors from an earlier run are kept"
            faults = [replace(f, message=f"{f.message}; {note}") for f in faults]
        failures += faults
        if not faults:
            clips = [i for i in items if isinstance(i, EncodedClip)]
            size, mtime_ns = keys[path] or (-1, -1)
            rows = [Row(path, c.start, c.end, size, mtime_ns) for c in clips]
            vectors.put(rows, [c.vector for c in clips])
            journal.append(rows, [c.vector for c in clips])
        if progress is not None:
            progress(path)
    return failures


def embed_texts(
    encoder: Encoder, texts: Sequence[str], output: Path, *, force: bool = False
) -> list[Embedded]:
    """Embed texts into ``output``, as `embed_videos` does videos; an empty text is a UsageError."""
    check_vector_file(output)
    with alone(output):
        journal = Journal(output, {**encoder.describe(), "kind": "texts", "window": None})
        vectors = _open(journal, output, force)
        new = [t for t in dict.fromkeys(texts) if t not in vectors.parts]
        if new:
            vectors.put([Row(t) for t in new], encoder.encode_texts(new))
            journal.begin(vectors)
            save(output, vectors)
        journal.end()
    wanted = set(texts)
    return [Embedded(r.path, None, None, i) for i, r in enumerate(vectors.rows) if r.path in wanted]


def _open(journal: Journal, output: Path, force: bool) -> VectorFile:
    """Return what the output holds, and what an interrupted run had done beside it."""
    if force:
        return VectorFile(journal.provenance)
    recovered = journal.recover()
    if not output.exists():
        return recovered
    try:
        vectors = load(output)
    except InputError:
        if not recovered.parts:
            raise
        return recovered  # a process died while it wrote the output; the journal has all of it
    videos = ("window", "focus", "frames", "size", "fit", "interpolation", "sampler", "reader", "video_key")
    more = videos if journal.provenance["kind"] == "videos" else ("text_key",)
    for name in ("kind", "weights", "precision", *more):
        before, now = vectors.provenance.get(name), journal.provenance.get(name)
        if before != now:
            how = f"with {name} {before!r}, now it is {now!r}"
            how = "by a tower with other settings" if name.endswith("_key") else how
            way = "choose another --output, or start over with --force"
            raise FileExists(f"{output} was made {how}; such vectors cannot be compared: {way}")
    return VectorFile(journal.provenance, vectors.parts | recovered.parts)


def _key_of(vectors: VectorFile, path: str) -> FileKey | None:
    """Return size and time of a file as it was embedded."""
    part = vectors.parts.get(path)
    return (part[0][0].size, part[0][0].mtime_ns) if part else None


def _file_key(path: str | Path) -> FileKey | None:
    """Return a file's size (bytes) and time of change (ns); None if it cannot be read."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
