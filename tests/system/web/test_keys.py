"""Every key and every button of the page, in a real browser, on the bundled clips."""

from __future__ import annotations

import csv
import json
import zipfile

import pytest
from PIL import Image

from served import CHROMIUM, browser, opened, served
from stopcli.tasks.samples import copy_samples

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
LEAST_CONTRAST = 4.5  # WCAG AA


@pytest.fixture(scope="module")
def made():
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "videos"
    list(copy_samples(folder))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def server(samples, home, tmp_path):
    with served(samples, "--model", "mini", "--table", tmp_path / "labels.csv", home=home) as running:
        running.indexed()
        running.table = tmp_path / "labels.csv"
        yield running


def rows(server):
    if not server.table.exists():
        return []
    return [
        (r["path"].rpartition("/")[2], r["label"])
        for r in csv.DictReader(server.table.read_text().splitlines())
    ]


def search(page, text):
    page.keyboard.press("/")
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#results').ariaBusy === 'false'")
    page.wait_for_selector(".summary b")


def first(page):
    return page.locator(".card").first.get_attribute("aria-label")


def test_a_search_is_typed_and_its_hits_are_walked_through(made, server):
    with opened(made, server) as page:
        search(page, "a rocket moving up")
        page.wait_for_function("() => document.querySelector('.card').ariaLabel.startsWith('a-rocket')")
        focused = "document.activeElement.ariaLabel ?? ''"
        page.keyboard.press("ArrowRight")
        one = page.evaluate(focused)
        page.keyboard.press("ArrowRight")
        two = page.evaluate(focused)
        assert one != two
        page.keyboard.press("ArrowDown")
        assert page.evaluate(focused) not in (one, two)
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(focused) == one
        page.wait_for_selector(".card video.ready")  # moments play by themselves
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#help").is_visible()


def test_more_like_this_and_not_this_change_what_is_found(made, server):
    with opened(made, server) as page:
        search(page, "an owl moving down")
        page.wait_for_function("() => document.querySelector('.card').ariaLabel.startsWith('an-owl')")
        page.locator(".card").first.focus()
        page.keyboard.press("m")
        page.wait_for_selector(".chip.like")
        page.click(".chip button")
        page.wait_for_function("() => !document.querySelector('.chip')")
        second = page.locator(".card").nth(1)
        gone = second.get_attribute("data-id")
        second.focus()
        page.keyboard.press("n")
        page.wait_for_selector(".chip.not")
        page.wait_for_function("id => !document.querySelector(`[data-id='${id}']`)", arg=gone)


def test_a_picture_is_searched_with(made, server, tmp_path):
    with opened(made, server) as page:
        poster = page.locator(".card[aria-label^='a-house'] .poster").first
        poster.scroll_into_view_if_needed()
        poster.evaluate("async picture => { await picture.decode(); }")  # it is loaded when it is near
        poster.screenshot(path=tmp_path / "house.png")
        with Image.open(tmp_path / "house.png") as picture:
            assert picture.width > 100
        page.set_input_files("#picture", tmp_path / "house.png")
        page.wait_for_selector(".chip.like")
        page.wait_for_function("() => document.querySelector('.card').ariaLabel.startsWith('a-house')")


def test_digits_label_x_rejects_u_takes_back_a_accepts(made, server):
    with opened(made, server) as page:
        for name in ("up", "down", "a house coming closer"):
            page.fill("#new-label", name)
            page.press("#new-label", "Enter")
            page.wait_for_selector(f"button[data-label='{name}']")
        page.keyboard.press("Escape")
        search(page, "a rocket moving up")
        page.wait_for_function("() => document.querySelector('.card').ariaLabel.startsWith('a-rocket')")
        page.locator(".card").first.focus()
        page.keyboard.press("1")
        page.wait_for_selector(".label.on[data-label=up]")  # from here on answers rank
        assert rows(server) == [("a-rocket-moving-up.mp4", "up")]
        owl = page.locator(".card[aria-label^='an-owl']").first
        owl.focus()
        page.keyboard.press("2")
        page.wait_for_function("() => !document.querySelector(\"#results .card[aria-label^='an-owl']\")")
        page.locator(".card[aria-label^='a-ghost']").first.focus()
        page.keyboard.press("x")
        page.wait_for_function("() => !document.querySelector(\"#results .card[aria-label^='a-ghost']\")")
        assert [label for _, label in rows(server)] == ["up", "down", "background"]
        page.keyboard.press("u")
        page.wait_for_selector("#results .card[aria-label^='a-ghost']")
        assert [label for _, label in rows(server)] == ["up", "down"]
        house = page.locator(".card[aria-label^='a-house']").first
        assert house.get_attribute("data-suggestion") == "a house coming closer"  # by its words
        house.focus()
        page.keyboard.press("a")
        page.wait_for_function("() => !document.querySelector(\"#results .card[aria-label^='a-house']\")")
        assert ("a-house-coming-closer.mp4", "a house coming closer") in rows(server)
        page.click("[data-queue=labelled]")
        page.wait_for_selector(".card.labelled .badge")
        assert page.locator(".card.labelled").count() == [label for _, label in rows(server)].count("up")
        page.click(".label.on")  # all labels again
        page.click("[data-queue=labelled]")
        count = len(rows(server))
        page.wait_for_function("n => document.querySelectorAll('.card.labelled').length === n", arg=count)


