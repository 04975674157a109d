"""Files of vectors: ``.npz``, ``.npy`` + ``.jsonl``, ``.parquet``; and the journal of a run.

Each holds vectors (N,E) float32, what each row is, and one dictionary that says how they were made.
Files appear whole or not at all. While a run lasts, its rows are appended to a journal beside the
output, so that an interrupted run loses at most what it was computing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError, UsageError
from stopcli.fileio import append_line, check_output, replacing, write_text

SUFFIXES = (".npz", ".npy", ".parquet")


@dataclass(frozen=True)
class Row:
    """A clip (path, and seconds of a window) or a text; size and time of its file as it was embedded."""

    path: str
    start: float | None = None
    end: float | None = None
    size: int = -1
    mtime_ns: int = -1


COLUMNS = tuple(f.name for f in fields(Row))


@dataclass
class VectorFile:
    """Vectors with their rows and how they were made."""

    provenance: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    def matrix(self) -> NDArray[np.float32]:
        """Return the vectors as one array (N,E)."""
        return np.stack(self.vectors) if self.vectors else np.zeros((0, 0), np.float32)

    def merge(self, more: VectorFile) -> None:
        """Add the rows of files that are not here yet."""
        known = {row.path for row in self.rows}
        for row, vector in zip(more.rows, more.vectors, strict=True):
            if row.path not in known:
                self.rows.append(row)
                self.vectors.append(vector)

    def current(self, keys: Mapping[str, tuple[int, int]]) -> VectorFile:
        """Return these without the files whose size and time of change are other ones in ``keys``."""
        pairs = zip(self.rows, self.vectors, strict=True)
        kept = [(r, v) for r, v in pairs if keys.get(r.path, (r.size, r.mtime_ns)) == (r.size, r.mtime_ns)]
        return VectorFile(self.provenance, [r for r, _ in kept], [v for _, v in kept])


def check_vector_file(path: Path) -> None:
    """Make sure that a file of vectors can be written: suffix, folder, pyarrow. Raises UsageError."""
    check_output(path, force=True, option="--output", suffixes=SUFFIXES)
    if path.suffix == ".npy" and not path.exists():  # the rows go into a file beside it
        check_output(_sidecar(path), force=False, option="--output")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError(
                f"--output {path}: .parquet needs pyarrow; install 'stopcli[parquet]', or choose .npz"
            ) from None


def load(path: Path) -> VectorFile:
    """Read a file of vectors; raises InputError if it is damaged or something else."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                matrix, provenance = arrays["vectors"], json.loads(str(arrays["provenance"]))
                columns = [arrays[name].tolist() for name in ("paths", "starts", "ends", "sizes", "mtimes")]
            rows = [
                Row(p, None if np.isnan(a) else a, None if np.isnan(b) else b, s, m)
                for p, a, b, s, m in zip(*columns, strict=True)
            ]
        elif path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
            lines = _sidecar(path).read_text(encoding="utf-8").splitlines()
            provenance = json.loads(lines[0])
            rows = [Row(**json.loads(line)) for line in lines[1:]]
        else:
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            provenance = json.loads(table.schema.metadata[b"stopcli"])
            matrix = np.array(table["vector"].to_pylist(), np.float32)
            rows = [Row(*values) for values in zip(*(table[n].to_pylist() for n in COLUMNS), strict=True)]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        way = "choose another --output, or start over with --force"
        raise InputError(f"{path}: not a file of vectors made by 'stop embed'; {way}") from error
    if len(rows) != len(matrix):
        raise InputError(f"{path}: {len(matrix)} vectors but {len(rows)} rows; it is damaged")
    return VectorFile(provenance, rows, list(matrix))


def save(path: Path, vectors: VectorFile) -> None:
    """Write a file of vectors, whole or not at all; raises CannotWrite."""
    if path.suffix == ".npy":
        rows = [json.dumps(asdict(r), ensure_ascii=False) for r in vectors.rows]
        write_text(_sidecar(path), "\n".join([json.dumps(vectors.provenance), *rows]) + "\n")
    with replacing(path) as part:
        if path.suffix == ".npz":
            with part.open("wb") as stream:
                np.savez(stream, **_arrays(vectors))
        elif path.suffix == ".npy":
            with part.open("wb") as stream:
                np.save(stream, vectors.matrix())
        else:
            _save_parquet(part, vectors)


def _arrays(vectors: VectorFile) -> dict[str, Any]:
    rows = vectors.rows
    return {
        "vectors": vectors.matrix(),
        "paths": np.array([r.path for r in rows], dtype=np.str_),
        "starts": np.array([r.start for r in rows], float),
        "ends": np.array([r.end for r in rows], float),
        "sizes": np.array([r.size for r in rows], np.int64),
        "mtimes": np.array([r.mtime_ns for r in rows], np.int64),
        "provenance": np.array(json.dumps(vectors.provenance)),
    }


def _save_parquet(path: Path, vectors: VectorFile) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.float64(), pa.float64(), pa.int64(), pa.int64())
    columns = {
        name: pa.array([getattr(r, name) for r in vectors.rows], kind)
        for name, kind in zip(COLUMNS, types, strict=True)
    }
    columns["vector"] = pa.array(list(vectors.matrix()), pa.list_(pa.float32()))
    metadata = {"stopcli": json.dumps(vectors.provenance)}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".jsonl")


class Journal:
    """The rows of a run in progress, on disk as they are made: ``.OUT.journal``.

    One line a file: its rows in JSON and their vectors in hexadecimal, so that a line cut off by
    a crash is seen to be so and dropped.
    """

    def __init__(self, output: Path, provenance: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.journal")
        self._provenance = provenance

    def recover(self) -> VectorFile:
        """Return what an interrupted run with the same model had done; others are ignored."""
        vectors = VectorFile(self._provenance)
        if not self.path.is_file():
            return vectors
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        try:
            if json.loads(lines[0]) != self._provenance:
                return vectors
            for line in lines[1:]:
                entry = json.loads(line)
                rows = [Row(**row) for row in entry["rows"]]
                fresh = [np.frombuffer(bytes.fromhex(v), np.float32) for v in entry["vectors"]]
                vectors.rows += rows
                vectors.vectors += fresh
        except (KeyError, TypeError, ValueError):  # the line that was being written
            pass
        return vectors

    def begin(self, vectors: VectorFile) -> None:
        """Start the journal over with what is already known."""
        write_text(self.path, json.dumps(self._provenance) + "\n")
        if vectors.rows:
            self.append(vectors.rows, vectors.vectors)

    def append(self, rows: Sequence[Row], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Add the rows of one file."""
        entry = {"rows": [asdict(r) for r in rows], "vectors": [v.tobytes().hex() for v in vectors]}
        append_line(self.path, json.dumps(entry))

    def end(self) -> None:
        """Remove the journal: the output holds everything now."""
        self.path.unlink(missing_ok=True)
