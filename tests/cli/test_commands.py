"""The commands as a user meets them: what they print, where, and how they exit."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import heed_interrupts, write_video

LABELS = "a dog,a cat,a house"
SCORE_KEYS = {"label", "score", "cosine"}


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
    _, told = run_json("classify", clips / "a.mp4", "-m", toy, "--labels", LABELS, "--every", "1")
    assert [(d["start"], d["end"]) for d in told["data"]] == [(0, 1), (1, 2)]


def test_classify_without_labels_takes_kinetics(run_json, toy, clips):
    _, told = run_json("classify", clips / "a.mp4", "-m", toy, "-k", "400")
    labels = {s["label"] for s in told["data"][0]["scores"]}
    assert len(labels) == 400
    assert {"abseiling", "zumba"} <= labels


def test_classify_with_a_models_own_labels(run_json, clips, tmp_path):
    from conftest import write_model

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
    status, told = run_json("retrieve", clips, "-m", toy, "--query", "a dog", "--query", "a cat", "-k", "1")
    assert status == 1
    assert [list(d) for d in told["data"]] == [["query", "rank", "path", "start", "end", "score"]] * 2
    assert [(d["query"], d["rank"]) for d in told["data"]] == [("a dog", 1), ("a cat", 1)]
    _, out, _ = run("retrieve", clips, "-m", toy, "--query", "a dog", "-q")
    assert set(out.splitlines()) == {str(clips / "a.mp4"), str(clips / "deeper" / "b.mkv")}
    _, told = run_json("retrieve", clips, "-m", toy, "--query-video", clips / "a.mp4")
    assert told["data"][0]["path"] == str(clips / "a.mp4")
    assert told["data"][0]["score"] == pytest.approx(1, abs=1e-3)
    _, told = run_json("retrieve", clips, "-m", toy, "--query", "x", "--every", "1")
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
    assert (both.vectors[0] == first.vectors[0]).all()
    assert both.matrix().shape == (2, 32)
    assert both.made["weights"] == first.made["weights"]
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


def test_an_interrupted_embed_goes_on_where_it_was(toy, tmp_path):
    """A real process, killed in the middle; then the same command again."""
    folder = tmp_path / "clips"
    folder.mkdir()
    first = write_video(folder / "000.mp4", frames=30, options={"preset": "ultrafast"})
    for i in range(1, 100):  # more than can be done before the signal comes
        os.link(first, folder / f"{i:03d}.mp4")
    out = tmp_path / "v.npz"
    command = [
        sys.executable,
        "-m",
        "stopcli",
        "embed",
        str(folder),
        "-m",
        str(toy),
        "-o",
        str(out),
        "--format",
        "json",
        "--batch-size",
        "1",
    ]
    journal = tmp_path / ".v.npz.journal"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = journal.read_bytes().count(b"\n") - 1
    assert 3 <= kept < 100
    with journal.open("ab") as stream:
        stream.write(b'{"rows": [{"path": "cut o')  # what a crash leaves
    again = subprocess.run([*command, "-v"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    data = json.loads(again.stdout)["data"]
    assert [d["path"] for d in data] == [str(folder / f"{i:03d}.mp4") for i in range(100)]
    assert not journal.exists()


def test_ctrl_c_keeps_what_is_done_and_exits_130(toy, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    first = write_video(folder / "000.mp4", frames=30, options={"preset": "ultrafast"})
    for i in range(1, 200):  # more than can be done before the signal comes
        os.link(first, folder / f"{i:03d}.mp4")
    command = [
        sys.executable,
        "-m",
        "stopcli",
        "embed",
        str(folder),
        "-m",
        str(toy),
        "-o",
        str(tmp_path / "v.npz"),
        "--batch-size",
        "1",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    journal = tmp_path / ".v.npz.journal"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "what is done is kept" in err
    assert "Traceback" not in err
    assert journal.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["clasify", "x"], 2, "did you mean 'stop classify'?"),
        (["classify"], 2, "no video named"),
        (["classify", "x.mp4", "--frames", "0"], 2, "--frames must be between 1 and 64, got 0"),
        (["classify", "x.mp4", "--batch-size", "many"], 2, "--batch-size must be auto or"),
        (["classify", "x.mp4", "--every", "0"], 2, "--every must be between"),
        (["classify", "x.mp4", "--top-k", "0"], 2, "--top-k must be at least 1"),
        (["classify", "x.mp4", "--labels", "one"], 2, "two or more labels"),
        (["classify", "x.mp4", "--labels", "a,b,a"], 2, "'a' is given twice"),
        (["classify", "x.mp4", "--labels", "a,b", "--labels-file", "f"], 2, "give one of them"),
        (["classify", "x.mp4", "--labels-file", "none.txt"], 3, "none.txt: No such file"),
        (["classify", "x.mp4", "-m", "mimi"], 4, "did you mean mini?"),
        (["classify", "x.mp4", "-m", "vit-b-32"], 4, "--model mini"),
        (["retrieve", "x.mp4"], 2, "nothing to look for"),
        (["embed", "x.mp4", "-o", "x.txt"], 2, "must end in .npz, .npy, .parquet"),
        (["embed", "x.mp4", "--text", "a", "-o", "x.npz"], 2, "give one of them"),
        (["models", "info", "hf:x"], 2, "hf:org/repo"),
    ],
)
def test_what_cannot_be_is_one_clear_error(run, arguments, status, text, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    found, out, err = run(*arguments)
    assert found == status
    assert out == ""
    assert text in err.replace("\n", " ")
    assert "Traceback" not in err


def test_an_error_that_ends_a_command_is_json_too(run_json, run, clips):
    status, told = run_json("classify", clips, "-m", "mimi")
    assert (status, told["status"], told["data"]) == (4, "error", [])
    assert told["errors"] == [
        {"path": None, "error": "model-not-found", "message": told["errors"][0]["message"]}
    ]
    assert "did you mean mini?" in told["errors"][0]["message"]
    status, out, err = run("embed", clips, "-m", "mimi", "-o", "x.npz", "--format", "jsonl")
    assert (status, json.loads(out)["error"]) == (4, "model-not-found")
    assert "error:" in err


def test_more_faults_with_a_model(run, toy, clips, tmp_path):
    for arguments, status, text in (
        (["classify", clips / "broken.mp4"], 3, "skipped"),
        (["classify", tmp_path / "none.mp4"], 3, "no such file"),
        (["classify", tmp_path], 3, "no video found"),
        (["classify", clips / "a.mp4", "--labels", "a,b", "--template", "x"], 2, "must hold {}"),
        (["classify", clips / "a.mp4", "--labels", "a,b", "--device", "cuda:77"], 5, "CUDA"),
        (["embed", clips / "a.mp4", "-o", tmp_path / "no" / "x.npz"], 2, "does not exist"),
        (["retrieve", clips, "--query", " "], 2, "empty"),
        (["retrieve", clips, "--query-video", clips / "broken.mp4"], 3, "example cannot be used"),
    ):
        found, _, err = run(*arguments, "-m", toy)
        assert (found, text in err) == (status, True), err


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


def test_the_default_model_is_the_configured_one(run_json, toy, clips, tmp_path, monkeypatch):
    (tmp_path / "config" / "stopcli").mkdir(parents=True)
    settings = tmp_path / "config" / "stopcli" / "config.toml"
    settings.write_text(f'model = "{toy}"\n')
    if sys.platform != "linux":
        pytest.skip("the settings lie elsewhere")
    status, _ = run_json("classify", clips / "a.mp4", "--labels", LABELS)
    assert status == 0
    settings.write_text("model = ")
    from stopcli.cli.app import main

    assert main(["classify", str(clips / "a.mp4")]) == 2


def test_models_and_doctor(run, toy):
    status, out, _ = run("models", "list")
    assert status == 0
    assert all(name in out for name in ("mini", "vit-b-32", "vit-b-16", "vit-l-14"))
    status, out, _ = run("models", "info", toy, "--format", "json")
    told = json.loads(out)["data"][0]
    assert (told["license"], told["frames"], told["architecture"]) == ("MIT", 4, "toy")
    status, out, _ = run("models", "list", "-q")
    assert out.split() == ["mini", "vit-b-32", "vit-b-16", "vit-l-14"]


def test_the_python_api_has_the_same_names(toy, clips):
    import stopcli
    from stopcli.results import Classification

    model = stopcli.load(str(toy), device="cpu")
    (result,) = model.classify(clips / "a.mp4", labels=["a dog", "a cat"])
    assert isinstance(result, Classification)
    hits, failures = model.retrieve("a dog", [clips])
    assert (len(hits), len(failures)) == (2, 1)


def test_a_reader_that_has_seen_enough_is_no_error(toy, clips):
    command = f"{sys.executable} -m stopcli classify {clips / 'a.mp4'} -m {toy} --format jsonl --every 0.2 --labels a,b | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