def test_twenty_labels_have_keys(made, server):
    names = [f"kind {i}" for i in range(1, 22)]
    for name in names:
        server.json("POST", "/api/labels", {"name": name})
    with opened(made, server) as page:
        page.wait_for_selector("button[data-label='kind 21']")
        shown = page.locator("#side button.label kbd").all_text_contents()
        assert (shown[8:12], shown[19:]) == (["9", "0", "⇧1", "⇧2"], ["⇧0", "·"])
        for count, (pressed, name) in enumerate((("0", "kind 10"), ("Shift+Digit2", "kind 12")), 1):
            page.wait_for_function("() => document.querySelector('#results').ariaBusy === 'false'")
            page.locator(".card:not(.labelled)").first.focus()
            page.keyboard.press(pressed)
            page.wait_for_selector(f"button[data-label='{name}'] b:has-text('1')")
            page.wait_for_selector(".label.on[data-label='kind 10']")  # from here on answers rank
            assert [label for _, label in rows(server)][-1] == name
            assert len(rows(server)) == count


def test_a_label_is_renamed_merged_and_taken_back(made, server):
    moments = server.json("POST", "/api/search", {"query": "x", "top_k": 50})["moments"]
    labels = dict(zip((m["id"] for m in moments), ("foks", "foks", "fox"), strict=False))
    for moment, label in labels.items():
        server.json("POST", "/api/judge", {"answers": {moment: label}})
    with opened(made, server) as page:
        page.on("dialog", lambda dialog: dialog.accept("fox"))
        page.wait_for_selector("button[data-label=foks]")
        page.locator("[data-rename=foks]").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("button[data-label=fox] b:has-text('3')")
        assert page.locator("button[data-label=foks]").count() == 0
        assert [label for _, label in rows(server)] == ["fox"] * 3
        page.locator(".card").first.focus()
        page.keyboard.press("u")
        page.wait_for_selector("button[data-label=foks] b:has-text('2')")
        assert [label for _, label in rows(server)] == ["foks", "foks", "fox"]
    status, _, body = server.ask("POST", "/api/labels/rename", {"name": "fox", "to": " "})
    assert (status, json.loads(body)["error"]) == (400, "usage-error")


def test_queues_and_an_audit_that_says_what_it_knows(made, server):
    moments = server.json("POST", "/api/search", {"query": "x", "top_k": 50})["moments"]
    rocket = next(m for m in moments if "rocket" in m["path"])
    server.json("POST", "/api/judge", {"answers": {rocket["id"]: "goes up"}})
    with opened(made, server) as page:
        page.click("button[data-label='goes up']")
        page.wait_for_selector(".label.on")
        for queue, words in (("uncertain", "uncertain"), ("diverse", "different"), ("audit", "Audit of")):
            page.click(f"[data-queue={queue}]")
            page.wait_for_selector(f".summary:has-text('{words}')")
        answer = server.json("POST", "/api/search", {"label": "goes up", "queue": "audit"})
        drawn = answer["audit"]["drawn"]
        assert drawn == len(answer["moments"]) <= 30
        if drawn:
            page.wait_for_selector(".card")
            page.locator(".card").first.focus()
            page.keyboard.press("x")
            page.wait_for_selector(".summary:has-text('0 %')")


def test_a_moment_is_looked_at_trimmed_labelled_and_explained(made, server):
    server.json("POST", "/api/labels", {"name": "up"})
    with opened(made, server) as page:
        page.wait_for_selector("button[data-label=up]")
        page.locator(".card[aria-label^='a-rocket']").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#look .stage video")
        page.wait_for_function("() => document.querySelector('#look video').readyState >= 2")
        page.keyboard.press("k")
        at = "document.querySelector('#look video').currentTime"
        page.evaluate("document.querySelector('#look video').currentTime = 1")
        page.wait_for_function(f"() => Math.abs({at} - 1) < .2")
        page.keyboard.press("[")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"() => {at} > 1.01")
        page.keyboard.press("Shift+ArrowRight")
        page.wait_for_function(f"() => {at} > 1.9")
        page.keyboard.press("]")
        page.keyboard.press(" ")
        page.wait_for_function("() => !document.querySelector('#look video').paused")
        page.click("[data-do=explain]")
        page.wait_for_selector(".explained .frames svg rect")
        page.keyboard.press("j")
        page.keyboard.press("l")
        page.keyboard.press("1")
        page.wait_for_selector("#look", state="hidden")
    (row,) = csv.DictReader(server.table.read_text().splitlines())
    assert row["label"] == "up"
    assert 0.9 < float(row["start"]) < 1.2
    assert 1.9 < float(row["end"]) < 2.4


