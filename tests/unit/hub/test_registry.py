"""Names become files: built-in names, folders, repositories of the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import save as to_bytes

import toy_words
from conftest import TOY_CONFIG, write_model
from hub_server import BIG, COMMIT, Hub, serve
from stopcli.errors import CheckpointError, DownloadError, ModelNotFound, OfflineError, UsageError
from stopcli.hub import client, named, registry
from stopcli.model.checkpoint import build_backbone, save
from stopcli.model.config import StopConfig
from stopcli.runtime.text import TextEncoder
from stopcli.tasks.models import describe_model, list_models

NAME = "hf:someone/model"


def test_a_name_that_is_nearly_a_folder_beside_it_is_helped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "behaviour")
    with pytest.raises(ModelNotFound, match=r"no model 'behavior' \(did you mean behaviour\?\)"):
        registry.resolve("behavior")
    with pytest.raises(ModelNotFound, match=r"is a file; name the folder of the model, behaviour$"):
        registry.resolve("behaviour/config.json")


def repository(tmp_path, **settings):
    folder = write_model(tmp_path / "source", **settings)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_whole_model_comes_from_the_hub(hub, tmp_path):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    files = registry.resolve(NAME)
    assert files.config.stop is not None
    assert files.prompts is not None
    assert files.prompts.is_file()
    assert files.backbone.is_file()
    hub.requests.clear()
    assert registry.resolve(NAME + "@main").weights_hash() == files.weights_hash()
    assert hub.requests == []


def test_pull_asks_for_newer_files_and_nothing_else_does(hub, tmp_path):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    first = registry.resolve(NAME)
    hub.files["config.json"] = hub.files["config.json"].replace(b'"frames": 4', b'"frames": 5')
    hub.commit = "b" * 40
    assert registry.resolve(NAME).config.frames == 4
    assert registry.resolve(NAME, refresh=True).config.frames == 5
    assert registry.resolve(NAME).weights_hash() == first.weights_hash()


def test_a_pull_that_broke_off_leaves_the_whole_model_of_before(hub, tmp_path):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    first = registry.resolve(NAME)
    hub.files["config.json"] = hub.files["config.json"].replace(b'"frames": 4', b'"frames": 5')
    hub.commit = "b" * 40
    client.fetch("someone/model", "config.json", refresh=True)  # and then it broke off
    again = registry.resolve(NAME, offline=True)
    assert (again.config.frames, again.folder) == (4, first.folder)
    assert registry.resolve(NAME).config.frames == 5


def test_no_other_branch_stands_in_for_the_main_one(hub, tmp_path):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    registry.resolve(f"{NAME}@v1")
    with pytest.raises(OfflineError):
        registry.resolve(NAME, offline=True)
    assert registry.resolve(f"{NAME}@v1", offline=True).config.stop is not None


def open_clip_repository(tmp_path, **more):
    files = repository(tmp_path)
    settings = {
        "model_cfg": json.loads(files["config.json"])["backbone"]["config"] | more,
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    return {
        "open_clip_config.json": json.dumps(settings).encode(),
        "open_clip_model.safetensors": files["backbone.safetensors"],
    }


def test_settings_and_weights_are_of_one_state(hub, tmp_path):
    hub.files = open_clip_repository(tmp_path)
    with pytest.raises(ModelNotFound):
        client.fetch("someone/model", "config.json")
    client.fetch("someone/model", "open_clip_config.json")  # and then the line broke
    hub.commit = "b" * 40
    registry.resolve(NAME)
    weights = {path for _, path, _ in hub.requests if "/resolve/" in path and "safetensors" in path}
    assert weights == {f"/someone/model/resolve/{COMMIT}/open_clip_model.safetensors"}


def test_a_repository_that_others_cached_works_offline(hub, tmp_path):
    hub.files = open_clip_repository(tmp_path)
    for name in hub.files:
        hf_hub_download("someone/model", name)
    assert registry.resolve(NAME, offline=True).preprocess.mean == (0.5, 0.5, 0.5)


def test_weights_of_another_activation_are_refused_wherever_they_lie(hub, tmp_path):
    hub.files = open_clip_repository(tmp_path, quick_gelu=True)
    folder = write_model(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    config["backbone"]["weights"] = NAME
    config.pop("preprocess", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="another activation"):
        registry.resolve(folder)


def test_a_folder_named_like_a_built_in_model_is_not_mistaken_for_it(tmp_path, monkeypatch):
    write_model(tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"write \./mini"):
        registry.resolve("mini")
    assert registry.resolve("./mini").config.architecture != "stop-mini"
    assert registry.resolve(Path("./mini")).config.architecture != "stop-mini"


def test_an_open_clip_repository_is_plain_clip(hub, tmp_path):
    hub.files = {"config.json": b'{"architectures": ["CLIPModel"]}'} | open_clip_repository(tmp_path)
    model = registry.resolve(NAME)
    assert model.config.stop is None
    assert model.preprocess.mean == (0.5, 0.5, 0.5)


def test_a_tokenizer_that_is_not_clips_own_is_fetched_too(hub, tmp_path):
    settings = TOY_CONFIG | {
        "custom_text": True,
        "text_cfg": TOY_CONFIG["text_cfg"]
        | {"vocab_size": 300, "hf_tokenizer_name": "someone/model", "no_causal_mask": True}
        | {"tokenizer_kwargs": {"clean": "canonicalize"}, "pool_type": "last", "proj_bias": True},
    }
    torch.manual_seed(0)
    state = build_backbone("toy", settings).clip.state_dict()
    words = toy_words.siglip2(tmp_path)
    squash = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bilinear"}
    hub.files = {p.name: p.read_bytes() for p in words.glob("*.json")} | {
        "open_clip_config.json": json.dumps({"model_cfg": settings, "preprocess_cfg": squash}).encode(),
        "open_clip_model.safetensors": to_bytes({k: v.contiguous() for k, v in state.items()}),
    }
    files = registry.resolve(NAME)
    assert (files.preprocess.fit, files.preprocess.interpolation) == ("squash", "bilinear")
    assert files.words is not None
    assert {p.name for p in files.words.iterdir()} >= {"tokenizer.json", "tokenizer_config.json"}
    (a, b, c) = TextEncoder(files).encode(["ein Hund läuft", "Ein Hund, läuft!", "a dog runs"])
    assert a == pytest.approx(b)
    assert abs(a - c).max() > 1e-4
    hub.requests.clear()
    assert registry.resolve(NAME).words == files.words  # and from then on offline
    tuned = tmp_path / "tuned"
    save(tuned, files.config, None)
    again = registry.resolve(str(tuned))  # a folder that names the repository looks at frames as it does
    assert again.preprocess == files.preprocess
    assert hub.requests == []


@pytest.mark.parametrize(
    ("architecture", "mean", "fit"),
    [
        ("MobileCLIP-S1", 0.0, "crop"),  # open_clip 3.3.0, pretrained.py: _mccfg
        ("PE-Core-B-16", 0.5, "squash"),  # _pecfg
        ("ViT-B-32", 0.48145466, "crop"),
    ],
)
def test_weights_in_a_folder_that_do_not_say_so_get_their_frames_as_open_clips_do(
    tmp_path, architecture, mean, fit
):
    backbone = {"architecture": architecture, "weights": "file:backbone.safetensors"}
    config = {"format": 2, "backbone": backbone, "stop": None, "sampling": {"frames": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "backbone.safetensors").write_bytes(b"weights")
    preprocess = registry.resolve(str(tmp_path)).preprocess
    assert (preprocess.mean[0], preprocess.fit) == (mean, fit)
    config["backbone"]["preprocess"] = {"fit": "pad"}  # what a folder says itself comes first
    (tmp_path / "config.json").write_text(json.dumps(config))
    preprocess = registry.resolve(str(tmp_path)).preprocess
    assert (preprocess.mean[0], preprocess.fit) == (mean, "pad")


def test_a_large_vocabulary_is_fetched_and_settings_that_large_are_not(hub, monkeypatch):
    monkeypatch.setattr(client, "LIMIT_JSON", 2000)
    hub.files = {"tokenizer.json": BIG, "config.json": BIG}
    assert client.fetch("someone/model", "tokenizer.json").read_bytes() == BIG
    with pytest.raises(DownloadError, match="nothing was fetched"):
        client.fetch("someone/model", "config.json")


def test_weights_that_are_published_as_pickles_only_are_told_so(hub, tmp_path):
    files = repository(tmp_path)
    settings = {"model_cfg": json.loads(files["config.json"])["backbone"]["config"]}
    hub.files = {"open_clip_config.json": json.dumps(settings).encode(), "open_clip_pytorch_model.bin": BIG}
    with pytest.raises(ModelNotFound, match=r"pickled weights .* are not read"):
        registry.resolve(NAME)
    hub.files["open_clip_pytorch_model.safetensors"] = files["backbone.safetensors"]
    assert registry.resolve(NAME, refresh=True).backbone.name == "open_clip_pytorch_model.safetensors"


def test_a_search_lists_what_others_made(hub, run):
    hub.models = [
        {"id": "someone/model", "tags": ["stopcli", "license:mit"], "downloads": 12, "private": False},
        {
            "id": "someone/birds",
            "tags": ["stopcli"],
            "downloads": 3,
            "lastModified": "2026-03-01T00:00:00.000Z",
        },
        {"id": "someone/else", "tags": ["clip"], "downloads": 9},
    ]
    status, out, err = run("models", "search", "--format", "json")
    assert status == 0, err
    found = json.loads(out)["data"]
    assert [(m["name"], m["license"]) for m in found] == [
        ("hf:someone/model", "mit"),
        ("hf:someone/birds", "unknown"),
    ]
    assert "2026-03-01" in found[1]["description"]
    assert run("models", "search", "birds", "-q")[1].split() == ["hf:someone/birds"]
    status, _, err = run("models", "search", "whales")
    assert (status, "no models with the tag stopcli and 'whales' in their name" in err) == (3, True)
    hub.status = 503
    assert run("models", "search")[0] == 4


def test_weights_of_another_activation_are_not_taken(tmp_path):
    config = {"backbone": {"architecture": "ViT-B-16", "weights": "dfn2b"}, "sampling": {"frames": 4}}
    (tmp_path / "config.json").write_text(json.dumps({"format": 2, "stop": None} | config))
    with pytest.raises(CheckpointError, match="another activation; use the architecture ViT-B-16-quickgelu"):
        registry.resolve(str(tmp_path))


def test_prompts_for_a_built_in_backbone_come_from_their_repository(hub, tmp_path, monkeypatch):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    entry = named.NamedModel("vit-b-32", "toy", "unused", 1, "MIT", "with prompts", prompts=NAME)
    monkeypatch.setitem(named.ENTRIES, "vit-b-32", entry)
    files = registry.resolve("vit-b-32")
    assert files.name == "vit-b-32"
    assert files.config.stop is not None


def test_a_named_model_whose_repository_is_gone_is_one_sentence(hub):
    with pytest.raises(
        ModelNotFound, match=r"^vit-b-16 cannot be fetched: no repository timm/vit_base[^.]*\.openai on"
    ):
        registry.resolve("vit-b-16")


def test_a_repository_of_another_kind_is_named(hub):
    hub.files["config.json"] = b"<html>"
    with pytest.raises(ModelNotFound, match="is someone/model a stopcli or open_clip model"):
        registry.resolve(NAME)


def test_a_built_in_backbone_comes_from_open_clips_own_repository(hub, tmp_path, monkeypatch):
    hub.repo = "timm/vit_base_patch32_clip_224.openai"
    hub.files = {"open_clip_model.safetensors": BIG}
    assert registry.resolve("vit-b-32").backbone.read_bytes() == BIG
    here = {entry.name: entry.size for entry in list_models("vit-b-16") if entry.here}
    assert here["vit-b-32"] == len(BIG)
    assert set(here) == {"mini", "vit-b-32"}
    registry.resolve("vit-b-32").backbone.resolve().write_bytes(BIG[:-1] + b"?")  # as a crash may leave it
    assert [entry.name for entry in list_models("vit-b-16") if entry.here] == ["mini"]


def test_the_repositories_named_here_are_those_of_open_clip():
    import open_clip

    for name in ("vit-b-32", "vit-b-16", "vit-l-14"):
        entry = named.ENTRIES[name]
        pretrained = open_clip.get_pretrained_cfg(entry.architecture, "openai")
        assert entry.weights == "hf:" + pretrained["hf_hub"].rstrip("/")
        assert pretrained["quick_gelu"]
        assert open_clip.get_model_config(entry.architecture)["quick_gelu"]


def test_the_command_fetches_with_hf_endpoint_and_then_works_offline(tmp_path):
    """The real process, the real environment variables, the real exit codes."""
    files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
        "HF_HUB_CACHE": str(tmp_path / "hub")
    }

    def stop(*arguments, **more):
        command = [sys.executable, "-m", "stopcli", *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)

    with serve(Hub(files)) as running:
        before = stop("models", "info", NAME, "--offline", HF_ENDPOINT=running.endpoint)
        assert before.returncode == 4
        assert "not in the cache" in before.stderr
        assert running.requests == []
        done = stop("models", "pull", NAME, HF_ENDPOINT=running.endpoint)
        assert done.returncode == 0, done.stderr
        running.requests.clear()
        after = stop(
            "models", "info", NAME, "--format", "json", HF_ENDPOINT=running.endpoint, HF_HUB_OFFLINE="1"
        )
        assert after.returncode == 0, after.stderr
        assert json.loads(after.stdout)["data"][0]["license"] == "MIT"
        assert running.requests == []
        assert stop("models", "pull", "hf:someone/else", HF_ENDPOINT=running.endpoint).returncode == 4


def test_a_name_that_is_none_gets_did_you_mean():
    with pytest.raises(ModelNotFound, match=r"did you mean vit-b-32\?"):
        registry.resolve("vit-b32")


def test_a_folder_is_a_model(toy):
    files = registry.resolve(str(toy))
    assert files.folder == toy
    assert files.config.frames == 4
    info = describe_model(files)
    assert (info.frames, info.license, info.sha256) == (4, "MIT", files.weights_hash())
    assert info.size == sum((toy / f"{name}.safetensors").stat().st_size for name in ("backbone", "model"))


def test_the_hash_tells_weights_apart(tmp_path):
    one = registry.resolve(str(write_model(tmp_path / "one", seed=1)))
    two = registry.resolve(str(write_model(tmp_path / "two", seed=2)))
    again = registry.resolve(str(write_model(tmp_path / "again", seed=1)))
    assert one.weights_hash() == again.weights_hash() != two.weights_hash()


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        registry.resolve(str(tmp_path))
