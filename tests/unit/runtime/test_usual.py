"""How well a label's own clips fit it: what fits far less is something else, whatever its share."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from stopcli.errors import CheckpointError
from stopcli.hub.registry import resolve
from stopcli.model.config import HEAD_FILE
from stopcli.runtime.head import Head, fit_head, head_of
from stopcli.runtime.usual import Usual, _below

LABELS = ("zib", "wof", "kal")


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def clips_of(centres, each, rng, noise=0.9):
    truth = np.repeat(np.arange(len(centres)), each)
    return unit(centres[truth] + noise * unit(rng.normal(size=(len(truth), centres.shape[1])))), truth


def chance(odds):
    return 1 / (1 + np.exp(-np.clip(odds, -500, 500)))


def confidences(head, clips):
    """How sure the head is of the label that each clip is nearest to."""
    best = head.logits(clips).argmax(1)
    return best, np.array([chance(head.odds(clips[i : i + 1], int(b))[0]) for i, b in enumerate(best)])


@pytest.fixture(scope="module")
def world():
    """Three labels learned from eight clips each, more clips of them, and clips of eight other things."""
    rng = np.random.default_rng(5)
    centres = unit(rng.normal(size=(11, 32)))
    texts = unit(rng.normal(size=32) + 0.3 * centres[:3])
    clips, truth = clips_of(centres[:3], 8, rng)
    head = fit_head(LABELS, texts, clips, truth, kind="mix").head
    return head, clips_of(centres[:3], 40, rng), clips_of(centres[3:], 40, rng)[0]


def test_what_is_none_of_the_labels_is_doubted_and_what_is_one_is_not(world):
    head, (own, truth), others = world
    assert (chance(np.diff(np.sort(head.logits(others), 1)[:, -2:]).ravel()) > 0.9).mean() > 0.5  # by shares
    assert (confidences(head, others)[1] > 0.9).mean() < 0.03
    best, sure = confidences(head, own)
    assert (best == truth).mean() > 0.97
    assert (sure > 0.9).mean() > 0.8


def test_where_nothing_is_doubted_the_confidence_is_the_share(world):
    head, (own, _), _ = world
    logits = head.logits(own)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for label in range(3):
        usual = head.usual.doubt(own, logits[:, label], label) == 0
        found = chance(head.odds(own, label))
        assert usual.any()
        assert found[usual] == pytest.approx(shares[usual, label], abs=1e-5)
        assert (found <= shares[:, label] + 1e-5).all()
        plain = chance(replace(head, usual=None).odds(own, label))
        assert plain == pytest.approx(shares[:, label], abs=1e-5)


def test_each_clip_is_judged_without_those_of_its_file():
    rng = np.random.default_rng(1)
    clips, truth = clips_of(unit(rng.normal(size=(2, 16))), 6, rng)
    groups = ["a", "a", "b", "c", "d", "e"] * 2
    scores = rng.normal(size=12).astype(np.float32)
    found = Usual.of(clips, truth, scores, groups, 2)
    for label in range(2):
        expected = []
        for i in np.flatnonzero(truth == label):
            rest = [j for j in np.flatnonzero(truth == label) if groups[j] != groups[i]]
            expected.append(float(unit(clips[rest].sum(0)) @ clips[i]))
        assert found.fits[label] == pytest.approx(
            [scores[truth == label].mean(), np.mean(expected)], abs=1e-5
        )
        assert found.means[label] == pytest.approx(unit(clips[truth == label].sum(0)), abs=1e-5)
    assert found.freedom.tolist() == [8]  # five groups of each


def test_held_out_clips_say_how_far_off_all_are():
    rng = np.random.default_rng(2)
    clips, truth = clips_of(unit(rng.normal(size=(2, 16))), 6, rng)
    names = [str(i) for i in range(12)]
    scores = np.full(12, 5.0, np.float32)
    others, answers = clips_of(unit(rng.normal(size=(2, 16))), 2, rng)
    found = Usual.of(clips, truth, scores, names, 2, (others, answers, np.array([1, 2, 1, 2], np.float32)))
    assert found.fits[:, 0] == pytest.approx([1.5, 1.5])  # learned clips had 5: they were learned by heart
    assert found.spreads[:, 0] == pytest.approx([math.sqrt(1 / 3 * 7 / 6)] * 2)
    assert found.freedom.tolist() == [3]


def test_too_few_clips_measure_nothing():
    clips = unit(np.eye(3, 8))
    names = ["a", "b", "c"]
    assert Usual.of(clips, np.arange(3), np.zeros(3, np.float32), names, 3) is None
    assert fit_head(LABELS, clips, clips, np.arange(3), kind="prototype").head.usual is None
    one_of_two = np.array([0, 0, 1])
    assert Usual.of(clips, one_of_two, np.zeros(3, np.float32), names, 2) is None


def test_clips_of_one_film_do_not_say_how_a_label_looks_in_another(world):
    """Neighbours in a film are much alike: whatever is of another film would be doubted."""
    rng = np.random.default_rng(7)
    centres = unit(rng.normal(size=(3, 32)))
    films = clips_of(centres, 2, rng)[0]  # two films of each label, windows of which hardly differ
    texts = unit(rng.normal(size=32) + 0.3 * centres)
    own, truth = clips_of(centres, 40, rng)
    for count in (1, 2):
        chosen = np.array([2 * label + film for label in range(3) for film in range(count)])
        clips = unit(np.repeat(films[chosen], 5, axis=0) + 0.02 * rng.normal(size=(15 * count, 32)))
        classes, groups = np.repeat(chosen // 2, 5), [str(film) for film in np.repeat(chosen, 5)]
        head = fit_head(LABELS, texts, clips, classes, kind="mix", groups=groups).head
        assert (head.usual is None) == (count == 1)
        best = head.logits(own).argmax(1)
        shares = [
            chance(replace(head, usual=None).odds(own[i : i + 1], int(b))[0]) for i, b in enumerate(best)
        ]
        sure = confidences(head, own)[1]
        assert ((sure > 0.9) & (best == truth)).mean() > 0.8 * (
            (np.array(shares) > 0.9) & (best == truth)
        ).mean()


def test_two_clips_of_a_label_are_as_near_to_each_other_as_the_other_way_round():
    rng = np.random.default_rng(8)
    centres = unit(rng.normal(size=(3, 32)))
    clips, truth = clips_of(centres, 2, rng)
    head = fit_head(LABELS, unit(rng.normal(size=32) + 0.3 * centres), clips, truth, kind="mix").head
    assert (head.usual.spreads > 0.01).all()
    assert head.usual.freedom.tolist() == [2]
    own, answers = clips_of(centres, 40, rng)
    best, sure = confidences(head, own)
    assert ((sure > 0.9) & (best == answers)).mean() > 0.6


def test_rare_is_what_students_distribution_says():
    # quantiles of Student's t at 5 %: tables of any textbook
    for freedom, quantile in ((3, -2.353), (10, -1.812), (100, -1.660)):
        assert _below(np.array([quantile]), freedom)[0] == pytest.approx(0.05, abs=0.002)
    assert _below(np.array([-1e30, 0.0]), 5.0) == pytest.approx([0, 0.5])
    assert (_below(np.array([-1e30]), 1e6) > 0).all()  # its logarithm is taken


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path, toy):
    folder = shutil.copytree(toy, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": list(LABELS), "head": {"share": 0.5, "ridge": 1.0}}
    (folder / "config.json").write_text(json.dumps(config))
    os.mkfifo(folder / HEAD_FILE)
    with pytest.raises(CheckpointError, match="damaged or absent"):
        head_of(resolve(str(folder)), 32)


def test_it_is_kept_read_and_refused(tmp_path, toy, world):
    head = world[0]
    folder = shutil.copytree(toy, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": list(LABELS), "head": {"share": 0.5, "ridge": 1.0}}
    (folder / "config.json").write_text(json.dumps(config))
    head.save(folder / HEAD_FILE)
    files = resolve(str(folder))
    read = head_of(files, 32)
    assert read.usual.fits.tolist() == head.usual.fits.tolist()
    assert read.of(("kal", "zib")).usual.fits.tolist() == head.usual.fits[[2, 0]].tolist()
    replace(head, usual=None).save(folder / HEAD_FILE)  # as older versions wrote it
    assert head_of(files, 32).usual is None
    for bad in (
        {"spreads": np.zeros((3, 2), np.float32)},
        {"freedom": np.zeros(1, np.float32)},
        {"fits": np.full((3, 2), np.inf, np.float32)},
        {"means": np.zeros((3, 8), np.float32)},
    ):
        Head(head.labels, head.vectors, head.bias, None, replace(head.usual, **bad)).save(folder / HEAD_FILE)
        with pytest.raises(CheckpointError, match="does not belong to the 3 labels"):
            head_of(files, 32)
