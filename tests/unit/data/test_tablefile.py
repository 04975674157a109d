"""Tables as people have them: what spreadsheets write is read; what cannot be meant is said with its row."""

from __future__ import annotations

import json
import math

import pytest

from stopcli.data.labels import parse_labels
from stopcli.data.split import divided_units
from stopcli.data.table import MOST_LISTED, read_dataset
from stopcli.errors import BadDataset, InputError


@pytest.fixture
def read(tmp_path):
    """Write a table beside four files, and read it."""
    for name in ("d1", "d2", "r1", "r2"):
        (tmp_path / f"{name}.mp4").write_bytes(f"film {name}".encode())

    def call(content, name="data.csv"):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return read_dataset(tmp_path / name)

    return call


def texts(data):
    assert not data.problems, data.listing
    return [row.text for row in data.rows]


PLAIN = 'path,label\nd1.mp4,"a dog, running"\nr1.mp4,"a ""fast"" rocket"\n'
SAME = ["a dog, running", 'a "fast" rocket']
SEMI = PLAIN.replace("path,", "path;").replace("mp4,", "mp4;")
TABS = PLAIN.replace("path,", "path\t").replace("mp4,", "mp4\t")
WRITTEN = {
    "plain": PLAIN,
    "Windows": PLAIN.replace("\n", "\r\n"),
    "old Mac": PLAIN.replace("\n", "\r"),
    "mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "semicolons": SEMI,
    "sep line": "sep=;\n" + SEMI,
    "capitals": PLAIN.replace("path,label", "Path,Label"),
    "other names": PLAIN.replace("path,label", " FILE , Class "),
    "more names": PLAIN.replace("path,label", "Video Path,category"),
    "empty columns": PLAIN.replace("path,label", "path,label,,").replace("\nr1", ",,,\nr1"),
    "UTF-16": TABS.encode("utf-16"),
    "UTF-16 BE": b"\xfe\xff" + TABS.encode("utf-16-be"),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_what_spreadsheets_write_is_read(read, how):
    assert texts(read(WRITTEN[how])) == SAME


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_odd_line_ends_inside_a_text_cut_no_row(read, mark):
    data = read(f"path,label\nd1.mp4,a dog{mark}running\nr1.mp4,rocket\n")
    assert [(r.number, r.text) for r in data.rows] == [(2, "a dog running"), (3, "rocket")]
    if ord(mark) > 32:  # JSON has no control characters in texts
        line = f'{{"path": "d1.mp4", "caption": "a dog{mark}running"}}\n'
        assert [r.text for r in read(line, "data.jsonl").rows] == ["a dog running"]


def test_a_line_break_inside_quotes_is_part_of_the_text(read):
    assert texts(read('path,label\nd1.mp4,"a dog\nrunning"\nr1.mp4,b\n')) == ["a dog running", "b"]


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [("0,2", "0,9", (0.2, 0.9)), ("1:00", "1:02.5", (60, 62.5)), ("1:00:00", "1:00:01,5", (3600, 3601.5))],
)
def test_times_are_read_as_they_are_written(read, start, end, seconds):
    (row,) = read(f"path;label;start;end\nd1.mp4;a;{start};{end}\n").rows
    assert (row.start, row.end) == pytest.approx(seconds)


@pytest.mark.parametrize("time", ["1:2:3:4", "soon", "-1", "1e300", "nan", "inf", "1:", ":5", "1.5.5"])
def test_other_times_are_problems(read, time):
    (problem,) = read(f'path,label,start\nd1.mp4,a,"{time}"\n').problems
    assert "seconds from 0 up, or h:mm:ss" in problem.message


def test_a_cell_too_many_says_how_to_write_it(read):
    data = read("path,label\nd1.mp4,a dog, running\nr1.mp4,rocket\n")
    assert [str(p) for p in data.problems] == [
        "row 2: 3 cells where the header has 2; put quotes around a text with a comma in it"
    ]
    assert [r.text for r in data.rows] == ["rocket"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label,label\nd1.mp4,dog,x\n", "2 columns that mean 'label': 'label', 'label'; keep one"),
        ("path,file,label\nd1.mp4,d1.mp4,x\n", "2 columns that mean 'path': 'path', 'file'"),
        ('path,label\nd1.mp4,"dog\nd2.mp4,cat\n', "row 2: a quote .* never closed"),
        ('path,label\nd1.mp4,"dog"s\n', "row 2: there is text behind a closing quote"),
        ("path,label\nd1.mp4," + "x" * 200_000 + "\n", "row 2: not readable as CSV"),
        (b"path,label\nd1.mp4,caf\xe9\n", "line 2 is not text in UTF-8; save it as 'CSV UTF-8'"),
        ("path," + "x" * 10_000 + "\n1,2\n", "needs a column 'path' and"),
    ],
)
def test_what_is_no_table_is_one_sentence(read, content, words):
    with pytest.raises(BadDataset, match=words) as caught:
        read(content)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("line", ["{", "[1]", "[" * 10**5, '{"path": ' + "1" * 5000 + "}", '"x"'])
