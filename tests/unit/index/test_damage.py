"""Damaged indexes, and indexes that others made: said in one sentence, mended where that can be, never obeyed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from index_toys import filled_index, space_of, toy_space, vectors_by_content

from stopcli.errors import CannotWrite, IndexUnusable
from stopcli.index.maintenance import check, forget_lost, lost_spaces, merge, problems, remove, set_aside
from stopcli.index.store import DATABASE, LOCK, Index
from stopcli.index.sync import compare
from stopcli.index.types import NewEntry

ONE = NewEntry("new", 8.0, np.eye(1, 4, dtype=np.float32))


def test_a_sound_index_has_no_problems(tmp_path):
    index = filled_index(tmp_path)
    assert problems(index) == []
    assert lost_spaces(index) == []
    assert forget_lost(index, look=True) == 0


@pytest.mark.parametrize("left", [0, 3, 16 * 5, 16 * 5 + 7, None])
def test_what_stands_beyond_the_end_of_a_file_is_forgotten_and_the_rest_kept(tmp_path, left):
    index = filled_index(tmp_path)
    before = vectors_by_content(index)
    file = tmp_path / space_of(index).file
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:left])
    assert len(lost_spaces(index)) == 1
    assert "12 vectors are there" in problems(index)[0]
    with pytest.raises(IndexUnusable, match="index check --repair"):
        index.vectors(space_of(index))
    lost = forget_lost(index)
    kept = vectors_by_content(index)
    whole = (left or 0) // 16  # c0: row 0; c1: 1 and 2; c2: 3 to 5; ...
    expected = {c: v for c, v in before.items() if c in ["c0", "c1", "c2"][: {0: 0, 5: 2}[whole]]}
    assert kept == expected
    assert lost == len(before) - len(kept)
    assert problems(index) == []
    with index.writing():
        index.add(space_of(index), [ONE], {}, {})
    assert vectors_by_content(index) == expected | {"new": ONE.vectors.tobytes()}


def test_vectors_that_no_model_made_are_found_and_forgotten(tmp_path):
    index = filled_index(tmp_path)
    file = tmp_path / space_of(index).file
    matrix = np.fromfile(file, np.float32).reshape(-1, 4)
    matrix[1] = np.nan
    matrix[6] = 0
    matrix.tofile(file)
    assert problems(index) == [f"{file}: the vectors of 2 files are lost or broken"]
    assert forget_lost(index, look=True) == 2
    assert set(vectors_by_content(index)) == {"c0", "c2", "c4", "c5"}
    assert problems(index) == []


@pytest.mark.parametrize("name", ["../victim.txt", "/etc/passwd", "victim.txt", "vectors-1.f32/../../v", ""])
def test_no_path_is_taken_from_a_database(tmp_path, name):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    index = filled_index(tmp_path / "index")
    index.database._db.execute("UPDATE spaces SET file=?", (name,))
    for use in (index.database.spaces, lambda: index.snapshot({"c1"}, "w" * 64, "fp32", 4, 8.0)):
        with pytest.raises(IndexUnusable, match="no file of vectors"):
            use()
    assert victim.read_text() == "mine"


def test_a_link_in_the_place_of_vectors_is_not_followed(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine" * 1000)
    index = filled_index(tmp_path / "index")
    space = space_of(index)
    file = tmp_path / "index" / space.file
    file.unlink()
    file.symlink_to(victim)
    with index.writing(), pytest.raises(CannotWrite):
        index.add(space, [ONE], {}, {})
    assert victim.read_text() == "mine" * 1000


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entries SET first=-1",
        "UPDATE entries SET first=1000000",
        "UPDATE entries SET count=9223372036854775807",
        "UPDATE entries SET count='many'",
        "UPDATE entries SET count=0",
        "UPDATE entries SET numbers='[3999999999999999999]', count=1",
        "UPDATE entries SET begin=3e18",
        'UPDATE spaces SET "window"=0.0',
        "UPDATE entries SET duration='long'",
        "UPDATE spaces SET rows=-1",
        "UPDATE spaces SET rows=9223372036854775807",
        "UPDATE spaces SET size=0",
        "UPDATE spaces SET size=1000000000",
        "UPDATE spaces SET frames='x'",
        "UPDATE spaces SET model=x'ff'",
        "UPDATE files SET path=1 WHERE content='c1'",
        "UPDATE files SET size='x'",
        "DROP TABLE files",
        "DROP TABLE texts",
        "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM files; END",
        "ALTER TABLE files RENAME TO f2; CREATE VIEW files AS SELECT * FROM f2",
        "ALTER TABLE entries DROP COLUMN duration",
        "PRAGMA user_version=0",
    ],
)
def test_a_database_that_somebody_changed_is_unusable_and_says_so(tmp_path, sql):
    index = filled_index(tmp_path)
    index.close()
    db = sqlite3.connect(tmp_path / DATABASE)
    db.executescript(sql)
    db.commit()
    db.close()

    def use():
        with Index(tmp_path) as opened:
            opened.database.spaces()
            opened.database.files()
            opened.snapshot({f"c{i}" for i in range(6)}, "w" * 64, "fp32", 4, 8.0)

    with pytest.raises(IndexUnusable) as caught:
        use()
    assert "index check" in str(caught.value) or "is there already" in str(caught.value)


def test_repair_forgets_what_it_cannot_read_of_a_file_and_keeps_the_rest(tmp_path):
    index = filled_index(tmp_path)
    with index.database.transaction() as db:
        db.execute("UPDATE entries SET duration='long' WHERE content='c1'")
        db.execute("UPDATE entries SET numbers=CAST(x'ff' AS TEXT) WHERE content='c3'")
        db.execute(f"UPDATE entries SET numbers='{'[' * 100_000}' WHERE content='c4'")
        db.execute("UPDATE files SET size='x' WHERE content='c5'")
        db.execute("INSERT INTO texts VALUES ('w', 'a dog', x'0102')")
        db.execute("INSERT INTO faults VALUES (1, 'c9', 'unreadable-video', 'no decoder')")
    index.close()
    assert check(tmp_path).problems
    found = check(tmp_path, repair=True)
    assert (found.forgotten, found.aside) == (4, None)
    assert check(tmp_path).problems == ()
    with Index(tmp_path) as again:
        assert set(again.database.entries(space_of(again))) == {"c0", "c2", "c5"}
        assert "c5" not in {record.content for record in again.database.files().values()}
        assert again.database.texts("w", ["a dog"]) == {}
        assert again.database.faults(space_of(again)) == {}  # tried again: a decoder may be there now


def test_films_of_any_length_that_can_be_read_can_be_kept(tmp_path):
    """A picture a day for a year, as time-lapse films have; windows count milliseconds."""
    index = filled_index(tmp_path)
    entry = NewEntry("long", 3e7, np.eye(2, 4, dtype=np.float32), (0, 29_999_000_000), 0.0, None)
    with index.writing():
        index.add(space_of(index), [entry], {}, {})
    assert index.database.entries(space_of(index))["long"].numbers == (0, 29_999_000_000)
    assert problems(index) == []


def test_damaged_pages_are_unusable(tmp_path):
    filled_index(tmp_path).close()
    data = bytearray((tmp_path / DATABASE).read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    (tmp_path / DATABASE).write_bytes(data)
    with pytest.raises(IndexUnusable, match="index check"), Index(tmp_path) as opened:
        opened.database.files()


def test_kept_texts_of_another_size_are_computed_again(tmp_path, toy):
    from stopcli.hub.registry import resolve
    from stopcli.index.engine import SearchEngine

    with SearchEngine(tmp_path, resolve(str(toy)), lambda: pytest.fail("not needed")) as engine:
        (right,) = engine._embed(["a dog"])
        engine.index.database.save_texts(engine._weights, {"a dog": np.full(32, np.nan, np.float32)})
        engine.index.database.make_space(
            space_of(filled_index(tmp_path / "other")).__class__("m", engine._weights, "fp32", 4, 8.0, 32)
        )
        assert np.array_equal(engine._embed(["a dog"])[0].vector, right.vector)


def test_an_unreadable_index_is_set_aside_whole(tmp_path):
    filled_index(tmp_path).close()
    names = {p.name for p in tmp_path.iterdir() if "vectors" in p.name or DATABASE in p.name}
    aside = set_aside(tmp_path)
    assert {p.name for p in aside.iterdir()} == names
    with Index(tmp_path) as fresh:
        assert fresh.database.files() == {}


def test_the_advice_that_is_printed_works(run, toy, clips, tmp_path):
    folder = tmp_path / "index"
    update = ("index", "update", clips / "a.mp4", "-m", toy, "--index", folder)
    assert run(*update)[0] == 0
    (file,) = folder.glob("vectors-*.f32")
    file.write_bytes(b"")
    status, _, err = run("index", "check", "--index", folder)
    assert (status, "check --repair" in err) == (1, True)
    assert run("index", "check", "--repair", "--index", folder)[0] == 0
    assert run("index", "check", "--index", folder)[0] == 0
    status, _, err = run(
        "retrieve", "a dog", "--min-confidence", "0", clips / "a.mp4", "-m", toy, "--index", folder
    )
    assert status == 0, err
    file.write_bytes(b"")
    status, _, err = run(*update)
    assert (status, "embedding again" in err) == (0, True)
    assert Path(file).stat().st_size
    (folder / DATABASE).write_bytes(b"no database" * 1000)
    assert run("index", "check", "--index", folder)[0] == 1
    status, out, _ = run("index", "check", "--repair", "--index", folder)
    assert (status, "damaged-" in out) == (0, True)
    assert run(*update)[0] == 0


def test_a_database_of_somebody_else_is_not_touched(tmp_path):
    file = tmp_path / DATABASE
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    before = file.read_bytes()
    with pytest.raises(IndexUnusable):
        Index(tmp_path)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [DATABASE]
    link = tmp_path / "linked"
    link.mkdir()
    (link / DATABASE).symlink_to(tmp_path / "new.sqlite")
    with pytest.raises(IndexUnusable, match="a link"):
        Index(link)
    assert not (tmp_path / "new.sqlite").exists()


def test_files_of_others_stay_where_they_are(tmp_path):
    index = filled_index(tmp_path)
    for name in ("vectors-paper.txt", "vectors-logo.svg", "vectors-1.f32.txt", "vectors-7.f32"):
        (tmp_path / name).write_text("mine")
    remove(index, None)
    index.close()
    set_aside(tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert {"vectors-paper.txt", "vectors-logo.svg", "vectors-1.f32.txt"} <= names
    assert "vectors-7.f32" not in names  # an old file of the index


def test_a_pipe_in_the_place_of_a_file_is_no_trap(tmp_path):
    index = filled_index(tmp_path / "a")
    file = tmp_path / "a" / space_of(index).file
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(IndexUnusable):
        index.vectors(space_of(index))
    with pytest.raises(IndexUnusable):
        merge(Index(tmp_path / "b"), index)
    assert problems(index)
    other = filled_index(tmp_path / "c")
    (tmp_path / "c" / LOCK).unlink(missing_ok=True)
    (tmp_path / "c" / LOCK).mkdir()
    with pytest.raises(IndexUnusable), other.writing():
        pass


def test_vectors_that_no_model_made_are_not_taken_over(tmp_path):
    source = filled_index(tmp_path / "source")
    file = tmp_path / "source" / space_of(source).file
    matrix = np.fromfile(file, np.float32).reshape(-1, 4)
    matrix[0] = np.nan
    matrix.tofile(file)
    index = Index(tmp_path / "mine")
    merge(index, source)
    assert set(vectors_by_content(index)) == {"c1", "c2", "c3", "c4", "c5"}
    index.close()


def test_contents_that_share_vectors_are_a_problem(tmp_path):
    index = filled_index(tmp_path)
    index.database._db.execute("UPDATE entries SET first=0")
    assert problems(index)
    assert forget_lost(index, look=True) == 6
    assert problems(index) == []


def test_vectors_of_another_size_are_not_mixed_in(tmp_path):
    index, other = filled_index(tmp_path / "a"), Index(tmp_path / "b")
    before = vectors_by_content(index)
    with other.writing():
        space = other.database.make_space(toy_space(size=8))
        other.add(space, [NewEntry("x", 8.0, np.eye(1, 8, dtype=np.float32))], {}, {})
    with pytest.raises(IndexUnusable, match="8 numbers, here 4"):
        merge(index, other)
    with index.writing(), pytest.raises(IndexUnusable, match="vectors of 4 numbers"):
        index.add(space_of(index), [NewEntry("x", 8.0, np.eye(1, 8, dtype=np.float32))], {}, {})
    assert vectors_by_content(index) == before
    other.close()


def test_an_index_of_an_earlier_version_gets_the_columns_it_lacks(tmp_path):
    index = filled_index(tmp_path)
    before = index.database.entries(space_of(index))
    index.database._db.executescript(
        "ALTER TABLE entries DROP COLUMN numbers; ALTER TABLE entries DROP COLUMN begin"
    )
    index.close()
    with Index(tmp_path) as again:
        assert again.database.entries(space_of(again)) == before
        with again.writing():
            again.add(space_of(again), [NewEntry("x", 8.0, ONE.vectors, (7,), 3.0)], {}, {})
        entry = again.database.entries(space_of(again))["x"]
        assert (entry.numbers, entry.begin) == ((7,), 3.0)


def test_repair_sets_nothing_aside_that_a_newer_version_can_read(tmp_path):
    index = filled_index(tmp_path)
    index.database._db.execute("PRAGMA user_version=99")
    index.close()
    with pytest.raises(IndexUnusable, match="upgrade"):
        check(tmp_path, repair=True)
    assert not list(tmp_path.glob("damaged-*"))
    assert check(tmp_path).problems


def test_any_time_of_change_can_be_kept(tmp_path):
    index = filled_index(tmp_path / "index")
    film = tmp_path / "a.mp4"
    film.write_bytes(b"film")
    for year in (1900, 2100, 2300):
        stamp = (year - 1970) * 31_557_600
        try:
            os.utime(film, (stamp, stamp))
        except (OSError, OverflowError):
            continue  # the file system knows no such time
        record = compare(index.database, [film], []).present[film]
        index.database.update_files({film: record})
        assert index.database.files()[film] == record
        assert compare(index.database, [film], []).changed == ()
