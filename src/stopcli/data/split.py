"""Dividing labelled clips: stratified, seeded, and never through a group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from stopcli.data.paths import real_path
from stopcli.data.table import Dataset, Row
from stopcli.errors import BadDataset
from stopcli.fileio import content_key

VALIDATION = 0.2  # share of the clips
DIVISIONS = 50  # attempts at parts that leave every label to the others


def with_validation(data: Dataset, seed: int, known: Collection[int] = ()) -> Dataset:
    """Return the data set with every row in a split.

    Rows without a split are for training. Where no row is for validation, a fifth of the training clips of
    each class becomes it: at least one, never all, and none that is ``known`` (row numbers) to what will be
    trained. Groups stay whole; where each class is one group only, no validation is possible, and none made.
    """
    rows = [r if r.split else replace(r, split="train") for r in data.rows]
    if not any(r.split == "val" for r in rows):
        training, by_class = [r for r in rows if r.split == "train"], data.task == "classification"
        chosen = _held_out(training, by_class, seed, known)
        rows = [replace(r, split="val") if r.number in chosen else r for r in rows]
    return replace(data, rows=tuple(rows))


def _held_out(rows: list[Row], by_class: bool, seed: int, known: Collection[int]) -> set[int]:
    """Choose the numbers of rows to hold out, none of which stays with one that is known."""
    rng = np.random.default_rng([seed, 1])
    units = defaultdict[str, list[Row]](list)  # what must stay together
    for row, name in zip(rows, units_of(rows), strict=True):
        units[name].append(row)

    def count(members: list[Row]) -> Counter[str]:
        return Counter(row.text if by_class else "" for row in members)

    left = count(rows)
    wanted = {name: min(total - 1, max(1, round(VALIDATION * total))) for name, total in left.items()}
    chosen: set[int] = set()
    order = sorted(units)
    for i in rng.permutation(len(order)):
        members = units[order[i]]
        cost = count(members)
        some_wanted = any(wanted[name] > 0 for name in cost)
        leaves_enough = all(left[name] > number for name, number in cost.items())
        not_far_over = all(number <= max(1, 2 * wanted[name]) for name, number in cost.items())
        is_new = not any(row.number in known for row in members)
        if some_wanted and leaves_enough and not_far_over and is_new:
            for name, number in cost.items():
                wanted[name] -= number
                left[name] -= number
            chosen |= {row.number for row in members}
    return chosen


def folds_of(data: Dataset, count: int, seed: int) -> list[set[int]]:
    """Divide the rows that are not for the test; return the numbers of each part's.

    There are ``count`` parts, of like size and like classes, groups whole, if there are as many groups.

    Raises BadDataset where all clips of a label stay together: it could be learnt or judged, not both.
    """
    rng = np.random.default_rng([seed, 5])
    rows = [r for r in data.rows if r.split != "test"]
    units = defaultdict[str, list[Row]](list)
    for row, name in zip(rows, units_of(rows), strict=True):
        units[name].append(row)
    homes = defaultdict[str, set[str]](set)
    for name, members in units.items():
        for row in members:
            homes[row.text].add(name)
    alone = sorted(label for label, names in homes.items() if len(names) < 2)
    if alone:
        found = f"label {alone[0]!r} has one clip only, or clips that share files or groups"
        raise BadDataset(f"{data.source}: {found}; label more of other files, or leave out --folds")
    for _ in range(DIVISIONS):
        parts = _divided(units, min(count, len(units)), rng)
        rest = [{r.text for r in rows if r.number not in part} for part in parts]
        if all(labels == set(homes) for labels in rest):
            return parts
    raise BadDataset(
        f"{data.source}: cannot be divided into {count} parts so that each label is outside of each; "
        "use fewer --folds, or label more files"
    )


def _divided(units: dict[str, list[Row]], count: int, rng: np.random.Generator) -> list[set[int]]:
    """Give each unit, the largest first, to the part that has the fewest clips of its labels."""
    parts: list[set[int]] = [set() for _ in range(count)]
    classes: list[Counter[str]] = [Counter() for _ in parts]
    order = sorted(units)
    for i in sorted(rng.permutation(len(order)), key=lambda i: -len(units[order[i]])):
        count_of = Counter(row.text for row in units[order[i]])
        loads = [(sum(there[label] for label in count_of), there.total()) for there in classes]
        chosen = loads.index(min(loads))
        classes[chosen] += count_of
        parts[chosen] |= {row.number for row in units[order[i]]}
    return parts


def divided_units(rows: Sequence[Row]) -> list[str]:
    """Return a note where clips of one file or group are in several splits: they are not wholly new."""
    places = defaultdict[str, dict[str, Row]](dict)  # of each unit: its splits, and a row of each
    for row, name in zip(rows, units_of(rows), strict=True):
        places[name].setdefault(row.split or "train", row)
    divided = [found for found in places.values() if len(found) > 1]
    if not divided:
        return []
    (one, first), (other, second) = sorted(divided[0].items())[:2]
    if first.group is not None and first.group == second.group:
        what = f"clips of the group {first.group!r} are"
    elif first.path == second.path:
        what = f"clips of {first.path.name!r} are"
    else:
        what = f"{first.path.name!r} and {second.path.name!r}, which belong together, are"
    more = f" ({len(divided)} files or groups are divided)" if len(divided) > 1 else ""
    return [f"{what} in {one} and {other}{more}: those held out are not wholly new"]


def units_of(rows: Sequence[Row]) -> list[str]:
    """Name for each row what it stays with: its file and its group, and all rows that share one of them.

    Copies of a file, and other names of it, are the same file.
    """
    above: dict[str, str] = {}
    files = files_of([row.path for row in rows])

    def top(name: str) -> str:
        while (up := above.setdefault(name, name)) != name:
            above[name] = name = above[up]
        return name

    for row, file in zip(rows, files, strict=True):
        both = top(file), top(file if row.group is None else row.group)
        first, last = sorted(both, key=lambda name: (name.startswith("\0"), name))
        above[last] = first
    return [top(file) for file in files]


def files_of(paths: Sequence[Path]) -> list[str]:
    """Name the file of each path by the first one that leads to it, or to a copy."""
    real = {path: real_path(path) for path in dict.fromkeys(paths)}
    looks = {name: _look(name) for name in real.values()}
    often = Counter(size for size, _ in looks.values())
    keys = {name: _key(name, *look) if often[look[0]] > 1 else name for name, look in looks.items()}
    first: dict[str, str] = {}
    return [first.setdefault(keys[real[path]], f"\0{path}") for path in paths]


def _look(path: str) -> tuple[int, int]:
    """Return a file's size and when it was changed; zeros if it is gone."""
    with suppress(OSError):
        status = Path(path).stat()
        return status.st_size, status.st_mtime_ns
    return 0, 0


@lru_cache(maxsize=1 << 14)
def _key(path: str, size: int, _: int) -> str:
    with suppress(OSError):
        return content_key(Path(path)) if size else path
    return path


def few_shots(data: Dataset, shots: int, seed: int) -> Dataset:
    """Keep at most ``shots`` training clips of each class, drawn by the seed; other splits stay."""
    rng = np.random.default_rng([seed, 2])
    kept: set[int] = set()
    for label in data.labels:
        members = [r for r in data.of("train") if r.text == label]
        kept |= {members[i].number for i in rng.permutation(len(members))[:shots]}
    training = {r.number for r in data.of("train")}
    return replace(data, rows=tuple(r for r in data.rows if r.number in kept or r.number not in training))
