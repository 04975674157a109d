"""Answers rank what was not judged; samples and queues are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from stopcli.eval.metrics import share_interval
from stopcli.index.calibration import Calibration
from stopcli.index.live.feedback import Lesson, belief, draw, learn, most_diverse, most_uncertain


@pytest.fixture(scope="module")
def archive():
    """300 vectors (300,64) around three places, a hundred each, and whose they are."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((3, 64))
    kinds = np.repeat(np.arange(3), 100)
    vectors = centers[kinds] + 1.5 * rng.standard_normal((300, 64))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), kinds


def precision(scores, kinds, kind, without):
    order = [i for i in np.argsort(-scores) if i not in without]
    return float((kinds[order[:60]] == kind).mean())


def learnt(vectors, prior, judged, kinds, kind):
    """Return how much each vector is of a class, after some were judged."""
    classes, drawn = np.where(kinds[judged] == kind, 0, -1), np.arange(0, 300, 7)
    prior = prior[:, None]
    rest = Lesson(vectors[drawn], prior[drawn], np.full(len(drawn), -1))
    return learn(vectors, prior, Lesson(vectors[judged], prior[judged], classes), rest)[:, 0]


def test_a_few_answers_find_the_rest_without_any_words(archive):
    vectors, kinds = archive
    nothing = belief(np.zeros(300, np.float32), None)
    judged = np.array([0, 1, 2, 100, 101, 200, 201])
    scores = learnt(vectors, nothing, judged, kinds, 0)
    assert precision(scores, kinds, 0, set(judged)) > 0.9
    assert scores[judged[:3]].min() > scores[judged[3:]].max()


def test_classes_are_learnt_together_as_they_are_alone(archive):
    vectors, kinds = archive
    prior = np.full((300, 3), -0.5, np.float32)
    judged, drawn = np.array([0, 1, 100, 101, 200, 201]), np.arange(0, 300, 7)
    rest = Lesson(vectors[drawn], prior[drawn], np.full(len(drawn), -1))
    together = learn(vectors, prior, Lesson(vectors[judged], prior[judged], kinds[judged]), rest)
    for kind in range(3):
        alone = learnt(vectors, prior[:, kind], judged, kinds, kind)
        assert together[:, kind] == pytest.approx(alone, abs=1e-4)


def test_without_answers_the_words_decide_and_with_them_they_still_count(archive):
    vectors, kinds = archive
    prior = np.where(kinds == 1, 0.9, -0.9).astype(np.float32)
    nobody = np.zeros(0, np.int64)
    assert learnt(vectors, prior, nobody, kinds, 1).tolist() == prior.tolist()
    scores = learnt(vectors, prior, np.array([0]), kinds, 1)
    assert precision(scores, kinds, 1, {0}) == 1.0


def test_vectors_that_no_model_made_do_no_harm(archive):
    vectors, kinds = archive
    broken = vectors.copy()
    broken[7] = np.nan
    judged = np.array([0, 1, 7, 100, 200])
    scores = learnt(broken, belief(np.zeros(300, np.float32), None), judged, kinds, 0)
    assert np.isfinite(np.delete(scores, 7)).all()


def test_belief_is_no_where_nothing_stands_out_and_yes_far_above():
    calibration = Calibration(np.zeros(4, np.float32), 0.0, 1.0, 100)
    values = belief(np.array([0.0, 3.0, 8.0], np.float32), calibration)
    assert values[0] < -0.8
    assert values[1] == pytest.approx(0)
    assert values[2] > 0.95


def test_the_uncertain_come_first():
    assert most_uncertain(np.array([[0.9], [-0.1], [-0.8]])).tolist() == [1, 2, 0]
    assert most_uncertain(np.array([[0.9, 0.8], [0.2, -0.5], [0.1, 0.1]])).tolist() == [2, 0, 1]


def test_the_diverse_ones_come_from_everywhere(archive):
    vectors, kinds = archive
    assert set(kinds[most_diverse(vectors, vectors[:0], 4)]) == {0, 1, 2}
    known = vectors[kinds == 0][:5]
    assert 0 not in kinds[most_diverse(vectors, known, 2)]


def test_an_audit_estimates_what_is_true_as_often_as_it_says():
    """Of 400 samples of 30, the interval of 95 % holds the true share in 93 % at least."""
    truth = np.zeros(1000, bool)
    truth[:700] = True
    held = 0
    for seed in range(400):
        drawn = draw(np.arange(1000), 30, seed)
        assert len(set(drawn.tolist())) == 30
        low, high = share_interval(truth[drawn])
        held += low <= 70 <= high
    assert held >= 0.93 * 400
