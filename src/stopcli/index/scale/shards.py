"""An index made in parts by processes of their own, and the parts joined: ``--shard i/n`` and ``merge``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stopcli.data.runs import WAIT, Input, Run, Shard, lost_or_kept, remove_manifest, share, with_seconds
from stopcli.errors import IndexUnusable, InputError, PartUnfinished, StopError
from stopcli.fileio import alone, make_private_folder, remove_folder
from stopcli.index.engine import SearchEngine
from stopcli.index.maintenance import forget_lost, merge
from stopcli.index.store import DATABASE, Index
from stopcli.index.sync import HERE, absolute
from stopcli.index.types import SHOTS_OF_ANY, Fault, FileRecord, Paths
from stopcli.results import Failure

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

KIND = "index"
PARTS = "shards"  # the folder of an index where its parts are made


class Wanted(NamedTuple):
    """What all processes of a run are asked for; ``cuts`` is auto, on or off."""

    videos: Paths
    roots: Paths
    window: float | None
    cuts: str


class Part(NamedTuple):
    """What one process did: its folder, how many files it embedded, and those that it could not."""

    folder: Path
    embedded: int
    failures: tuple[Failure, ...]


class Joined(NamedTuple):
    """What came from the parts: files, vectors; and why some did not, or not yet."""

    files: int
    vectors: int
    failures: tuple[Failure, ...]


def update_part(
    folder: Path,
    open_index: Callable[[], SearchEngine],
    encoder: Encoder,
    shard: Shard,
    wanted: Wanted,
    open_part: Callable[[Path, bool], SearchEngine],
    later: Callable[[int], object] = lambda _: None,
) -> Part:
    """Embed one process's share of what an index lacks into a part of its own.

    One process at a time has the index open: SQLite keeps it whole on one machine only. ``open_part`` opens
    an index to search, given its folder and whether windows end at cuts; ``later`` is called with the number
    of files that came after the run was planned. Raises what `share` does.
    """
    make_private_folder(folder)
    with alone(folder / PARTS, wait=WAIT), open_index() as engine:
        run = _planned(engine, encoder, shard, wanted)
        places = {absolute(str(path)) for path in wanted.videos} - {item.path for item in run.inputs}
        more = len(places) - len(engine.index.database.files_at(places))
    if more:
        later(more)
    mine, lost = lost_or_kept(run.of(shard))
    with open_part(run.part(shard), bool(SHOTS_OF_ANY.search(str(run.settings["weights"])))) as part:
        forget_lost(part.index, look=True)  # what a power cut left of them
        result = part.update([Path(item.path) for item in mine], [], wanted.window)
    return Part(run.part(shard), result.embedded, (*lost, *result.failures))


def _planned(engine: SearchEngine, encoder: Encoder, shard: Shard, wanted: Wanted) -> Run:
    """Return the run that a process is part of, planned by whoever comes first."""
    key, frames = engine.settings
    settings = {
        "kind": KIND,
        "model": key,
        "frames": frames,
        "window": wanted.window,
        "cuts": wanted.cuts,
        "precision": encoder.precision,
    }

    def plan() -> tuple[dict[str, Any], list[Input]]:
        """Look at every file: one process does it for all."""
        diff, state, *_ = engine.plan(*wanted[:3])
        new = {
            str(path): record
            for path, record in diff.present.items()
            if record.content not in state.entries and record.content not in state.faults
        }
        lost = (Input(absolute(str(f.path)), -1, 0, "", 0.0) for f in diff.failures)
        inputs = [*with_seconds((path, *record) for path, record in new.items()), *lost]
        return {"weights": engine.space_key}, inputs

    def over(before: Run) -> bool:
        done = _done(engine.index, before, before.inputs) if _of_index(before) else {}
        return not lost_or_kept([item for item in before.inputs if item.content not in done])[0]

    return share(engine.index.folder / PARTS, shard, settings, encoder.describe(), plan, over)


def join(index: Index, run: Run, *, move: bool) -> Joined:
    """Take over the parts of a run, in order; ``move`` removes each that is finished when it is taken over.

    An index that was empty then holds what one process would have made, row for row.

    Raises IndexBusy: another process writes here, or to a part that would be removed. InputError: the run is
    none of an index.
    """
    if not _of_index(run):
        raise InputError(f"{run.folder}: not the parts of an index; those of 'stop embed' are joined by that")
    files = vectors = 0
    failures, finished = list[Failure](), True
    for (shard, folder), mine in zip(run.parts(), run.stretches(), strict=True):
        again = f"run --shard {shard} again, then merge again"
        try:
            added, rows = _take_over(index, folder, move=move)
            files, vectors = files + added, vectors + rows
        except IndexUnusable as error:
            problem: StopError = IndexUnusable(f"{folder}: cannot be used; remove it, {again} ({error})")
            failures.append(Failure.of(folder, problem))
            finished = False
            continue
        done = _done(index, run, mine)
        if left := lost_or_kept([item for item in mine if item.content not in done])[0]:
            finished = False
            problem = PartUnfinished(f"{folder}: part {shard} has {len(left)} files to do; {again}")
            failures.append(Failure.of(folder, problem))
        elif move and os.path.lexists(folder):
            remove_folder(folder)
    done = _done(index, run, run.inputs)
    there = lost_or_kept(run.inputs)[0]
    files += _note_files(index, [item for item in there if item.content in done])
    if move and finished:
        remove_manifest(run.folder)
    failures += [
        Failure(item.path, fault.error, fault.message.replace(HERE, item.path))
        for item in run.inputs
        if (fault := done.get(item.content)) is not None
    ]
    failures += lost_or_kept([item for item in run.inputs if item.content not in done])[1]
    return Joined(files, vectors, tuple(failures))


def _of_index(run: Run) -> bool:
    """Say whether a list is that of an index, with settings of the kinds that were written."""
    kinds: dict[str, Any] = {
        "weights": str,
        "precision": str,
        "frames": int,
        "window": (float, int, type(None)),
    }
    s = run.settings
    return s.get("kind") == KIND and all(isinstance(s.get(name, ()), kind) for name, kind in kinds.items())


def _take_over(index: Index, folder: Path, *, move: bool) -> tuple[int, int]:
    """Take over what a part has, if it was begun; return how many files and vectors came."""
    if not (folder / DATABASE).exists():
        return 0, 0
    with Index(folder, wait=0.0) as part, part.writing() if move else nullcontext():
        return merge(index, part)  # nobody else is at what will be removed


def _done(index: Index, run: Run, inputs: Sequence[Input]) -> dict[str, Fault | None]:
    """Return which contents the index knows of: why those have no vectors that have none."""
    s, contents = run.settings, {item.content for item in inputs}
    space = index.database.find_space(s["weights"], s["precision"], s["frames"], s["window"])
    if space is None:
        return {}
    with_vectors: dict[str, Fault | None] = dict.fromkeys(index.database.entries(space, contents))
    return {**index.database.faults(space, contents), **with_vectors}


def _note_files(index: Index, inputs: list[Input]) -> int:
    """Note where the contents of a run lie: copies of a file were embedded once. Return how many are new."""
    records = {Path(i.path): FileRecord(i.size, i.mtime_ns, i.content) for i in inputs}
    known = index.database.files_at(map(str, records))
    new = {path: record for path, record in records.items() if path not in known}
    with index.writing():
        index.database.update_files(new)
    return len(new)
