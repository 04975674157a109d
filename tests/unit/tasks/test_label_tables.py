"""A table of labels that others write, too: their form stays, their rows are filled, their writing is waited for."""

from __future__ import annotations

import csv
import threading
import time

import pytest

from stopcli.data.table import read_dataset
from stopcli.errors import CannotWrite
from stopcli.tasks.labelling import table as labelling
from stopcli.tasks.labelling.table import LabelTable


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_spreadsheets_table_stays_a_spreadsheets_table(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "Bär.mp4"
    for mark, given in (
        ("utf-8-sig", "filename;class;Bemerkung\r\na.mp4;Dachs;nachts\r\n"),
        ("utf-16", "filename\tclass\tBemerkung\r\na.mp4\tDachs\tnachts\r\n"),
        ("utf-8", "sep=;\r\nfilename;class;Bemerkung\r\na.mp4;Dachs;nachts\r\n"),
    ):
        table.write_bytes(given.encode(mark))
        with LabelTable(table) as labels:
            labels.put({(video, None, None): "Bär"})
            separator = "\t" if "\t" in given else ";"
            assert table.read_bytes().decode(mark) == given + separator.join(["Bär.mp4", "Bär", ""]) + "\r\n"
            labels.put({(video, 1.5, 2.0): "Bär"})
            lines = table.read_bytes().decode(mark).splitlines()[-4:]
            assert [line.count(separator) for line in lines] == [4, 4, 4, 4]
            assert lines[0].endswith(f"Bemerkung{separator}start{separator}end")
        assert [row.text for row in read_dataset_rows(table)] == ["Dachs", "Bär", "Bär"]


def read_dataset_rows(table):
    for name in ("a.mp4", "Bär.mp4"):
        (table.parent / name).touch()
    return read_dataset(table).rows


def test_a_row_that_waits_for_a_label_is_filled(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    video.touch()
    text = "path,label,note\na.mp4,,look at this\nb.mp4,,\n"
    table.write_text(text)
    with LabelTable(table) as labels:
        assert (labels.rows, labels.counts(), labels.label_of(video, None, None)) == ([], {}, None)
        labels.put({(video, None, None): "serve"})
        assert table.read_text() == text.replace("a.mp4,,", "a.mp4,serve,")
        labels.undo()
        assert table.read_text() == text
        labels.put({(video, None, None): None})
        assert table.read_text() == text
        labels.put({(video, None, None): "serve"})
    data = read_dataset(table)
    assert [(row.path.name, row.text) for row in data.rows] == [("a.mp4", "serve")]
    assert not data.problems
    assert any("1 row has no label yet" in note for note in data.notes)


def test_a_table_of_windows_is_written_into(tmp_path):
    (tmp_path / "clips").mkdir()
    video, table = tmp_path / "clips" / "a.mp4", tmp_path / "labels.csv"
    video.touch()
    table.write_text("path,label\nclips\\a.mp4,serve\n")
    with LabelTable(table) as labels:
        assert labels.label_of(video, None, None) == "serve"
        labels.put({(video, None, None): "volley"})
    assert table.read_text() == "path,label\nclips\\a.mp4,volley\n"


def test_a_table_that_is_being_written_is_waited_for(tmp_path):
    """Another program writes in place; what is there half-way is not taken for the whole."""
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    rows_of = [f"{i}.mp4,0,2,label {i}\n" for i in range(400)]
    table.write_text("path,start,end,label\n" + "".join(rows_of))

    def write_slowly(stream):
        for at in range(100, 400, 50):
            time.sleep(0.1)
            stream.write("".join(rows_of[at : at + 50]))
            stream.flush()

    with LabelTable(table) as labels, table.open("w") as stream:
        stream.write("path,start,end,label\n" + "".join(rows_of[:100]) + "30")
        stream.flush()
        stream.seek(stream.tell() - 2)
        writer = threading.Thread(target=write_slowly, args=(stream,))
        writer.start()
        labels.put({(video, 0, 2): "serve"})
        writer.join()
        assert len(rows(table)) == 401


def test_a_table_that_changes_as_it_is_saved_is_left_alone(tmp_path, monkeypatch):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "serve"})
        text_of = labelling.table_text

        def late(*given):
            table.write_text("path,start,end,label\nb.mp4,,,ace\n")
            return text_of(*given)

        monkeypatch.setattr(labelling, "table_text", late)
        with pytest.raises(CannotWrite, match="another program"):
            labels.put({(video, 1, 2): "volley"})
        assert [row["label"] for row in rows(table)] == ["ace"]
        monkeypatch.undo()
        labels.put({(video, 1, 2): "volley"})
        assert [row["label"] for row in rows(table)] == ["ace", "volley"]


def test_a_row_that_waits_hides_no_label_of_the_same_moment(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    table.write_text("path,start,end,label\na.mp4,1,2,\na.mp4,1,2,run\n")
    with LabelTable(table) as labels:
        assert labels.label_of(video, 1, 2) == "run"
        labels.put({(video, 1, 2): "jump"})
    assert [row["label"] for row in rows(table)] == ["", "jump"]


def test_times_that_were_rounded_by_hand_are_the_same_stretch(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,start,end,label\na.mp4,7.50,10.00,a\na.mp4,,1.92,b\na.mp4,0,60,c\nb.mp4,8,10,d\n")
    with LabelTable(table) as labels:
        path = tmp_path / "a.mp4"
        assert labels.near((path, 7.4, 10.0)) == (path, 7.5, 10.0)
        assert labels.near((path, 0.0, 1.9167)) == (path, None, 1.92)
        assert labels.near((path, 0.4, 59.6)) == (path, 0.0, 60.0)
        for other in (
            (path, 7.4, 11.0),
            (path, 8.0, 16.0),
            (path, 0.0, 60.6),
            (path, 0.0, 0.9),
            (path, 0.0, None),
            (tmp_path / "c.mp4", 7.5, 10.0),
        ):
            assert labels.near(other) is None


def test_moments_that_are_told_by_their_length_keep_it(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    video.touch()
    table.write_text("path,onset,duration,label\na.mp4,1,2,run\na.mp4,10,2,run\n")
    with LabelTable(table) as labels:
        assert labels.label_of(video, 1, 3) == "run"
        labels.put({(video, 20, 21.5): "jump"})
    data = read_dataset(table)
    assert [(row.start, row.end) for row in data.rows] == [(1, 3), (10, 12), (20, 21.5)]
    assert not data.problems
