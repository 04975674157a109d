"""The approximate way finds what the exact search finds, and its file is a cache."""

from __future__ import annotations

import numpy as np
import pytest
from index_toys import part_of, selection, unit

from stopcli.index.ranking import search
from stopcli.index.scale.ann import ANNIndex
from stopcli.index.types import Filters, Query

pytest.importorskip("usearch")


def test_the_approximate_index_finds_what_the_exact_search_finds(tmp_path):
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(300, 32))  # as footage has scenes, vectors have clusters
    v = (centres[rng.integers(300, size=12000)] + 0.4 * rng.normal(size=(12000, 32))).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    files, file, notes = selection([4] * 3000), tmp_path / "v.usearch", []
    queries = [Query(str(k), unit(*(centres[k] + 0.3 * rng.normal(size=32)))) for k in range(20)]
    exact = {(h.query, h.path, h.start) for h in search(v, files, queries, Filters())}
    hits = search(v, files, queries, Filters(), (), ANNIndex(file, v, notes.append).rows)
    assert len(exact & {(h.query, h.path, h.start) for h in hits}) >= 0.95 * len(exact)
    assert len(notes) == 1
    near = ANNIndex(file, v, notes.append).rows
    assert len(notes) == 1  # it was kept
    half = part_of(files, slice(None, None, 2))
    assert {h.path for h in search(v, half, queries, Filters(), (), near)} <= set(half.paths)
    file.write_bytes(b"broken")
    ANNIndex(file, v, notes.append)
    assert len(notes) == 2  # and is built again
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_approximate_index_follows_the_vectors(tmp_path):
    v = np.eye(32, dtype=np.float32)
    file, notes = tmp_path / "v.usearch", []
    ANNIndex(file, v[:20], notes.append)
    assert ANNIndex(file, v, notes.append).rows(v[31])[0] == 31
    assert "12 vectors" in notes[1]  # only what came is added
    assert set(ANNIndex(file, v[:5], notes.append).rows(v[31])) == set(range(5))
