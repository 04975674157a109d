"""The bundled model on the bundled clips: the main job, with nothing but the package."""

from __future__ import annotations

import csv
import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import stopcli
from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig

ASSETS = Path(str(files("stopcli") / "assets"))
SAMPLES = sorted((ASSETS / "samples").glob("*.mp4"))


def recipe():
    """Return the prompts' settings that mini's training has."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from training.mini.train_prompts import STOP

    return STOP


def shown(path) -> str:
    return (
        Path(path).stem.replace("counter-clockwise", "counter_clockwise").replace("-", " ").replace("_", "-")
    )


def test_every_bundled_clip_is_named(run_json):
    status, answer = run_json("classify", ASSETS / "samples", "-m", "mini")
    assert status == 0
    assert len(answer["data"]) == len(SAMPLES) >= 6
    assert {d["path"]: d["scores"][0]["label"] for d in answer["data"]} == {str(p): shown(p) for p in SAMPLES}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_a_query_puts_its_clip_first(path, run_json):
    _, answer = run_json("retrieve", ASSETS / "samples", "-m", "mini", "--query", shown(path), "-k", "1")
    assert answer["data"][0]["path"] == str(path)


def test_a_clip_played_backwards_is_another_motion():
    from stopcli.video.clips import read_frames

    model = stopcli.load("mini", precision="fp32")
    pixels = read_frames(
        ASSETS / "samples" / "a-dog-moving-left.mp4", model.encoder.frames, model.encoder.framing
    ).pixels
    vectors = model.encoder.encode_pixels(np.stack([pixels, pixels[::-1]]))
    texts = model.encoder.encode_texts(["a dog moving left", "a dog moving right"])
    assert (vectors @ texts.T).argmax(1).tolist() == [0, 1]


def test_mini_says_what_it_is(run):
    _, _, err = run("classify", SAMPLES[0], "-m", "mini")
    assert "knows only its generated world" in err
    _, out, err = run("classify", SAMPLES[0], "-m", "mini", "-q")
    assert err == ""
    _, out, _ = run("models", "info", "mini")
    assert "generated world" in out


def test_what_ships_is_small_and_tells_its_making():
    folder = ASSETS / "mini"
    assert sum(p.stat().st_size for p in folder.iterdir()) < 25e6
    assert sum(p.stat().st_size for p in SAMPLES) < 1e6
    config = json.loads((folder / "config.json").read_text())
    assert config["license"] == "Apache-2.0"
    assert set(config["metrics"]) == {"stop", "plain"}
    assert set(config["training"]) >= {"data", "backbone", "prompts"}
    assert len(config["labels"]) == 480
    assert StopConfig.from_dict(config["stop"]) == recipe()
    # the figures were measured on these very weights
    assert config["metrics"]["stop"]["provenance"]["weights"] == resolve("mini").weights_hash()


def test_scripts_get_what_is_sure_and_people_see_what_is_near(run, tmp_path):
    ask = ("retrieve", ASSETS / "samples", "-m", "mini", "--query", "a dog moving left")
    status, out, _ = run(*ask, "-q", "--whole")
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == ["a-dog-moving-left.mp4"]
    assert len(json.loads(run(*ask, "--format", "json")[1])["data"]) > 1
    assert run(*ask, "--export", tmp_path / "hits.csv", "--query", "an owl moving down")[0] == 0
    rows = list(csv.DictReader((tmp_path / "hits.csv").read_text().splitlines()))
    assert {(Path(r["path"]).stem, r["label"]) for r in rows} == {
        ("a-dog-moving-left", "a dog moving left"),
        ("an-owl-moving-down", "an owl moving down"),
    }
    (tmp_path / "queries.txt").write_text("# mine\na dog moving left\n\nan owl moving down\n")
    _, out, _ = run(
        *ask[:-2], "--query", f"@{tmp_path / 'queries.txt'}", "-q", "--whole", "--glob", "*/samples/*"
    )
    assert len(out.splitlines()) == 2
