"""The index folder: vectors and the rows that name them, one writer, one state for a reader."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_toys import filled_index, space_of, toy_space, unit_rows, vectors_by_content

from stopcli.errors import CannotWrite, IndexBusy, IndexUnusable
from stopcli.index.database import FORMAT, Database
from stopcli.index.maintenance import compact, remove
from stopcli.index.store import DATABASE, Index
from stopcli.index.types import Fault, FileRecord, NewEntry

ONE = NewEntry("new", 8.0, np.ones((1, 4), np.float32))


def test_vectors_come_back_where_the_entries_say(tmp_path):
    index = filled_index(tmp_path)
    space = space_of(index)
    entries, matrix = index.database.entries(space), index.vectors(space)
    assert space.rows == sum(e.count for e in entries.values()) == 12
    rng = np.random.default_rng(0)
    for i in range(6):
        e = entries[f"c{i}"]
        expected = unit_rows(rng.normal(size=(e.count, 4)))
        assert np.array_equal(matrix[e.first : e.first + e.count], expected)


def test_who_may_only_read_sees_what_was_written_last(tmp_path):
    index = filled_index(tmp_path)
    assert (tmp_path / "index.sqlite-wal").stat().st_size
    reader = Database(tmp_path / "index.sqlite", writable=False)
    assert len(reader.files()) == 6
    reader.close()
    index.close()


def test_a_commit_is_on_the_disk_before_what_it_replaces_is_removed(tmp_path):
    """A power cut after `compact` left a database that named vectors which were gone."""
    index = filled_index(tmp_path)
    assert index.database._rows("PRAGMA synchronous") == [(2,)]  # FULL: each commit is synced
    index.close()


def test_a_killed_writers_tail_is_overwritten(tmp_path):
    index = filled_index(tmp_path)
    before = np.array(index.vectors(space_of(index)))
    (file,) = tmp_path.glob("vectors-*.f32")
    with file.open("ab") as stream:
        stream.write(b"half a vec")
    with index.writing():
        index.add(space_of(index), [ONE], {}, {})
    matrix = index.vectors(space_of(index))
    assert np.array_equal(matrix[:-1], before)
    assert np.array_equal(matrix[-1], np.ones(4))
    assert file.stat().st_size == matrix.nbytes


def test_spaces_do_not_mix(tmp_path):
    index = filled_index(tmp_path)
    database, space = index.database, space_of(index)
    with index.writing():
        for other in (
            toy_space(weights="x" * 64), toy_space(precision="bf16"), toy_space(frames=8), toy_space(window=None)
        ):  # fmt: skip
            assert database.make_space(other).id != space.id
            assert database.entries(database.make_space(other)) == {}
            assert database.make_space(other) in database.spaces()
        assert database.make_space(toy_space(model="other name")) == space


def test_another_format_and_a_broken_file_are_refused(tmp_path):
    filled_index(tmp_path).close()
    for number, advice in ((FORMAT + 1, "upgrade stopcli"), (FORMAT - 1, "delete its folder")):
        db = sqlite3.connect(tmp_path / DATABASE)
        db.execute(f"PRAGMA user_version={number}")
        db.close()
        with pytest.raises(IndexUnusable, match=advice):
            Index(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexUnusable, match="not an index"):
        Index(tmp_path / "b")


def test_a_page_that_is_damaged_later_is_one_sentence_too(tmp_path):
    filled_index(tmp_path).close()
    data = bytearray((tmp_path / DATABASE).read_bytes())
    data[4096:] = b"\x99" * (len(data) - 4096)
    (tmp_path / DATABASE).write_bytes(data)
    with Index(tmp_path) as index, pytest.raises(IndexUnusable, match="malformed"):
        index.database.files()


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    index = filled_index(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(CannotWrite, match=r"disk is full .* MB free"):
        patch.setattr(os, "fsync", full)
        with index.writing():
            index.add(space_of(index), [ONE], {}, {Path("/v/n.mp4"): FileRecord(1, 1, "new")})
    assert space_of(index).rows == 12
    assert Path("/v/n.mp4") not in index.database.files()


def test_a_full_disk_under_the_database_is_called_full_and_not_busy(tmp_path):
    index = filled_index(tmp_path)
    index.database._db.execute("PRAGMA max_page_count=1")  # SQLite's own way to be full
    with pytest.raises(CannotWrite, match="disk is full"), index.writing():
        index.add(space_of(index), [], {f"c{i}": Fault("e", "m" * 5000) for i in range(99)}, {})
    index.database._db.execute("PRAGMA max_page_count=100000")
    assert index.database.faults(space_of(index)) == {}
    with index.writing():
        index.add(space_of(index), [ONE], {}, {})
    assert space_of(index).rows == 13


def test_a_second_writer_is_told_who_holds_it(tmp_path):
    index = filled_index(tmp_path)
    with Index(tmp_path, wait=0) as second:
        with index.writing(), pytest.raises(IndexBusy, match=f"process {os.getpid()} on"), second.writing():
            pass
        with second.writing(), second.writing():  # the same writer may say so twice
            pass
    with index.writing():
        pass


def test_a_reader_whose_vectors_were_compacted_away_reads_again(tmp_path):
    filled_index(tmp_path).close()
    with Index(tmp_path) as reader, Index(tmp_path) as writer:
        attempts = []

        def read():
            space = space_of(reader)  # from here on, the reader sees this state
            if not attempts:
                remove(writer, [Path("/v/0.mp4")])
                compact(writer)
            attempts.append(space.rows)
            return reader.vectors(space), reader.database.entries(space)

        matrix, entries = reader.together(read)
    assert attempts == [12, 11]
    assert len(matrix) == sum(e.count for e in entries.values()) == 11


def test_the_version_changes_when_another_process_writes_and_only_then(tmp_path):
    index = filled_index(tmp_path)
    before = index.database.version()
    with index.writing():
        index.database.update_files({Path("/v/mine.mp4"): FileRecord(1, 1, "m")})
    assert index.database.version() == before
    with Index(tmp_path) as other, other.writing():
        other.database.update_files({Path("/v/other.mp4"): FileRecord(1, 1, "o")})
    assert index.database.version() != before


def test_files_are_found_by_place_and_by_folder(tmp_path):
    names = ["/a", "/a/1.mp4", "/a/b/2.mp4", "/a/\udcff.mp4", "/a.mp4", "/a-b/3.mp4", "/ab/4.mp4"]
    with Index(tmp_path) as index, index.writing():
        index.database.update_files({Path(n): FileRecord(1, 1, "c") for n in names})
        below = index.database.files_below(["/a/"])
        assert set(map(str, below)) == {"/a/1.mp4", "/a/b/2.mp4", "/a/\udcff.mp4"}
        many = [f"/nothing/{i}" for i in range(1200)]
        assert set(map(str, index.database.files_at([*many, "/a", "/ab/4.mp4"]))) == {"/a", "/ab/4.mp4"}
        assert len(index.database.files_below(["/"])) == len(names)


def test_a_writer_that_waits_says_for_whom_and_can_be_interrupted(tmp_path):
    told: list[str] = []
    index = filled_index(tmp_path)
    with Index(tmp_path, wait=60, say=told.append) as second, index.writing():
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        try:
            with pytest.raises(KeyboardInterrupt), second.writing():
                pass
        finally:
            signal.signal(signal.SIGALRM, before)
    (words,) = told
    assert words.startswith(f"waiting: process {os.getpid()} on ")


def theirs(monkeypatch, *names):
    """Let files with these names belong to another user: they can be read, and not written."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: may(p, mode) and Path(p).name not in names)


