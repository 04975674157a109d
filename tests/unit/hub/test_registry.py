"""Names become files: built-in names, folders, and the real Hub client against a local server."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from huggingface_hub import constants

from conftest import write_model
from hub_server import COMMIT, Hub, serve
from stopcli.errors import CheckpointError, DownloadError, ModelNotFound, OfflineError, UsageError
from stopcli.hub import client, registry
from stopcli.model.config import StopConfig
from stopcli.tasks.models import describe_model, list_models

NAME = "hf:someone/model"
BIG = bytes(range(256)) * 400  # 102,400 bytes: stored apart


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running server, an empty cache, and a client pointed at both."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None, raising=False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serve(Hub({"config.json": b'{"format": 0}', "big.bin": BIG})) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            running.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield running


def leftovers(tmp_path):
    """Files of the cache that are no whole blobs."""
    return [
        p
        for p in (tmp_path / "hub").rglob("*")
        if "incomplete" in p.name or (p.parent.name == "blobs" and p.stat().st_size not in (13, len(BIG)))
    ]


@pytest.mark.parametrize(("file", "content"), [("config.json", b'{"format": 0}'), ("big.bin", BIG)])
def test_a_file_is_fetched_once_and_then_without_any_request(hub, file, content):
    assert client.fetch("someone/model", file).read_bytes() == content
    assert hub.requests
    hub.requests.clear()
    assert client.fetch("someone/model", file).read_bytes() == content
    assert client.fetch("someone/model", file, offline=True).read_bytes() == content
    assert hub.requests == []


def test_a_revision_is_asked_for_by_name(hub):
    path = client.fetch("someone/model", "config.json", "v1")
    assert COMMIT in path.parts
    assert "/someone/model/resolve/v1/config.json" in {p for _, p, _ in hub.requests}


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut, hub.cuts = 60_000, 1
    assert client.fetch("someone/model", "big.bin").read_bytes() == BIG
    assert "bytes=60000-" in {r for _, _, r in hub.requests}


def test_a_line_that_keeps_breaking_is_an_error_and_leaves_no_half_file(hub, tmp_path):
    hub.cut, hub.cuts = 0, 1000
    with pytest.raises(DownloadError, match="broke off"):
        client.fetch("someone/model", "big.bin")
    assert leftovers(tmp_path) == []
    hub.cuts = 0
    assert client.fetch("someone/model", "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("file", ["config.json", "big.bin"])
def test_other_bytes_than_announced_are_removed(hub, file):
    hub.flip = True
    with pytest.raises(DownloadError, match="not what the Hub announced"):
        client.fetch("someone/model", file)
    hub.flip = False
    assert client.fetch("someone/model", file).read_bytes() == hub.files[file]


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, ModelNotFound, "log in"),
        (403, ModelNotFound, "log in"),
        (404, ModelNotFound, "404.*check the name"),
        (500, DownloadError, "500"),
    ],
)
def test_a_hub_that_refuses_is_a_clear_error(hub, tmp_path, status, error, text):
    hub.status = status
    with pytest.raises(error, match=text):
        client.fetch("someone/model", "big.bin")
    assert leftovers(tmp_path) == []


def test_what_is_not_there_is_named(hub):
    with pytest.raises(ModelNotFound, match="no repository someone/else"):
        client.fetch("someone/else", "config.json")
    with pytest.raises(ModelNotFound, match="no revision v9"):
        client.fetch("someone/model", "config.json", "v9")
    with pytest.raises(ModelNotFound, match=r"other\.bin: no such file"):
        client.fetch("someone/model", "other.bin")


def test_a_missing_file_is_not_worth_another_try(hub):
    hub.status = 404
    with pytest.raises(ModelNotFound) as caught:
        client.fetch("someone/model", "big.bin")
    assert "again" not in str(caught.value)
    assert len(hub.requests) == 1


def test_a_busy_hub_is_asked_again_but_not_for_ever(hub, capfd):
    hub.status = 503
    with pytest.raises(DownloadError, match="503; try again later"):
        client.fetch("someone/model", "big.bin")
    assert len(hub.requests) == 1 + len(client.WAITS)
    assert capfd.readouterr().err == ""


def test_what_answers_without_the_headers_of_a_hub_is_none(hub):
    hub.commit = ""
    with pytest.raises(DownloadError, match="no Hub; check HF_ENDPOINT"):
        client.fetch("someone/model", "big.bin")


def test_offline_makes_no_request(hub, monkeypatch):
    with pytest.raises(OfflineError, match="--model mini"):
        client.fetch("someone/model", "config.json", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="stop models pull hf:someone/model"):
        client.fetch("someone/model", "config.json")
    assert hub.requests == []


def test_a_hub_out_of_reach_is_one_error_that_says_how_to_fetch_the_model(hub, monkeypatch, capfd):
    client.fetch("someone/model", "config.json")
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(OfflineError, match="cannot be reached") as caught:
        registry.resolve("vit-b-32")
    assert "stop models pull vit-b-32" in str(caught.value)
    assert constants.HF_HUB_CACHE in str(caught.value)
    assert "only tries the command out" in str(caught.value)
    assert sum(waits) <= 3
    assert capfd.readouterr().err == ""
    assert client.fetch("someone/model", "config.json", refresh=True).is_file()  # the cached one serves


def test_the_librarys_own_lines_come_back_after_a_fetch(hub):
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    hub.status = 500
    with pytest.raises(DownloadError):
        client.fetch("someone/model", "big.bin")
    assert logger.level == level != logging.ERROR


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


def test_an_open_clip_repository_is_plain_clip(hub, tmp_path):
    files = repository(tmp_path)
    settings = {
        "model_cfg": json.loads(files["config.json"])["backbone"]["config"],
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    hub.files = {
        "config.json": b'{"architectures": ["CLIPModel"]}',
        "open_clip_config.json": json.dumps(settings).encode(),
        "open_clip_model.safetensors": files["backbone.safetensors"],
    }
    model = registry.resolve(NAME)
    assert model.config.stop is None
    assert model.preprocess["mean"] == [0.5] * 3


def test_prompts_for_a_built_in_backbone_come_from_their_repository(hub, tmp_path, monkeypatch):
    hub.files = repository(tmp_path, stop=StopConfig(regions=0.25, eta=2, hidden=16))
    entry = registry.NamedModel("vit-b-32", "toy", "unused", 4, "MIT", "with prompts", prompts=NAME)
    monkeypatch.setitem(registry.ENTRIES, "vit-b-32", entry)
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


def test_the_repositories_named_here_are_those_of_open_clip():
    import open_clip

    for name in ("vit-b-32", "vit-b-16", "vit-l-14"):
        entry = registry.ENTRIES[name]
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


@pytest.mark.parametrize("name", ["hf:justaname", "hf:a/b/c", "hf:", "hf:a/b@", "hf:a/b--c"])
def test_a_hub_name_of_another_shape_is_refused(name):
    with pytest.raises(UsageError, match="names no Hub model"):
        registry.resolve(name)


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
