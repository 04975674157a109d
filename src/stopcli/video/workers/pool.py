"""The side that asks: `read_frames` and its like, each done by a worker process that can be killed.

A worker that dies, or gives no sign of life, is one failed file. Workers are kept for the next file; they go
with this process, or after a minute without work.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stopcli import errors
from stopcli.errors import DecoderCrashed, InputError, UnreadableVideo, VideoTimeout
from stopcli.video.clips import Frames
from stopcli.video.container import STALL_SECONDS, Facts
from stopcli.video.cut.writing import WrittenMoment
from stopcli.video.pixels import Framing
from stopcli.video.workers.child import LENGTH

PATIENCE = STALL_SECONDS + 10  # seconds without a sign of life, before a worker is killed
ROOT = str(Path(__file__).parents[3])
# nothing is imported from the current folder, which may hold anybody's files
START = (
    "import sys; sys.path[:] = [sys.argv[1], *(p for p in sys.path if p)]; "
    "from stopcli.video.workers.child import main; main()"
)
Decoded = TypeVar("Decoded")
Message = tuple[dict[str, Any], bytearray]
MOST = 1 << 31  # bytes of one message: more is not an answer


def read_frames(
    path: str | Path,
    frames: int,
    size: int | Framing,
    *,
    start: float | None = None,
    end: float | None = None,
    threads: int = 0,
) -> Frames:
    """Read T frames at segment centres, as `stopcli.video.clips.read_frames` does."""
    options = {"frames": frames, "size": _plain(size), "start": start, "end": end, "threads": threads}
    (read,) = _decoded("frames", path, options, _as_frames)
    return read


def read_windows(
    path: str | Path,
    frames: int,
    size: int | Framing,
    window: float,
    *,
    threads: int = 0,
    shots: bool = False,
) -> Generator[Frames, None, None]:
    """Return T frames of each window, one after the other, as `stopcli.video.clips.read_windows` does.

    With ``shots``, windows end at cuts, as those of `stopcli.video.cut.shots.read_shots`.
    """
    options = {"frames": frames, "size": _plain(size), "window": window, "threads": threads}
    return _decoded("shots" if shots else "windows", path, options, _as_frames)


def read_clips(
    path: str | Path,
    frames: int,
    size: int | Framing,
    window: float | None,
    *,
    threads: int = 0,
    shots: bool = False,
) -> Iterable[Frames]:
    """Return T frames of the whole file, as `read_frames`, or of each window, as `read_windows`."""
    if window is None:
        return [read_frames(path, frames, size, threads=threads)]
    return read_windows(path, frames, size, window, threads=threads, shots=shots)


def read_pictures(path: str | Path, times: Sequence[float], size: int) -> list[NDArray[np.uint8]]:
    """Read whole frames for people to look at, as `stopcli.video.clips.read_pictures` does."""
    options = {"times": [float(t) for t in times], "size": size}
    return list(_decoded("pictures", path, options, _as_picture))


def read_photo(path: str | Path, size: int | Framing) -> NDArray[np.uint8]:
    """Read a picture file, as `stopcli.video.photo.read_photo` does."""
    (picture,) = _decoded("photo", path, {"size": _plain(size)}, _as_picture)
    return picture


def warm(count: int) -> None:
    """Start processes for files that will be read soon, while this one does something else."""
    with _lock:
        _idle.extend(Worker() for _ in range(count - len(_idle)))


def _plain(size: int | Framing) -> dict[str, Any]:
    return asdict(Framing.of(size))


def read_facts(path: str | Path, *, look: bool = False) -> Facts:
    """Return what a video says of itself, as `stopcli.video.reader.facts_of` does; raises InputError."""
    (facts,) = _decoded(
        "facts", path, {"look": look}, lambda head, _: Facts(**{f.name: head[f.name] for f in fields(Facts)})
    )
    return facts


def write_moment(path: str | Path, target: Path, start: float, end: float, *, exact: bool) -> WrittenMoment:
    """Write a moment of a video, as `stopcli.video.cut.writing.write_moment` does."""
    options = {"target": str(target), "start": start, "end": end, "exact": exact}
    ((head, _),) = _ask("moment", path, options)
    return WrittenMoment(**{name: head[name] for name in WrittenMoment._fields})


def write_chapters(path: str | Path, target: Path, chapters: Sequence[tuple[float, float, str]]) -> list[str]:
    """Copy a video with chapters, as `stopcli.video.cut.chapters.write_chapters` does."""
    options = {"target": str(target), "chapters": [list(c) for c in chapters]}
    ((head, _),) = _ask("chapters", path, options)
    return [str(name) for name in head["left_out"]]


def write_proxy(
    path: str | Path,
    target: Path,
    start: float,
    end: float,
    *,
    height: int,
    rate: float,
    sound: bool,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Write a stretch of a video as browsers play it, as `stopcli.video.cut.proxy.write_proxy` does.

    Raises NotWanted as soon as it is no longer ``wanted``.
    """
    options = {"target": str(target), "start": start, "end": end}
    ((_, _),) = _ask("proxy", path, options | {"height": height, "rate": rate, "sound": sound}, wanted)


class NotWanted(Exception):
    """Nobody waits for the answer any more."""


