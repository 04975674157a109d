"""What a key is answered with: the same label all day, one row for one stretch, undo of the last key."""

from __future__ import annotations

import csv

import pytest

from served import CHROMIUM, SHOWN, TOKEN, browser, opened, served
from stopcli.data.table import read_dataset
from stopcli.tasks.samples import copy_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "videos"
    list(copy_samples(folder))
    return folder


@pytest.fixture
def server(samples, tmp_path, tmp_path_factory):
    names = sorted(p.name for p in samples.iterdir() if p.suffix == ".mp4")
    table = tmp_path / "labels.csv"
    rows = [
        f"{samples / names[0]},0,,ant",  # to its end
        f"{samples / names[1]},,1,bee",  # from its beginning
        f"{samples / names[2]},0,1,cat",
        f"{samples / names[3]},9,9,cat",  # no moment
    ]
    table.write_text("\n".join(["path,start,end,label", *rows]) + "\n")
    home = tmp_path_factory.getbasetemp() / "home-of-answers"
    with served(samples, "--model", "mini", "--table", table, home=home) as running:
        running.indexed()
        running.table = table
        running.names = names
        yield running


def rows_of(server):
    with server.table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def moments(server, label=None):
    question = {"query": "", "label": label, "queue": "labelled", "top_k": 100}
    return server.json("POST", "/api/search", question)["moments"]


def test_labels_keep_their_keys_and_undo_takes_the_last_one_back(server):
    found = server.json("POST", "/api/search", {"query": "a", "top_k": 100, "fold": False})["moments"]
    free = [m["id"] for m in found if m["label"] is None][:3]
    labels = server.json("GET", "/api/status")["labels"]
    assert labels == ["ant", "bee", "cat"]
    for moment in free:
        assert server.json("POST", "/api/judge", {"answers": {moment: "cat"}})["labels"] == labels
    server.json("POST", "/api/judge", {"answers": {free[0]: "cat"}})  # once more: nothing changes
    assert server.json("POST", "/api/undo") == [free[2]]  # the last that changed anything
    server.json("POST", "/api/labels", {"name": "dog"})
    assert server.json("POST", "/api/labels/rename", {"name": "dog", "to": "cow"})[-1] == "cow"
    assert server.json("POST", "/api/undo") == []  # no moment had it
    assert server.json("GET", "/api/status")["labels"] == [*labels, "dog"]
    server.json("POST", "/api/labels/rename", {"name": "bee", "to": "wasp"})
    server.json("POST", "/api/undo")
    assert server.json("GET", "/api/status")["labels"] == [*labels, "dog"]
    assert sum(row["label"] == "cat" for row in rows_of(server)) == 4
    server.json("POST", "/api/judge", {"answers": {free[2]: "bee"}})
    server.table.write_text(server.table.read_text().replace(",bee", ",ant"))  # by hand, and it stays
    assert server.json("POST", "/api/undo") == []
    assert [m["label"] for m in moments(server) if m["id"] in free] == ["ant", "cat", "cat"]


def test_a_row_that_leaves_out_a_time_is_replaced_and_not_contradicted(server):
    shown = moments(server)
    assert sorted(m["label"] for m in shown) == ["ant", "bee", "cat"]  # the row of no moment is left out
    for m in shown:
        server.json("POST", "/api/judge", {"answers": {m["id"]: "eel"}})
    assert [row["label"] for row in rows_of(server)] == ["eel", "eel", "eel", "cat"]
    server.table.write_text("\n".join(server.table.read_text().splitlines()[:-1]) + "\n")
    assert {row.text for row in read_dataset(server.table).rows} == {"eel"}


def test_what_is_made_of_a_video_is_asked_for_again_but_not_sent_again(server):
    moment = moments(server)[0]
    address = f"/media/{moment['file']}/poster?at=0.5"
    status, headers, picture = server.ask("GET", address)
    assert (status, headers["cache-control"]) == (200, "private, max-age=30")
    status, _, body = server.ask("GET", address, headers={"If-None-Match": headers["etag"]})
    assert (status, body) == (304, b"")
    assert picture


def test_looking_at_a_moment_is_answered_soon_though_it_waits(server):
    """A browser holds few connections: none may wait for long."""
    moment = moments(server)[0]["id"]
    job, piece = "", b""
    for _ in range(SHOWN):
        _, _, piece = server.ask("GET", f"/view/explain/{moment}?job={job}")
        if b"data-job" not in piece:
            break
        job = piece.partition(b'data-job="')[2].partition(b'"')[0].decode()
    assert b"<svg" in piece
    looked = [j for j in server.json("GET", "/api/jobs") if j["name"].startswith("looking")]
    assert len(looked) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_page_of_another_site_leads_to_the_page(server, tmp_path):
    """As `--open` does, and a link in a mail: a browser sends no strict cookie along a redirect from there."""
    link = tmp_path / "mail.html"
    link.write_text(f'<a href="http://127.0.0.1:{server.port}/?token={TOKEN}">here</a>')
    forward = tmp_path / "open.html"
    forward.write_text(
        f'<meta http-equiv="refresh" content="0;url=http://127.0.0.1:{server.port}/?token={TOKEN}">'
    )
    with browser() as made:
        for start in (forward, link):
            context = made.new_context()
            context.set_default_timeout(1000 * SHOWN)
            page = context.new_page()
            page.goto(start.as_uri())
            if start is link:
                page.click("a")
            page.wait_for_selector("#results[aria-busy=false]", timeout=1000 * SHOWN)
            assert TOKEN not in page.url
            context.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_escape_closes_whatever_is_open_and_a_wrong_key_is_put_right(server):
    with browser() as made, opened(made, server) as page:
        page.evaluate("document.getElementById('compare').showModal()")
        page.keyboard.press("Escape")
        page.wait_for_selector("#compare", state="hidden")
        # a card outside the grid, as the mistakes of a model are
        page.evaluate(
            "() => { const place = document.getElementById('compare'); place.showModal();"
            " place.append(document.querySelector('.card').cloneNode(true)); }"
        )
        page.locator("#compare .card").focus()
        page.keyboard.press("1")
        page.wait_for_selector("#compare .card.labelled:not([data-taken])")
        page.keyboard.press("2")
        server.until(lambda s: s["counts"].get("bee", 0) == 2, "labelled again")
        assert server.json("GET", "/api/status")["counts"]["ant"] == 1
