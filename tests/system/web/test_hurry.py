"""Labels that are given in a hurry, changed, and looked for, in a real browser, on the bundled clips."""

from __future__ import annotations

import csv

import pytest

from served import CHROMIUM, browser, opened, served
from stopcli.tasks.samples import copy_samples

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
# two keys that no answer of the server comes between
TOGETHER = """keys => { for (const key of keys)
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})); }"""


@pytest.fixture(scope="module")
def made():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def serve(tmp_path):
    folder = tmp_path / "videos"
    list(copy_samples(folder))

    def start(*words, command="serve"):
        words = (folder, "--model", "mini", "--table", tmp_path / "labels.csv", *words)
        return served(*words, home=tmp_path / "home", command=command)

    return start


def rows(tmp_path):
    return [
        {**row, "path": row["path"].rpartition("/")[2]}
        for row in csv.DictReader((tmp_path / "labels.csv").read_text().splitlines())
    ]


def prepare(server, *labels):
    """Wait until all is indexed, and add labels."""
    server.indexed()
    for name in labels:
        server.json("POST", "/api/labels", {"name": name})


def test_what_was_just_rejected_is_not_accepted_with_its_row(made, serve, tmp_path):
    with serve() as server:
        prepare(server, "a rocket moving up", "a house coming closer")
        with opened(made, server) as page:
            page.click("button[data-label='a rocket moving up']")
            house = page.locator("#results .card[data-suggestion='a house coming closer']").first
            house.wait_for()
            wrong = house.get_attribute("aria-label")
            house.focus()
            page.evaluate(TOGETHER, ["x", "a"])
            page.wait_for_function("() => !document.querySelector('#results .card.labelled')")
            page.wait_for_function("() => document.querySelector('#results').ariaBusy === 'false'")
        given = {row["path"]: row["label"] for row in rows(tmp_path)}
        assert given.pop(next(name for name in given if name.startswith(wrong[:12]))) == "background"
        assert "background" not in given.values()


def test_a_labelled_moment_that_is_trimmed_is_not_labelled_twice(made, serve, tmp_path):
    with serve() as server:
        prepare(server, "up", "down")
        with opened(made, server) as page:
            page.locator(".card[aria-label^='a-rocket']").first.focus()
            page.keyboard.press("1")
            page.wait_for_selector(".label.on[data-label=up]")
            page.click("[data-queue=labelled]")
            page.locator("#results .card[aria-label^='a-rocket']").first.focus()
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelector('#look video')?.readyState >= 2")
            page.keyboard.press("k")
            page.evaluate("document.querySelector('#look video').currentTime = 1")
            page.wait_for_function(
                "() => Math.abs(document.querySelector('#look video').currentTime - 1) < .2"
            )
            page.keyboard.press("[")
            page.keyboard.press("2")
            page.wait_for_selector("#look", state="hidden")
            (row,) = rows(tmp_path)
            assert row["label"] == "down"
            assert float(row["start"]) == pytest.approx(1, abs=0.2)
            page.keyboard.press("u")
            page.wait_for_selector("#results .card[aria-label^='a-rocket']")
        (row,) = rows(tmp_path)
        assert (row["label"], row["start"]) == ("up", "0")


def test_a_page_for_labels_begins_with_what_is_asked_for(made, serve, tmp_path):
    words = ("--labels", "a house coming closer,else", "--query", "a rocket moving up")
    with serve(*words, command="label") as server:
        server.indexed()
        with opened(made, server) as page:
            page.wait_for_function("() => document.querySelector('.card')?.ariaLabel.startsWith('a-rocket')")
            assert page.locator(".label.on").count() == 0
