"""Results of a benchmark are not lost to another's."""

from __future__ import annotations

import pytest

from stopcli.errors import FileExists
from stopcli.eval.report import check_trials, write_trials
from stopcli.results.measured import TrialScore

WHAT = "few shots: top-1 of 9 clips, 2 classes"


def write(folder, shots):
    rows = [TrialScore("plain CLIP", "x", "few-shot", None, "untrained", {"top-1": 40.0}, {}, 9, False, {})]
    for n in shots:
        each = {1: {"top-1": 50.0}}
        rows.append(TrialScore("STOP", "x", "few-shot", n, "last epoch", {"top-1": 50.0}, each, 9, False, {}))
    write_trials(folder, WHAT, "stop benchmark few-shot", rows, [])


def test_results_are_replaced_by_those_of_the_same_trials_only(tmp_path):
    check_trials(tmp_path / "new", WHAT, [2], force=False)
    write(tmp_path, [2, 4])
    check_trials(tmp_path, WHAT, [2, 4], force=False)
    check_trials(tmp_path, WHAT, [2, 4, 8], force=False)  # gone on with
    for what, shots in ((WHAT, [2]), (WHAT, [8]), ("UCF101: top-1", [2, 4])):
        with pytest.raises(FileExists, match=r"results\.json: is there already"):
            check_trials(tmp_path, what, shots, force=False)
        check_trials(tmp_path, what, shots, force=True)
    (tmp_path / "results.json").write_text("[]")  # whoever's it is
    with pytest.raises(FileExists):
        check_trials(tmp_path, WHAT, [2, 4], force=False)
