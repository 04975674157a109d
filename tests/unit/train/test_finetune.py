"""Training end to end: what is learnt, what is written, and what survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import heed_interrupts, write_video
from stopcli.data.table import read_dataset
from stopcli.errors import TrainingDiverged
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.train.trainer import STATE_FILE, Batches, Schedule, Trainer
from stopcli.video.cache import FrameCache

ARGUMENTS = ("--device", "cpu", "--precision", "fp32")


def sliding(direction):
    """Draw a bar that slides over a grey ground."""

    def draw(i, width, height):
        image = np.full((height, width, 3), 90, np.uint8)
        at = (i if direction > 0 else 11 - i) * (width - 16) // 12
        image[:, at : at + 16] = (230, 230, 40)
        return image

    return draw


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Sixteen clips of two labels that no single frame tells apart, in one table."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = ["path,label,split"]
    for i in range(16):
        direction = 1 if i % 2 else -1
        write_video(
            folder / f"{i}.mp4", frames=12, fps=6, draw=sliding(direction), options={"crf": str(16 + i // 2)}
        )
        lines.append(f"{i}.mp4,{'opening' if i % 2 else 'closing'},{'train' if i < 12 else 'val'}")
    (folder / "data.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def adapt(labelled, toy, run):
    """Run `stop finetune` on the table, into a folder."""
    return lambda out, *more: run(
        "finetune", labelled / "data.csv", "--model", toy, "-o", out, *more, *ARGUMENTS
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_csv_becomes_a_model_that_every_command_takes(labelled, toy, tmp_path, adapt, run_json):
    out = tmp_path / "my model"
    status, told, err = adapt(out, "--epochs", 40, "--lr", 0.01)
    assert status == 0, err
    assert "clips: 12 train, 4 val of 2 classes" in err
    assert "plain CLIP: top-1 50.0 %" in err  # the frames are the same, only their order tells
    assert "trainable" in err
    assert "stop classify --model" in err
    assert "100.0 %" in told
    names = {p.name for p in out.iterdir()}
    assert names == {
        "README.md", "backbone.safetensors", "config.json", "confusion.png", "curve.png", "metrics.jsonl",
        "model.safetensors",
    }  # fmt: skip
    assert digest(out / "backbone.safetensors") == digest(toy / "backbone.safetensors")
    config = json.loads((out / "config.json").read_text())
    assert config["labels"] == ["closing", "opening"]
    assert config["metrics"]["validation, plain CLIP"]["top-1"] == 50.0
    assert config["training"]["settings"]["seed"] == 0
    assert config["training"]["made"]["torch"] == torch.__version__
    status, answer = run_json(
        "classify", labelled / "12.mp4", labelled / "13.mp4", "--model", out, *ARGUMENTS
    )
    assert status == 0
    assert [d["scores"][0]["label"] for d in answer["data"]] == ["closing", "opening"]
    status, answer = run_json("retrieve", "--query", "opening", labelled, "--model", out, *ARGUMENTS)
    assert status == 0
    assert len(answer["data"]) == 10
    assert config["training"]["origin"] == str(toy)
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    assert "pipeline_tag: video-classification" in card
    assert "| validation |" in card
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if "loss" in s] == list(range(1, 41))
    for picture in ("curve.png", "confusion.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_captions_train_a_retrieval_model(labelled, toy, tmp_path, run_json):
    lines = ["path,caption"]
    lines += [f"{i}.mp4,clip number {i} {how}" for i in range(8) for how in ("opens", "is seen")]
    (labelled / "captions.csv").write_text("\n".join(lines))
    status, told = run_json(
        "finetune", labelled / "captions.csv", "--model", toy, "-o", tmp_path / "out", "--epochs", 2,
        "--batch-size", 4, *ARGUMENTS,
    )  # fmt: skip
    assert status == 0
    (record,) = told["data"]
    assert record["task"] == "retrieval"
    assert record["metric"] == "R@1"
    assert record["validation"] is not None
    assert json.loads((tmp_path / "out" / "config.json").read_text())["labels"] is None


def test_nothing_is_overwritten(tmp_path, adapt):
    out = tmp_path / "held"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    status, _, err = adapt(out)
    assert status == 3
    assert "not empty" in err
    (out / "thesis.txt").unlink()
    (out / "model.safetensors").write_bytes(b"weights")
    status, _, err = adapt(out)
    assert status == 3
    assert "--resume" in err
    assert (out / "model.safetensors").read_bytes() == b"weights"


def test_static_and_off_prompts_start_anew(tmp_path, adapt):
    for mode in ("static", "off"):
        out = tmp_path / mode
        status, _, err = adapt(out, "--epochs", 1, "--temporal", mode)
        assert status == 0, err
        assert json.loads((out / "config.json").read_text())["stop"]["temporal"] == mode
    status, _, err = adapt(tmp_path / "none", "--spatial", "off", "--temporal", "off")
    assert status == 2
    assert "nothing to train" in err


# --------------------------------------------------------------------------- killed and resumed


def command(labelled, toy, out):
    return [
        sys.executable, "-m", "stopcli", "finetune", str(labelled / "data.csv"), "--model", str(toy), "-o", str(out),
        "--epochs", "30", "--batch-size", "4", *ARGUMENTS,
    ]  # fmt: skip


def test_a_killed_run_resumes_to_the_same_bits(labelled, toy, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        command(labelled, toy, tmp_path / "whole"), check=True, capture_output=True, env=environment
    )
    broken = tmp_path / "broken"
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(12):
        resumed = [*command(labelled, toy, broken), "--resume"]
        process = subprocess.Popen(resumed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        began = _steps(broken)
        deadline = time.monotonic() + 120
        goal = began + int(rng.integers(4, 20))
        while _steps(broken) < goal and process.poll() is None:
            assert time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.002)
        if kills < 3 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        break
    assert kills == 3
    for name in ("model.safetensors", "backbone.safetensors"):
        assert digest(broken / name) == digest(tmp_path / "whole" / name)
    logged = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in logged if "loss" in r] == list(range(1, 91))
    assert not (broken / STATE_FILE).exists()


def _steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


def test_an_interrupted_run_says_how_to_go_on(labelled, toy, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(labelled, toy, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    while _steps(out) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"--resume" in err
    assert (out / STATE_FILE).exists()


def test_other_settings_cannot_resume(labelled, toy, tmp_path, run, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(Trainer, "step", _fails_at(7, Trainer.step, KeyboardInterrupt()))
    base = (
        "finetune",
        labelled / "data.csv",
        "--model",
        toy,
        "-o",
        out,
        "--epochs",
        4,
        "--batch-size",
        4,
        *ARGUMENTS,
    )
    assert run(*base)[0] == 130
    monkeypatch.undo()
    status, _, err = run(*base, "--resume", "--lr", 0.5)
    assert status == 2
    assert "lr was 0.001, now 0.5" in err
    assert run(*base, "--resume")[0] == 0
    status, _, err = run(*base, "--resume")  # it is finished: nothing is trained, the result is told
    assert status == 0
    assert "step" not in err


def _fails_at(step, real, error):
    def stepping(self, *arguments):
        if self.step_number == step:
            raise error
        return real(self, *arguments)

    return stepping


def test_a_loss_that_is_no_number_stops_with_the_best_weights_kept(
    labelled, tmp_path, adapt, run, monkeypatch
):
    out = tmp_path / "out"
    real = Trainer._loss

    def loss(self, *arguments):
        return real(self, *arguments) * (float("nan") if self.step_number == 8 else 1.0)

    monkeypatch.setattr(Trainer, "_loss", loss)
    status, _, err = adapt(out, "--epochs", 20, "--batch-size", 4)
    assert status == TrainingDiverged.exit_status == 1
    assert "became nan at step 9" in err
    monkeypatch.undo()
    assert run("classify", labelled / "0.mp4", "--model", out, *ARGUMENTS)[0] == 0


# ---------------------------------------------------------------------------------- the gradients


def trainer(toy, labelled, tmp_path, *, size, by_class=True, dropout=0.0):
    files = resolve(str(toy))
    stop = replace(files.config.stop, dropout=dropout)
    files = replace(files, config=replace(files.config, stop=stop))
    encoder = Encoder(files, EncoderOptions("cpu", "fp32", size), trainable=True)
    rows = read_dataset(labelled / "data.csv").of("train")
    if not by_class:
        rows = tuple(replace(r, text=f"clip {r.number}") for r in rows)
    schedule = Schedule(3, 1, 12, 1e-3, 0)
    batches = Batches(rows, schedule, FrameCache(tmp_path / "frames"), encoder, by_class=by_class, flip=True)
    texts = {r.text: r.text for r in rows}
    return Trainer(encoder, schedule, texts, by_class=by_class), batches


def gradients(made, batches):
    made.encoder.model.train(True)
    loss = made._gradients(*batches.load(0))
    return loss, {n: p.grad.clone() for n, p in made.parameters.items()}


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_pieces_give_the_gradient_of_the_whole_batch(toy, labelled, tmp_path, by_class, dropout):
    if dropout:  # then pieces of equal size, or the draws differ
        a, first = gradients(*trainer(toy, labelled, tmp_path, size=4, by_class=by_class, dropout=dropout))
        b, second = gradients(*trainer(toy, labelled, tmp_path, size=4, by_class=by_class, dropout=dropout))
    else:
        a, first = gradients(*trainer(toy, labelled, tmp_path, size=12, by_class=by_class))
        b, second = gradients(*trainer(toy, labelled, tmp_path, size=5, by_class=by_class))
    assert a == pytest.approx(b, abs=1e-6)
    for name in first:
        scale = first[name].abs().max().clamp_min(1e-3)
        assert torch.allclose(first[name] / scale, second[name] / scale, atol=1e-5), name


WORKER = """
import sys, torch
sys.path[:0] = {tests!r}
from pathlib import Path
from test_finetune import trainer
from stopcli.train import distributed as parallel
torch.set_num_threads(1)
parallel.start(torch.device("cpu"))
out = dict()
for by_class in (True, False):
    made, batches = trainer(Path({toy!r}), Path({labelled!r}), Path({scratch!r}), size=6, by_class=by_class)
    made.encoder.model.train(True)
    loss = made._gradients(*batches.load(0))
    parallel.sum_gradients(made.parameters.values())
    out[by_class] = (loss, dict((n, p.grad) for n, p in made.parameters.items()))
