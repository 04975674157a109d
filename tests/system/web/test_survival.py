"""What is labelled and trained outlives the page, the server and the power switch."""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from conftest import write_model
from labelled_clips import write_labelled
from served import PATIENCE, served
from stopcli.model.config import StopConfig
from stopcli.tasks.labelling.table import LabelTable
from stopcli.tasks.samples import copy_samples


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def rows(table):
    return list(csv.DictReader(table.read_text().splitlines()))


def test_the_link_is_printed_before_the_page_is_served_as_json_too(home, tmp_path):
    list(copy_samples(tmp_path / "videos"))
    named = ("--model", "mini", "--table", tmp_path / "labels.csv")
    with served(tmp_path / "videos", *named, "--format", "json", home=home) as server:
        document = json.loads(server.first)
        assert (document["command"], document["status"]) == ("serve", "ok")
        assert server.json("GET", "/api/status")["jobs"] is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.stdout.read() == ""
        assert server.end() == 0


def test_a_killed_server_loses_no_label(home, tmp_path):
    videos, table = tmp_path / "videos", tmp_path / "labels.csv"
    list(copy_samples(videos))
    for _ in range(3):
        asked, given = {}, {}  # the last name of each moment, asked for and confirmed
        with served(videos, "--model", "mini", "--table", table, home=home) as server:
            server.indexed()
            found = server.json("POST", "/api/search", {"query": "a", "top_k": 8})["moments"]
            moments = [(m["id"], m["path"].rpartition("/")[2]) for m in found]
            enough = threading.Event()

            def label(server=server, moments=moments, enough=enough, asked=asked, given=given):
                for i in range(10_000):
                    (moment, file), name = moments[i % 8], f"label {i % 5}"
                    asked[file] = name
                    try:
                        server.json("POST", "/api/judge", {"answers": {moment: name}})
                    except (OSError, http.client.HTTPException):  # it was killed while it answered
                        return
                    given[file] = name
                    if i == 30:
                        enough.set()

            thread = threading.Thread(target=label)
            thread.start()
            assert enough.wait(PATIENCE)
            server.end(signal.SIGKILL)
            thread.join()
        kept = {r["path"].rpartition("/")[2]: r["label"] for r in rows(table)}
        assert len(kept) == len(rows(table)) == 8
        # what was confirmed is there; the last key may have come too late to be confirmed
        assert all(kept[file] in (given[file], asked[file]) for file in given)
        assert sum(kept[file] != given[file] for file in given) <= 1
    with LabelTable(table):
        assert not list(tmp_path.glob(".*.part*"))  # what the last kill left


