"""Training in processes of its own: killed, interrupted, and several that train one model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import heed_interrupts
from labelled_clips import gradients, toy_trainer
from stopcli.fileio import file_hash
from stopcli.train.run_folder import STATE_FILE

TESTS = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}


STEPPING = """
import sys
from pathlib import Path
import labelled_clips

class Stepping(labelled_clips.Recorder):
    def progress(self, report):
        print(report.step, flush=True)
        sys.stdin.readline()

data, model, out = map(Path, sys.argv[1:])
labelled_clips.train(data, model, out, Stepping(), more={"resume": True}, epochs=8, batch_size=4)
"""


def test_a_killed_run_resumes_to_the_same_bits(labelled, toy, tmp_path):
    """Each step waits for a line; the kill comes while the step after some others is under way."""

    def begin(out):
        command = [sys.executable, "-c", STEPPING, labelled / "data.csv", toy, out]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())

    def steps(process):
        """Yield each step when it is done, and let the next one begin."""
        for line in process.stdout:
            process.stdin.write(b"\n")
            process.stdin.flush()
            yield int(line)

    with begin(tmp_path / "whole") as process:
        assert list(steps(process)) == list(range(1, 25))
    broken = tmp_path / "broken"
    for last in (5, 10, 18):  # a state is saved with every third step
        with begin(broken) as process:
            assert last in steps(process)
            process.kill()
    with begin(broken) as process:
        resumed = list(steps(process))
    assert process.returncode == 0
    assert resumed[0] == 19
    assert resumed[-1] == 24
    for name in ("model.safetensors", "backbone.safetensors"):
        assert file_hash(broken / name) == file_hash(tmp_path / "whole" / name)
    logged = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in logged if "loss" in r] == list(range(1, 25))
    assert not (broken / STATE_FILE).exists()
    assert not list(broken.glob(".*"))


def command(labelled, toy, out, epochs):
    more = ["--epochs", str(epochs), "--batch-size", "4", "--device", "cpu", "--precision", "fp32"]
    return ["stopcli", "finetune", str(labelled / "data.csv"), "--model", str(toy), "-o", str(out), *more]


def test_an_interrupted_command_says_how_to_go_on(labelled, toy, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", *command(labelled, toy, tmp_path / "out", 200)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,
    )
    with process:
        assert any(line.startswith(b"step ") for line in process.stderr)  # a twentieth of it is done
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert b"--resume" in err
    assert (tmp_path / "out" / STATE_FILE).exists()


WORKER = """
import sys
from pathlib import Path
import torch
from labelled_clips import gradients, toy_trainer
from stopcli.train import distributed

model, labelled, scratch = map(Path, sys.argv[1:])
distributed.start(torch.device("cpu"))
out = {by_class: gradients(*toy_trainer(model, labelled, scratch, batch=6, by_class=by_class)) for by_class in (True, False)}
torch.save(out, scratch / f"gradients-{distributed.rank()}.pt")
distributed.shutdown()
"""


def test_two_processes_have_the_gradient_of_one(labelled, toy, tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    arguments = [tmp_path / "worker.py", toy, labelled, tmp_path]
    done = subprocess.run(
        [*TORCHRUN, *arguments], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for by_class in (True, False):
        loss, alone = gradients(*toy_trainer(toy, labelled, tmp_path, batch=12, by_class=by_class))
        for rank in range(2):
            shared_loss, shared = torch.load(tmp_path / f"gradients-{rank}.pt")[by_class]
            assert shared_loss == pytest.approx(loss, abs=1e-6)
            for name, gradient in alone.items():
                assert (shared[name] - gradient).abs().max() < 1e-6, name


def test_torchrun_trains_one_model(labelled, toy, tmp_path):
    out = tmp_path / "joint"
    launch = [*TORCHRUN, "-m", *command(labelled, toy, out, 8), "--format", "json"]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    (answer,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert answer["data"][0]["steps"] == 24
    assert json.loads((out / "config.json").read_text())["training"]["settings"]["processes"] == 2
