"""A real Ray cluster on this machine: workers killed in the middle, and the index is that of one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from conftest import write_model, write_video
from stopcli.index.store import Index
from stopcli.model.config import StopConfig

pytest.importorskip("ray")
CLIPS = 30
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a cluster that takes any number of workers, in a session folder of its own; yield its address."""
    folder = Path("/tmp") / f"ray-{os.getpid()}"  # sockets need short names
    port = free_port()
    environ = {**os.environ, **RAY, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    head = ["start", "--head", "--num-cpus", "2", "--port", str(port), "--include-dashboard", "false"]
    command = [str(Path(sys.executable).with_name("ray")), *head, "--temp-dir", str(folder), "--block"]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None
        time.sleep(0.1)
    yield f"127.0.0.1:{port}", server.pid
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(30)
    server.kill()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    write_model(folder / "model", stop=StopConfig(regions=0.25, eta=2, hidden=16))
    clips = folder / "clips"
    clips.mkdir()
    for i in range(CLIPS):
        write_video(clips / f"{i:02d}.mp4", frames=30 + 17 * i % 90, options={"preset": "ultrafast"})
    (clips / "07-bad.mp4").write_bytes(b"no video")
    return folder


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def workers(name: str, cluster: int) -> list[int]:
    """Return the processes of a cluster that are at such work."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            title, pid = file.read_bytes().decode(errors="replace"), int(file.parent.name)
            if title.startswith("ray::") and name in title:
                above = pid
                while above > 1 and above != cluster:
                    above = parent_of(above)
                found += [pid] if above == cluster else []
    return found


def stop(place, home, *words):
    environ = {**os.environ, **RAY, "STOPCLI_HOME": str(home)}
    command = [sys.executable, "-m", "stopcli", *map(str, words), "--format", "json"]
    return subprocess.Popen(
        command, cwd=place, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def contents(folder):
    with Index(folder) as index:
        (space,) = index.database.spaces()
        rows = np.array(index.vectors(space)).tobytes()
        return rows, index.database.entries(space), index.database.faults(space), index.database.files()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found by /proc")
@pytest.mark.parametrize("victim", ["_Model", "_decode"])
def test_a_killed_worker_is_replaced_and_the_index_is_that_of_one_process(cluster, place, tmp_path, victim):
    one, many = tmp_path / "one", tmp_path / "many"
    update = ("index", "update", "clips", "-m", "model", "--window", 1)
    assert stop(place, tmp_path, *update, "--index", one).communicate(timeout=240)
    address, server = cluster
    more = ("--engine", "ray", "--ray-address", address, "--ray-actors", 2, "--index", many)
    process = stop(place, tmp_path, *update, *more)
    killed = None
    while process.poll() is None and killed is None:
        for pid in workers(victim, server):
            time.sleep(0.3 if victim == "_Model" else 0)  # let it get to work
            try:
                os.kill(pid, signal.SIGKILL)
                killed = pid
            except ProcessLookupError:
                continue
            break
        time.sleep(0.01)
    out, err = process.communicate(timeout=240)
    assert killed is not None, err
    assert process.returncode == 1, err  # one file is no video
    answer = json.loads(out)
    assert answer["data"][0]["embedded"] == CLIPS
    assert [Path(e["path"]).name for e in answer["errors"]] == ["07-bad.mp4"]
    assert contents(one) == contents(many)


def test_no_cluster_at_an_address_is_said_in_one_sentence(place, tmp_path):
    more = ("--engine", "ray", "--ray-address", f"127.0.0.1:{free_port()}", "--index", tmp_path / "x")
    process = stop(place, tmp_path, "index", "update", "clips", "-m", "model", *more)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 5
    assert "cannot be reached" in json.loads(out)["errors"][0]["message"]


def test_an_error_of_a_worker_is_that_of_one_machine(cluster, place, tmp_path):
    words = ("index", "update", "clips", "-m", "model", "--device", "cuda:7", "--index", tmp_path / "x")
    process = stop(place, tmp_path, *words, "--engine", "ray", "--ray-address", cluster[0])
    out, _ = process.communicate(timeout=240)
    assert (process.returncode, json.loads(out)["errors"][0]["error"]) == (5, "device-error")


def test_options_that_do_not_go_together_are_refused(run, place):
    status, _, err = run("index", "update", place, "-m", place / "model", "--ray-actors", "2")
    assert (status, "--engine ray" in err) == (2, True)
    status, _, err = run("index", "update", place, "-m", place / "model", "--engine", "ray", "--shard", "1/2")
    assert (status, "do not go together" in err) == (2, True)