def test_every_answer_was_on_the_disk_when_it_was_confirmed(home, tmp_path):
    videos, table = tmp_path / "videos", tmp_path / "labels.csv"
    list(copy_samples(videos))
    with served(videos, "--model", "mini", "--table", table, home=home) as server:
        server.indexed()
        moments = server.json("POST", "/api/search", {"query": "a", "top_k": 8})["moments"]
        for i, moment in enumerate(moments):
            server.json("POST", "/api/judge", {"answers": {moment["id"]: f"l{i}"}})
            assert rows(table)[-1]["label"] == f"l{i}"
        threads = [
            threading.Thread(target=server.json, args=("POST", "/api/judge", {"answers": {m["id"]: f"k{i}"}}))
            for i, m in enumerate(moments)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(r["label"] for r in rows(table)) == [f"k{i}" for i in range(8)]


@pytest.fixture
def toy_page(home, tmp_path):
    """A toy model, sixteen labelled clips, and the options of a page over them."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_labelled(folder)
    (folder / "data.csv").rename(folder / "labels.csv")
    model = write_model(tmp_path / "toy", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    options = (folder, "--model", model, "--table", folder / "labels.csv")
    return folder, options, {"home": home}


def begun(server, epochs=400):
    server.indexed()
    run = server.json("POST", "/api/train", {"epochs": epochs})
    name = run["name"]
    for _ in range(1500):
        run = server.json("GET", f"/api/train/{name}")
        if (run["step"] >= 3 and run["score"]) or run["state"] != "running":
            break
        time.sleep(0.2)
    assert run["state"] == "running", run
    return name


def state(server, name, wanted):
    for _ in range(1500):
        run = server.json("GET", f"/api/train/{name}")
        if run["state"] in wanted:
            return run
        time.sleep(0.2)
    raise AssertionError(run)


def test_a_training_survives_the_server_is_stopped_and_resumed(toy_page):
    folder, options, settings = toy_page
    with served(*options, **settings) as server:
        name = begun(server)
        assert server.ask("POST", "/api/train", {})[0] == 400  # one at a time
        pid = json.loads((folder / f".{name}.run.json").read_text())["pid"]
        assert server.end() == 0
    os.kill(pid, 0)  # it goes on
    with served(*options, **settings) as server:
        before = server.json("GET", f"/api/train/{name}")
        assert before["state"] == "running"
        assert before["loss"]
        server.json("POST", f"/api/train/{name}/stop")
        stopped = state(server, name, {"stopped", "failed", "finished"})
        assert stopped["state"] == "stopped"
        assert server.ask("POST", f"/api/train/{name}/stop")[0] == 400
        server.json("POST", f"/api/train/{name}/resume")
        again = state(server, name, {"running", "failed"})
        assert again["state"] == "running"
        for _ in range(1500):
            again = server.json("GET", f"/api/train/{name}")
            if again["step"] > stopped["step"]:
                break
            time.sleep(0.2)
        assert again["step"] > stopped["step"]
        assert again["loss"][0][0] == 1  # the curve is whole
        server.json("POST", f"/api/train/{name}/stop")
        state(server, name, {"stopped"})


def test_a_killed_training_is_seen_and_goes_on_from_its_last_state(toy_page):
    folder, options, settings = toy_page
    with served(*options, **settings) as server:
        name = begun(server)
        os.kill(json.loads((folder / f".{name}.run.json").read_text())["pid"], signal.SIGKILL)
        killed = state(server, name, {"stopped", "failed"})
        assert killed["state"] == "stopped"
        server.json("POST", f"/api/train/{name}/resume")
        assert state(server, name, {"running"})
        server.json("POST", f"/api/train/{name}/stop")
        state(server, name, {"stopped"})


def test_a_training_that_fails_says_why(toy_page):
    folder, options, settings = toy_page
    with served(*options, **settings) as server:
        server.indexed()
        for clip in folder.glob("*.mp4"):
            clip.write_bytes(b"no video")
        name = server.json("POST", "/api/train", {"epochs": 1})["name"]
        run = state(server, name, {"failed", "finished", "stopped"})
        assert run["state"] == "failed"
        assert "not a video" in run["words"] or "problems" in run["words"]


def test_no_other_process_is_ever_stopped(toy_page):
    """A record that names another process leads nowhere."""
    folder, options, settings = toy_page
    record = {"pid": os.getpid(), "began": time.time(), "base": "x", "options": []}
    (folder / ".labels-model.run.json").write_text(json.dumps(record))
    with served(*options, **settings) as server:
        assert server.json("GET", "/api/train/labels-model")["state"] != "running"
        assert server.ask("POST", "/api/train/labels-model/stop")[0] == 400
    os.kill(os.getpid(), 0)


def test_a_table_that_changes_and_a_table_that_goes(home, tmp_path):
    videos, table = tmp_path / "videos", tmp_path / "labels.csv"
    list(copy_samples(videos))
    with served(videos, "--model", "mini", "--table", table, home=home) as server:
        server.indexed()
        moment = server.json("POST", "/api/search", {"query": "a"})["moments"][0]
        server.json("POST", "/api/judge", {"answers": {moment["id"]: "mine"}})
        text = table.read_text()
        table.write_text(text + "videos/a-house-coming-closer.mp4,0,1,theirs\n")
        server.until(lambda s: s["counts"] == {"mine": 1, "theirs": 1}, "read again")
        table.write_text("path,start\nbroken")
        status, _, said = server.ask("POST", "/api/judge", {"answers": {moment["id"]: "x"}})
        assert status == 422, said
        assert "its columns are" in json.loads(said)["message"]
        assert table.read_text() == "path,start\nbroken"  # not overwritten
        table.unlink()
        server.json("POST", "/api/judge", {"answers": {moment["id"]: "new"}})
        assert [r["label"] for r in rows(table)] == ["new"]


def test_a_second_page_on_one_table_is_told_who_has_it(home, tmp_path):
    videos = tmp_path / "videos"
    list(copy_samples(videos))
    settings = {"home": home, "cwd": tmp_path}
    with served(videos, "--model", "mini", **settings), pytest.raises(RuntimeError, match="is writing it"):
        served(videos, "--model", "mini", **settings).__enter__()
    assert Path(tmp_path / ".labels.csv.lock").exists()


def test_a_download_that_broke_off_is_fetched_again(home, tmp_path):
    videos = tmp_path / "videos"
    list(copy_samples(videos))
    with served(videos, "--model", "mini", "--table", tmp_path / "labels.csv", home=home) as server:
        server.indexed()
        moments = server.json("POST", "/api/search", {"query": "a"})["moments"][:2]
        job = server.json("POST", "/api/take", {"moments": [m["id"] for m in moments], "kind": ".zip"})
        server.until(lambda s: any(j["id"] == job["id"] and j["result"] for j in s["jobs"]), "packed")
        (done,) = (j for j in server.json("GET", "/api/jobs") if j["id"] == job["id"])
        link = f"/taken/{done['result']['file']}"
        first = server.ask("GET", link)
        assert first[0] == 200
        assert server.ask("GET", link)[2] == first[2]  # as after a line that broke
        clip = f"/media/{moments[0]['file']}/clip?start=0&end=1"
        whole = server.ask("GET", clip)[2]
        status, _, part = server.ask("GET", clip, headers={"Range": "bytes=10-99"})
        assert (status, part) == (206, whole[10:100])
        server.ask("HEAD", clip)
        assert len(list(home.rglob("taken/*"))) == 1  # the archive: clips are made once, among what is shown


def test_labels_follow_files_that_moved_and_a_training_goes_without_those_that_are_gone(toy_page):
    folder, options, settings = toy_page
    with served(*options, **settings) as server:
        server.indexed()
        counts = server.json("GET", "/api/status")["counts"]
        clips = sorted(folder.glob("*.mp4"))
        (folder / "moved").mkdir()
        clips[0].rename(folder / "moved" / "elsewhere.mp4")
        server.json("POST", "/api/rescan")
        server.indexed()
        (row,) = (r for r in rows(folder / "labels.csv") if r["path"].endswith("elsewhere.mp4"))
        assert row["path"] == "moved/elsewhere.mp4"
        assert server.json("GET", "/api/status")["counts"] == counts
        assert not any(r["path"] == clips[0].name for r in rows(folder / "labels.csv"))
        clips[1].unlink()
        name = server.json("POST", "/api/train", {"epochs": 0})["name"]
        assert state(server, name, {"failed", "finished", "stopped"})["state"] == "finished"


def test_a_label_is_not_put_back_on_other_footage(toy_page):
    folder, options, settings = toy_page
    with served(*options, **settings) as server:
        server.indexed()
        moment, other = server.json("POST", "/api/search", {"query": "a"})["moments"][:2]
        first, second = Path(moment["path"]), Path(other["path"])
        server.json("POST", "/api/judge", {"answers": {moment["id"]: "here"}})
        server.json("POST", "/api/judge", {"answers": {moment["id"]: None}})
        before = rows(folder / "labels.csv")
        first.write_bytes(second.read_bytes() + b"another film")
        status, _, body = server.ask("POST", "/api/undo", {})
        assert (status, b"has changed since the page looked" in body) == (400, True)
        server.json("POST", "/api/rescan")
        server.indexed()
        assert server.json("POST", "/api/undo") == []
        assert rows(folder / "labels.csv") == before
