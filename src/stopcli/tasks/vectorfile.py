"""Files of vectors: ``.npz``, ``.npy`` + ``.jsonl``, ``.parquet``; and the journal of a run.

Each holds vectors (N,E) float32, what each row is, and one dictionary that says how they were made.
Files appear whole or not at all. While a run lasts, its rows are appended to a journal beside the
output, so that an interrupted run loses at most what it was computing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import FileExists, InputError, UsageError
from stopcli.fileio import append_line, check_output, replacing, to_json, write_text

SUFFIXES = (".npz", ".npy", ".parquet")
FRAMES = ("window", "focus", "frames", "size", "fit", "interpolation", "sampler", "reader", "video_key")
ALIKE = {  # what vectors must have in common to be compared
    "videos": ("kind", "weights", "precision", *FRAMES),
    "texts": ("kind", "weights", "precision", "text_key"),
}


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
    """Vectors with their rows and how they were made, by the path or text that they are of."""

    provenance: dict[str, Any]
    parts: dict[str, tuple[list[Row], list[NDArray[np.float32]]]] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)  # the parts that the file on disk lacks

    @property
    def rows(self) -> list[Row]:
        """What each row of the matrix is."""
        return [row for rows, _ in self.parts.values() for row in rows]

    def matrix(self) -> NDArray[np.float32]:
        """Return the vectors as one array (N,E)."""
        vectors = [vector for _, vectors in self.parts.values() for vector in vectors]
        return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)

    def put(self, rows: Sequence[Row], vectors: Iterable[NDArray[np.float32]]) -> None:
        """Add rows; those of a path take the place of what was known of it."""
        new: VectorFile = VectorFile({})
        for row, vector in zip(rows, vectors, strict=True):
            part = new.parts.setdefault(row.path, ([], []))
            part[0].append(row)
            part[1].append(vector)
        self.take(new)

    def take(self, other: VectorFile) -> None:
        """Add all that another one holds; its parts take the place of those of the same name."""
        self.parts |= other.parts
        self.unsaved |= other.parts.keys()


def check_vector_file(path: Path, *, force: bool = False) -> None:
    """Make sure that a file of vectors can be written: suffix, folder, pyarrow.

    Raises UsageError, or FileExists for the rows of a .npy without ``force``.
    """
    check_output(path, force=True, option="--output", suffixes=SUFFIXES)
    kind = path.suffix.lower()
    if kind == ".npy" and not path.exists():  # the rows go into a file beside it
        check_output(_sidecar(path), force=force or _is_ours(_sidecar(path)), option="--output")
    if kind == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError(
                f"--output {path}: .parquet needs pyarrow; install 'stopcli[parquet]', or choose .npz"
            ) from None


def load(path: Path) -> VectorFile:
    """Read a file of vectors; raises InputError if it is damaged or something else."""
    try:
        read = {".npz": _load_npz, ".npy": _load_npy, ".parquet": _load_parquet}[path.suffix.lower()]
        matrix, rows, provenance = read(path)
        if matrix.ndim != 2 or matrix.dtype != np.float32 or not isinstance(provenance, dict):
            raise ValueError("no vectors")
        vectors = VectorFile(provenance)
        vectors.put(rows, matrix)
        vectors.unsaved.clear()
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, BadZipFile) as error:
        way = "choose another --output, or start over with --force"
        raise InputError(f"{path}: not a file of vectors made by 'stop embed', or damaged; {way}") from error
    return vectors


Loaded = tuple[NDArray[np.float32], list[Row], dict[str, Any]]


def _load_npz(path: Path) -> Loaded:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        matrix, provenance = arrays["vectors"], json.loads(str(arrays["provenance"]))
        columns = [arrays[name].tolist() for name in ("paths", "starts", "ends", "sizes", "mtimes")]
    rows = [
        Row(p, None if np.isnan(a) else a, None if np.isnan(b) else b, s, m)
        for p, a, b, s, m in zip(*columns, strict=True)
    ]
    return matrix, rows, provenance


def _load_npy(path: Path) -> Loaded:
    with path.open("rb") as stream:
        matrix = np.load(stream, allow_pickle=False)
    # not splitlines: a name may hold any of the characters at which that cuts
    head, *lines = _sidecar(path).read_text(encoding="utf-8", errors="surrogateescape").strip().split("\n")
    provenance = json.loads(head)
    if provenance.pop("vectors") != _digest(matrix):  # a process died between the two files
        raise ValueError("the rows are of other vectors")
    return matrix, [Row(**json.loads(line)) for line in lines], provenance


def _load_parquet(path: Path) -> Loaded:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        table = pq.read_table(stream)
    lists = table["vector"].combine_chunks()
    if not pa.types.is_list(lists.type) or lists.type.value_type != pa.float32() or lists.null_count:
        raise ValueError("no vectors")
    flat, sizes = lists.flatten().to_numpy(zero_copy_only=False), np.diff(lists.offsets.to_numpy())
    if len(set(sizes.tolist())) > 1:
        raise ValueError("vectors of several sizes")
    matrix = flat.reshape(len(table), sizes[0] if len(sizes) else 0)
    rows = [Row(*values) for values in zip(*(table[n].to_pylist() for n in COLUMNS), strict=True)]
    rows = [replace(row, path=os.fsdecode(row.path)) for row in rows]
    return matrix, rows, json.loads(table.schema.metadata[b"stopcli"])


def _digest(matrix: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(matrix).data).hexdigest()


def save(path: Path, vectors: VectorFile) -> None:
    """Write a file of vectors, whole or not at all; raises CannotWrite."""
    matrix, kind = vectors.matrix(), path.suffix.lower()
    if kind == ".npy":
        rows = [to_json(asdict(r)) for r in vectors.rows]
        head = json.dumps({**vectors.provenance, "vectors": _digest(matrix)})
        write_text(_sidecar(path), "\n".join([head, *rows]) + "\n")
    with replacing(path) as part:
        if kind == ".npz":
            with part.open("wb") as stream:
                np.savez(stream, **_arrays(vectors))
        elif kind == ".npy":
            with part.open("wb") as stream:
                np.save(stream, matrix)
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

    types = (pa.float64(), pa.float64(), pa.int64(), pa.int64())
    columns = {
        name: pa.array([getattr(r, name) for r in vectors.rows], kind)
        for name, kind in zip(COLUMNS[1:], types, strict=True)
    }
    paths = [r.path for r in vectors.rows]
    try:
        columns["path"] = pa.array(paths, pa.string())
    except UnicodeEncodeError:  # a file name that is no text
        columns["path"] = pa.array([os.fsencode(p) for p in paths], pa.binary())
    columns["vector"] = pa.array(list(vectors.matrix()), pa.list_(pa.float32()))
    metadata = {"stopcli": json.dumps(vectors.provenance)}
    with path.open("wb") as stream:  # pyarrow takes no name that is no text
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), stream)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".jsonl")


def _is_ours(sidecar: Path) -> bool:
    """Say whether a file of rows was left by a process that died before it wrote their vectors."""
    try:
        with sidecar.open(encoding="utf-8") as stream:
            return set(json.loads(stream.readline())) >= {"vectors", "kind"}
    except (OSError, ValueError, TypeError):
        return False


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the settings that keep vectors made ``before`` from being compared with those made ``now``."""
    return [name for name in ALIKE[now["kind"]] if before.get(name) != now.get(name)]


