"""Every command, in every format, with one failure: the envelope and the exit code are always right."""

from __future__ import annotations

import csv
import io
import json

import pytest

from conftest import write_video

# (the command, its arguments, the exit code, the class of the fault)
FAILURES = {
    "classify": (["nowhere.mp4"], 3, "file-missing"),
    "retrieve": (["--query", "a", "nowhere.mp4"], 3, "file-missing"),
    "watch": (["nowhere", "--query", "a"], 3, "file-missing"),
    "serve": (["nowhere"], 3, "file-missing"),
    "label": (["nowhere", "--labels", "a,b"], 3, "file-missing"),
    "mcp": (["nowhere"], 3, "file-missing"),
    "cut": (["nowhere.mp4", "0", "1"], 3, "file-missing"),
    "embed": (["nowhere.mp4", "-o", "x.npz"], 3, "file-missing"),
    "explain": (["nowhere.mp4", "-o", "x.png"], 3, "file-missing"),
    "finetune": (["nowhere.csv"], 3, "file-missing"),
    "benchmark accuracy": (["--dataset", "nowhere.csv"], 3, "file-missing"),
    "benchmark speed": (["nowhere.mp4"], 3, "file-missing"),
    "benchmark few-shot": (["--dataset", "nowhere"], 2, "usage-error"),
    "benchmark base-to-novel": (["--dataset", "nowhere"], 2, "usage-error"),
    "benchmark moments": (["--dataset", "nowhere"], 2, "usage-error"),
    "benchmark throughput": (["nowhere.mp4"], 3, "file-missing"),
    "index update": (["nowhere.mp4"], 3, "file-missing"),
    "index highlights": (["nowhere.mp4"], 3, "file-missing"),
    "index ls": (["--index", "nowhere"], 3, "file-missing"),
    "index rm": (["nowhere"], 3, "file-missing"),
    "index merge": (["nowhere"], 3, "file-missing"),
    "index export": (["--to", "parquet", "-o", "x.parquet", "--index", "nowhere"], 3, "file-missing"),
    "index compact": (["--index", "nowhere"], 3, "file-missing"),
    "index info": (["--index", "broken"], 1, "index-unusable"),
    "index check": (["--index", "nowhere"], 3, "file-missing"),
    "models list": (["--nonsense"], 2, "usage-error"),
    "models towers": (["nosuch"], 3, "nothing-found"),
    "models search": (["birds"], 4, "offline-error"),
    "models info": (["nosuch"], 4, "model-not-found"),
    "models pull": (["nosuch"], 4, "model-not-found"),
    "models push": (["nowhere", "me/mine"], 3, "file-missing"),
    "samples": (["a-file"], 2, "usage-error"),
    "doctor": (["--device", "cuda:99"], 5, "device-error"),
}


def test_an_option_of_a_group_that_has_no_default_is_required(run):
    status, _, err = run("benchmark", "few-shot")
    assert (status, "--dataset" in err) == (2, True)


FORMATS = ("auto", "table", "json", "jsonl", "csv")


def test_no_command_is_left_out():
    import typer

    from stopcli.cli.app import app

    names = set()
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        names |= {f"{name} {n}" for n in inner} if inner else {name}
    assert names == set(FAILURES)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("command", FAILURES)
def test_a_failure_is_told_in_every_format(run, command, format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("not a folder")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "index.sqlite").write_text("no database")
    arguments, expected, fault = FAILURES[command]
    status, out, err = run(*command.split(), *arguments, "--format", format)
    assert status == expected, err
    assert "error: " in err
    assert "Traceback" not in err
    if format == "json":
        envelope = json.loads(out)
        assert list(envelope) == ["schema", "command", "status", "data", "errors"]
        assert (envelope["schema"], envelope["command"], envelope["status"]) == (1, command, "error")
        assert envelope["data"] == []
        faults = envelope["errors"]
    elif format == "jsonl":
        faults = [json.loads(line) for line in out.splitlines()]
    else:
        assert out == ""
        return
    assert [list(f) for f in faults] == [["path", "error", "message"]]
    assert faults[0]["error"] == fault


SUCCESSES = {
    "classify": ["x.mp4", "-m", "toy", "--labels", "a,b"],
    "retrieve": ["a dog", "x.mp4", "-m", "toy", "--min-confidence", "0"],
    "cut": ["x.mp4", "0", "0.1"],
    "embed": ["x.mp4", "-m", "toy", "-o", "x.npz"],
    "explain": ["x.mp4", "-m", "toy", "-o", "x.png"],
    "finetune": ["t.csv", "-m", "toy", "-o", "tuned", "--epochs", "2"],
    "benchmark accuracy": ["--dataset", "t.csv", "-m", "toy"],
    "benchmark few-shot": [
        "--dataset",
        "t.csv",
        "-m",
        "toy",
        "--epochs",
        "1",
        "--shots",
        "1",
        "--seeds",
        "1",
    ],
    "benchmark moments": ["--dataset", "moments.csv", "-m", "toy", "--window", "0.1"],
    "benchmark throughput": ["x.mp4", "y.mp4", "-m", "toy"],
    "index update": ["x.mp4", "-m", "toy"],
    "index highlights": ["x.mp4", "y.mp4", "-m", "toy"],
    "index ls": [],
    "index rm": ["--all"],
    "index merge": ["other"],
    "index export": ["--to", "qdrant-jsonl", "-o", "points.jsonl", "--index", "other"],
    "index compact": [],
    "index check": [],
    "index info": [],
    "models list": [],
    "models towers": ["pe-core"],
    "models info": ["mini"],
    "models pull": ["toy"],
    "samples": ["copied"],
    "doctor": ["--device", "cpu", "--offline"],
}  # the Hub is searched in tests/unit/hub and takes models in tests/system, and speed is measured in tests/unit/eval


@pytest.fixture
def place(tmp_path, monkeypatch, toy):
    """A folder with clips, a table and a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").symlink_to(toy)
    names = ("x", "y", "z", "w")
    for i, name in enumerate(names):
        write_video(tmp_path / f"{name}.mp4", frames=5 + i)
    table = "".join(f"{name}.mp4,{'dog' if i < 2 else 'cat'}\n" for i, name in enumerate(names))
    (tmp_path / "moments.csv").write_text("path,caption,start,end\nx.mp4,a dog,0,0.1\n")
    (tmp_path / "t.csv").write_text(f"path,label\n{table}")


@pytest.mark.parametrize("format", ("json", "jsonl", "csv", "table"))
@pytest.mark.parametrize("command", SUCCESSES)
def test_a_success_is_told_in_every_format(run, command, format, place):
    if command in ("index merge", "index export"):
        run("index", "update", "y.mp4", "-m", "toy", "--index", "other")
    status, out, err = run(*command.split(), *SUCCESSES[command], "--format", format)
    assert status == 0, err
    if format == "json":
        assert (json.loads(out)["status"], json.loads(out)["errors"]) == ("ok", [])
    elif format == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in out.splitlines())
    elif format == "csv" and out:
        rows = list(csv.reader(io.StringIO(out)))
        assert len(rows) >= 2
        assert {len(row) for row in rows} == {len(rows[0])}
