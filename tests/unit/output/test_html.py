"""Pages: every text is escaped, every address points at its moment, every part has its place."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from conftest import write_video
from stopcli.output import html
from stopcli.results import BlockTrace, Classification, Explanation, Hit, Look, Score, clock
from stopcli.video.workers.pool import read_facts

SCRIPT = "<script>alert(1)</script>"
NASTY = '<script>alert(1) & "q" # ?.mp4'
PROVENANCE = f"stopcli, model {SCRIPT}"


class Page(HTMLParser):
    """The tags and words of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def attributes(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(text):
    """Parse a page and check what holds for all of them."""
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert len(page.attributes("script")) == 1  # ours
    assert len(page.attributes("h1")) == 1
    assert SCRIPT in page.words  # shown as it is
    assert not [a for _, a in page.tags if a.get("src", "file:").startswith("http")]
    assert "{{" not in text
    assert "{%" not in text
    return page


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A folder with two clips; one has the name that no page should stumble over."""
    folder = tmp_path_factory.mktemp("pages") / "<b>videos"
    folder.mkdir()
    write_video(folder / "plain.mp4", frames=60, fps=10)
    shutil.copyfile(folder / "plain.mp4", folder / NASTY)
    return folder


def hits(folder, query=SCRIPT):
    return [
        Hit(query, i + 1, str(p), 2.0 * i, 2.0 * i + 2, 0.5) for i, p in enumerate(sorted(folder.iterdir()))
    ]


def test_a_page_of_hits_escapes_names_and_points_at_moments(nasty):
    page = read(html.hits_page([*hits(nasty), *hits(nasty, "<i>a bar</i>")], PROVENANCE))
    assert not page.attributes("i")
    assert "<i>a bar</i>" in page.words
    assert NASTY in page.words
    videos = page.attributes("video")
    assert len(videos) == 4
    assert all(re.search(r"#t=\d+(\.\d+)?,\d+(\.\d+)?$", v["src"]) for v in videos)
    assert all(v["poster"].startswith("data:image/jpeg;base64,") for v in videos)
    assert [a["aria-label"] for a in page.attributes("li")] == [NASTY, "plain.mp4"] * 2
    assert len(page.attributes("h2")) == 2


def test_whole_files_lost_files_and_no_hits_have_pages_too(nasty, tmp_path):
    lost = Hit(SCRIPT, 1, str(tmp_path / "gone\n.mp4"), None, None, 0.5)
    page = read(html.hits_page([lost], PROVENANCE))
    (video,) = page.attributes("video")
    assert "poster" not in video
    assert "#t" not in video["src"]
    assert "gone\N{REPLACEMENT CHARACTER}.mp4" in page.words
    assert "No hits" in read(html.hits_page([], PROVENANCE)).words


def windows(path, labels, seconds=2.0):
    spans = [(seconds * i, seconds * (i + 1)) for i in range(len(labels))]
    return [
        Classification(str(path), *s, (Score(label, 0.75, 0.3),))
        for s, label in zip(spans, labels, strict=True)
    ]


def test_a_timeline_covers_the_video(nasty):
    results = windows(nasty / "plain.mp4", ["a <u>cat</u>", SCRIPT, "a <u>cat</u>"])
    page = read(html.timeline_page([*results, *windows(nasty / NASTY, ["a dog"])], PROVENANCE))
    links = [a for a in page.attributes("a") if "style" in a]  # the others are in the list below the line
    shares = [float(re.search(r"width:([\d.]+)%", a["style"])[1]) for a in links]
    assert sum(shares[:3]) == pytest.approx(100, abs=0.1)
    assert shares[3] == 100
    assert not page.attributes("u")
    assert [a["data-video"] for a in links] == ["video0"] * 3 + ["video1"]
    assert [v["id"] for v in page.attributes("video")] == ["video0", "video1"]
    assert links[1]["title"] == f"0:02.0-0:04.0 {SCRIPT} 75%"
    hues = [re.search(r"--hue:(\d+)", a["style"])[1] for a in links]
    assert hues[0] == hues[2]
    assert len(set(hues)) == 3


def test_clips_without_windows_have_a_timeline_too(nasty):
    whole = Classification(str(nasty / "plain.mp4"), None, None, (Score(SCRIPT, 1.0, 0.3),))
    page = read(html.timeline_page([whole], PROVENANCE))
    assert "width:100.000%" in page.attributes("a")[0]["style"]
    length = read_facts(nasty / "plain.mp4").duration
    assert page.attributes("a")[0]["title"].startswith(f"0:00.0-{clock(length)} ")


LOOK = Look(
    np.full((3, 2, 2), 0.25, np.float32),
    np.array([[1.0, 0.0], [0.5, 0.5]], np.float32),
    np.array([0.75, 0.25], np.float32),
)


def explanation(**changes):
    """Return what a model with prompts might have seen: 3 frames of 4 patches."""
    regions = np.zeros((3, 2, 2), bool)
    regions[:, 0, 1] = True
    scores = regions.astype(np.float32)
    trace = BlockTrace(regions, scores, scores - 1, np.array([0.25, 1.0], np.float32), np.array([1, 2]))
    values = {
        "path": f"x/{NASTY}",
        "model": f"<b>{SCRIPT}</b>",
        "block": 1,
        "frames": np.full((3, 8, 8, 3), 200, np.uint8),
        "times": np.array([0.5, 1.5, 2.5]),
        "energy": regions.astype(np.float32),
        "certainty": np.ones(3, np.float32),
        "trace": (trace, trace),
        "most": 2,
        "labels": (SCRIPT, "a <u>cat</u>"),
        "spans": np.array([[0.0, 1.5], [1.5, 3.0]]),
        "look": LOOK,
        "plain": None,
    }
    return Explanation(**(values | changes))


def test_an_explanation_shows_regions_prompts_and_labels():
    page = read(html.explanation_page(explanation(), PROVENANCE))
    assert NASTY in page.words
    boxes = [(a["x"], a["y"]) for a in page.attributes("rect") if "y" in a]
    assert boxes == [("1", "0")] * 3
    assert (
        len([a for a in page.attributes("a") if a.get("data-video") == "clip"]) == 3 + 2
    )  # frames and windows
    assert len(page.attributes("image")) == len(page.attributes("img")) == 3
    assert sum(a.get("class") == "on" for a in page.attributes("i")) == 3
    lines = [a["points"] for a in page.attributes("polyline")]
    assert lines == ["0.00,0.00 100.00,50.00", "0.00,100.00 100.00,50.00"]
    assert not page.attributes("u")
    assert "Yellow boxes" in page.words
    assert "Blue squares" in page.words


def test_an_explanation_leaves_out_what_the_model_lacks():
    empty = np.zeros((0, 2, 2))
    whole = explanation()
    look = Look(LOOK.attention, np.zeros((0, 0)), np.zeros(0))
    blind = replace(whole.shown, regions=empty.astype(bool), scores=empty, bias=empty)
    none = replace(whole, labels=(), spans=np.zeros((0, 2)), look=look, trace=(blind,))
    page = read(html.explanation_page(none, PROVENANCE))
    assert not page.attributes("rect") + page.attributes("img") + page.attributes("polyline")
    assert "Yellow boxes" not in page.words
    assert "Blue squares" in page.words
    still = replace(whole.shown, counts=np.zeros(2, int))
    page = read(html.explanation_page(replace(whole, trace=(still,)), PROVENANCE))
    assert "Blue squares" not in page.words
    assert "Change between" not in page.words


def test_a_comparison_stands_below_each_frame_and_dotted_in_the_chart():
    plain = Look(1 - LOOK.attention, 1 - LOOK.shares, 1 - LOOK.whole)
    page = read(html.explanation_page(explanation(plain=plain), PROVENANCE))
    assert len(page.attributes("img")) == 3 * 3
    assert sum(a.get("class") == "dotted" for a in page.attributes("polyline")) == 2
    assert "plain CLIP 25%" in page.words


def test_a_page_says_where_regions_are_not_certain():
    page = read(html.explanation_page(explanation(certainty=np.zeros(3, np.float32)), PROVENANCE))
    assert "could not be followed in 3 of 3 frames" in page.words


def test_addresses_survive_any_name():
    assert html.address("/a b/é#?.mp4") == "file:///a%20b/%C3%A9%23%3F.mp4"
    assert html.address(os.fsdecode(b"/x\xff.mp4")) == "file:///x%FF.mp4"
    assert [clock(s) for s in (0, 59.96, 61.26, 3723.5)] == ["0:00.0", "1:00.0", "1:01.3", "1:02:03.5"]


def test_a_picture_of_a_moment_is_small_and_of_that_moment(nasty):
    early, late = (html.thumbnail(str(nasty / "plain.mp4"), at) for at in (0.0, 5.0))
    assert early != late
    assert all(len(picture) < 40_000 for picture in (early, late))
    assert html.thumbnail(str(nasty / "gone.mp4"), 0.0) is None


def test_a_gap_is_a_gap_on_the_page(tmp_path):
    video = write_video(tmp_path / "a.mp4", frames=60, fps=10)
    found = [
        Classification(str(video), start, start + 1.0, (Score("a dog", 0.9, 0.3),))
        for start in (1.0, 2.0, 5.0)
    ]
    assert html.runs_of(found) == [html.Run("a dog", 1.0, 3.0), html.Run("a dog", 5.0, 6.0)]
    page = Page(html.timeline_page(found, PROVENANCE))
    styles = [a["style"] for a in page.attributes("a") if "width" in a.get("style", "")]
    lefts = [re.search(r"margin-left:([\d.]+)%", style) for style in styles]
    assert [left and float(left[1]) for left in lefts] == [16.667, None, 33.333]
