"""A short run of tests/fuzz.py: damaged films, tables, models and indexes, by a fixed seed."""

from __future__ import annotations

import pytest

from fuzz import MEMORY, Fuzz

COUNTS = {"videos": 200, "tables": 200, "config.json": 100, "weights": 60, "index": 100}


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    return Fuzz(tmp_path_factory.mktemp("good"), seed=1)


@pytest.mark.parametrize("kind", COUNTS)
def test_what_is_hostile_is_a_result_or_one_clear_error(fuzz, kind):
    score = fuzz.run(kind, COUNTS[kind])
    assert not fuzz.faults
    assert score.outcomes.total() == COUNTS[kind]
    assert score.outcomes["refused"] > COUNTS[kind] / 20  # the damage was real
    assert score.memory < MEMORY
