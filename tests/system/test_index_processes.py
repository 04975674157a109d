"""Several processes at one index, and processes that are killed: nothing is lost, nothing is half there.

Processes meet through pipes. A stepped process stops before every call of the index that writes, says
so, and goes on when it is told to; it can be killed at that very point, or on its way to the next one.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np

from conftest import write_video
from stopcli.index import sync
from stopcli.index.engine import SearchEngine
from stopcli.index.maintenance import compact, remove
from stopcli.index.store import Index
from stopcli.index.types import FileRecord, NewEntry, Space

KILLS = 50
WRITES = {"open", "write", "truncate", "fsync", "__exit__", "execute", "executemany", "replace", "unlink"}
MODULES = ("stopcli.index", "stopcli.fileio", "pathlib")


# --------------------------------------------------------------- what the other processes do


def write(folder, who: str, count: float) -> None:
    """Add ``count`` contents to an index, one at a time, with removals and compactions between; say each."""
    with Index(Path(folder)) as index:
        for i in itertools.takewhile(lambda i: i < count, itertools.count()):
            with index.writing():
                space = index.database.make_space(Space("toy", "w" * 64, "fp32", 4, 8.0, 16))
                name, vectors = f"{who}-{i}", np.full((i % 5 + 1, 16), i, np.float32)
                files = {Path(f"/v/{name}.mp4"): FileRecord(1, 1, name)}
                index.add(space, [NewEntry(name, 8.0, vectors)], {}, files)
                if i % 7 == 6:
                    remove(index, [Path(f"/v/{who}-{i - 3}.mp4")])
                if i % 20 == 19:
                    compact(index)
            os.write(1, b"%d\n" % i)


def update(tree, folder, model, encoder=None) -> None:
    """Bring an index up to date with a tree, a file at a time."""
    encoder = encoder or load(model)
    sync.COMMIT_EVERY = -1.0
    with SearchEngine(Path(folder), encoder.files, lambda: encoder) as engine:
        engine.update(sorted(Path(tree).iterdir()), [Path(tree)], 1.0)


def load(model):
    """Load a model."""
    from stopcli.hub.registry import resolve
    from stopcli.runtime.encoder import Encoder, EncoderOptions

    return Encoder(resolve(str(model)), EncoderOptions(device="cpu", precision="fp32", batch_size=1))


def stepped(work) -> tuple[int, int, int]:
    """Fork a child that does ``work`` step by step; return its id, and the pipes to hear and to allow it."""
    heard, tell = os.pipe()
    wait, allow = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        os.close(allow)

        def step(frame, event, called):
            place = frame.f_globals["__name__"]
            if event == "c_call" and called.__name__ in WRITES and place.startswith(MODULES):
                os.write(tell, b".")
                os.read(wait, 1)

        try:
            sys.setprofile(step)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(tell)
    os.close(wait)
    return child, heard, allow


def kill_at(step: int, work, *, running: bool) -> bool:
    """Do ``work`` up to a step and kill it there, or as it runs on from there; say if it got to the end."""
    child, heard, allow = stepped(work)
    ended = False
    for _ in range(step):
        ended = not os.read(heard, 1)
        if ended:
            break
        os.write(allow, b".")
    else:
        ended = not os.read(heard, 1)
    if not ended:
        if running:
            os.write(allow, b".")
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert not ended or status == 0
    os.close(heard)
    os.close(allow)
    return ended


def vectors_by_name(folder) -> dict[str, bytes]:
    """Return the vectors of every file of an index with one space."""
    with Index(Path(folder)) as index:
        spaces = index.database.spaces()
        if not spaces:
            return {}
        matrix, entries = index.vectors(spaces[0]), index.database.entries(spaces[0])
        return {
            path.name: matrix[entry.first : entry.first + entry.count].tobytes()
            for path, record in index.database.files().items()
            if (entry := entries.get(record.content)) is not None
        }


def check(folder) -> frozenset[str]:
    """Make sure that everything an index of `write` says holds together; return its contents."""
    with Index(Path(folder)) as index:

        def read():
            (space,) = index.database.spaces() or [None]
            if space is None:
                return np.zeros((0, 16)), {}, {}
            return index.vectors(space), index.database.entries(space), index.database.files()

        matrix, entries, files = index.together(read)
    seen = np.zeros(len(matrix), bool)
    for content, entry in entries.items():
        number, rows = int(content.split("-")[1]), slice(entry.first, entry.first + entry.count)
        assert entry.count == number % 5 + 1
        assert (matrix[rows] == number).all(), content
        assert not seen[rows].any(), content
        seen[rows] = True
    assert {record.content for record in files.values()} <= set(entries)
    return frozenset(entries)


def kill_writers(folder) -> None:
    """Kill fifty writers, one after the other, each at another step; what they had confirmed is there."""
    chance = random.Random(0)
    for kill in range(KILLS):
        confirmed, out = os.pipe()

        def work(kill=kill, out=out):
            os.dup2(out, 1)
            write(folder, f"k{kill}", 40)

        kill_at(chance.randrange(400), work, running=bool(kill % 2))
        os.close(out)
        with os.fdopen(confirmed, encoding="ascii") as stream:
            numbers = [int(line) for line in stream]
        contents = check(folder)
        dropped = {i - 3 for i in range(6, len(numbers) + 1, 7)}
        assert numbers == list(range(len(numbers)))
        assert {f"k{kill}-{i}" for i in numbers if i not in dropped} <= contents, kill


def kill_updates(tree, folder, model) -> None:
    """Kill fifty updates, each at another step; none loses or alters what was there before it."""
    import av  # noqa: F401 - what each child would load again

    chance, encoder = random.Random(0), load(model)
    before: dict[str, bytes] = {}
    between = 0
    for kill in range(KILLS):
        step, running = chance.randrange(110), bool(kill % 2)
        ended = kill_at(step, lambda: update(tree, folder, model, encoder), running=running)
        after = vectors_by_name(folder)
        assert before.items() <= after.items(), (kill, "what was kept is lost or altered")
        between += not ended and len(before) < len(after) < 12
        before = after
        if len(after) == 12:  # all is done: from the beginning
            shutil.rmtree(folder)
            before = {}
    update(tree, folder, model, encoder)
    print(between)


def read_at_every_step(folder) -> None:
    """Read an index at every step of a writer that also compacts: there is always one whole state."""
    child, heard, allow = stepped(lambda: write(folder, "w", 45))
    states = [check(folder)]
    while os.read(heard, 1):
        states.append(check(folder))
        os.write(allow, b".")
    assert os.waitpid(child, 0)[1] == 0
    states.append(check(folder))
    changes = sum(before != after for before, after in itertools.pairwise(states))
    assert changes == 45 + 2, "every addition and every compaction leads from one state to the next"
    print(len(states))


# ------------------------------------------------------------------------------------- tests


def start(work: str, *arguments, **more) -> subprocess.Popen:
    """Start one of the functions above in a process of its own."""
    paths = {"PYTHONPATH": os.pathsep.join(map(str, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, work, *map(str, arguments)],
        env={**os.environ, **paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def test_fifty_kills_of_a_writer_lose_nothing_that_was_confirmed(tmp_path):
    finished(start("kill_writers", tmp_path / "index"))


def test_fifty_kills_of_an_update_lose_at_most_the_file_in_hand(tmp_path, toy):
    tree, folder = tmp_path / "tree", tmp_path / "index"
    tree.mkdir()
    for i in range(12):
        write_video(tree / f"{i:02d}.mp4", frames=60 + 10 * i)
    between = finished(start("kill_updates", tree, folder, toy))
    assert int(between) >= 5, "hardly any kill fell between two files"
    finished(start("update", tree, tmp_path / "undisturbed", toy))
    assert len(vectors_by_name(folder)) == 12
    assert vectors_by_name(folder) == vectors_by_name(tmp_path / "undisturbed")


def test_two_processes_write_one_index(tmp_path):
    folder = tmp_path / "index"
    for process in [start("write", folder, who, 60) for who in ("a", "b")]:
        finished(process)
    with Index(folder) as index:
        assert len(index.database.files()) == 2 * (60 - 8)
    check(folder)


def test_a_reader_sees_one_state_at_every_step_of_a_writer_that_compacts(tmp_path):
    states = finished(start("read_at_every_step", tmp_path / "index")).split()[-1]
    assert int(states) > 45 * 10


def test_a_reader_sees_one_state_while_another_process_writes_on_and_on(tmp_path):
    writer = start("write", tmp_path / "index", "w", "inf")
    writer.stdout.readline()
    states = set()
    try:
        while len(states) < 60 and writer.poll() is None:  # it compacts after every twentieth
            states.add(check(tmp_path / "index"))
    finally:
        writer.kill()
        _, err = writer.communicate()
    assert writer.returncode == -signal.SIGKILL, err


def test_many_make_one_index_at_the_same_moment(tmp_path):
    """Switching a new database to write-ahead logging is the one thing that SQLite does not wait for."""
    for attempt in range(30):
        wait, go = os.pipe()
        children = []
        for _ in range(6):
            if (child := os.fork()) == 0:
                os.close(go)
                os.read(wait, 1)  # until the writing end is closed: all at once
                status = 1
                try:
                    Index(tmp_path / str(attempt)).close()
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        os.close(wait)
        os.close(go)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if name == "write":
        rest[2] = float(rest[2])
    globals()[name](*rest)
