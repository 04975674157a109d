"""The process that decodes: requests on stdin, frames on stdout.

A request is a line of JSON. An answer is a series of messages: the length of a line of JSON, the line, and
as many bytes as its ``bytes`` says. Nothing is pickled: a decoder that was taken over gains nothing by what
it sends.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import InputError, InternalError, OutOfMemory, UnreadableVideo
from stopcli.video import clips, container
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.cut.proxy import write_proxy
from stopcli.video.cut.shots import read_shots
from stopcli.video.cut.writing import write_moment
from stopcli.video.photo import read_photo
from stopcli.video.pixels import Framing
from stopcli.video.reader import facts_of, open_video

BEAT = 1.0  # seconds between signs of life
MEMORY = 4 << 30  # bytes that a worker may take
IDLE = 60.0  # seconds without a request, after which a worker goes
STOPPED = 5.0  # seconds that a sleep of one takes: the process did not run meanwhile
LENGTH = struct.Struct("<I")

Message = tuple[dict[str, Any], list[NDArray[Any]]]


def _frames(read: clips.Frames) -> Message:
    pixels, times = read.pixels, read.times
    head = {"shape": pixels.shape, "times": len(times), "start": read.start, "end": read.end}
    return head, [pixels, np.ascontiguousarray(times, np.float64)]


def _read_frames(path: str, options: dict[str, Any]) -> Iterator[Message]:
    yield _frames(clips.read_frames(path, **_framed(options)))


def _read_windows(path: str, options: dict[str, Any]) -> Iterator[Message]:
    yield from map(_frames, clips.read_windows(path, **_framed(options)))


def _read_shots(path: str, options: dict[str, Any]) -> Iterator[Message]:
    yield from map(_frames, read_shots(path, **_framed(options)))


def _framed(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"size": Framing(**options["size"])}


def _read_pictures(path: str, options: dict[str, Any]) -> Iterator[Message]:
    for picture in clips.read_pictures(path, **options):
        yield {"shape": picture.shape}, [picture]


def _read_photo(path: str, options: dict[str, Any]) -> Iterator[Message]:
    picture = read_photo(path, **_framed(options))
    yield {"shape": picture.shape}, [picture]


def _facts(path: str, options: dict[str, Any]) -> Iterator[Message]:
    with open_video(path) as video:
        yield asdict(facts_of(video, **options)), []


def _write_moment(path: str, options: dict[str, Any]) -> Iterator[Message]:
    yield write_moment(path, **options)._asdict(), []


def _write_chapters(path: str, options: dict[str, Any]) -> Iterator[Message]:
    yield {"left_out": write_chapters(path, **options)}, []


def _write_proxy(path: str, options: dict[str, Any]) -> Iterator[Message]:
    write_proxy(path, **options)
    yield {}, []


CALLS: dict[str, Callable[[str, dict[str, Any]], Iterator[Message]]] = {
    "frames": _read_frames,
    "windows": _read_windows,
    "shots": _read_shots,
    "pictures": _read_pictures,
    "photo": _read_photo,
    "facts": _facts,
    "moment": _write_moment,
    "chapters": _write_chapters,
    "proxy": _write_proxy,
}


class Child:
    """One worker process."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._last = self.asked = time.monotonic()
        self.busy = False

    def send(self, head: dict[str, Any], arrays: list[NDArray[Any]] | None = None) -> None:
        """Send a message."""
        parts = [a.tobytes() for a in arrays or []]
        line = json.dumps(head | {"bytes": sum(map(len, parts))}).encode()
        began = time.monotonic()
        with self._lock:
            self._out.write(LENGTH.pack(len(line)) + line)
            self._out.writelines(parts)
            self._out.flush()
        self._last = time.monotonic()
        container.waited += self._last - began  # for whoever reads: no fault of the film

    def beat(self) -> None:
        """Say that decoding goes on; called with each packet."""
        if time.monotonic() - self._last > BEAT:
            self.send({"beat": True})

    def answer(self, request: dict[str, Any]) -> None:
        """Do what a request asks for; whatever goes wrong is an answer too."""
        path, full = request["path"], False
        self.send({"beat": True})
        try:
            with suppress(OSError):  # a folder that is gone: the path will say so
                os.chdir(request["cwd"])
            for head, arrays in CALLS[request["call"]](path, request["options"]):
                self.send(head, arrays)
        except InputError as error:
            self.send({"error": type(error).__name__, "message": str(error)})
            full = isinstance(error, OutOfMemory)
        except MemoryError:
            self.send({"error": OutOfMemory.__name__, "message": f"{path}: {container.NO_ROOM}"})
            full = True
        except (NameError, ImportError, SyntaxError) as error:  # no film's fault
            self.send({"error": InternalError.__name__, "message": str(InternalError.of(error))})
        except Exception as error:  # FFmpeg's bindings raise all kinds of things
            message = f"{path}: damaged or encrypted ({type(error).__name__}: {str(error)[:120]})"
            self.send({"error": UnreadableVideo.__name__, "message": message})
        self.send({"done": True})
        if full:
            sys.exit(0)  # the next file begins with all of the memory


def main() -> None:
    """Answer requests until stdin ends, the parent is gone, or nothing is asked for a while."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write between the messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    _limit_memory()
    child = Child(out)
    container.on_packet = child.beat
    threading.Thread(target=_watch, args=(child, os.getppid()), daemon=True).start()
    try:
        for line in sys.stdin.buffer:
            child.busy = True
            child.answer(json.loads(line))
            child.busy, child.asked = False, time.monotonic()
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(ValueError, OSError):  # macOS knows the limit, and takes none
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [MEMORY, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(child: Child, parent: int) -> None:
    """End a process that nobody will stop: its parent is dead, or has no more work."""
    while True:
        began = time.monotonic()
        time.sleep(1)
        if (slept := time.monotonic() - began) > STOPPED:  # by Ctrl-Z, say: no fault of the film
            container.waited += slept
        if os.getppid() != parent or (not child.busy and time.monotonic() - child.asked > IDLE):
            os._exit(0)


if __name__ == "__main__":
    main()
