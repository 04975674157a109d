"""How far a command has come: files, and the place in a long one."""

from __future__ import annotations

import io
import re

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


def test_names_reach_the_bar_without_control_characters(monkeypatch):
    said = []
    monkeypatch.setattr(Bar, "update", lambda _, completed, words=None: said.append(words))
    with progress_bar("indexing", 1, quiet=True) as done:
        done("\x1b[2J\x1b]0;owned\x1b\\x.mp4", 1.0)
    assert "\x1b" not in said[0]
    assert "owned" in said[0]


def test_brackets_in_names_are_text(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    out = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", out)
        bar = Bar("indexing", 2, quiet=False)
        bar.update(1, "[hd] film.mp4 at 0:00:01")
        bar.close()
    assert "[hd] film.mp4" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
