"""What changed in a tree is found at the cost of a look at each file; faults are kept and told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from index_toys import space_of, toy_space, vectors_by_content

from stopcli.index import sync
from stopcli.index.store import Index
from stopcli.index.types import Entry, Fault, NewEntry
from stopcli.results import EncodedClip, Failure


class Encoder:
    """Stands in for the model: two windows a file, but for files that begin with ``bad`` or ``lost``."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.stop_at = stop_at

    def encode_videos(self, paths, *, window, shots, steady):
        assert (window, shots, steady) == (8.0, False, True)
        for path in paths:
            if path.name == self.stop_at:
                raise KeyboardInterrupt
            if path.name.startswith("lost"):
                yield Failure(str(path), "file-missing", f"{path}: no such file")
                continue
            vector = np.full(4, int.from_bytes(path.read_bytes()[-1:], "big"), np.float32)
            yield EncodedClip(str(path), 0.0, 8.0, vector, 8.0)
            if path.name.startswith("bad"):
                yield Failure(str(path), "unreadable-video", f"{path}: damaged")
            else:
                yield EncodedClip(str(path), 8.0, 12.5, vector + 1, 12.5)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.mp4", "b.mp4", "deep/c.mp4")):
        (folder / name).write_bytes(b"video" + bytes([i]))
    return folder


@pytest.fixture
def index(tmp_path):
    with Index(tmp_path / "index") as index:
        yield index


def compare(index, tree, *videos):
    """Compare a tree, or only the videos named."""
    files = [tree / v for v in videos] or sorted(p for p in tree.rglob("*") if p.is_file())
    return sync.compare(index.database, files, () if videos else [tree])


def state(index, diff):
    return index.snapshot(diff.contents(), "w" * 64, None, 4, 8.0)


def update(index, tree, encoder=None) -> int:
    with index.writing():
        diff = compare(index, tree)
        space = index.database.make_space(toy_space())
        todo = diff.missing(state(index, diff))
        sync.settle(index.database, diff, todo)
        return sync.embed(index, space, diff, todo, encoder or Encoder(), lambda *_: None)[0]


def names(paths):
    return sorted(p.name for p in paths)


def test_new_changed_moved_and_gone_files_are_told_apart(index, tree):
    assert update(index, tree) == 3
    diff = compare(index, tree)
    assert (diff.changed, diff.moved, diff.gone, diff.missing(state(index, diff))) == ((), (), (), [])
    (tree / "a.mp4").rename(tree / "deep" / "moved.mp4")
    (tree / "b.mp4").write_bytes(b"video b, another one")
    (tree / "deep" / "c.mp4").unlink()
    (tree / "copy.mp4").write_bytes(b"video b, another one")
    diff = compare(index, tree)
    assert diff.moved == ((tree / "a.mp4", tree / "deep" / "moved.mp4"),)
    assert names(diff.gone) == ["a.mp4", "c.mp4"]
    assert names(diff.missing(state(index, diff))) == ["b.mp4"]  # its copy has the same content
    assert update(index, tree) == 1
    assert names(index.database.files()) == ["b.mp4", "copy.mp4", "moved.mp4"]


def test_where_nothing_is_left_a_drive_may_be_away(index, tree, tmp_path):
    """An empty mount point looked as if all had been deleted, and `compact` dropped the vectors."""
    diff = compare(index, tree)
    sync.settle(index.database, diff, ())
    away = tree.rename(tmp_path / "away")
    tree.mkdir()  # as the mount point of a drive that is not there
    assert (compare(index, tree).gone, len(compare(index, tree).away)) == ((), 3)
    sync.settle(index.database, compare(index, tree), ())
    tree.rmdir()
    away.rename(tree)
    assert (compare(index, tree).changed, compare(index, tree).away) == ((), {})
    (tree / "deep" / "c.mp4").unlink()  # its folder is empty now
    assert set(compare(index, tree).away) == {tree / "deep" / "c.mp4"}
    (tree / "deep").rmdir()
    assert compare(index, tree).gone == (tree / "deep" / "c.mp4",)  # it was removed


def test_what_moved_out_of_a_folder_is_not_away(index, tree):
    sync.settle(index.database, compare(index, tree), ())
    (tree / "deep" / "c.mp4").rename(tree / "c.mp4")
    diff = compare(index, tree)
    assert (diff.moved, diff.away) == (((tree / "deep" / "c.mp4", tree / "c.mp4"),), {})
    (tree / "c.mp4").rename(tree / "deep" / "c.mp4")
    (copies := tree.parent / "copies").mkdir()
    (copies / "c.mp4").write_bytes((tree / "deep" / "c.mp4").read_bytes())
    sync.settle(index.database, compare(index, copies), ())
    (tree / "deep" / "c.mp4").unlink()  # a drive that has a backup may be away, too
    assert (compare(index, tree).gone, set(compare(index, tree).away)) == ((), {tree / "deep" / "c.mp4"})


