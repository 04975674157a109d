"""Files of vectors: ``.npz``, ``.npy`` + ``.jsonl``, ``.parquet``; and the journal of a run.

Each holds vectors (N,E) float32, what each row is, and one dictionary that says how they were made.
Files appear whole or not at all. While a run lasts, its rows are appended to a journal beside the
output, so that an interrupted run loses at most what it was computing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stopcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUFFIXES = (".npz", ".npy", ".parquet")


@dataclass(frozen=True)
class Row:
    """What a vector stands for: a clip (path, and seconds of a window) or a text.

    ``size`` (bytes) and ``mtime_ns`` are the file's when it was embedded: a changed file is redone.
    """

    path: str
    start: float | None = None
    end: float | None = None
    size: int = -1
    mtime_ns: int = -1


@dataclass
class VectorFile:
    """Vectors with their rows and their making."""

    made: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    def matrix(self) -> NDArray[np.float32]:
        """Return the vectors as one array (N,E)."""
        return np.stack(self.vectors) if self.vectors else np.zeros((0, 0), np.float32)


def check_suffix(path: Path) -> None:
    """Make sure the format is known, and its library at hand.

    Raises:
        UsageError: another suffix, or .parquet without pyarrow.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--output {path}: the name must end in {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError(
                f"--output {path}: .parquet needs pyarrow; install 'stopcli[parquet]', or choose .npz"
            ) from None


def load(path: Path) -> VectorFile:
    """Read a file of vectors.

    Raises:
        InputError: it is damaged, or no file of vectors.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                matrix, told = held["vectors"], json.loads(str(held["made"]))
                columns = [held[name].tolist() for name in ("paths", "starts", "ends", "sizes", "mtimes")]
            rows = [Row(p, _none(a), _none(b), s, m) for p, a, b, s, m in zip(*columns, strict=True)]
        elif path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
            lines = _sidecar(path).read_text(encoding="utf-8").splitlines()
            told = json.loads(lines[0])
            rows = [Row(**json.loads(line)) for line in lines[1:]]
        else:
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            told = json.loads(table.schema.metadata[b"stopcli"])
            matrix = np.array(table["vector"].to_pylist(), np.float32)
            names = ("path", "start", "end", "size", "mtime_ns")
            rows = [Row(*values) for values in zip(*(table[n].to_pylist() for n in names), strict=True)]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a file of vectors made by 'stop embed' ({error})") from error
    if len(rows) != len(matrix):
        raise InputError(f"{path}: {len(matrix)} vectors but {len(rows)} rows; it is damaged")
    return VectorFile(told, rows, list(matrix))


def save(path: Path, held: VectorFile) -> None:
    """Write a file of vectors, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    matrix = held.matrix()
    if path.suffix == ".npz":
        with part.open("wb") as stream:
            np.savez(
                stream,
                vectors=matrix,
                paths=np.array([r.path for r in held.rows], dtype=np.str_),
                starts=np.array([_nan(r.start) for r in held.rows]),
                ends=np.array([_nan(r.end) for r in held.rows]),
                sizes=np.array([r.size for r in held.rows], np.int64),
                mtimes=np.array([r.mtime_ns for r in held.rows], np.int64),
                made=np.array(json.dumps(held.made)),
            )
    elif path.suffix == ".npy":
        side = _sidecar(path)
        lines = [json.dumps(held.made), *(json.dumps(asdict(r), ensure_ascii=False) for r in held.rows)]
        side_part = side.with_name(f".{side.name}.part")
        side_part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with part.open("wb") as stream:
            np.save(stream, matrix)
        os.replace(side_part, side)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            n: [getattr(r, n) for r in held.rows] for n in ("path", "start", "end", "size", "mtime_ns")
        }
        types = {
            "path": pa.string(),
            "start": pa.float64(),
            "end": pa.float64(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
        }
        arrays = {n: pa.array(v, types[n]) for n, v in columns.items()}
        arrays["vector"] = pa.array(list(matrix), pa.list_(pa.float32()))
        table = pa.table(arrays).replace_schema_metadata({"stopcli": json.dumps(held.made)})
        pq.write_table(table, part)
    os.replace(part, path)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".jsonl")


def _none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


class Journal:
    """The rows of a run in progress, on disk as they are made: ``.OUT.journal``.

    One line a file: its rows in JSON and their vectors in hexadecimal, so that a line cut off by
    a crash is seen to be so and dropped.
    """

    def __init__(self, output: Path, made: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.journal")
        self._made = made

    def recover(self) -> VectorFile:
        """Return what an interrupted run with the same model had done; others are left out."""
        held = VectorFile(self._made)
        if not self.path.is_file():
            return held
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        try:
            if json.loads(lines[0]) != self._made:
                return held
        except json.JSONDecodeError:
            return held
        for line in lines[1:]:
            try:
                entry = json.loads(line)
                rows = [Row(**row) for row in entry["rows"]]
                vectors = [np.frombuffer(bytes.fromhex(v), np.float32) for v in entry["vectors"]]
            except (json.JSONDecodeError, KeyError, TypeError, ValueError):
                break
            held.rows += rows
            held.vectors += vectors
        return held

    def begin(self, held: VectorFile) -> None:
        """Start the journal anew with what is already known."""
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(self._made) + "\n", encoding="utf-8")
        os.replace(part, self.path)
        if held.rows:
            self.append(held.rows, held.vectors)

    def append(self, rows: Sequence[Row], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Add the rows of one file."""
        entry = {"rows": [asdict(r) for r in rows], "vectors": [v.tobytes().hex() for v in vectors]}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def end(self) -> None:
        """Remove the journal: the output holds everything now."""
        self.path.unlink(missing_ok=True)
