"""How sure a match is: measured against null queries; copies folded; queries combined and narrowed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from index_toys import selection, unit

from stopcli.data.labels import kinetics400, null_sentences
from stopcli.index.calibration import Calibration, combined, copy_threshold, stand_out
from stopcli.index.ranking import search, unlike_the_rest
from stopcli.index.types import Filters, Query
from stopcli.model.config import ModelConfig
from stopcli.results import Hit


def units(rng, *shape):
    v = rng.normal(size=shape).astype(np.float32)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def crowded(rng, *shape):
    """Vectors as CLIP makes them: in a narrow cone, so that all cosines are high."""
    v = units(rng, *shape) + 2 * np.eye(shape[-1], dtype=np.float32)[0]
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("moments", [1, 10, 1000])
@pytest.mark.parametrize("make", [units, crowded])
def test_confidence_is_how_often_chance_gives_less(moments, make):
    """Of queries about nothing here, one in ten finds a best match with a confidence above 0.9."""
    rng = np.random.default_rng(1)
    nulls = make(rng, 400, 512)
    found = []
    for query in make(rng, 150, 512):
        rows = make(rng, moments, 512)
        calibration = Calibration.of(rows, nulls, moments)
        found.append(calibration.confidence(calibration.deviations(rows, query).max()))
    assert np.mean(np.array(found) > 0.9) == pytest.approx(0.1, abs=0.08)
    assert 0.2 < np.mean(np.array(found) > 0.5) < 0.6  # few dimensions: a little too careful


def test_the_same_cosine_is_worth_something_else_in_another_archive():
    """Where all cosines are high, one of 0.85 is chance; where they are low, it is none."""
    rng = np.random.default_rng(2)
    for make, sure in ((units, True), (crowded, False)):
        rows, nulls = make(rng, 200, 64), make(rng, 400, 64)
        noise = make(rng, 64) - rows[7] * float(make(rng, 64) @ rows[7])
        query = 0.85 * rows[7] + 0.526 * noise / np.linalg.norm(noise - rows[7] * (noise @ rows[7]))
        query -= rows[7] * (query @ rows[7] - 0.85)
        (hit,) = search(rows, selection([1] * 200), [Query("q", query, nulls)], Filters(top_k=1))
        assert hit.score > 0.8
        assert (hit.confidence > 0.99) is sure, (hit.score, hit.confidence)


def test_the_tail_of_a_large_archive_is_no_match():
    calibration = Calibration(np.zeros(2, np.float32), 0.0, 1.0, 1_000_000)
    assert calibration.confidence(4.0) < 0.01
    assert calibration.confidence(7.0) > 0.99
    assert calibration._replace(moments=10).confidence(4.0) > 0.99
    assert calibration.confidence(-math.inf) is None
    assert calibration._replace(spread=0.0).confidence(9.0) is None


def test_broken_vectors_do_not_spoil_the_measure():
    rng = np.random.default_rng(3)
    rows, nulls = units(rng, 50, 8), units(rng, 100, 8)
    whole = Calibration.of(rows, nulls, 50)
    broken = Calibration.of(np.vstack([rows, np.full((5, 8), np.nan, np.float32)]), nulls, 50)
    assert (broken.mean, broken.spread) == pytest.approx((whole.mean, whole.spread))
    assert Calibration.of(np.full((2, 8), np.nan, np.float32), nulls, 2).confidence(5.0) is None


def test_null_sentences_are_the_models_labels_or_kinetics_too():
    few, many = ("a serve", "a volley"), tuple(f"label {i}" for i in range(120))
    assert null_sentences(config(few))[:3] == [
        "a video of a serve",
        "a video of a volley",
        "a video of " + kinetics400()[0],
    ]
    assert null_sentences(config(many)) == [f"a video of {name}" for name in many]


def config(labels):
    return ModelConfig("toy", "file:x.safetensors", None, 4, list(labels), None, {})


def test_without_a_sure_match_only_the_nearest_is_named():
    hits = [Hit("a", 1, "x.mp4", 0.0, 1.0, 0.5, 0.3), Hit("a", 2, "y.mp4", 0.0, 1.0, 0.4, 0.5)]
    sure = [Hit("b", 1, "x.mp4", 0.0, 1.0, 0.5, 0.95), Hit("b", 2, "y.mp4", 0.0, 1.0, 0.4, 0.1)]
    assert stand_out([*hits, *sure], 0.9, every=False) == (sure, [hits[1]])
    assert stand_out([*hits, *sure], 0.9, every=True) == (sure[:1], [hits[1]])
    assert stand_out([*hits, *sure], 0.0, every=True) == ([*hits, *sure], [])
    unknown = [Hit("c", 1, "x.mp4", None, None, 0.5)]
    assert stand_out(unknown, 0.9, every=False) == (unknown, [])
    assert stand_out(unknown, 0.9, every=True) == ([], unknown)
    assert stand_out(unknown, 0.0, every=True) == (unknown, [])


def test_copies_in_other_files_are_one_hit():
    rng = np.random.default_rng(4)
    v = units(rng, 12, 32)
    v[1] = v[0] + 0.01 * v[5]
    v[2] = v[0] + 0.01 * v[6]
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    v[4] = v[3]  # two windows of one file, apart
    files = selection([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    hits = search(v, files, [Query("q", v[0])], Filters(top_k=2))
    assert (hits[0].path, hits[0].also) == ("0.mp4", ("1.mp4", "2.mp4"))
    assert (hits[1].rank, hits[1].also) == (2, ())
    every = search(v, files, [Query("q", v[0])], Filters(top_k=3, fold=False))
    assert {h.path for h in every} == {"0.mp4", "1.mp4", "2.mp4"}
    assert all(h.also == () for h in every)


def test_moments_of_one_file_are_never_folded():
    v = np.array([unit(1, 0, 0), unit(0, 1, 0), unit(1, 0, 0), unit(0, 0, 1)])
    hits = search(v, selection([3, 1]), [Query("q", unit(1, 0, 0))], Filters(top_k=2))
    assert [(h.path, h.start) for h in hits] == [("0.mp4", 0.0), ("0.mp4", 16.0)]


def test_an_archive_that_looks_all_alike_has_a_stricter_threshold():
    rng = np.random.default_rng(5)
    assert copy_threshold(units(rng, 500, 64)) == pytest.approx(0.965, abs=0.002)
    assert copy_threshold(crowded(rng, 500, 64)) > 0.99
    assert copy_threshold(units(rng, 1, 64)) == 1.0


def test_hits_of_one_file_may_be_few():
    v = np.array([unit(1, 0.1 * i, i % 2) for i in range(6)])
    hits = search(v, selection([4, 2]), [Query("q", unit(1, 0, 0))], Filters(per_file=1, fold=False))
    assert [h.path for h in hits] == ["0.mp4", "1.mp4"]


def test_narrowing_wants_both():
    """Row 0 fits the query best, row 1 the other text; row 2 fits both."""
    rng = np.random.default_rng(6)
    a, b = np.eye(16, dtype=np.float32)[:2]
    rows = units(rng, 40, 16) * 0.2
    rows[0] += a
    rows[1] += b
    rows[2] += 0.7 * (a + b)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nulls = units(rng, 300, 16)
    files = selection([1] * 40)
    plain = search(rows, files, [Query("a", a, nulls)], Filters(top_k=1))
    both = search(rows, files, [Query("a", a, nulls)], Filters(top_k=1), narrow=[Query("b", b, nulls)])
    assert (plain[0].path, both[0].path) == ("0.mp4", "2.mp4")
    assert both[0].score == pytest.approx(float(rows[2] @ a))
    assert both[0].confidence <= plain[0].confidence


def test_the_example_itself_is_no_answer():
    v = np.array([unit(1, 0), unit(1, 0.1), unit(1, 0.2)])
    hits = search(v, selection([1, 1, 1]), [Query("q", unit(1, 0), without=(0,))], Filters(fold=False))
    assert [h.path for h in hits] == ["1.mp4", "2.mp4"]


def test_highlights_are_what_happens_once():
    """Row 5 is like nothing; rows 1 and 2, which stand beside each other, are like nothing else."""
    rng = np.random.default_rng(7)
    rows = units(rng, 1, 32) + 0.2 * units(rng, 9, 32)
    rows[5] = units(rng, 32)
    rows[1] = units(rng, 32)
    rows[2] = rows[1] + 0.05 * rows[8]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hits = unlike_the_rest(rows, selection([4, 3, 2]), Filters(top_k=2))
    assert {(h.path, h.start, h.end) for h in hits} == {("0.mp4", 8.0, 24.0), ("1.mp4", 8.0, 16.0)}
    assert all(h.score > 0.6 for h in hits)
    assert [h.rank for h in hits] == [1, 2]
    rows[8] = rows[5]  # its copy in another file
    again = unlike_the_rest(rows, selection([4, 3, 2]), Filters(top_k=2))
    assert ("1.mp4", ("2.mp4",)) in {(h.path, h.also) for h in again}


def test_combined_queries_are_their_mean_direction():
    assert combined([unit(1, 0), unit(0, 1)]) == pytest.approx(unit(1, 1))
    many = combined([np.array([unit(1, 0), unit(0, 1)]), np.array([unit(0, 1)])])
    assert many == pytest.approx(np.array([unit(1, 1)]))