def require_alike(what: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise FileExists where vectors cannot be compared: see `differences`."""
    for name in differences(before, now):
        how = f"with {name} {before.get(name)!r}, now it is {now.get(name)!r}"
        how = "by a tower with other settings" if name.endswith("_key") else how
        way = "choose another --output, or start over with --force"
        raise FileExists(f"{what} was made {how}; such vectors cannot be compared: {way}")


class Journal:
    """The rows of a run in progress, on disk as they are made: ``.OUT.journal``.

    One line a file: its rows in JSON and their vectors in hexadecimal, so that a line cut off by
    a crash is seen to be so and dropped.
    """

    def __init__(self, output: Path, provenance: dict[str, Any]) -> None:
        self.path = output.with_name(f".{output.name}.journal")
        self.of_two_files = output.suffix.lower() == ".npy"
        self.provenance = provenance

    def recover(self) -> VectorFile:
        """Return the rows that an interrupted run kept, with its provenance."""
        vectors = VectorFile({})
        if not self.path.is_file():
            return vectors
        try:
            with self.path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
                vectors.provenance = dict(json.loads(next(lines, "")))
                for line in lines:
                    entry = json.loads(line)
                    rows = [Row(**row) for row in entry["rows"]]
                    vectors.put(rows, [np.frombuffer(bytes.fromhex(v), np.float32) for v in entry["vectors"]])
        except (KeyError, TypeError, ValueError):  # the line that was being written
            pass
        return vectors

    def begin(self, vectors: VectorFile) -> None:
        """Start the journal over with what the output lacks, before anything that holds it is replaced.

        A ``.npy`` and its rows are two files, which a crash may tear apart: then it has the output's, too.
        """
        kept = vectors.parts if self.of_two_files else vectors.unsaved
        with replacing(self.path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
            out.write(json.dumps(self.provenance) + "\n")
            out.writelines(_entry(*vectors.parts[name]) + "\n" for name in kept)

    def append(self, rows: Sequence[Row], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Add the rows of one file."""
        append_line(self.path, _entry(rows, vectors))

    def end(self) -> None:
        """Remove the journal: the output holds everything now."""
        self.path.unlink(missing_ok=True)


def _entry(rows: Sequence[Row], vectors: Iterable[NDArray[np.float32]]) -> str:
    return json.dumps({"rows": [asdict(r) for r in rows], "vectors": [v.tobytes().hex() for v in vectors]})
