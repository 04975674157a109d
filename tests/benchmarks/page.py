"""How fast the page answers, by the size of the archive: ``python tests/benchmarks/page.py [--rows N ...]``.

Vectors are random, of mini's size; 10,000 tiny files stand for the archive. Questions are new sentences, asked
over HTTP of a server of its own: what is measured is what a person waits for.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from index import record, tree  # noqa: E402

from served import browser, served  # noqa: E402
from stopcli.hub.registry import resolve  # noqa: E402
from stopcli.index.store import Index  # noqa: E402
from stopcli.index.types import NewEntry, Space  # noqa: E402
from stopcli.video.clips import READER  # noqa: E402

QUESTIONS = 60
THINGS = [
    "dog",
    "fox",
    "ship",
    "tree",
    "car",
    "bird",
    "clock",
    "house",
    "train",
    "cake",
    "kite",
    "lamp",
    "boat",
    "star",
    "drum",
]
WAYS = ["left", "right", "up", "down", "closer", "away", "in-circles"]


def build(folder: Path, files: list[Path], rows: int) -> None:
    model = resolve("mini")
    size, frames, each = 192, model.config.frames, max(1, rows // len(files))
    rng = np.random.default_rng(0)
    with Index(folder) as index, index.writing():
        space = index.database.make_space(Space("mini", model.video_key(READER), "fp32", frames, 8.0, size))
        for i in range(0, len(files), 500):
            batch = {path: record(path) for path in files[i : i + 500]}
            vectors = rng.standard_normal((len(batch), each, size), np.float32)
            vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
            new = [NewEntry(k.content, each * 8.0, v) for k, v in zip(batch.values(), vectors, strict=True)]
            space = index.add(space, new, {}, batch)


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def quantiles(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{1000 * statistics.median(ordered):.0f} | {1000 * ordered[int(0.95 * len(ordered))]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "stopcli-page")
    args = parser.parse_args()
    print(
        "| moments | start, s | first paint, ms | search p50, ms | p95 | after a label p50, ms | p95 | memory, MiB |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for rows in args.rows:
        shutil.rmtree(args.scratch, ignore_errors=True)
        files = tree(args.scratch / "videos")[: min(10_000, rows)]
        build(args.scratch / "index", files, rows)
        began = time.perf_counter()
        options = (
            "--model",
            "mini",
            "--index",
            args.scratch / "index",
            "--table",
            args.scratch / "labels.csv",
        )
        with served(args.scratch / "videos", *options, home=args.scratch / "home") as server:
            started = time.perf_counter() - began
            server.indexed()
            asked = [f"a {thing} moving {way} {i}" for i, (thing, way) in enumerate(
                (t, w) for t in THINGS for w in WAYS)][:QUESTIONS]  # fmt: skip
            server.json("POST", "/api/search", {"query": "a warm question"})
            search = []
            for text in asked:
                mark = time.perf_counter()
                found = server.json("POST", "/api/search", {"query": text})
                search.append(time.perf_counter() - mark)
            label, moments = [], [m["id"] for m in found["moments"]]
            for moment in moments[:20]:
                mark = time.perf_counter()
                server.json("POST", "/api/judge", {"answers": {moment: "x"}})
                server.json("POST", "/api/search", {"label": "x", "query": asked[0]})
                label.append(time.perf_counter() - mark)
            with browser() as made:  # the files are no videos: there are no pictures of them
                page = made.new_page()
                page.goto(server.link)
                page.wait_for_selector(".card")
                paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            used = memory(server.process.pid)
        print(
            f"| {rows:,} | {started:.1f} | {paint:.0f} | {quantiles(search)} | {quantiles(label)} | {used:.0f} |",
            flush=True,
        )
    shutil.rmtree(args.scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
