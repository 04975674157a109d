"""Labels stay with their footage, whatever its name becomes, and keep their keys."""

from __future__ import annotations

import csv
import json

import pytest

from stopcli.fileio import content_key
from stopcli.tasks.labelling import LabelTable
from stopcli.tasks.memory import LabelMemory

LABELS = {"1.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


@pytest.fixture
def folder(tmp_path):
    """Three files that differ, each with a label, and a fourth without one."""
    for name in (*LABELS, "4.mp4"):
        (tmp_path / name).write_text(f"what {name} shows")
    with LabelTable(tmp_path / "labels.csv") as table:
        table.put({(tmp_path / name, 0.0, 2.0): label for name, label in LABELS.items()})
    memory = LabelMemory(tmp_path / "labels.csv")
    memory.keep(["zebra", "ant", "owl"], contents(tmp_path), [tmp_path / name for name in LABELS])
    return tmp_path


def contents(folder):
    return {path: content_key(path) for path in sorted(folder.rglob("*.mp4"))}


def labelled(folder):
    with (folder / "labels.csv").open() as stream:
        return {row["path"]: row["label"] for row in csv.DictReader(stream)}


def look_again(folder, before=None):
    """Do what a page does when it looks for videos; ``before`` is what an index knew. Return the labels."""
    memory, now = LabelMemory(folder / "labels.csv"), contents(folder)
    gone = {path: content for path, content in (before or {}).items() if now.get(path) != content}
    with LabelTable(folder / "labels.csv") as table:
        paths = [row.path for row in table.rows]
        moves = memory.moves(paths, now, gone, lambda path: path.is_relative_to(folder))
        table.follow(*moves)
        memory.keep(memory.names, now, {row.path for row in table.rows})
    return labelled(folder)


def renamed(folder, *pairs):
    for old, new in pairs:
        (folder / new).parent.mkdir(exist_ok=True)
        (folder / old).rename(folder / new)


def test_nothing_changes_where_nothing_moved(folder):
    before = (folder / "labels.csv").stat().st_mtime_ns
    assert look_again(folder) == LABELS
    assert (folder / "labels.csv").stat().st_mtime_ns == before


def test_a_file_that_moved_while_no_page_was_open_is_followed(folder):
    renamed(folder, ("1.mp4", "deep/one.mp4"))
    assert look_again(folder) == {"deep/one.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_two_names_that_were_swapped(folder):
    renamed(folder, ("1.mp4", "x"), ("2.mp4", "1.mp4"), ("x", "2.mp4"))
    assert look_again(folder) == {"1.mp4": "ant", "2.mp4": "zebra", "3.mp4": "owl"}


def test_files_that_were_numbered_again_after_one_was_deleted(folder):
    (folder / "1.mp4").unlink()
    renamed(folder, ("2.mp4", "1.mp4"), ("3.mp4", "2.mp4"), ("4.mp4", "3.mp4"))
    before = labelled(folder)
    assert look_again(folder) == {"1.mp4": "ant", "2.mp4": "owl"}  # no footage has a label of another
    with (folder / "labels-before-1.csv").open() as stream:  # ... and what was dropped is there
        assert {row["path"]: row["label"] for row in csv.DictReader(stream)} == before


def test_what_an_index_knew_tells_an_edit_from_another_file(folder):
    known = contents(folder)
    (folder / "1.mp4").write_text("the same film, cut shorter")
    assert look_again(folder, known) == LABELS
    (folder / "2.mp4").unlink()
    renamed(folder, ("4.mp4", "2.mp4"))  # it had no label
    assert look_again(folder, known) == {"1.mp4": "zebra", "3.mp4": "owl"}


def test_an_index_knows_where_files_were_that_nothing_is_remembered_of(folder):
    known = contents(folder)
    (folder / ".labels.page.json").unlink()
    renamed(folder, ("1.mp4", "one.mp4"))
    assert look_again(folder, known) == {"one.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_a_copy_takes_the_labels_over_when_the_first_file_goes(folder):
    (folder / "copy.mp4").write_bytes((folder / "1.mp4").read_bytes())
    assert look_again(folder) == LABELS
    (folder / "1.mp4").unlink()
    assert look_again(folder) == {"copy.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_a_copy_with_labels_of_its_own_keeps_them(folder):
    (folder / "copy.mp4").write_bytes((folder / "1.mp4").read_bytes())
    with LabelTable(folder / "labels.csv") as table:
        table.put({(folder / "copy.mp4", 0.0, 2.0): "horse"})
    look_again(folder)
    (folder / "1.mp4").unlink()
    assert look_again(folder) == {**LABELS, "copy.mp4": "horse"}


def test_a_file_elsewhere_is_left_alone(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "a.mp4"
    other.write_bytes((folder / "4.mp4").read_bytes())
    with LabelTable(folder / "labels.csv") as table:
        table.put({(other, 0.0, 1.0): "bat"})
    LabelMemory(folder / "labels.csv").keep([], {other: content_key(other)}, [other])
    assert look_again(folder) == {**LABELS, str(other): "bat"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"labels": 3, "contents": []}',
        '{"labels": [1, "a\\u200b\\nb", ""], "contents": {"a": "b"}}',
    ],
)
def test_what_others_wrote_there_is_not_believed(tmp_path, text):
    (tmp_path / ".labels.page.json").write_text(text)
    memory = LabelMemory(tmp_path / "labels.csv")
    assert (memory.names, memory.contents) == ([], {})
    memory.keep(["a"], {}, [])
    assert json.loads((tmp_path / ".labels.page.json").read_text())["labels"] == ["a"]
