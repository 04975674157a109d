"""A table of labels: each key is on the disk, nothing that was there is lost."""

from __future__ import annotations

import csv

import pytest

from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, CannotWrite, OutputBusy, UsageError
from stopcli.tasks.labelling.table import LabelTable


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_each_label_is_on_the_disk_and_is_what_finetune_reads(tmp_path, clips):
    video = tmp_path / "a.mp4"
    video.write_bytes((next(clips.glob("*.mp4"))).read_bytes())
    table = tmp_path / "labels.csv"
    with LabelTable(table) as labels:
        labels.put({(video, 0.0, 1.23456): "serve"})
        assert rows(table) == [{"path": "a.mp4", "start": "0", "end": "1.235", "label": "serve"}]
        labels.put({(video, 2.0, 4.5): "volley", (video, 5.0, 6.0): "volley"})
        assert labels.label_of(video, 2.0, 4.5) == "volley"
    data = read_dataset(table)
    assert [(r.text, r.start, r.end) for r in data.rows] == [
        ("serve", 0.0, 1.235), ("volley", 2.0, 4.5), ("volley", 5.0, 6.0),
    ]  # fmt: skip
    assert not data.problems


def test_undo_takes_back_key_by_key_what_was_there_before(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "serve"})
        labels.put({(video, 0, 1): "volley", (video, 1, 2): "volley"})
        labels.put({(video, 0, 1): None})
        assert [r["start"] for r in rows(table)] == ["1"]
        assert [(r.start, r.label) for r in labels.undo()] == [(0, "volley")]
        assert [(r.start, r.label) for r in labels.undo()] == [(0, "serve"), (1, "")]
        assert [(r["start"], r["label"]) for r in rows(table)] == [("0", "serve")]
        labels.undo()
        assert rows(table) == []
        assert labels.undo() == []
        labels.put({(video, 0, 1): "ace"})
        labels.put({(video, 0, 1): "ace"})
        assert labels.undo() == []  # the last key changed nothing
        assert [(r.start, r.label) for r in labels.undo()] == [(0, "")]


def test_what_others_wrote_meanwhile_is_kept(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    table.write_text("path,start,end,label,split,group\nb.mp4,,,serve,test,7\nnowhere.mp4,x,2,odd,,\n")
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "volley"})
        assert rows(table)[:2] == [
            {"path": "b.mp4", "start": "", "end": "", "label": "serve", "split": "test", "group": "7"},
            {"path": "nowhere.mp4", "start": "x", "end": "2", "label": "odd", "split": "", "group": ""},
        ]
        with table.open("a") as stream:
            stream.write("c.mp4,3,4,serve,,\n")
        labels.put({(video, 1, 2): "volley"})
        assert [r["path"] for r in rows(table)] == ["b.mp4", "nowhere.mp4", "a.mp4", "c.mp4", "a.mp4"]
        assert labels.counts() == {"serve": 2, "volley": 2}
    with LabelTable(table) as again:
        again.put({(tmp_path / "b.mp4", None, None): "volley"})
        assert rows(table)[0] | {} == {
            "path": "b.mp4", "start": "", "end": "", "label": "volley", "split": "test", "group": "7",
        }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["path,caption\na.mp4,b\n", "a,b,c\n1,2,3\n", 'path,label\n"a.mp4,b\n', "path,label\na.mp4,b,c,d\n"],
)
def test_a_file_that_is_no_such_table_is_refused_and_left_alone(tmp_path, text):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(BadDataset):
        LabelTable(table)
    assert table.read_text() == text


def test_one_process_labels_at_a_time(tmp_path):
    with LabelTable(tmp_path / "labels.csv"), pytest.raises(OutputBusy, match="is writing it"):
        LabelTable(tmp_path / "labels.csv")
    with LabelTable(tmp_path / "labels.csv"):
        pass


@pytest.mark.parametrize(
    "label", ["\u0645\u06cc\u200c\u062f\u0648\u062f", "\U0001f469\u200d\U0001f373 cooking"]
)
def test_letters_that_are_joined_or_kept_apart_are_text(tmp_path, label):
    with LabelTable(tmp_path / "labels.csv") as labels:
        labels.put({(tmp_path / "a.mp4", 0, 1): label})
        assert labels.counts() == {label: 1}


@pytest.mark.parametrize("label", ["", "  ", "x" * 201, "a\x1b[31mb", "a\u202eb"])
def test_a_label_is_a_short_text(tmp_path, label):
    with LabelTable(tmp_path / "labels.csv") as labels, pytest.raises(UsageError, match="a label is a text"):
        labels.put({(tmp_path / "a.mp4", 0, 1): label})
    assert not (tmp_path / "labels.csv").exists()


def test_a_label_that_cannot_be_written_is_not_believed(tmp_path, monkeypatch):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "serve"})
        before = table.read_bytes()

        def refuse(*_, **__):
            raise CannotWrite("the disk is full")

        monkeypatch.setattr("stopcli.tasks.labelling.table.replacing", refuse)
        with pytest.raises(CannotWrite):
            labels.put({(video, 1, 2): "volley"})
        assert table.read_bytes() == before
        assert labels.label_of(video, 1, 2) is None
        monkeypatch.undo()
        assert [r.label for r in labels.undo()] == [""]  # the key before: the failed one never was


