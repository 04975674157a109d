"""Pages in a real browser, explanations, filmstrips: what people look at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from conftest import write_model, write_video
from stopcli.hub.registry import resolve
from stopcli.model.config import StopConfig
from stopcli.output import html
from stopcli.output.explanation import picture
from stopcli.results import Hit, clock
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.tasks.explain import explain

CPU = ("--device", "cpu", "--precision", "fp32")
NASTY = '<script>alert(1) & "q" # ?.mp4'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("m") / "toy", stop=StopConfig(regions=4, eta=2, hidden=16))


@pytest.fixture
def nasty(tmp_path):
    folder = tmp_path / "<b>videos"
    folder.mkdir()
    write_video(folder / "plain.mp4", frames=60, fps=10)
    shutil.copyfile(folder / "plain.mp4", folder / NASTY)
    write_video(folder / NASTY, frames=50, fps=10)
    return folder


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_of_hits_escapes_names_and_points_at_moments(nasty, model, tmp_path, run):
    page = tmp_path / "hits.html"
    status, _, err = run(
        "retrieve", "--query", "<i>a bar</i>", nasty, "--model", model, "--every", 2, "--html", page, *CPU
    )
    assert status == 0, err
    read = Reader(page.read_text())
    names = [tag for tag, _ in read.tags]
    assert names.count("script") == 1  # ours
    assert "b" in names  # scores
    assert "i" not in names
    assert "<i>a bar</i>" in "".join(read.words)
    assert any(NASTY in w for w in read.words)
    videos = [a for tag, a in read.tags if tag == "video"]
    assert all(re.search(r"#t=\d+(\.\d+)?,\d+(\.\d+)?$", v["src"]) for v in videos)
    assert all(v["poster"].startswith("data:image/jpeg;base64,") for v in videos)
    assert not [a for _, a in read.tags if a.get("src", "file:").startswith("http")]
    status, _, err = run(
        "retrieve", "--query", "x", nasty, "--model", model, "--every", 2, "--html", page, *CPU
    )
    assert status == 3
    assert "--force" in err


def test_a_timeline_covers_the_video(nasty, model, tmp_path, run):
    page = tmp_path / "line.html"
    status, _, err = run(
        "classify",
        nasty / "plain.mp4",
        "--labels",
        "a <u>cat</u>,a dog",
        "--every",
        2,
        "--model",
        model,
        "--html",
        page,
        *CPU,
    )
    assert status == 0, err
    read = Reader(page.read_text())
    shares = [float(re.search(r"width:([\d.]+)%", a["style"])[1]) for tag, a in read.tags if tag == "a"]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert "u" not in [tag for tag, _ in read.tags]


def test_addresses_survive_any_name():
    assert html.address("/a b/é#?.mp4") == "file:///a%20b/%C3%A9%23%3F.mp4"
    assert html.address(os.fsdecode(b"/x\xff.mp4")) == "file:///x%FF.mp4"
    assert [clock(s) for s in (0, 59.96, 61.26, 3723.5)] == ["0:00.0", "1:00.0", "1:01.3", "1:02:03.5"]


CHROMIUM = next((c for c in ("chromium", "chromium-browser", "google-chrome") if shutil.which(c)), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_real_browser_shows_the_page_and_runs_no_strange_script(nasty, tmp_path):
    hits = [
        Hit("<img src=x onerror=document.title='broken'>", i + 1, str(p), 0.0, 2.0, 0.5 - i / 10)
        for i, p in enumerate(sorted(nasty.iterdir()))
    ]
    page = tmp_path / "page.html"
    html.write(page, html.hits_page(hits, "made"))
    base = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    dom = subprocess.run(
        [*base, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert "<title>&lt;img src=x" in dom
    assert "<title>broken" not in dom
    for width, name in ((1100, "wide.png"), (400, "narrow.png")):
        shot = tmp_path / name
        subprocess.run(
            [*base, f"--window-size={width},900", f"--screenshot={shot}", page.as_uri()],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        from PIL import Image

        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("RGB"))
        yellow = (np.abs(pixels.astype(int) - (230, 230, 40)).max(-1) < 40).mean()
        assert yellow > 0.005  # the bar of the clips: thumbnails are drawn


# ------------------------------------------------------------------------------------- explain


def test_an_explanation_tells_what_the_trace_tells(nasty, model):
    encoder = Encoder(resolve(str(model)), EncoderOptions("cpu", "fp32"))
    told = explain(encoder, nasty / "plain.mp4", block=1, labels=["a cat", "a dog"])
    assert told.frames.shape[0] == encoder.frames == len(told.times)
    assert (told.regions.sum((1, 2)) == 4).all()
    lowest = np.where(told.regions, told.scores, np.inf).min((1, 2))
    highest = np.where(told.regions, -np.inf, told.scores).max((1, 2))
    assert (lowest >= highest).all()
    assert told.counts.tolist() == np.ceil(told.variation * 2).astype(int).tolist()
    assert told.shares.shape == (len(told.spans), 2)
    assert told.shares.sum(1) == pytest.approx(1, abs=1e-5)
    assert told.spans[0, 0] == 0
    import io

    from PIL import Image

    with Image.open(io.BytesIO(picture(told))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(pixels - (250, 204, 21)).max(-1) < 12).sum() > 100  # regions are outlined
    if told.counts.any():
        assert (np.abs(pixels - (37, 99, 235)).max(-1) < 12).sum() > 100  # prompts are bars


def test_explanations_are_pictures_pages_and_films(nasty, model, tmp_path, run):
    clip = nasty / "plain.mp4"
    for name in ("e.png", "e.html", "e.mp4"):
        status, _, err = run("explain", clip, "--model", model, "-o", tmp_path / name, *CPU)
        assert status == 0, err
        assert "temporal prompts" in err
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png" in (tmp_path / "e.html").read_text()
    from stopcli.video.reader import open_video

    with open_video(tmp_path / "e.mp4") as film:
        assert film.duration == pytest.approx(4 * 0.8, abs=0.2)
    assert run("explain", clip, "--model", model, "-o", tmp_path / "e.png", *CPU)[0] == 3
    assert run("explain", clip, "--model", model, "-o", tmp_path / "e.gif", *CPU)[0] == 2
    status, _, err = run("explain", clip, "--model", model, "-o", tmp_path / "f.png", "--block", 9, *CPU)
    assert status == 2
    assert "between 1 and 2" in err


def test_plain_clip_has_nothing_to_explain(nasty, plain, tmp_path, run):
    status, _, err = run("explain", nasty / "plain.mp4", "--model", plain, "-o", tmp_path / "x.png", *CPU)
    assert status == 2
    assert "no prompts" in err
    assert not (tmp_path / "x.png").exists()


def test_models_with_one_kind_of_prompts_are_explained(nasty, tmp_path, run):
    for k, config in enumerate(
        (StopConfig(regions=4, eta=2, hidden=16, temporal="off"), StopConfig(eta=2, hidden=16, spatial="off"))
    ):
        model = write_model(tmp_path / f"m{k}", stop=config)
        status, _, err = run(
            "explain", nasty / "plain.mp4", "--model", model, "-o", tmp_path / f"{k}.png", *CPU
        )
        assert status == 0, err


def test_a_filmstrip_is_drawn_where_there_is_a_terminal(nasty, model, run, monkeypatch):
    status, out, err = run(
        "retrieve", "--query", "x", nasty, "--model", model, "--every", 2, "--preview", *CPU
    )
    assert status == 0
    assert "needs a terminal" in err
    assert "▀" not in out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setitem(
        __import__("sys").modules, "textual_image.renderable", None
    )  # as if it were not installed
    status, out, err = run(
        "retrieve", "--query", "x", nasty, "--model", model, "--every", 2, "--preview", "--top-k", 1, *CPU
    )
    assert status == 0
    assert out.count("▀") > 200
    assert "38;2;" in out  # in colour
