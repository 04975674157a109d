"""Removing, compacting, merging, listing, describing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from index_toys import filled_index, space_of, toy_space, vectors_by_content

from stopcli.errors import CannotWrite, UsageError
from stopcli.index.database import FORMAT
from stopcli.index.maintenance import (
    _bad_contents,
    choose_space,
    compact,
    describe,
    listing,
    merge,
    remove,
    remove_space,
)
from stopcli.index.types import Fault, FileRecord, NewEntry
from stopcli.results import IndexedFile, IndexSpace


def test_compact_drops_what_no_file_has(tmp_path):
    index = filled_index(tmp_path)
    before = vectors_by_content(index)
    with index.writing():
        index.add(space_of(index), [], {"lost": Fault("e", "m"), "c1": Fault("e", "m")}, {})
    assert remove(index, [Path("/v/0.mp4"), Path("/v/2.mp4")]) == 2
    assert vectors_by_content(index) == before  # still there, should they come back
    assert compact(index).freed == 4 * 4 * 4
    assert vectors_by_content(index) == {c: before[c] for c in ("c1", "c3", "c4", "c5")}
    assert set(index.database.faults(space_of(index))) == {"c1"}
    assert [p.name for p in tmp_path.glob("*vectors-*")] == ["vectors-1.1.f32"]


def test_compact_rewrites_nothing_where_all_is_in_use(tmp_path):
    index = filled_index(tmp_path)
    assert compact(index).freed == 0
    assert [p.name for p in tmp_path.glob("vectors-*")] == ["vectors-1.f32"]


def test_compact_clears_what_killed_ones_left(tmp_path):
    index = filled_index(tmp_path)
    for name in (
        ".vectors-1.2-ab12.part.f32",
        "vectors-1.2.f32",
        "vectors-9.f32.usearch",
        "vectors-1.f32.usearch",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "mine.txt").write_text("not the index's")
    compact(index)
    left = {p.name for p in tmp_path.iterdir()}
    assert {n for n in left if "vectors" in n} == {"vectors-1.f32", "vectors-1.f32.usearch"}
    assert "mine.txt" in left


def test_compact_on_a_full_disk_leaves_all_as_it_was(tmp_path, monkeypatch):
    index = filled_index(tmp_path)
    before = vectors_by_content(index)
    remove(index, [Path("/v/1.mp4")])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(CannotWrite, match="disk is full"):
        patch.setattr(os, "fsync", full)
        compact(index)
    assert vectors_by_content(index) == before
    assert [p.name for p in tmp_path.glob("*vectors-*")] == ["vectors-1.f32"]


def test_merge_takes_what_is_new(tmp_path):
    a, b = filled_index(tmp_path / "a", files=3), filled_index(tmp_path / "b", files=6)
    with b.writing():
        b.add(space_of(b), [], {"broken": Fault("no-video-stream", "{path}: no")}, {})
    assert merge(a, b) == (3, 6)
    assert vectors_by_content(a) == vectors_by_content(b)
    assert a.database.files() == b.database.files()
    assert a.database.faults(space_of(a)) == b.database.faults(space_of(b))
    assert merge(a, b) == (0, 0)


def test_listing_and_describing_tell_what_is_there(tmp_path):
    index = filled_index(tmp_path, files=3)
    with index.writing():
        whole = index.database.make_space(toy_space(window=None))
        fault = {"c1": Fault("unreadable-video", "{path}: no")}
        files = {Path("/v/deep/9.mp4"): FileRecord(9, 1, "c0")}
        index.add(whole, [NewEntry("c0", 8.0, np.eye(1, 4, dtype=np.float32))], fault, files)
    assert listing(index) == [
        IndexedFile("/v/0.mp4", 10, 2, None),
        IndexedFile("/v/1.mp4", 11, 2, "unreadable-video"),
        IndexedFile("/v/2.mp4", 12, 3, None),
        IndexedFile("/v/deep/9.mp4", 9, 2, None),
    ]
    assert [f.path for f in listing(index, [Path("/v/deep"), Path("/v/1.mp4")])] == [
        "/v/1.mp4",
        "/v/deep/9.mp4",
    ]
    info = describe(index)
    assert (info.folder, info.format, info.files) == (str(tmp_path), FORMAT, 4)
    assert info.bytes > 7 * 16
    assert info.spaces == (
        IndexSpace(1, "toy", "w" * 64, "fp32", 4, 8.0, 6), IndexSpace(2, "toy", "w" * 64, "fp32", 4, None, 1),
    )  # fmt: skip


def test_rm_merge_compact_and_info(run, run_json, toy, clips, tmp_path):
    run("index", "update", clips, "--model", toy, "--device", "cpu", "--precision", "fp32")
    status, document = run_json("index", "rm", clips / "deeper")
    assert (status, document["data"][0]["removed"]) == (0, 1)
    status, document = run_json("index", "compact")
    assert status == 0
    assert document["data"][0]["freed"] == 32 * 4
    assert run_json("index", "info")[1]["data"][0]["files"] == 2
    home = Path(os.environ["STOPCLI_HOME"]) / "index"
    status, document = run_json("index", "merge", home, "--index", tmp_path / "other")
    assert (status, document["data"][0]["added"], document["data"][0]["vectors"]) == (0, 2, 1)
    assert run("index", "merge", tmp_path / "nothing", "--index", tmp_path / "other")[0] == 3
    assert run_json("index", "rm", "--all")[1]["data"][0]["removed"] == 2
    assert json.loads(run("index", "ls", "--format", "json")[1])["data"] == []
    assert run("index", "rm")[0] == 2


def test_a_space_is_removed_without_the_others(tmp_path):
    index = filled_index(tmp_path, files=3)
    before, files = vectors_by_content(index), index.database.files()
    with index.writing():
        whole = index.database.make_space(toy_space(window=None))
        index.add(whole, [NewEntry("c0", 8.0, np.eye(1, 4, dtype=np.float32))], {"c1": Fault("e", "m")}, {})
    (tmp_path / "vectors-2.f32.usearch").write_bytes(b"x")
    assert remove_space(index, 2) == 4 * 4
    assert [p.name for p in tmp_path.glob("*vectors-*")] == ["vectors-1.f32"]
    assert [s.id for s in index.database.spaces()] == [1]
    assert (vectors_by_content(index), index.database.files()) == (before, files)
    again = index.database.make_space(toy_space(window=None))
    assert (index.database.entries(again), index.database.faults(again)) == ({}, {})
    with pytest.raises(
        UsageError, match="2 settings; choose by --space: 1 is toy, fp32, windows of 8 s; 2 is"
    ):
        remove_space(index, 3)
    assert choose_space(index, None).id == 1
    with pytest.raises(UsageError, match=r"1 setting; choose by --space: 1 is toy, fp32, windows of 8 s$"):
        choose_space(index, 2)  # it holds no vectors
    assert remove_space(index, 2) == 0


def test_the_vectors_of_one_model_are_removed_by_the_number_that_info_shows(run, run_json, toy, clips):
    for window in ("8", "2"):
        run("index", "update", clips, "-m", toy, "--device", "cpu", "--precision", "fp32", "--window", window)
    spaces = run_json("index", "info")[1]["data"][0]["spaces"]
    other = next(s["id"] for s in spaces if s["window"] == 2)
    assert f"space {other}" in run("index", "info", "--format", "table")[1]
    assert run_json("index", "rm", "--space", other)[1]["data"][0]["freed"] > 0
    assert run_json("index", "info")[1]["data"][0]["spaces"] == [s for s in spaces if s["id"] != other]
    assert run("index", "rm", "--space", 9)[0] == 2
    assert run("index", "rm", "--space", 1, "--all")[0] == 2


def test_merge_forgets_that_a_file_could_not_be_read_here(tmp_path):
    a, b = filled_index(tmp_path / "a", files=3), filled_index(tmp_path / "b", files=6)
    with a.writing():
        a.add(space_of(a), [], {c: Fault("video-too-large", "m") for c in ("c4", "c5", "else")}, {})
    with b.writing():
        b.add(space_of(b), [], {"c5": Fault("unreadable-video", "read in part")}, {})
    merge(a, b)
    assert set(a.database.faults(space_of(a))) == {"c5", "else"}


def test_what_was_removed_is_tried_again_when_it_comes_back(tmp_path):
    index, path = filled_index(tmp_path), Path("/v/broken.mp4")
    with index.writing():
        fault = {"c9": Fault("unreadable-video", "no decoder")}
        index.add(space_of(index), [], fault, {path: FileRecord(1, 1, "c9")})
    assert index.database.faults(space_of(index)) == fault
    assert remove(index, [path]) == 1
    assert index.database.faults(space_of(index)) == {}


def test_an_entry_of_endless_vectors_is_found_at_once(tmp_path):
    index = filled_index(tmp_path, files=2)
    space = space_of(index)
    (file,) = tmp_path.glob("vectors-*.f32")
    with file.open("r+b") as stream:
        stream.write(bytes(16))  # a vector that none is
    with index.database.transaction() as db:
        db.execute("UPDATE entries SET count=? WHERE content='c1'", (3_000_000_000_000_000_000,))
    assert _bad_contents(index, space, look=True) == {"c0", "c1"}
