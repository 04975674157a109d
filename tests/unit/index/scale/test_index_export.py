"""The moments of an index in other stores: read back by those stores' own libraries."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from stopcli.errors import CannotWrite, FileExists, NothingFound, UsageError
from stopcli.index.maintenance import choose_space, compact
from stopcli.index.scale import export as x
from stopcli.index.store import Index
from stopcli.index.types import SHOTS, FileRecord, NewEntry, Space

ODD = os.fsdecode(b'/v/\xff,\n".mp4')


@pytest.fixture
def index(tmp_path):
    """Three contents: one with a copy; one of which two windows are there; one that no file has."""
    rng = np.random.default_rng(0)
    with Index(tmp_path / "index") as index, index.writing():
        space = index.database.make_space(Space("toy", "w" * 64, "fp32", 4, 8.0, 16))
        new = []
        for name, count, numbers, begin in (
            ("a", 5, None, 0.0),
            ("b", 2, (1, 4), 2.0),
            ("lost", 1, None, 0.0),
        ):
            v = rng.standard_normal((count, 16)).astype(np.float32)
            new.append(NewEntry(name, 39.0, v / np.linalg.norm(v, axis=1, keepdims=True), numbers, begin))
        files = {"/v/a.mp4": "a", "/v/b.mp4": "b", ODD: "a"}
        index.add(space, new, {}, {Path(p): FileRecord(1, 1, c) for p, c in files.items()})
        yield index


def rows_of(index):
    (space,) = index.database.spaces()
    return [
        (path, start, end, duration, vector.tolist())
        for batch in x.moments(index, space)
        for path, start, end, duration, vector in zip(
            batch.paths, batch.starts, batch.ends, batch.durations, batch.vectors, strict=True
        )
    ]


def test_a_moment_has_the_times_that_a_search_would_show(index):
    rows = rows_of(index)
    assert [row[:4] for row in rows if row[0] == "/v/b.mp4"] == [
        ("/v/b.mp4", 10.0, 18.0, 39.0),
        ("/v/b.mp4", 34.0, 39.0, 39.0),
    ]
    assert len([row for row in rows if row[0] == ODD]) == 5
    assert [row[1:3] for row in rows if row[0] == "/v/a.mp4"][-1] == (32.0, 39.0)
    assert len(rows) == 12  # not what no file has


@pytest.mark.parametrize("batch", [1, 3, 5, 100])
@pytest.mark.parametrize("store", list(x.SUFFIXES))
def test_every_store_reads_back_what_was_written(index, tmp_path, store, batch, monkeypatch):
    monkeypatch.setattr(x, "BATCH", batch)
    (space,) = index.database.spaces()
    target, seen = tmp_path / f"out{x.SUFFIXES[store]}", []
    assert x.export(index, space, target, store, seen.append) == 12
    assert seen[-1] == 12
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    if store == "qdrant-jsonl":
        points = [json.loads(line) for line in target.read_text().splitlines()]
        assert [p["id"] for p in points] == list(range(12))
        found = [
            (
                p["payload"]["path"],
                p["payload"]["start"],
                p["payload"]["end"],
                p["payload"]["duration"],
                p["vector"],
            )
            for p in points
        ]
        assert np.allclose([f[4] for f in found], [r[4] for r in rows_of(index)])
        assert [f[1:4] for f in found] == [r[1:4] for r in rows_of(index)]
        assert {f[0] for f in found} == {r[0].replace("\udcff", "\ufffd") for r in rows_of(index)}
        return
    if store == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(target)
        assert json.loads(table.schema.metadata[b"stopcli"])["model"] == "toy"
    else:
        import lancedb

        opened = lancedb.connect(str(target)).open_table("moments")
        table = opened.to_arrow()
        query = np.array(rows_of(index)[3][4], np.float32)
        assert opened.search(query).limit(1).to_list()[0]["id"] == 3
    names = ("start", "end", "duration")
    assert list(zip(*(table[n].to_pylist() for n in names), strict=True)) == [r[1:4] for r in rows_of(index)]
    assert np.array_equal(
        np.array(table["vector"].to_pylist(), np.float32),
        np.array([r[4] for r in rows_of(index)], np.float32),
    )
    assert table["path"].to_pylist().count("/v/a.mp4") == 5


@pytest.mark.parametrize("shots", [SHOTS, "-shots1"])
def test_windows_at_cuts_and_whole_files_are_exported_too(tmp_path, shots):
    """Those of an earlier version, too: its spaces have another key."""
    one = np.eye(16, dtype=np.float32)[:2]
    with Index(tmp_path / "index") as index, index.writing():
        shots = index.database.make_space(Space("toy", "w" + shots, "fp32", 4, 8.0, 16))
        whole = index.database.make_space(Space("toy", "w", "fp32", 4, None, 16))
        files = {Path("/v/a.mp4"): FileRecord(1, 1, "a")}
        index.add(shots, [NewEntry("a", 9.0, one, (0, 2500), 1.0)], {}, files)
        index.add(whole, [NewEntry("a", 9.0, one[:1])], {}, files)
        with pytest.raises(UsageError, match=r"2 settings; choose by --space: 1 is toy"):
            choose_space(index, None)
        with pytest.raises(UsageError, match="--space"):
            choose_space(index, 9)
        spans = [(b.starts, b.ends) for n in (1, 2) for b in x.moments(index, choose_space(index, n))]
        assert spans == [([1.0, 3.5], [3.5, 9.0]), ([None], [None])]


@pytest.mark.parametrize("change", ["compact", "add"])
def test_what_others_write_meanwhile_mixes_no_vectors(index, change):
    (space,) = index.database.spaces()
    right = {row[:3]: row[4] for row in rows_of(index)}
    if change == "compact":
        index.database.update_files({}, [Path("/v/a.mp4"), Path(ODD)])
        right = {key: v for key, v in right.items() if key[0] == "/v/b.mp4"}
    else:
        one = NewEntry("new", 8.0, np.eye(1, 16, dtype=np.float32))
        index.add(space, [one], {}, {Path("/v/new.mp4"): FileRecord(1, 1, "new")})
        right["/v/new.mp4", 0.0, 8.0] = np.eye(1, 16)[0].tolist()
    if change == "compact":
        compact(index)
    batches = list(x.moments(index, space))  # with the space as it was
    found = {
        (path, start, end): vector.tolist()
        for b in batches
        for path, start, end, vector in zip(b.paths, b.starts, b.ends, b.vectors, strict=True)
    }
    assert found == right


def test_nothing_is_replaced_without_a_word(index, tmp_path):
    (tmp_path / "x.parquet").write_text("mine")
    with pytest.raises(FileExists, match="--force"):
        x.check_export(tmp_path / "x.parquet", "parquet", force=False)
    (tmp_path / "x.lance").mkdir()
    (tmp_path / "x.lance" / "mine").write_text("mine")
    with pytest.raises(FileExists, match="another name"):
        x.check_export(tmp_path / "x.lance", "lance", force=True)
    for name, store in (("x.csv", "parquet"), ("x.parquet", "lance"), ("x.txt", "qdrant-jsonl")):
        with pytest.raises(UsageError, match="must end in"):
            x.check_export(tmp_path / name, store, force=True)
    (space,) = index.database.spaces()
    x.export(index, space, tmp_path / "y.lance", "lance", print)
    x.check_export(tmp_path / "y.lance", "lance", force=True)
    assert x.export(index, space, tmp_path / "y.lance", "lance", print) == 12
    (tmp_path / "y.lance" / "other.lance").mkdir()  # somebody's table
    with pytest.raises(FileExists, match="another name"):
        x.check_export(tmp_path / "y.lance", "lance", force=True)
    with pytest.raises((UsageError, CannotWrite)):
        x.check_export(tmp_path / "nowhere" / "y.parquet", "parquet", force=True)


def test_an_index_without_vectors_says_so(tmp_path):
    with Index(tmp_path / "index") as index, pytest.raises(NothingFound, match="stop index update"):
        choose_space(index, None)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    with pytest.raises(UsageError, match=r"install 'stopcli\[lance\]'"):
        x.check_export(tmp_path / "x.lance", "lance", force=False)