def test_what_is_no_json_is_one_sentence(read, line):
    with pytest.raises(BadDataset, match="line 1") as caught:
        read(line, "data.jsonl")
    assert len(str(caught.value)) < 400


def test_two_names_that_mean_the_same_are_a_fault_of_the_row(read):
    lines = b'{"path":"d1.mp4","label":"dog","clip":"d2.mp4"}\n{"File Path":"r1.mp4","label":"cat"}\n'
    data = read(lines, "data.jsonl")
    assert [row.path.name for row in data.rows] == ["r1.mp4"]
    assert [str(p) for p in data.problems] == ["row 1: 2 names that mean 'path': 'path', 'clip'; keep one"]


def test_many_problems_are_twenty_lines(read):
    data = read("path,label\n" + "".join(f"{i}{'x' * 500}.mp4,a\n" for i in range(10_000)))
    assert len(data.problems) == 10_000
    lines = data.listing.strip().split("\n")
    assert len(lines) == MOST_LISTED + 1
    assert lines[-1].strip() == f"and {10_000 - MOST_LISTED} more"
    assert max(map(len, lines)) < 150


def test_labels_that_differ_in_capitals_only_are_one(read):
    data = read("path,label\nd1.mp4,Serve\nd2.mp4,serve\nr1.mp4,serve \nr2.mp4,rocket\n")
    assert data.labels == ("rocket", "serve")
    assert data.notes == ("labels 'Serve', 'serve' are taken as one: 'serve'",)
    said = []
    assert parse_labels("Serve, serve,rocket", said.append) == ["Serve", "rocket"]
    assert said == ["note: labels 'Serve', 'serve' are taken as one: 'Serve'"]


def test_labels_that_differ_in_white_space_only_are_one():
    said = []
    assert parse_labels("big  dog,cat, big dog ,cow", said.append) == ["big dog", "cat", "cow"]
    assert said == ["note: label 'big dog' is given 2 times, and taken once"]


