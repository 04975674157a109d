"""Which files may answer a query, and where their vectors stand. Letters: F files, N rows of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stopcli.index.sync import FileDiff
from stopcli.index.types import GAP, Entry, Filters, Snapshot, spans_of
from stopcli.video.cut.shots import PATIENCE


@dataclass(frozen=True)
class Selection:
    """The files that may answer, in the order of their vectors; all arrays (F,)."""

    first: NDArray[np.int64]
    count: NDArray[np.int64]  # at least 1
    duration: NDArray[np.float64]
    paths: tuple[str, ...]
    window: float | None
    numbers: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # by first row: see `Entry`
    begin: Mapping[int, float] = field(default_factory=dict)  # by first row, where that is not 0
    ends: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # by first row, of what has gaps
    shots: bool = False
    copies: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # by first row: other files, the same

    def rows(self) -> NDArray[np.int64]:
        """Return the rows of the files (N,)."""
        shift = self.first - (np.cumsum(self.count) - self.count)
        out: NDArray[np.int64] = np.arange(self.count.sum()) + np.repeat(shift, self.count)
        return out

    def numbers_of(self, file: int) -> Sequence[int]:
        """Return which windows the rows of a file are; see `Entry`."""
        return self.numbers.get(int(self.first[file]), range(int(self.count[file])))

    def chain_of(self, file: int) -> NDArray[np.int64]:
        """Return ascending numbers of the rows of a file: of two that follow each other, one more."""
        numbers, ends = np.asarray(self.numbers_of(file)), self.ends.get(int(self.first[file]))
        if not self.shots:
            return numbers
        longest = 1000 * PATIENCE * (self.window or 0.0)
        apart = np.diff(numbers) > longest if ends is None else numbers[1:] - np.asarray(ends)[:-1] > GAP
        chain: NDArray[np.int64] = np.arange(len(numbers)) + np.cumsum([0, *apart])
        return chain

    def spans(self, file: int, first: int, last: int) -> list[tuple[float, float]]:
        """Return when the windows of a file, from the ``first`` to the ``last``, begin and end (seconds)."""
        numbers, end = self.numbers_of(file), float(self.duration[file])
        begin = self.begin.get(int(self.first[file]), 0.0)
        some, ends = numbers[first : last + 2], self.ends.get(int(self.first[file]))
        stops = None if ends is None else ends[first : last + 2]
        spans = list(spans_of(some, self.window or 0.0, begin, end, stops, shots=self.shots))
        return spans[: last + 1 - first]

    def owning(self, rows: NDArray[np.int64]) -> Selection:
        """Return the files that one of the rows belongs to."""
        owner = np.searchsorted(self.first, rows, "right") - 1
        inside = (owner >= 0) & (rows < (self.first + self.count)[owner])
        kept = np.unique(owner[inside])
        paths = tuple(self.paths[f] for f in kept)
        return replace(
            self, first=self.first[kept], count=self.count[kept], duration=self.duration[kept], paths=paths
        )

    def copies_of(self, row: int) -> tuple[str, ...]:
        """Return the other files that are the same as the one of a row."""
        return self.copies.get(int(self.first[np.searchsorted(self.first, row, "right") - 1]), ())


def select(diff: FileDiff, state: Snapshot, filters: Filters) -> Selection:
    """Choose the files that may answer; of several with the same content, the first stands for all."""
    chosen: dict[int, tuple[Entry, list[str]]] = {}
    for path, record in (*diff.present.items(), *(diff.away.items() if filters.away else ())):
        entry, shown = state.entries.get(record.content), diff.shown.get(path, str(path))
        if entry is not None and filters.take(shown, entry.duration):
            chosen.setdefault(entry.first, (entry, []))[1].append(shown)
    kept = [chosen[first] for first in sorted(chosen)]
    return Selection(
        np.array([entry.first for entry, _ in kept], np.int64),
        np.array([entry.count for entry, _ in kept], np.int64),
        np.array([entry.duration for entry, _ in kept], np.float64),
        tuple(places[0] for _, places in kept),
        state.space.window if state.space else None,
        {entry.first: entry.numbers for entry, _ in kept if entry.numbers is not None},
        {entry.first: entry.begin for entry, _ in kept if entry.begin},
        {entry.first: entry.ends for entry, _ in kept if entry.ends is not None},
        state.space is not None and state.space.shots,
        {entry.first: tuple(places[1:]) for entry, places in kept if len(places) > 1},
    )
