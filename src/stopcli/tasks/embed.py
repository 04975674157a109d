"""Vectors of clips or texts, in a file that can be added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.data.runs import MANIFEST, Shard, lost_or_kept, read_run, share, with_seconds
from stopcli.errors import FileChanged, InputError
from stopcli.fileio import alone, remove_folder
from stopcli.results import Embedded, EncodedClip, Failure
from stopcli.tasks.vectorfile import (
    ALIKE,
    Journal,
    Row,
    VectorFile,
    check_vector_file,
    differences,
    load,
    require_alike,
    save,
)

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

    Files that are absent or cannot be read now keep the vectors of an earlier run. What `embed_part` made
    for this output is taken over.

    ``window`` (seconds) None embeds whole files; ``progress`` is called with each path that is done,
    and with a window's end (seconds) as well while it is not.
    Returns where each of ``paths`` stands in the output, and the files that could not be used.

    Raises:
        FileExists: ``output`` was made in another way. UsageError: it has an unknown suffix.
        OutputBusy: another process is writing it.
    """
    check_vector_file(output, force=force)
    with alone(output), ExitStack() as parts:
        journal = Journal(output, {**encoder.describe(), "kind": "videos", "window": window})
        vectors = _open(journal, output, force)
        shared = (shards_of(output) / MANIFEST).exists()
        if shared and not force:
            _take_parts(vectors, journal, output, parts)
        keys = {str(p): _file_key(p) for p in paths}
        done = {p for p, key in keys.items() if key is not None and _key_of(vectors, p) == key}
        if progress is not None:
            for path in done:
                progress(path)
        todo = [p for p in keys if p not in done]
        failures = _embed(encoder, todo, keys, vectors, journal, window, progress)
        if vectors.unsaved:
            save(output, vectors)
        journal.end()
        parts.close()
        if shared:
            remove_folder(shards_of(output))
    shown = [Embedded(r.path, r.start, r.end, i) for i, r in enumerate(vectors.rows) if r.path in keys]
    return shown, failures


def embed_part(
    encoder: Encoder,
    paths: Sequence[str | Path],
    output: Path,
    shard: Shard,
    *,
    window: float | None = None,
    progress: Callable[[int], AbstractContextManager[Callable[..., object]]],
    later: Callable[[int], object] = lambda _: None,
) -> tuple[Path, list[Embedded], list[Failure]]:
    """Embed one process's share of what ``output`` lacks into a part of its own; return where that is.

    `embed_videos` joins the parts. ``progress``, given how many files will be embedded, yields what
    `embed_videos` calls; ``later`` is called with the number of files that the run is not about. Errors are
    those of `embed_videos` and `stopcli.data.runs.share`.
    """
    check_vector_file(output)
    made: dict[str, Any] = {**encoder.describe(), "kind": "videos", "window": window}

    known = _open(Journal(output, made), output, force=False)
    keys = {path: _file_key(path) for path in dict.fromkeys(map(str, paths))}
    new = {path: key for path, key in keys.items() if key is None or _key_of(known, path) != key}
    lacking = [(path, *(key or (-1, 0)), path) for path, key in new.items()]  # paths stand for contents
    settings = {name: made.get(name) for name in ALIKE["videos"]}
    run = share(shards_of(output), shard, settings, made, lambda: ({}, with_seconds(lacking)))
    if others := new.keys() - {item.path for item in run.inputs}:
        later(len(others))
    mine, failures = lost_or_kept(run.of(shard))
    part = run.part(shard, output.suffix)
    with progress(len(mine)) as done:
        rows, more = embed_videos(encoder, [i.path for i in mine], part, window=window, progress=done)
    return part, rows, [*failures, *more]


def shards_of(output: Path) -> Path:
    """Return the folder of the parts of an output."""
    return output.with_name(f"{output.name}.shards")


def _take_parts(vectors: VectorFile, journal: Journal, output: Path, locks: ExitStack) -> None:
    """Add what the processes of a shared run have made, in their order.

    Raises OutputBusy: one of them is still at work.
    """
    for _, part in read_run(shards_of(output)).parts(output.suffix):
        locks.enter_context(alone(part))
        vectors.take(_open(Journal(part, journal.provenance), part, force=False))
    journal.begin(vectors)


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
    for path, group in groupby(
        encoder.encode_videos(todo, window=window, steady=True), key=lambda item: item.path
    ):
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
    check_vector_file(output, force=force)
    with alone(output):
        journal = Journal(output, {**encoder.describe(), "kind": "texts", "window": None})
        vectors = _open(journal, output, force)
        new = [t for t in dict.fromkeys(texts) if t not in vectors.parts]
        if new:
            vectors.put([Row(t) for t in new], encoder.encode_texts(new))
            journal.begin(vectors)
        if vectors.unsaved:  # also what an interrupted run has done
            save(output, vectors)
        journal.end()
    wanted = set(texts)
    return [Embedded(r.path, None, None, i) for i, r in enumerate(vectors.rows) if r.path in wanted]


def _open(journal: Journal, output: Path, force: bool) -> VectorFile:
    """Return what the output holds, and what an interrupted run had done beside it.

    If only one of them can be compared with the new vectors, only that one is used: a run with ``force``
    was interrupted, or the user returned to the old settings. Raises FileExists if neither can.
    """
    now = journal.provenance
    if force:
        return VectorFile(now)
    begun, recovered = journal.recover(), VectorFile(now)
    if not differences(begun.provenance, now):
        recovered.take(begun)
    if not output.exists():
        if begun.parts:
            require_alike(f"{journal.path}: what an interrupted run has done", begun.provenance, now)
        return recovered
    try:
        vectors = load(output)
    except InputError:
        if not (recovered.parts and journal.of_two_files):
            raise
        return recovered  # a process died between the two; the journal has all of it
    if recovered.parts and differences(vectors.provenance, now):
        return recovered
    require_alike(str(output), vectors.provenance, now)
    vectors.provenance = now
    vectors.take(recovered)
    return vectors


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
