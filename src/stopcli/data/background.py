"""Everything else: clips of the stretches that nobody labelled, as a label of their own.

A model that knows only what to look for calls everything by one of these names. Labelled intervals inside
long files also say what is none of them: the rest of these files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from stopcli.data.split import files_of
from stopcli.data.table import Dataset, Row
from stopcli.errors import BadDataset, InputError, UsageError

BACKGROUND = "background"
SHORTEST = 0.1  # seconds of a clip
MARGIN = 0.5  # seconds between a labelled interval and a clip of the background


def with_background(data: Dataset, seed: int, span_of: Callable[[Path], tuple[float, float]]) -> Dataset:
    """Add clips of the label "background", as many and as long as the median of the other labels.

    They lie in files with labelled intervals, at least half a second from any of them, and share the split
    and the group of their file. Each split gets as many as it has of the rows. A file with a fault in one of
    its rows has none, for what is labelled in it is not known. ``span_of`` returns when a video's pictures
    begin and end, in seconds, or raises InputError.

    Raises:
        UsageError: the table has captions, or that label already. BadDataset: there are no two stretches that
            are long enough, or none for training.
    """
    if data.task != "classification":
        raise UsageError("--background needs labels, not captions")
    if BACKGROUND in map(str.casefold, data.labels):
        raise UsageError(f"{data.source}: has a label {BACKGROUND!r} already; leave out --background")
    names = files_of([*(row.path for row in data.rows), *data.doubtful])
    doubtful = set(names[len(data.rows) :])
    files = defaultdict[str, list[Row]](list)
    for row, name in zip(data.rows, names, strict=False):
        files[name].append(row)
    within = {
        name: rows
        for name, rows in files.items()
        if name not in doubtful and all(r.end is not None for r in rows)
    }
    if not within:
        raise BadDataset(
            f"{data.source}: --background needs rows with start and end: whole files are labelled"
        )
    lengths = [(r.end or 0.0) - (r.start or 0.0) for rows in within.values() for r in rows]
    length, count = median(lengths), round(median(Counter(r.text for r in data.rows).values()))
    if length < SHORTEST:
        raise BadDataset(f"{data.source}: its intervals are of {length:g} s; --background needs longer ones")
    rng = np.random.default_rng([seed, 6])
    places: list[tuple[int, int, Row, float]] = []  # how many its file has before it; the file's turn
    paths = sorted(within)
    for turn, name in enumerate(paths[i] for i in rng.permutation(len(paths))):
        called = list({row.path: row for row in within[name]}.values())  # a row of each name of the file
        try:
            free = _free(within[name], *span_of(called[0].path), length)
        except InputError:  # reading its clips will say so
            continue
        turns = [(n // len(called), turn, called[n % len(called)]) for n in range(len(free))]
        order = rng.permutation(len(free)).tolist()
        places += [(*one, free[i]) for one, i in zip(turns, order, strict=True)]
    of_split = Counter(r.split for r in data.rows)
    wanted = {split: max(1, round(count * rows / len(data.rows))) for split, rows in of_split.items()}
    new: list[Row] = []
    for _, _, row, at in sorted(places, key=lambda place: place[:2]):  # of every file as many
        start, end = round(at, 3), round(at + length, 3)
        if wanted[row.split]:
            wanted[row.split] -= 1
            new.append(replace(row, text=BACKGROUND, start=start, end=end))
    for_training = sum(row.split in (None, "train") for row in new)
    if len(new) < 2 or not for_training:
        found = f"{len(new) or 'no'} stretches of {length:g} s without a label, {for_training} for training,"
        advice = "leave out --background, or label some yourself"
        raise BadDataset(f"{data.source}: {found} in {len(within)} files; {advice}")
    first = max(r.number for r in data.rows) + 1
    new = [replace(row, number=number) for number, row in enumerate(new, first)]
    note = f"{len(new)} clips of {length:g} s that nobody labelled are {BACKGROUND!r}"
    return replace(data, rows=(*data.rows, *new), notes=(*data.notes, note))


def _free(rows: list[Row], begin: float, end: float, length: float) -> list[float]:
    """Return where clips of a length begin that no row comes near, one after the other."""
    out, at = [], begin
    taken = sorted((r.start or 0.0, r.end or 0.0) for r in rows)
    for start, stop in [*taken, (end + MARGIN, end)]:
        while at + length <= start - MARGIN:
            out.append(at)
            at += length
        at = max(at, stop + MARGIN)
    return out
