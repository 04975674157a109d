"""What a training starts from and is resumed to: models that were trained before, runs that were cut short."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from conftest import write_model
from labelled_clips import CPU, Killed, Recorder, table, train, write_labelled
from stopcli.data.seen import read_seen
from stopcli.data.split import with_validation
from stopcli.data.table import read_dataset
from stopcli.errors import FileExists, UsageError
from stopcli.fileio import file_hash
from stopcli.hub.registry import resolve
from stopcli.model.config import read_config
from stopcli.runtime.encoder import EncoderOptions
from stopcli.train.finetune import finetune, load_trainable
from stopcli.train.options import FinetuneOptions
from stopcli.train.run_folder import BEST_FILE, STATE_FILE
from stopcli.train.scoring.conclusion import Conclusion


class Dying(Recorder):
    """A process that is killed after the first step."""

    def progress(self, report):
        super().progress(report)
        raise KeyboardInterrupt


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_classifier_learns_other_labels_than_its_own(labelled, toy, tmp_path, epochs):
    train(labelled / "data.csv", toy, tmp_path / "two", epochs=0, head="prototype")
    assert read_config(tmp_path / "two").head is not None
    names = ("rising", "sinking", "turning")
    lines = [f"{i}.mp4,{names[i % 3]},{'train' if i < 12 else 'val'}" for i in range(16)]
    three = table(labelled, "\n".join(["path,label,split", *lines]), "three.csv")
    result, _ = train(three, tmp_path / "two", tmp_path / "three", epochs=epochs)
    assert read_config(tmp_path / "three").labels == names
    assert result.validation is not None
    base = resolve(str(tmp_path / "two"))
    assert load_trainable(base, FinetuneOptions(epochs=epochs), CPU, Recorder()).head is None


@pytest.mark.parametrize("name", ["model.safetensors", "head.safetensors"])
def test_a_backbone_may_have_the_name_of_one_of_our_files(labelled, plain, tmp_path, name):
    """Prompts, or what was learned of the labels, were written over the copy of it."""
    base = tmp_path / "base"
    shutil.copytree(plain, base)
    (base / "backbone.safetensors").rename(base / name)
    config = json.loads((base / "config.json").read_text())
    config["backbone"]["weights"] = f"file:{name}"
    (base / "config.json").write_text(json.dumps(config))
    train(labelled / "data.csv", base, tmp_path / "out", epochs=1, head="prototype")
    assert file_hash(tmp_path / "out" / "backbone.safetensors") == file_hash(base / name)
    files = resolve(str(tmp_path / "out"))
    assert files.config.labels
    load_trainable(files, FinetuneOptions(epochs=1), CPU, Recorder())


def test_a_run_is_not_resumed_on_other_frames_or_other_clips(labelled, toy, tmp_path):
    def go(source, frames, *, resume):
        options = replace(CPU, frames=frames)
        finetune(
            lambda: resolve(str(toy)),
            source / "data.csv",
            tmp_path / "out",
            Recorder() if resume else Dying(),
            FinetuneOptions(epochs=2),
            options,
            resume=resume,
        )

    with pytest.raises(KeyboardInterrupt):
        go(labelled, 4, resume=False)
    with pytest.raises(
        UsageError, match="the frames was '4 of 64 px, crop, bicubic, exact', now '6 of 64 px,"
    ):
        go(labelled, 6, resume=True)
    (tmp_path / "other").mkdir()
    other = write_labelled(tmp_path / "other")
    (other / "1.mp4").write_bytes((labelled / "3.mp4").read_bytes())  # the same names, another clip
    with pytest.raises(UsageError, match="the clips was"):
        go(other, 4, resume=True)
    moved = tmp_path / "moved"
    other.rename(moved)
    (moved / "1.mp4").write_bytes((labelled / "1.mp4").read_bytes())
    go(moved, 4, resume=True)  # the same clips elsewhere
    assert not (tmp_path / "out" / STATE_FILE).exists()


def test_a_run_killed_when_its_model_is_mixed_is_mixed_once(labelled, toy, tmp_path, monkeypatch):
    settings = {"epochs": 2, "keep_zero_shot": True, "head": "text"}
    whole, _ = train(labelled / "data.csv", toy, tmp_path / "whole", **settings)
    assert whole.zero_shot > 0

    def killed(_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Conclusion, "draw", killed)
        with pytest.raises(Killed):
            train(labelled / "data.csv", toy, tmp_path / "cut", **settings)
    again, _ = train(labelled / "data.csv", toy, tmp_path / "cut", more={"resume": True}, **settings)
    assert again.zero_shot == whole.zero_shot
    assert file_hash(tmp_path / "cut" / "model.safetensors") == file_hash(
        tmp_path / "whole" / "model.safetensors"
    )
    assert not (tmp_path / "cut" / BEST_FILE).exists()


def test_a_finished_run_of_another_table_is_not_taken_for_this_one(tmp_path, toy, labelled):
    table = labelled / "other.csv"
    table.write_bytes((labelled / "data.csv").read_bytes())
    train(table, toy, tmp_path / "out", epochs=1)
    with table.open("a") as stream:
        stream.write("\n")
    with pytest.raises(
        UsageError, match=r"from other\.csv as it was then; with more labels, start from it: --model"
    ):
        train(table, toy, tmp_path / "out", more={"resume": True}, epochs=1)
    table.unlink()


def test_a_finished_model_is_not_replaced_by_resuming(labelled, toy, tmp_path):
    first, _ = train(labelled / "data.csv", toy, tmp_path / "out", epochs=0)
    kept = (tmp_path / "out" / "config.json").read_bytes()
    (tmp_path / "out" / "README.md").unlink()  # as some do who copy a model
    again, told = train(labelled / "data.csv", toy, tmp_path / "out", more={"resume": True}, epochs=0)
    assert again == first
    assert "finished already" in told.notes[0]
    lines = (labelled / "data.csv").read_text() + "\n"
    with pytest.raises(UsageError, match="made from another table"):
        train(table(labelled, lines, "else.csv"), toy, tmp_path / "out", more={"resume": True}, epochs=0)
    assert (tmp_path / "out" / "config.json").read_bytes() == kept


def test_a_log_beside_a_model_of_another_make_is_no_run(labelled, tmp_path):
    model = write_model(tmp_path / "model")
    (model / "metrics.jsonl").write_text('{"step": 1}\n')
    kept = file_hash(model / "config.json")
    with pytest.raises(FileExists, match="holds a model, but no run to resume"):
        train(labelled / "data.csv", write_model(tmp_path / "base"), model, more={"resume": True}, epochs=0)
    assert file_hash(model / "config.json") == kept


def test_what_a_killed_process_was_writing_is_removed(labelled, toy, tmp_path):
    with pytest.raises(Killed):
        train(labelled / "data.csv", toy, tmp_path / "run", Late(), epochs=8, batch_size=4)
    for name in (".confusion-78f3ea91be03.part.png", ".backbone-0123456789ab.part.safetensors"):
        (tmp_path / "run" / name).write_bytes(b"half")
    mine = tmp_path / "run" / ".notes.part"
    mine.write_text("mine")
    train(labelled / "data.csv", toy, tmp_path / "run", more={"resume": True}, epochs=8, batch_size=4)
    assert [f.name for f in (tmp_path / "run").glob("*.part*")] == [mine.name]


def test_a_run_is_not_resumed_in_another_precision(labelled, toy, tmp_path):
    def go(precision, *, resume):
        options = replace(CPU, precision=precision)
        told = Recorder() if resume else Late()
        source, settings = labelled / "data.csv", FinetuneOptions(epochs=8, batch_size=4)
        finetune(lambda: resolve(str(toy)), source, tmp_path / "out", told, settings, options, resume=resume)

    with pytest.raises(Killed):
        go("fp32", resume=False)
    with pytest.raises(UsageError, match="the precision was 'fp32', now 'bf16'"):
        go("bf16", resume=True)


def test_no_prompts_are_trained_where_all_labels_read_the_same(labelled, toy, tmp_path):
    lines = [
        f"{i}.mp4,{('salt & sea', 'salt &amp; sea')[i % 2]},{'train' if i < 12 else 'val'}" for i in range(16)
    ]
    same = table(labelled, "\n".join(["path,label,split", *lines]), "same.csv")
    result, told = train(same, toy, tmp_path / "spared", epochs=None)
    assert (result.steps, read_config(tmp_path / "spared").head is not None) == (0, True)
    assert "all labels read the same to this model, so that no prompts are trained" in " ".join(told.notes)
    result, told = train(same, toy, tmp_path / "all", epochs=1)
    assert result.steps > 0


class Late(Recorder):
    """A process that is killed after two validations."""

    def progress(self, report):
        super().progress(report)
        if report.step == 7:
            raise Killed


def test_a_run_without_its_hidden_state_is_not_started_over(labelled, toy, tmp_path):
    """As `cp -r run/*` copies it: what was learnt would be removed."""
    with pytest.raises(Killed):
        train(labelled / "data.csv", toy, tmp_path / "run", Late(), epochs=8, batch_size=4)
    (tmp_path / "run" / STATE_FILE).unlink()
    model = file_hash(tmp_path / "run" / "model.safetensors")
    with pytest.raises(FileExists, match=r"not the state of its run; copy \.state\.safetensors here too"):
        train(labelled / "data.csv", toy, tmp_path / "run", more={"resume": True}, epochs=8, batch_size=4)
    assert file_hash(tmp_path / "run" / "model.safetensors") == model


def test_prompts_that_were_all_kept_are_what_is_gone_back_to(labelled, toy, tmp_path):
    """Another kind of attention leaves every prompt as it was: no plain CLIP is mixed in."""
    settings = {"epochs": 2, "keep_zero_shot": True, "head": "text", "attention": "frame"}
    result, told = train(labelled / "data.csv", toy, tmp_path / "out", **settings)
    assert any("spatial prompts were kept, temporal prompts were kept" in note for note in told.notes)
    assert result.zero_shot > 0
    assert read_config(tmp_path / "out").stop.plain == 0


def test_a_model_whose_prompts_are_not_trained_keeps_them_to_the_byte(labelled, toy, tmp_path):
    where = EncoderOptions("cpu", "bf16")  # in which they would be others
    files = resolve(str(toy))
    options = FinetuneOptions(epochs=0)
    finetune(lambda: files, labelled / "data.csv", tmp_path / "out", Recorder(), options, where)
    assert file_hash(tmp_path / "out" / "model.safetensors") == file_hash(files.prompts)


def test_a_model_with_a_focus_is_not_adapted(labelled, tmp_path):
    files = resolve(str(write_model(tmp_path / "plain", stop=None))).focused(4.0)
    for epochs in (0, 1):
        with pytest.raises(UsageError, match="has a focus"):
            finetune(
                lambda: files,
                labelled / "data.csv",
                tmp_path / "out",
                Recorder(),
                FinetuneOptions(epochs=epochs),
                CPU,
            )


def test_clips_that_the_base_was_trained_on_judge_nothing(labelled, toy, tmp_path):
    train(labelled / "data.csv", toy, tmp_path / "first", epochs=0)
    seen = read_seen(tmp_path / "first")
    result, told = train(labelled / "data.csv", tmp_path / "first", tmp_path / "again", epochs=0)
    assert result.clips["val"] > 0
    held = [
        row for row in with_validation(read_dataset(labelled / "data.csv"), 0).rows if not seen.has(row.clip)
    ]
    assert result.clips["val"] <= len(held)
    assert not any("left out" in note for note in told.notes)
    rows = [
        f"{r.path.name},{r.text},{'val' if i // 2 % 2 else 'train'}"
        for i, r in enumerate(read_dataset(labelled / "data.csv").rows)
    ]
    given = table(labelled, "\n".join(["path,label,split", *rows]), "given.csv")
    known = sum(seen.has(row.clip) for row in read_dataset(given).of("val"))
    assert known > 0
    result, told = train(given, tmp_path / "first", tmp_path / "third", epochs=0)
    assert result.clips["val"] == len(read_dataset(given).of("val")) - known
    assert any(f"{known} clips for validation or test left out" in note for note in told.notes)
    with pytest.raises(UsageError, match="cannot be judged by them"):
        train(labelled / "data.csv", tmp_path / "first", tmp_path / "folds", epochs=0, folds=3)
