"""Cross-validation: the score of the way a model is made, when too few clips can be held out.

The clips are divided into parts, groups whole. For each part a model is made from the others, exactly as the
real one will be (its own validation clips, its own best weights, its own head), and scored on the part. So no
clip chose anything of the model that it judges. Each of these models has fewer clips than the real one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from stopcli.data.split import folds_of, units_of
from stopcli.data.table import Dataset, Row
from stopcli.eval.metrics import share_interval
from stopcli.fileio import read_json, to_json, write_text
from stopcli.results.training import CrossValidation
from stopcli.train.run_folder import require_same_settings
from stopcli.train.scoring.judge import Evaluation


class Run(Protocol):
    """A training of one fold: `stopcli.train.run.FinetuneRun`."""

    fingerprint: dict[str, Any]
    test: tuple[Row, ...]
    judged: dict[str, Evaluation]


AnyRun = TypeVar("AnyRun", bound=Run)


def cross_validate(
    data: Dataset,
    folder: Path,
    count: int,
    seed: int,
    make: Callable[[Dataset, Path], AnyRun],
    train: Callable[[AnyRun, int], object],
) -> CrossValidation:
    """Score the clips of a data set that are not for the test, by ``count`` models.

    ``make`` prepares a run into a folder, ``train`` brings one to its end, by its number. What a fold came to
    is kept in ``folder``, and not done again for the same settings.
    """
    rows = tuple(r for r in data.rows if r.split != "test")
    hits: dict[int, bool] = {}
    parts = folds_of(data, count, seed)
    for number, part in enumerate(parts, 1):
        divided = tuple(replace(r, split="test" if r.number in part else "train") for r in rows)
        place, file = folder / str(number), folder / f"{number}.json"
        run = make(replace(data, rows=divided), place)
        key = json.loads(to_json(run.fingerprint))
        found = None
        with suppress(OSError, ValueError, TypeError, KeyError):
            then, known = (read_json(file)[name] for name in ("settings", "hits"))
            require_same_settings(folder.parent, dict(then), key)
            found = known if len(known) == len(run.test) else None
        if found is None:
            train(run, number)
            answers, shown = run.judged["test"].answers, run.judged["test"]
            assert answers is not None and shown.truth is not None
            found = (answers == shown.truth).tolist()
            write_text(file, to_json({"settings": key, "hits": found}) + "\n")
            shutil.rmtree(place, ignore_errors=True)
        hits |= dict(zip([r.number for r in run.test], found, strict=True))
    judged = [r for r in rows if r.number in hits]
    right = np.array([hits[r.number] for r in judged])
    sure = share_interval(right, units_of(judged))
    return CrossValidation(float(right.mean() * 100), sure, len(judged), len(parts))
