"""Every clip plays in the browser, or the page says why it does not."""

from __future__ import annotations

import shutil

import pytest

from served import CHROMIUM, browser, opened, served

pytestmark = [pytest.mark.real, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]
ODD = (  # a kind each: codecs, containers, clocks and sizes that browsers take badly
    "gen_hevc_10bit.mp4", "gen_hevc_422_12bit.mkv", "exo_sample.avi", "mediabunny_hevc.ts", "gen_vp9.webm",
    "gen_interlaced_mpeg2.mkv", "gen_mjpeg.avi", "torchcodec_h264_10bits.mp4", "gen_rotate90_landscape.mp4",
    "mp4parser_MOV00006.3gp", "gen_editlist_nonkey_cut.mp4", "gen_live_no_duration.mkv", "gen_animated.gif",
    "exo_sample_with_htc_rotation_track_name.mkv", "gen_two_hours_1fps.mp4", "gen_truncated_no_moov.mp4",
)  # fmt: skip
UNREADABLE = {"gen_truncated_no_moov.mp4"}


@pytest.fixture(scope="module")
def server(media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    videos = folder / "videos"
    shutil.copytree(media / "actions", videos)
    for name in ODD:
        shutil.copyfile(media / "odd" / name, videos / name)
    with served(videos, "--model", "mini", "--table", folder / "labels.csv", home=folder / "home") as running:
        running.indexed()
        yield running


def test_every_clip_plays_or_says_why(server):
    status = server.json("GET", "/api/status")
    refused = " ".join(status["failures"])
    moments = server.json("POST", "/api/search", {"query": "a", "top_k": 500, "per_file": 1, "fold": False})[
        "moments"
    ]
    names = {m["path"].rpartition("/")[2] for m in moments}
    assert all(name in refused for name in UNREADABLE)
    assert names >= set(ODD) - UNREADABLE
    assert len(names) == status["videos"] - len(status["failures"])
    silent = []
    with browser() as made, opened(made, server) as page:
        for moment in moments:
            page.evaluate(
                """async id => { const look = await import('/static/look.js');
                   await look.open({dataset: {id}, isConnected: false}); }""",
                moment["id"],
            )
            try:
                page.wait_for_function(
                    """() => { const video = document.querySelector('#look video');
                       return video?.readyState >= 2 && video.videoWidth > 0 && !video.error; }"""
                )
            except Exception:  # whatever the browser's driver raises
                silent.append(moment["path"])
            page.keyboard.press("Escape")
            page.wait_for_selector("#look", state="hidden")
        page.problems[:] = [p for p in page.problems if "net::ERR" not in p]
    assert silent == []


def test_a_copy_of_a_long_film_is_of_the_stretch_that_is_looked_at(server):
    moments = server.json("POST", "/api/search", {"query": "a", "top_k": 500, "fold": False})["moments"]
    late = max((m for m in moments if m["path"].endswith("exo_sample.avi")), key=lambda m: m["start"])
    _, _, piece = server.ask("GET", f"/view/look/{late['id']}")
    assert b'data-way="encoded"' in piece
    status, headers, film = server.ask("GET", f"/media/{late['file']}/copy?start=1&end=3")
    assert (status, headers["content-type"]) == (200, "video/mp4")
    assert film[4:8] == b"ftyp"
    assert film.find(b"moov") < film.find(b"mdat")  # it plays before it is whole
    assert (
        server.ask("GET", f"/media/{late['file']}/copy?start=1&end=3", headers={"Range": "bytes=0-9"})[0]
        == 206
    )
