"""Training end to end: what is learnt, what is written, what is kept and what is refused."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
import torch

from conftest import write_model
from labelled_clips import Recorder, train
from stopcli.data.seen import read_seen
from stopcli.data.split import with_validation
from stopcli.data.table import read_dataset
from stopcli.errors import CheckpointError, FileExists, OutputBusy, TrainingDiverged, UsageError
from stopcli.fileio import alone, file_hash
from stopcli.hub.publish import publishable
from stopcli.hub.registry import resolve
from stopcli.model.checkpoint import load_prompts
from stopcli.model.config import StopConfig, read_config
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.tasks.classify import classify
from stopcli.train.finetune import finetune
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import METRICS_FILE, STATE_FILE, RunFolder
from stopcli.train.scoring.judge import Judge
from stopcli.train.trainer import Trainer


@pytest.fixture
def adapt(labelled, toy):
    """Fine-tune the toy model on the table, into a folder."""

    def call(out, callback=None, *, resume=False, force=False, model=toy, **options):
        return train(
            labelled / "data.csv", model, out, callback, more={"resume": resume, "force": force}, **options
        )

    return call


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def logged_steps(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "loss" in line]


class Interrupting(Recorder):
    """Ctrl-C after a step."""

    def __init__(self, step):
        super().__init__()
        self.last = step

    def progress(self, report):
        super().progress(report)
        if report.step == self.last:
            raise KeyboardInterrupt


def test_captions_train_a_retrieval_model(labelled, toy, tmp_path):
    lines = ["path,caption"]
    lines += [f"{i}.mp4,clip number {i} {how}" for i in range(8) for how in ("opens", "is seen")]
    (labelled / "captions.csv").write_text("\n".join(lines))
    result, _ = train(labelled / "captions.csv", toy, tmp_path / "out", epochs=2, batch_size=4)
    assert (result.task, result.metric) == ("retrieval", "R@1")
    assert result.validation is not None
    config = config_of(tmp_path / "out")
    assert config["labels"] is None
    assert "template" not in config


def test_a_model_says_how_it_was_made(adapt, tmp_path, toy):
    result, told = adapt(tmp_path / "out", epochs=2, template="this shows {}")
    config = config_of(tmp_path / "out")
    assert config["template"] == "this shows {}"
    training = config["training"]
    assert training["provenance"]["torch"] == torch.__version__
    assert training["settings"]["seed"] == 0
    assert training["data"]["task"] == "classification"
    assert (training["base"], training["origin"]) == (str(toy), str(toy))
    assert told.plans[0].clips == {"train": 12, "val": 4, "test": 0}
    assert result.steps == training["settings"]["steps"] == len(told.reports)


def test_nothing_is_overwritten(tmp_path, adapt):
    out = tmp_path / "existing"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(FileExists, match="not empty"):
        adapt(out)
    (out / "thesis.txt").unlink()
    others = {"model.safetensors": "weights", "README.md": "my project", "config.json": "{}"}
    for name, text in others.items():
        (out / name).write_text(text)
    for force in (False, True):
        with pytest.raises(FileExists, match="holds no run"):
            adapt(out, force=force)
    assert {file.name: file.read_text() for file in out.iterdir()} == others
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileExists, match="is a file"):
            adapt(path)


def test_a_model_of_an_older_version_can_be_made_again(tmp_path, adapt):
    old = tmp_path / "old"
    old.mkdir()
    config = {"format": 1, "backbone": {"architecture": "ViT-B-32"}, "stop": {"eta": 3}}
    (old / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileExists, match="--force"):
        adapt(old)
    adapt(old, force=True, epochs=1)
    assert config_of(old)["format"] == 2


def test_resume_never_touches_a_model_that_holds_no_run(tmp_path, adapt, toy):
    """A model that was downloaded, say: there is nothing to go on with, and nothing is overwritten."""
    model = tmp_path / "downloaded"
    shutil.copytree(toy, model)
    before = {p.name: p.read_bytes() for p in model.iterdir()}
    with pytest.raises(FileExists, match="no run to resume"):
        adapt(model, resume=True)
    assert {p.name: p.read_bytes() for p in model.iterdir()} == before


def test_a_forced_run_leaves_nothing_of_the_old_model(tmp_path, adapt, toy, labelled):
    old = write_model(tmp_path / "out", stop=StopConfig(regions=0.25, eta=2, hidden=16), seed=7)
    assert file_hash(old / "backbone.safetensors") != file_hash(toy / "backbone.safetensors")
    (old / "old.safetensors").write_bytes((old / "backbone.safetensors").read_bytes())
    config = config_of(old)
    config["backbone"]["weights"] = "file:old.safetensors"
    (old / "config.json").write_text(json.dumps(config))
    adapt(old, force=True, epochs=2)
    assert file_hash(old / "backbone.safetensors") == file_hash(toy / "backbone.safetensors")
    assert not (old / "old.safetensors").exists()


def test_a_forced_run_that_cannot_begin_leaves_the_old_model(tmp_path, labelled, toy):
    old = write_model(tmp_path / "out", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    before = {p.name: file_hash(p) for p in old.iterdir()}
    (labelled / "faulty.csv").write_text("path,label\nnowhere.mp4,a\n0.mp4,b\n1.mp4,b\n")
    with pytest.raises(Exception, match=r"no file nowhere\.mp4"):
        train(labelled / "faulty.csv", toy, old, more={"force": True})
    with pytest.raises(UsageError, match="choose another -o"):
        train(labelled / "data.csv", old, old, more={"force": True})
    assert {p.name: file_hash(p) for p in old.iterdir()} == before


def test_two_runs_never_share_a_folder(tmp_path, adapt):
    with alone(tmp_path / "out"), pytest.raises(OutputBusy, match=r"out: process \d+ on .* is writing it"):
        adapt(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_backbone_is_recorded_and_looked_at(tmp_path, adapt, toy):
    adapt(tmp_path / "out", epochs=2)
    own = tmp_path / "out" / "backbone.safetensors"
    assert config_of(tmp_path / "out")["backbone"]["sha256"] == file_hash(toy / "backbone.safetensors")
    own.write_bytes((write_model(tmp_path / "other", seed=9) / "backbone.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not the backbone that"):
        resolve(str(tmp_path / "out"))


def test_a_model_made_by_a_command_that_is_no_text_can_be_loaded(tmp_path, labelled, toy):
    command = "stop finetune bad\udcff.csv"  # what Python makes of a name that is not UTF-8
    train(labelled / "data.csv", toy, tmp_path / "out", more={"command": command}, epochs=2)
    assert read_config(tmp_path / "out").extra["training"]["command"] == command
    publishable(tmp_path / "out")


def test_what_there_is_of_other_modes_is_kept_and_told(tmp_path, labelled, adapt):
    from safetensors.numpy import load_file

    adapt(tmp_path / "both", epochs=2)
    before = load_file(tmp_path / "both" / "model.safetensors")
    on = "prompts were kept"
    for name, modes, note in (
        ("no spatial", {"spatial": "off"}, f"temporal {on}"),
        ("static", {"temporal": "static"}, f"spatial {on}, temporal prompts start from scratch"),
        ("frame", {"attention": "frame"}, f"spatial {on}, temporal {on}"),
    ):
        _, told = adapt(tmp_path / name, epochs=1, lr=1e-9, model=tmp_path / "both", **modes)
        assert told.notes == [f"{tmp_path / 'both'}: {note}"]
        after = load_file(tmp_path / name / "model.safetensors")
        same = {n for n in after.keys() & before.keys() if np.allclose(after[n], before[n], atol=1e-6)}
        assert same == after.keys() & before.keys() != set()
        assert config_of(tmp_path / name)["stop"] | modes == config_of(tmp_path / name)["stop"]


def test_the_reported_score_is_what_classify_answers(tmp_path, labelled, toy):
    """In bf16 too: training computes in fp32 weights and bf16 products, other commands in bf16 alone."""
    low = EncoderOptions("cpu", "bf16")
    options = FinetuneOptions(epochs=4)
    result = finetune(
        lambda: resolve(str(toy)), labelled / "data.csv", tmp_path / "out", Recorder(), options, low
    )
    held_out = with_validation(read_dataset(labelled / "data.csv"), 0).of("val")
    encoder = Encoder(resolve(str(tmp_path / "out")), low)
    answers = [answer.scores[0].label for answer in classify(encoder, [row.path for row in held_out])]
    right = sum(answer == row.text for answer, row in zip(answers, held_out, strict=True))
    assert result.validation == pytest.approx(100 * right / len(held_out))


def test_a_model_keeps_by_content_what_it_was_trained_on(tmp_path, labelled, adapt):
    adapt(tmp_path / "out", epochs=0)
    seen = read_seen(tmp_path / "out")
    rows = with_validation(read_dataset(labelled / "data.csv"), 0)
    assert all(seen.has(row.clip) for row in rows.of("train"))
    assert not any(seen.has(row.clip) for row in rows.of("val"))
    assert ".mp4" not in (tmp_path / "out" / "trained-on.txt").read_text()


def test_other_modes_are_taken(tmp_path, adapt):
    for mode in ("static", "off"):
        adapt(tmp_path / mode, epochs=2, temporal=mode)
        assert config_of(tmp_path / mode)["stop"]["temporal"] == mode
    with pytest.raises(UsageError, match="nothing to train"):
        adapt(tmp_path / "none", spatial="off", temporal="off")
    with pytest.raises(UsageError, match="nothing to train"):
        adapt(tmp_path / "none", spatial="off", model=tmp_path / "off")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": -1}, "--epochs must be at least 0, got -1"),
        ({"shots": -2}, "--shots must be at least 1"),
        ({"lr": 2.0}, "--lr must be above 0 and at most 1, got 2"),
        ({"batch_size": 1}, "--batch-size must be auto or between 2 and 65536, got 1"),
        ({"template": "a video"}, "--template must hold"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"seed": 20_261_127_120_000}, "--seed must be at most 4294967295, got 20261127120000"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        FinetuneOptions(**options)


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, adapt, labelled, toy):
    settings = {"epochs": 4, "batch_size": 4}
    adapt(tmp_path / "whole", **settings)
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        adapt(out, Interrupting(7), **settings)
    assert (out / STATE_FILE).exists()
    for changed, words in (
        ({"lr": 0.5}, "lr was 0.001, now 0.5"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"temporal": "static"}, "temporal was 'dynamic', now 'static'"),
    ):
        with pytest.raises(UsageError, match=words):
            adapt(out, resume=True, **settings | changed)
    other = write_model(tmp_path / "other", stop=StopConfig(regions=0.25, eta=2, hidden=16), seed=7)
    with pytest.raises(UsageError, match="the model to start from was"):
        adapt(out, resume=True, model=other, **settings)
    _, told = adapt(out, resume=True, **settings)
    assert told.plans[0].resumed == 7
    assert told.plans[0].seconds > 0
    assert [r.step for r in told.reports] == list(range(8, 13))
    for name in ("model.safetensors", "backbone.safetensors"):
        assert file_hash(out / name) == file_hash(tmp_path / "whole" / name)
    assert logged_steps(out) == list(range(1, 13))
    assert not (out / STATE_FILE).exists()


@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("place", ["evaluate", "write_model"])
def test_ctrl_c_in_the_middle_of_a_validation_loses_nothing(tmp_path, adapt, monkeypatch, place, epochs):
    """While clips are scored, and while the model is written."""
    settings = {"epochs": epochs, "batch_size": 4}
    adapt(tmp_path / "whole", **settings)
    owner = Judge if place == "evaluate" else RunFolder
    real, calls = getattr(owner, place), []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2 - (place == "write_model"):  # plain CLIP is scored before the first step
            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                adapt(tmp_path / "broken", **settings)
    finally:
        signal.signal(signal.SIGINT, before)
    _, told = adapt(tmp_path / "broken", resume=True, **settings)
    assert told.plans[0].resumed == 3
    written = [json.loads(line) for line in (tmp_path / "broken" / METRICS_FILE).read_text().splitlines()]
    assert [line["step"] for line in written if "validation" in line] == list(range(3, 3 * epochs + 1, 3))
    for name in ("model.safetensors", "backbone.safetensors"):
        assert file_hash(tmp_path / "broken" / name) == file_hash(tmp_path / "whole" / name)


def test_a_finished_run_answers_without_training_or_loading(tmp_path, adapt, labelled):
    first, _ = adapt(tmp_path / "out", epochs=2)

    def never():
        raise AssertionError("the model is not needed")

    from stopcli.train.finetune import finetune

    told = Recorder()
    assert finetune(never, labelled / "data.csv", tmp_path / "out", told, resume=True) == first
    assert "finished already" in told.notes[0]
    assert not told.plans
    assert not told.clips


def test_a_loss_that_is_no_number_stops_with_the_best_weights_kept(tmp_path, adapt, monkeypatch):
    real = Trainer.gradients

    def gradients(self, *arguments):
        return real(self, *arguments) * (float("nan") if self.step_number == 8 else 1.0)

    monkeypatch.setattr(Trainer, "gradients", gradients)
    told = Recorder()
    with pytest.raises(TrainingDiverged, match="became nan at step 9"):
        adapt(tmp_path / "out", told, epochs=20, batch_size=4)
    assert [r.step for r in told.reports] == list(range(1, 9))
    from stopcli.model.loading import load_model

    load_prompts(load_model(resolve(str(tmp_path / "out"))), tmp_path / "out")
    assert config_of(tmp_path / "out")["metrics"]["validation"]["top-1"] == told.reports[-1].best


def test_shots_and_flips_follow_the_labels(tmp_path, adapt, labelled):
    _, told = adapt(tmp_path / "few", epochs=2, shots=2)
    assert told.plans[0].clips["train"] == 4
    assert told.plans[0].flip
    text = (labelled / "data.csv").read_text()
    (labelled / "handed.csv").write_text(text.replace("opening", "going left"))
    _, told = train(labelled / "handed.csv", tmp_path / "few", tmp_path / "handed", epochs=2)
    assert not told.plans[0].flip
