"""What a table must be to be trained on: every fault with its row, the cheap ones first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from labelled_clips import Recorder, table, train
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset
from stopcli.train.dataset import check_table
from stopcli.train.finetune import finetune

FAULTS = """path,label,split,start,end,colour
00.mp4,run,train,,,
01.mp4,run,val,,,
02.mp4,jump,train,,,
03.mp4,jump,val,,,
nowhere.mp4,run,train,,,
broken.mp4,run,train,,,
04.mp4,,train,,,
00.mp4,run,train,,,
,run,train,,,
05.mp4,swim,val,,,
06.mp4,fly,train,,,
07.mp4,jump,later,,,
08.mp4,jump,train,5,2,
09.mp4,jump,train,soon,,
10.mp4,jump,train,,,
"""


def no_model():
    raise AssertionError("a model was asked for")


def lines_of(error):
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_all_faults_of_a_table_are_told_before_a_model_is_resolved_or_a_clip_decoded(videos):
    told = Recorder()
    with pytest.raises(BadDataset, match=r"8 problems, nothing was trained; .* --skip-bad") as error:
        finetune(no_model, table(videos, FAULTS), videos / "never", told)
    lines = lines_of(error)
    expected = {
        6: "no file nowhere.mp4",
        9: "is in row 2 already",
        10: "path is empty",
        11: "in val but not in train",
        12: "one clip only",
        13: "train, val or test",
        14: "before it starts",
        15: "seconds",
    }
    for line, (row, words) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"row {row}: ")
        assert words in line
    assert told.clips == 0
    assert not (videos / "never").exists()


def test_a_clip_that_ends_long_after_its_file_is_told(videos, toy):
    rows = [f"{i:02d}.mp4,{'run' if i % 2 else 'fly'},0,{60 if i == 3 else 1.5}" for i in range(8)]
    data = table(videos, "\n".join(["path,label,start,end", *rows]))
    with pytest.raises(BadDataset, match=r"row 5: .*03\.mp4: it ends at .* s, but 60\.00 s was wanted"):
        train(data, toy, videos / "never")


def test_other_columns_are_left_alone_and_misspelt_ones_are_told(videos):
    data = read_dataset(table(videos, "path,label,colour,observer\n00.mp4,run,red,Ann\n"))
    assert data.problems == ()
    assert data.notes == ("the column 'colour' is not read", "the column 'observer' is not read")
    data = read_dataset(table(videos, "path,label,strat\n00.mp4,run,0.5\n"))
    assert "did you mean 'start'?" in data.problems[0].message
    data = read_dataset(table(videos, "path,label,begin at,Ende\n00.mp4,run,0.5,1\n"))
    assert "did you mean 'start'?" in data.problems[0].message
    data = read_dataset(table(videos, "path,label,start (s),end_sec\n00.mp4,run,0.5,1\n"))
    assert (data.rows[0].start, data.rows[0].end) == (0.5, 1)
    with pytest.raises(BadDataset, match="2 columns without a name"):
        read_dataset(table(videos, ",path,label,,note\n0,00.mp4,run,1,x\n"))
    with pytest.raises(BadDataset, match="has no rows"):
        read_dataset(table(videos, "path,label\n"))


def test_videos_that_cannot_be_read_are_told_next(videos, toy):
    data = table(videos, "path,label\n00.mp4,run\n01.mp4,run\n02.mp4,fly\nbroken.mp4,fly\n")
    told = Recorder()
    with pytest.raises(BadDataset, match="2 problems, nothing was trained") as error:
        train(data, toy, videos / "never", told)
    first, second = lines_of(error)
    assert first == "row 4: class 'fly' has one clip only; two are the least"
    assert second.startswith("row 5: ")
    assert "broken.mp4" in second
    assert told.clips == len(told.decoded_clips) == 4
    assert not (videos / "never").exists()


def test_skip_bad_goes_on_without_them(videos, toy):
    data = table(videos, FAULTS)
    _, told = train(data, toy, videos / "some", more={"skip_bad": True}, epochs=2)
    assert len(told.problems) == 9
    assert "1 row has no label yet, and is left out" in told.notes
    assert told.problems[-1].startswith("row 7: ")
    config = json.loads((videos / "some" / "config.json").read_text())
    assert config["labels"] == ["jump", "run"]
    assert config["training"]["data"]["rows skipped"] == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n00.mp4,a\n01.mp4,a\n", "two or more labels are needed, found 'a' only"),
        ("path,label\n00.mp4,a\n01.mp4,b\n", "no usable row is for training"),
        ("path,caption,split\n00.mp4,a,test\n", "no usable row is for training"),
        ("path,caption\n00.mp4,a\n01.mp4,b\n", "beside those for validation, 1 is there"),
        ("path,caption,split\n00.mp4,a,train\n01.mp4,b,val\n", "beside those for validation, 1 is there"),
    ],
)
def test_too_little_to_train_on_is_refused(videos, text, words):
    with pytest.raises(BadDataset, match=words):
        check_table(read_dataset(table(videos, text)), Recorder(), skip_bad=True)


def test_a_faulty_table_is_told_without_loading_torch(videos):
    data = table(videos, "path,label\nnowhere.mp4,a\n", "faulty.csv")
    code = f"""
import sys
from pathlib import Path
from stopcli.errors import BadDataset
from stopcli.train.finetune import finetune
try:
    finetune(None, Path({str(data)!r}), Path("never"), None)
except BadDataset as error:
    print("no file nowhere.mp4" in str(error), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