torch.save(out, {scratch!r} + "/gradients-%d.pt" % parallel.rank())
parallel.stop()
"""


def test_two_processes_have_the_gradient_of_one(toy, labelled, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        WORKER.format(
            tests=[str(Path(__file__).parent), str(Path(__file__).parents[2])],
            toy=str(toy),
            labelled=str(labelled),
            scratch=str(tmp_path),
        )
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        str(script),
    ]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for by_class in (True, False):
        loss, alone = gradients(*trainer(toy, labelled, tmp_path, size=12, by_class=by_class))
        for rank in range(2):
            shared_loss, shared = torch.load(tmp_path / f"gradients-{rank}.pt")[by_class]
            assert shared_loss == pytest.approx(loss, abs=1e-6)
            for name, gradient in alone.items():
                assert (shared[name] - gradient).abs().max() < 1e-6, name


def test_torchrun_trains_one_model(labelled, toy, tmp_path):
    out = tmp_path / "joint"
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "stopcli",
        *command(labelled, toy, out)[3:], "--format", "json",
    ]  # fmt: skip
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (told,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert told["data"][0]["steps"] == 90
    assert json.loads((out / "config.json").read_text())["training"]["settings"]["processes"] == 2


def test_classes_are_drawn_equally_often(labelled, toy, tmp_path):
    rows = read_dataset(labelled / "data.csv").of("train")
    few = [r for r in rows if r.text == "opening"] + [r for r in rows if r.text == "closing"][:1]
    encoder = Encoder(resolve(str(toy)), EncoderOptions("cpu", "fp32"), trainable=True)
    made = Batches(few, Schedule(50, 1, 7, 1e-3, 0), FrameCache(tmp_path), encoder, by_class=True, flip=False)
    drawn = [r.text for epoch in range(50) for r in made.epoch(epoch)]
    assert 0.4 < drawn.count("closing") / len(drawn) < 0.6
