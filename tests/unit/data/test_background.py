"""Everything else as a label: only what nobody labelled."""

from __future__ import annotations

import pytest

from labelled_clips import Recorder, table
from stopcli.data.background import BACKGROUND, MARGIN, with_background
from stopcli.data.split import folds_of, units_of
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, UsageError
from stopcli.train.dataset import check_table

ROWS = "path,label,start,end,split\n00.mp4,serve,4,6,train\n00.mp4,fall,10,12,train\n01.mp4,serve,0,2,test\n"


def test_background_lies_where_nothing_is_labelled_and_keeps_the_split(videos):
    data = read_dataset(table(videos, ROWS + "01.mp4,fall,7,9,test\n"))
    found = with_background(data, 0, lambda _: (0.0, 20.0))
    new = [r for r in found.rows if r.text == BACKGROUND]
    assert len(new) == 2  # as many as of the others
    for row in new:
        assert row.end - row.start == pytest.approx(2)
        assert row.end <= 20
        assert row.split == ("train" if row.path.name == "00.mp4" else "test")
        for other in data.rows:
            if other.path == row.path:
                assert row.end <= other.start - MARGIN or row.start >= other.end + MARGIN
    assert len({r.number for r in found.rows}) == len(found.rows)
    assert found.rows == with_background(data, 0, lambda _: (0.0, 20.0)).rows


def test_background_is_drawn_from_every_file_and_in_every_split(videos):
    """Files of the test may come first in the alphabet."""
    lines = [f"0{i}.mp4,{'ab'[i % 2]},0,2,{'test' if i < 3 else 'train'}" for i in range(6)]
    data = read_dataset(table(videos, "path,label,start,end,split\n" + "\n".join(lines)))
    new = [r for r in with_background(data, 0, lambda _: (0.0, 30.0)).rows if r.text == BACKGROUND]
    assert sorted(r.split for r in new) == ["test", "test", "train", "train"]
    drawn = {seed: with_background(data, seed, lambda _: (0.0, 30.0)).rows for seed in range(10)}
    assert {r.path.name for rows in drawn.values() for r in rows if r.text == BACKGROUND} == {
        f"0{i}.mp4" for i in range(6)
    }


@pytest.mark.parametrize("fault", ["01.mp4,b,x,9", "01.mp4,,4,9", "01.mp4,alone,4,9", "01.mp4,a,0,2"])
def test_a_file_with_a_faulty_row_has_no_background(videos, fault):
    lines = ["00.mp4,a,0,2", "00.mp4,b,4,6", "01.mp4,a,0,2", "02.mp4,b,0,2", fault]
    data = read_dataset(table(videos, "path,label,start,end\n" + "\n".join(lines)))
    data = check_table(data, Recorder(), skip_bad=True)
    assert len(data.problems) == (0 if ",," in fault else 1)
    for seed in range(5):
        new = [r for r in with_background(data, seed, lambda _: (0.0, 30.0)).rows if r.text == BACKGROUND]
        assert new
        assert {r.path.name for r in new} <= {"00.mp4", "02.mp4"}


def test_a_file_of_two_names_has_background_where_neither_is_labelled(tmp_path):
    for name, data in (("00.mp4", b"x"), ("01.mp4", b"y"), ("copy.mp4", b"x")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "00.mp4")
    lines = ["00.mp4,a,0,2", "link.mp4,b,4,6", "copy.mp4,a,8,10", "01.mp4,b,0,2"]
    data = read_dataset(table(tmp_path, "path,label,start,end\n" + "\n".join(lines)))
    same = ("00.mp4", "link.mp4", "copy.mp4")
    for seed in range(5):
        new = [r for r in with_background(data, seed, lambda _: (0.0, 14.0)).rows if r.text == BACKGROUND]
        for row in (r for r in new if r.path.name in same):
            assert all(row.end <= a - MARGIN or row.start >= b + MARGIN for a, b in ((0, 2), (4, 6), (8, 10)))


def test_each_name_of_a_file_has_background_in_its_split(tmp_path):
    for name, data in (("00.mp4", b"x"), ("01.mp4", b"y"), ("copy.mp4", b"x"), ("other.mp4", b"y")):
        (tmp_path / name).write_bytes(data)
    lines = ["00.mp4,a,0,2,train", "copy.mp4,b,4,6,test", "01.mp4,b,0,2,train", "other.mp4,a,4,6,test"]
    data = read_dataset(table(tmp_path, "path,label,start,end,split\n" + "\n".join(lines)))
    new = [r for r in with_background(data, 0, lambda _: (0.0, 14.0)).rows if r.text == BACKGROUND]
    assert sorted(r.split for r in new) == ["test", "train"]
    assert {r.path.name for r in new if r.split == "test"} <= {"copy.mp4", "other.mp4"}


