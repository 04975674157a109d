"""Recall and speed of the approximate way against the exact one: ``python tests/benchmarks/ann.py``.

Vectors are a smooth random map of a few hidden numbers, as embeddings of footage are; queries are
further points of the same map. Prints recall@10 of hits, and milliseconds a query.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from stopcli.index.ranking import search
from stopcli.index.scale.ann import ANNIndex
from stopcli.index.selection import Selection
from stopcli.index.types import Filters, Query

SIZE, HIDDEN, EACH, QUERIES = 512, 24, 100, 50


def points(rng: np.random.Generator, maps: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    hidden = rng.standard_normal((count, HIDDEN)).astype(np.float32)
    v = np.tanh(hidden @ maps[0]) @ maps[1]
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    maps = (
        rng.standard_normal((HIDDEN, 128)).astype(np.float32) / 3,
        rng.standard_normal((128, SIZE)).astype(np.float32),
    )
    vectors = points(rng, maps, args.rows)
    count = np.full(args.rows // EACH, EACH)
    first = np.cumsum(count) - count
    files = Selection(first, count, count * 8.0, tuple(str(i) for i in range(len(count))), 8.0)
    queries = [Query(str(i), v) for i, v in enumerate(points(rng, maps, QUERIES))]
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        ann = ANNIndex(Path(scratch) / "v.usearch", vectors, lambda _: None)
        built = time.perf_counter() - began
        size = (Path(scratch) / "v.usearch").stat().st_size
    taken: dict[str, list[float]] = {"exact": [], "approximate": []}
    right = total = 0
    for query in queries:
        hits = {}
        for name, near in (("exact", None), ("approximate", ann.rows)):
            began = time.perf_counter()
            hits[name] = {(h.path, h.start) for h in search(vectors, files, [query], Filters(), (), near)}
            taken[name].append(time.perf_counter() - began)
        right += len(hits["exact"] & hits["approximate"])
        total += len(hits["exact"])
    medians = {name: f"{1000 * statistics.median(t):.1f} ms" for name, t in taken.items()}
    print(f"{args.rows} rows: built in {built:.0f} s, {size / 1e6:.0f} MB")
    print(f"recall@10 {right / total:.3f}; {medians}")


if __name__ == "__main__":
    main()
