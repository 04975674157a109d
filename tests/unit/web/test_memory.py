"""Labels stay with their footage, whatever its name becomes, and keep their keys."""

from __future__ import annotations

import csv

import pytest

from stopcli.errors import CannotWrite
from stopcli.fileio import content_key
from stopcli.tasks.labelling.memory import LabelMemory
from stopcli.tasks.labelling.table import LabelTable

LABELS = {"1.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


@pytest.fixture
def folder(tmp_path):
    """Three files that differ, each with a label, and a fourth without one."""
    for name in (*LABELS, "4.mp4"):
        (tmp_path / name).write_text(f"what {name} shows")
    with LabelTable(tmp_path / "labels.csv") as table:
        table.put({(tmp_path / name, 0.0, 2.0): label for name, label in LABELS.items()})
    memory = LabelMemory(tmp_path / "labels.csv")
    memory.look([tmp_path / name for name in LABELS], contents(tmp_path))
    return tmp_path


def contents(folder):
    return {path: content_key(path) for path in sorted(folder.rglob("*.mp4"))}


def labelled(folder):
    with (folder / "labels.csv").open() as stream:
        return {row["path"]: row["label"] for row in csv.DictReader(stream)}


def look_again(folder, before=None, roots=None, edited=()):
    """Do what a page does when it looks for videos; ``before`` is what an index knew. Return the labels."""
    before = before or {}
    memory, now = LabelMemory(folder / "labels.csv"), contents(folder)
    gone = {path: content for path, content in before.items() if now.get(path) != content}
    changed = [path for path, content in now.items() if before.get(path) != content]
    with LabelTable(folder / "labels.csv") as table:
        paths = [row.path for row in table.rows]
        table.follow(*memory.moves(paths, now, gone, changed, roots or [folder], edited))
        memory.look({row.path for row in table.rows}, now)
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
    (folder / ".labels.files.json").unlink()
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
    LabelMemory(folder / "labels.csv").look([other], {other: content_key(other)})
    assert look_again(folder) == {**LABELS, str(other): "bat"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"labels": 3}', '{"labels": [1, "a\\u200b\\nb", ""]}', '{"a": 3}']
)
def test_what_others_wrote_there_is_not_believed(tmp_path, text):
    (tmp_path / ".labels.page.json").write_text(text)
    (tmp_path / ".labels.files.json").write_text(text)
    memory = LabelMemory(tmp_path / "labels.csv")
    assert (memory.names, memory.contents) == ([], {})
    memory.keep(["a"], None)
    assert LabelMemory(tmp_path / "labels.csv").names == ["a"]


