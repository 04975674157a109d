"""The clips to train on: what a table must be to be trained on, and which of its videos can be read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from stopcli.data.table import MOST_LISTED, SPLITS, Clip, Dataset, Problem, unique_clips
from stopcli.errors import BadDataset, InputError, StopError, UnreadableVideo
from stopcli.train import distributed
from stopcli.train.batches import ClipReader
from stopcli.train.options import TrainingCallback
from stopcli.video.workers.pool import read_facts
from stopcli.video.workers.prefetch import prefetch

BEYOND = 1.0  # seconds: a clip may end so much after its file, as times that were rounded do
ADVICE = "nothing was trained; fix these rows, or skip them with --skip-bad"


def check_table(
    data: Dataset, callback: TrainingCallback, *, skip_bad: bool, reported: Sequence[Problem] = ()
) -> Dataset:
    """Find what can be seen without opening the videos; return the data set that is left.

    Raises BadDataset where that is too little, or where there are problems that ``skip_bad`` does not skip.
    The callback is told of those that are not ``reported`` yet.
    """
    data = data.without(list(_class_problems(data)))
    if not skip_bad:
        data.require_sound(ADVICE)
    new = [problem for problem in data.problems if problem not in set(reported)]
    for problem in new[:MOST_LISTED]:
        callback.skipped(str(problem))
    if len(new) > MOST_LISTED:
        callback.skipped(f"and {len(new) - MOST_LISTED} more")
    if not any(r.split in (None, "train") for r in data.rows):
        raise BadDataset(f"{data.source}: no usable row is for training{data.listing}")
    if data.task == "retrieval":
        count = len(unique_clips([r for r in data.rows if r.split in (None, "train")]))
        left = count - (not data.of("val"))  # one of them is for validation then
        if left < 2:
            message = (
                f"captions are learned from two clips or more; beside those for validation, {left} is there"
            )
            raise BadDataset(f"{data.source}: {message}{data.listing}")
    if data.task == "classification" and len(data.labels) < 2:
        message = f"two or more labels are needed, found {data.labels[0]!r} only"
        raise BadDataset(f"{data.source}: {message}{data.listing}")
    return data


def check_videos(data: Dataset, reader: ClipReader, callback: TrainingCallback, *, skip_bad: bool) -> Dataset:
    """Decode every clip once, into the cache; return the data set of those that can be read.

    Raises BadDataset as `check_table`.
    """
    mine = distributed.every_nth(unique_clips(data.rows))
    callback.decoding(len(mine))
    own_faults: dict[Clip, InputError] = {}
    end_of = cache(lambda path: read_facts(path).end)

    def read(clip: Clip) -> list[object]:
        path, _, end = clip
        if end is not None and end > end_of(path) + BEYOND:
            raise UnreadableVideo(f"{path}: it ends at {end_of(path):.2f} s, but {end:.2f} s was wanted")
        return [reader.read(clip)]

    for clip, item in prefetch(read, mine):
        if isinstance(item, InputError):
            own_faults[clip] = item
        elif isinstance(item, StopError):
            raise item
        callback.decoded(clip[0])
    faults = distributed.gather_dict(own_faults)
    good = data.without([Problem(r.number, str(faults[r.clip])) for r in data.rows if r.clip in faults])
    return check_table(good, callback, skip_bad=skip_bad, reported=data.problems)


def _class_problems(data: Dataset) -> Iterator[Problem]:
    """Find classes that cannot be learnt: those with one clip, those never trained on."""
    if data.task != "classification":
        return
    trained, counts = set(data.labels), Counter(r.text for r in data.rows)
    for row in data.rows:
        if row.text not in trained:
            yield Problem(row.number, f"class {row.text!r} is in {row.split} but not in train")
        elif counts[row.text] == 1:
            yield Problem(row.number, f"class {row.text!r} has one clip only; two are the least")


def count_clips(data: Dataset) -> dict[str, int]:
    """Return how many clips each split has."""
    return {split: len(unique_clips(data.of(split))) for split in SPLITS}


def describe(data: Dataset) -> dict[str, Any]:
    """Return what a model folder says of its data: counts, and hashes of the rows and of their file."""
    rows = json.dumps([[r.path.name, r.text, r.start, r.end, r.split] for r in data.rows])
    return {
        "source": data.source.name,
        "task": data.task,
        **{f"{split} clips": count for split, count in count_clips(data).items()},
        "rows skipped": len(data.problems),
        "sha256": hashlib.sha256(rows.encode()).hexdigest(),
        **({"table_sha256": data.sha256} if data.sha256 else {}),
    }
