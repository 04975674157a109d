"""An index made in parts by processes of their own, and the parts joined: ``--shard i/n`` and ``merge``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stopcli.data.runs import Input, Run, Shard, lost_or_kept, remove_manifest, share, with_seconds
from stopcli.errors import InputError
from stopcli.fileio import remove_folder
from stopcli.index.engine import SearchEngine
from stopcli.index.maintenance import merge
from stopcli.index.store import DATABASE, Index
from stopcli.index.sync import HERE, absolute
from stopcli.index.types import SHOTS, Fault, FileRecord, Paths
from stopcli.results import Failure

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

KIND = "index"
PARTS = "shards"  # the folder of an index where its parts are made


class Part(NamedTuple):
    """What one process did: its folder, how many files it embedded, and those that it could not."""

    folder: Path
    embedded: int
    failures: tuple[Failure, ...]


class Joined(NamedTuple):
    """What came from the parts: files, vectors; why some did not; and which processes are not done yet."""

    files: int
    vectors: int
    failures: tuple[Failure, ...]
    unfinished: tuple[Shard, ...]


def update_part(
    engine: SearchEngine,
    encoder: Encoder,
    shard: Shard,
    videos: Paths,
    roots: Paths,
    window: float | None,
    cuts: str,
    open_part: Callable[[Path, bool], SearchEngine],
    later: Callable[[int], object] = lambda _: None,
) -> Part:
    """Embed one process's share of what an index lacks into a part of its own.

    ``cuts`` is what was asked for: auto, on or off. ``open_part`` opens an index to search, given its folder
    and whether windows end at cuts; ``later`` is called with the number of files that came after the run was
    planned. Raises what `share` does.
    """
    key, frames = engine.settings
    settings = {
        "kind": KIND,
        "model": key,
        "frames": frames,
        "window": window,
        "cuts": cuts,
        "precision": encoder.precision,
    }

    def plan() -> tuple[dict[str, Any], list[Input]]:
        """Look at every file: one process does it for all."""
        diff, state, *_ = engine.plan(videos, roots, window)
        new = {
            str(path): record
            for path, record in diff.present.items()
            if record.content not in state.entries and record.content not in state.faults
        }
        lost = (Input(absolute(str(f.path)), -1, 0, "", 0.0) for f in diff.failures)
        inputs = [*with_seconds((path, *record) for path, record in new.items()), *lost]
        return {"weights": engine.space_key}, inputs

    run = share(engine.index.folder / PARTS, shard, settings, encoder.describe(), plan)
    places = {absolute(str(path)) for path in videos} - {item.path for item in run.inputs}
    if more := len(places) - len(engine.index.database.files_at(places)):
        later(more)
    mine, lost = lost_or_kept(run.of(shard))
    with open_part(run.part(shard), str(run.settings["weights"]).endswith(SHOTS)) as part:
        result = part.update([Path(item.path) for item in mine], [], window)
    return Part(run.part(shard), result.embedded, (*lost, *result.failures))


def join(index: Index, run: Run, *, move: bool) -> Joined:
    """Take over the parts of a run, in order; ``move`` removes each that is finished when it is taken over.

    An index that was empty then holds what one process would have made, row for row.

    Raises IndexBusy: another process writes here, or to a part that would be removed. InputError: the run is
    none of an index.
    """
    if run.settings.get("kind") != KIND or "weights" not in run.settings:
        raise InputError(f"{run.folder}: not the parts of an index; those of 'stop embed' are joined by that")
    files = vectors = 0
    unfinished = []
    for shard, folder in run.parts():
        mine = run.of(shard)
        if (folder / DATABASE).exists():
            with Index(folder, wait=0.0) as part:
                if move:
                    with part.writing():  # nobody else is at it
                        added, rows = merge(index, part)
                else:
                    added, rows = merge(index, part)
            files, vectors = files + added, vectors + rows
        done = _done(index, run, mine)
        if any(item.content not in done for item in lost_or_kept(mine)[0]):
            unfinished.append(shard)
        elif move and folder.exists():
            remove_folder(folder)
    done = _done(index, run, run.inputs)
    files += _note_files(index, [item for item in run.inputs if item.content in done])
    if move and not unfinished:
        remove_manifest(run.folder)
    failures = [
        Failure(item.path, fault.error, fault.message.replace(HERE, item.path))
        for item in run.inputs
        if (fault := done.get(item.content)) is not None
    ]
    failures += lost_or_kept([item for item in run.inputs if item.content not in done])[1]
    return Joined(files, vectors, tuple(failures), tuple(unfinished))


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
