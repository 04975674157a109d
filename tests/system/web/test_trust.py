"""Whoever has the link may ask, from this page; nobody else gets anything."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path

import pytest

from served import CHROMIUM, TOKEN, browser, opened, served
from stopcli.tasks.samples import copy_samples

NASTY = "<img src=x onerror=alert(1)> \"'&;#?.mp4"
PAGES = ("/", "/api/status", "/api/openapi.json", "/view/side", "/static/app.js", "/api/events")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    videos = folder / "videos"
    list(copy_samples(videos))
    (videos / "a-ghost-shaking.mp4").rename(videos / NASTY)
    (folder / "secret.mp4").write_bytes(b"not yours")
    (videos / "link.mp4").symlink_to(folder / "secret.mp4")
    with served(videos, "--model", "mini", "--table", folder / "labels.csv", home=folder / "home") as running:
        running.indexed()
        running.folder = folder
        yield running


def moment(server):
    (found,) = server.json("POST", "/api/search", {"query": "a dog", "top_k": 1})["moments"]
    return found


@pytest.mark.parametrize("path", PAGES)
def test_without_the_key_nothing_is_shown(server, path):
    for token in (None, "", "x", TOKEN[:-1], TOKEN + "x", "\u00fc"):
        headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
        status, _, body = server.ask("GET", path, headers=headers, token=None)
        assert status == 401
        assert b"video" not in body
    assert server.ask("GET", f"{path}?token={TOKEN}x", token=None)[0] == 401


def test_the_first_link_sets_a_cookie_that_scripts_cannot_read_and_other_sites_do_not_send(server):
    status, headers, body = server.ask("GET", f"/?token={TOKEN}", token=None)
    assert (status, b'url=/"' in body) == (200, True)
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    sent = {"Cookie": cookie.partition(";")[0]}
    assert server.ask("GET", "/", headers=sent, token=None)[0] == 200
    assert server.ask("GET", "/", headers={"Cookie": "stopcli-1=" + TOKEN}, token=None)[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "0.0.0.0"]
)
def test_under_another_name_nothing_is_served(server, host):
    assert server.ask("GET", "/api/status", headers={"Host": host})[0] == 421


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
])  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/undo"), ("GET", "/api/status"), ("POST", "/api/search")]
)
def test_other_pages_may_not_ask(server, headers, method, path):
    assert server.ask(method, path, {} if method == "POST" else None, headers)[0] == 403


def test_a_link_in_a_mail_opens_the_page(server):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.ask("GET", f"/?token={TOKEN}", headers=headers, token=None)[0] == 200
    assert server.ask("GET", "/api/status", headers=headers)[0] == 403


def test_every_answer_says_what_a_browser_may_do_with_it(server):
    for token in (TOKEN, None):
        _, headers, _ = server.ask("GET", "/", token=token)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert re.search(r"script-src 'self'(;|$)", policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


@pytest.mark.parametrize("path", [
    "/media/../../etc/passwd/file", "/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd/file", "/media/0123456789abcdef/file",
    "/static/../app.py", "/static/%2e%2e/%2e%2e/settings.py", "/static/page.html", "/taken/..%2f..%2fsecret.mp4",
    "/taken/x", "/nowhere", "/view/look/0123456789abcdef-0-1", "/view/look/x", "/api/train/..%2f..%2fx",
])  # fmt: skip
def test_no_path_leads_out_of_the_folders(server, path):
    status, _, body = server.ask("GET", path)
    assert status in (400, 404)
    assert b"root:" not in body
    assert b"not yours" not in body


def test_a_link_that_takes_the_place_of_a_video_is_not_followed(server):
    found = moment(server)
    path = server.folder / "videos" / Path(found["path"]).name
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(server.folder / "secret.mp4")
    try:
        for what in ("file", "poster?at=0", "copy?start=0&end=1", "clip?start=0&end=1"):
            status, _, body = server.ask("GET", f"/media/{found['file']}/{what}")
            assert status in (404, 422), what
            assert b"not yours" not in body
    finally:
        path.unlink()
        path.write_bytes(kept)


def test_what_is_sent_is_bounded(server):
    status, _, _ = server.ask("POST", "/api/picture", b"x" * (21 << 20))
    assert status == 413
    status, _, _ = server.ask("POST", "/api/search", b"x" * (2 << 20))
    assert status == 413
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    try:  # without saying how much
        for _ in range(64):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    except OSError:
        pass
    connection.close()
    assert server.json("GET", "/api/status")["videos"] == 8


@pytest.mark.parametrize("body", [
    b"{", b"[]", b"null", b"[" * 5000, b'{"query": 1}', b'{"nobody": "knows"}', b'{"top_k": 100000}',
    b'{"like": ["../x"]}', b'{"query": "a", "min_duration": NaN}', b'{"query": "\\ud800"}', b"\xff\xfe",
    json.dumps({"query": "x" * 2000}).encode(), b'{"like": ["0123456789abcdef-0-999"]}',
])  # fmt: skip
def test_a_question_that_makes_no_sense_gets_one_sentence(server, body):
    status, _, answer = server.ask("POST", "/api/search", body)
    assert status in (400, 404), answer
    said = json.loads(answer)
    assert set(said) == {"error", "message"}
    assert "Traceback" not in said["message"]


@pytest.mark.parametrize("query", ["at=nan", "at=inf", "at=-1", "at=x", "at=1e9", "side=99999&at=0", ""])
def test_a_picture_is_of_a_time_that_makes_sense(server, query):
    assert server.ask("GET", f"/media/{moment(server)['file']}/poster?{query}")[0] in (400, 422)


def test_files_are_sent_by_ranges(server):
    file = moment(server)["file"]
    status, headers, whole = server.ask("GET", f"/media/{file}/file")
    assert (status, headers["accept-ranges"], headers["content-type"]) == (200, "bytes", "video/mp4")
    status, headers, part = server.ask("GET", f"/media/{file}/file", headers={"Range": "bytes=100-199"})
    assert (status, part) == (206, whole[100:200])
    assert server.ask("GET", f"/media/{file}/file", headers={"Range": f"bytes={len(whole)}-"})[0] == 416


def test_odd_methods_do_nothing(server):
    for method in ("DELETE", "PUT", "OPTIONS", "PATCH", "TRACE"):
        assert server.ask(method, "/api/labels")[0] == 405
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/api/undo", headers={"Authorization": f"Bearer {TOKEN}"})
    assert json.loads(connection.getresponse().read()) == []
    connection.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_names_and_labels_of_others_are_text(server):
    label = "<script>document.title='broken'</script>\" onmouseover=\"x"
    server.json("POST", "/api/labels", {"name": label})
    with browser() as made, opened(made, server) as page:
        page.wait_for_selector("#side .label")
        names = page.locator(".card .name").all_text_contents()
        assert NASTY in names
        assert label in page.locator("#side .label .name").all_text_contents()
        page.locator(".card", has_text="onerror").first.focus()
        page.keyboard.press("1")
        page.wait_for_selector(".label.on")
        page.locator(".card").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#look h2")
        assert label in page.locator("#look .legend").text_content()
        page.keyboard.press("Escape")
        assert page.title().startswith("stop")
        assert page.locator("img[src=x]").count() == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux says who listens")
def test_it_listens_to_this_machine_alone_and_says_so_otherwise(server, tmp_path):
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = {line.split()[1] for line in lines if line.split()[3] == "0A"}
    assert f"0100007F:{server.port:04X}" in listening
    assert f"00000000:{server.port:04X}" not in listening
    videos = server.folder / "videos"
    settings = {"home": tmp_path / "home", "cwd": tmp_path}
    with served(videos, "--model", "mini", "--host", "0.0.0.0", **settings) as wide:
        assert any("whoever has the link" in line for line in wide.said)
        assert wide.ask("GET", "/api/status", token=None)[0] == 401
        assert wide.ask("GET", "/api/status", headers={"Host": "evil.example"})[0] == 421


def test_a_key_that_can_be_guessed_is_refused(server, run):
    status, _, err = run("serve", server.folder / "videos", "--token", "short")
    assert status == 2
    assert "16 plain characters" in err
