"""Commands write pages and pictures, and a real browser shows them."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from conftest import write_model, write_video
from stopcli.model.config import StopConfig
from stopcli.video.reader import open_video

CPU = ("--device", "cpu", "--precision", "fp32")
NASTY = '<script>alert(1) & "q" # ?.mp4'
EVIL = "<img src=x onerror=document.title='broken'>"
CHROMIUM = next((c for c in ("chromium", "chromium-browser", "google-chrome") if shutil.which(c)), None)
PATIENCE = 600  # seconds; the machine may be busy


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("m") / "toy", stop=StopConfig(regions=0.25, eta=2, hidden=16))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos") / "<b>videos"
    folder.mkdir()
    write_video(folder / "plain.mp4", frames=60, fps=10)
    write_video(folder / NASTY, frames=50, fps=10)
    return folder


def test_retrieve_writes_a_page_and_replaces_it_only_by_force(nasty, model, tmp_path, run):
    page = tmp_path / "hits.html"
    command = (
        "retrieve",
        "--min-confidence",
        "0",
        "--query",
        EVIL,
        nasty,
        "--model",
        model,
        "--window",
        2,
        "--html",
        page,
        *CPU,
    )
    status, _, err = run(*command)
    assert status == 0, err
    written = page.read_text()
    assert written.count("<script>") == 1  # ours
    status, _, err = run(*command)
    assert status == 3
    assert "--force" in err
    assert page.read_text() == written
    assert run(*command, "--force")[0] == 0


def test_classify_writes_a_timeline(nasty, model, tmp_path, run):
    page = tmp_path / "line.html"
    options = ("--labels", f"{EVIL},a dog", "--window", 2, "--model", model, "--html", page)
    status, _, err = run("classify", nasty / "plain.mp4", *options, *CPU)
    assert status == 0, err
    line, _, runs = page.read_text().partition('<ol class="runs">')
    assert line.count("data-at=") == 3
    assert runs  # each stretch by name, for those who cannot hover
    assert EVIL not in page.read_text()


def test_explanations_are_pictures_pages_and_films(nasty, model, tmp_path, run):
    clip = nasty / "plain.mp4"
    for name in ("e.png", "e.html", "e.mp4"):
        status, out, err = run("explain", clip, "--model", model, "-o", tmp_path / name, *CPU)
        assert status == 0, err
        assert "temporal prompts" in out + err
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert "Yellow boxes" in (tmp_path / "e.html").read_text()
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


def test_a_filmstrip_is_drawn_where_there_is_a_terminal(nasty, model, run, monkeypatch):
    command = (
        "retrieve",
        "--min-confidence",
        "0",
        "--query",
        "x",
        nasty,
        "--model",
        model,
        "--window",
        2,
        "--preview",
        *CPU,
    )
    status, out, err = run(*command)
    assert status == 0
    assert "needs a terminal" in err
    assert "▀" not in out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setitem(
        __import__("sys").modules, "textual_image.renderable", None
    )  # as if it were not there
    status, out, err = run(*command, "--top-k", 1)
    assert status == 0
    assert out.count("▀") > 200
    assert "38;2;" in out  # in color


@pytest.fixture(scope="module")
def pages(nasty, model, tmp_path_factory):
    """One page of each kind, with names that try to break out of them."""
    from stopcli.hub.registry import resolve
    from stopcli.output import html
    from stopcli.results import Classification, Hit, Score
    from stopcli.runtime.encoder import Encoder, EncoderOptions
    from stopcli.tasks.explain import explain

    encoder = Encoder(resolve(str(model)), EncoderOptions("cpu", "fp32"))
    explanation = explain(encoder, nasty / NASTY, labels=[EVIL, "a dog"])
    clips = sorted(map(str, nasty.iterdir()))
    hits = [Hit(EVIL, i + 1, path, 0.0, 2.0, 0.5) for i, path in enumerate(clips)]
    label = (Score(EVIL, 0.75, 0.3),)
    windows = [Classification(path, at, at + 2.5, label) for path in clips for at in (0.0, 2.5)]
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (
        ("hits", html.hits_page(hits, EVIL)),
        ("timeline", html.timeline_page(windows, EVIL)),
        ("explanation", html.explanation_page(explanation, EVIL)),
    ):
        (folder / f"{name}.html").write_text(text)
    return folder


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Run headless Chromium on a page; return its standard output."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    profile = tmp_path_factory.mktemp("profile")

    def call(page, *options, width=1100):
        quiet = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        )
        command = [CHROMIUM, *quiet, f"--user-data-dir={profile}", f"--window-size={width},900"]
        done = subprocess.run(
            [*command, *options, page.as_uri()], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return done.stdout

    return call


KINDS = ("hits", "timeline", "explanation")


def probe(page, script):
    """Return a copy of a page that puts what a script finds into its title."""
    copy = page.with_name(f"probe-{page.name}")
    copy.write_text(page.read_text() + f"<script>document.title = 'found ' + ({script})</script>")
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_browser_runs_no_strange_script(pages, browse, kind):
    dom = browse(pages / f"{kind}.html", "--dump-dom")
    assert "<title>broken" not in dom
    assert "<footer>&lt;img src=x" in dom


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1100, 400])
def test_no_page_is_wider_than_its_window(pages, browse, kind, width):
    script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert "<title>found 0</title>" in browse(
        probe(pages / f"{kind}.html", script), "--dump-dom", width=width
    )


def test_arrow_keys_walk_from_hit_to_hit(pages, browse):
    press = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    script = f"{press}, {press}, document.activeElement.getAttribute('aria-label')"
    assert "<title>found plain.mp4</title>" in browse(probe(pages / "hits.html", script), "--dump-dom")


def test_a_window_of_the_timeline_takes_the_video_to_its_moment(pages, browse):
    script = "document.querySelectorAll('.line a[data-at]')[3].click(), document.getElementById('video1').currentTime"
    assert "<title>found 2.5</title>" in browse(probe(pages / "timeline.html", script), "--dump-dom")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1100, 400])
def test_the_pictures_of_a_page_are_seen(pages, browse, tmp_path, kind, width):
    shot = tmp_path / "shot.png"
    browse(pages / f"{kind}.html", f"--screenshot={shot}", width=width)
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(pixels - (230, 230, 40)).max(-1) < 40).mean() > 0.003  # the bright bar of the clips