def test_a_new_recording_of_the_same_name_takes_no_label_over(folder):
    renamed(folder, ("1.mp4", "old/1.mp4"))
    (folder / "1.mp4").write_text("what the camera saw next")
    assert look_again(folder) == {"old/1.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_a_file_that_is_edited_beside_its_copy_keeps_its_labels(folder):
    (folder / "backup").mkdir()
    (folder / "backup" / "1.mp4").write_bytes((folder / "1.mp4").read_bytes())
    look_again(folder)
    (folder / "1.mp4").write_text("the same film, with other colors")
    assert look_again(folder) == LABELS


def test_a_name_that_changed_wins_over_a_copy_that_was_always_there(folder):
    (folder / "a-backup.mp4").write_bytes((folder / "1.mp4").read_bytes())
    look_again(folder)
    renamed(folder, ("1.mp4", "one.mp4"))
    assert look_again(folder) == {"one.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_a_drive_that_is_away_loses_no_labels_to_its_backup(tmp_path):
    drive, backup = tmp_path / "drive", tmp_path / "backup"
    for place in (drive, backup):
        place.mkdir()
        (place / "1.mp4").write_text("a film")
    with LabelTable(tmp_path / "labels.csv") as table:
        table.put({(drive / "1.mp4", 0.0, 1.0): "fox"})
    assert look_again(tmp_path, roots=[drive, backup]) == {"drive/1.mp4": "fox"}
    drive.rename(tmp_path / ".away")
    (tmp_path / ".away" / "1.mp4").rename(tmp_path / ".away" / "1")  # out of sight
    drive.mkdir()
    assert look_again(tmp_path, roots=[drive, backup]) == {"drive/1.mp4": "fox"}


def test_a_folder_that_was_renamed_as_a_whole_keeps_its_labels(folder):
    renamed(folder, *((name, f"videos/{name}") for name in (*LABELS, "4.mp4")))
    assert look_again(folder) == {f"videos/{name}": label for name, label in LABELS.items()}
    (folder / "videos").rename(folder / "footage")
    with LabelTable(folder / "labels.csv"):
        pass
    assert look_again(folder, roots=[folder / "footage"]) == {
        f"footage/{name}": label for name, label in LABELS.items()
    }


def test_what_followed_once_does_not_go_back(folder):
    renamed(folder, ("1.mp4", "x"), ("2.mp4", "1.mp4"), ("x", "2.mp4"))
    for _ in range(3):
        assert look_again(folder) == {"1.mp4": "ant", "2.mp4": "zebra", "3.mp4": "owl"}


def test_what_was_edited_once_does_not_go_to_a_copy_that_comes_later(folder):
    first = (folder / "1.mp4").read_bytes()
    (folder / "1.mp4").write_text("the same film, cut shorter")
    assert look_again(folder) == LABELS
    (folder / "backup.mp4").write_bytes(first)
    assert look_again(folder) == LABELS


def test_footage_without_labels_takes_none_over_with_a_name(folder):
    (folder / "1.mp4").unlink()
    renamed(folder, ("4.mp4", "1.mp4"))  # whatever else has looked at the folder meanwhile
    assert look_again(folder) == {"2.mp4": "ant", "3.mp4": "owl"}


def test_a_table_that_somebody_put_right_is_left_alone(folder):
    (folder / "1.mp4").unlink()
    renamed(folder, ("2.mp4", "1.mp4"), ("3.mp4", "2.mp4"))
    (folder / "labels.csv").write_text("path,start,end,label\n1.mp4,0,2,ant\n2.mp4,0,2,owl\n")
    for edited in ([folder / name for name in LABELS], ()):
        assert look_again(folder, edited=edited) == {"1.mp4": "ant", "2.mp4": "owl"}


def test_an_edit_of_one_row_keeps_no_other_from_following(folder):
    with LabelTable(folder / "labels.csv") as table:
        text = (folder / "labels.csv").read_text()
        (folder / "labels.csv").write_text(text.replace("owl", "eagle owl") + "4.mp4,0,1,bat\n")
        table.refresh()
        assert table.edited == {folder / "3.mp4", folder / "4.mp4"}
    renamed(folder, ("1.mp4", "x.mp4"), ("2.mp4", "1.mp4"), ("x.mp4", "2.mp4"))
    now = look_again(folder, edited=table.edited)
    assert now == {"2.mp4": "zebra", "1.mp4": "ant", "3.mp4": "eagle owl", "4.mp4": "bat"}


def test_the_second_row_of_a_place_goes_along(folder):
    with (folder / "labels.csv").open("a") as stream:
        stream.write("1.mp4,0,2,horse\n")
    look_again(folder)
    renamed(folder, ("1.mp4", "one.mp4"), ("2.mp4", "1.mp4"))
    look_again(folder)
    with (folder / "labels.csv").open() as stream:
        rows = sorted((row["path"], row["label"]) for row in csv.DictReader(stream))
    assert rows == [("1.mp4", "ant"), ("3.mp4", "owl"), ("one.mp4", "horse"), ("one.mp4", "zebra")]


def test_copies_are_known_still_after_a_look_at_another_folder(folder, tmp_path_factory):
    (folder / "copy.mp4").write_bytes((folder / "1.mp4").read_bytes())
    look_again(folder)
    other = tmp_path_factory.mktemp("b") / "b.mp4"
    other.write_text("another film")
    memory = LabelMemory(folder / "labels.csv")
    memory.look([folder / name for name in LABELS], {other: content_key(other)})
    (folder / "1.mp4").write_text("the same film, with other colors")
    assert look_again(folder) == LABELS


def test_ten_thousand_labels_follow_at_once(tmp_path):
    names = [tmp_path / "old" / f"{i}.mp4" for i in range(10_000)]
    with LabelTable(tmp_path / "labels.csv") as table:
        table.put({(path, 0.0, 1.0): "fox" for path in names})
        assert table.follow({path: tmp_path / "new" / path.name for path in names})
        assert [row.path for row in table.rows] == [tmp_path / "new" / path.name for path in names]


def test_a_disk_that_is_full_changes_nothing(folder, monkeypatch):
    with LabelTable(folder / "labels.csv") as table:
        before = table.rows

        def full(*_):
            raise OSError(28, "No space left on device")

        for name in ("shutil.copyfile", "shutil.copymode"):  # of the copy, and of the table
            monkeypatch.setattr(name, full)
            with pytest.raises(CannotWrite):
                table.follow({}, {folder / "1.mp4"})
            assert table.rows == before
            monkeypatch.undo()
    assert labelled(folder) == LABELS
    assert not list(folder.glob("*before*"))


def test_a_new_recording_takes_no_label_over_where_an_index_was_faster(folder):
    """Another command has looked at the folder meanwhile: the index tells of no change any more."""
    renamed(folder, ("1.mp4", "old/1.mp4"))
    (folder / "1.mp4").write_text("what the camera saw next")
    assert look_again(folder, contents(folder)) == {"old/1.mp4": "zebra", "2.mp4": "ant", "3.mp4": "owl"}


def test_what_others_wrote_is_not_taken_for_what_was_left(folder):
    with LabelTable(folder / "labels.csv") as table:
        assert table.left == table.sha256 is not None
        with (folder / "labels.csv").open("a") as stream:
            stream.write("4.mp4,0,1,bat\n")
        table.refresh()
        assert table.left is None
        table.put({(folder / "4.mp4", 2.0, 3.0): "bat"})
        assert table.left is None  # until labels have followed
        table.edited.clear()
        assert table.left == table.sha256


def test_what_a_killed_process_left_is_removed(folder):
    parts = [folder / f"{name}-0123456789ab.part{suffix}" for name, suffix in
             ((".labels", ".csv"), ("..labels.page", ".json"), ("..labels.files", ".json"))]  # fmt: skip
    for part in parts:
        part.write_text("half")
    (folder / ".labels-mine.csv").write_text("mine")
    with LabelTable(folder / "labels.csv"):
        assert not any(part.exists() for part in parts)
    assert (folder / ".labels-mine.csv").exists()


def test_only_other_footage_at_a_path_differs(folder):
    memory, now = LabelMemory(folder / "labels.csv"), contents(folder)
    path = folder / "1.mp4"
    assert not memory.differs([path, folder / "new.mp4"], now)
    assert not memory.differs([path], {})  # its drive is away
    assert memory.differs([path], {**now, path: now[folder / "2.mp4"]})


def test_films_of_another_card_take_no_labels_over(folder):
    """Each card of a camera begins with the same names; their lengths tell it from films that are edited."""

    def look(changed, others):
        memory, now = LabelMemory(folder / "labels.csv"), contents(folder)
        with LabelTable(folder / "labels.csv") as table:
            paths = [row.path for row in table.rows]
            other = lambda path, before: path.name in others  # noqa: E731
            table.follow(*memory.moves(paths, now, {}, [folder / n for n in changed], [folder], (), other))
            memory.look({row.path for row in table.rows}, now)
        return labelled(folder)

    (folder / "1.mp4").write_text("a film that is still being written")
    assert look(["1.mp4"], ["1.mp4"]) == LABELS  # the others are as they were
    for name in LABELS:
        (folder / name).write_text(f"{name} with other colors")
    assert look(LABELS, []) == LABELS
    for name in LABELS:
        (folder / name).write_text(f"what the next card shows as {name}")
    assert look(LABELS, ["1.mp4", "2.mp4", "3.mp4"]) == {}
    assert "1.mp4" in (folder / "labels-before-1.csv").read_text()
