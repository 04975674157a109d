"""Which moments answer: neighbours joined, files kept apart, the best of many found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index_toys import part_of, selection, unit

from stopcli.index.engine import _learned
from stopcli.index.ranking import search, unlike_the_rest
from stopcli.index.types import Filters, Query
from stopcli.runtime.head import Head, shares_of


def test_neighbours_that_score_are_one_hit():
    v = np.array(
        [unit(1, 0.05, 0), unit(0, 1, 0), unit(1, 0.3, 0), unit(1, 0.1, 0), unit(0, 0, 1), unit(0, 1, 0.2)]
    )
    hits = search(v, selection([5, 1]), [Query("q", unit(1, 0, 0))], Filters(top_k=3))
    assert [(h.path, h.start, h.end) for h in hits[:2]] == [("0.mp4", 0.0, 8.0), ("0.mp4", 16.0, 32.0)]
    assert hits[1].score == pytest.approx(float(unit(1, 0.1, 0)[0]))
    assert [h.rank for h in hits] == [1, 2, 3]


@pytest.mark.parametrize("ends", [None, (8000, 16000, 1008000)])
def test_a_hit_never_crosses_a_gap_of_the_recording(ends):
    v = np.array([unit(1, 0), unit(1, 0), unit(1, 0), *[unit(0, 1)] * 9])
    files = replace(
        selection([3, 9], durations=[1008.0, 72.0]), numbers={0: (0, 8000, 1_000_000)}, shots=True
    )
    files = files if ends is None else replace(files, ends={0: ends})
    hits = search(v, files, [Query("q", unit(1, 0))], Filters(fold=False))
    assert [(h.start, h.end) for h in hits[:2]] == [(0.0, 16.0 if ends else 72.0), (1000.0, 1008.0)]


def test_where_few_are_near_all_are_searched():
    v = np.array([unit(1, 0.01 * i) for i in range(20)] + [unit(0.9, 1)] * 5)
    files = selection([20, 1, 1, 1, 1, 1])
    query = [Query("q", unit(1, 0))]
    exact = search(v, files, query, Filters(per_file=1, fold=False))
    assert len(exact) == 6
    assert search(v, files, query, Filters(per_file=1, fold=False), near=lambda _: np.arange(20)) == exact


def test_what_several_texts_describe_is_not_sought_near_one_of_them():
    """Of many moments near the query, only those far from the best fit the other text, too."""
    v = np.array([unit(1, 0.001 * i, 0) for i in range(50)] + [unit(1, 0, 0.9)] * 5)
    files, query, more = selection([1] * 55), [Query("q", unit(1, 0, 0))], [Query("n", unit(0, 0, 1))]
    wanted = Filters(top_k=5, fold=False)
    exact = search(v, files, query, wanted, narrow=more)
    assert {h.path for h in exact} == {f"{i}.mp4" for i in range(50, 55)}
    assert search(v, files, query, wanted, near=lambda _: np.arange(50), narrow=more) == exact


def test_files_that_are_the_same_are_named_by_the_hit_or_are_hits_of_their_own():
    v = np.array([unit(1, 0), unit(1, 0.3), unit(0, 1)])
    files = replace(selection([1, 1, 1]), copies={0: ("copy.mp4", "third.mp4")})
    query = [Query("q", unit(1, 0))]
    folded = search(v, files, query, Filters(top_k=2))
    assert [(h.path, h.also) for h in folded] == [("0.mp4", ("copy.mp4", "third.mp4")), ("1.mp4", ())]
    every = search(v, files, query, Filters(top_k=3, fold=False))
    assert [(h.path, h.rank, h.also) for h in every] == [
        ("0.mp4", 1, ()), ("copy.mp4", 2, ()), ("third.mp4", 3, ()),
    ]  # fmt: skip
    mine = [query[0]._replace(without=(0,), own=(Path("copy.mp4"),)), *query]  # an example, and a text
    of_each = search(v, files, mine, Filters(top_k=2))
    assert [(h.path, h.also) for h in of_each[::2]] == [
        ("0.mp4", ("third.mp4",)), ("0.mp4", ("copy.mp4", "third.mp4")),
    ]  # fmt: skip
    alone = query[0]._replace(without=(1,), own=(Path("1.mp4"),))
    assert [h.path for h in search(v, files, [alone], Filters(top_k=2))] == ["0.mp4", "2.mp4"]


def test_what_nothing_is_left_to_be_compared_with_is_not_unlike_all():
    v = np.array([unit(1, 0), unit(1, 0.2), unit(1, 0.5)])
    found = unlike_the_rest(v, selection([3]), Filters(fold=False))
    assert all(hit.score < 1 for hit in found)
    assert unlike_the_rest(v[:2], selection([2]), Filters(fold=False)) == []


def test_a_hit_never_crosses_files():
    v = np.array([unit(1, 0), unit(1, 0), unit(1, 0.01), unit(0, 1)])
    hits = search(
        v, selection([1, 1, 2], durations=[3.5, 8.0, 20.0]), [Query("q", unit(1, 0))], Filters(fold=False)
    )
    assert [(h.path, h.start, h.end) for h in hits[:3]] == [
        ("0.mp4", 0.0, 3.5),
        ("1.mp4", 0.0, 8.0),
        ("2.mp4", 0.0, 8.0),
    ]


def test_what_is_described_better_by_another_text_is_left_out():
    v = np.array([unit(1, 0.2), unit(1, 2)])
    hits = search(v, selection([1, 1]), [Query("q", unit(1, 0))], Filters(), [unit(0, 1)])
    assert [h.path for h in hits] == ["0.mp4"]


def test_scores_below_the_floor_are_left_out():
    v = np.array([unit(1, 0.2), unit(1, 2)])
    assert len(search(v, selection([1, 1]), [Query("q", unit(1, 0))], Filters(min_score=0.5))) == 1


@pytest.mark.parametrize("chosen", [20000, 9000, 500])  # rows read in a row, in part, alone
def test_the_best_are_found_among_many(chosen):
    rng = np.random.default_rng(3)
    v = rng.normal(size=(20000, 8)).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    files = selection([1] * 20000)
    kept = np.sort(rng.permutation(20000)[:chosen])
    files = part_of(files, kept)
    q = unit(*rng.normal(size=8))
    hits = search(v, files, [Query("q", q)], Filters(top_k=20, fold=False))
    scores = v[files.first] @ q
    assert [h.score for h in hits] == pytest.approx(sorted(scores.tolist(), reverse=True)[:20])


def test_a_long_hit_leaves_room_for_others():
    v = np.vstack([np.tile(unit(1, 0), (3000, 1)), unit(1, 1)[None]])
    hits = search(v, selection([3000, 1]), [Query("q", unit(1, 0))], Filters(top_k=2))
    assert [(h.path, h.end) for h in hits] == [("0.mp4", 24000.0), ("1.mp4", 8.0)]


def test_rows_that_cannot_answer_are_not_even_read():
    v = np.full((9000, 3), np.nan, np.float32)
    v[3000:3003] = unit(1, 0, 0), unit(1, 1, 0), unit(0, 0, 1)
    files = part_of(selection([3] * 3000), [1000])
    hits = search(v, files, [Query("q", unit(1, 0, 0))], Filters(min_score=0.5))
    assert [(h.path, h.score) for h in hits] == [("1000.mp4", 1.0), ("1000.mp4", pytest.approx(0.5**0.5))]


def test_nothing_to_search_is_no_hit():
    nothing = part_of(selection([1]), [])
    assert search(np.zeros((0, 2), np.float32), nothing, [Query("q", unit(1, 0))], Filters()) == []


def test_windows_that_were_left_out_separate_hits_and_move_times():
    """Rows 0, 1 and 2 are windows 0, 1 and 100: a recording that stopped for a quarter of an hour."""
    v = np.array([unit(1, 0.1), unit(1, 0.05), unit(1, 0), unit(0, 1)])
    files = replace(selection([3, 1], durations=[808.0, 8.0]), numbers={0: (0, 1, 100)})
    hits = search(v, files, [Query("q", unit(1, 0))], Filters(top_k=2))
    assert [(h.start, h.end) for h in hits] == [(800.0, 808.0), (0.0, 16.0)]


def test_what_was_learned_of_a_label_ranks_as_it_is_judged():
    """Two labels whose words are the same: what tells them apart is small beside what they share."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(60, 16)).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    shared = 20 * rng.normal(size=16)
    own = rng.normal(size=(2, 16))
    head = Head(("type 3", "type 4"), (shared + own).astype(np.float32), np.zeros(2, np.float32))
    shares = shares_of(head.logits(v))
    for at, label in enumerate(head.labels):
        query = _learned(Query(label, unit(*shared)), head)
        hits = search(v, selection([1] * 60), [query], Filters(top_k=60, fold=False))
        order = [int(hit.path.partition(".")[0]) for hit in hits]
        assert order == np.argsort(-shares[:, at]).tolist()
        assert [hit.confidence for hit in hits] == pytest.approx(shares[order, at].tolist(), abs=1e-5)
    few = search(v, selection([1] * 60), [query], Filters(top_k=3), near=lambda _: np.arange(20))
    assert [hit.rank for hit in few] == [1, 2, 3]
