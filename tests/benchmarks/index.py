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

from stopcli.index.database import FileRecord, Index, Space
from stopcli.index.ranking import Filters, Query, search, select
from stopcli.index.sync import missing, scan
from stopcli.video.discovery import content_key, find_videos

SIZE, FILES = 512, 10_000
WEIGHTS = "w" * 64


def known(path: Path) -> FileRecord:
    told = path.stat()
    return FileRecord(told.st_size, told.st_mtime_ns, content_key(path))


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
        space = index.space(Space("random", WEIGHTS, "fp32", 12, 8.0, SIZE))
        for i in range(0, len(files), 200):
            batch = []
            for path in files[i : i + 200]:
                v = rng.standard_normal((each, SIZE), np.float32)
                batch.append((path, known(path), each * 8.0, v / np.linalg.norm(v, axis=1, keepdims=True)))
            index.add(space, batch)


def timed(work, rounds: int = 7) -> tuple[float, object]:
    taken, out = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        out = work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000, out


def opening(folder: Path) -> None:
    with Index(folder) as index:
        space = index.find_space(WEIGHTS, None, 12, 8.0)
        assert space is not None
        index.vectors(space)


def measure(folder: Path, videos: Path, rows: int) -> dict[str, float]:
    told: dict[str, float] = {"rows": rows}
    told["open ms"], _ = timed(lambda: opening(folder))
    query = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    asked = [Query("q", query / np.linalg.norm(query))]
    with Index(folder) as index:
        space = index.find_space(WEIGHTS, None, 12, 8.0)
        assert space is not None

        def unchanged():
            files = scan(index, list(find_videos([videos])), [videos])
            assert not files.changed
            assert not files.gone
            assert not missing(index, space, files)
            return files

        told["update unchanged ms"], files = timed(unchanged, 5)
        told["select ms"], selection = timed(
            lambda: select(index, space, files.found, files.shown, Filters())
        )
        began = time.perf_counter()
        search(index.vectors(space), selection, asked, Filters())
        told["query first ms"] = (time.perf_counter() - began) * 1000
        vectors = index.vectors(space)
        told["query ms"], hits = timed(lambda: search(vectors, selection, asked, Filters()))
        assert len(hits) == 10
        half = select(index, space, files.found, files.shown, Filters(glob="*/0[0-4]?/*"))
        told["query, half the files, ms"], _ = timed(lambda: search(vectors, half, asked, Filters()))
        one = np.ones((12, SIZE), np.float32)
        number = iter(range(1000))

        def add() -> None:
            i = next(number)
            with index.writing():
                index.add(space, [(videos / f"new{i}.mp4", FileRecord(1, 1, f"new{i}"), 96.0, one)])

        told["add one ms"], _ = timed(add)
        told["disk MB"] = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    told["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return told


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
            "rows | open | update unchanged | select | query, first | query | half of the files | add one | disk MB | peak MB"
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
