"""From a CSV to a model that every command takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from conftest import write_video
from stopcli.fileio import file_hash

CPU = ("--device", "cpu", "--precision", "fp32")


def test_what_was_learned_of_a_label_is_searched_for(toy, tmp_path, run, run_json):
    """Words that the model does not know: clips alone say what they mean."""

    def colored(i):
        color = (200 - 9 * i, 40, 30) if i % 2 else (30, 40, 200 - 9 * i)
        return lambda _, width, height: np.full((height, width, 3), color, np.uint8)

    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(16):
        write_video(clips / f"{i}.mp4", frames=8, fps=4, draw=colored(i))
    rows = [f"clips/{i}.mp4,{'ab'[i % 2]},train" for i in range(12)]
    (tmp_path / "words.csv").write_text("\n".join(["path,label,split", *rows]))
    model = tmp_path / "learned"
    how = ("-m", toy, "-o", model, "--epochs", 0, "--head", "prototype")
    assert run("finetune", tmp_path / "words.csv", *how, *CPU)[0] == 0
    for label in "ab":  # clips that are darker than any that was learned are doubted, but found
        how = ("-m", model, "--all", "--whole", "-k", 16, "--min-confidence", 0.01)
        status, found = run_json("retrieve", "--query", label, clips, *how, *CPU)
        assert status == 0
        assert {int(Path(hit["path"]).stem) % 2 for hit in found["data"]} == {"ab".index(label)}
        assert len(found["data"]) == 8


def test_a_csv_becomes_a_model_that_every_command_takes(labelled, toy, tmp_path, run, run_json):
    out = tmp_path / "my model"
    arguments = ("--model", toy, "-o", out, "--epochs", 40, "--lr", 0.01, *CPU)
    status, shown, err = run("finetune", labelled / "data.csv", *arguments)
    assert status == 0, err
    assert "clips: 12 train, 4 val of 2 classes" in err
    assert "plain CLIP: top-1 50.0 %" in err  # the frames are the same, only their order tells
    assert "trainable" in err
    assert "stop classify --model" in err
    assert "100.0 %" in shown
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "backbone.safetensors",
        "config.json",
        "confusion.png",
        "curve.png",
        "trained-on.txt",
        "metrics.jsonl",
        "model.safetensors",
        "predictions.csv",
    }
    assert file_hash(out / "backbone.safetensors") == file_hash(toy / "backbone.safetensors")
    config = json.loads((out / "config.json").read_text())
    assert config["labels"] == ["closing", "opening"]
    assert config["metrics"]["validation, plain CLIP"]["top-1"] == 50.0
    assert config["training"]["origin"] == str(toy)
    assert config["training"]["command"].startswith("stop")
    status, answer = run_json("classify", labelled / "12.mp4", labelled / "13.mp4", "--model", out, *CPU)
    assert status == 0
    assert [d["scores"][0]["label"] for d in answer["data"]] == ["closing", "opening"]
    status, answer = run_json(
        "retrieve", "--query", "opening", labelled, "--all", "--min-confidence", "0", "--model", out, *CPU
    )
    assert status == 0
    assert len(answer["data"]) == 10
    status, answer = run_json(
        "benchmark", "accuracy", "--dataset", labelled / "data.csv", "--model", out, *CPU
    )
    assert status == 0
    assert [(s["method"], s["scores"]["top-1"]) for s in answer["data"]] == [
        ("plain CLIP", 50.0),
        ("plain CLIP, nearest class mean", 50.0),
        ("plain CLIP, linear probe", 50.0),
        ("STOP", 100.0),
    ]
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    assert "license: other\n" in card
    assert "pipeline_tag: video-classification" in card
    assert "| validation |" in card
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if "loss" in s] == list(range(1, 41))
    for picture in ("curve.png", "confusion.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_a_plan_is_printed_and_nothing_is_written(labelled, toy, tmp_path, run, run_json):
    arguments = ("finetune", labelled / "data.csv", "--model", toy, "-o", tmp_path / "out", "--dry-run", *CPU)
    status, shown, _ = run(*arguments)
    assert status == 0
    assert "12 train, 4 val" in shown
    assert "300 of 12 clips" in shown
    status, answer = run_json(*arguments)
    assert (status, answer["data"][0]["steps"]) == (0, 300)
    assert answer["data"][0]["seconds"] > 0
    assert not (tmp_path / "out").exists()
    status, _, err = run(*arguments[:1], labelled / "no.csv", *arguments[2:])
    assert (status, "no such file" in err) == (3, True)


def test_events_of_another_tool_become_a_model_and_are_scored(labelled, toy, tmp_path, run, run_json):
    """A BORIS project: labels inside files, everything else as background, and its own held-out clips."""
    observations = {
        f"{i}.mp4": {
            "file": {"1": [str(labelled / f"{i}.mp4")]},
            "events": [[at, "", ("closing", "opening")[i % 2], "", ""] for at in (0.2, 0.7)],
        }
        for i in range(12)
    }
    project = {"behaviors_conf": {}, "observations": observations}
    (tmp_path / "field.boris").write_text(json.dumps(project))
    out = tmp_path / "model"
    arguments = ("--model", toy, "-o", out, "--epochs", 0, "--background", "--folds", 3, *CPU)
    status, _, err = run("finetune", tmp_path / "field.boris", *arguments)
    assert status == 0, err
    assert "nobody labelled are 'background'" in err
    assert json.loads((out / "config.json").read_text())["labels"] == ["background", "closing", "opening"]
    status, answer = run_json(
        "benchmark", "accuracy", "--dataset", tmp_path / "field.boris", "--model", out, *CPU
    )
    assert status == 0
    assert {s["clips"] for s in answer["data"]} == {2}  # the others were trained on


def test_faults_missing_videos_and_what_exists_end_in_their_exit_codes(labelled, toy, tmp_path, run):
    (labelled / "faulty.csv").write_text("path,label\nnowhere.mp4,a\n0.mp4,b\n1.mp4,b\n")
    status, out, err = run("finetune", labelled / "faulty.csv", "--model", toy, "-o", tmp_path / "never")
    assert (status, out) == (3, "")
    assert "  row 2: no file nowhere.mp4" in err
    arguments = ("--model", toy, "-o", tmp_path / "some", "--epochs", 2, "--skip-bad", *CPU)
    (labelled / "skipped.csv").write_text((labelled / "data.csv").read_text() + "\nnowhere.mp4,opening,val")
    status, _, err = run("finetune", labelled / "skipped.csv", *arguments)
    assert status == 0, err
    assert "skipped: row 18: no file nowhere.mp4" in err
    status, _, err = run("finetune", labelled / "data.csv", *arguments)
    assert status == 3
    assert "--resume" in err


def test_missing_videos_of_a_benchmark_are_named(labelled, toy, tmp_path, run):
    rows = "".join(f"ret{i},msr{i},{i},clip number {i}\n" for i in range(14, 18))
    (tmp_path / "test.csv").write_text("key,vid_key,video_id,sentence\n" + rows)
    base = (
        "--dataset",
        "msrvtt",
        "--annotations",
        tmp_path / "test.csv",
        "--videos",
        labelled,
        "--model",
        toy,
    )
    arguments = ("benchmark", "accuracy", *base, "-o", tmp_path / "out", *CPU)
    status, _, err = run(*arguments)
    assert status == 0
    assert "missing: 2 videos, such as 16, 17" in err
    status, _, err = run(*arguments)
    assert status == 3
    assert "--force" in err