@pytest.mark.parametrize(
    ("text", "length", "error", "words"),
    [
        (
            "path,label,start,end\n00.mp4,a,1,4\n00.mp4,b,4,7\n",
            8.0,
            BadDataset,
            "no stretches of 3 s without a label",
        ),
        ("path,label\n00.mp4,a\n01.mp4,b\n", 9.0, BadDataset, "start and end"),
        ("path,caption,start,end\n00.mp4,a,0,1\n", 9.0, UsageError, "not captions"),
        ("path,label,start,end\n00.mp4,background,0,1\n01.mp4,b,0,1\n", 9.0, UsageError, "already"),
    ],
)
def test_what_has_no_background_is_told(videos, text, length, error, words):
    with pytest.raises(error, match=words):
        with_background(read_dataset(table(videos, text)), 0, lambda _: (0.0, length))


def test_folds_keep_groups_whole_and_classes_alike(videos):
    lines = [f"0{i // 4}.mp4,{'ab'[i % 2]},{i},{i + 1},g{i // 4}" for i in range(24)]
    data = read_dataset(table(videos, "path,label,start,end,group\n" + "\n".join(lines)))
    parts = folds_of(data, 3, 0)
    assert sorted(n for part in parts for n in part) == [r.number for r in data.rows]
    assert [len(part) for part in parts] == [8, 8, 8]
    for part in parts:
        inside = [r for r in data.rows if r.number in part]
        outside = {r.group for r in data.rows if r.number not in part}
        assert not {r.group for r in inside} & outside
        assert [r.text for r in inside].count("a") == 4


def test_a_label_of_one_group_cannot_be_divided(videos):
    data = read_dataset(table(videos, "path,label\n00.mp4,a\n01.mp4,b\n02.mp4,b\n"))
    with pytest.raises(BadDataset, match="'a' has one clip only, or clips that share files or groups"):
        folds_of(data, 2, 0)


def test_no_part_holds_all_of_a_label(videos):
    """Files with several labels, as annotation tools make them."""
    lines = [(0, "ab"), (1, "ab"), (2, "a"), (3, "a"), (4, "a"), (5, "cb"), (6, "c"), (7, "ac")]
    text = "path,label,start,end,group\n"
    text += "".join(
        f"0{i % 3}.mp4,{x},{i}.{n},{i + 1},g{i}\n" for i, labels in lines for n, x in enumerate(labels)
    )
    data = read_dataset(table(videos, text))
    for seed in range(20):
        for part in folds_of(data, 4, seed):
            assert {r.text for r in data.rows if r.number not in part} == {"a", "b", "c"}


def test_clips_of_one_file_stay_together_whatever_their_groups(videos):
    """A match of anna's and ben's, one of ben's and cleo's: all are alike. The others are on their own."""
    rows = "00.mp4,a,0,1,anna\n00.mp4,b,1,2,ben\n01.mp4,a,0,1,ben\n01.mp4,b,1,2,\n01.mp4,a,2,3,cleo\n"
    rows += "02.mp4,a,0,1,\n02.mp4,b,1,2,\n03.mp4,a,0,1,dan\n04.mp4,b,0,1,dan\n"
    data = read_dataset(table(videos, f"path,label,start,end,group\n{rows}"))
    units = units_of(data.rows)
    assert [units.index(name) for name in units] == [0, 0, 0, 0, 0, 5, 5, 7, 7]
    assert units[0] == "anna"
    for seed in range(5):
        held = {
            name
            for row, name in zip(data.rows, units, strict=True)
            if row.number in folds_of(data, 3, seed)[0]
        }
        rest = {
            name
            for row, name in zip(data.rows, units, strict=True)
            if row.number not in folds_of(data, 3, seed)[0]
        }
        assert not held & rest


def test_copies_and_other_names_of_a_file_stay_with_it(videos, tmp_path):
    (tmp_path / "copy.mp4").write_bytes((videos / "00.mp4").read_bytes())
    (tmp_path / "link.mp4").symlink_to(videos / "00.mp4")
    names = [videos / "00.mp4", "00.mp4", tmp_path / "copy.mp4", tmp_path / "link.mp4", "01.mp4"]
    rows = "".join(f"{name},{'ab'[i % 2]},{i},{i + 1}\n" for i, name in enumerate(names))
    units = units_of(read_dataset(table(videos, f"path,label,start,end\n{rows}")).rows)
    assert [units.index(name) for name in units] == [0, 0, 0, 0, 4]


def test_what_has_no_picture_yet_is_no_background(videos):
    rows = ["00.mp4,a,14,15", "01.mp4,a,14,15", "00.mp4,b,19,20", "01.mp4,b,19,20"]
    data = read_dataset(table(videos, "\n".join(["path,label,start,end", *rows])))
    for seed in range(5):
        new = [r for r in with_background(data, seed, lambda _: (10.0, 30.0)).rows if r.text == BACKGROUND]
        assert len(new) == 2
        assert all(row.start >= 10 and row.end <= 30 for row in new)
