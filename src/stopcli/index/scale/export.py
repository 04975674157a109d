"""The moments of an index for a store that outgrows one machine: Parquet, LanceDB, lines for Qdrant.

Each row is a moment of a file: ``id``, ``path``, ``start`` and ``end`` (seconds), ``duration`` of the file
(seconds), and ``vector`` (E,) float32 of unit length. How they were made goes along.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stopcli.errors import CannotWrite, FileExists, UsageError
from stopcli.fileio import check_output, exists, is_folder, replacing, replacing_folder, to_json
from stopcli.index.maintenance import choose_space
from stopcli.index.store import Index
from stopcli.index.types import Entry, Space, Vectors

Placed = tuple[str, float | None, float | None, float, int]  # path, start, end, duration, row
Store = Literal["parquet", "lance", "qdrant-jsonl"]
SUFFIXES: dict[Store, str] = {"parquet": ".parquet", "lance": ".lance", "qdrant-jsonl": ".jsonl"}
NEEDS: dict[Store, str] = {"parquet": "pyarrow", "lance": "lancedb"}
OF_SYSTEMS = {".DS_Store", "desktop.ini", "Thumbs.db"}  # what file managers leave
TABLE = "moments"  # its name in a LanceDB folder
BATCH = 10_000  # rows written at once


class Moments(NamedTuple):
    """Some rows of an export, all lists as long as ``vectors`` (n,E)."""

    ids: list[int]
    paths: list[str]
    starts: list[float | None]
    ends: list[float | None]
    durations: list[float]
    vectors: Vectors


def check_export(target: Path, store: Store, *, force: bool) -> None:
    """Make sure that an export can be written.

    Raises UsageError: the name has another suffix, or a package is lacking. FileExists; CannotWrite.
    """
    if store == "lance":
        if target.suffix.lower() != SUFFIXES[store]:
            raise UsageError(f"-o {target}: the name of the folder must end in {SUFFIXES[store]}")
        inside = {p.name for p in target.iterdir()} - OF_SYSTEMS if is_folder(target) else set()
        ours = inside == {f"{TABLE}.lance"}
        if exists(target) and not (force and ours):
            more = min(inside - {f"{TABLE}.lance"}, default="")
            found = f", with {more[:80]!r} in it" if more else ""
            way = "use --force to replace it" if ours else "choose another name"
            raise FileExists(f"{target}: is there already{found}; {way}")
        if not os.access(target.parent, os.W_OK):
            raise CannotWrite(f"{target}: the folder {target.parent} cannot be written to")
    else:
        check_output(target, force=force, suffixes=(SUFFIXES[store],))
    if package := NEEDS.get(store):
        try:
            __import__(package)
        except ImportError:
            extra = "lance" if store == "lance" else "parquet"
            raise UsageError(f"--to {store} needs {package}; install 'stopcli[{extra}]'") from None


def export(index: Index, space: Space, target: Path, store: Store, progress: Callable[[int], object]) -> int:
    """Write all moments of a space, whole or not at all; return how many.

    ``progress`` gets how many are done. Raises CannotWrite.
    """
    write = {"parquet": _parquet, "lance": _lance, "qdrant-jsonl": _jsonl}[store]
    count, batches = 0, moments(index, space)

    def counted() -> Iterator[Moments]:
        nonlocal count
        for batch in batches:
            yield batch
            count += len(batch.ids)
            progress(count)

    whole = replacing_folder if store == "lance" else replacing
    with whole(target) as part:
        write(part, space, counted())
    return count


def moments(index: Index, space: Space) -> Iterator[Moments]:
    """Return the moments of all files of a space, in the order of their vectors; copies each have theirs.

    The database is read at once, the vectors batch by batch, in whatever thread.
    """
    homes = defaultdict[str, list[str]](list)

    def read() -> Iterator[Moments]:
        now = choose_space(index, space.id)  # its vectors may lie elsewhere by now
        homes.clear()
        for home, record in sorted(index.database.files().items()):
            homes[record.content].append(str(home))
        entries = sorted(index.database.entries(now).items(), key=lambda item: item[1].first)
        return _batches(now, entries, homes, np.asarray(index.vectors(now)))

    return index.together(read)


def _batches(
    space: Space, entries: list[tuple[str, Entry]], homes: dict[str, list[str]], vectors: Vectors
) -> Iterator[Moments]:
    rows: list[Placed] = []
    done = 0
    for content, e in entries:
        spans: list[tuple[float | None, float | None]] = [(None, None)] * e.count
        if space.window is not None:
            spans = list(e.spans(space.window, shots=space.shots))
        for path in homes.get(content, ()):
            rows += [(path, *span, e.duration, e.first + i) for i, span in enumerate(spans)]
        while len(rows) >= BATCH:
            yield _batch(rows[:BATCH], done, vectors)
            rows, done = rows[BATCH:], done + BATCH
    if rows:
        yield _batch(rows, done, vectors)


def _batch(rows: list[Placed], first: int, vectors: Vectors) -> Moments:
    paths, starts, ends, durations, places = (list(column) for column in zip(*rows, strict=True))
    return Moments(list(range(first, first + len(rows))), paths, starts, ends, durations, vectors[places])


def _as_text(path: str) -> str:
    """Return a path as others read it, who take UTF-8 alone."""
    return os.fsencode(path).decode(errors="replace")


def _made(space: Space) -> dict[str, Any]:
    return {name: value for name, value in asdict(space).items() if name not in ("id", "file", "rows")}


def _arrow(space: Space) -> Any:
    import pyarrow as pa

    kinds = {"id": pa.int64(), "path": pa.string(), "start": pa.float64(), "end": pa.float64()}
    kinds |= {"duration": pa.float64(), "vector": pa.list_(pa.float32(), space.size)}
    return pa.schema(list(kinds.items()), {"stopcli": to_json(_made(space))})


def _arrow_batch(schema: Any, batch: Moments) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(batch.vectors, np.float32).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, batch.vectors.shape[1])
    columns = [batch.ids, [_as_text(path) for path in batch.paths], batch.starts, batch.ends, batch.durations]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=False)]
    return pa.record_batch([*arrays, vectors], schema=schema)


def _parquet(part: Path, space: Space, batches: Iterator[Moments]) -> None:
    import pyarrow.parquet as pq

    schema = _arrow(space)
    with part.open("wb") as stream, pq.ParquetWriter(stream, schema) as out:
        for batch in batches:
            out.write_batch(_arrow_batch(schema, batch))


def _lance(part: Path, space: Space, batches: Iterator[Moments]) -> None:
    import lancedb

    schema = _arrow(space)
    lancedb.connect(str(part)).create_table(
        TABLE, (_arrow_batch(schema, batch) for batch in batches), schema=schema
    )


def _jsonl(part: Path, space: Space, batches: Iterator[Moments]) -> None:
    made = _made(space)
    with part.open("w", encoding="utf-8") as out:
        for batch in batches:
            for i, vector in enumerate(batch.vectors):
                where = {"path": _as_text(batch.paths[i]), "start": batch.starts[i], "end": batch.ends[i]}
                payload = {**where, "duration": batch.durations[i], "model": made["model"]}
                payload["weights"] = made["weights"]
                point = {"id": batch.ids[i], "vector": vector.tolist(), "payload": payload}
                out.write(to_json(point) + "\n")
