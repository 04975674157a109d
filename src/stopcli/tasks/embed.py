"""Vectors of clips or texts, in a file that can be added to."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.errors import FileExists, UsageError
from stopcli.results import Embedded, EncodedClip, Failure
from stopcli.tasks.vectorfile import Journal, Row, VectorFile, check_suffix, load, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

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

    Args:
        encoder: the model.
        paths: video files.
        output: a .npz, .npy or .parquet file, made or added to.
        window: seconds of a window; None embeds whole files.
        force: begin anew instead of adding.
        progress: called with each path when it is done or skipped.

    Returns:
        Where each of ``paths`` stands in the output, and the files that could not be used.

    Raises:
        FileExists: ``output`` was made by another model or in another way.
        UsageError: ``output`` has an unknown suffix.
    """
    held = _begin(encoder, output, {"kind": "videos", "window": window}, force)
    journal = Journal(output, held.made)
    if not force:
        _merge(held, journal.recover())
    keys = {str(p): _file_key(p) for p in paths}
    held = _keep_current(held, keys)
    done = {row.path for row in held.rows}
    todo = [p for p in dict.fromkeys(str(p) for p in paths) if p not in done]
    failures: list[Failure] = []
    if progress is not None:
        for path in done & set(keys):
            progress(path)
    if todo:
        journal.begin(held)
    for path, group in groupby(encoder.encode_videos(todo, window=window), key=lambda item: item.path):
        items = list(group)
        broken = [i for i in items if isinstance(i, Failure)]
        failures += broken
        if not broken:
            clips = [i for i in items if isinstance(i, EncodedClip)]
            rows = [Row(path, c.start, c.end, *keys[path]) for c in clips]
            held.rows += rows
            held.vectors += [c.vector for c in clips]
            journal.append(rows, [c.vector for c in clips])
        if progress is not None:
            progress(path)
    if held.rows:
        save(output, held)
    journal.end()
    return [Embedded(r.path, r.start, r.end, i) for i, r in enumerate(held.rows) if r.path in keys], failures


def embed_texts(
    encoder: Encoder, texts: Sequence[str], output: Path, *, force: bool = False
) -> list[Embedded]:
    """Embed texts into ``output``; what it holds already is skipped.

    Raises:
        FileExists: ``output`` was made by another model or in another way.
        UsageError: ``output`` has an unknown suffix, or a text is empty.
    """
    held = _begin(encoder, output, {"kind": "texts", "window": None}, force)
    done = {row.path for row in held.rows}
    new = [t for t in dict.fromkeys(texts) if t not in done]
    if new:
        held.rows += [Row(t) for t in new]
        held.vectors += list(encoder.encode_texts(new))
        save(output, held)
    wanted = set(texts)
    return [Embedded(r.path, None, None, i) for i, r in enumerate(held.rows) if r.path in wanted]


def _begin(encoder: Encoder, output: Path, kind: dict[str, Any], force: bool) -> VectorFile:
    check_suffix(output)
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.parent} does not exist")
    made = {**encoder.describe(), **kind}
    if force or not output.exists():
        return VectorFile(made)
    held = load(output)
    differing = [
        k for k in ("kind", "window", "weights", "frames", "precision") if held.made.get(k) != made[k]
    ]
    if differing:
        k = differing[0]
        raise FileExists(
            f"{output} was made with {k} {held.made.get(k)!r}, now it is {made[k]!r}; vectors of different "
            "making do not mix: choose another --output, or redo it with --force"
        )
    return VectorFile(made, held.rows, held.vectors)


def _merge(held: VectorFile, more: VectorFile) -> None:
    known = {row.path for row in held.rows}
    for row, vector in zip(more.rows, more.vectors, strict=True):
        if row.path not in known:
            held.rows.append(row)
            held.vectors.append(vector)


def _keep_current(held: VectorFile, keys: dict[str, tuple[int, int]]) -> VectorFile:
    """Drop the rows of files that have changed since."""
    kept: list[tuple[Row, NDArray[np.float32]]] = [
        (row, vector)
        for row, vector in zip(held.rows, held.vectors, strict=True)
        if row.path not in keys or keys[row.path] == (row.size, row.mtime_ns)
    ]
    return VectorFile(held.made, [r for r, _ in kept], [v for _, v in kept])


def _file_key(path: str | Path) -> tuple[int, int]:
    """Return a file's size (bytes) and time of change (ns); (-1, -1) where there is none."""
    try:
        told = Path(path).stat()
    except OSError:
        return -1, -1
    return told.st_size, told.st_mtime_ns
