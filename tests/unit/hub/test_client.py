"""Files of the Hub: the real client against a local server, and its faults."""

from __future__ import annotations

import logging
import os
import signal

import pytest
from huggingface_hub import constants

from hub_server import BIG, COMMIT
from stopcli.errors import DownloadError, ModelNotFound, OfflineError, UsageError
from stopcli.hub import client, registry


def leftovers(tmp_path):
    """Files of the cache that are no whole blobs."""
    return [
        p
        for p in (tmp_path / "hub").rglob("*")
        if "incomplete" in p.name or (p.parent.name == "blobs" and p.stat().st_size not in (13, len(BIG)))
    ]


@pytest.mark.parametrize(("file", "content"), [("config.json", b'{"format": 0}'), ("big.bin", BIG)])
def test_a_file_is_fetched_once_and_then_without_any_request(hub, file, content):
    assert client.fetch("someone/model", file).read_bytes() == content
    assert hub.requests
    hub.requests.clear()
    assert client.fetch("someone/model", file).read_bytes() == content
    assert client.fetch("someone/model", file, offline=True).read_bytes() == content
    assert hub.requests == []


def test_a_revision_is_asked_for_by_name(hub):
    path = client.fetch("someone/model", "config.json", "v1")
    assert COMMIT in path.parts
    assert "/someone/model/resolve/v1/config.json" in {p for _, p, _ in hub.requests}


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut, hub.cuts = 60_000, 1
    assert client.fetch("someone/model", "big.bin").read_bytes() == BIG
    assert "bytes=60000-" in {r for _, _, r in hub.requests}


def test_a_line_that_keeps_breaking_is_an_error_and_leaves_no_half_file(hub, tmp_path):
    hub.cut, hub.cuts = 0, 1000
    with pytest.raises(DownloadError, match="broke off"):
        client.fetch("someone/model", "big.bin")
    assert leftovers(tmp_path) == []
    hub.cuts = 0
    assert client.fetch("someone/model", "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("file", ["config.json", "big.bin"])
def test_other_bytes_than_announced_are_removed(hub, file):
    hub.flip = True
    with pytest.raises(DownloadError, match="not what the Hub announced"):
        client.fetch("someone/model", file)
    hub.flip = False
    assert client.fetch("someone/model", file).read_bytes() == hub.files[file]


@pytest.mark.parametrize("file", ["config.json", "big.bin"])
def test_a_process_that_died_before_it_compared_hashes_is_not_trusted(hub, file):
    """The file lies in the cache under its announced name, whole in size; nobody has looked inside."""
    path = client.fetch("someone/model", file)
    data = hub.files[file]
    path.resolve().write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DownloadError, match="not what the Hub announced"):
        client.fetch("someone/model", file, offline=True)
    assert client.fetch("someone/model", file).read_bytes() == data


def test_a_large_file_is_hashed_once(hub, monkeypatch):
    client.fetch("someone/model", "big.bin")
    monkeypatch.setattr("stopcli.model.files.file_hash", lambda _: pytest.fail("hashed again"))
    client.fetch("someone/model", "big.bin")


def test_a_hub_that_drips_is_given_up(hub, monkeypatch):
    hub.drip = 0.05
    monkeypatch.setattr(client, "PATIENCE", 0.4)
    monkeypatch.setattr(client, "SLOWEST", 10**6)
    with pytest.raises(DownloadError, match="not done after"):
        client.fetch("someone/model", "big.bin")


def test_settings_that_are_too_large_are_not_fetched(hub, monkeypatch):
    monkeypatch.setattr(client, "LIMIT_JSON", 10)
    with pytest.raises(DownloadError, match="nothing was fetched"):
        client.fetch("someone/model", "config.json")
    assert not [m for m, _, _ in hub.requests if m == "GET"]


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, ModelNotFound, "log in"),
        (403, ModelNotFound, "log in"),
        (404, ModelNotFound, "404.*check the name"),
        (500, DownloadError, "500"),
    ],
)
def test_a_hub_that_refuses_is_a_clear_error(hub, tmp_path, status, error, text):
    hub.status = status
    with pytest.raises(error, match=text):
        client.fetch("someone/model", "big.bin")
    assert leftovers(tmp_path) == []


