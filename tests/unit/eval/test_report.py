"""Results of a benchmark are not lost to another's."""

from __future__ import annotations

import pytest

from stopcli.errors import FileExists
from stopcli.eval.report import check_trials, write_trials
from stopcli.results.measured import TrialScore

WHAT = "few shots: top-1 of 9 clips, 2 classes"


MADE = {"model": "mini", "settings": {"epochs": 50}}


def write(folder, trials):
    rows = [TrialScore("plain CLIP", "x", "few-shot", None, "untrained", {"top-1": 40.0}, {}, 9, False, MADE)]
    for n in dict.fromkeys(shots for shots, _ in trials):
        each = {seed: {"top-1": 50.0} for shots, seed in trials if shots == n}
        rows.append(
            TrialScore("STOP", "x", "few-shot", n, "last epoch", {"top-1": 50.0}, each, 9, False, MADE)
        )
    rows.append(TrialScore("ViFi-CLIP", "x", "few-shot", 16, "best", {"top-1": 60.0}, {}, None, True, {}))
    write_trials(folder, WHAT, "stop benchmark few-shot", rows, [])


def test_results_are_replaced_by_those_of_the_same_trials_only(tmp_path):
    done = [(2, 1), (2, 2), (4, 1), (4, 2)]
    check_trials(tmp_path / "new", WHAT, done, MADE, force=False)
    write(tmp_path, done)
    check_trials(tmp_path, WHAT, done, MADE, force=False)
    check_trials(tmp_path, WHAT, [*done, (8, 1)], MADE, force=False)  # gone on with
    longer = MADE | {"settings": {"epochs": 100}}
    for what, trials, made in (
        (WHAT, [(2, 1), (2, 2)], MADE),
        (WHAT, [(2, 4), (4, 4)], MADE),
        ("UCF101: top-1", done, MADE),
        (WHAT, done, longer),
        (WHAT, done, MADE | {"model": "other"}),
    ):
        with pytest.raises(FileExists, match=r"results\.json: is there already"):
            check_trials(tmp_path, what, trials, made, force=False)
        check_trials(tmp_path, what, trials, made, force=True)
    (tmp_path / "results.json").write_text("[]")  # whoever's it is
    with pytest.raises(FileExists):
        check_trials(tmp_path, WHAT, done, MADE, force=False)
