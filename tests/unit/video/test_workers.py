"""Processes that decode: the same frames, and whatever happens to one of them, one failed file."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import (
    DecoderCrashed,
    FileMissing,
    InternalError,
    NoVideoStream,
    OutOfMemory,
    UnreadableVideo,
    VideoTimeout,
)
from stopcli.index.types import PASSING
from stopcli.video import clips
from stopcli.video.discovery import find_videos, opens
from stopcli.video.workers import child, pool
from stopcli.video.workers.pool import read_frames, read_pictures, read_windows

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "a.mp4")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A file that takes a while: every frame is looked at."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_video(path, frames=3000, options={"g": "15", "preset": "ultrafast"})


def worker_on(path: Path) -> pool.Worker:
    """Wait for the worker that has a file open."""
    for _ in range(12_000):
        for worker in list(pool._workers):
            fds = Path(f"/proc/{worker.process.pid}/fd")
            if any(os.path.realpath(fd) == str(path) for fd in fds.glob("*")):
                return worker
        time.sleep(0.005)
    raise AssertionError("no worker opened it")


def meanwhile(path, act):
    """Do something to the worker that has a file open, as soon as one has."""
    thread = threading.Thread(target=lambda: act(worker_on(path)))
    thread.start()
    return thread


def test_the_frames_are_those_of_the_same_code_in_this_process(clip):
    mine, theirs = clips.read_frames(clip, 5, 32), read_frames(clip, 5, 32)
    assert np.array_equal(mine.pixels, theirs.pixels)
    assert np.array_equal(mine.times, theirs.times)
    assert (mine.start, mine.end) == (theirs.start, theirs.end)
    assert theirs.pixels.flags.writeable  # torch wants it so
    pairs = zip(clips.read_windows(clip, 3, 32, 0.5), read_windows(clip, 3, 32, 0.5), strict=True)
    assert all(np.array_equal(a.pixels, b.pixels) and a.start == b.start for a, b in pairs)
    for a, b in zip(clips.read_pictures(clip, [0, 1], 48), read_pictures(clip, [0, 1], 48), strict=True):
        assert np.array_equal(a, b)


def test_a_worker_is_used_again_after_good_and_faulty_files(clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    read_frames(clip, 2, 32)
    before = set(pool._workers)
    for _ in range(3):
        with pytest.raises(UnreadableVideo, match="not a video that can be opened"):
            read_frames(tmp_path / "bad.mp4", 2, 32)
        with pytest.raises(FileMissing):
            read_frames(tmp_path / "none.mp4", 2, 32)
        assert read_frames(clip, 2, 32).pixels.shape == (2, 32, 32, 3)
    assert set(pool._workers) <= before


def test_paths_mean_what_they_mean_here(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(clip.parent)
    read_frames("a.mp4", 1, 32)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileMissing, match=r"^a\.mp4: no such file"):
        read_frames("a.mp4", 1, 32)
    odd = tmp_path / os.fsdecode(b"\xff\xe2\x80\xa8.mp4")
    odd.write_bytes(clip.read_bytes())
    assert read_frames(odd, 1, 32).pixels.shape == (1, 32, 32, 3)


@linux
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_crashes_is_one_failed_file(long, clip, number):
    thread = meanwhile(long, lambda worker: worker.process.send_signal(number))
    with pytest.raises(DecoderCrashed, match=f"long.mp4: its decoder crashed .{number.name}.; skipped"):
        list(read_windows(long, 2, 32, 0.5))
    thread.join()
    assert read_frames(clip, 2, 32).pixels.shape[0] == 2


@linux
def test_a_decoder_that_gives_no_sign_of_life_is_stopped(long, clip, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 4.0)  # it must be enough for a start, too
    thread = meanwhile(long, lambda worker: worker.process.send_signal(signal.SIGSTOP))
    with pytest.raises(VideoTimeout, match="gave no sign of life for 4 s"):
        list(read_windows(long, 2, 32, 0.5))
    thread.join()
    monkeypatch.undo()
    assert read_frames(clip, 2, 32).pixels.shape[0] == 2


def test_a_slow_reader_is_no_stalled_decoder(long, monkeypatch):
    """The worker waits for whoever takes the frames, however long that takes."""
    windows = read_windows(long, 2, 224, 0.5)
    next(windows)  # it has begun
    monkeypatch.setattr(pool, "PATIENCE", 4.0)
    next(windows)
    time.sleep(6)
    assert next(windows).start == 1.0
    windows.close()


def test_windows_that_nobody_wants_any_more_end_their_worker(long):
    windows = read_windows(long, 2, 32, 0.5)
    next(windows)
    count = len(pool._workers)
    windows.close()
    assert len(pool._workers) == count - 1


@linux
def test_workers_go_with_their_parent_however_it_ends(long):
    script = (
        "import sys; from stopcli.video.workers.pool import read_windows, _workers\n"
        "w = read_windows(sys.argv[1], 2, 32, .5); next(w)\n"
        "print(*[x.process.pid for x in _workers], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(long)]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pids = parent.stdout.readline().split()
    assert pids
    parent.kill()
    parent.communicate()
    for _ in range(100):
        alive = [
            p for p in pids if Path(f"/proc/{p}/cmdline").exists() and Path(f"/proc/{p}/cmdline").read_text()
        ]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


@linux
def test_memory_is_bounded(tmp_path):
    """A picture of 8192x8192 in a small file: 16 of them are a gigabyte and a half."""
    options = {"preset": "ultrafast", "g": "100"}

    def black(_, width, height):
        return np.zeros((height, width, 3), np.uint8)

    path = write_video(tmp_path / "huge.mp4", frames=3, size=(8192, 8192), options=options, draw=black)
    assert path.stat().st_size < 200_000
    script = (
        "import re, sys; from stopcli.video.clips import read_frames\n"
        "read_frames(sys.argv[1], 3, 224)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_300_000  # kilobytes


def test_a_file_that_wants_more_memory_than_there_may_be_is_one_sentence(clip, monkeypatch):
    start = pool.START.replace(
        "import main;", "import main; import stopcli.video.workers.child as c; c.MEMORY = 300 << 20;"
    )
    monkeypatch.setattr(pool, "START", start)
    worker = pool.Worker()
    monkeypatch.setattr(pool, "_idle", [worker])
    with pytest.raises(OutOfMemory, match="takes more memory, or threads, than"):
        read_frames(clip, 2, 8000)


PLAYLISTS = {
    "list.mp4": "ffconcat version 1.0\nfile '{}'\n",
    "list.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "list.mkv": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    "list.mpd.mp4": '<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_file_opens_another(clip, tmp_path, name):
    (tmp_path / name).write_text(PLAYLISTS[name].format(clip))
    with pytest.raises(UnreadableVideo, match="not a video that can be opened"):
        read_frames(tmp_path / name, 1, 32)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / name).write_text(PLAYLISTS[name].format(pipe))
    with pytest.raises(UnreadableVideo, match="not a video that can be opened"):
        read_frames(tmp_path / name, 1, 32)


def test_still_pictures_are_no_films(tmp_path):
    from PIL import Image

    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tiff"):
        path = tmp_path / f"picture{suffix}"
        Image.new("RGB", (64, 64), (200, 30, 30)).save(path)
        with pytest.raises((UnreadableVideo, NoVideoStream)):
            read_frames(path.rename(tmp_path / f"{suffix[1:]}.mp4"), 1, 32)


def test_folders_with_pipes_and_devices_are_walked(clip, tmp_path):
    (tmp_path / "good.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "film").write_bytes(clip.read_bytes())  # no extension: it is looked into
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert {p.name for p in find_videos([tmp_path])} >= {"good.mp4", "film"}
    assert not opens(tmp_path / "pipe")
    assert not opens(tmp_path / "zero")
    with pytest.raises(UnreadableVideo, match="a pipe, a socket or a device"):
        read_frames(tmp_path / "pipe.mp4", 1, 32)


@linux
def test_reading_keeps_few_threads_and_little_memory(long):
    """Scaling must not start threads for every frame: a hundred of them exhaust the worker's memory."""
    worker = pool.Worker()
    pool._idle.append(worker)
    for _ in range(3):
        for _ in read_windows(long, 8, 96, 0.3, threads=1):
            pass
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    values = dict(re.findall(r"(\w+):\s+(\d+)", status))
    assert int(values["Threads"]) < 10
    assert int(values["VmPeak"]) < 1_500_000  # kilobytes, of the four million that it may have
    assert int(values["VmHWM"]) < 150_000