def test_label_files_are_read_line_by_line(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("a dog\na cat\u2028jumping\n# no label\na\x0ccar\n", encoding="utf-16")
    assert parse_labels(f"@{file}") == ["a dog", "a cat jumping", "a car"]
    file.write_bytes(b"caf\xe9\nb\n")
    with pytest.raises(InputError, match="line 1 is not text in UTF-8"):
        parse_labels(f"@{file}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "d1.mp4", "label": "\\ud800"}', "the label is no text"),
        ('{"path": "d1.mp4", "label": "' + "x" * 2001 + '"}', "the label has 2001 characters"),
        ('{"path": "~nosuchuser/x.mp4", "label": "a"}', "no file ~nosuchuser/x.mp4"),
        ('{"path": "\\ud800", "label": "a"}', "no file"),
        ('{"path": "a\\u0000b", "label": "a"}', "no file"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem_before_training(read, line, words):
    (problem,) = read(line, "data.jsonl").problems
    assert words in problem.message


def test_endless_files_are_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("stopcli.data.tablefile.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="larger than"):
        parse_labels("@/dev/zero")
    (tmp_path / "big.csv").write_text("path,label\n" + "x,y\n" * 1000)
    with pytest.raises(BadDataset, match="larger than"):
        read_dataset(tmp_path / "big.csv")


def test_a_json_file_of_rows_is_a_table(read, tmp_path):
    rows = [
        {"video": "d1.mp4", "label": "serve", "start": 3, "end": 5.5, "split": "train"},
        {"video": "d1.mp4", "label": "volley", "start": 9, "end": 11, "split": "test"},
    ]
    data = read(json.dumps(rows), "labels.json")
    assert not data.problems
    assert [(r.text, r.start, r.end, r.split) for r in data.rows] == [
        ("serve", 3.0, 5.5, "train"),
        ("volley", 9.0, 11.0, "test"),
    ]
    assert [r.end for r in read_dataset(tmp_path).rows] == [5.5, 11.0]  # the folder, too
    exported = [{"id": 1, "video": "d1.mp4", "label": "serve", "annotator": 1, "annotation_id": 2}] * 2
    assert texts(read(json.dumps(exported[:1]), "studio.json")) == ["serve"]  # Label Studio's JSON-MIN


def test_labels_that_wait_lengths_and_marks(read):
    """What tables of annotation tools have in common is read, or refused; nothing becomes another clip."""
    waiting = read("path,label\nd1.mp4,serve\nd2.mp4,\nr1.mp4, \n")
    assert (texts(waiting), waiting.problems) == (["serve"], ())
    assert "2 rows have no label yet, and are left out" in waiting.notes
    with pytest.raises(BadDataset, match="no row has a label yet"):
        read("path,label\nd1.mp4,\n")
    for header in ("start,duration", "onset,Length", "in,dur", "begin,duration_(s)"):
        data = read(f"path,label,{header}\nd1.mp4,serve,1.5,2\nd2.mp4,serve,0:01,0:03\n")
        assert [(row.start, row.end) for row in data.rows] == [(1.5, 3.5), (1.0, 4.0)]
        assert (data.problems, data.notes) == ((), ())
    for header in ("onset,offset", "in,out", "t0,t1"):
        assert [(r.start, r.end) for r in read(f"path,label,{header}\nd1.mp4,a,1,2\n").rows] == [(1.0, 2.0)]
    both = read("path,label,start,end,duration\nd1.mp4,a,1,2,9\n")
    assert ([row.end for row in both.rows], both.notes) == ([2.0], ())
    endless = read("path,label,start,end\nd1.mp4,a,1,\nd2.mp4,a,1,2\n")
    assert endless.notes == ("1 row has a start and no end, and is taken until the end of the file",)
    mixed = read("path,label,start,end,duration,offset,in\nd1.mp4,a,1,,2,7,8\n")
    assert [(row.start, row.end) for row in mixed.rows] == [(1.0, 3.0)]
    assert [(r.start, r.end) for r in read("path,label,offset\nd1.mp4,a,5\n").rows] == [(None, None)]
    assert not read("path,label,start,first_frame\nd1.mp4,a,1,25\n").problems
    framed = read("path,label,first_frame,end_frame\nd1.mp4,a,10,20\n")
    assert "counts frames" in str(framed.problems[0])
    assert not read("path,label,start,end,first_frame,end_frame\nd1.mp4,a,1,2,10,20\n").problems


def test_a_file_that_is_not_there_is_named_as_it_is_written(read, tmp_path):
    found = read("path,label\nD1.MP4,a\nd 2.mp4,a\nd1.mp4,a\n  x  y.mp4,a\n").problems
    assert [problem.message for problem in found] == [
        "no file D1.MP4; did you mean 'd1.mp4'?",
        "no file d 2.mp4; did you mean 'd2.mp4'?",
        "no file 'x  y.mp4'",
    ]


def test_letters_that_two_systems_write_otherwise_make_one_label(read):
    data = read("path,label\nd1.mp4,caf\u00e9\nd2.mp4,cafe\u0301\n")
    assert (data.labels, data.notes) == (("caf\u00e9",), ())
    assert parse_labels("cafe\u0301,bar") == ["caf\u00e9", "bar"]


def test_a_group_on_both_sides_of_a_split_is_noted(read, tmp_path):
    rows = (
        "path,label,split,group\nd1.mp4,a,train,anna\nd2.mp4,a,test,anna\nr1.mp4,b,,ben\nr2.mp4,b,train,ben\n"
    )
    assert divided_units(read(rows).rows) == [
        "clips of the group 'anna' are in test and train: those held out are not wholly new"
    ]
    (tmp_path / "r2.mp4").write_bytes((tmp_path / "r1.mp4").read_bytes())
    rows = "path,label,start,end,split\nd1.mp4,a,0,1,train\nd1.mp4,a,0,1.5,test\nr1.mp4,b,,,train\nr2.mp4,b,,,val\n"
    assert divided_units(read(rows).rows) == [
        "clips of 'd1.mp4' are in test and train (2 files or groups are divided): those held out are not wholly new"
    ]
    assert divided_units(read(rows).rows[2:]) == [
        "'r1.mp4' and 'r2.mp4', which belong together, are in train and val: those held out are not wholly new"
    ]


def test_columns_that_are_not_read_change_nothing_of_a_json_table(read):
    rows = [
        {"path": f"d{i}.mp4", "label": "serve", "start": i, "end": i + 1, "split": "train", "tags": ["indoor"],
         "annotator": "ann", "bbox": [1, 2, 3, 4]}
        for i in (1, 2)
    ]  # fmt: skip
    data = read(json.dumps(rows), "rows.json")
    assert [(r.text, r.start, r.end, r.split) for r in data.rows] == [
        ("serve", i, i + 1, "train") for i in (1, 2)
    ]
    assert data.rows == read("\n".join(map(json.dumps, rows)), "rows.jsonl").rows


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_what_pandas_writes_for_an_empty_cell_is_empty(read, name):
    rows = [json.dumps({"path": f"d{i}.mp4", "label": label}) for i, label in ((1, "a"), (2, math.nan))]
    data = read("[" + ",".join(rows) + "]" if name == "rows.json" else "\n".join(rows), name)
    assert texts(data) == ["a"]
    assert data.notes == ("1 row has no label yet, and is left out",)
