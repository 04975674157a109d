"""Every command on towers of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import toy_words
from conftest import write_video
from stopcli.hub.publish import publishable
from stopcli.model.checkpoint import build_backbone, save
from stopcli.model.config import ModelConfig
from timm_toys import TEXT, backbone_of, settings_of, timm

CPU = ("--device", "cpu", "--precision", "fp32")
PLAIN_ONLY = {
    "ResNet": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64},
    "FastViT": timm("fastvit_t8", "avg", "linear") | {"image_size": 64},
}


def write(folder: Path, settings: dict, backbone=None, words=None) -> Path:
    backbone = backbone or build_backbone("toy", settings)
    folder.mkdir()
    if words:
        (folder / "tokenizer").mkdir()
        words(folder / "tokenizer")
    state = {k: v.contiguous() for k, v in backbone.clip.state_dict().items()}
    save_file(state, folder / "backbone.safetensors")
    look = {"fit": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
    save(
        folder,
        ModelConfig("toy", "file:backbone.safetensors", None, 4, None, settings, preprocess=look),
        None,
    )
    return folder


@pytest.fixture
def table(tmp_path):
    names = ("x", "y", "z", "w")
    for i, name in enumerate(names):
        write_video(tmp_path / f"{name}.mp4", frames=8 + 4 * i)
    rows = "".join(f"{name}.mp4,{'dog' if i < 2 else 'cat'}\n" for i, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}")
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    "name", ["class token", "CLIPA", "CoCa", "MobileCLIP", "SigLIP", "EVA-02", "PE-Core"]
)
def test_a_tower_serves_every_command(name, run, run_json, table, tmp_path):
    model = write(tmp_path / "model", settings_of(name), backbone_of(name))
    clip, where = tmp_path / "x.mp4", ("-m", model, *CPU)
    status, told = run_json("classify", clip, *where, "--labels", "a dog,a cat")
    assert (status, len(told["data"][0]["scores"])) == (0, 2)
    assert run("retrieve", "a dog", tmp_path, "--min-confidence", "0", *where)[0] == 0
    status, told = run_json("explain", clip, *where, "--focus", "motion", "-o", tmp_path / "focus.png")
    assert status == 0, told
    done = run("finetune", table, *where, "-o", tmp_path / "tuned", "--epochs", "2")
    assert done[0] == 0, done[2]
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["backbone"]["preprocess"]["fit"] == "squash"
    status, told = run_json("classify", clip, "-m", tmp_path / "tuned", *CPU)
    assert {s["label"] for s in told["data"][0]["scores"]} == {"dog", "cat"}
    done = run("explain", clip, "-m", tmp_path / "tuned", *CPU, "-o", tmp_path / "tuned.png")
    assert done[0] == 0, done[2]
    assert (tmp_path / "tuned.png").stat().st_size > 5000


@pytest.mark.parametrize("name", PLAIN_ONLY)
def test_a_tower_without_blocks_is_plain_and_says_so(name, run, run_json, table, tmp_path):
    torch.manual_seed(0)
    settings = {"embed_dim": 32, "vision_cfg": PLAIN_ONLY[name], "text_cfg": TEXT, "custom_text": True}
    model = write(tmp_path / "model", settings)
    where = ("-m", model, *CPU)
    status, told = run_json("classify", tmp_path / "x.mp4", *where, "--labels", "a dog,a cat")
    assert (status, len(told["data"][0]["scores"])) == (0, 2)
    for arguments in (
        ("finetune", table, *where, "-o", tmp_path / "tuned"),
        ("classify", tmp_path / "x.mp4", *where, "--labels", "a,b", "--focus", "motion"),
        ("explain", tmp_path / "x.mp4", *where, "-o", tmp_path / "x.png", "--focus", "motion"),
    ):
        status, _, err = run(*arguments)
        assert (status, "(no ViT blocks); 'stop models towers' lists those that can" in err) == (2, True), err
    assert f"{name} (no prompts: no ViT blocks)" in run("models", "info", model)[1]


def test_a_tokenizer_of_its_own_comes_along(run, run_json, table, tmp_path):
    settings = settings_of("SigLIP")
    settings["text_cfg"] = TEXT | {"vocab_size": 300, "hf_tokenizer_name": "some/one", "no_causal_mask": True}
    model = write(tmp_path / "model", settings, words=toy_words.siglip2)
    where = ("-m", model, *CPU)
    assert run("finetune", table, *where, "-o", tmp_path / "tuned", "--epochs", "1")[0] == 0
    (model / "tokenizer" / "tokenizer.json").unlink()
    status, told = run_json("classify", tmp_path / "x.mp4", "-m", tmp_path / "tuned", *CPU)
    assert (status, len(told["data"])) == (0, 1)


def test_another_model_in_the_same_folder_brings_its_own_tokenizer(run, table, tmp_path):
    models = []
    for name, words in (("a", toy_words.siglip2), ("b", toy_words.bert)):
        settings = settings_of("SigLIP")
        settings["text_cfg"] = TEXT | {"vocab_size": 300, "hf_tokenizer_name": "some/one"}
        models.append(write(tmp_path / name, settings, words=words))
        arguments = ("finetune", table, "-m", models[-1], *CPU, "-o", tmp_path / "tuned", "--epochs", "1")
        done = run(*arguments, "--force")
        assert done[0] == 0, done[2]
    mine, theirs = (p / "tokenizer" / "tokenizer.json" for p in (tmp_path / "tuned", models[1]))
    assert mine.read_bytes() == theirs.read_bytes()
    names = publishable(tmp_path / "tuned", "mit")
    assert "tokenizer/tokenizer.json" in names
    (models[1] / "tokenizer" / "tokenizer_config.json").write_text("{}")  # no mark to pad with
    status, _, err = run("classify", tmp_path / "x.mp4", "-m", models[1], *CPU, "--labels", "a,b")
    assert (status, "not a tokenizer that can be used" in err, err.count("\n")) == (4, True, 1), err


def test_vectors_of_frames_made_in_another_way_are_not_added_to(run, table, tmp_path):
    model = write(tmp_path / "model", settings_of("SigLIP"), backbone_of("SigLIP"))
    arguments = ("embed", tmp_path / "x.mp4", "-m", model, *CPU, "-o", tmp_path / "v.npz")
    assert run(*arguments, "--fit", "pad")[0] == 0
    status, _, err = run(*arguments)
    assert (status, "was made with fit 'pad', now it is 'squash'" in err) == (3, True), err
    config = json.loads((model / "config.json").read_text())
    config["backbone"]["preprocess"]["mean"] = [0.4] * 3
    (model / "config.json").write_text(json.dumps(config))
    status, _, err = run(*arguments, "--fit", "pad")
    assert (status, "by a tower with other settings" in err) == (3, True), err


def test_a_run_is_not_resumed_on_other_frames(run, table, tmp_path, monkeypatch):
    from stopcli.train.trainer import Trainer

    model = write(tmp_path / "model", settings_of("SigLIP"), backbone_of("SigLIP"))
    arguments = ("finetune", table, "-m", model, *CPU, "-o", tmp_path / "tuned", "--epochs", "3")
    step = Trainer.step

    def interrupted(self, *batch):
        if self.step_number == 1:
            raise KeyboardInterrupt
        return step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        assert run(*arguments, "--fit", "pad")[0] == 130
    status, _, err = run(*arguments, "--resume", "--fit", "crop")
    assert (status, "the frames was" in err) == (2, True), err


def test_frames_fit_as_asked_and_a_note_says_what_the_tower_knows(run, run_json, table, tmp_path):
    model = write(tmp_path / "model", settings_of("SigLIP"), backbone_of("SigLIP"))
    where, cosines = ("-m", model, *CPU, "--labels", "a dog,a cat"), {}
    for fit in ("auto", "squash", "crop", "pad"):
        status, out, err = run("classify", tmp_path / "x.mp4", *where, "--fit", fit, "--format", "json")
        assert status == 0
        note = f"was trained on frames fitted by squash, not by {fit}"
        assert (note in err) == (fit in ("crop", "pad"))
        cosines[fit] = json.loads(out)["data"][0]["scores"][0]["cosine"]
    assert cosines["auto"] == cosines["squash"]
    assert len(set(cosines.values())) == 3
