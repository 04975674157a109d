"""Model folders: what is written is read back, and what does not fit is refused by name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import stopcli
from conftest import write_model
from stopcli.errors import CannotWrite, CheckpointError, ModelError
from stopcli.hub.registry import resolve
from stopcli.model.checkpoint import build_backbone, save
from stopcli.model.config import ModelConfig, StopConfig, read_config
from stopcli.model.loading import load_model
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.text import TextEncoder

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training", "abc"),
        ("training", {"settings": 5}),
        ("metrics", 5),
        ("metrics", {"test": 5}),
        ("license", {}),
        ("description", ["x"]),
    ],
)
def test_what_a_model_says_of_itself_is_of_its_kind(folder, name, value):
    edit(folder, lambda config: config.update({name: value}))
    with pytest.raises(CheckpointError, match=f'"{name}'):
        read_config(folder)


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
        (lambda c: c.pop("backbone"), '"backbone" is missing'),
        (lambda c: c["backbone"].pop("weights"), r'"backbone\.weights" is missing'),
        (lambda c: c["backbone"].update(weights="file:../x.safetensors"), "must name a file of this folder"),
        (lambda c: c["backbone"].update(weights="file:model.safetensors"), "which holds the prompts"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(patch_size=256), "must have one to"),
        (lambda c: c["sampling"].update(frames=0), "must be greater than or equal to 1, got 0"),
        (lambda c: c.update(labels=[1]), r'"labels\.0" must be a valid string'),
        (lambda c: c["stop"].update(regions=-1), "regions must be"),
        (lambda c: c["stop"].update(depth=3), "unknown settings depth"),
        (lambda c: c["stop"].update(regions=16), "above 0 and at most 1"),
        (lambda c: c["stop"].update(hidden=32), "not weights for the prompts"),
        (lambda c: c["stop"].update(temporal="off"), "does not belong there"),
        (lambda c: c["stop"].update(shared=False), "lacks"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(width=64), "not weights for backbone"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(layers=3), "lacks"),
        (lambda c: c["backbone"].update(architecture="ViT-B-23", config=None), "did you mean"),
        (lambda c: c["sampling"].update(frames=10**9), "less than or equal to 64"),
        (lambda c: c["stop"].update(beta=float("nan")), "NaN is no number"),
        (lambda c: c["stop"].update(hidden=10**6), "from 1 to 4096"),
        (lambda c: c["stop"].update(eta=True), "from 1 to 64"),
        (lambda c: c["stop"].update(prompted_blocks=[0] * 10**5), "prompted_blocks must be different blocks"),
        (lambda c: c["stop"].update(prompted_blocks="ab"), "prompted_blocks must be different blocks"),
        (lambda c: c.update(stop=[]), '"stop" must be a valid dictionary'),
        (lambda c: c.update(labels=["\ud800"]), "labels"),
        (lambda c: c.update(labels=["x" * 10**5]), "at most 2000 characters"),
        (lambda c: c["stop"].update(alpha="a"), "alpha must be a number, got 'a'"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(image_size=[96, 2**70]), "image_size"),
        (lambda c: c["backbone"].update(weights=f"file:{'a' * 300}.safetensors"), "is not there"),
        (lambda c: c["backbone"].update(weights="file:weights.bin"), "pickled weights are not read"),
        (lambda c: c["backbone"].update(weights="file:"), "must name a file of this folder"),
        (lambda c: c["backbone"].update(weights="hf:org/repo@../../../victim"), "names no Hub model"),
        (lambda c: c["backbone"].update(weights="hf:../../victim"), "names no Hub model"),
        (lambda c: c["backbone"].update(architecture="local-dir:/etc"), "architecture"),
        (lambda c: c["backbone"].update(architecture="hf-hub:some/one"), "architecture"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(layers=10**6), "less than or equal to 128"),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(width=0), "greater than or equal to 8"),
        (
            lambda c: c["backbone"]["config"]["vision_cfg"].update(head_width=500),
            "not a backbone that can be",
        ),
        (
            lambda c: c["backbone"]["config"]["vision_cfg"].update(
                timm_model_name="x", timm_model_pretrained=True
            ),
            "not a backbone that can be built .Unknown model",
        ),
        (
            lambda c: c["backbone"]["config"]["vision_cfg"].update(timm_model_name="hf-hub:some/one"),
            "timm_model_name",
        ),
        (lambda c: c["backbone"]["config"]["text_cfg"].update(hf_tokenizer_name="../x"), "hf_tokenizer_name"),
        (lambda c: c["backbone"].update(preprocess={"fit": "stretch"}), "resized by 'stretch'"),
        (
            lambda c: c["backbone"].update(preprocess={"fitt": "crop"}),
            'fitt" is no setting that stopcli knows',
        ),
        (lambda c: c["backbone"]["config"]["vision_cfg"].update(pool_type="banana"), "pool_type"),
        (lambda c: c["backbone"]["config"]["text_cfg"].update(act_kwargs={"approximate": "x"}), "act_kwargs"),
        (lambda c: c["backbone"]["config"]["text_cfg"].update(hf_model_name="a..b/c"), "name a repository"),
        (
            lambda c: c["backbone"]["config"]["vision_cfg"].update(image_size=2048, patch_size=1),
            "to 64 patches a side",
        ),
        (lambda c: c["backbone"].update(sha256="0" * 64), "is not the backbone that"),
        (lambda c: c["backbone"].update(architecture="RN50", config=None), "not weights for backbone RN50"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, text):
    edit(folder, change)
    with pytest.raises(ModelError, match=text) as caught:
        load(folder)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 1000.0])
def test_a_temperature_that_cannot_be_is_refused(folder, scale):
    path = folder / "backbone.safetensors"
    save_file(load_file(path) | {"logit_scale": torch.tensor(scale)}, path)
    with pytest.raises(CheckpointError, match="temperature"):
        Encoder(resolve(str(folder)), EncoderOptions(device="cpu", precision="fp32"))


def test_weights_under_two_names_are_refused(folder):
    path = folder / "backbone.safetensors"
    edit(folder, lambda c: c["backbone"]["config"].update(custom_text=True))
    old = load_file(path)
    words = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
    new = {f"text.{n}" if n.startswith(words) else n: t for n, t in old.items()}
    for state in (old, new):  # open_clip's older and newer names
        save_file(state, path)
        load(folder)
    save_file(new | {n: t.clone() for n, t in old.items() if n.startswith("ln_final")}, path)
    with pytest.raises(CheckpointError, match=r"holds ln_final\.bias, which does not belong there"):
        load(folder)


def test_weights_that_are_no_numbers_are_refused(folder, clips):
    path = folder / "backbone.safetensors"
    whole = load_file(path)
    save_file({n: t.to(torch.int32) for n, t in whole.items()}, path)
    with pytest.raises(CheckpointError, match="no floating-point numbers"):
        load(folder)
    nan = {n: torch.full_like(t, float("nan")) for n, t in whole.items()}
    save_file(nan | {"logit_scale": whole["logit_scale"]}, path)
    encoder = Encoder(resolve(str(folder)), EncoderOptions(device="cpu", precision="fp32"))
    with pytest.raises(CheckpointError, match="vectors that are no numbers"):
        list(encoder.encode_videos([clips / "a.mp4"]))
    with pytest.raises(CheckpointError, match="vectors that are no numbers"):
        encoder.encode_texts(["a dog"])
    with pytest.raises(CheckpointError, match="vectors that are no numbers"):
        TextEncoder(resolve(str(folder))).encode(["a dog"])


def test_a_config_is_small_plain_json_in_a_regular_file(folder):
    path = folder / "config.json"
    for content, text in [
        (b"{", "not readable as JSON"),
        (b"[" * 10**5, "nested too deeply"),
        (b"\xff{}", "not UTF-8"),
        (b" " * (33 << 20), "larger than 32 MiB"),
        (b"[]", '"format" number'),
        (b'{"format": ' + b"1" * 5000 + b"}", "not readable as JSON"),
    ]:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=text):
            load(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load(folder)


def test_pickles_are_never_read(folder, tmp_path):
    torch.save({}, tmp_path / "w.bin")
    files = replace(resolve(str(folder)), backbone=tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match="pickled weights are not read"):
        load_model(files)
    sources = Path(stopcli.__file__).parent.rglob("*.py")
    assert not [p for p in sources if re.search(r"torch\.load\b|import pickle", p.read_text())]


def test_prompts_of_another_backbone_are_refused(folder):
    """A backbone that was swapped under its prompts would answer, and be wrong."""
    own = folder / "backbone.safetensors"
    sha256 = hashlib.sha256(own.read_bytes()).hexdigest()
    edit(folder, lambda c: c["backbone"].update(sha256=sha256))
    load(folder)
    shutil.copyfile(write_model(folder.parent / "other", seed=9) / own.name, own)
    with pytest.raises(CheckpointError, match=f"is not the backbone .* expected {sha256[:12]}"):
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


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14"])
def test_the_named_towers_build_from_the_same_code(name):
    backbone = build_backbone(name, None, empty=True)
    side = {"ViT-B-32": 7, "ViT-B-16-quickgelu": 14, "ViT-L-14": 16}[name]
    assert backbone.tower.grid == (side, side)
    assert backbone.preprocess.size == 224
