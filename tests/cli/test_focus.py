"""``--focus motion``: other vectors of a plain model, kept apart from those without."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import write_video

CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def clip(tmp_path):
    """A still scene in which one corner changes."""

    def draw(i, width, height):
        y, x = np.mgrid[0:height, 0:width]
        image = np.stack([x * 255 // width, y * 255 // height, (x * y) % 97 + 60], -1).astype(np.uint8)
        image[:32, :32] = (i * 9 % 200, 40, 250 - i * 4)
        return image

    return write_video(tmp_path / "corner.mp4", frames=48, fps=12, size=(96, 96), draw=draw)


def cosines(run_json, *command):
    status, told = run_json("classify", *command, "--labels", "a dog,a cat", *CPU)
    assert status == 0
    return {s["label"]: s["cosine"] for s in told["data"][0]["scores"]}


def test_focus_changes_what_a_plain_model_sees_and_its_strength_how_much(run_json, plain, clip):
    off, mild, strong = (
        cosines(run_json, clip, "-m", plain, *more)
        for more in ((), ("--focus", "motion"), ("--focus", "motion", "--focus-strength", 15))
    )
    assert off == cosines(run_json, clip, "-m", plain, "--focus", "off", "--focus-strength", 9)
    for a, b in ((off, mild), (mild, strong), (off, strong)):
        assert max(abs(a[k] - b[k]) for k in off) > 1e-4


def test_a_model_with_prompts_refuses_focus(run, toy, clip):
    status, _, err = run("classify", clip, "-m", toy, "--labels", "a,b", "--focus", "motion")
    assert status == 2
    assert "has prompts, which look for motion themselves" in err


def test_an_index_keeps_what_was_embedded_with_focus_apart(run_json, run, plain, clip, tmp_path):
    search = (
        "retrieve",
        "a dog",
        clip.parent,
        "--min-confidence",
        "0",
        "-m",
        plain,
        "--index",
        tmp_path / "index",
        *CPU,
    )
    without, with_focus = (run_json(*search, *more)[1]["data"] for more in ((), ("--focus", "motion")))
    assert without[0]["score"] != pytest.approx(with_focus[0]["score"], abs=1e-4)
    assert run_json(*search)[1]["data"] == without
    _, told = run_json("index", "info", "--index", tmp_path / "index")
    models = [space["model"] for space in told["data"][0]["spaces"]]
    assert sorted(m.endswith(", focus 3") for m in models) == [False, True]
    _, _, err = run(*search, "--focus", "motion")
    assert "embedded" not in err  # nothing is done twice


def test_a_file_of_vectors_never_mixes_strengths(run, plain, clip, tmp_path):
    out = tmp_path / "v.npz"
    assert run("embed", clip, "-o", out, "-m", plain, "--focus", "motion", *CPU)[0] == 0
    with np.load(out) as arrays:
        assert json.loads(str(arrays["provenance"]))["focus"] == 3
    status, _, err = run("embed", clip, "-o", out, "-m", plain, *CPU)
    assert status == 3
    assert "made with focus 3.0, now it is None" in err


def test_focus_can_be_explained_without_prompts(run_json, plain, clip, tmp_path):
    command = ("explain", clip, "-m", plain, "--focus", "motion", "--compare", "-o", tmp_path / "e.png", *CPU)
    status, told = run_json(*command)
    assert status == 0
    (record,) = told["data"]
    (block,) = record["blocks"]
    best = np.array(block["scores"]).argmax(1)
    assert (best == 0).mean() >= 0.75  # the corner, of 4 by 4 patches
    attention = np.array([record[which]["attention"] for which in ("plain", "look")])
    assert attention[1, :, 0].mean() > attention[0, :, 0].mean()
