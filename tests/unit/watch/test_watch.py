"""A watched folder: everything that arrives is seen once, whatever happens to the folder."""

from __future__ import annotations

import os
import queue
import shutil
import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from conftest import write_video
from stopcli.errors import FileMissing, IndexBusy, IndexUnusable
from stopcli.index.engine import SearchEngine
from stopcli.index.live import arrivals as live
from stopcli.index.live import seen as kept
from stopcli.index.live.seen import Seen

CPU = ("--device", "cpu")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    return path


@contextmanager
def watching(folder, said=None):
    """Yield a call that waits for the next arrivals' names."""
    found, over = queue.Queue(), threading.Event()

    def follow():
        try:
            for path in live.arrivals(folder, 0.2, (said if said is not None else []).append):
                found.put(path.relative_to(folder).as_posix())
                if over.is_set():
                    return
        except FileMissing as error:
            found.put(error)

    def arrived(count=1):
        return sorted(found.get(timeout=30) for _ in range(count))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    arrived.more = lambda: (time.sleep(1.5), found.qsize())[1]
    yield arrived
    over.set()
    shutil.rmtree(folder, ignore_errors=True)
    thread.join(30)
    assert not thread.is_alive()


def put(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_new_and_changed_files_arrive_once(folder):
    put(folder / "there.mp4")
    with watching(folder) as arrived:
        assert arrived() == ["there.mp4"]
        put(folder / "sub" / "new.mp4")
        put(folder / "notes.txt")
        assert arrived() == ["sub/new.mp4"]
        put(folder / "there.mp4", 20)
        assert arrived() == ["there.mp4"]
        assert arrived.more() == 0
        (folder / "there.mp4").chmod(0o600)  # perhaps it can be read now
        assert arrived() == ["there.mp4"]


def test_a_folder_in_its_place_is_watched(folder):
    put(folder / "there.mp4")
    with watching(folder) as arrived:
        assert arrived() == ["there.mp4"]
        folder.rename(folder.with_name("old"))
        time.sleep(1)  # as while a drive is mounted again
        folder.mkdir()
        time.sleep(1)
        put(folder / "new.mp4")
        assert arrived() == ["new.mp4"]


def test_a_folder_that_is_gone_is_said(folder, monkeypatch):
    monkeypatch.setattr(live, "GONE", 1.0)
    with watching(folder) as arrived:
        time.sleep(1)
        folder.rmdir()
        (error,) = arrived()
        assert "is gone" in str(error)


@pytest.mark.parametrize("refused", [True, False])
def test_files_without_news_of_them_are_found_by_looking(folder, monkeypatch, refused):
    """A network drive brings no news of what other machines write; some systems have no news left to give."""

    def watch(*_, **__):
        if refused:
            raise RuntimeError("too many open files")
        while True:
            time.sleep(0.1)
            yield set()

    monkeypatch.setattr("watchfiles.watch", watch)
    monkeypatch.setattr(live, "LOOK", 0.5)
    monkeypatch.setattr(live, "BLIND", 0.5)
    said = []
    with watching(folder, said) as arrived:
        time.sleep(1)
        put(folder / "new.mp4")
        assert arrived() == ["new.mp4"]
        assert arrived.more() == 0
    assert len(said) == refused


def test_a_folder_that_cannot_be_read_hides_no_other(folder, monkeypatch):
    put(folder / "aaa" / "first.mp4")
    (folder / "lost+found").mkdir()
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with watching(folder) as arrived:
        assert arrived(2) == ["aaa/first.mp4", "lost+found"]
        put(folder / "zzz" / "new.mp4")
        assert arrived() == ["zzz/new.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="names there are text")
def test_a_growing_file_of_any_name_keeps_no_other_waiting(folder):
    growing = os.fsencode(folder) + b"/grow\xff.mp4"
    with watching(folder) as arrived:
        time.sleep(1)
        put(folder / "new.mp4")
        for _ in range(40):
            with open(growing, "ab") as file:  # noqa: PTH123
                file.write(b"more")
            time.sleep(0.1)
        assert arrived() == ["new.mp4"]
        assert arrived() == ["grow\udcff.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_links_to_folders_are_not_followed(folder, tmp_path):
    put(tmp_path / "elsewhere" / "old.mp4")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with watching(folder) as arrived:
        time.sleep(1)
        put(tmp_path / "elsewhere" / "old.mp4", 20)
        put(folder / "new.mp4")
        assert arrived() == ["new.mp4"]
        assert arrived.more() == 0


def test_a_file_is_read_again_only_if_it_looks_different(folder, tmp_path, monkeypatch):
    put(folder / "a.mp4")
    reads = []
    key = kept.content_key
    monkeypatch.setattr(kept, "content_key", lambda path: (reads.append(path), key(path))[1])
    for _ in range(2):  # a restart
        with Seen(tmp_path, "a question") as seen:
            first = seen.content_of(folder / "a.mp4")
            assert seen.content_of(folder / "a.mp4") == first
    assert len(reads) == 1
    put(folder / "a.mp4", 20)
    with Seen(tmp_path, "another") as seen:
        assert seen.content_of(folder / "a.mp4") != first


def test_the_same_watch_runs_once(tmp_path):
    with Seen(tmp_path, "a question"):
        with pytest.raises(IndexBusy, match=r"process \d+.* watches the same folder"):
            Seen(tmp_path, "a question")
        with Seen(tmp_path, "another"):
            pass
    with Seen(tmp_path, "a question") as seen:
        assert seen.new


@pytest.fixture
def film(folder):
    return write_video(folder / "film.mp4", frames=240, fps=10)


@pytest.fixture
def once(monkeypatch):
    """Watches end when they have seen the folder."""
    monkeypatch.setattr(live, "arrivals", lambda folder, *_, **__: iter(sorted(folder.iterdir())))


def watch(run, folder, toy, *more):
    how = ("--existing", "--window", 1, "--cuts", "off", "--min-confidence", 0)
    return run("watch", folder, "-m", toy, *how, *more, *CPU)


def seconds_of(out):
    spans = [line.split("\t")[1:] for line in out.splitlines()]
    return sum(float(end) - float(start) for start, end in spans)


def test_every_moment_is_told(run, folder, toy, film, once):
    status, out, err = watch(run, folder, toy, "--query", "a bar")
    assert status == 0, err
    assert seconds_of(out) == 24


def test_an_empty_query_is_refused_at_once(run, folder, toy, once):
    status, _, err = watch(run, folder, toy, "--query", "")
    assert status == 2
    assert "watching" not in err


def test_a_watch_waits_for_other_writers(run, folder, toy, film, once, monkeypatch):
    search = SearchEngine.search
    busy = [IndexBusy("process 1 writes"), IndexBusy("process 1 writes")]

    def waiting(self, *arguments):
        if busy:
            raise busy.pop()
        return search(self, *arguments)

    monkeypatch.setattr(SearchEngine, "search", waiting)
    status, out, err = watch(run, folder, toy, "--query", "a bar")
    assert status == 0
    assert err.count("note: waiting: process 1") == 2
    assert seconds_of(out) == 24


def test_the_memory_of_a_watch_is_no_link_and_holds_nothing_that_runs(tmp_path):
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    for name in ("linked", "given"):
        (tmp_path / name).mkdir()
    (tmp_path / "linked" / kept.FILE).symlink_to(tmp_path / "other.db")
    given = sqlite3.connect(tmp_path / "given" / kept.FILE)
    given.execute("CREATE VIEW seen AS SELECT 1 AS watch, 2 AS content")
    given.close()
    for name, words in (("linked", "a link"), ("given", "holds what stopcli never makes")):
        with pytest.raises(IndexUnusable, match=words):
            Seen(tmp_path / name, "a question")
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_script_that_may_not_run_is_said_to_be_one(run, folder, toy, tmp_path):
    (tmp_path / "tell.sh").write_text("#!/bin/sh\n")
    status, _, err = run("watch", folder, "-m", toy, "--query", "x", "--exec", tmp_path / "tell.sh", *CPU)
    assert status == 2
    assert "tell.sh: cannot be run; make it executable" in err


def test_a_batch_file_is_not_run_with_names_of_videos(run, folder, toy, tmp_path, monkeypatch):
    (tmp_path / "notify.bat").write_text("echo")
    (tmp_path / "notify.bat").chmod(0o755)
    status, _, err = run("watch", folder, "-m", toy, "--query", "x", "--exec", tmp_path / "notify.bat", *CPU)
    assert status == 2
    assert "batch file" in err


def test_new_queries_say_what_they_pass_over(run, folder, toy, film, once):
    how = ("--window", 1, "--cuts", "off", "--min-confidence", 0, "-m", toy, *CPU)
    for queries, noted in ((["a bar"], True), (["a bar"], False), (["a bar", "a dot"], True)):
        asked = [word for query in queries for word in ("--query", query)]
        status, out, err = run("watch", folder, *asked, *how)
        assert (status, out) == (0, ""), err
        assert ("note: videos that are there already (1) are not searched; --existing" in err) == noted
