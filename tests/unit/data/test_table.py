"""Tables of labelled videos: every fault with its row, splits that do not leak."""

from __future__ import annotations

import json
import unicodedata

import pytest

from labelled_clips import table
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, FileMissing


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("Training", "valid", "TEST")])
def test_folders_are_splits_by_their_usual_names(videos, tmp_path, names):
    for name in names:
        for label in ("cat", "dog"):
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "a.mp4").symlink_to(videos / "00.mp4")
    data = read_dataset(tmp_path)
    assert data.labels == ("cat", "dog")
    assert [len(data.of(split)) for split in ("train", "val", "test")] == [2, 2, 2]
    (tmp_path / "unsure" / "cat").mkdir(parents=True)
    with pytest.raises(BadDataset, match="unsure beside them is none; call it train, val or test"):
        read_dataset(tmp_path)


def test_a_label_may_be_called_as_a_split_is(videos, tmp_path):
    for label in ("train", "bus"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").symlink_to(videos / "00.mp4")
    assert read_dataset(tmp_path).labels == ("bus", "train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("name,label\n00.mp4,a\n", "needs a column 'path'"),
        ("path,label,caption\n00.mp4,a,b\n", "both"),
        ("path,label\n", "has no rows"),
    ],
)
def test_a_table_that_is_none_is_refused(videos, text, words):
    with pytest.raises(BadDataset, match=words):
        read_dataset(table(videos, text))


def test_reading_knows_no_rules_of_training(videos):
    data = read_dataset(table(videos, "path,label,split\n00.mp4,a,test\n01.mp4,b,test\n"))
    assert not data.problems
    data.require_sound("never said")


def test_faults_are_listed_by_row(videos):
    data = read_dataset(table(videos, "path,label,end\n00.mp4,,\n01.mp4,a,x\nno.mp4,a,\n02.mp4,b,3\n"))
    assert [p.row for p in data.problems] == [3, 4]
    assert [r.number for r in data.rows] == [5]
    with pytest.raises(BadDataset, match="2 problems, do this"):
        data.require_sound("do this")


def test_a_missing_table_is_an_input_error(tmp_path):
    with pytest.raises(FileMissing):
        read_dataset(tmp_path / "none.csv")


def test_semicolons_bom_jsonl_and_folders_are_read(videos, tmp_path):
    text = "path;label\r\n00.mp4;a dog, running\r\n01.mp4;a dog, running\r\n02.mp4;b\r\n03.mp4;b\r\n"
    path = videos / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    data = read_dataset(path)
    assert data.labels == ("a dog, running", "b")
    lines = [json.dumps({"path": f"{i:02d}.mp4", "caption": f"clip {i % 2}"}) for i in range(4)]
    captions = read_dataset(table(videos, "\n".join(lines), "data.jsonl"))
    assert captions.task == "retrieval"
    assert [r.number for r in captions.rows] == [1, 2, 3, 4]
    for split in ("train", "val"):
        for label in ("high_jump", "swim"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(2):
                (tmp_path / split / label / f"{i}.mp4").symlink_to(videos / f"{i:02d}.mp4")
    folders = read_dataset(tmp_path)
    assert folders.labels == ("high jump", "swim")
    assert len(folders.of("val")) == 4


def rows(videos, count, *, group=None):
    lines = ["path,label,group"]
    lines += [f"{i % 12:02d}.mp4,{'ab'[i % 2]},{group(i) if group else ''}" for i in range(count)]
    return read_dataset(table(videos, "\n".join(lines)))


def test_a_fifth_of_each_class_is_held_out_by_the_seed(videos):
    data = with_validation(rows(videos, 10), 0)
    held = data.of("val")
    assert sorted(r.text for r in held) == ["a", "b"]
    assert data == with_validation(rows(videos, 10), 0)
    assert any(with_validation(rows(videos, 10), s).of("val") != held for s in range(1, 9))


def test_groups_stay_on_one_side(videos):
    data = with_validation(rows(videos, 12, group=lambda i: f"person {i // 3}"), 3)
    assert data.of("val")
    assert not {r.group for r in data.of("val")} & {r.group for r in data.of("train")}


def test_what_a_model_knows_judges_none_that_is_made_of_it(videos):
    for seed in range(5):
        data = with_validation(rows(videos, 12), seed, known=range(2, 12))  # but the last two
        assert {r.number for r in data.of("val")} <= {12, 13}
        assert len(data.of("train")) >= 10


def test_shots_are_drawn_of_each_class(videos):
    data = few_shots(with_validation(rows(videos, 12), 0), 2, 0)
    assert sorted(r.text for r in data.of("train")) == ["a", "a", "b", "b"]
    assert len(data.of("val")) == 2


def test_a_file_that_is_named_in_two_ways_is_found_twice(videos):
    rows = f"00.mp4,a\n{videos}/00.mp4,b\n../{videos.name}/00.mp4,a\n01.mp4,b\n"
    data = read_dataset(table(videos, f"path,label\n{rows}"))
    assert [(p.row, p.message.partition(" is in ")[2]) for p in data.problems] == [
        (3, "row 2 already, as 'b', there as 'a'"), (4, "row 2 already, again"),
    ]  # fmt: skip


def test_class_folders_that_differ_in_capitals_are_one_label(videos, tmp_path):
    for folder in ("train/Walk", "train/run", "test/walk", "test/run"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.mp4").symlink_to(videos / "00.mp4")
    data = read_dataset(tmp_path)
    assert {r.text for r in data.rows} == {"run", "walk"} or {r.text for r in data.rows} == {"run", "Walk"}
    assert [note.partition(" are taken")[0] for note in data.notes] == ["labels 'walk', 'Walk'"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,lable\n00.mp4,a\n", r"found path, lable; is 'lable' meant as 'label'\?"),
        (
            "path,start,end,label\n00.mp4,0,5,2,0,a\n",
            r"no row can be read; row 2 has 6 cells where the header",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_why(videos, text, words):
    with pytest.raises(BadDataset, match=words):
        read_dataset(table(videos, text))


def test_names_as_macs_spell_them_are_found(videos, tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "Tür.mp4")).symlink_to(videos / "00.mp4")
    (tmp_path / "t.csv").write_text(unicodedata.normalize("NFC", "path,label\nTür.mp4,a\n"), encoding="utf-8")
    data = read_dataset(tmp_path / "t.csv")
    assert (len(data.rows), data.problems) == (1, ())


def test_two_labels_of_nearly_the_same_seconds_are_noted(videos):
    lines = ["00.mp4,0.75,1.0,a", "01.mp4,0,1,a", "00.mp4,0.74,1.0,b", "01.mp4,0.5,1.5,b", "01.mp4,0,0.98,a"]
    data = read_dataset(table(videos, "\n".join(["path,start,end,label", *lines])))
    (note,) = [n for n in data.notes if "nearly" in n]
    assert note == (
        "rows 2 and 4 call nearly the same seconds of 00.mp4 'a' and 'b': keep the one that is right"
    )
    assert len(data.rows) == 5


def test_a_column_that_is_lacking_is_named_beside_those_that_are_there(videos):
    for text, words in (("video,from,to,behaviour\na,0,1,b\n", "'label'"), ("xyz,label\na,b\n", "'path'")):
        with pytest.raises(BadDataset, match=rf"found .*; call the column of (labels|files) {words}"):
            read_dataset(table(videos, text))
