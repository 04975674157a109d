"""R1 and mAP of moments, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stopcli.data.protocols.benchmarks import Item
from stopcli.data.protocols.moments import Asked
from stopcli.data.seen import read_seen, write_seen
from stopcli.errors import InputError
from stopcli.eval.moments import average_precision, moments, overlaps, unseen
from stopcli.results import Hit
from stopcli.results.measured import BenchmarkScore

BLANK = BenchmarkScore("m", "d", "moments", {}, {}, 0, 1, False, {})


def test_the_overlap_is_what_is_shared_of_what_is_covered():
    found = overlaps([(0, 10), (5, 6), (20, 30)], [(5, 15), (0, 10)])
    assert np.allclose(found, [[5 / 15, 1], [0.1, 0.1], [0, 0]])
    assert overlaps([], [(0, 1)]).shape == (0, 1)


@pytest.mark.parametrize(
    ("shared", "least", "expected"),
    [
        ([[0.9]], 0.5, 1.0),
        ([[0.4]], 0.5, 0.0),
        ([[0.1], [0.8]], 0.5, 0.5),  # the second of two is right: precision 1/2 at recall 1
        ([[0.8], [0.9]], 0.5, 1.0),  # found by the first; the second is one too many
        ([[0.8, 0.0], [0.0, 0.1], [0.0, 0.7]], 0.5, 0.5 + 0.5 * 2 / 3),
        (
            [[0.6, 0.7], [0.9, 0.0]],
            0.5,
            1.0,
        ),  # the first takes the one it overlaps most, and leaves the other
        ([[0.8, 0.0]], 0.5, 0.5),  # one of two is found
    ],
)
def test_average_precision_by_hand(shared, least, expected):
    assert average_precision(np.array(shared), least) == pytest.approx(expected)


def test_no_prediction_is_no_precision():
    assert average_precision(np.zeros((0, 2)), 0.5) == 0.0


def asked(name, text, *spans):
    return Asked(text, Item(name, (), path=Path(f"{name}.mp4")), spans)


def hits(*spans):
    return [Hit("q", i, "p", *span, 0.5) for i, span in enumerate(spans, 1)]


def test_scores_are_means_over_sentences_and_each_video_is_read_once():
    read = []

    def find(path, texts):
        read.append((path.stem, list(texts)))
        if path.stem == "bad":
            raise InputError("bad.mp4: no video")
        answers = {"right": hits((0, 10)), "half": hits((0, 6)), "wrong": hits((50, 60)), "none": []}
        return [answers[text] for text in texts]

    questions = [asked("a", "right", (0, 10)), asked("b", "wrong", (0, 10)), asked("a", "half", (0, 10))]
    questions += [
        asked("bad", "right", (0, 10)),
        asked("b", "none", (0, 10)),
        asked("a", "right", (0, 10), (20, 30)),
    ]
    score, failures = moments(questions, find, BLANK)
    assert read == [("a", ["right", "half"]), ("b", ["wrong", "none"]), ("bad", ["right"])]
    assert [f.path for f in failures] == ["bad.mp4"]
    assert (score.clips, score.missing) == (5, 2)
    assert score.scores["R1@0.5"] == pytest.approx(60)
    assert score.scores["R1@0.7"] == pytest.approx(40)
    assert score.scores["mAP@0.5"] == pytest.approx(100 * (1 + 1 + 0.5) / 5)
    assert score.scores["mAP@0.75"] == pytest.approx(100 * 1.5 / 5)
    assert score.scores["mAP"] == pytest.approx(
        100 * (1 + 0.5 + 3 / 10) / 5
    )  # 0.6 is enough for .5, .55 and .6


def test_nothing_that_can_be_read_is_an_error():
    def find(path, texts):
        raise InputError("no")

    with pytest.raises(InputError, match="none of its videos"):
        moments([asked("a", "x", (0, 1))], find, BLANK)


def test_moments_that_a_model_was_trained_on_are_not_asked(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"film a")
    (tmp_path / "b.mp4").write_bytes(b"film b")
    write_seen(tmp_path, [(tmp_path / "a.mp4", 2.0, 5.0)])
    questions = [
        Asked("x", Item("a", (), path=tmp_path / "a.mp4"), ((0.0, 2.0),)),
        Asked("y", Item("a", (), path=tmp_path / "a.mp4"), ((7.0, 9.0), (4.0, 6.0))),
        Asked("z", Item("b", (), path=tmp_path / "b.mp4"), ((2.0, 5.0),)),
    ]
    assert [a.text for a in unseen(questions, read_seen(tmp_path))] == ["x", "z"]
    with pytest.raises(InputError, match="trained on moments of each of the 1 questions"):
        unseen(questions[1:2], read_seen(tmp_path))