def test_a_worker_imports_nothing_from_the_current_folder(clip, tmp_path, monkeypatch):
    for name in ("json", "av", "numpy"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').close(); raise SystemExit"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "_idle", [])
    assert read_frames(clip, 1, 32).pixels.shape == (1, 32, 32, 3)
    assert not (tmp_path / "ran").exists()


@linux
def test_a_worker_that_went_while_it_was_idle_is_replaced(clip, monkeypatch):
    worker = pool.Worker()
    monkeypatch.setattr(pool, "_idle", [worker])
    monkeypatch.setattr(worker.process, "poll", lambda: None)  # it dies between the look and the request
    os.kill(worker.process.pid, signal.SIGKILL)
    assert read_frames(clip, 1, 32).pixels.shape == (1, 32, 32, 3)


@linux
def test_the_time_that_a_process_was_stopped_is_no_films(long, monkeypatch):
    """As by Ctrl-Z, and on again later."""
    limits = "import stopcli.video.container as c, stopcli.video.workers.child as h; c.TIME_LIMIT, h.STOPPED = 6, 2"
    monkeypatch.setattr(pool, "START", pool.START.replace("main; main()", f"main; {limits}; main()"))
    monkeypatch.setattr(pool, "_idle", [])
    windows = read_windows(long, 2, 224, 2.0)
    next(windows)
    process = worker_on(long).process
    process.send_signal(signal.SIGSTOP)
    time.sleep(7)
    process.send_signal(signal.SIGCONT)
    assert sum(1 for _ in windows) == 49


def test_a_slow_reader_costs_a_film_none_of_its_time(long, monkeypatch):
    monkeypatch.setattr(
        pool,
        "START",
        pool.START.replace(
            "main; main()", "main; import stopcli.video.container as c; c.TIME_LIMIT = 3; main()"
        ),
    )
    monkeypatch.setattr(pool, "_idle", [])
    count = 0
    for _ in read_windows(long, 2, 224, 2.0):
        count += 1
        time.sleep(0.1)
    assert count == 50  # after five seconds


def test_a_fault_of_the_program_is_no_fault_of_the_film(clip, monkeypatch):
    answer = child.Child.answer

    def broken(path, options):
        raise NameError("name 'rate' is not defined")
        yield

    sent = []
    monkeypatch.setitem(child.CALLS, "facts", broken)
    one = child.Child(io.BytesIO())
    monkeypatch.setattr(one, "send", lambda head, parts=(): sent.append(head))
    answer(one, {"path": str(clip), "cwd": ".", "call": "facts", "options": {}})
    fault = pool._fault(next(head for head in sent if "error" in head), clip)
    assert isinstance(fault, InternalError)
    assert "NameError: name 'rate' is not defined" in str(fault)
    assert fault.kind in PASSING  # an index and a watch try again
