"""What a person does while the server is slow: nothing that comes late changes it, in a real browser."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing

import pytest

from conftest import write_video
from served import CHROMIUM, SHOWN, browser, opened, served
from stopcli.tasks.samples import copy_samples

browsing = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
IDLE = "() => document.querySelector('#results').ariaBusy === 'false'"
PRESS = """([selector, key]) => document.querySelector(selector).dispatchEvent(
    new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}))"""
ARABIC = "\u200fserve"  # begins with a mark of direction, as tables in Hebrew and Arabic have it


@pytest.fixture(scope="module")
def made():
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def folder(tmp_path):
    list(copy_samples(tmp_path / "videos"))
    return tmp_path / "videos"


@pytest.fixture
def server(folder, home, tmp_path):
    with served(folder, "--model", "mini", "--table", tmp_path / "labels.csv", home=home) as running:
        running.indexed()
        for name in ("fox", "owl"):
            running.json("POST", "/api/labels", {"name": name})
        yield running


def rows(tmp_path):
    if not (tmp_path / "labels.csv").exists():
        return {}
    text = (tmp_path / "labels.csv").read_text().splitlines()
    return {row["path"].rpartition("/")[2]: row["label"] for row in csv.DictReader(text)}


class Held:
    """Requests of one kind that are kept back until they are let go."""

    def __init__(self, page, pattern):
        self.page, self.routes, self.holding = page, [], True
        page.route(pattern, lambda route: self.routes.append(route) if self.holding else route.continue_())
        self.wait = page.wait_for_timeout

    def come(self):
        """Wait until there is one."""
        deadline = time.monotonic() + SHOWN
        while not self.routes:
            assert time.monotonic() < deadline, "nothing was asked for"
            self.wait(20)

    def let_go(self):
        self.holding = False
        for route in self.routes:
            with self.page.expect_response(route.request.url):
                route.continue_()
        self.wait(300)  # for what the page does with it


@browsing
def test_the_moment_that_was_asked_for_last_is_looked_at(made, server, tmp_path):
    with opened(made, server) as page:
        held = Held(page, "**/view/look/**")
        first, second = (page.locator("#results .card").nth(i) for i in (0, 1))
        wanted = second.get_attribute("data-id")
        first.focus()
        page.keyboard.press("Enter")
        held.come()
        held.holding = False
        second.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#look .look[data-id='{wanted}']")
        held.let_go()
        assert page.locator("#look .look").get_attribute("data-id") == wanted
        page.keyboard.press("1")
        page.wait_for_selector("#look", state="hidden")
    assert rows(tmp_path) == {second_name(wanted, server): "fox"}


@browsing
def test_a_comparison_that_comes_late_does_not_open_over_a_moment(made, server, tmp_path):
    """The next digit gave its label to the moment below."""
    with opened(made, server) as page:
        held = []
        page.route("**/view/mistakes/**", lambda route: held.append(route))
        button = '<button data-do="mistakes" data-run="labels-model">Mistakes</button>'
        page.evaluate("html => document.getElementById('side').insertAdjacentHTML('beforeend', html)", button)
        page.click("#side [data-do=mistakes]")
        card = page.locator("#results .card").first
        wanted = card.get_attribute("data-id")
        card.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#look .look[data-id='{wanted}']")
        (route,) = held
        with page.expect_response("**/view/mistakes/**"):
            route.fulfill(content_type="text/html", body="<ol><li class='card' tabindex=0>another</li></ol>")
        page.wait_for_timeout(300)
        assert not page.locator("#compare").is_visible()
        page.keyboard.press("2")
        page.wait_for_selector("#look", state="hidden")
    assert rows(tmp_path) == {second_name(wanted, server): "owl"}


def second_name(moment, server):
    found = server.json("POST", "/api/search", {"query": "", "queue": "labelled", "top_k": 9})["moments"]
    (path,) = (m["path"] for m in found if m["id"] == moment)
    return path.rpartition("/")[2]


@browsing
def test_what_is_typed_meanwhile_stays_words(made, server, tmp_path):
    with opened(made, server) as page:
        held = Held(page, "**/view/look/**")
        page.locator("#results .card").first.focus()
        page.keyboard.press("Enter")
        held.come()
        page.keyboard.press("/")
        page.keyboard.type("a f")
        held.let_go()
        page.keyboard.type("ox 1")
        assert page.input_value("#query") == "a fox 1"
        assert not page.locator("#look").is_visible()


@browsing
def test_what_is_taken_back_leaves_the_focus_where_it_went(made, server, tmp_path):
    with opened(made, server) as page:
        page.locator("#results .card").first.focus()
        page.keyboard.press("2")
        page.wait_for_selector(".label.on[data-label=owl]")
        page.wait_for_function(IDLE)
        held = Held(page, "**/view/moments")
        page.locator("#results .card").first.focus()
        page.keyboard.press("u")
        held.come()
        page.keyboard.press("/")
        page.keyboard.type("2 of")
        held.let_go()
        page.keyboard.type(" a box")
        assert page.input_value("#query") == "2 of a box"
    assert rows(tmp_path) == {}


@browsing
def test_a_second_key_after_a_look_does_not_overwrite_the_first(made, server, tmp_path):
    with opened(made, server) as page:
        page.click("button[data-label=fox]")
        page.wait_for_selector(".label.on[data-label=fox]")
        page.wait_for_function(IDLE)
        page.locator("#results .card").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#look .stage video")
        held = Held(page, "**/view/moments")
        page.keyboard.press("1")
        page.wait_for_selector("#look", state="hidden")
        held.come()
        page.keyboard.press("2")  # for what comes next, but the grid still shows the same
        held.let_go()
        page.wait_for_function(IDLE)
    assert list(rows(tmp_path).values()) == ["fox"]


@browsing
def test_a_time_is_marked_where_the_film_will_begin(made, home, tmp_path):
    write_video(tmp_path / "long.avi", frames=800, fps=4, codec="mpeg4")  # 200 s, of a kind that is copied
    with served(tmp_path / "long.avi", "--model", "mini", "--table", tmp_path / "l.csv", home=home) as server:
        server.indexed()
        with opened(made, server) as page:
            page.locator("#results .card").first.focus()
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelector('#look video')?.readyState > 1")
            page.route(
                "**/media/*/copy?**", lambda route: None
            )  # the stretch that is wanted next never comes
            box = page.locator("#look .ruler").bounding_box()
            page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
            page.keyboard.press("[")
            link = page.locator("#look a[download]").get_attribute("href")
            assert float(link.partition("start=")[2].partition("&")[0]) == pytest.approx(150, abs=1)


@browsing
def test_pages_that_are_not_seen_leave_the_others_room(made, server, tmp_path):
    """A browser opens six connections to a server, for all of its tabs."""
    hidden = """() => { Object.defineProperty(document, 'hidden', {value: true});
        document.dispatchEvent(new Event('visibilitychange')); }"""
    with closing(made.new_context()) as context:
        context.set_default_timeout(1000 * SHOWN)
        for count in range(8):
            page = context.new_page()
            page.goto(server.link)
            page.wait_for_selector("#results[aria-busy=false] .card")
            if count < 7:
                page.evaluate(hidden)
        page.locator("#results .card").first.focus()
        page.keyboard.press("1")
        page.wait_for_selector("button[data-label=fox] b:has-text('1')")
    assert list(rows(tmp_path).values()) == ["fox"]


@browsing
def test_checkboxes_and_files_are_for_the_keyboard_too(made, server):
    with opened(made, server) as page:
        page.click("#filters summary")
        box = page.locator("input[name=fold]")
        box.focus()
        page.keyboard.press(" ")
        assert not box.is_checked()
        page.keyboard.press("Escape")
        for key in ("Enter", " "):
            assert page.evaluate(PRESS, ["#picture", key]), "the page took the key for itself"


@browsing
def test_a_label_with_a_mark_of_direction_is_one_label(made, folder, home, tmp_path):
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".mp4")
    table = tmp_path / "labels.csv"
    table.write_text(f"path,start,end,label\n{folder / names[0]},0,1,{ARABIC}\n", encoding="utf-8")
    with served(folder, "--model", "mini", "--table", table, home=home) as server:
        server.indexed()
        assert server.json("GET", "/api/status")["labels"] == [ARABIC]
        with opened(made, server) as page:
            card = page.locator(f"#results .card[aria-label^='{names[3][:8]}']").first
            card.focus()
            page.keyboard.press("1")
            page.wait_for_selector("#side .label b:has-text('2')")
            page.wait_for_function(IDLE)
            page.locator(f"#results .card[aria-label^='{names[5][:8]}']").first.focus()
            page.keyboard.press("Enter")
            page.wait_for_selector("#look .stage video")
            page.locator("#look [data-give]").first.click()
            page.wait_for_selector("#side .label b:has-text('3')")
            assert set(rows(tmp_path).values()) == {ARABIC}
            page.on("dialog", lambda dialog: dialog.accept("serve"))
            page.locator("[data-rename]").click()
            page.wait_for_selector("button[data-label=serve] b:has-text('3')")
    assert list(rows(tmp_path).values()) == ["serve"] * 3


def test_keys_and_labels_stay_from_day_to_day(folder, home, tmp_path):
    """On the second day each key means the same label, and each label is with its footage."""
    words = (folder, "--model", "mini", "--table", tmp_path / "labels.csv")
    with served(*words, home=home) as server:
        server.indexed()
        for name in ("zebra", "empty", "ant"):
            server.json("POST", "/api/labels", {"name": name})
        found = server.json("POST", "/api/search", {"query": "a", "top_k": 8})["moments"]
        car, dog = (next(m for m in found if name in m["path"]) for name in ("a-car", "a-dog"))
        server.json("POST", "/api/judge", {"answers": {dog["id"]: "ant"}})
        server.json("POST", "/api/judge", {"answers": {car["id"]: "zebra"}})
        found = server.json("POST", "/api/search", {"queue": "labelled", "glob": "*a-car*", "top_k": 9})
        assert [m["id"] for m in found["moments"]] == [car["id"]]
        owl = server.json("POST", "/api/search", {"query": "an owl", "top_k": 1})["moments"][0]
        shutil.copy(folder / "a-ghost-shaking.mp4", owl["path"])  # nobody has seen that yet
        status, _, body = server.ask("POST", "/api/judge", {"answers": {owl["id"]: "ant"}})
        assert (status, "has changed since the page looked" in json.loads(body)["message"]) == (400, True)
    (folder / "a-car-moving-right.mp4").rename(folder / "x")
    (folder / "a-dog-moving-left.mp4").rename(folder / "a-car-moving-right.mp4")
    (folder / "x").rename(folder / "deep.mp4")
    search = [sys.executable, "-m", "stopcli", "index", "update", folder, "--model", "mini"]
    environment = {**os.environ, "STOPCLI_HOME": str(home), "OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, search)), env=environment, check=True, capture_output=True)
    with served(*words, home=home) as server:
        server.indexed()
        status = server.json("GET", "/api/status")
    assert status["labels"] == ["zebra", "empty", "ant"]
    assert rows(tmp_path) == {"a-car-moving-right.mp4": "ant", "deep.mp4": "zebra"}
