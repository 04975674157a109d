"""What a person does while answers are on their way, in a real browser, on the bundled clips."""

from __future__ import annotations

import csv

import pytest

from served import CHROMIUM, browser, opened, served
from stopcli.tasks.samples import copy_samples

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
FOCUSED = "document.activeElement.dataset?.id ?? document.activeElement.tagName"
LATE = """() => { const now = window.fetch; window.fetch = (address, ...more) => address === '/api/judge'
    ? new Promise(done => setTimeout(done, 800)).then(() => now(address, ...more)) : now(address, ...more); }"""
ASK = "async change => (await import('/static/state.js')).ask(change)"


@pytest.fixture(scope="module")
def made():
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hands")
    list(copy_samples(folder / "videos"))
    words = ("--model", "mini", "--table", folder / "labels.csv")
    with served(folder / "videos", *words, home=folder / "home") as running:
        running.table = folder / "labels.csv"
        running.indexed()
        for name in ("up", "down"):
            running.json("POST", "/api/labels", {"name": name})
        yield running


@pytest.fixture
def page(made, server):
    with opened(made, server) as shown:
        shown.wait_for_selector("#results .card")
        yield shown


def drawn(page):
    page.wait_for_function("() => document.querySelector('#results').ariaBusy === 'false'")


def test_whoever_has_moved_on_stays_there_when_the_answer_comes(page, server):
    page.evaluate(LATE)
    page.locator("#results .card").nth(1).focus()
    page.keyboard.press("1")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    here = page.evaluate(FOCUSED)
    page.wait_for_selector(".label.on[data-label=up]")  # the answer is there
    drawn(page)
    assert page.evaluate(FOCUSED) == here
    assert [row["label"] for row in csv.DictReader(server.table.read_text().splitlines())] == ["up"]
    page.keyboard.press("u")
    page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Taken back')")


def test_more_moments_come_below_and_a_choice_stays(page):
    page.evaluate(ASK, {"top_k": 3})
    page.wait_for_function("() => document.querySelectorAll('#results .card').length === 3")
    page.select_option(".take select", ".edl")
    page.check(".take [name=unsure]")
    page.click("[data-do=further]")
    page.wait_for_function("() => document.querySelectorAll('#results .card').length > 3")
    drawn(page)
    fourth = page.locator("#results .card").nth(3).get_attribute("data-id")
    page.wait_for_function(f"id => ({FOCUSED}) === id", arg=fourth)
    assert page.locator(".take select").input_value() == ".edl"
    assert page.locator(".take [name=unsure]").is_checked()


def test_a_filter_that_cannot_be_is_shown(page):
    page.click("#filters summary")
    page.fill("[name=min_confidence]", "90")
    page.click("#filters summary")
    page.fill("#query", "a dog")
    page.keyboard.press("Enter")
    page.wait_for_selector("#filters[open]")


def test_a_second_tab_hears_of_labels(made, page, server):
    with opened(made, server) as other:
        other.locator("#results .card").first.focus()
        drawn(page)
        moment = other.locator("#results .card").first.get_attribute("data-id")
        server.json("POST", "/api/judge", {"answers": {moment: "down"}})
        other.click("text=Labels have changed: show them")
        other.wait_for_function(
            "id => !document.querySelector(`#results .card[data-id='${id}']:not(.labelled)`)", arg=moment
        )
    server.json("POST", "/api/undo")


def test_what_is_said_while_looking_is_said_there_and_stays_to_be_seen(page):
    page.locator("#results .card").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#look .ruler")
    page.keyboard.press("u")
    page.wait_for_function(
        "() => document.querySelector('#look #status')?.textContent.startsWith('Nothing to take')"
    )
    page.keyboard.press("Escape")
    page.wait_for_selector("#look", state="hidden")
    assert page.locator("main > #status").is_visible()


def test_a_server_with_another_key_says_so_itself(page):
    page.context.clear_cookies()
    page.evaluate("async () => (await import('/static/adapt.js')).listen()")
    page.wait_for_function("() => document.body.dataset.away?.includes('stop serve')")
    page.goto("about:blank")  # nothing asks any more: each refusal is a line of the console
    page.problems.clear()
