"""A run over many files that is shared by several processes: ``--shard i/n``.

The first process to come writes down what the run is about, once for all: the settings, and every file with
its size, its key and its duration. Each process then embeds its own stretch of that list into a part of its
own. Stretches follow each other, so the parts one after the other are what one process would have made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stopcli.errors import (
    CannotWrite,
    FileChanged,
    FileMissing,
    InputError,
    StopError,
    UnreadableVideo,
    UsageError,
)
from stopcli.fileio import alone, make_private_folder, remove_folder, to_json, write_text
from stopcli.results import Failure
from stopcli.video.workers.pool import read_facts
from stopcli.video.workers.prefetch import prefetch

MANIFEST = "run.jsonl"
FORMAT = 1
MOST_SHARDS = 100_000
WAIT = 3600.0  # seconds that a process waits for the one that writes the list
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
RANKS = (("SLURM_PROCID", "SLURM_NTASKS"), ("RANK", "WORLD_SIZE"))


class Shard(NamedTuple):
    """The ``number``-th of ``total`` processes, from 1 on."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @classmethod
    def parse(cls, text: str, environ: Mapping[str, str] = os.environ) -> Shard:
        """Read ``2/8``; ``auto`` is what a scheduler says by SLURM's variables, or by RANK and WORLD_SIZE.

        Raises UsageError where it is neither, or no scheduler has said anything.
        """
        given = _scheduled(environ) if text == "auto" else text.partition("/")[::2]
        number, count = (int(v) if v.isdecimal() and len(v) < 9 else 0 for v in given)
        if not 1 <= number <= count <= MOST_SHARDS:
            whose = " from the scheduler" if text == "auto" else ""
            found = f"{'/'.join(given)!r}{whose}"
            raise UsageError(f"--shard takes i/n, such as 1/8 to 8/8, or auto; got {found}")
        return cls(number, count)


class Input(NamedTuple):
    """A file of a run, as it was when the run was planned."""

    path: str
    size: int
    mtime_ns: int
    content: str  # its key; empty where it could not be read
    seconds: float  # 0 where that is not known

    @property
    def pinned(self) -> tuple[int, int]:
        """What tells whether a file is still the same."""
        return self.size, self.mtime_ns


@dataclass(frozen=True)
class Run:
    """What all processes of a run have in common."""

    folder: Path
    count: int
    settings: dict[str, Any]
    inputs: tuple[Input, ...]
    made: dict[str, Any]

    def of(self, shard: Shard) -> list[Input]:
        """Return the files of one process."""
        return self.stretches()[shard.number - 1]

    def stretches(self) -> list[list[Input]]:
        """Return the files of each process: stretches of the list, alike in seconds."""
        weights = [item.seconds for item in self.inputs]
        if not any(weights):
            weights = [1.0] * len(self.inputs)
        total, before = sum(weights), 0.0
        found: list[list[Input]] = [[] for _ in range(self.count)]
        for item, weight in zip(self.inputs, weights, strict=True):
            middle = (before + weight / 2) / total
            before += weight
            found[min(self.count - 1, int(middle * self.count))].append(item)
        return found

    def part(self, shard: Shard, suffix: str = "") -> Path:
        """Where a process writes: ``0002-of-0008`` and the suffix."""
        return self.folder / f"{shard.number:04d}-of-{shard.total:04d}{suffix}"

    def parts(self, suffix: str = "") -> list[tuple[Shard, Path]]:
        """Return every part in order, made or not."""
        shards = (Shard(number, self.count) for number in range(1, self.count + 1))
        return [(shard, self.part(shard, suffix)) for shard in shards]


def share(
    folder: Path,
    shard: Shard,
    settings: Mapping[str, Any],
    made: Mapping[str, Any],
    plan: Callable[[], tuple[Mapping[str, Any], list[Input]]],
    over: Callable[[Run], bool] = lambda _: False,
) -> Run:
    """Return the run that is kept in a folder, planned by whoever comes first.

    ``settings`` must be the same for all processes; what ``plan`` returns besides the files is kept with
    them. ``made`` is kept beside them. A run that is ``over`` is removed, and a new one is planned.

    Raises:
        UsageError: the run has other settings or another number of processes. InputError: what is kept
            there is no run. CannotWrite, OutputBusy: no process can plan it.
    """
    make_private_folder(folder)
    file = folder / MANIFEST
    with alone(file, wait=WAIT):
        if file.exists() and over(before := read_run(folder)):
            for _, part in before.parts():
                if part.exists():
                    remove_folder(part)
            file.unlink()
        if not file.exists():
            more, inputs = plan()
            every = {**settings, **more}
            first = {"format": FORMAT, "shards": shard.total, "settings": every, "made": dict(made)}
            lines = [to_json(first), *(to_json(item._asdict()) for item in inputs)]
            write_text(file, "\n".join(lines) + "\n", sync=True)
    run = read_run(folder)
    way = f"go on as it began, or remove {folder} to start over"
    if run.count != shard.total:
        raise UsageError(f"--shard {shard}: this run is shared by {run.count}; {way}")
    for name, value in settings.items():
        if run.settings.get(name) != value:
            raise UsageError(f"{file}: {name} was {run.settings.get(name)!r}, now it is {value!r}; {way}")
    return run


