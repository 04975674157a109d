"""The Python API: the commands' verbs, tried as its documentation shows them."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest

import stopcli
from conftest import write_video
from stopcli.errors import InputError, UsageError
from stopcli.index.store import Index
from stopcli.results import Classification


@pytest.fixture(scope="module")
def model(toy):
    return stopcli.load(str(toy), device="cpu", precision="fp32")


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch):
    from stopcli import api
    from stopcli.tasks.samples import copy_samples

    monkeypatch.chdir(tmp_path)
    list(copy_samples(tmp_path / "samples"))
    model = stopcli.load("mini", device="cpu", precision="fp32")
    failed, tried = doctest.testmod(api, extraglobs={"model": model, "stopcli": stopcli})
    assert failed == 0
    assert tried >= 8


def test_what_the_package_offers_is_seen():
    assert {"load", "Model", "Results", "Embeddings"} <= set(dir(stopcli))


def test_classify_gives_records_and_failures_apart(model, clips):
    results = model.classify([clips], labels=["a dog", "a cat"])
    assert [type(r) for r in results] == [Classification, Classification]
    assert [f.error for f in results.failures] == ["unreadable-video"]
    assert results.to_records()[0]["path"] == str(clips / "a.mp4")
    shown = results._repr_html_()
    assert "<table>" in shown
    assert "broken.mp4" in shown


def test_names_in_a_notebook_are_escaped(model, tmp_path):
    write_video(tmp_path / "v.mp4", frames=5).rename(tmp_path / "<b>x.mp4")
    shown = model.classify(tmp_path, labels=["<script>", "b"])._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown


def test_one_text_is_no_list_of_labels(model, clips):
    with pytest.raises(UsageError, match="labels must be a list of texts"):
        model.classify(clips, labels="a dog")


@pytest.mark.parametrize(
    "options",
    [
        {"fit": "Crop"},
        {"sampling": "keyframe"},
        {"precision": "float16"},
        {"batch_size": -1},
        {"frames": 0},
        {"frames": 2.5},
    ],
)
def test_an_option_that_is_none_is_refused(toy, options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} must be"):
        stopcli.load(toy, device="cpu", **options)


@pytest.mark.parametrize("window", [0, -4, 1e-7, math.inf, math.nan])
def test_a_window_that_is_none_leaves_the_index_alone(model, clips, window, tmp_path):
    with pytest.raises(UsageError, match="window must be from"):
        model.retrieve("a dog", clips, window=window, index=tmp_path)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_numbers(toy, clips, tmp_path):
    model = stopcli.load(toy, device="cpu", precision="fp32", frames=np.int64(4), batch_size=np.int64(2))
    first = model.retrieve("a dog", clips, window=np.float32(0.5), index=tmp_path)
    assert first
    assert model.retrieve("a dog", clips, window=0.5, index=tmp_path) == first


def test_one_thing_is_a_list_of_one(model, clips, tmp_path):
    clip = min(p for p in clips.rglob("*.mp4") if not p.name.startswith("."))
    whole = model.retrieve([], clips, like=[(clip, None)], window=None, index=tmp_path)
    assert model.retrieve([], clips, like=clip, window=None, index=tmp_path) == whole
    assert model.retrieve([], clips, like=[str(clip)], window=None, index=tmp_path) == whole
    assert model.embed_texts([]).shape == (0, model.embed_texts(["a"]).shape[1])


def test_a_missing_file_is_an_error(model):
    with pytest.raises(InputError, match=r"nowhere\.mp4: no such file"):
        model.classify("nowhere.mp4", labels=["a", "b"])


def test_retrieve_gives_one_list(model, clips):
    hits = model.retrieve("a dog", [clips])
    assert (len(hits), len(hits.failures)) == (2, 1)
    hits = model.retrieve((), clips, like=[(clips / "a.mp4", None)], top_k=1)
    assert hits[0].path == str(clips / "deeper" / "b.mkv")  # not the example itself


def test_a_search_without_hits_is_an_empty_list(model, clips):
    hits = model.retrieve("a dog", clips, min_score=2.0)
    assert (list(hits), [f.error for f in hits.failures]) == ([], ["unreadable-video"])


def test_a_folder_without_videos_is_an_error(model, tmp_path):
    for verb in (model.embed, model.classify):
        with pytest.raises(InputError, match="no video found"):
            verb(tmp_path)


def test_embed_gives_an_array(model, clips):
    found = model.embed(clips)
    assert found.vectors.shape == (2, 32)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert [r.row for r in found] == [0, 1]
    assert model.embed_texts(["a", "b"]).shape == (2, 32)


def test_explain_shows_a_picture(model, clips):
    assert model.explain(clips / "a.mp4")._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.2), (None, 0.0), (0.5, math.nan)])
def test_a_stretch_that_ends_before_it_begins_is_refused(model, clips, start, end):
    with pytest.raises(UsageError, match="--end must be after --start"):
        model.explain(clips / "a.mp4", start=start, end=end)


def test_a_model_without_prompts_has_nothing_to_explain(plain, clips):
    with pytest.raises(UsageError, match="plain CLIP has no prompts to show"):
        stopcli.load(plain, device="cpu", precision="fp32").explain(clips / "a.mp4")
    assert stopcli.load(plain, device="cpu", precision="fp32", focus=3).explain(clips / "a.mp4")


def test_an_index_goes_on_in_its_precision_and_the_model_stays_as_it_is(toy, clips, tmp_path):
    stopcli.load(toy, device="cpu", precision="bf16").retrieve("a dog", clips, index=tmp_path)
    auto = stopcli.load(toy, device="cpu", precision="auto")
    auto.encoder.change_precision("fp32")  # what a machine without bf16 takes
    auto.encoder.options = replace(auto.encoder.options, precision="auto")
    assert auto.retrieve("a dog", clips, index=tmp_path)
    auto.retrieve([], clips, like=clips / "a.mp4", index=tmp_path)
    with Index(tmp_path) as index:
        assert [space.precision for space in index.database.spaces()] == ["bf16"]
    assert auto.encoder.precision == "fp32"


def test_a_published_data_set_needs_its_videos(model, tmp_path):
    (tmp_path / "test.csv").write_text("video_id,sentence\nvideo1,a dog\n")
    with pytest.raises(UsageError, match="--videos is needed"):
        model.benchmark("msrvtt", annotations=[tmp_path / "test.csv"])


@pytest.mark.parametrize("option", ["head", "spatial", "temporal", "attention"])
def test_a_choice_that_is_none_is_refused_before_training(model, tmp_path, option):
    with pytest.raises(UsageError, match=f"--{option} must be one of .*, got 'protoype'"):
        model.finetune(tmp_path, tmp_path / "out", **{option: "protoype"})


def test_finetune_and_benchmark(model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(3):
            write_video(tmp_path / "clips" / name / f"{i}.mp4", frames=6 + i)
    result = model.finetune(tmp_path / "clips", tmp_path / "mine", epochs=1)
    tuned = stopcli.load(result.path, device="cpu", precision="fp32")
    scores = tuned.benchmark(tmp_path / "clips")
    assert {s.method.partition(",")[0] for s in scores} == {"plain CLIP", "STOP"}


def test_classify_explain_and_benchmark_give_the_same_scores(toy, clips, tmp_path):
    """A model with a template of its own: the same clip and labels, the same percentages."""
    import json
    import shutil

    from stopcli.data.labels import prompts_for

    folder = shutil.copytree(toy, tmp_path / "tuned")
    config = json.loads((folder / "config.json").read_text())
    config |= {"labels": ["a dog", "a cat"], "template": "footage of {}"}
    (folder / "config.json").write_text(json.dumps(config))
    model = stopcli.load(str(folder), device="cpu", precision="fp32")
    labels = ["a dog", "a cat", "a house"]
    (clip,) = model.classify(clips / "a.mp4", labels=labels)
    classified = {s.label: s.score for s in clip.scores}
    explained = dict(
        zip(labels, model.explain(clips / "a.mp4", labels=labels).look.whole.tolist(), strict=True)
    )
    assert classified == pytest.approx(explained, abs=1e-6)  # clips of different batches
    assert prompts_for(labels, model.encoder.files.config)[0] == "footage of a dog"
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\n{clips / 'a.mp4'},a dog\n{clips / 'deeper' / 'b.mkv'},a cat\n")
    (_, score) = model.benchmark(table)
    assert score.provenance["template"] == "footage of {}"