def test_an_edit_that_cannot_be_read_stops_every_write_until_it_is_mended(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    with LabelTable(table) as labels:
        labels.put({(video, i, i + 1): "serve" for i in range(5)})
        good = table.read_text()
        for bad in (
            good + "x,y,z,w,v\n",
            good.replace("a.mp4", "\xe9.mp4"),
            good + '"',
            "path,start\n",
            "\n",
            "",
        ):
            table.write_bytes(bad.encode("latin-1"))
            for _ in range(2):
                with pytest.raises(BadDataset):
                    labels.put({(video, 9, 10): "volley"})
            assert table.read_bytes() == bad.encode("latin-1")
            assert len(labels.rows) == 5
        table.write_text(good)
        labels.put({(video, 9, 10): "volley"})
        assert len(rows(table)) == 6


def test_undo_leaves_what_others_wrote_since(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "mine", (video, 1, 2): "mine"})
        table.write_text(table.read_text().replace("0,1,mine", "0,1,theirs"))
        labels.undo()
        assert [r["label"] for r in rows(table)] == ["theirs"]


def test_undo_brings_back_the_whole_row(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    table.write_text("path,start,end,label,split\na.mp4,0,1,serve,test\n")
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): None})
        assert rows(table) == []
        labels.undo()
        assert rows(table) == [{"path": "a.mp4", "start": "0", "end": "1", "label": "serve", "split": "test"}]


@pytest.mark.parametrize(
    "name",
    [
        " lead.mp4",
        "~x.mp4",
        "a,b.mp4",
        'q".mp4',
        "line\nbreak.mp4",
        "cr\ronly.mp4",
        "ü.mp4",
        "\u3000wide.mp4",
        "\u00a0x.mp4",
    ],
)
def test_odd_names_are_the_same_file_when_they_are_read_again(tmp_path, name):
    table, video = tmp_path / "labels.csv", tmp_path / name
    video.write_bytes(b"x")
    with LabelTable(table) as labels:
        labels.put({(video, 0, 1): "a"})
    with LabelTable(table) as labels:
        assert labels.label_of(video, 0, 1) == "a"
        labels.put({(video, 0, 1): "b"})
        assert [r.label for r in labels.rows] == ["b"]
    assert [row.path for row in read_dataset(table).rows] == [video]


def test_a_name_that_is_no_text_and_a_moment_that_ends_before_it_starts_are_refused(tmp_path):
    with LabelTable(tmp_path / "labels.csv") as labels:
        for place in (
            (tmp_path / "b\udcff.mp4", 0, 1),
            (tmp_path / "a.mp4", 2, 1),
            (tmp_path / "a.mp4", 1, 1),
        ):
            with pytest.raises(UsageError):
                labels.put({place: "x"})
    assert not (tmp_path / "labels.csv").exists()


def test_a_link_to_a_table_stays_one_and_keeps_its_mode(tmp_path):
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("path,label\n")
    real.chmod(0o600)
    link.symlink_to(real)
    with LabelTable(link) as labels:
        labels.put({(tmp_path / "a.mp4", 0, 1): "a"})
        with pytest.raises(OutputBusy):
            LabelTable(real)
    assert link.is_symlink()
    assert len(rows(real)) == 1
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_label_is_one_label_however_it_is_spaced(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,start,end,label\na.mp4, 0, 8, serve\na.mp4,8,16,big  serve \n")
    with LabelTable(table) as labels:
        assert labels.counts() == {"serve": 1, "big serve": 1}


def test_a_moment_that_is_trimmed_keeps_what_else_is_known_of_it(tmp_path):
    table, video = tmp_path / "labels.csv", tmp_path / "a.mp4"
    table.write_text("path,start,end,label,split,group\na.mp4,0,8,serve,test,anna\n")
    with LabelTable(table) as labels:
        labels.put({(video, 0, 8): None, (video, 2, 5): "volley"})
        expected = {
            "path": "a.mp4",
            "start": "2",
            "end": "5",
            "label": "volley",
            "split": "test",
            "group": "anna",
        }
        assert rows(table) == [expected]
        labels.undo()
        assert rows(table)[0]["split"] == "test"


def test_no_cell_of_the_table_is_computed_by_a_spreadsheet(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,start,end,label\nclip.mp4,0,1,'=HYPERLINK(1)\n")
    with LabelTable(table) as labels:
        labels.put({(tmp_path / "=1+1.mp4", 0, 1): "serve"})
        assert labels.counts() == {"=HYPERLINK(1)": 1, "serve": 1}
    assert [(row["path"], row["label"]) for row in rows(table)] == [
        ("clip.mp4", "'=HYPERLINK(1)"), ("./=1+1.mp4", "serve"),
    ]  # fmt: skip
    with LabelTable(table) as again:
        assert again.label_of(tmp_path / "=1+1.mp4", 0, 1) == "serve"


def test_what_others_wrote_in_a_label_stays_as_it_is(tmp_path):
    """A mark of the writing direction, as Hebrew and Arabic tables have it; a row that means nothing."""
    table = tmp_path / "labels.csv"
    table.write_text("path,start,end,label,score,split\na.mp4,0,8,\u200fserve,0.9,test\n,x,,\x07odd,,\n")
    with LabelTable(table) as labels:
        labels.put({(tmp_path / "b.mp4", 0, 1): "-5"})
        labels.put({(tmp_path / "c.mp4", 0, 1): "\u200fserve"})
        labels.put({(tmp_path / "a.mp4", 0, 8): None, (tmp_path / "a.mp4", 2, 5): "volley"})
    assert table.read_text().splitlines()[1:] == [
        ",x,,\x07odd,,", "b.mp4,0,1,'-5,,", "c.mp4,0,1,\u200fserve,,", "a.mp4,2,5,volley,,test",
    ]  # fmt: skip