def test_a_search_in_the_index_of_another_user_leaves_no_files_there(tmp_path, monkeypatch):
    filled_index(tmp_path).close()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    theirs(monkeypatch, "index.sqlite")
    with Index(tmp_path) as index:
        assert len(vectors_by_content(index)) == 6
        assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
        with pytest.raises(IndexUnusable, match="read-only; name another place"), index.writing():
            pass


def test_an_index_with_files_that_another_user_left_says_which(tmp_path, monkeypatch):
    filled_index(tmp_path).close()
    for end in ("wal", "shm"):
        (tmp_path / f"index.sqlite-{end}").touch()
    with monkeypatch.context() as patch:
        theirs(patch, "index.sqlite-wal", "index.sqlite-shm")
        with pytest.raises(
            IndexUnusable, match=r"index\.sqlite-wal and index\.sqlite-shm belong to another user"
        ):
            Index(tmp_path)
        (tmp_path / "index.sqlite-wal").write_bytes(b"x" * 100)
        with pytest.raises(IndexBusy, match="another user is writing to it"):
            Index(tmp_path)


def test_processes_that_open_and_close_an_index_at_once_disturb_nobody(tmp_path):
    """SQLite's files beside it come and go meanwhile."""
    filled_index(tmp_path).close()
    code = "import sys; from pathlib import Path; from stopcli.index.store import Index\n"
    code += "for _ in range(600): Index(Path(sys.argv[1])).close()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
