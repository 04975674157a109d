"""The one writer of files: whole or not at all, by a name that nobody else has."""

from __future__ import annotations

import errno
import os

import pytest

from stopcli.errors import CannotWrite, FileExists, UsageError
from stopcli.fileio import (
    append_line,
    check_output,
    content_key,
    file_hash,
    keep_latest,
    make_folder,
    replacing,
    write_text,
)


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path, sync=True) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.suffix == ".txt"
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyError), replacing(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_never_share_a_name(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # who ends last wins, whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_laid_out_in_advance_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".a-guessed.part.txt").symlink_to(victim)
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_text(tmp_path / "a.txt", "attack")
    assert victim.read_text() == "mine"


def test_a_folder_is_made_with_those_above_it_or_refused(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"file/b: cannot be written"):
        make_folder(tmp_path / "file" / "b")


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(CannotWrite) as caught, replacing(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "a.txt: the disk is full (" in str(caught.value)
    assert "MB free); make room and run the command again" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(CannotWrite, match=r"a.txt: cannot be written \(No such file or directory\)"):
        write_text(tmp_path / "no" / "a.txt", "x")


def test_a_long_name_and_odd_bytes_are_written(tmp_path):
    path = tmp_path / ("é" * 120 + ".txt")
    write_text(path, os.fsdecode(b"\xff"))
    assert path.read_bytes() == b"\xff"


def test_the_permissions_of_a_new_file_are_the_users(tmp_path):
    write_text(tmp_path / "a", "x")
    plain = tmp_path / "b"
    plain.write_text("x")
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_outputs_are_looked_at_before_any_work(tmp_path):
    there = tmp_path / "there.png"
    there.write_text("x")
    check_output(tmp_path / "new.png", force=False, suffixes=(".png",))
    check_output(there, force=True)
    with pytest.raises(FileExists, match="--force"):
        check_output(there, force=False)
    for path, text in (
        (tmp_path / "x.gif", "must end in .png"),
        (tmp_path, "must end in .png"),
        (tmp_path / "no" / "x.png", "does not exist"),
    ):
        with pytest.raises(UsageError, match=text):
            check_output(path, force=False, suffixes=(".png",))
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path, force=True)


def test_a_content_key_is_of_what_a_file_holds(tmp_path):
    small, moved, big = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    small.write_bytes(b"x" * 1000)
    moved.write_bytes(b"x" * 1000)
    assert content_key(small) == content_key(moved)
    moved.write_bytes(b"x" * 999 + b"y")
    assert content_key(small) != content_key(moved)
    big.write_bytes(b"\0" * (4 << 20))
    before = content_key(big)
    with big.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"y")
    assert content_key(big) != before


def test_a_download_in_several_parts_is_another_file_until_it_is_whole(tmp_path):
    size, piece = 20 << 20, 1 << 20
    whole = bytearray(os.urandom(size))
    holes = bytearray(size)
    for start in (0, (size - piece) // 2, size - piece):
        holes[start : start + piece] = whole[start : start + piece]
    film = tmp_path / "film.mp4"
    keys = []
    for data in (holes, whole):
        film.write_bytes(data)
        keys.append(content_key(film))
    assert keys[0] != keys[1]
    assert content_key(film, spread=0) not in keys  # as versions before 0.3 made it


def test_a_hash_is_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_line_is_added_or_one_sentence_says_why_not(tmp_path):
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    with pytest.raises(CannotWrite, match="cannot be written"):
        append_line(tmp_path / "no" / "log", "x")


def test_what_appears_while_a_file_is_made_is_not_replaced(tmp_path, monkeypatch):
    target = tmp_path / "clip.mp4"
    with pytest.raises(FileExists, match="another program made it"), replacing(target, fresh=True) as part:
        part.write_bytes(b"new")
        target.write_bytes(b"of another program")
    assert target.read_bytes() == b"of another program"
    with replacing(target) as part:
        part.write_bytes(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    with replacing(tmp_path / "fresh.mp4", fresh=True) as part:
        part.write_bytes(b"new")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no")))
    with pytest.raises(FileExists), replacing(target, fresh=True) as part:  # a drive without second names
        pass
    (tmp_path / "link.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(FileExists):
        check_output(tmp_path / "link.mp4", force=False)
    (tmp_path / "link.mp4").unlink()
    check_output(tmp_path / f"{'x' * 300}.mp4", force=False)  # writing it will say so
    with pytest.raises(CannotWrite), replacing(tmp_path / f"{'x' * 300}.mp4", fresh=True) as part:
        part.write_bytes(b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "fresh.mp4"]


def test_the_latest_files_are_kept_up_to_a_number_and_a_size(tmp_path):
    for i in range(6):
        (tmp_path / f"{i}").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"{i}", (i, i))
    keep_latest(tmp_path, 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3", "4", "5"]
    keep_latest(tmp_path, 5, 250)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["4", "5"]
