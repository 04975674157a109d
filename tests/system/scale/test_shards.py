"""Real processes, each with its share of a folder, one of them killed: together what one process makes.

Where it does not matter that a share has a process of its own, the command runs in that of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import write_model, write_video
from stopcli.index.store import Index
from stopcli.model.config import StopConfig

CLIPS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and clips of all lengths: a copy, one that is no video, and one that is hidden from readers."""
    folder = tmp_path_factory.mktemp("shards")
    write_model(folder / "model", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    clips = folder / "clips"
    clips.mkdir()
    for i in range(CLIPS):
        write_video(clips / f"{i:02d}.mp4", frames=30 + 17 * i % 90, options={"preset": "ultrafast"})
    shutil.copy(clips / "03.mp4", clips / "20-copy.mp4")
    (clips / "07-bad.mp4").write_bytes(b"no video")
    return folder


class Commands:
    """Starts ``stop`` in processes of their own."""

    def __init__(self, place, home):
        self.place = place
        self.environ = {**os.environ, "STOPCLI_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def start(self, *words):
        command = [sys.executable, "-m", "stopcli", *map(str, words), "--format", "json"]
        return subprocess.Popen(
            command,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.place,
        )

    def run(self, *words, status=1):
        process = self.start(*words)
        out, err = process.communicate()
        assert process.returncode == status, err
        return json.loads(out), err

    def killed(self, grown, *words):
        """Start a command, kill it when it has begun to write, and say whether it had not ended by then."""
        process = self.start(*words)
        while process.poll() is None and not grown():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


@pytest.fixture
def commands(place, home):
    return Commands(place, home)


@pytest.fixture
def run(run_json, place, monkeypatch):
    """Run a command in this process, in the folder of the clips, and return its JSON object."""
    monkeypatch.chdir(place)

    def call(*words, status=1):
        got, told = run_json(*words)
        assert got == status, told
        return told

    return call


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def contents(folder):
    """Return all that an index holds: rows, what they are, faults, and files."""
    with Index(folder) as index:
        (space,) = index.database.spaces()
        return (
            np.array(index.vectors(space)).tobytes(),
            index.database.entries(space),
            index.database.faults(space),
            index.database.files(),
        )


def test_three_parts_of_an_index_one_killed_are_row_for_row_that_of_one_process(commands, place, tmp_path):
    one, three = tmp_path / "one", tmp_path / "three"
    update = ("index", "update", "clips", "-m", "model", "--window", 1)
    commands.run(*update, "--index", one)
    part = three / "shards" / "0002-of-0003"
    second = (*update, "--index", three, "--shard", "2/3")
    assert commands.killed((part / "index.sqlite").exists, *second)
    first = [commands.start(*update, "--index", three, "--shard", f"{n}/3") for n in (1, 3)]
    for process in first:
        process.communicate()
    joined, _ = commands.run("index", "merge", three / "shards", "--index", three)
    assert [e["error"] for e in joined["errors"]] == ["part-unfinished", "unreadable-video"]
    shutil.rmtree(three)  # an index that holds a part already goes on, but in another order
    assert commands.killed((part / "vectors-1.f32").exists, *second)
    for n in (3, 1, 2):
        commands.run(*update, "--index", three, "--shard", f"{n}/3", status=int(n == 1))
    joined, _ = commands.run("index", "merge", three / "shards", "--move", "--index", three)
    assert contents(one) == contents(three)
    assert joined["data"][0]["added"] == CLIPS + 2
    (failure,) = joined["errors"]
    assert failure["path"].endswith("07-bad.mp4")
    assert not (three / "shards").exists()
    again, _ = commands.run(*update, "--index", three)
    assert not again["data"] or again["data"][0]["embedded"] == 0


def test_a_part_that_is_not_finished_is_kept_and_goes_on(run, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", "clips", "-m", "model", "--window", 1, "--index", index)
    run(*update, "--shard", "1/2")
    joined = run("index", "merge", index / "shards", "--move", "--index", index)
    assert "run --shard 2/2 again" in joined["errors"][0]["message"]
    assert not (index / "shards" / "0001-of-0002").exists()
    run(*update, "--shard", "2/2", status=0)
    joined = run("index", "merge", index / "shards", "--move", "--index", index)
    assert "part-unfinished" not in [e["error"] for e in joined["errors"]]
    assert not (index / "shards").exists()
    missing = run("index", "merge", index / "shards", "--index", index, status=3)
    assert "merged already" in missing["errors"][0]["message"]


def test_an_index_that_holds_most_shares_the_rest_only(run, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", "-m", "model", "--window", 1, "--index", index)
    run(*update, *(f"clips/{i:02d}.mp4" for i in range(20)), status=0)
    done = [run(*update, "clips", "--shard", f"{n}/2", status=s) for n, s in ((1, 1), (2, 0))]
    assert sum(d["data"][0]["embedded"] for d in done) == CLIPS - 20


def test_three_parts_of_a_file_of_vectors_one_killed_are_that_of_one_process(commands, tmp_path):
    one, three = tmp_path / "one.npz", tmp_path / "three.npz"
    embed = ("embed", "clips", "-m", "model", "--window", 1)
    commands.run(*embed, "-o", one)
    journal = tmp_path / "three.npz.shards" / ".0003-of-0003.npz.journal"
    last = (*embed, "-o", three, "--shard", "3/3")
    assert commands.killed(lambda: journal.exists() and journal.read_text().count("\n") > 1, *last)
    for n in (2, 3, 1):
        commands.run(*embed, "-o", three, "--shard", f"{n}/3", status=int(n == 1))
    joined, _ = commands.run(*embed, "-o", three)
    assert one.read_bytes() == three.read_bytes()
    assert len(joined["errors"]) == 1
    assert not journal.parent.exists()


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_parts_of_other_files_of_vectors_are_that_of_one_run(run, tmp_path, suffix):
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    embed = ("embed", "clips", "-m", "model", "--window", 1)
    run(*embed, "-o", one)
    for n in (2, 1):
        run(*embed, "-o", two, "--shard", f"{n}/2", status=int(n == 1))
    joined = run(*embed, "-o", two)
    assert one.read_bytes() == two.read_bytes()
    assert len(joined["errors"]) == 1


def test_parts_that_nobody_has_finished_are_finished_by_the_join(run, tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    embed = ("embed", "clips", "-m", "model")
    run(*embed, "-o", one)
    run(*embed, "-o", two, "--shard", "1/2")
    run(*embed, "-o", two)
    assert one.read_bytes() == two.read_bytes()


def test_parts_of_another_kind_are_not_joined_into_an_index(run, tmp_path):
    out = tmp_path / "out.npz"
    run("embed", "clips", "-m", "model", "-o", out, "--shard", "1/2")
    told = run("index", "merge", f"{out}.shards", "--index", tmp_path / "index", status=3)
    assert "stop embed" in told["errors"][0]["message"]


@pytest.fixture
def footage(tmp_path):
    """Four clips; the second is a copy of the first."""
    folder = tmp_path / "footage"
    folder.mkdir()
    for i in (1, 3, 4):
        write_video(folder / f"{i}.mp4", frames=30 + i, options={"preset": "ultrafast"})
    shutil.copy(folder / "1.mp4", folder / "2.mp4")
    return folder


def files_of(folder):
    with Index(folder) as index:
        (space,) = index.database.spaces()
        known = index.database.entries(space)
        return sorted(path.name for path, record in index.database.files().items() if record.content in known)


def test_a_copy_stands_in_for_a_file_that_went_away(run, footage, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", footage, "-m", "model", "--index", index)
    run(*update, "--shard", "2/2", status=0)
    (footage / "1.mp4").unlink()
    gone = run(*update, "--shard", "1/2")
    assert [e["error"] for e in gone["errors"]] == ["file-missing"]
    run("index", "merge", index / "shards", "--move", "--index", index, status=0)
    assert files_of(index) == ["2.mp4", "3.mp4", "4.mp4"]


def test_when_a_run_is_over_the_next_one_is_planned(run, footage, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", footage, "-m", "model", "--index", index)
    for n in (1, 2):
        run(*update, "--shard", f"{n}/2", status=0)
    run("index", "merge", index / "shards", "--index", index, status=0)
    write_video(footage / "5.mp4", frames=20, options={"preset": "ultrafast"})
    done = [run(*update, "--shard", f"{n}/3", status=0)["data"][0]["embedded"] for n in (1, 2, 3)]
    assert sum(done) == 1
    run("index", "merge", index / "shards", "--index", index, status=0)
    assert "5.mp4" in files_of(index)


def test_a_damaged_part_stops_no_other_and_says_what_to_do(run, footage, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", footage, "-m", "model", "--index", index)
    for n in (1, 2, 3):
        run(*update, "--shard", f"{n}/3", status=0)
    part = index / "shards" / "0002-of-0003"
    (part / "index.sqlite").write_bytes(b"garbage" * 1000)
    joined = run("index", "merge", index / "shards", "--move", "--index", index)
    assert "remove it, run --shard 2/3 again" in joined["errors"][0]["message"]
    assert sorted(p.name for p in part.parent.iterdir() if p.is_dir()) == ["0002-of-0003"]
    shutil.rmtree(part)
    run(*update, "--shard", "2/3", status=0)
    run("index", "merge", index / "shards", "--move", "--index", index, status=0)
    assert files_of(index) == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]


def test_vectors_of_a_part_that_a_power_cut_took_are_made_again(run, footage, tmp_path):
    index = tmp_path / "index"
    update = ("index", "update", footage, "-m", "model", "--index", index)
    run(*update, "--shard", "1/1", status=0)
    vectors = index / "shards" / "0001-of-0001" / "vectors-1.f32"
    vectors.write_bytes(b"\0" * vectors.stat().st_size)
    run("index", "merge", index / "shards", "--index", index)
    run(*update, "--shard", "1/1", status=0)
    run("index", "merge", index / "shards", "--index", index, status=0)
    assert files_of(index) == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]


def test_parts_of_an_older_output_go_with_it(commands, run, footage, tmp_path):
    out = tmp_path / "out.npz"
    run("embed", footage, "-m", "model", "-o", out, "--shard", "1/2", status=0)
    run("embed", footage, "-m", "model", "-o", out, "--force", status=0)
    assert not (tmp_path / "out.npz.shards").exists()
    _, err = commands.run("embed", footage, "-m", "model", "-o", out, "--shard", "1/2", status=0)
    assert "not part" not in err
    _, err = commands.run("embed", "clips", "-m", "model", "-o", out, "--shard", "1/2", status=0)
    assert "not part of this run" in err


def test_a_dry_run_of_a_part_is_refused(run, footage, tmp_path):
    update = ("index", "update", footage, "-m", "model", "--index", tmp_path / "index")
    refused = run(*update, "--shard", "1/2", "--dry-run", status=2)
    assert "--dry-run" in refused["errors"][0]["message"]
    assert not (tmp_path / "index").exists()
