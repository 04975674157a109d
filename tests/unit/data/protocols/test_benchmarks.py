"""Benchmarks: annotation files are read as published, and tables of one's own as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import write_video
from stopcli.data.protocols import benchmarks
from stopcli.errors import BadDataset, FileMissing, UsageError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def items(benchmark, split=0):
    return {i.video: i.texts for i in benchmark.splits[split]}


def test_msrvtt(tmp_path):
    file = write(
        tmp_path / "MSRVTT_JSFUSION_test.csv",
        'key,vid_key,video_id,sentence\nret0,msr1,video1,a cat\nret1,msr2,video2,"a dog, wet"\n',
    )
    assert items(benchmarks.load("msrvtt", [file])) == {"video1": ("a cat",), "video2": ("a dog, wet",)}


def test_msvd_has_many_captions_a_video(tmp_path):
    write(tmp_path / "test_list.txt", "abc_1_2\nx-y_3_4\n")
    write(
        tmp_path / "AllVideoDescriptions.txt",
        "# license\nabc_1_2 a cat runs\nabc_1_2 a cat\nother_1_2 no\nx-y_3_4 two\n",
    )
    assert items(benchmarks.load("msvd", [tmp_path])) == {
        "abc_1_2": ("a cat runs", "a cat"),
        "x-y_3_4": ("two",),
    }


def test_paragraphs_of_activitynet_and_didemo(tmp_path):
    val = write(
        tmp_path / "val_1.json",
        json.dumps({"v_a": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["One.", " Two."]}}),
    )
    assert items(benchmarks.load("activitynet", [val])) == {"v_a": ("One. Two.",)}
    published = [{"video": "u_1.avi", "description": "first"}, {"video": "u_1.avi", "description": "second"}]
    test = write(tmp_path / "test_data.json", json.dumps(published))
    assert items(benchmarks.load("didemo", [test])) == {"u_1": ("first second",)}


def test_vatex_takes_the_videos_of_the_list(tmp_path):
    published = [{"videoID": "a_1_2", "enCap": ["x", "y"], "chCap": []}, {"videoID": "b_1_2", "enCap": ["z"]}]
    write(tmp_path / "vatex.json", json.dumps(published))
    write(tmp_path / "test_list.txt", "a_1_2\n")
    assert items(benchmarks.load("vatex", [tmp_path])) == {"a_1_2": ("x", "y")}


def test_hmdb51_takes_the_test_clips_of_three_splits(tmp_path):
    for k in (1, 2, 3):
        write(tmp_path / f"brush_hair_test_split{k}.txt", f"a{k}.avi 2\nb{k}.avi 1\nc{k}.avi 0\n")
        write(tmp_path / f"wave_test_split{k}.txt", f"w{k} odd!.avi 2\n")
    benchmark = benchmarks.load("hmdb51", [tmp_path])
    assert benchmark.labels == ("brush hair", "wave")
    assert [items(benchmark, k) for k in range(3)] == [
        {f"a{k}": ("brush hair",), f"w{k} odd!": ("wave",)} for k in (1, 2, 3)
    ]


def test_ucf101_takes_its_names_apart(tmp_path):
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n")
    write(tmp_path / "testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    write(tmp_path / "testlist02.txt", "YoYo/v_YoYo_g02_c01.avi\n")
    write(tmp_path / "trainlist01.txt", "YoYo/v_YoYo_g09_c01.avi 2\n")
    benchmark = benchmarks.load("ucf101", [tmp_path])
    assert benchmark.labels == ("apply eye makeup", "yo yo")
    assert [items(benchmark, k) for k in range(2)] == [
        {"v_ApplyEyeMakeup_g01_c01": ("apply eye makeup",)}, {"v_YoYo_g02_c01": ("yo yo",)}
    ]  # fmt: skip


def test_ssv2_and_kinetics(tmp_path):
    write(
        tmp_path / "ssv2" / "labels.json",
        json.dumps({"Closing something": "1", "Approaching something": "0"}),
    )
    entries = [
        {
            "id": "78687",
            "label": "closing a door",
            "template": "Closing [something]",
            "placeholders": ["a door"],
        }
    ]
    write(tmp_path / "ssv2" / "validation.json", json.dumps(entries))
    benchmark = benchmarks.load("ssv2", [tmp_path / "ssv2"])
    assert benchmark.labels == ("Approaching something", "Closing something")
    assert items(benchmark) == {"78687": ("Closing something",)}
    learnt = [entries[0] | {"id": "1"}]  # it comes first by its name
    write(tmp_path / "ssv2" / "train.json", json.dumps(learnt))
    write(tmp_path / "ssv2" / "test.json", json.dumps([{"id": "2"}]))
    assert benchmarks.load("ssv2", [tmp_path / "ssv2"]) == benchmark
    (tmp_path / "ssv2" / "validation.json").unlink()
    with pytest.raises(BadDataset, match=r"which one is for validation: test\.json, train\.json\?"):
        benchmarks.load("ssv2", [tmp_path / "ssv2"])
    val = write(
        tmp_path / "val.csv", "label,youtube_id,time_start,time_end,split\narchery,-ab_c,5,15,validate\n"
    )
    benchmark = benchmarks.load("kinetics400", [val])
    assert items(benchmark) == {"-ab_c_000005_000015": ("archery",)}
    assert len(benchmark.labels) == 400
    listed = write(tmp_path / "lists" / "val.txt", "abc.mp4 1\ndef.mp4 0\n")
    names = write(tmp_path / "lists" / "labels.csv", "id,name\n0,archery\n1,yoga\n")
    benchmark = benchmarks.load("kinetics400", [listed, names])
    assert items(benchmark) == {"abc": ("yoga",), "def": ("archery",)}
    for hidden in (".DS_Store", "._val.txt", ".cache/val.txt"):
        write(tmp_path / "lists" / hidden, "\0")
    assert benchmarks.load("kinetics400", [tmp_path / "lists"]) == benchmark


def test_bad_names_and_files_are_told(tmp_path):
    with pytest.raises(UsageError, match="did you mean msrvtt"):
        benchmarks.load("msrvt", [])
    with pytest.raises(FileMissing, match=r"MSRVTT_JSFUSION_test\.csv"):
        benchmarks.load("msrvtt", [])
    with pytest.raises(BadDataset, match="not as MSR-VTT"):
        benchmarks.load("msrvtt", [write(tmp_path / "a.csv", "a,b\n1,2\n")])
    with pytest.raises(BadDataset, match="none of the 400 classes"):
        benchmarks.load(
            "kinetics400",
            [write(tmp_path / "k" / "v.csv", "label,youtube_id,time_start,time_end\nflying,a,1,2\n").parent],
        )


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("activitynet", "val_1.json", "[1, 2]"),
        ("activitynet", "val_1.json", "[" * 100_000),
        ("didemo", "test_data.json", '[{"video": "a.avi", "description": null}]'),
        ("msrvtt", "MSRVTT_JSFUSION_test.csv", "video_id,sentence\nvideo1,a dog\nvideo2\n"),
        ("msrvtt", "MSRVTT_JSFUSION_test.csv", f"video_id,sentence\nvideo1,{'x' * 200_000}\n"),
    ],
)
def test_published_files_that_are_damaged_are_one_sentence(tmp_path, name, file, text):
    with pytest.raises(BadDataset, match=f"{file}: not as"):
        benchmarks.load(name, [write(tmp_path / file, text)])


def test_the_published_files_are_read(media):
    labels = media.parent / "labels"
    for name, files, count, classes in (
        ("msrvtt", ["MSRVTT_JSFUSION_test.csv"], 1000, 0),
        ("ucf101", ["ucf101_classInd.txt", "ucf101_testlist01.txt"], 3783, 101),
        ("hmdb51", ["hmdb51_label_map.txt", "vificlip_hmdb51_val1.txt"], 1530, 51),
        ("ssv2", ["sthv2_label_map.txt", "vificlip_ssv2_validation.txt"], 24777, 174),
    ):
        benchmark = benchmarks.load(name, [labels / f for f in files])
        assert (len(benchmark.splits[0]), len(benchmark.labels)) == (count, classes), name


def own(folder, text):
    for i in range(4):
        if not (folder / f"{i}.mp4").exists():
            write_video(folder / f"{i}.mp4", frames=4, fps=4)
    return str(write(folder / "own.csv", text))


def test_a_plain_test_table_needs_no_training_rows(tmp_path):
    text = "path,label,split\n0.mp4,a,test\n1.mp4,b,test\n2.mp4,c,test\n"
    benchmark = benchmarks.load(own(tmp_path, text), [])
    assert benchmark.labels == ("a", "b", "c")
    assert benchmark.protocol == "own.csv: test rows"
    assert len(benchmark.clips) == 3
    benchmark = benchmarks.load(own(tmp_path, "path,label\n0.mp4,a\n1.mp4,b\n"), [])  # one clip a class
    assert items(benchmark) == {"0": ("a",), "1": ("b",)}
    captions = "path,caption,start,end\n0.mp4,x,,\n0.mp4,y,,\n0.mp4,z,0.2,0.5\n"
    benchmark = benchmarks.load(own(tmp_path, captions), [])
    assert [item.texts for item in benchmark.splits[0]] == [("x", "y"), ("z",)]


def test_faults_of_a_table_are_told_without_the_advice_of_training(tmp_path):
    with pytest.raises(BadDataset, match="1 problem, nothing was scored; fix these rows") as error:
        benchmarks.load(own(tmp_path, "path,label\n0.mp4,a\nnowhere.mp4,b\n"), [])
    assert "row 3: no file nowhere.mp4" in str(error.value)
    assert "--skip-bad" not in str(error.value)
    with pytest.raises(BadDataset, match="two or more labels are needed"):
        benchmarks.load(own(tmp_path, "path,label\n0.mp4,a\n1.mp4,a\n"), [])


LABELS = "id,name\n0,brush hair\n1,cartwheel\n"


def test_of_the_lists_of_research_code_those_for_scoring_are_scored(tmp_path):
    write(tmp_path / "hmdb_51_labels.csv", LABELS)
    for name, line in (("train1", "a.avi 0"), ("train1_few_shot_2", "b.avi 1"), ("val1", "c.avi 1")):
        write(tmp_path / f"{name}.txt", f"{line}\n")
    benchmark = benchmarks.load("hmdb51", [tmp_path])
    assert [items(benchmark, i) for i in range(len(benchmark.splits))] == [{"c": ("cartwheel",)}]
    write(tmp_path / "val2.txt", "a.avi 0\n")
    assert len(benchmarks.load("hmdb51", [tmp_path]).splits) == 2
    (tmp_path / "val2.txt").unlink()
    (tmp_path / "val1.txt").rename(tmp_path / "mine.txt")  # by another name, it is no list for training
    assert items(benchmarks.load("hmdb51", [tmp_path])) == {"c": ("cartwheel",)}
    (tmp_path / "mine.txt").unlink()
    with pytest.raises(BadDataset, match="nothing to score"):
        benchmarks.load("hmdb51", [tmp_path])
