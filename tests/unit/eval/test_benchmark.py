"""Protocols read annotation files as published; scores agree with what was worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from conftest import write_model, write_video
from stopcli.data import benchmarks as protocols
from stopcli.errors import BadDataset, FileMissing, UsageError
from stopcli.model.config import StopConfig

CPU = ("--device", "cpu", "--precision", "fp32")


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
    assert items(protocols.load("msrvtt", [file])) == {"video1": ("a cat",), "video2": ("a dog, wet",)}


def test_msvd_has_many_captions_a_video(tmp_path):
    write(tmp_path / "test_list.txt", "abc_1_2\nx-y_3_4\n")
    write(
        tmp_path / "AllVideoDescriptions.txt",
        "# license\nabc_1_2 a cat runs\nabc_1_2 a cat\nother_1_2 no\nx-y_3_4 two\n",
    )
    assert items(protocols.load("msvd", [tmp_path])) == {
        "abc_1_2": ("a cat runs", "a cat"),
        "x-y_3_4": ("two",),
    }


def test_paragraphs_of_activitynet_and_didemo(tmp_path):
    val = write(
        tmp_path / "val_1.json",
        json.dumps({"v_a": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["One.", " Two."]}}),
    )
    assert items(protocols.load("activitynet", [val])) == {"v_a": ("One. Two.",)}
    told = [{"video": "u_1.avi", "description": "first"}, {"video": "u_1.avi", "description": "second"}]
    test = write(tmp_path / "test_data.json", json.dumps(told))
    assert items(protocols.load("didemo", [test])) == {"u_1": ("first second",)}


def test_vatex_takes_the_videos_of_the_list(tmp_path):
    told = [{"videoID": "a_1_2", "enCap": ["x", "y"], "chCap": []}, {"videoID": "b_1_2", "enCap": ["z"]}]
    write(tmp_path / "vatex.json", json.dumps(told))
    write(tmp_path / "test_list.txt", "a_1_2\n")
    assert items(protocols.load("vatex", [tmp_path])) == {"a_1_2": ("x", "y")}


def test_hmdb51_takes_the_test_clips_of_three_splits(tmp_path):
    for k in (1, 2, 3):
        write(tmp_path / f"brush_hair_test_split{k}.txt", f"a{k}.avi 2\nb{k}.avi 1\nc{k}.avi 0\n")
        write(tmp_path / f"wave_test_split{k}.txt", f"w{k} odd!.avi 2\n")
    told = protocols.load("hmdb51", [tmp_path])
    assert told.labels == ("brush hair", "wave")
    assert [items(told, k) for k in range(3)] == [
        {f"a{k}": ("brush hair",), f"w{k} odd!": ("wave",)} for k in (1, 2, 3)
    ]


def test_ucf101_takes_its_names_apart(tmp_path):
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n")
    write(tmp_path / "testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    write(tmp_path / "testlist02.txt", "YoYo/v_YoYo_g02_c01.avi\n")
    write(tmp_path / "trainlist01.txt", "YoYo/v_YoYo_g09_c01.avi 2\n")
    told = protocols.load("ucf101", [tmp_path])
    assert told.labels == ("apply eye makeup", "yo yo")
    assert [items(told, k) for k in range(2)] == [
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
    told = protocols.load("ssv2", [tmp_path / "ssv2"])
    assert told.labels == ("Approaching something", "Closing something")
    assert items(told) == {"78687": ("Closing something",)}
    val = write(
        tmp_path / "val.csv", "label,youtube_id,time_start,time_end,split\narchery,-ab_c,5,15,validate\n"
    )
    told = protocols.load("kinetics400", [val])
    assert items(told) == {"-ab_c_000005_000015": ("archery",)}
    assert len(told.labels) == 400


def test_bad_names_and_files_are_told(tmp_path):
    with pytest.raises(UsageError, match="did you mean msrvtt"):
        protocols.load("msrvt", [])
    with pytest.raises(FileMissing, match=r"MSRVTT_JSFUSION_test\.csv"):
        protocols.load("msrvtt", [])
    with pytest.raises(BadDataset, match="not as MSR-VTT"):
        protocols.load("msrvtt", [write(tmp_path / "a.csv", "a,b\n1,2\n")])
    with pytest.raises(BadDataset, match="none of the 400 classes"):
        protocols.load(
            "kinetics400",
            [write(tmp_path / "k" / "v.csv", "label,youtube_id,time_start,time_end\nflying,a,1,2\n").parent],
        )


@pytest.mark.real
def test_the_published_files_are_read(media):
    labels = media.parent / "labels"
    for name, files, count, classes in (
        ("msrvtt", ["MSRVTT_JSFUSION_test.csv"], 1000, 0),
        ("ucf101", ["ucf101_classInd.txt", "ucf101_testlist01.txt"], 3783, 101),
        ("hmdb51", ["hmdb51_label_map.txt", "vificlip_hmdb51_val1.txt"], 1530, 51),
        ("ssv2", ["sthv2_label_map.txt", "vificlip_ssv2_validation.txt"], 24777, 174),
    ):
        told = protocols.load(name, [labels / f for f in files])
        assert (len(told.splits[0]), len(told.labels)) == (count, classes), name


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    small = {"regions": 4, "eta": 2, "hidden": 16}
    return {
        "stop": write_model(folder / "stop", stop=StopConfig(**small)),
        "spatial": write_model(folder / "spatial", stop=StopConfig(temporal="off", **small)),
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench-videos")
    write_video(folder / "video0.mp4", frames=8, fps=4)
    (folder / "deep").mkdir()
    for i in range(1, 6):
        write_video(folder / "deep" / f"video{i}.mp4", frames=8 + i, fps=4)
    (folder / "deep" / "video6.mp4").write_bytes(b"broken" * 99)
    return folder


def test_methods_stand_side_by_side_and_missing_videos_are_named(models, videos, tmp_path, run_json, run):
    rows = "".join(f"ret{i},msr{i},video{i},clip number {i}\n" for i in range(9))
    file = write(tmp_path / "test.csv", "key,vid_key,video_id,sentence\n" + rows)
    base = ("accuracy", "--dataset", "msrvtt", "--annotations", file, "--videos", videos, *CPU)
    more = ("--model", models["stop"], "--model", models["spatial"], "-o", tmp_path / "out")
    status, out, err = run("benchmark", *base, *more, "--format", "json")
    assert status == 1  # one video is broken
    assert "missing: 2 videos, such as video7, video8" in err
    told = json.loads(out)
    assert told["errors"][0]["error"] == "unreadable-video"
    scores = told["data"]
    assert [s["method"] for s in scores[::2]] == ["plain CLIP", "STOP", "spatial only"]
    assert {s["direction"] for s in scores} == {"text-to-video", "video-to-text"}
    for s in scores:
        assert (s["clips"], s["missing"]) == (6, 3)
        low, high = s["interval"]["R@1"]
        assert low <= s["scores"]["R@1"] <= high
        assert s["scores"]["R@10"] == 100.0
        assert s["provenance"]["weights"]
        assert s["provenance"]["precision"] == "fp32"
    assert scores[0]["scores"] != scores[2]["scores"] or scores[2]["scores"] != scores[4]["scores"]
    assert len({s["provenance"]["weights"] for s in scores}) == 3
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"results.json", "results.csv", "results.md"}
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| STOP |" in text
    assert "6 clips, 3 missing" in text
    status, _, err = run("benchmark", *base, *more)
    assert status == 3
    assert "--force" in err


def test_own_table_by_class(models, videos, tmp_path, run):
    lines = ["path,label,split"]
    lines += [
        f"{videos / 'deep' / f'video{i}.mp4'},{'ab'[i % 2]} thing,{'test' if i > 2 else 'train'}"
        for i in range(1, 6)
    ]
    file = write(tmp_path / "own.csv", "\n".join(lines))
    status, out, err = run(
        "benchmark",
        "accuracy",
        "--dataset",
        file,
        "--model",
        models["stop"],
        "-o",
        tmp_path / "out",
        "--format",
        "csv",
        *CPU,
    )
    assert status == 0, err
    rows = list(csv.DictReader(out.splitlines()))
    assert [(r["method"], r["clips"]) for r in rows] == [("plain CLIP", "3"), ("STOP", "3")]
    classes = list(csv.DictReader((tmp_path / "out" / "by-class.csv").open()))
    assert {(r["method"], r["label"], r["clips"]) for r in classes} == {
        (m, label, n) for m in ("plain CLIP", "STOP") for label, n in (("a thing", "1"), ("b thing", "2"))
    }
    for row in rows:  # the table by class adds up to the score
        right = sum(float(c["top-1"]) * int(c["clips"]) for c in classes if c["method"] == row["method"])
        assert right / 3 == pytest.approx(float(row["top-1"]), abs=0.01)
    assert (tmp_path / "out" / "confusion-plain-clip.png").exists()


def test_published_rows_stand_only_beside_their_backbone():
    from stopcli.eval.accuracy import _published

    class Files:
        class config:
            architecture = "ViT-B-32-quickgelu"

    class Method:
        files = Files

    asked = protocols.Benchmark("msrvtt", "1k-A", "retrieval", ((),))
    rows = _published(asked, [Method])
    assert all(r.published and "published" in r.method for r in rows)
    assert {r.scores["R@1"] for r in rows if "STOP" in r.method} == {47.7, 46.1}
    assert _published(protocols.Benchmark("msvd", "", "retrieval", ((),)), [Method]) == []


def test_speed_measures_every_stage(toy, videos, run_json):
    status, told = run_json(
        "benchmark",
        "speed",
        "--model",
        toy,
        "--batch-sizes",
        "1,2",
        "--precisions",
        "fp32",
        videos / "deep" / "video1.mp4",
    )
    assert status == 0 or told["errors"]
    stages = [(d["stage"], d["model"], d["batch_size"]) for d in told["data"]]
    assert stages[:6] == [
        ("decode", "", 1), ("matrix product", "", 1), ("encode", "plain CLIP", 1), ("encode", "STOP", 1),
        ("encode", "plain CLIP", 2), ("encode", "STOP", 2),
    ]  # fmt: skip
    assert stages[-2][0] == "end to end"
    assert stages[-1][0].startswith(("bound by", "balanced"))
    assert all(d["per_second"] > 0 for d in told["data"])
    assert all(d["over_plain"] > 0 for d in told["data"] if d["model"] == "STOP")
