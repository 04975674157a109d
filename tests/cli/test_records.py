"""What the commands give: records in every format, for videos and texts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import stopcli.results as r
from conftest import write_model, write_video
from stopcli.hub.named import ENTRIES
from stopcli.results.measured import BenchmarkScore, Speed, Throughput, TrialScore
from stopcli.results.training import Finetuned, TrainingPlan

LABELS = "a dog,a cat,a house"
SCORE_KEYS = {"label", "score", "cosine", "confidence"}


def test_classify_json(run_json, toy, clips):
    status, told = run_json("classify", clips, "-m", toy, "--labels", LABELS)
    assert status == 1
    assert list(told) == ["schema", "command", "status", "data", "errors"]
    assert (told["schema"], told["command"], told["status"]) == (1, "classify", "partial")
    assert [d["path"] for d in told["data"]] == [str(clips / "a.mp4"), str(clips / "deeper" / "b.mkv")]
    for record in told["data"]:
        assert list(record) == ["path", "start", "end", "scores"]
        assert record["start"] is None
        assert {frozenset(s) for s in record["scores"]} == {frozenset(SCORE_KEYS)}
        scores = [s["score"] for s in record["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert [(e["path"], e["error"]) for e in told["errors"]] == [
        (str(clips / "broken.mp4"), "unreadable-video")
    ]
    assert list(told["errors"][0]) == ["path", "error", "message"]


def test_classify_windows(run_json, toy, clips):
    _, told = run_json("classify", clips / "a.mp4", "-m", toy, "--labels", LABELS, "--window", "1")
    assert [(d["start"], d["end"]) for d in told["data"]] == [(0, 1), (1, 2)]


def test_classify_without_labels_takes_kinetics(run_json, toy, clips):
    _, told = run_json("classify", clips / "a.mp4", "-m", toy, "-k", "400")
    labels = {s["label"] for s in told["data"][0]["scores"]}
    assert len(labels) == 400
    assert {"abseiling", "zumba"} <= labels


def test_classify_with_a_models_own_labels(run_json, clips, tmp_path):
    model = write_model(tmp_path / "own", labels=("red", "green", "blue"))
    _, told = run_json("classify", clips / "a.mp4", "-m", model)
    assert {s["label"] for s in told["data"][0]["scores"]} == {"red", "green", "blue"}


def test_classify_table_csv_jsonl_quiet(run, toy, clips):
    command = ("classify", clips, "-m", toy, "--labels", LABELS)
    status, out, err = run(*command)
    assert status == 1
    assert "a.mp4" in out
    assert "█" in out
    assert "\x1b" not in out  # piped: plain
    assert "skipped" in err
    assert "broken.mp4" in err
    _, out, _ = run(*command, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 6
    assert set(rows[0]) == {"path", "start", "end", "rank", *SCORE_KEYS}
    _, out, _ = run(*command, "--format", "jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    assert [set(r) for r in records] == [
        {"path", "start", "end", "scores"},
        {"path", "error", "message"},
        {"path", "start", "end", "scores"},
    ]
    _, out, err = run(*command, "-q", "-0")
    lines = out.split("\0")
    assert len(lines) == 3
    assert lines[0].split("\t")[0] == str(clips / "a.mp4")


def test_retrieve(run_json, run, toy, clips):
    status, told = run_json(
        "retrieve",
        "--min-confidence",
        "0",
        clips,
        "-m",
        toy,
        "--query",
        "a dog",
        "--query",
        "a cat",
        "-k",
        "1",
    )
    assert status == 1
    assert [list(d) for d in told["data"]] == [
        ["query", "rank", "path", "start", "end", "score", "confidence", "also", "clip"]
    ] * 2
    assert [(d["query"], d["rank"]) for d in told["data"]] == [("a dog", 1), ("a cat", 1)]
    _, out, _ = run("retrieve", "--min-confidence", "0", clips, "-m", toy, "--query", "a dog", "-q")
    assert {line.split("\t")[0] for line in out.splitlines()} == {
        str(clips / "a.mp4"),
        str(clips / "deeper" / "b.mkv"),
    }
    assert all(line.split("\t")[1] == "0.000" for line in out.splitlines())
    _, told = run_json("retrieve", "--min-confidence", "0", clips, "-m", toy, "--like", clips / "a.mp4")
    assert [d["path"] for d in told["data"]] == [str(clips / "deeper" / "b.mkv")]  # not the example itself
    _, told = run_json("retrieve", "--min-confidence", "0", clips, "-m", toy, "--query", "x", "--window", "1")
    assert {d["end"] is None for d in told["data"]} == {False}


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_embed_adds_skips_and_redoes(run_json, toy, clips, tmp_path, suffix):
    from stopcli.tasks.vectorfile import load

    out = tmp_path / f"vectors{suffix}"
    status, told = run_json("embed", clips / "a.mp4", "-m", toy, "-o", out)
    assert status == 0
    assert told["data"] == [{"path": str(clips / "a.mp4"), "start": None, "end": None, "row": 0}]
    first = load(out)
    status, told = run_json("embed", clips, "-m", toy, "-o", out)
    assert status == 1
    assert [d["row"] for d in told["data"]] == [0, 1]
    both = load(out)
    assert (both.matrix()[0] == first.matrix()[0]).all()
    assert both.matrix().shape == (2, 32)
    assert both.provenance["weights"] == first.provenance["weights"]
    status, told = run_json("embed", clips / "deeper", "-m", toy, "-o", out, "--force")
    assert load(out).matrix().shape == (1, 32)
    assert not list(tmp_path.glob(".*journal*"))


def test_embed_does_not_compute_twice(run, toy, clips, tmp_path, monkeypatch):
    from stopcli.runtime.encoder import Encoder

    out = tmp_path / "v.npz"
    run("embed", clips / "a.mp4", "-m", toy, "-o", out)
    seen = []
    whole = Encoder.encode_videos
    monkeypatch.setattr(
        Encoder, "encode_videos", lambda self, paths, **k: seen.extend(paths) or whole(self, paths, **k)
    )
    run("embed", clips / "a.mp4", clips / "deeper" / "b.mkv", "-m", toy, "-o", out)
    assert seen == [str(clips / "deeper" / "b.mkv")]
    os.utime(clips / "a.mp4", ns=(1, 1))  # changed since
    seen.clear()
    run("embed", clips / "a.mp4", "-m", toy, "-o", out)
    assert seen == [str(clips / "a.mp4")]


def test_embed_never_mixes_models(run, toy, plain, clips, tmp_path):
    out = tmp_path / "v.npz"
    run("embed", clips / "a.mp4", "-m", toy, "-o", out)
    before = out.read_bytes()
    status, _, err = run("embed", clips / "a.mp4", "-m", plain, "-o", out)
    assert status == 3
    assert "--force" in err
    assert out.read_bytes() == before


def test_embed_texts(run_json, toy, tmp_path):
    out = tmp_path / "t.npz"
    status, told = run_json("embed", "--text", "a dog", "--text", "a cat", "-m", toy, "-o", out)
    assert status == 0
    assert [d["path"] for d in told["data"]] == ["a dog", "a cat"]
    with np.load(out) as held:
        assert np.linalg.norm(held["vectors"], axis=1) == pytest.approx(1, abs=1e-2)


def test_lists_of_files(run_json, toy, clips, tmp_path, monkeypatch):
    names = tmp_path / "list.txt"
    names.write_text(f"{clips / 'a.mp4'}\n\n{clips / 'deeper' / 'b.mkv'}\n")
    command = ("classify", "-m", toy, "--labels", LABELS)
    status, told = run_json(*command, "--files-from", names)
    assert (status, len(told["data"])) == (0, 2)
    stdin = io.TextIOWrapper(io.BytesIO(f"{clips / 'a.mp4'}\0{clips / 'deeper' / 'b.mkv'}\0".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    status, told = run_json(*command, "-")
    assert (status, len(told["data"])) == (0, 2)


def test_names_that_start_with_a_dash_or_are_no_text(run_json, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4", frames=5).rename(tmp_path / "-q.mp4")
    status, told = run_json("classify", "-m", toy, "--labels", LABELS, "--", "-q.mp4")
    assert (status, told["data"][0]["path"]) == (0, "-q.mp4")
    odd = os.fsdecode(b"bad\xff.mp4")
    write_video(tmp_path / "w.mp4", frames=5).rename(tmp_path / odd)
    status, told = run_json("classify", odd, "-m", toy, "--labels", LABELS)
    assert (status, told["data"][0]["path"]) == (0, odd)


def test_control_characters_of_a_name_do_not_reach_the_terminal(run, toy, tmp_path):
    write_video(tmp_path / "v.mp4", frames=5).rename(tmp_path / "a\x1b[31mred.mp4")
    _, out, _ = run("classify", tmp_path, "-m", toy, "--labels", LABELS)
    assert "\x1b" not in out


def test_models_and_doctor(run, toy):
    status, out, _ = run("models", "list")
    assert status == 0
    assert all(name in out for name in ("mini", "vit-b-32", "vit-b-16", "vit-l-14"))
    status, out, _ = run("models", "info", toy, "--format", "json")
    told = json.loads(out)["data"][0]
    assert (told["license"], told["frames"], told["architecture"]) == ("MIT", 4, "toy")
    status, out, _ = run("models", "list", "-q")
    assert out.split() == list(ENTRIES)


def test_a_reader_that_has_seen_enough_is_no_error(toy, clips):
    command = f"{sys.executable} -m stopcli classify {clips / 'a.mp4'} -m {toy} --format jsonl --window 0.2 --labels a,b | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_the_documented_keys_are_those_of_the_records():
    text = (Path(__file__).parents[2] / "docs" / "how-to.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    keys = {row[0].removeprefix("| "): re.sub(r"\(.*?\)", "", row[1]) for row in rows}
    for command, kind in {
        "`classify`": r.Classification,
        "`retrieve`, `index highlights`, `watch`": r.Hit,
        "`cut`": r.SavedClip,
        "`embed`": r.Embedded,
        "`finetune`": Finetuned,
        "`finetune --dry-run`": TrainingPlan,
        "`index ls`": r.IndexedFile,
        "`index info`": r.IndexInfo,
        "`index update`, `rm`, `merge`, `compact`": r.IndexChange,
        "`index check`": r.IndexCheck,
        "`models list`": r.ModelEntry,
        "`models info`": r.ModelInfo,
        "`benchmark accuracy`, `moments`": BenchmarkScore,
        "`benchmark few-shot`, `base-to-novel`": TrialScore,
        "`benchmark speed`": Speed,
        "`benchmark throughput`": Throughput,
    }.items():
        assert set(re.findall("`(.+?)`", keys[command])) == {f.name for f in fields(kind)}, command
