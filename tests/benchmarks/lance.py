"""Recall and speed of LanceDB's IVF_PQ against the exact scan: ``python tests/benchmarks/lance.py``.

An index of so many moments (vectors as in ann.py) is exported as `stop index export --to lance` does it, and
given an IVF_PQ index. Prints recall@10 and milliseconds a query, by how many partitions are probed and how many
rows are read again in full.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np
from ann import HIDDEN, QUERIES, SIZE, points

from stopcli.index.scale.export import TABLE, export
from stopcli.index.store import Index
from stopcli.index.types import FileRecord, NewEntry, Space

EACH = 1000  # moments of a file
SETTINGS = ((10, 10), (20, 10), (20, 50), (50, 50))  # partitions probed; times ten rows that are read again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    maps = (
        rng.standard_normal((HIDDEN, 128)).astype(np.float32) / 3,
        rng.standard_normal((128, SIZE)).astype(np.float32),
    )
    queries = points(rng, maps, QUERIES)
    with tempfile.TemporaryDirectory() as scratch, Index(Path(scratch) / "index") as index:
        with index.writing():
            space = index.database.make_space(Space("toy", "w" * 64, "fp32", 4, 8.0, SIZE))
            for first in range(0, args.rows, 50 * EACH):
                names = [str(i) for i in range(first, min(args.rows, first + 50 * EACH), EACH)]
                new = [NewEntry(n, 8.0 * EACH, points(rng, maps, EACH)) for n in names]
                files = {Path(f"/v/{n}.mp4"): FileRecord(1, 1, n) for n in names}
                space = index.add(space, new, {}, files)
        vectors = np.asarray(index.vectors(space))
        began = time.perf_counter()
        target = Path(scratch) / "moments.lance"
        export(index, space, target, "lance", lambda _: None)
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
        print(f"{args.rows} rows: exported in {time.perf_counter() - began:.1f} s, {size / 1e6:.0f} MB")
        table = lancedb.connect(str(target)).open_table(TABLE)
        began = time.perf_counter()
        partitions = round(args.rows**0.5)
        table.create_index("vector", config=lancedb.index.IvfPq("cosine", partitions, SIZE // 8))
        more = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) - size
        print(
            f"IVF_PQ of {partitions} partitions: built in {time.perf_counter() - began:.0f} s, {more / 1e6:.0f} MB"
        )
        exact, taken = [], []
        for query in queries:
            began = time.perf_counter()
            exact.append(set(np.argpartition(-(vectors @ query), 10)[:10].tolist()))
            taken.append(time.perf_counter() - began)
        print(f"exact scan in memory: {1000 * statistics.median(taken):.1f} ms")
        for probes, again in SETTINGS:
            right, taken = 0, []
            for query, truth in zip(queries, exact, strict=True):
                search = (
                    table.search(query).distance_type("cosine").nprobes(probes).refine_factor(again).limit(10)
                )
                began = time.perf_counter()
                found = search.select(["id", "_distance"]).to_arrow()["id"].to_pylist()
                taken.append(time.perf_counter() - began)
                right += len(truth & set(found))
            recall, middle = right / (10 * QUERIES), 1000 * statistics.median(taken)
            print(f"{probes} partitions, {again}0 rows read again: recall@10 {recall:.3f}, {middle:.1f} ms")


if __name__ == "__main__":
    main()
