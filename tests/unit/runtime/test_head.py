"""Labels learnt from clips: what is told apart, by what, and what of it is kept."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stopcli.errors import CheckpointError
from stopcli.hub.registry import resolve, weight_files
from stopcli.model.config import HEAD_FILE
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.runtime.head import Head, _blocks, _ridge, alike, fit_head, head_of

LABELS = ("zib", "wof", "kal")


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def world(clips, noise=0.5, words=0.0, seed=0):
    """Clips round three directions; texts that know of them as far as ``words`` says."""
    rng = np.random.default_rng(seed)
    centres, common = unit(rng.normal(size=(3, 32))), unit(rng.normal(size=32))
    truth = np.repeat(np.arange(3), clips)
    videos = unit(centres[truth] + noise * unit(rng.normal(size=(len(truth), 32))) * 2)
    return videos, truth, unit(common + words * centres)


def right(head, videos, truth):
    return float((head.logits(videos).argmax(1) == truth).mean())


def test_labels_whose_words_are_the_same_are_learnt_from_clips():
    videos, truth, texts = world(8)
    choice = fit_head(LABELS, texts, videos, truth)
    assert choice.share > 0
    new, answers, _ = world(100, seed=0)
    assert right(choice.head, new[50:], answers[50:]) > 0.9


def test_words_stay_alone_where_they_know_better_than_few_clips():
    videos, truth, texts = world(2, noise=2.0, words=3.0)
    assert fit_head(LABELS, texts, videos, truth).head is None
    forced = fit_head(LABELS, texts, videos, truth, kind="prototype")
    assert forced.share == 1
    assert fit_head(LABELS, texts, videos, truth, kind="mix").share in (0.25, 0.5, 0.75)


def test_one_clip_a_label_is_enough_to_begin_with():
    videos, truth, texts = world(1, noise=0.2)
    choice = fit_head(LABELS, texts, videos, truth)
    assert right(choice.head, videos, truth) == 1


def test_held_out_clips_decide_where_there_are_any():
    videos, truth, texts = world(16, words=3.0)
    wrong = np.random.default_rng(1).permutation(truth)  # what a training has learnt by heart
    assert fit_head(LABELS, texts, videos, wrong, held_out=(videos, truth)).share <= 0.25
    _, _, same = world(16)
    assert fit_head(LABELS, same, videos, truth, held_out=(videos, truth)).share > 0


def test_what_a_clip_gets_from_all_others_is_that_of_a_regression_without_it():
    videos, truth, _ = world(4)
    _, others = _ridge(videos, truth, 3, 0.3)
    for i in (0, 5, 11):
        rest = np.arange(len(truth)) != i
        (vectors, bias), _ = _ridge(videos[rest], truth[rest], 3, 0.3)
        found = videos[i] @ vectors.T + bias
        assert found.argmax() == others[i].argmax()
        assert found == pytest.approx(others[i], abs=0.1)  # the weights of the classes differ a little


def test_what_a_clip_gets_from_other_files_is_that_of_a_regression_without_its_own():
    videos, truth, _ = world(8)
    groups = [f"{label}{i % 8 // 2}" for label, i in zip(truth.tolist(), range(24), strict=True)]
    _, others = _ridge(videos, truth, 3, 0.3, _blocks(groups, truth))
    for group in ("00", "12", "23"):
        inside = np.array([g == group for g in groups])
        (vectors, bias), _ = _ridge(videos[~inside], truth[~inside], 3, 0.3)
        assert videos[inside] @ vectors.T + bias == pytest.approx(others[inside], abs=0.1)
    alone = [f"one file {label}" for label in truth.tolist()]  # nothing else says how these labels look
    assert _blocks(alone, truth) == []
    assert _blocks(["one file"] * 24, truth) == []


def test_clips_of_one_file_do_not_vouch_for_each_other():
    """Clips look like their file; only words tell the labels of new files."""
    rng = np.random.default_rng(0)
    truth, file = np.repeat(np.arange(3), 40), np.repeat(np.arange(12), 10)
    texts = unit(rng.normal(size=(3, 32)))
    videos = unit(texts[truth] + 2 * unit(rng.normal(size=(12, 32)))[file] + 0.1 * rng.normal(size=(120, 32)))
    fresh = unit(texts[truth] + 2 * unit(rng.normal(size=(120, 32))))
    by_clip = fit_head(LABELS, texts, videos, truth)
    by_file = fit_head(LABELS, texts, videos, truth, groups=[str(f) for f in file])
    assert by_file.share < by_clip.share
    words = float(((fresh @ texts.T).argmax(1) == truth).mean())
    found = words if by_file.head is None else right(by_file.head, fresh, truth)
    assert found >= words - 0.02 > right(by_clip.head, fresh, truth)


def test_a_sample_of_many_clips_chooses(monkeypatch):
    videos, truth, texts = world(40)
    whole = fit_head(LABELS, texts, videos, truth)
    monkeypatch.setattr("stopcli.runtime.head.MOST_JUDGED", 60)
    for held_out in (None, (videos, truth)):
        choice = fit_head(LABELS, texts, videos, truth, held_out=held_out)
        assert right(choice.head, videos, truth) >= right(whole.head, videos, truth) - 0.02


def test_classes_of_many_clips_do_not_swallow_the_others():
    videos, truth, texts = world(40, noise=0.8)
    few = np.concatenate([np.where(truth == 0)[0], np.where(truth == 1)[0][:4], np.where(truth == 2)[0][:4]])
    head = fit_head(LABELS, texts, videos[few], truth[few]).head
    assert min(right(head, videos[truth == c], truth[truth == c]) for c in range(3)) > 0.7


def test_labels_that_read_the_same_are_named():
    texts = unit(np.array([[1, 0], [0, 1], [1, 1e-4], [0.5, 1], [1, 0]]))
    assert alike("abcde", texts) == [("a", "c", "e")]
    many = unit(np.random.default_rng(0).normal(size=(1200, 16)))
    assert alike([str(i) for i in range(1200)], np.vstack([many[:1199], many[:1]])) == [("0", "1199")]


def test_a_head_is_kept_read_and_refused(tmp_path, toy):
    folder = shutil.copytree(toy, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": list(LABELS), "head": {"share": 0.5, "ridge": 1.0}, "template": "a {}"}
    (folder / "config.json").write_text(json.dumps(config))
    head = Head(LABELS, np.eye(3, 32, dtype=np.float32), np.zeros(3, np.float32))
    head.save(folder / HEAD_FILE)
    options = EncoderOptions(device="cpu", precision="fp32")
    encoder = Encoder(resolve(str(folder)), options)
    assert HEAD_FILE in weight_files(encoder.files.config)
    assert encoder.head.of(("kal", "zib")).vectors.tolist() == head.vectors[[2, 0]].tolist()
    assert encoder.head.of(("zib",), "a {}") is not None
    assert encoder.head.of(("zib",), "the {}") is None  # another sentence: from its words
    assert encoder.head.of(("zib", "else")) is None
    assert encoder.without_prompts().head is None
    assert encoder.describe()["head"] == {"share": 0.5, "ridge": 1.0}
    for bad in (
        Head(LABELS, np.eye(3, 8, dtype=np.float32), np.zeros(3, np.float32)),
        Head(LABELS, np.full((3, 32), np.nan, np.float32), np.zeros(3, np.float32)),
    ):
        bad.save(folder / HEAD_FILE)
        with pytest.raises(CheckpointError, match="does not belong to the 3 labels"):
            Encoder(resolve(str(folder)), options)
    for kind in (torch.int64, torch.float8_e4m3fn):
        odd = {"vectors": torch.zeros(3, 32).to(kind), "bias": torch.zeros(3).to(kind)}
        save_file(odd, folder / HEAD_FILE)
        with pytest.raises(CheckpointError, match="does not belong to the 3 labels"):
            Encoder(resolve(str(folder)), options)
    (folder / HEAD_FILE).write_bytes(b"no head")
    with pytest.raises(CheckpointError, match="damaged or absent"):
        Encoder(resolve(str(folder)), options)


def test_a_head_that_is_larger_than_its_labels_is_not_read(tmp_path, toy):
    folder = shutil.copytree(toy, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": list(LABELS), "head": {"share": 0.5, "ridge": 1.0}}
    (folder / "config.json").write_text(json.dumps(config))
    Head(LABELS, np.zeros((3, 1 << 20), np.float32), np.zeros(3, np.float32)).save(folder / HEAD_FILE)
    files = resolve(str(folder))
    for measured in (False, True):
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="does not belong to the 3 labels"):
            head_of(files, 32)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 1 << 20 or not measured  # at first, modules are imported


def test_labels_are_known_in_capitals_or_not():
    head = Head(("Serve", "serve", "Volley"), np.eye(3, 4, dtype=np.float32), np.zeros(3, np.float32))
    assert head.of(("volley", "serve")).vectors.argmax(1).tolist() == [2, 1]
    assert head.of(("VOLLEY", "Serve")).vectors.argmax(1).tolist() == [2, 0]
    assert not head.knows("lob")
    earlier = Head(("cafe\u0301",), np.eye(1, dtype=np.float32), np.zeros(1, np.float32))
    assert earlier.knows("caf\u00e9")  # as tables have it, whatever system they come from
    assert earlier.place_of("Caf\u00e9") == 0
