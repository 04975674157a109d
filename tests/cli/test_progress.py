"""How far a command has come: files, and the place in a long one."""

from __future__ import annotations

from stopcli.cli.progress import Bar, clock, progress_bar


def test_files_are_counted_and_long_ones_are_followed(monkeypatch):
    seen = []
    monkeypatch.setattr(Bar, "update", lambda _, completed, words=None: seen.append((completed, words)))
    with progress_bar("indexing", 3, quiet=True) as done:
        done("a/film.mkv", 8.0)
        done("a/film.mkv", 7325.0)
        done("a/film.mkv")
        done("b.mp4")
        done("c.mp4", 16.5)
    assert seen == [
        (0, "film.mkv at 0:00:08"),
        (0, "film.mkv at 2:02:05"),
        (1, None),
        (2, None),
        (2, "c.mp4 at 0:00:16"),
    ]


def test_a_file_is_done_when_another_begins(monkeypatch):
    seen = []
    monkeypatch.setattr(Bar, "update", lambda _, completed, words=None: seen.append(completed))
    with progress_bar("classifying", 2, quiet=True) as done:
        for path, until in (("a", 4.0), ("a", 8.0), ("b", 4.0), ("b", 8.0)):
            done(path, until)
    assert seen == [0, 0, 1, 1]


def test_times_read_as_players_show_them():
    assert [clock(s) for s in (0, 59.9, 60, 3600, 36_061)] == [
        "0:00:00",
        "0:00:59",
        "0:01:00",
        "1:00:00",
        "10:01:01",
    ]
