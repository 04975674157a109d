"""Tables of labelled videos: every fault with its row, splits that do not leak, frames decoded once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import write_video
from stopcli.data.split import few_shots, with_validation
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, FileMissing
from stopcli.video.cache import AROUND, FrameCache
from stopcli.video.clips import read_frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(12):
        write_video(folder / f"{i:02d}.mp4", frames=12, fps=6)
    (folder / "broken.mp4").write_bytes(b"no video" * 50)
    return folder


def table(folder, text, name="data.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


TEN_FAULTS = """path,label,split,start,end,colour
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


def test_ten_faults_give_ten_lines_and_nothing_is_trained(videos, toy, run):
    data = table(videos, TEN_FAULTS)
    status, out, err = run("finetune", data, "--model", toy, "-o", videos / "never")
    assert (status, out) == (3, "")
    lines = [line.strip() for line in err.splitlines() if line.startswith("  ")]
    assert len(lines) == 11  # the unknown column is one more
    for row, words in {
        1: "unknown column 'colour'", 6: "no file nowhere.mp4", 7: "broken.mp4", 8: "label is empty",
        9: "stands in row 2 already", 10: "path is empty", 11: "in val but not in train",
        12: "one clip only", 13: "train, val or test", 14: "before it starts", 15: "seconds",
    }.items():  # fmt: skip
        assert any(line.startswith(f"row {row}: ") and words in line for line in lines), (row, lines)
    assert "11 problems, nothing was trained" in err
    assert not (videos / "never").exists()


def test_skip_bad_goes_on_without_them(videos, toy, run):
    data = table(videos, TEN_FAULTS)
    status, _, err = run(
        "finetune",
        data,
        "--model",
        toy,
        "-o",
        videos / "some",
        "--skip-bad",
        "--epochs",
        1,
        "--device",
        "cpu",
    )
    assert status == 0, err
    assert err.count("left out: row") == 11
    told = json.loads((videos / "some" / "config.json").read_text())
    assert told["labels"] == ["jump", "run"]
    assert told["training"]["data"]["rows left out"] == 11


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("file,label\n00.mp4,a\n", "needs a column 'path'"),
        ("path,label,caption\n00.mp4,a,b\n", "both"),
        ("path,label\n00.mp4,a\n01.mp4,a\n", "two or more labels"),
        ("path,label\n", "needs a column"),
    ],
)
def test_a_table_that_is_none_is_refused(videos, text, words):
    with pytest.raises(BadDataset, match=words):
        read_dataset(table(videos, text)).check(skip_bad=True)


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


def test_shots_are_drawn_of_each_class(videos):
    data = few_shots(with_validation(rows(videos, 12), 0), 2, 0)
    assert sorted(r.text for r in data.of("train")) == ["a", "a", "b", "b"]
    assert len(data.of("val")) == 2


def test_cached_frames_are_those_that_commands_see(videos, tmp_path):
    cache = FrameCache(tmp_path / "frames")
    first = cache.read(videos / "00.mp4", 4, 32)
    again = cache.read(videos / "00.mp4", 4, 32)
    assert cache.decoded == 1
    assert np.array_equal(first, again)
    assert np.array_equal(first[1::AROUND], read_frames(videos / "00.mp4", 4, 32).pixels)


def test_another_run_and_a_moved_file_find_the_frames(videos, tmp_path):
    FrameCache(tmp_path / "frames").read(videos / "00.mp4", 4, 32)
    moved = tmp_path / "moved.mp4"
    moved.write_bytes((videos / "00.mp4").read_bytes())
    other = FrameCache(tmp_path / "frames")
    other.read(moved, 4, 32)
    assert other.decoded == 0


def test_the_cache_is_bounded_and_evicts_what_others_left(videos, tmp_path):
    one = AROUND * 4 * 32 * 32 * 3
    draws = [write_video(tmp_path / f"{i}.mp4", frames=8 + i, fps=6) for i in range(5)]
    before = FrameCache(tmp_path / "frames", limit=int(2.5 * one))
    for path in draws[:2]:
        before.read(path, 4, 32)
    cache = FrameCache(tmp_path / "frames", limit=int(2.9 * one))
    for path in draws[2:]:
        cache.read(path, 4, 32)
    assert len(list((tmp_path / "frames").glob("*.npy"))) == 2
    for path in draws[2:]:  # the two that fitted stay; the third is decoded anew
        cache.read(path, 4, 32)
    assert cache.decoded == 4


def test_a_cut_file_in_the_cache_is_decoded_again(videos, tmp_path):
    cache = FrameCache(tmp_path / "frames")
    whole = np.array(cache.read(videos / "00.mp4", 4, 32))
    (file,) = (tmp_path / "frames").glob("*.npy")
    file.write_bytes(file.read_bytes()[:500])
    assert np.array_equal(cache.read(videos / "00.mp4", 4, 32), whole)
