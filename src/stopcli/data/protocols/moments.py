"""Moments of videos that sentences describe: QVHighlights and Charades-STA as published, or a table.

Nothing is downloaded. Times are seconds.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from stopcli.data.protocols.benchmarks import Benchmark, Item, find_files, locate, own_table
from stopcli.data.protocols.lists import MALFORMED, lines
from stopcli.data.table import read_dataset
from stopcli.errors import BadDataset, FileMissing, UsageError

NAMED = {"qvhighlights": "highlight_val_release.jsonl", "charades-sta": "charades_sta_test.txt"}
LINE = re.compile(r"(\S+) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)##(.+)")


class Asked(NamedTuple):
    """A sentence, the video that it is asked of, and when what it says is to be seen."""

    text: str
    item: Item
    spans: tuple[tuple[float, float], ...]


def load_moments(
    dataset: str, annotations: Sequence[Path], videos: Path | None
) -> tuple[list[Asked], tuple[str, ...]]:
    """Return what a data set asks of the videos that are there, and the names of those that are not.

    Raises UsageError: no such name. FileMissing: no annotations, or no video. BadDataset: they are not as
    published, or a table has no captions with times.
    """
    name = dataset.lower()
    if name not in NAMED:
        return _of_table(own_table(dataset, NAMED)), ()
    files = find_files(annotations)
    if len(files) != 1:
        raise FileMissing(f"{dataset}: {len(files)} annotations given; --annotations wants {NAMED[name]}")
    if videos is None:
        raise UsageError(f"--videos is needed: the folder with the videos of {dataset}")
    try:
        read = _qvhighlights if name == "qvhighlights" else _charades
        asked = read(files[0])
        if not asked:
            raise ValueError("nothing is asked in it")
    except MALFORMED as error:
        reason = f"a row has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadDataset(f"{files[0]}: not as published ({reason}); expected {NAMED[name]}") from error
    items = tuple(dict.fromkeys(a.item for a in asked))
    placed, missing = locate(Benchmark(name, "", "retrieval", (items,)), videos)
    there = {replace(item, path=None): item for item in placed.splits[0]}
    return [a._replace(item=there[a.item]) for a in asked if a.item in there], missing


def _spans(given: object) -> tuple[tuple[float, float], ...]:
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(w, list) and len(w) == 2 for w in given)
    ):
        raise ValueError(f"{str(given)[:60]} where moments [[start, end], ...] were expected")
    return tuple(_span(*window) for window in given)


def _span(start: object, end: object) -> tuple[float, float]:
    begin, stop = float(str(start)), float(str(end))
    if not 0 <= begin < stop < 1e9:
        raise ValueError(f"a moment from {begin:g} to {stop:g} s")
    return begin, stop


def _qvhighlights(file: Path) -> list[Asked]:
    rows = [json.loads(line) for line in lines(file)]
    return [Asked(r["query"].strip(), Item(str(r["vid"]), ()), _spans(r["relevant_windows"])) for r in rows]


def _charades(file: Path) -> list[Asked]:
    found = []
    for line in lines(file):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line[:60]!r} is no line of it")
        start, end = float(match[2]), float(match[3])
        if start < end:  # the published file has a few that are not
            found.append(Asked(match[4].strip(), Item(match[1], ()), ((start, end),)))
    return found


def _of_table(path: Path) -> list[Asked]:
    """Read a table of captions with times; a caption that a video has several times is one question."""
    data = read_dataset(path)
    data.require_sound("nothing was scored; fix these rows")
    spans = defaultdict[tuple[str, Path], list[tuple[float, float]]](list)
    rows = data.of("test") or data.of("val") or data.rows
    for row in rows:
        if row.end is None:
            raise BadDataset(f"{path}: row {row.number} has no end; moments need start and end")
        spans[row.text, row.path].append((row.start or 0.0, row.end))
    return [
        Asked(text, Item(file.stem, (), path=file), tuple(found)) for (text, file), found in spans.items()
    ]