class Worker:
    """A process that decodes for this one."""

    def __init__(self) -> None:
        # one thread for arithmetic that is none; few heaps, for the limit on memory counts what they reserve
        few = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, ROOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **few},
        )
        self.deadline = float("inf")  # of the message that is waited for
        self.overdue = False
        _workers.add(self)

    def kill(self) -> int:
        """End the process; return its exit status."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        _workers.discard(self)
        return self.process.wait()

    def takes(self, request: bytes) -> bool:
        """Send a request; say whether the process has taken it up."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
            return bool(self._message()[0].get("beat"))
        except (OSError, EOFError, KeyError, TypeError, ValueError, struct.error):
            return False

    def answers(self, wanted: Callable[[], bool] = lambda: True) -> Iterator[Message]:
        """Yield the messages of an answer; EOFError where the process dies or is killed; NotWanted."""
        while not (message := self._message())[0].get("done"):
            if not wanted():
                raise NotWanted
            if not message[0].get("beat"):
                yield message

    def _message(self) -> Message:
        self.deadline = time.monotonic() + PATIENCE
        try:
            (length,) = LENGTH.unpack(self._bytes(LENGTH.size))
            head = json.loads(self._bytes(min(length, MOST)))
            return head, self._bytes(head["bytes"])
        finally:
            self.deadline = float("inf")

    def _bytes(self, count: int) -> bytearray:
        assert self.process.stdout is not None
        data = bytearray(min(count, MOST))
        view, done = memoryview(data), 0
        while done < count:
            read = self.process.stdout.readinto(view[done:])  # type: ignore[attr-defined]
            if not read:
                raise EOFError
            done += read
        return data


_lock = threading.Lock()
_idle: list[Worker] = []
_workers: set[Worker] = set()
_watchdog: threading.Thread | None = None
_ended = threading.Event()


def _decoded(
    call: str, path: str | Path, options: dict[str, Any], read: Callable[[dict[str, Any], bytearray], Decoded]
) -> Generator[Decoded, None, None]:
    """Yield a worker's answers as arrays; nonsense, or no answer at all, is a crash of its decoder."""
    count = 0
    with closing(_ask(call, path, options)) as answers:
        for count, answer in enumerate(answers, 1):  # noqa: B007 - how many there were is asked below
            try:
                decoded = read(*answer)
            except (KeyError, TypeError, ValueError) as error:
                raise DecoderCrashed(f"{path}: its decoder sent nonsense; skipped") from error
            yield decoded
    if not count:
        raise DecoderCrashed(f"{path}: its decoder sent nothing; skipped")


def _cwd() -> str:
    """Return the current folder, or nothing where it is gone: paths that are absolute need none."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _ask(
    call: str, path: str | Path, options: dict[str, Any], wanted: Callable[[], bool] = lambda: True
) -> Generator[Message, None, None]:
    """Have a worker do something with a file; yield its answers, or raise what it came to."""
    request = {"call": call, "path": str(path), "cwd": _cwd(), "options": options}
    worker, done, fault = _borrow(), False, None
    if not worker.takes(line := json.dumps(request).encode() + b"\n"):  # it went while it was idle
        worker.kill()
        worker = Worker()
        worker.takes(line)
    try:
        for head, data in worker.answers(wanted):
            if "error" in head:
                fault = _fault(head, path)
            else:
                yield head, data
        done = True
    except (EOFError, KeyError, TypeError, ValueError, struct.error) as error:  # dead, or sending nonsense
        status = worker.kill()
        if fault is None and worker.overdue:
            problem = f"its decoder gave no sign of life for {PATIENCE:.0f} s and was stopped; skipped"
            raise VideoTimeout(f"{path}: {problem}") from error
        if fault is None:
            raise DecoderCrashed(f"{path}: its decoder crashed ({_name(status)}); skipped") from error
    finally:
        if done and worker.process.poll() is None:
            with _lock:
                _idle.append(worker)
        else:
            worker.kill()
    if fault is not None:
        raise fault


def _fault(head: dict[str, Any], path: str | Path) -> errors.StopError:
    kind: Any = getattr(errors, str(head["error"]), None)
    if isinstance(kind, type) and issubclass(kind, (InputError, errors.InternalError)):
        return kind(head["message"])
    return UnreadableVideo(f"{path}: damaged or encrypted")


def _borrow() -> Worker:
    global _watchdog
    with _lock:
        if _watchdog is None or not _watchdog.is_alive():
            _watchdog = threading.Thread(target=_watch, name="watchdog", daemon=True)
            _watchdog.start()
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.kill()
    return Worker()


def _watch() -> None:
    """Kill workers that give no sign of life."""
    last = time.monotonic()
    while not _ended.wait(0.5):
        slept, last = time.monotonic() - last, time.monotonic()
        if slept > 5:  # the whole process was stopped: the workers were too
            for worker in list(_workers):
                worker.deadline += slept
        for worker in list(_workers):
            if time.monotonic() > worker.deadline:
                worker.overdue = True
                worker.process.kill()


def _name(status: int) -> str:
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"


def _as_frames(head: dict[str, Any], data: bytearray) -> Frames:
    times = np.frombuffer(data, np.float64, head["times"], len(data) - 8 * head["times"])
    pixels = np.frombuffer(data, np.uint8, len(data) - 8 * head["times"])
    return Frames(pixels.reshape(head["shape"]), times, float(head["start"]), float(head["end"]))


def _as_picture(head: dict[str, Any], data: bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(head["shape"])


@atexit.register
def _end() -> None:
    _ended.set()
    for worker in list(_workers):
        worker.kill()
