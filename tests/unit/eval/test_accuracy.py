"""Methods stand side by side on the same clips, and what was missing is named."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import write_model, write_video
from stopcli.data.protocols import benchmarks
from stopcli.data.seen import write_seen
from stopcli.errors import FileExists, InputError
from stopcli.eval.accuracy import accuracy, published
from stopcli.eval.report import check_folder, write_report
from stopcli.hub.registry import resolve
from stopcli.model.config import HEAD_FILE, StopConfig
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.head import Head
from stopcli.tasks.classify import classify


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small = {"regions": 0.25, "eta": 2, "hidden": 16}
    stop = write_model(folder / "stop", stop=StopConfig(**small))
    spatial = write_model(folder / "spatial", stop=StopConfig(temporal="off", **small))
    return [Encoder(resolve(str(m)), EncoderOptions("cpu", "fp32")) for m in (stop, spatial)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "video0.mp4", frames=8, fps=4)
    (folder / "deep").mkdir()
    for i in range(1, 6):
        write_video(folder / "deep" / f"video{i}.mp4", frames=8 + i, fps=4)
    (folder / "deep" / "video6.mp4").write_bytes(b"broken" * 99)
    return folder


def own(videos, tmp_path):
    lines = ["path,label,split"]
    for i in range(1, 6):
        split = "test" if i > 2 else "train"
        lines.append(f"{videos / 'deep' / f'video{i}.mp4'},{'ab'[i % 2]} thing,{split}")
    (tmp_path / "own.csv").write_text("\n".join(lines))
    return benchmarks.load(str(tmp_path / "own.csv"), [])


def test_methods_stand_side_by_side_and_missing_videos_are_named(encoders, videos, tmp_path):
    rows = "".join(f"ret{i},msr{i},video{i},clip number {i}\n" for i in range(9))
    (tmp_path / "test.csv").write_text("key,vid_key,video_id,sentence\n" + rows)
    benchmark, missing = benchmarks.locate(benchmarks.load("msrvtt", [tmp_path / "test.csv"]), videos)
    assert missing == ("video7", "video8")
    seen = []
    report = accuracy(encoders, benchmark, missing=missing, progress=seen.append, command="stop benchmark")
    assert sorted(seen) == sorted(str(path) for path, _, _ in benchmark.clips)
    assert [f.error for f in report.failures] == ["unreadable-video"]
    scores = report.scores
    assert [s.method for s in scores[::2]] == ["plain CLIP", "STOP", "spatial only"]
    assert {s.direction for s in scores} == {"text-to-video", "video-to-text"}
    for s in scores:
        assert (s.clips, s.missing) == (6, 3)
        low, high = s.interval["R@1"]
        assert low <= s.scores["R@1"] <= high
        assert s.scores["R@10"] == 100.0
        assert s.provenance["weights"]
        assert s.provenance["precision"] == "fp32"
        assert s.provenance["command"] == "stop benchmark"
    assert scores[0].scores != scores[2].scores or scores[2].scores != scores[4].scores
    assert len({s.provenance["weights"] for s in scores}) == 3
    check_folder(tmp_path / "out", force=False)
    written = write_report(tmp_path / "out", report)
    assert {p.name for p in written} == {"results.json", "results.csv", "results.md"}
    assert set(written) == set((tmp_path / "out").iterdir())
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| STOP |" in text
    assert "6 clips, 3 missing" in text
    for score in scores[::2]:  # whose weights are whose
        (line,) = (line for line in text.splitlines() if line.startswith(f"- {score.method}: "))
        assert f"weights {score.provenance['weights']}" in line
    assert text.count("protocol ") == 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["missing"] == ["video7", "video8"]
    with pytest.raises(FileExists, match="--force"):
        check_folder(tmp_path / "out", force=False)
    check_folder(tmp_path / "out", force=True)


def test_own_table_by_class(encoders, videos, tmp_path):
    report = accuracy(encoders[:1], own(videos, tmp_path))
    write_report(tmp_path / "out", report)
    methods = ["plain CLIP", "plain CLIP, nearest class mean", "plain CLIP, linear probe", "STOP"]
    assert [(s.method, s.clips) for s in report.scores] == [(method, 3) for method in methods]
    classes = list(csv.DictReader((tmp_path / "out" / "by-class.csv").read_text().splitlines()))
    assert {(r["method"], r["label"], r["clips"]) for r in classes} == {
        (m, label, n) for m in methods for label, n in (("a thing", "1"), ("b thing", "2"))
    }
    for s in report.scores:  # the table by class adds up to the score
        right = sum(float(c["top-1"]) * int(c["clips"]) for c in classes if c["method"] == s.method)
        assert right / 3 == pytest.approx(s.scores["top-1"], abs=0.01)
    assert (tmp_path / "out" / "confusion-plain-clip.png").exists()
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert [r["method"] for r in rows] == methods


def test_models_whose_names_read_alike_have_pictures_of_their_own(encoders, videos, tmp_path):
    report = accuracy(encoders[:1], own(videos, tmp_path))
    (known,) = (value for method, value in report.predictions.items() if method == "STOP")
    names = ("runs/模型甲", "runs/模型乙", "a_1", "a-1")
    report = replace(report, predictions=dict.fromkeys(names, known))
    pictures = [p for p in write_report(tmp_path / "out", report) if p.suffix == ".png"]
    assert len({p for p in pictures if p.exists()}) == 4


def test_a_benchmark_predicts_what_classify_answers(encoders, videos, tmp_path):
    benchmark = own(videos, tmp_path)
    report = accuracy(encoders, benchmark, template="there is {}")
    paths = [path for path, _, _ in benchmark.clips]
    for encoder, method in zip(encoders, ("STOP", "spatial only"), strict=True):
        answers = classify(encoder, paths, labels=benchmark.labels, template="there is {}")
        predicted = [benchmark.labels[i] for i in report.predictions[method][1]]
        assert predicted == [a.scores[0].label for a in answers]
    assert {s.provenance["template"] for s in report.scores} == {"there is {}"}


def test_the_score_of_several_splits_is_their_mean(encoders, videos, tmp_path):
    benchmark = own(videos, tmp_path)
    (items,) = benchmark.splits
    parts = benchmarks.Benchmark(
        "own", "two splits", "classification", (items[:1], items[1:]), benchmark.labels
    )
    for s in accuracy(encoders[:1], parts).scores:
        assert len(s.provenance["splits"]) == 2
        assert s.scores["top-1"] == pytest.approx(sum(s.provenance["splits"]) / 2)


def test_clips_that_a_model_was_trained_on_are_not_scored(videos, tmp_path):
    trained = write_model(tmp_path / "trained", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    rows = [(videos / "deep" / f"video{i}.mp4", f"{'ab'[i % 2]} thing") for i in range(1, 6)]
    copy = tmp_path / "under-another-name.mp4"
    copy.write_bytes(rows[0][0].read_bytes())
    rows.append((copy, "b thing"))
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(f"{p},{label}\n" for p, label in rows))
    benchmark = benchmarks.load(str(tmp_path / "all.csv"), [])
    write_seen(trained, [(path, None, None) for path, _ in rows[:3]])
    encoder = Encoder(resolve(str(trained)), EncoderOptions("cpu", "fp32"))
    report = accuracy([encoder], benchmark)
    assert report.left_out == 4
    assert {path for path, _, _ in report.benchmark.clips} == {path for path, _ in rows[3:5]}
    assert [s.method for s in report.scores] == [
        "plain CLIP",
        "plain CLIP, nearest class mean",
        "plain CLIP, linear probe",
        "STOP",
    ]
    assert {s.clips for s in report.scores} == {2}
    assert "without 4 clips that a model was trained on" in report.scores[0].provenance["protocol"]
    write_seen(trained, [(path, None, None) for path, _ in rows])
    with pytest.raises(
        InputError, match=r"all of its 6 clips were used to train .*; score other clips, or mark some rows"
    ):
        accuracy([encoder], benchmark)


def test_a_benchmark_of_nothing_readable_is_refused(encoders, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"broken")
    (tmp_path / "own.csv").write_text("path,label\na.mp4,a\nb.mp4,b\n")
    with pytest.raises(InputError, match="none of its 2 videos can be read"):
        accuracy(encoders[:1], benchmarks.load(str(tmp_path / "own.csv"), []))


def test_published_rows_stand_only_beside_their_backbone():
    config = SimpleNamespace(architecture="ViT-B-32-quickgelu")
    method = SimpleNamespace(files=SimpleNamespace(config=config))
    rows = published(benchmarks.Benchmark("msrvtt", "1k-A", "retrieval", ((),)), [method])
    assert all(r.published and "published" in r.method for r in rows)
    assert {r.scores["R@1"] for r in rows if "STOP" in r.method} == {47.7, 46.1}
    assert published(benchmarks.Benchmark("msvd", "", "retrieval", ((),)), [method]) == []


def test_raw_pixels_tell_that_a_set_is_easy(encoders, tmp_path):
    """Two labels that differ in their light alone; with the light swapped in the test, pixels are all wrong."""
    lines = ["path,label,split"]
    for i in range(8):
        bright = i % 2 == 0
        write_video(
            tmp_path / f"{i}.mp4",
            frames=8,
            draw=lambda j, w, h, b=bright: np.full((h, w, 3), (200 if b else 40) + j, np.uint8),
        )
        lines.append(f"{i}.mp4,{'day' if bright else 'night'},{'train' if i < 4 else 'test'}")
    (tmp_path / "light.csv").write_text("\n".join(lines))
    swapped = [line.replace("day,test", "x").replace("night,test", "day,test") for line in lines]
    swapped = [line.replace("x", "night,test") for line in swapped]
    (tmp_path / "swapped.csv").write_text("\n".join(swapped))
    for name, right in (("light", 100.0), ("swapped", 0.0)):
        benchmark, _ = benchmarks.locate(benchmarks.load(str(tmp_path / f"{name}.csv"), []), None)
        scores = {s.method: s for s in accuracy(encoders[:1], benchmark, raw_pixels=True).scores}
        raw = scores["raw pixels, nearest class mean"]
        assert raw.scores["top-1"] == right
        assert "weights" not in raw.provenance
    assert not any("raw" in s.method for s in accuracy(encoders[:1], benchmark).scores)


def test_a_head_counts_where_it_knows_the_labels_in_capitals_or_not(videos, tmp_path):
    folder = write_model(tmp_path / "model", labels=["A thing", "B thing"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"head": {"share": 0.5, "ridge": 1.0}}))
    Head(("A thing", "B thing"), np.eye(2, 32, dtype=np.float32), np.zeros(2, np.float32)).save(
        folder / HEAD_FILE
    )
    encoder = Encoder(resolve(str(folder)), EncoderOptions("cpu", "fp32"))
    benchmark = own(videos, tmp_path)
    report = accuracy([encoder], benchmark)
    assert "plain CLIP, head" in [s.method for s in report.scores]
    assert not report.notes
    report = accuracy([encoder], replace(benchmark, labels=(*benchmark.labels, "c thing")))
    assert len({s.method for s in report.scores}) == len(report.scores)
    assert not any(", head" in s.method or "head" in s.provenance for s in report.scores)
    assert report.notes == [
        f"{folder} is scored by words, not by what it learned: 'c thing' is none of its labels"
    ]


def test_plain_clip_stands_beside_a_model_with_focus(videos, tmp_path):
    folder = write_model(tmp_path / "model")
    encoder = Encoder(replace(resolve(str(folder)), focus=3.0), EncoderOptions("cpu", "fp32"))
    methods = [s.method for s in accuracy([encoder], own(videos, tmp_path)).scores]
    assert {"plain CLIP", "plain CLIP, focus 3"} <= set(methods)
    assert len(set(methods)) == len(methods)


def test_plain_clip_is_scored_in_the_sentences_of_each_model(videos, tmp_path):
    write_model(tmp_path / "one", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps(config | {"template": "see {} here"}))
    models = [Encoder(resolve(str(tmp_path / m)), EncoderOptions("cpu", "fp32")) for m in ("one", "two")]

    def plain(*order, template=None):
        report = accuracy(order, own(videos, tmp_path), template=template)
        return {
            (s.method, s.provenance["template"], s.scores["top-1"])
            for s in report.scores
            if s.method.startswith("plain CLIP") and "," not in s.method
        }

    assert len(plain(*models)) == 2
    assert plain(*models) == plain(*models[::-1])
    assert len(plain(*models, template="{}")) == 1


def test_clips_of_one_group_widen_the_interval(encoders, videos, tmp_path):
    alone = own(videos, tmp_path)
    (items,) = alone.splits
    together = replace(alone, splits=(tuple(replace(item, group="one person") for item in items),))
    wide, narrow = (accuracy(encoders[:1], b).scores[0].interval["top-1"] for b in (together, alone))
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
