"""A model goes to the Hub and comes back: the real client against a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from conftest import write_model, write_video
from hub_server import Hub, serve
from stopcli.model.config import StopConfig


@pytest.fixture
def hub(tmp_path):
    """A running server, and the environment of a client that is pointed at it."""
    with serve(Hub({})) as running:
        running.environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "HF_ENDPOINT": running.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": running.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        yield running


def stop(hub, *arguments):
    command = [sys.executable, "-m", "stopcli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=hub.environment, timeout=600
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    out = write_model(
        tmp_path / "mine", stop=StopConfig(regions=0.25, eta=2, hidden=16), labels=("a dog", "a cat")
    )
    (out / "curve.png").write_bytes(b"\x89PNG curve")
    (out / "private-notes.txt").write_text("not for others")
    return out


def test_a_model_is_pushed_private_and_pulled_again(hub, folder, tmp_path):
    status, out, err = stop(hub, "models", "push", folder, "someone/model", "--license", "apache-2.0")
    assert status == 0, err
    assert out.split()[0] == f"{hub.endpoint}/someone/model"
    assert hub.created["visibility"] == "private"
    assert set(hub.files) == {
        "README.md",
        "backbone.safetensors",
        "config.json",
        "curve.png",
        "model.safetensors",
    }
    card = hub.files["README.md"].decode()
    assert "\nlicense: apache-2.0\n" in card
    assert "\nlibrary_name: stopcli\n" in card
    for name in ("model.safetensors", "backbone.safetensors", "config.json"):
        assert hub.files[name] == (folder / name).read_bytes()
    status, out, err = stop(hub, "models", "pull", "hf:someone/model")
    assert status == 0, err
    clip = write_video(tmp_path / "clip.mp4", frames=8, fps=4)
    answers = []
    for model in ("hf:someone/model", folder):
        status, out, err = stop(
            hub, "classify", clip, "--model", model, "--format", "json", "--device", "cpu"
        )
        assert status == 0, err
        answers.append(json.loads(out)["data"])
    assert answers[0] == answers[1]


def faults_of(err):
    """Count the lines that do not say what will be published."""
    return sum(not line.startswith("to be published: ") for line in err.splitlines())


def test_what_is_published_is_said_first(hub, folder):
    hub.status = 500
    _, _, err = stop(hub, "models", "push", folder, "someone/model")
    said = [line.split()[3] for line in err.splitlines() if line.startswith("to be published: ")]
    assert {"config.json", "model.safetensors", "backbone.safetensors", "README.md"} <= set(said)


def test_a_public_model_must_be_asked_for_and_a_card_is_kept(hub, folder):
    (folder / "README.md").write_text("---\nlicense: other\n---\n\n# My owls\n\nRecorded in spring.\n")
    status, _, err = stop(hub, "models", "push", folder, "someone/model", "--public", "--license", "mit")
    assert status == 0, err
    assert hub.created["visibility"] == "public"
    card = hub.files["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n")
    assert "\nlibrary_name: stopcli\n" in card
    assert card.endswith("# My owls\n\nRecorded in spring.\n")


def test_a_push_replaces_nothing_of_others_and_publishes_nothing_unasked(hub, folder):
    hub.files |= {"config.json": b'{"model_type": "bert"}', "README.md": b"Years of work"}
    hub.public = False
    status, _, err = stop(hub, "models", "push", folder, "someone/model")
    assert status == 3
    assert "holds something else (README.md, config.json)" in err
    assert hub.files["README.md"] == b"Years of work"
    hub.public = True
    status, _, err = stop(hub, "models", "push", folder, "someone/model", "--force")
    assert status == 4
    assert "everyone can see it" in err
    assert hub.files["README.md"] == b"Years of work"
    status, out, _ = stop(hub, "models", "push", folder, "someone/model", "--force", "--public")
    assert status == 0
    assert "public" in out
    hub.public = False
    status, out, _ = stop(hub, "models", "push", folder, "someone/model", "--public")  # it is a model now
    assert status == 0
    assert out.split()[-1] == "private"
    status, _, err = stop(hub, "models", "push", folder, "someone/model@v2")
    assert status == 2
    assert "leave out @v2" in err


def test_a_refused_push_says_what_to_do(hub, folder):
    hub.token = "another"
    status, _, err = stop(hub, "models", "push", folder, "someone/model")
    assert status == 4
    assert "hf auth login" in err
    hub.token = "hf_test"
    status, _, err = stop(hub, "models", "push", folder, "others/model")
    assert status == 4
    hub.status = 500
    status, _, err = stop(hub, "models", "push", folder, "someone/model")
    assert status == 4
    assert "500" in err
    assert faults_of(err) == 1
    assert hub.files == {}


def test_a_push_without_a_network_is_one_line(hub, folder):
    hub.environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    status, _, err = stop(hub, "models", "push", folder, "someone/model")
    assert status == 4
    assert "cannot be reached" in err
    assert faults_of(err) == 1


def test_what_is_no_model_is_not_pushed(hub, folder, tmp_path):
    (folder / "model.safetensors").unlink()
    status, _, err = stop(hub, "models", "push", folder, "someone/model")
    assert status == 4
    assert "lacks model.safetensors" in err
    status, _, err = stop(hub, "models", "push", tmp_path, "someone/model")
    assert status == 4
    status, _, err = stop(hub, "models", "push", folder, "nonsense")
    assert status == 2
    assert hub.requests == []
