"""Heavy work, one piece at a time; the rest waits, and says so. What is quick has a turn of its own."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from stopcli.errors import InternalError, StopError

KEPT = 20  # jobs that are over


class Stopped(Exception):
    """The job was called off."""


@dataclass
class Job:
    """One piece of work and how far it has come."""

    id: int
    name: str
    key: str
    state: str = "waiting"  # running, done, failed, stopped
    done: float = 0.0
    total: float = 0.0
    words: str = ""
    result: Any = None
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def report(self, done: float, total: float, words: str = "") -> None:
        """Say how far the work has come; raises Stopped where it was called off."""
        if self.stop.is_set():
            raise Stopped
        self.done, self.total, self.words = done, total, words

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows; of a result, a file's name or counts."""
        names = ("id", "name", "state", "done", "total", "words")
        small = self.result if isinstance(self.result, dict) else None
        return {name: getattr(self, name) for name in names} | {"result": small}

    @property
    def pending(self) -> bool:
        """Whether the work waits or runs."""
        return self.state in ("waiting", "running")


class Jobs:
    """A queue with one worker, and another for what is quick."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stopcli-job")
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="stopcli-quick")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()

    def start(
        self, name: str, work: Callable[[Job], Any], key: str | None = None, *, quick: bool = False
    ) -> Job:
        """Queue work, unless the same (by its ``key``, or else its name) waits already; return it."""
        with self._lock:
            for job in self._jobs:
                if job.key == (key or name) and job.state == "waiting":
                    return job
            job = Job(next(self._numbers), name, key or name)
            self._jobs.append(job)
            over = [j for j in self._jobs if not j.pending]
            for old in over[: max(0, len(over) - KEPT)]:
                self._jobs.remove(old)
        (self._quick if quick else self._pool).submit(self._run, job, work)
        return job

    def find(self, number: str) -> Job | None:
        """Return the job of a number that was given out, if it is known still."""
        with self._lock:
            return next((job for job in self._jobs if str(job.id) == number), None)

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        try:
            job.report(0, 0)
            job.state = "running"
            job.result = work(job)
            job.state = "done"
            with self._lock:  # what failed before has succeeded now
                for old in [j for j in self._jobs if (j.name, j.state) == (job.name, "failed")]:
                    self._jobs.remove(old)
        except Stopped:
            job.state = "stopped"
        except StopError as error:
            job.words, job.state = str(error), "failed"
        except Exception as error:
            job.words, job.state = str(InternalError.of(error)), "failed"
        finally:
            job.over.set()

    def listing(self) -> list[dict[str, Any]]:
        """Return all jobs that are not over, and the last that are, oldest first."""
        with self._lock:
            return [job.to_dict() for job in self._jobs]

    def busy(self) -> bool:
        """Say whether anything waits or runs."""
        with self._lock:
            return any(job.pending for job in self._jobs)

    def close(self) -> None:
        """Call off what waits and what runs."""
        with self._lock:
            for job in self._jobs:
                job.stop.set()
        for pool in (self._pool, self._quick):
            pool.shutdown(wait=False, cancel_futures=True)
