"""Bounded, ordered prefetch: several readers work ahead, results come out in input order."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from stopcli.errors import StopError

Job = TypeVar("Job")
Item = TypeVar("Item")

AHEAD = 4  # items that one job may have waiting
_END = object()


def prefetch(
    read: Callable[[Job], Iterable[Item]], jobs: Iterable[Job], *, workers: int | None = None
) -> Generator[tuple[Job, Item | StopError], None, None]:
    """Yield (job, item) for every item that ``read(job)`` gives, in the order of the jobs.

    At most ``workers`` jobs are open, each at most `AHEAD` items ahead. A `StopError` ends its
    own job only and is yielded as its last item; any other exception is raised here. Closing the
    generator stops the readers.
    """
    count = workers or readers()
    stopped = threading.Event()
    pending = iter(jobs)

    def work(job: Job, out: queue.Queue[Any]) -> None:
        try:
            for item in read(job):
                if not _put(out, item, stopped):
                    return
        except Exception as error:
            _put(out, error, stopped)
        _put(out, _END, stopped)

    def start(job: Job) -> tuple[Job, queue.Queue[Any]]:
        out: queue.Queue[Any] = queue.Queue(AHEAD)
        # a daemon: an interrupted command need not wait for a decoder deep in a long file
        threading.Thread(target=work, args=(job, out), name="decode", daemon=True).start()
        return job, out

    try:
        running = deque(map(start, islice(pending, count)))
        while running:
            job, out = running[0]
            while (item := out.get()) is not _END:
                if isinstance(item, Exception) and not isinstance(item, StopError):
                    raise item
                yield job, item
            running.popleft()
            running.extend(map(start, islice(pending, 1)))
    finally:
        stopped.set()


def readers() -> int:
    """Return how many jobs are read at the same time on this machine."""
    return max(2, min(8, os.cpu_count() or 2))


def _put(out: queue.Queue[Any], item: object, stopped: threading.Event) -> bool:
    """Hand an item over; False when nobody waits for it any more."""
    while not stopped.is_set():
        try:
            out.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
