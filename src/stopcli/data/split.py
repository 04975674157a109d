"""Dividing labelled clips: stratified, seeded, and never through a group."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stopcli.data.table import Dataset, Row

VALIDATION = 0.2  # share of the clips


def with_validation(data: Dataset, seed: int) -> Dataset:
    """Return the data set with every row in a split.

    Rows without a split are for training. Where no row is for validation, a fifth of the training
    clips of each class becomes it: at least one, never all. Groups stay whole; where each class is
    one group only, no validation is possible and none is made.
    """
    rows = [r if r.split else replace(r, split="train") for r in data.rows]
    if not any(r.split == "val" for r in rows):
        chosen = _held_out([r for r in rows if r.split == "train"], data.task == "classification", seed)
        rows = [replace(r, split="val") if r.number in chosen else r for r in rows]
    return replace(data, rows=tuple(rows))


def _held_out(rows: list[Row], by_class: bool, seed: int) -> set[int]:
    """Choose the numbers of rows to hold out."""
    rng = np.random.default_rng([seed, 1])
    units: dict[str, list[Row]] = defaultdict(list)  # what must stay together
    for row in rows:
        units[row.group if row.group is not None else f"\0{row.path}"].append(row)
    strata: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        strata[row.text if by_class else ""].append(row)
    left = {name: len(members) for name, members in strata.items()}
    wanted = {
        name: min(len(members) - 1, max(1, round(VALIDATION * len(members))))
        for name, members in strata.items()
    }
    chosen: set[int] = set()
    order = sorted(units)
    for i in rng.permutation(len(order)):
        members = units[order[i]]
        cost: dict[str, int] = defaultdict(int)
        for row in members:
            cost[row.text if by_class else ""] += 1
        some_wanted = any(wanted[name] > 0 for name in cost)
        leaves_enough = all(left[name] > count for name, count in cost.items())
        not_far_over = all(count <= max(1, 2 * wanted[name]) for name, count in cost.items())
        if some_wanted and leaves_enough and not_far_over:
            for name, count in cost.items():
                wanted[name] -= count
                left[name] -= count
            chosen |= {row.number for row in members}
    return chosen


def few_shots(data: Dataset, shots: int, seed: int) -> Dataset:
    """Keep at most ``shots`` training clips of each class, drawn by the seed; other splits stay."""
    rng = np.random.default_rng([seed, 2])
    kept: set[int] = set()
    for label in data.labels:
        members = [r for r in data.of("train") if r.text == label]
        kept |= {members[i].number for i in rng.permutation(len(members))[:shots]}
    return replace(data, rows=tuple(r for r in data.rows if r.split != "train" or r.number in kept))
