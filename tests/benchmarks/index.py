"""What the index costs, by its size: ``python tests/benchmarks/index.py [--rows N ...] [--scratch DIR]``.

Vectors are random, 512 wide; 10,000 real (tiny) files in 100 folders stand for the archive, so that
scanning and stat cost what they cost. Every figure is a median.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stopcli.fileio import content_key
from stopcli.index.ranking import search
from stopcli.index.selection import select
from stopcli.index.store import Index
from stopcli.index.sync import compare
from stopcli.index.types import FileRecord, Filters, NewEntry, Query, Space
from stopcli.video.discovery import find_videos

SIZE, FILES = 512, 10_000
SPACE = ("w" * 64, None, 12, 8.0)


def record(path: Path) -> FileRecord:
    status = path.stat()
    return FileRecord(status.st_size, status.st_mtime_ns, content_key(path))


def tree(folder: Path) -> list[Path]:
    out = []
    for i in range(FILES):
        path = folder / f"{i // 100:03d}" / f"{i:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video %d" % i)
        out.append(path)
    return out


def build(folder: Path, files: list[Path], rows: int) -> None:
    rng = np.random.default_rng(0)
    each = rows // len(files)
    with Index(folder) as index, index.writing():
        space = index.database.make_space(Space("random", "w" * 64, "fp32", 12, 8.0, SIZE))
        for i in range(0, len(files), 200):
            batch = {path: record(path) for path in files[i : i + 200]}
            new = []
            for known in batch.values():
                v = rng.standard_normal((each, SIZE), np.float32)
                v /= np.linalg.norm(v, axis=1, keepdims=True)
                new.append(NewEntry(known.content, each * 8.0, v))
            space = index.add(space, new, {}, batch)


def timed(work, rounds: int = 7) -> tuple[float, object]:
    taken, out = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        out = work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000, out


def opening(folder: Path) -> None:
    with Index(folder) as index:
        assert index.snapshot(set(), *SPACE).space is not None


def measure(folder: Path, videos: Path, rows: int) -> dict[str, float]:
    figures: dict[str, float] = {"rows": rows}
    figures["open ms"], _ = timed(lambda: opening(folder))
    query = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    queries = [Query("q", query / np.linalg.norm(query))]
    with Index(folder) as index:

        def unchanged(folder=videos):
            diff = compare(index.database, list(find_videos([folder])), [folder])
            state = index.snapshot(diff.contents(), *SPACE)
            assert not (diff.changed or diff.gone or diff.missing(state))
            return diff, state

        figures["update unchanged ms"], (diff, state) = timed(unchanged, 5)
        figures["one folder of 100, ms"], part = timed(lambda: unchanged(videos / "000"), 5)
        figures["select ms"], selection = timed(lambda: select(diff, state, Filters()))
        began = time.perf_counter()
        search(state.vectors, selection, queries, Filters())
        figures["query first ms"] = (time.perf_counter() - began) * 1000
        figures["query ms"], hits = timed(lambda: search(state.vectors, selection, queries, Filters()))
        assert len(hits) == 10
        half = select(diff, state, Filters(glob="*/0[0-4]?/*"))
        figures["query, half the files, ms"], _ = timed(
            lambda: search(state.vectors, half, queries, Filters())
        )
        few = select(*part, Filters())
        figures["query, one folder, ms"], _ = timed(lambda: search(state.vectors, few, queries, Filters()))
        space, one, number = state.space, np.ones((12, SIZE), np.float32), iter(range(1000))

        def add() -> None:
            nonlocal space
            i = next(number)
            with index.writing():
                files = {videos / f"new{i}.mp4": FileRecord(1, 1, f"new{i}")}
                space = index.add(space, [NewEntry(f"new{i}", 96.0, one)], {}, files)

        figures["add one ms"], _ = timed(add)
        figures["disk MB"] = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    figures["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        folder, videos, rows = Path(args.one[0]), Path(args.one[1]), int(args.one[2])
        print(
            " | ".join(
                f"{v:,.1f}" if k != "rows" else f"{v:,.0f}" for k, v in measure(folder, videos, rows).items()
            )
        )
        sys.exit()
    scratch = Path(tempfile.mkdtemp(dir=args.scratch))
    try:
        files = tree(scratch / "videos")
        print(
            "rows | open | update unchanged | one folder of 100 | select | query, first | query | half of the files | one folder | add one | disk MB | peak MB"
        )
        for rows in args.rows:
            build(scratch / str(rows), files, rows)
            subprocess.run(
                [sys.executable, __file__, "--one", scratch / str(rows), scratch / "videos", str(rows)],
                check=True,
            )
            shutil.rmtree(scratch / str(rows))
    finally:
        shutil.rmtree(scratch)