def read_run(folder: Path) -> Run:
    """Return the run of a folder; raises FileMissing, or InputError where it is damaged."""
    file = folder / MANIFEST
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as stream:
            head = json.loads(next(stream))
            inputs = tuple(_input(line) for line in stream)
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}, this stopcli reads {FORMAT}")
        count = Shard.parse(f"1/{head['shards']}").total
        settings, made = dict(head["settings"]), dict(head["made"])
    except FileNotFoundError:
        raise FileMissing(
            f"{file}: no such file; 'stop index update --shard' and 'stop embed --shard' make it"
        ) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError, StopError) as error:
        reason = str(error) or "empty"
        raise InputError(
            f"{file}: not the list of a shared run, or damaged ({reason}); remove {folder}"
        ) from error
    return Run(folder, count, settings, inputs, made)


def with_seconds(found: Iterable[tuple[str, int, int, str]]) -> list[Input]:
    """Add to each file (path, size, mtime_ns, content) how long it is, as its container says."""
    inputs = []
    rows = {row[0]: row for row in found}
    for path, facts in prefetch(lambda path: [read_facts(path)], list(rows)):
        inputs.append(
            Input(*rows[path], 0.0 if isinstance(facts, StopError) else max(0.0, facts.duration or 0.0))
        )
    return inputs


def lost_or_kept(inputs: Sequence[Input]) -> tuple[list[Input], list[Failure]]:
    """Return the files that are what they were when the run was planned, and why the others are not."""
    kept, failures = [], []
    for item in inputs:
        error: InputError | None = None
        try:
            status = Path(item.path).stat()
            if not item.content:
                error = UnreadableVideo(f"{item.path}: could not be read when the run was planned")
            elif (status.st_size, status.st_mtime_ns) != item.pinned:
                what = "it was changed since the run was planned"
                error = FileChanged(f"{item.path}: {what}; update without --shard after the merge")
        except FileNotFoundError:
            error = FileMissing(f"{item.path}: no such file any more")
        except OSError as problem:
            error = UnreadableVideo(f"{item.path}: cannot be read ({problem.strerror})")
        if error is None:
            kept.append(item)
        else:
            failures.append(Failure.of(item.path, error))
    return kept, failures


def remove_manifest(folder: Path) -> None:
    """Remove the list of a run whose parts are all gone, and its folder if nothing else lies there."""
    try:
        for name in (MANIFEST, f".{MANIFEST}.lock"):
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be removed ({error.strerror})") from error


def _scheduled(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return what a scheduler says: which process this is, from 1 on, and of how many."""
    if all(name in environ for name in ARRAY):
        number, count = (environ[name] for name in ARRAY)
        least, step = environ.get("SLURM_ARRAY_TASK_MIN", "1"), environ.get("SLURM_ARRAY_TASK_STEP", "1")
        if all(v.isdecimal() for v in (number, least, step)) and int(step):
            return str((int(number) - int(least)) // int(step) + 1), count
        return number, count
    for rank, size in RANKS:
        if rank in environ and size in environ:
            number = environ[rank]
            return (str(int(number) + 1) if number.isdecimal() else number), environ[size]
    known = ", ".join("/".join(pair) for pair in (ARRAY, *RANKS))
    raise UsageError(
        f"--shard auto: no scheduler has set {known}; say which part this is, such as --shard 1/8"
    )


def _input(line: str) -> Input:
    item = Input(**json.loads(line))
    kinds: tuple[Any, ...] = (str, int, int, str, (int, float))
    if (
        not all(isinstance(value, kind) for value, kind in zip(item, kinds, strict=True))
        or not 0 <= item.seconds < 1e9
    ):
        raise ValueError(f"{line[:60]!r} is no file of a run")
    if not item.path or b"\0" in os.fsencode(item.path):
        raise ValueError(f"{item.path[:60]!r} is no path")
    return item