def test_a_file_of_the_same_size_and_time_is_not_opened(index, tree, monkeypatch):
    update(index, tree)
    monkeypatch.setattr(sync, "content_key", lambda path: pytest.fail(f"{path} was opened"))
    compare(index, tree)
    compare(index, tree, "a.mp4", "deep/c.mp4")


def test_files_named_alone_forget_no_others(index, tree):
    update(index, tree)
    (tree / "b.mp4").unlink()
    assert compare(index, tree, "a.mp4").gone == ()
    assert names(compare(index, tree).gone) == ["b.mp4"]


def test_a_folder_whose_name_begins_alike_is_another_folder(index, tree):
    other = tree.with_name("tree 2")
    other.mkdir()
    (other / "d.mp4").write_bytes(b"video d")
    update(index, tree)
    update(index, other)
    assert compare(index, tree).gone == compare(index, other).gone == ()


def test_missing_and_unreadable_files_are_failures_of_their_kind(index, tree):
    diff = compare(index, tree, "nothing.mp4", "deep")
    assert [(f.error, Path(f.path).name) for f in diff.failures] == [
        ("file-missing", "nothing.mp4"),
        ("unreadable-video", "deep"),
    ]
    assert diff.failures[0].message == f"{tree / 'nothing.mp4'}: no such file"


def test_a_folder_that_cannot_be_read_forgets_nothing_below_it(index, tree):
    update(index, tree)
    files = [tree / "a.mp4", tree / "b.mp4", tree / "deep"]  # as the walk yields what it cannot enter
    diff = sync.compare(index.database, files, [tree])
    assert diff.gone == ()
    assert [f.path for f in diff.failures] == [str(tree / "deep")]


def test_faults_are_kept_and_name_the_file_as_it_is_called_now(index, tree, monkeypatch):
    (tree / "bad.mp4").write_bytes(b"bad video")
    assert update(index, tree) == 4  # a part of it was readable
    assert update(index, tree) == 0
    (tree / "bad.mp4").rename(tree / "worse.mp4")
    monkeypatch.chdir(tree)
    diff = sync.compare(index.database, [Path("worse.mp4")], [])
    (failure,) = diff.all_failures(state(index, diff))
    assert failure == Failure("worse.mp4", "unreadable-video", "worse.mp4: damaged")
    assert index.database.faults(space_of(index)) == {
        diff.present[tree / "worse.mp4"].content: Fault("unreadable-video", "{path}: damaged")
    }


def test_a_file_that_goes_away_before_it_is_read_is_told_and_tried_again(index, tree):
    (tree / "lost.mp4").write_bytes(b"video lost")
    assert update(index, tree) == 3
    diff = compare(index, tree)
    (failure,) = diff.all_failures(state(index, diff))
    assert (failure.path, failure.error) == (str(tree / "lost.mp4"), "file-missing")
    assert index.database.faults(space_of(index)) == {}
    (tree / "lost.mp4").rename(tree / "back.mp4")
    assert update(index, tree) == 1
    diff = compare(index, tree)
    assert diff.all_failures(state(index, diff)) == ()


def test_ctrl_c_keeps_the_files_that_are_whole(index, tree):
    with pytest.raises(KeyboardInterrupt):
        update(index, tree, Encoder(stop_at="c.mp4"))
    assert len(vectors_by_content(index)) == 1  # the second might have had more windows
    assert update(index, tree) == 2
    assert len(vectors_by_content(index)) == 3


def test_the_duration_is_that_of_the_last_window(index, tree):
    update(index, tree)
    assert {e.duration for e in index.database.entries(space_of(index)).values()} == {12.5}


def test_names_that_are_no_text_are_followed_too(index, tree):
    odd = os.fsdecode(b"\xff.mp4")
    (tree / odd).write_bytes(b"bad video")
    update(index, tree)
    diff = compare(index, tree)
    assert diff.changed == ()
    assert odd in names(diff.present)


@pytest.mark.parametrize("error", ["decoder-crashed", "video-timeout"])
def test_what_may_pass_is_not_remembered(tmp_path, error):
    """The memory was short, the drive was slow: the file is not to blame, and is tried again."""
    tree, index = tmp_path / "tree", Index(tmp_path / "index")
    tree.mkdir()
    (tree / "a.mp4").write_bytes(b"aaaa")

    class Crashing(Encoder):
        def encode_videos(self, paths, **_):
            yield from (Failure(str(path), error, f"{path}: it crashed") for path in paths)

    with index, index.writing():
        diff = compare(index, tree)
        space = index.database.make_space(toy_space())
        count, passing = sync.embed(index, space, diff, diff.missing(state(index, diff)), Crashing(), print)
        assert (count, [f.error for f in passing.values()]) == (0, [error])
        (failure,) = diff.all_failures(state(index, diff), passing)
        assert failure.message == f"{tree / 'a.mp4'}: it crashed"
    with Index(tmp_path / "index") as again:
        assert update(again, tree) == 1


