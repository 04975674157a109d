"""The whole loop in a real browser: search, look, label, adapt, search again."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from served import CHROMIUM, PATIENCE, browser, opened, served

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))
MOTIONS = ("left", "right")
WORDS = {"left": "dax", "right": "wug"}  # what somebody calls them: no model knows these words
CLIPS = 50  # of each motion
LABELS = 32
EPOCHS = 12

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def write_world(folder, each, first_seed):
    """Render clips of things that move left and right; return the motion of each file."""
    from training.world.clips import Clip
    from training.world.files import write_clips
    from training.world.vocabulary import OBJECT_NAMES

    rng, names = np.random.default_rng(first_seed), sorted(OBJECT_NAMES)
    clips = [Clip(first_seed + i, str(rng.choice(names)), MOTIONS[i % 2]) for i in range(len(MOTIONS) * each)]
    files = write_clips(folder, clips, 2)
    return {file.name: clip.motion for file, clip in zip(files, clips, strict=True)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder / "videos", write_world(folder / "videos", CLIPS, 7_000_000)


def precision(moments, truth, motion, without):
    """Return the share of right ones among the first forty that are not labelled."""
    names = [Path(m["path"]).name for m in moments if Path(m["path"]).name not in without][:40]
    return sum(truth[name] == motion for name in names) / len(names)


def test_labels_given_by_keys_make_the_search_better_without_and_with_training(world, tmp_path, capsys):
    videos, truth = world
    home, table = tmp_path / "home", tmp_path / "labels.csv"
    with served(videos, "--model", "mini", "--table", table, home=home) as server, browser() as made:
        server.indexed()
        query = {"query": "dax", "top_k": 200}
        before = server.json("POST", "/api/search", query)["moments"]
        with opened(made, server) as page:
            for name in WORDS.values():
                page.fill("#new-label", name)
                page.press("#new-label", "Enter")
                page.wait_for_selector(f".label[data-label='{name}']")
            page.keyboard.press("Escape")
            page.keyboard.press("/")
            page.keyboard.type("dax")
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelectorAll('.card').length === 24")
            page.click(".label[data-label='dax']")
            page.wait_for_selector(".label.on[data-label='dax']")
            page.wait_for_selector(".summary:has-text('likeliest')")
            page.click(".queues [data-queue=uncertain]")
            page.wait_for_selector(".summary:has-text('uncertain')")
            seconds = label_by_keys(page, truth)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        assert len(rows) == LABELS
        assert all(r["label"] == WORDS[truth[Path(r["path"]).name]] for r in rows)
        seen = {Path(r["path"]).name for r in rows}

        base = precision(before, truth, "left", seen)
        learnt = server.json("POST", "/api/search", {**query, "label": "dax"})["moments"]
        answers = precision(learnt, truth, "left", seen)

        with opened(made, server) as page:
            page.click("details.settings summary")
            page.fill("#epochs", str(EPOCHS))
            page.click("[data-do=train]")
            page.wait_for_selector(".run.running .curve")
            page.reload()  # the page may go
            page.wait_for_selector(".run.finished", timeout=1000 * PATIENCE)
            page.click("[data-do=use]")
            page.wait_for_selector("[data-do=compare]")
            server.indexed()
            page.fill("#query", "dax")
            page.press("#query", "Enter")
            page.click("[data-do=compare]")
            page.wait_for_selector("#compare .two")
            assert page.locator("#compare .cards").count() == 2
            shown = [
                Path(c.get_attribute("aria-label").split(",")[0]).name
                for c in page.locator("#compare .card").all()
            ]
            assert shown
            assert not set(shown) & seen  # nothing that was trained on
        model = server.json("GET", "/api/status")["models"][1]
        after = server.json("POST", "/api/search", {**query, "model": model})["moments"]
        trained = precision(after, truth, "left", seen)
        run = server.json("GET", "/api/train/labels-model")
    with capsys.disabled():  # what the page is worth
        print(f"\n{len(rows)} labels, {seconds:.2f} s each; of the first 40 unseen clips, right: by words {base:.0%}, "
              f"by answers {answers:.0%}, after training {trained:.0%}; held out {run['result']['validation']:.0f} %, "
              f"before {run['result']['validation_plain']:.0f} %")  # fmt: skip
    assert answers > base
    assert trained > base


def label_by_keys(page, truth):
    """Label the most uncertain moments by their digits; return how many seconds one takes."""
    began = time.monotonic()
    for _ in range(LABELS):
        card = page.locator(".card").first
        motion = truth[card.get_attribute("aria-label").split(",")[0]]
        moment = card.get_attribute("data-id")
        card.focus()
        page.keyboard.press(str(1 + MOTIONS.index(motion)))
        page.wait_for_function("id => !document.querySelector(`#results .card[data-id='${id}']`)", arg=moment)
    return (time.monotonic() - began) / LABELS
