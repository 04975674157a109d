"""Ranks with ties, recalls, intervals: against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stopcli.eval.metrics import (
    accuracy_scores,
    best_ranks,
    confusion,
    cross_entropy,
    interval,
    label_ranks,
    ranks_of,
    retrieval_scores,
)
from stopcli.eval.retrieval import caption_ranks


def test_ranks_count_ties_by_half():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])
    assert ranks_of(scores, np.array([1, 0, 2])).tolist() == [2.0, 2.0, 1.5]


def test_a_constant_model_scores_chance():
    ranks = ranks_of(np.zeros((100, 100)), np.arange(100))
    scores = retrieval_scores(ranks)
    assert scores["R@10"] == 0.0
    assert scores["MnR"] == scores["MdR"] == 50.5


def test_the_best_of_several_right_answers_counts():
    scores = np.array([[0.1, 0.9, 0.5, 0.5]])
    truths = np.array([[True, False, True, False]])
    assert best_ranks(scores, truths).tolist() == [2.5]


def test_scores_are_percent():
    scores = retrieval_scores(np.array([1.0, 2.0, 7.0, 30.0]))
    assert scores == {"R@1": 25.0, "R@5": 50.0, "R@10": 75.0, "MdR": 4.5, "MnR": 10.0}
    assert accuracy_scores(np.array([1.0, 3.0]), 6) == {"top-1": 50.0, "top-5": 100.0}
    assert accuracy_scores(np.array([1.0, 3.0]), 5) == {"top-1": 50.0}  # of five, top-5 is always right


def test_cross_entropy_is_minus_the_log_of_the_softmax():
    logits = np.array([[0.0, np.log(3.0)], [700.0, 700.0]])
    assert cross_entropy(logits, np.array([1, 0])) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)


def test_videos_with_several_captions():
    videos = np.eye(2, 3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [0.6, 0.7, 0], [0, 1, 0]], np.float32)
    forward, back = caption_ranks(videos, texts, np.array([0, 0, 1]))
    assert forward.tolist() == [1.0, 2.0, 1.0]
    assert back.tolist() == [1.0, 1.0]


def test_a_video_is_ranked_among_videos_however_many_captions_they_have():
    """As CLIP4Clip counts: a wrong video costs one rank, not one for each of its captions."""
    videos = np.eye(3, dtype=np.float32)
    texts = np.concatenate([[[0.5, 0, 0]], np.full((20, 3), 0.6), [[0, 0, 1]]]).astype(np.float32)
    owner = np.array([0, *[1] * 20, 2])
    _, back = caption_ranks(videos, texts, owner)
    assert back.tolist() == [2.0, 1.0, 1.0]
    _, back = caption_ranks(videos, texts, owner, [str(i) for i in range(22)])
    assert back.tolist() == [21.0, 1.0, 1.0]


def test_clips_that_share_a_caption_are_all_right_for_it():
    videos = np.eye(3, dtype=np.float32)[[0, 0, 1]]  # the first two show the same
    texts, captions = videos.copy(), ["a dog", "a dog", "a cat"]
    forward, back = caption_ranks(videos, texts, np.arange(3), captions)
    assert forward.tolist() == back.tolist() == [1.0, 1.0, 1.0]
    forward, back = caption_ranks(videos, texts, np.arange(3))  # as papers score their data sets
    assert forward.tolist() == back.tolist() == [1.5, 1.5, 1.0]


def test_confusion_counts_truth_by_row():
    assert confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_the_interval_holds_the_mean_and_narrows():
    rng = np.random.default_rng(0)
    few, many = (rng.random(n) < 0.7 for n in (50, 5000))
    wide, narrow = (interval(v.astype(float)) for v in (few, many))
    assert narrow[0] < 0.7 < narrow[1]
    assert narrow[1] - narrow[0] < 0.2 * (wide[1] - wide[0])
    # a normal approximation: 1.96 * sqrt(p(1-p)/n)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * (0.21 / 5000) ** 0.5, rel=0.15)


def test_captions_of_one_video_are_drawn_together():
    values = np.repeat(np.random.default_rng(1).random(40) < 0.5, 10).astype(float)
    alone, together = interval(values), interval(values, np.repeat(np.arange(40), 10))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_classes_are_ranked_as_they_are_answered_ties_too():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (200, 5)).astype(float)
    truth = rng.integers(0, 5, 200)
    ranks = label_ranks(scores, truth)
    assert ((ranks == 1) == (scores.argmax(1) == truth)).all()
    order = np.argsort(-scores, axis=1, kind="stable")
    assert [int(np.flatnonzero(o == t)[0]) + 1 for o, t in zip(order, truth, strict=True)] == ranks.tolist()
    assert accuracy_scores(label_ranks(np.zeros((8, 4)), np.arange(8) % 4), 4) == {"top-1": 25.0}