def test_what_is_not_there_is_named(hub):
    with pytest.raises(ModelNotFound, match="no repository someone/else"):
        client.fetch("someone/else", "config.json")
    with pytest.raises(ModelNotFound, match="no revision v9"):
        client.fetch("someone/model", "config.json", "v9")
    with pytest.raises(ModelNotFound, match=r"other\.bin: no such file"):
        client.fetch("someone/model", "other.bin")


def test_a_missing_file_is_not_worth_another_try(hub):
    hub.status = 404
    with pytest.raises(ModelNotFound) as caught:
        client.fetch("someone/model", "big.bin")
    assert "again" not in str(caught.value)
    assert len(hub.requests) == 1


def test_a_busy_hub_is_asked_again_but_not_for_ever(hub, capfd):
    hub.status = 503
    with pytest.raises(DownloadError, match="503; try again later"):
        client.fetch("someone/model", "big.bin")
    assert len(hub.requests) == 1 + len(client.WAITS)
    assert capfd.readouterr().err == ""


def test_what_answers_without_the_headers_of_a_hub_is_none(hub):
    hub.commit = ""
    with pytest.raises(DownloadError, match="no Hub; check HF_ENDPOINT"):
        client.fetch("someone/model", "big.bin")


def test_offline_makes_no_request(hub, monkeypatch):
    with pytest.raises(OfflineError, match="--model mini"):
        client.fetch("someone/model", "config.json", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="stop models pull hf:someone/model"):
        client.fetch("someone/model", "config.json")
    assert hub.requests == []


def test_a_hub_out_of_reach_is_one_error_that_says_how_to_fetch_the_model(hub, monkeypatch, capfd):
    client.fetch("someone/model", "config.json")
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(OfflineError, match="cannot be reached") as caught:
        registry.resolve("vit-b-32")
    assert "stop models pull vit-b-32" in str(caught.value)
    assert constants.HF_HUB_CACHE in str(caught.value)
    assert "only tries the command out" in str(caught.value)
    assert sum(waits) <= 3
    assert capfd.readouterr().err == ""
    assert client.fetch("someone/model", "config.json", refresh=True).is_file()  # the cached one serves


def test_the_librarys_own_lines_come_back_after_a_fetch(hub):
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    hub.status = 500
    with pytest.raises(DownloadError):
        client.fetch("someone/model", "big.bin")
    assert logger.level == level != logging.ERROR


@pytest.mark.parametrize(
    "name",
    [
        *("hf:justaname", "hf:a/b/c", "hf:", "hf:a/b@", "hf:a/b--c", "hf:a/b@../../../victim", "hf:../b"),
        *("hf:a/..", "hf:a/b@/etc/passwd", "hf:a/b@x//y", "hf:a/b@.", "hf:a/b@x/../y", "hf:a/b\n", "hf:a/.b"),
        *("hf:a/b@" + "x" * 400, "hf:a/b@x\\y", "hf:\u0430/b"),
    ],
)
def test_a_hub_name_of_another_shape_is_refused(name):
    with pytest.raises(UsageError, match="names no Hub model"):
        registry.resolve(name)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms there")
def test_an_interrupted_download_leaves_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)
    client.fetch("someone/model", "config.json")
    hub.drip = 0.001

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.fetch("someone/model", "big.bin")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert leftovers(tmp_path) == []


def test_what_a_killed_download_left_is_removed_by_the_next(hub, tmp_path):
    path = client.fetch("someone/model", "config.json")
    old, new = (path.resolve().with_name(f"{name}.incomplete") for name in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")  # perhaps another process is at it
    os.utime(old, (0, 0))
    client.fetch("someone/model", "big.bin")
    assert leftovers(tmp_path) == [new]


def test_a_fault_of_xet_storage_is_one_sentence(hub, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CAS Client Error")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(DownloadError, match="CAS Client Error; HF_HUB_DISABLE_XET=1"):
        client.fetch("someone/model", "big.bin")
