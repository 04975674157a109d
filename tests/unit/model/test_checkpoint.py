"""Model folders: what is written is read back, and what does not fit is refused by name."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import write_model
from stopcli.errors import CannotWrite, CheckpointError
from stopcli.hub.registry import resolve
from stopcli.model.checkpoint import build_backbone, save
from stopcli.model.config import ModelConfig, StopConfig, read_config
from stopcli.model.loading import load_model

STOP = StopConfig(regions=0.25, eta=2, hidden=16)


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model", stop=STOP, labels=("a dog", "a cat"))


def edit(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def load(folder):
    return load_model(resolve(str(folder)))


def test_a_model_comes_back_as_it_was(folder):
    config = read_config(folder)
    assert config.stop == STOP
    assert config.labels == ("a dog", "a cat")
    assert config.extra == {"license": "MIT"}
    assert ModelConfig.to_dict(config) == json.loads((folder / "config.json").read_text())
    model = load(folder)
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(v, saved[k]) for k, v in model.prompts.state_dict().items())


def test_a_full_disk_leaves_the_model_that_was_there(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    model, config = load(folder), read_config(folder)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CannotWrite, match="the disk is full"):
        save(folder, config, model)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_only_prompts_are_in_the_weights(folder):
    assert all(name.startswith(("sets.0.", "gamma")) for name in load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(format=3), "newer than this stopcli reads"),
        (lambda c: c.update(format=1), "format 1 holds prompts for an older STOP"),
        (lambda c: c.update(format="one"), '"format" number'),
        (lambda c: c.pop("backbone"), '"backbone" must be a dict'),
        (lambda c: c["backbone"].pop("weights"), r'"backbone\.weights" must be a str'),
        (lambda c: c["backbone"].update(weights="file:../x.safetensors"), "a file of this folder"),
        (lambda c: c["sampling"].update(frames=0), "at least 1"),
        (lambda c: c.update(labels=[1]), '"labels"'),
        (lambda c: c["stop"].update(regions=-1), "regions must be"),
        (lambda c: c["stop"].update(depth=3), "unknown settings depth"),
        (lambda c: c["stop"].update(regions=16), "above 0 and at most 1"),
        (lambda c: c["stop"].update(hidden=32), "not weights for the prompts"),
        (lambda c: c["stop"].update(temporal="off"), "does not belong there"),
        (lambda c: c["stop"].update(shared=False), "lacks"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(width=64), "not weights for backbone"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(layers=3), "lacks"),
        (lambda c: c["backbone"].update(architecture="ViT-B-23", config=None), "did you mean"),
        (lambda c: c["backbone"].update(architecture="RN50", config=None), "needs an open_clip ViT"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, text):
    edit(folder, change)
    with pytest.raises(CheckpointError, match=text):
        load(folder)


def test_weights_that_do_not_fit_are_refused(folder):
    path = folder / "model.safetensors"
    whole = {k: v.clone() for k, v in load_file(path).items()}  # not the file itself, which is written over
    name = next(iter(whole))
    save_file({**whole, name: torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"is \(3,\), expected"):
        load(folder)
    save_file({k: v for k, v in whole.items() if k != name}, path)
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load(folder)
    path.write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"there is no model\.safetensors"):
        load(folder)


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        load(folder)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14"])
def test_the_named_towers_build_from_the_same_code(name):
    backbone = build_backbone(name, None, {}, empty=True)
    side = {"ViT-B-32": 7, "ViT-B-16-quickgelu": 14, "ViT-L-14": 16}[name]
    assert backbone.grid == (side, side)
    assert backbone.preprocess.size == 224