@pytest.mark.parametrize(
    ("kind", "suffix"), [(".zip", ".zip"), (".edl", ".edl"), (".csv", ".csv"), (".srt", ".zip")]
)
def test_moments_are_taken_away(made, server, tmp_path, kind, suffix):
    with opened(made, server, accept_downloads=True) as page:
        search(page, "a car moving right")
        page.select_option(".take select", kind)
        page.check(".take [name=unsure]")
        with page.expect_download() as taken:
            page.click("[data-do=take]")
        file = tmp_path / taken.value.suggested_filename
        taken.value.save_as(file)
        assert file.suffix == suffix
        if suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                assert len(archive.namelist()) == 8
                assert archive.testzip() is None
        else:
            assert "rocket" in file.read_text()


def test_a_labels_download_holds_what_is_predicted_to_be_it(made, server):
    found = server.json("POST", "/api/search", {"query": "a"})["moments"]
    for label, moment in zip(("up", "down") * 2, found, strict=False):
        server.json("POST", "/api/judge", {"answers": {moment["id"]: label}})
    with opened(made, server) as page:
        page.click(".label[data-label=up]")
        page.wait_for_selector(".summary:has-text('likeliest')")
        cards = page.locator(".card").evaluate_all(
            "cards => cards.map(c => [c.dataset.suggestion, !c.dataset.unsure, c.classList.contains('labelled')])"
        )
    assert {sure == (labelled or suggestion == "up") for suggestion, sure, labelled in cards} == {True}


def test_what_is_not_sure_is_taken_away_only_when_asked(made, server, tmp_path):
    with opened(made, server, accept_downloads=True) as page:
        search(page, "a car moving right")
        assert 0 < (sure := page.locator(".card:not([data-unsure])").count()) < 8
        page.select_option(".take select", ".csv")
        with page.expect_download() as taken:
            page.click("[data-do=take]")
        taken.value.save_as(tmp_path / "moments.csv")
        found = list(csv.DictReader((tmp_path / "moments.csv").read_text().splitlines()))
        assert len(found) == sure
        assert all(float(row["score"]) > 0.2 and float(row["confidence"]) >= 0.9 for row in found)
        page.evaluate("document.querySelectorAll('.card').forEach(card => card.dataset.unsure = 'yes')")
        page.click("[data-do=take]")
        page.wait_for_selector("text=none of these is sure")


def test_two_tabs_see_each_others_labels_and_lose_none(made, server):
    with opened(made, server) as one, opened(made, server) as two:
        for page, name in ((one, "up"), (two, "down")):
            page.fill("#new-label", name)
            page.press("#new-label", "Enter")
        for page in (one, two):
            page.wait_for_selector("button[data-label=up]")
            page.wait_for_selector("button[data-label=down]")
            page.keyboard.press("Escape")
        one.locator(".card[aria-label^='a-rocket']").first.focus()
        one.keyboard.press("1")
        two.locator(".card[aria-label^='an-owl']").first.focus()
        two.keyboard.press("2")
        for page in (one, two):
            page.wait_for_function(
                "() => [...document.querySelectorAll('.label b')].every(b => b.textContent === '1')"
            )
    assert {label for _, label in rows(server)} == {"up", "down"}


def contrast(page, selector):
    """Return the contrast of an element's text with what lies behind it, as WCAG computes it."""
    return page.evaluate(
        """selector => {
          const luminance = rgb => rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
          const rgb = text => text.match(/[\\d.]+/g).map(Number);
          const element = document.querySelector(selector);
          const fore = rgb(getComputedStyle(element).color).slice(0, 3);
          let at = element, back = [255, 255, 255];
          for (; at; at = at.parentElement) {
            const found = rgb(getComputedStyle(at).backgroundColor);
            if (found.length < 4 || found[3] === 1) { back = found.slice(0, 3); break; }
          }
          const [a, b] = [luminance(fore), luminance(back)].sort((x, y) => y - x);
          return (a + .05) / (b + .05);
        }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_it_can_be_read_in_light_and_dark_wide_and_narrow(made, server, scheme, width):
    server.json("POST", "/api/labels", {"name": "up"})
    with opened(made, server, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": 850})
        page.wait_for_selector("button[data-label=up]")
        for selector in ("header > .name", ".summary", ".card .name", ".card .score, .card .actions button", "#side h2",
                         "#side p", "button.primary", ".took", "#side .label b", ".queues button"):  # fmt: skip
            assert contrast(page, selector) >= LEAST_CONTRAST, selector
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the window"
