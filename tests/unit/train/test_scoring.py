"""How sure a score is, when a training is over, what is kept of the model before, and what to do next."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from conftest import write_model
from labelled_clips import CPU, Killed, Recorder, table, train
from stopcli.errors import UsageError
from stopcli.eval.metrics import share_interval
from stopcli.hub.registry import resolve
from stopcli.model.config import read_config
from stopcli.runtime.encoder import Encoder
from stopcli.train.batches import recolored
from stopcli.train.finetune import plan
from stopcli.train.history import History, Pace
from stopcli.train.options import FinetuneOptions
from stopcli.train.run import FinetuneRun


class Dying(Recorder):
    """A process that is killed in the second fold."""

    def noted(self, note):
        super().noted(note)
        if note.startswith("fold 2"):
            raise Killed


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, count, low, high in (
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ):
        hits = np.arange(count) < right
        assert share_interval(hits) == pytest.approx((low, high), abs=0.011)


def test_clips_of_one_group_count_for_fewer():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10).tolist()
    alike, apart = np.repeat(rng.random(20) < 0.5, 10), rng.random(200) < 0.5
    width = lambda pair: pair[1] - pair[0]  # noqa: E731
    assert width(share_interval(alike, groups)) > 2.5 * width(share_interval(alike))
    assert width(share_interval(apart, groups)) < 1.4 * width(share_interval(apart))
    # one group is one witness, and few of them are not as sure as many clips make them look
    assert share_interval(np.arange(100) > 0, ["a"] * 100)[0] < 21
    assert width(share_interval(np.arange(150) < 100, np.repeat([1, 2, 3], 50).tolist())) > 70
    # all right says no more than that each group was
    assert share_interval(np.ones(200, bool), groups) == share_interval(np.ones(20, bool))


def test_a_training_is_over_when_nothing_is_gained_for_a_quarter_of_it():
    history = History()
    for step, score, loss in ((10, 50, 1.0), (20, 75, 0.6), (30, 75, 0.595), (40, 75, 0.58), (50, 70, 0.3)):
        history.validated(step, score, loss)
    assert (history.best, history.best_step) == (75, 40)
    assert history.gained_step == 40  # 0.02 less at the same score; 30 brought too little
    for step in (64, 65):
        history.validated(step, 70, 0.3)
    assert history.settled(64, 100) is None
    assert history.settled(65, 100) == 25
    assert history.settled(80, 100) is None  # not at a validation
    assert History().settled(99, 100) is None  # nothing is held out


def test_the_time_that_is_left_counts_validations():
    pace = Pace(2.0)
    for seconds in (9.0, 1.0, 1.0, 1.0):  # the first step is slow
        pace.step(seconds)
    assert pace.left(10, 3) == 16
    pace.validation(4.0)
    assert pace.left(10, 3) == 22


def test_training_ends_early_unless_its_length_is_said(labelled, toy, tmp_path):
    flat = {"lr": 1e-9, "head": "text"}  # nothing can be gained
    result, told = train(labelled / "data.csv", toy, tmp_path / "early", **flat)
    assert told.reports[-1].settled >= 75
    assert result.steps == told.reports[-1].step < told.reports[-1].steps == 300
    assert told.reports[-1].seconds_left > 0
    result, told = train(labelled / "data.csv", toy, tmp_path / "late", epochs=24, **flat)
    assert result.steps == 24
    assert all(report.settled is None for report in told.reports)


def test_held_out_clips_are_listed_mistakes_first(labelled, toy, tmp_path):
    result, _ = train(labelled / "data.csv", toy, tmp_path / "out", epochs=2)
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    right = [row["label"] == row["predicted"] for row in rows]
    assert right == sorted(right)
    assert 100 * sum(right) / len(rows) == result.validation
    assert {row["split"] for row in rows} == {"val"}
    low, high = result.validation_interval
    assert low < result.validation <= high or result.validation == 0 == low


def test_a_plan_writes_nothing_and_trains_nothing(labelled, toy, tmp_path):
    before = resolve(str(toy)).weights_hash()
    told = plan(lambda: resolve(str(toy)), labelled / "data.csv", tmp_path / "out", Recorder(), None, CPU)
    assert (told.steps, told.classes, told.clips["train"], told.clips["val"]) == (300, 2, 12, 4)
    assert not (tmp_path / "out").exists()
    assert resolve(str(toy)).weights_hash() == before


def test_folds_judge_every_clip_once_and_go_on_where_they_were_killed(labelled, toy, tmp_path):
    text = (labelled / "data.csv").read_text().replace(",val", ",").replace(",train", ",")
    source = table(labelled, text, "folds.csv")
    settings = {"epochs": 1, "folds": 4, "head": "text"}
    whole, told = train(source, toy, tmp_path / "whole", **settings)
    assert (whole.cross_validation.clips, whole.cross_validation.folds) == (16, 4)
    assert [n.split(":")[0] for n in told.notes] == [f"fold {i} of 4" for i in range(1, 5)]
    low, high = whole.cross_validation.interval
    assert low < whole.cross_validation.score < high or whole.cross_validation.score in (0, 100)
    assert not (tmp_path / "whole" / ".folds").exists()
    with pytest.raises(Killed):
        train(source, toy, tmp_path / "cut", Dying(), **settings)
    again, told = train(source, toy, tmp_path / "cut", more={"resume": True}, **settings)
    assert again.cross_validation == whole.cross_validation
    assert len(told.plans) == 4  # three folds that were left, and the model itself


def test_a_run_that_starts_over_is_not_taken_for_the_old_one(labelled, toy, tmp_path):
    text = (labelled / "data.csv").read_text().replace(",val", ",").replace(",train", ",")
    source, out = table(labelled, text, "over.csv"), tmp_path / "out"
    train(source, toy, out, epochs=1)
    settings = {"epochs": 1, "folds": 4, "head": "text", "seed": 5}
    with pytest.raises(Killed):
        train(source, toy, out, Dying(), more={"force": True}, **settings)
    with pytest.raises(UsageError, match=r"lr was 0\.001, now 0\.01"):  # before any fold is lost
        train(source, toy, out, more={"resume": True}, **settings | {"lr": 0.01})
    result, _ = train(source, toy, out, more={"resume": True}, **settings)
    assert result.cross_validation.folds == 4
    assert json.loads((out / "config.json").read_text())["training"]["settings"]["seed"] == 5


def test_a_plan_says_what_keeps_the_output_from_being_written(labelled, toy, tmp_path, monkeypatch):
    what = (lambda: resolve(str(toy)), labelled / "data.csv")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    told = Recorder()
    assert plan(*what, tmp_path / "full", told, None, CPU).clips["train"] == 12
    assert any("full: is not empty and holds no run; choose another -o" in note for note in told.notes)
    planned = FinetuneRun.plan
    monkeypatch.setattr(FinetuneRun, "plan", lambda run, **more: replace(planned(run, **more), seconds=10.0))
    once = plan(*what, tmp_path / "out", Recorder(), FinetuneOptions(epochs=100), CPU)
    often = plan(*what, tmp_path / "out", Recorder(), FinetuneOptions(epochs=100, folds=5), CPU)
    assert (once.seconds, often.seconds) == (10.0, 60.0)  # five folds, and the model itself


def test_a_run_resumed_between_validations_goes_on_to_the_next(labelled, toy, tmp_path):
    """It may have gained nothing for long enough, but that is asked at a validation."""
    flat = {"lr": 1e-9, "head": "text"}

    class Stopping(Recorder):
        def progress(self, report):
            super().progress(report)
            if report.step == 85:  # validations are every 12 steps
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(labelled / "data.csv", toy, tmp_path / "out", Stopping(), **flat)
    _, told = train(labelled / "data.csv", toy, tmp_path / "out", more={"resume": True}, **flat)
    assert told.reports[-1].settled
    assert told.reports[-1].step % 12 == 0
    assert told.reports[0].step == 86


def test_captions_cannot_be_divided(labelled, toy, tmp_path):
    source = table(labelled, "path,caption\n0.mp4,a\n1.mp4,b\n2.mp4,c\n", "captions.csv")
    with pytest.raises(UsageError, match="--folds needs labels"):
        train(source, toy, tmp_path / "out", folds=2)


def test_new_prompts_keep_plain_clip_beside_them(labelled, toy, tmp_path):
    files = resolve(str(toy))
    encoder = Encoder(files, CPU)
    pixels = np.random.default_rng(0).integers(0, 255, (2, encoder.frames, 64, 64, 3), np.uint8)
    pixels = pixels[:, :, : encoder.framing.size, : encoder.framing.size]
    tuned, plain = encoder.encode_pixels(pixels), encoder.without_prompts().encode_pixels(pixels)
    for share in (0.0, 0.3, 1.0):
        stop = encoder.model.config
        encoder.model.config = type(stop)(**{**vars(stop), "plain": share})
        mixed = (1 - share) * tuned + share * plain
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        assert encoder.encode_pixels(pixels) == pytest.approx(mixed, abs=1e-5)


def test_what_is_kept_is_in_the_model_and_told(labelled, toy, tmp_path):
    """From plain CLIP the mixture is a setting; from trained prompts it is in the weights."""
    settings = {"epochs": 2, "keep_zero_shot": True, "head": "text"}
    plain = write_model(tmp_path / "plain", stop=None)
    result, told = train(labelled / "data.csv", plain, tmp_path / "new", **settings)
    assert read_config(tmp_path / "new").stop.plain == result.zero_shot
    assert len([n for n in told.notes if "of the old model mixed in" in n]) == 6
    assert 0 <= result.other_labels <= 100
    result, _ = train(labelled / "data.csv", toy, tmp_path / "more", **settings)
    assert read_config(tmp_path / "more").stop.plain == 0
    assert (
        json.loads((tmp_path / "more" / "config.json").read_text())["training"]["zero_shot"]
        == result.zero_shot
    )


def test_weights_that_did_not_change_name_everything_as_before(labelled, toy, tmp_path):
    """Whatever template the new model got, and in which precision it is run."""
    settings = {"epochs": 1, "lr": 1e-9, "head": "text", "template": "{} it is"}
    for keep in (False, True):
        result, _ = train(labelled / "data.csv", toy, tmp_path / f"{keep}", keep_zero_shot=keep, **settings)
        assert result.other_labels == 100


def test_no_better_than_guessing_is_said_with_what_to_do(labelled, toy, tmp_path):
    result, _ = train(labelled / "data.csv", toy, tmp_path / "out", epochs=1, lr=1e-9, head="text")
    assert "cannot be distinguished from guessing (50 %)" in result.advice[0]
    assert "clips a label" in result.advice[1]


def test_colors_vary_alike_in_all_frames_and_greys_stay_grey():
    frames = np.full((3, 4, 4, 3), 100, np.uint8)
    frames[:, 0, 0] = (200, 50, 50)
    seen = {recolored(frames, np.random.default_rng(i)).tobytes() for i in range(4)}
    assert len(seen) == 4
    out = recolored(frames, np.random.default_rng(1)).astype(int)
    assert (out == out[0]).all()
    assert (np.ptp(out[:, 1:], axis=-1) == 0).all()
    assert (np.ptp(out[:, 0, 0], axis=-1) > 0).all()


@pytest.mark.parametrize(
    ("labels", "color", "flip"),
    [
        (("a red car", "a blue car"), False, True),
        (("turning left", "jumping"), True, False),
        (("car_red", "carBlue"), False, True),
        (("turn_left", "jump"), True, False),
        (("TurnClockwise", "jump"), True, False),
        (("bright idea", "leftover"), False, False),
        (("cleft", "uprightness"), True, True),
        (("läuft links", "springt"), True, False),
        (("saute", "tourne à droite"), True, False),
        (("向左走", "跳"), True, False),
    ],
)
def test_what_a_label_names_is_not_varied(labelled, toy, tmp_path, labels, color, flip):
    text = "path,label\n" + "".join(f"{i}.mp4,{labels[i % 2]}\n" for i in range(8))
    told = plan(
        lambda: resolve(str(toy)), table(labelled, text, "named.csv"), tmp_path / "o", Recorder(), None, CPU
    )
    assert (told.color, told.flip) == (color, flip)
    options = FinetuneOptions(color=True, flip=True)
    told = plan(lambda: resolve(str(toy)), labelled / "named.csv", tmp_path / "o", Recorder(), options, CPU)
    assert told.color
    assert told.flip


def test_shares_of_plain_clip_are_checked_on_loading(toy):
    stop = read_config(toy).stop
    for wrong in (-0.1, 1.5, "x", True, float("nan")):
        with pytest.raises(ValueError, match="plain"):
            type(stop)(**{**vars(stop), "plain": wrong})


def test_labels_of_few_files_are_named(labelled, toy, tmp_path):
    """Of them, a search is as sure of anything: nobody knows how they look elsewhere."""
    lines = [f"{i % 2 + 2 * (i < 8)}.mp4,{'ab'[i % 2]},{i / 8:.3f},{i / 8 + 0.5:.3f}" for i in range(16)]
    few = table(labelled, "\n".join(["path,label,start,end", *lines]), "few.csv")
    for source, warned in ((few, True), (labelled / "data.csv", False)):
        _, told = train(source, toy, tmp_path / source.stem, epochs=0, head="prototype")
        assert any("a, b: clips of fewer than 3 files" in note for note in told.notes) == warned, told.notes
