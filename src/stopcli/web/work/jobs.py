"""Heavy work, one piece at a time; the rest waits, and says so."""

from __future__ import annotations

import itertools
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from stopcli.errors import StopError

KEPT = 20  # jobs that are over


class Stopped(Exception):
    """The job was called off."""


@dataclass
class Job:
    """One piece of work and how far it has come."""

    id: int
    name: str
    state: str = "waiting"  # running, done, failed, stopped
    done: float = 0.0
    total: float = 0.0
    words: str = ""
    result: Any = None
    stop: threading.Event = field(default_factory=threading.Event)

    def report(self, done: float, total: float, words: str = "") -> None:
        """Say how far the work has come; raises Stopped where it was called off."""
        if self.stop.is_set():
            raise Stopped
        self.done, self.total, self.words = done, total, words

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows."""
        names = ("id", "name", "state", "done", "total", "words", "result")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """A queue with one worker."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stopcli-job")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()

    def start(self, name: str, work: Callable[[Job], Any]) -> Job:
        """Queue work, unless work of that name waits or runs already; return it."""
        with self._lock:
            for job in self._jobs:
                if job.name == name and job.state in ("waiting", "running"):
                    return job
            job = Job(next(self._numbers), name)
            self._jobs.append(job)
            over = [j for j in self._jobs if j.state not in ("waiting", "running")]
            for old in over[: max(0, len(over) - KEPT)]:
                self._jobs.remove(old)
        self._pool.submit(self._run, job, work)
        return job

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        if job.stop.is_set():
            job.state = "stopped"
            return
        job.state = "running"
        try:
            job.result = work(job)
            job.state = "done"
        except Stopped:
            job.state = "stopped"
        except StopError as error:
            job.words, job.state = str(error), "failed"
        except Exception as error:
            job.words = f"this should not have happened ({type(error).__name__}: {str(error)[:200]})"
            job.result, job.state = traceback.format_exc(limit=-3), "failed"

    def listing(self) -> list[dict[str, Any]]:
        """Return all jobs that are not over, and the last that are, oldest first."""
        with self._lock:
            return [job.to_dict() for job in self._jobs]

    def close(self) -> None:
        """Call off what waits and what runs."""
        with self._lock:
            for job in self._jobs:
                job.stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
