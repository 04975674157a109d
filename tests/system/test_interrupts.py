"""Real processes, stopped in the middle: what was done is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import heed_interrupts, write_video

STOP = [sys.executable, "-m", "stopcli"]
posix = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors of POSIX")
CHILD = """
import os, sys
from stopcli.cli.app import main
from stopcli.tasks import vectorfile
tell, go_on, after = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
append, count = vectorfile.Journal.append, 0

def counted(self, rows, vectors):
    global count
    append(self, rows, vectors)
    count += 1
    if count == after:  # so many files are done: say so, and wait for what comes
        os.write(tell, b".")
        os.read(go_on, 1)

vectorfile.Journal.append = counted
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def folder(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    first = write_video(clips / "00.mp4", frames=30, options={"preset": "ultrafast"})
    for i in range(1, 12):
        os.link(first, clips / f"{i:02d}.mp4")
    return clips


def stopped(command, after, with_signal):
    """Run a command in a process of its own, stop it after so many files; return (exit status, stderr)."""
    told, tell = os.pipe()
    go_on, let = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tell), str(go_on), str(after), *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(tell, go_on),
        preexec_fn=heed_interrupts,
    )
    os.close(tell)
    os.close(go_on)
    assert os.read(told, 1) == b".", child.communicate()[1]
    child.send_signal(with_signal)
    os.close(let)
    _, err = child.communicate()
    os.close(told)
    return child.returncode, err


def test_an_embed_that_was_killed_goes_on_where_it_was(toy, folder, tmp_path):
    out, journal = tmp_path / "v.npz", tmp_path / ".v.npz.journal"
    command = ["embed", folder, "-m", toy, "-o", out, "--format", "json", "--batch-size", "1"]
    status, _ = stopped(command, 4, signal.SIGKILL)
    assert status == -signal.SIGKILL
    kept = journal.read_bytes().count(b"\n") - 1
    assert kept == 4
    with journal.open("ab") as stream:
        stream.write(b'{"rows": [{"path": "cut o')  # what a crash leaves
    again = subprocess.run(
        [sys.executable, "-m", "stopcli", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    data = json.loads(again.stdout)["data"]
    assert [d["path"] for d in data] == [str(folder / f"{i:02d}.mp4") for i in range(12)]
    assert not journal.exists()


def test_ctrl_c_keeps_what_is_done_and_exits_130(toy, folder, tmp_path):
    out, journal = tmp_path / "v.npz", tmp_path / ".v.npz.journal"
    status, err = stopped(["embed", folder, "-m", toy, "-o", out, "--batch-size", "1"], 3, signal.SIGINT)
    assert status == 130, err
    assert "what is done is kept" in err
    assert "Traceback" not in err
    assert journal.read_bytes().count(b"\n") - 1 >= 3


def test_a_watch_killed_and_restarted_tells_every_file_once(tmp_path, toy):
    """Videos arrive all the while; the watch is killed five times, and some arrive while there is none.

    One of them has a name without an extension. Then the one that was there at first is asked for, too.
    """
    folder, ready, log = tmp_path / "in", tmp_path / "ready", tmp_path / "log"
    folder.mkdir()
    ready.mkdir()
    for i in range(14):
        write_video(ready / f"{i:02d}.mp4", frames=10 + i, options={"preset": "ultrafast"})
    shutil.copy(ready / "00.mp4", folder)  # it is there already: no news
    tell = tmp_path / "tell.sh"
    tell.write_text(f'#!/bin/sh\necho "$1" >> {log}\n')
    tell.chmod(0o755)
    options = ("--query", "a bar", "--min-confidence", "0", "--settle", "0.5", "--exec", str(tell))
    command = [sys.executable, "-m", "stopcli", "watch", str(folder), "-m", str(toy), *options]

    def start(*more):
        watch = subprocess.Popen(
            [*command, *more], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        while "watching" not in (line := watch.stderr.readline()):
            assert line, "it ended"
        return watch

    def told():
        return log.read_text().splitlines() if log.exists() else []

    def wait_for(count):
        deadline = time.monotonic() + 120
        while len(told()) < count:
            assert time.monotonic() < deadline, told()
            time.sleep(0.05)

    arriving = iter(range(1, 14))
    for _ in range(5):
        watch = start()
        shutil.copy(ready / f"{(count := next(arriving)):02d}.mp4", folder)
        wait_for(count)  # all that is there
        time.sleep(0.3)
        shutil.copy(ready / f"{next(arriving):02d}.mp4", folder)
        time.sleep(0.2)  # it has not settled yet
        watch.kill()
        watch.communicate()
    for i in arriving:
        shutil.copy(ready / f"{i:02d}.mp4", folder)
    watch = start()
    wait_for(13)
    shutil.copy(write_video(ready / "bare.mp4", frames=30), folder / "bare")
    (folder / "notes").write_text("no video")
    wait_for(14)
    time.sleep(2)
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=60)
    assert watch.returncode == 130
    names = [*(f"{i:02d}.mp4" for i in range(1, 14)), "bare"]
    assert sorted(Path(path).name for path in told()) == names
    watch = start("--existing")
    wait_for(15)
    time.sleep(1)
    watch.send_signal(signal.SIGTERM)
    watch.communicate(timeout=60)
    assert watch.returncode == 143
    assert sorted(Path(path).name for path in told()) == ["00.mp4", *names]


@posix
@pytest.mark.parametrize(("ignored", "status"), [(True, 3), (False, 129)])
def test_a_signal_that_nohup_ignores_stays_ignored(ignored, status):
    def begin():
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    command = [*STOP, "classify", "-m", "mini", "--files-from", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=begin
    ) as process:
        for _ in range(600):  # until it waits for names, with its handlers in place
            time.sleep(0.1)
            if "pipe" in Path(f"/proc/{process.pid}/wchan").read_text():
                break
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        _, said = process.communicate(b"none.mp4\n" if ignored else None, timeout=120)
    assert process.returncode == status, said


@posix
@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ("models list", ">&-", 0),
        ("models list --format json", ">&-", 0),
        ("models list", "2>&-", 0),
        ("classify --files-from -", "<&-", 2),
        ("models list", "| true", 0),
        ("models list --format json", "| true", 0),
    ],
)
def test_a_stream_that_is_closed_is_no_fault(words, closed, status):
    line = f"set -o pipefail; {' '.join(STOP)} {words} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stderr
    assert "should not have happened" not in done.stderr
    assert "Traceback" not in done.stderr