@pytest.mark.parametrize("failing", [True, False])
def test_a_drive_that_drops_out_is_no_fault_of_the_files(tmp_path, failing):
    """Also where the end of a film was lost without a word."""
    tree, index = tmp_path / "tree", Index(tmp_path / "index")
    tree.mkdir()
    (tree / "a.mp4").write_bytes(b"aaaa")

    class Dropping(Encoder):
        def encode_videos(self, paths, **options):
            clips = list(super().encode_videos(paths, **options))
            tree.rename(tmp_path / "away")
            yield from (
                [
                    Failure(str(p), "unreadable-video", f"{p}: cannot be read (Input/output error)")
                    for p in paths
                ]
                if failing
                else clips
            )

    with index:
        assert update(index, tree, Dropping()) == 0
        assert index.database.faults(space_of(index)) == {}
        (tmp_path / "away").rename(tree)
        assert update(index, tree) == 1


def test_windows_before_a_gap_end_before_it(tmp_path):
    clips = [
        EncodedClip("a", s, e, np.ones(4, np.float32), e) for s, e in ((2, 10), (10, 18), (1000, 1006.5))
    ]
    numbers, begin, ends = sync.placed(clips, 8.0, shots=True)
    entry = Entry(0, 3, 1006.5, numbers, begin, ends)
    assert list(entry.spans(8.0, shots=True)) == [(2, 10), (10, 18), (1000, 1006.5)]
    assert sync.placed(clips[:2], 8.0, shots=True)[2] is None
    with Index(tmp_path / "index") as index, index.writing():
        space = index.database.make_space(toy_space())
        space = index.add(
            space, [NewEntry("c", 1006.5, np.ones((3, 4), np.float32), numbers, begin, ends)], {}, {}
        )
        assert index.database.entries(space)["c"] == entry


def test_of_several_copies_of_what_is_gone_one_has_moved(index, tree):
    update(index, tree)
    for name in ("x.mp4", "y.mp4"):
        (tree / name).write_bytes((tree / "a.mp4").read_bytes())
    (tree / "a.mp4").unlink()
    diff = compare(index, tree)
    assert (len(diff.moved), names(diff.gone), names(diff.changed)) == (1, ["a.mp4"], ["x.mp4", "y.mp4"])


def test_files_that_wait_are_hashed_once(index, tree, monkeypatch):
    hashed = []
    monkeypatch.setattr(sync, "content_key", lambda path: hashed.append(path.name) or path.name)
    for _ in range(3):  # as a page looks while they are embedded
        assert len(compare(index, tree).changed) == 3
    assert sorted(hashed) == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_file_that_is_replaced_while_it_is_read_gets_no_vectors(tmp_path):
    tree, index = tmp_path / "tree", Index(tmp_path / "index")
    tree.mkdir()
    film = tree / "a.mp4"
    film.write_bytes(b"aaaa")
    status = film.stat()

    class Replacing(Encoder):
        def encode_videos(self, paths, **options):
            film.write_bytes(b"bbbbb")
            yield from super().encode_videos(paths, **options)

    with index:
        assert update(index, tree, Replacing()) == 0
        film.write_bytes(b"aaaa")
        os.utime(film, ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert update(index, tree) == 1


def test_what_a_walk_skips_is_not_gone(index, tree):
    """A link to a folder, a hidden file, an unknown extension: named, they are indexed."""
    (tree / "clip.dat").write_bytes(b"video d")
    (tree / ".raw.mp4").write_bytes(b"video e")
    update(index, tree)
    walked = [p for p in tree.rglob("*.mp4") if not p.name.startswith(".")]
    assert sync.compare(index.database, walked, [tree]).gone == ()
    (tree / "clip.dat").unlink()
    assert names(sync.compare(index.database, walked, [tree]).gone) == ["clip.dat"]


def test_a_name_that_is_only_spelled_otherwise_is_a_move(index, tree, monkeypatch):
    """As on drives that take Clip.MP4 and clip.mp4 for one file."""
    update(index, tree)
    (tree / "a.mp4").rename(tree / "A.MP4")
    real = os.path.lexists
    monkeypatch.setattr("os.path.lexists", lambda path: real(path) or real(tree / "A.MP4"))
    assert compare(index, tree).moved == ((tree / "a.mp4", tree / "A.MP4"),)


def test_the_space_that_knows_most_of_the_files_is_gone_on_with(index):
    record = {}
    with index.writing():
        for precision, contents in (("bf16", "abcd"), ("fp32", "xy")):
            space = index.database.make_space(toy_space(precision=precision))
            index.add(space, [NewEntry(c, 8.0, np.ones((1, 4), np.float32)) for c in contents], {}, record)

    def best(precision, contents, weights=("w" * 64,)):
        found, known = sync.best_known(index.database, weights, precision, 4, 8.0, set(contents))
        return found and (found.precision, known)

    assert best(None, "abx") == ("bf16", 2)
    assert best(None, "ax") == ("bf16", 1)  # of equals the largest
    assert best(None, "axy") == ("fp32", 2)
    assert best("bf16", "axy") == ("bf16", 1)
    assert best(None, "new") == ("bf16", 0)
    assert best(None, "ab", weights=("other",)) is None
