"""What tests share: videos made on the spot, toy-size real models, the folder of real clips."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

# what a machine says of its terminal and its network is no part of a test; some read it when they are imported
for name in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
    os.environ.pop(name, None)
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = "127.0.0.1,localhost"

TOY_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 48, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def media_folder() -> Path | None:
    """Return the folder of real clips: STOPCLI_MEDIA, or shared/media beside the checkout."""
    named = os.environ.get("STOPCLI_MEDIA")
    beside = [Path(named)] if named else [Path(__file__).parents[2] / "shared" / "media"]
    return next((p for p in beside if (p / "actions").is_dir()), None)


@pytest.fixture(scope="session")
def media() -> Path:
    folder = media_folder()
    if folder is None:
        pytest.skip("no real clips here; name their folder in STOPCLI_MEDIA")
    return folder


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Keep the user's settings, caches and terminal out of the tests, and the tests out of them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("STOPCLI_HOME", str(tmp_path / "stopcli-home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("STOPCLI_MODEL", raising=False)
    monkeypatch.setenv("COLUMNS", "120")


def heed_interrupts() -> None:
    """Let a child process heed Ctrl-C even where the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pattern(i: int, width: int = 128, height: int = 96) -> np.ndarray:
    """Frame ``i``: a bright bar whose place tells i, over a smooth ground; (H,W,3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)
    at = i * 7 % (width - 16)
    image[:, at : at + 16] = (230, 230, 40)
    return image


def write_video(
    path: Path,
    frames=60,
    fps=30,
    codec="libx264",
    pix_fmt="yuv420p",
    options=None,
    size=(128, 96),
    draw=pattern,
    container=None,
) -> Path:
    """Encode ``frames`` pictures with PyAV; ``container`` are options of the container."""
    import av

    with av.open(str(path), "w", options=container) as out:
        stream = out.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.options = options or {"g": "15", "crf": "18"}
        for i in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(draw(i, *size), format="rgb24")))
        out.mux(stream.encode())
    return path


def write_model(folder: Path, *, stop=None, labels=None, seed=0) -> Path:
    """Make a whole model folder: a toy CLIP with random weights, with or without prompts."""
    import torch
    from safetensors.torch import save_file

    from stopcli.model.checkpoint import build_backbone, save
    from stopcli.model.config import ModelConfig
    from stopcli.model.stop import Stop

    torch.manual_seed(seed)
    backbone = build_backbone("toy", TOY_CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.contiguous() for k, v in backbone.clip.state_dict().items()}
    save_file(state, folder / "backbone.safetensors")
    config = ModelConfig("toy", "file:backbone.safetensors", stop, 4, labels, TOY_CONFIG, {"license": "MIT"})
    model = Stop(backbone, stop)
    for name, parameter in model.prompts.named_parameters():
        torch.nn.init.normal_(parameter, mean=5.0 if name == "gamma" else 0.0, std=0.1)
    save(folder, config, model)
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A model folder: toy CLIP with STOP prompts."""
    from stopcli.model.config import StopConfig

    return write_model(
        tmp_path_factory.mktemp("models") / "toy", stop=StopConfig(regions=0.25, eta=2, hidden=16)
    )


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """A model folder: the same toy CLIP, plain."""
    return write_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A folder: two good clips (one in a subfolder), one broken file, one hidden, one text."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "a.mp4")
    (folder / "deeper").mkdir()
    write_video(folder / "deeper" / "b.mkv", frames=40)
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    (folder / ".hidden.mp4").write_bytes(b"x")
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """A folder of labelled clips, for the tests of one module: some write other tables into it."""
    from labelled_clips import write_labelled

    return write_labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def run(capsys):
    """Run a command line: returns (exit status, stdout, stderr)."""
    from stopcli.cli.app import main

    def call(*arguments):
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


@pytest.fixture
def run_json(run):
    """Run a command line with --format json: returns (exit status, the JSON object)."""

    def call(*arguments):
        words = 2 if arguments[0] in ("benchmark", "models", "index") else 1
        status, out, err = run(*arguments[:words], "--format", "json", *arguments[words:])
        assert out, err
        return status, json.loads(out)

    return call


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """A folder: twelve good clips by number, none a copy of another, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(12):
        write_video(folder / f"{i:02d}.mp4", frames=12, fps=6, options={"g": "15", "crf": str(14 + i)})
    (folder / "broken.mp4").write_bytes(b"no video" * 50)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running server, an empty cache, and a client pointed at both."""
    from huggingface_hub import constants

    from hub_server import BIG, Hub, serve

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
