"""One step: gradients of pieces are those of the whole, states are exact, draws are fair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelled_clips import CPU, gradients, toy_trainer
from stopcli.data.seen import Seen
from stopcli.data.table import read_dataset
from stopcli.errors import CheckpointError, UsageError
from stopcli.eval.metrics import cross_entropy
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder
from stopcli.train.batches import Batches, ClipReader, Schedule
from stopcli.train.losses import class_loss, contrastive_loss
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import RunFolder
from stopcli.train.trainer import State
from stopcli.video.cache import FrameCache


@pytest.fixture
def one_thread():
    """Sum alike whatever the size of a batch: else the last digit decides a tie between two prompts' counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_pieces_give_the_gradient_of_the_whole_batch(toy, labelled, tmp_path, by_class, dropout, one_thread):
    sizes = (4, 4) if dropout else (12, 5)  # with dropout pieces of equal size, or the draws differ
    (a, first), (b, second) = (
        gradients(*toy_trainer(toy, labelled, tmp_path, batch=size, by_class=by_class, dropout=dropout))
        for size in sizes
    )
    assert a == pytest.approx(b, abs=1e-6)
    for name in first:
        scale = first[name].abs().max().clamp_min(1e-3)
        assert torch.allclose(first[name] / scale, second[name] / scale, atol=1e-5), name


def test_a_batch_that_did_not_fit_counts_once(toy, labelled, tmp_path, monkeypatch):
    _, whole = gradients(*toy_trainer(toy, labelled, tmp_path, batch=6))
    trainer, batches = toy_trainer(toy, labelled, tmp_path, batch=6)
    real, calls = trainer.encoder.forward, []

    def forward(pixels):
        calls.append(len(pixels))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return real(pixels)

    monkeypatch.setattr(trainer.encoder, "forward", forward)
    _, again = gradients(trainer, batches)
    assert calls == [6, 6, 3, 3, 3, 3]
    for name in whole:
        assert (whole[name] - again[name]).abs().max() < 1e-5, name


def test_a_state_takes_training_up_to_the_same_bits(toy, labelled, tmp_path):
    first, batches = toy_trainer(toy, labelled, tmp_path, batch=12, dropout=0.2)
    first.step(*batches.load(0))
    first.save_state(tmp_path / "state.pt", {"note": "mine"})
    state = State.read(tmp_path / "state.pt")
    assert (state.step, state.values) == (1, {"note": "mine"})
    second, _ = toy_trainer(toy, labelled, tmp_path, batch=12, dropout=0.2)
    second.restore(state)
    for trainer in (first, second):
        trainer.step(*batches.load(1))
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter, second.parameters[name]), name


def test_a_state_that_is_damaged_or_of_other_prompts_is_refused(toy, labelled, tmp_path):
    trainer, _ = toy_trainer(toy, labelled, tmp_path, batch=12)
    file = tmp_path / "state.pt"
    trainer.save_state(file, {})
    state = State.read(file)
    state.weights.popitem()
    with pytest.raises(CheckpointError, match="start over with --force"):
        trainer.restore(state)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        State.read(file)


def test_the_best_weights_are_loaded_where_the_parameters_are(toy, labelled, tmp_path):
    trainer, _ = toy_trainer(toy, labelled, tmp_path, batch=12)
    places = {name: p.data_ptr() for name, p in trainer.parameters.items()}
    folder = RunFolder(tmp_path / "out")
    folder.begin(0, trainer.encoder.files.config, (), Seen())
    folder.write_model(trainer.encoder.files.config, trainer.encoder.model, trainer.encoder.files)
    best = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    with torch.no_grad():
        for parameter in trainer.parameters.values():
            parameter.add_(1)
    folder.load_best(trainer.encoder.model)
    for name, parameter in trainer.encoder.model.prompts.named_parameters():
        assert parameter.data_ptr() == places[name]
        assert torch.equal(parameter, best[name])


def test_the_loss_of_training_is_the_loss_of_validation():
    rng = np.random.default_rng(0)
    videos, classes = (torch.tensor(rng.normal(size=(n, 8)), dtype=torch.float32) for n in (6, 3))
    truth = torch.tensor([0, 1, 2, 2, 1, 0])
    mean = class_loss(videos, classes, truth, 5.0) / len(truth)
    logits = (5.0 * videos @ classes.T).numpy()
    assert float(mean) == pytest.approx(cross_entropy(logits, truth.numpy()), rel=1e-5)


def test_clips_with_the_same_caption_are_no_negatives_of_each_other():
    videos = torch.eye(3)
    captions = torch.stack([videos[0], videos[0], videos[2]])
    same = contrastive_loss(videos, captions, torch.tensor([0, 0, 1]), 10.0)
    other = contrastive_loss(videos, captions, torch.tensor([0, 1, 2]), 10.0)
    assert same < other


def test_classes_are_drawn_equally_often(labelled, toy, tmp_path):
    rows = read_dataset(labelled / "data.csv").of("train")
    few = [r for r in rows if r.text == "opening"] + [r for r in rows if r.text == "closing"][:1]
    encoder = Encoder(resolve(str(toy)), CPU, trainable=True)
    reader = ClipReader(FrameCache(tmp_path), encoder.frames, encoder.framing)
    batches = Batches(few, Schedule(50, 1, 7, 1e-3, 0), reader, by_class=True, flip=False, color=False)
    drawn = [r.text for epoch in range(50) for r in batches.epoch(epoch)]
    assert 0.4 < drawn.count("closing") / len(drawn) < 0.6


def test_an_epoch_is_drawn_once(labelled, toy, tmp_path, monkeypatch):
    rows = read_dataset(labelled / "data.csv").of("train")
    encoder = Encoder(resolve(str(toy)), CPU, trainable=True)
    reader = ClipReader(FrameCache(tmp_path), encoder.frames, encoder.framing)
    drawn = []
    epoch = Batches.epoch
    monkeypatch.setattr(Batches, "epoch", lambda self, n: drawn.append(n) or epoch(self, n))
    batches = Batches(rows, Schedule(3, 6, 2, 1e-3, 0), reader, by_class=True, flip=False, color=False)
    seen = [[row.path.name for row in batches.load(step)[0]] for step in range(18)]
    assert drawn == [0, 1, 2]
    assert [name for names in seen[:6] for name in names] == [r.path.name for r in epoch(batches, 0)]


@pytest.mark.parametrize(
    ("task", "clips", "processes", "steps"),
    [
        ("classification", 10, 1, 3),
        ("classification", 9, 1, 3),  # a last batch of one
        ("retrieval", 9, 1, 2),  # which teaches nothing by contrast
        ("classification", 9, 2, 2),  # nor can it be shared
        ("classification", 3, 1, 1),
    ],
)
def test_a_last_batch_is_taken_where_it_can_be_used(monkeypatch, task, clips, processes, steps):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    schedule = Schedule.plan(task, clips, FinetuneOptions(batch_size=4))
    assert schedule.steps_per_epoch == steps


def test_more_processes_than_clips_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UsageError, match="a batch of 4 clips cannot be shared by 8 processes"):
        Schedule.plan("classification", 100, FinetuneOptions(batch_size=4))
