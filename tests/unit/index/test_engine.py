"""Searching as a user does: what is redone and what is not, moments, what is loaded for a query."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from index_toys import space_of

from conftest import write_model, write_video
from stopcli.errors import FileMissing, IndexBusy, UsageError
from stopcli.hub.registry import resolve
from stopcli.index import sync
from stopcli.index.engine import SearchEngine
from stopcli.index.scale import ann
from stopcli.index.store import Index
from stopcli.index.types import Example, SearchRequest
from stopcli.runtime.encoder import Encoder, EncoderOptions

CPU = ("--device", "cpu", "--precision", "fp32")
BAR = SearchRequest(("a bar",), window=2.0)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for i in range(4):
        write_video(folder / ("deep" if i % 2 else "") / f"{i}.mp4", frames=30 + 20 * i, fps=10)
    return folder


@contextmanager
def opened(tmp_path, model, **more):
    files = resolve(str(model))
    options = EncoderOptions(device="cpu", precision="fp32")
    with SearchEngine(tmp_path / "index", files, lambda: Encoder(files, options), **more) as opened:
        yield opened


def videos(tree):
    return sorted(tree.rglob("*.mp4"))


def ask(run, tree, model, *more):
    status, out, err = run(
        "retrieve",
        "--min-confidence",
        "0",
        "--query",
        "a bar",
        tree,
        "--model",
        model,
        "--window",
        2,
        "--format",
        "json",
        *CPU,
        *more,
    )
    return status, json.loads(out)["data"] if out else None, err


def updated(run, tree, model, *more):
    status, out, err = run("index", "update", tree, "--model", model, "--window", 2, *CPU, *more)
    assert status == 0, err
    return out, err


def test_only_what_changed_is_redone(run, tree, toy):
    _, err = updated(run, tree, toy, "--dry-run")
    assert "4 to embed, 0 moved, 0 removed" in err
    status, first, _ = ask(run, tree, toy)
    assert status == 0
    assert first[0]["end"] - first[0]["start"] > 0
    assert "0 to embed, 0 moved, 0 removed" in updated(run, tree, toy, "--dry-run")[1]
    assert ask(run, tree, toy)[1] == first
    (tree / "0.mp4").rename(tree / "deep" / "renamed.mp4")
    (tree / "2.mp4").unlink()
    write_video(tree / "new.mp4", frames=25, fps=10)
    write_video(tree / "deep" / "1.mp4", frames=26, fps=10)
    out, err = updated(run, tree, toy, "--dry-run", "--format", "json")
    assert "2 to embed, 1 moved, 1 removed" in err
    assert {Path(item["path"]).name for item in json.loads(out)["data"]} == {"new.mp4", "1.mp4"}
    out, _ = updated(run, tree, toy, "--format", "json")
    (change,) = json.loads(out)["data"]
    assert (change["embedded"], change["moved"], change["removed"]) == (2, 1, 1)
    _, hits, _ = ask(run, tree, toy, "--top-k", 50, "--all")
    assert {Path(h["path"]).name for h in hits} == {"renamed.mp4", "new.mp4", "1.mp4", "3.mp4"}
    _, out, _ = run("index", "ls", "--format", "json")
    assert {Path(d["path"]).name: d["vectors"] for d in json.loads(out)["data"]} == {
        "renamed.mp4": 2, "new.mp4": 1, "1.mp4": 1, "3.mp4": 5,
    }  # fmt: skip


def test_the_tree_is_looked_at_once_a_search(tmp_path, tree, toy, monkeypatch):
    looks = []

    def compare(*arguments):
        looks.append(arguments)
        return sync_compare(*arguments)

    sync_compare = sync.compare
    monkeypatch.setattr(sync, "compare", compare)
    with opened(tmp_path, toy) as first, opened(tmp_path, toy) as second:
        for _ in range(2):  # whether something must be embedded or not
            looks.clear()
            first.search(BAR, videos(tree), [tree])
            assert len(looks) == 1
        write_video(tree / "new.mp4", frames=9)
        writing = first.index.writing

        @contextmanager
        def late():  # another process was faster
            second.update(videos(tree), [tree], 2.0)
            with writing():
                yield

        looks.clear()
        monkeypatch.setattr(first.index, "writing", late)
        result = first.update(videos(tree), [tree], 2.0)
        assert len(looks) == 3  # once for the other one, and once more after it
        assert (result.embedded, result.diff.gone) == (0, ())


def test_a_search_of_an_unchanged_tree_waits_for_no_writer(tmp_path, tree, toy):
    with opened(tmp_path, toy, wait=0) as first, Index(tmp_path / "index") as other:
        hits = first.search(BAR, videos(tree), [tree]).hits
        with other.writing():
            assert first.search(BAR, videos(tree), [tree]).hits == hits
            copy = (tree / "0.mp4").rename(tree / "moved.mp4")
            found = first.search(BAR, videos(tree), [tree])  # all is known; where it lies is noted later
            assert {h.path for h in found.hits} - {h.path for h in hits} == {str(copy)}
            write_video(tree / "new.mp4", frames=9)
            with pytest.raises(IndexBusy, match="is writing"):
                first.search(BAR, videos(tree), [tree])
        first.search(BAR, videos(tree), [tree])
        assert copy in first.index.database.files()


def test_a_search_of_a_part_answers_from_that_part(tmp_path, tree, toy):
    with opened(tmp_path, toy) as first:
        everything = first.search(BAR, videos(tree), [tree]).hits
        assert len({h.path for h in everything}) == 4
        part = first.search(BAR, [tree / "2.mp4"], []).hits
        assert {h.path for h in part} == {str(tree / "2.mp4")}
        assert len(first.index.database.files()) == 4


def test_progress_and_plan_tell_what_is_embedded(tmp_path, tree, toy):
    (tree / "broken.mp4").write_bytes(b"no video" * 99)
    totals, done = [], []

    @contextmanager
    def progress(total):
        totals.append(total)
        yield lambda *step: done.append(step)

    with opened(tmp_path, toy, progress=progress) as first:
        plan = first.plan(videos(tree), [tree], 2.0)
        assert plan.todo == tuple(map(str, videos(tree)))
        assert first.index.database.files() == {}
        result = first.update(videos(tree), [tree], 2.0)
        assert totals == [5]
        assert [step[0] for step in done if len(step) == 1] == list(map(str, videos(tree)))
        assert any(len(step) == 2 and step[1] > 0 for step in done)  # how far a file has been read
        assert result.embedded == 4
        assert [(f.path, f.error) for f in result.failures] == [
            (str(tree / "broken.mp4"), "unreadable-video")
        ]
        assert first.plan(videos(tree), [tree], 2.0).todo == ()


def test_faults_of_the_request_come_before_the_work(tmp_path, tree, toy):
    with opened(tmp_path, toy) as first:
        for request, error in (
            (SearchRequest(), UsageError),
            (SearchRequest(("a bar", " ")), UsageError),
            (SearchRequest(("a bar",), unlike=("",)), UsageError),
            (SearchRequest(("a" * 2001,)), UsageError),
            (SearchRequest(("a \udcff bar",)), UsageError),
            (SearchRequest(("a bar",), unlike=("\ud83d",)), UsageError),
            (SearchRequest(examples=(Example(tree / "nothing.mp4"),)), FileMissing),
        ):
            with pytest.raises(error):
                first.search(request, videos(tree), [tree])
        assert "_encoder" not in vars(first)  # no model was loaded, nothing embedded
        assert first.index.database.spaces() == []


def test_only_what_was_asked_is_in_the_index(tmp_path, tree, toy):
    with opened(tmp_path, toy) as first:
        first.search(BAR, videos(tree), [tree])
        (space,) = first.index.database.spaces()
        assert space.size == 32
        assert first.index.database._rows("SELECT text FROM texts") == [("a bar",)]


def test_a_full_text_cache_does_not_stop_a_search(tmp_path, tree, toy):
    with opened(tmp_path, toy) as first:
        hits = first.search(BAR, videos(tree), [tree]).hits
        first.index.database._db.execute("PRAGMA max_page_count=1")
        other = SearchRequest(("something else " * 100, "a bar"), window=2.0)
        found = first.search(other, videos(tree), [tree]).hits
        assert [h for h in found if h.query == "a bar"] == list(hits)


def test_an_approximate_index_is_asked_where_the_selection_is_large(tmp_path, tree, toy, monkeypatch):
    pytest.importorskip("usearch")
    notes = []
    with opened(tmp_path, toy, say=notes.append) as first:
        exact = first.search(BAR, videos(tree), [tree]).hits
        rows = space_of(first.index).rows
        monkeypatch.setattr(ann, "LEAST", rows)
        first.search(BAR, [tree / "0.mp4"], [])
        assert notes == []
        quick = first.search(BAR, videos(tree), [tree]).hits
        assert [(h.path, h.start, h.rank) for h in quick] == [(h.path, h.start, h.rank) for h in exact]
        assert [f"{rows} vectors" in note for note in notes] == [True]
        monkeypatch.setattr(ann, "available", lambda: False)
        assert first.search(BAR, videos(tree), [tree]).hits == exact
        assert "stopcli[large]" in notes[-1]


def test_other_settings_keep_the_old_vectors(run, tree, toy, tmp_path):
    ask(run, tree, toy)
    other = write_model(tmp_path / "other", stop=None)
    _, hits, err = ask(run, tree, other)
    assert "4 files must be embedded" in err
    assert "are kept" in err
    _, _, err = ask(run, tree, toy)
    assert "must be embedded" not in err
    _, hits, _ = ask(run, tree, toy, "--whole")
    assert {h["start"] for h in hits} == {None}
    assert len(hits) == 4


def test_a_file_that_moved_is_followed_whatever_precision_was_expected(tmp_path, tree, toy):
    """The vectors of one precision are most, but the model at hand computes in another."""
    files = resolve(str(toy))

    def engine(precision, wanted):
        options = EncoderOptions(device="cpu", precision=precision)
        return SearchEngine(tmp_path / "index", files, lambda: Encoder(files, options), precision=wanted)

    with engine("bf16", "bf16") as bf16:
        bf16.update(videos(tree), [tree], 2.0)
    alone = write_video(tree / "alone.mp4", frames=25, fps=10)
    with engine("fp32", "fp32") as fp32:
        fp32.update([alone], [], 2.0)
    alone.rename(tree / "renamed.mp4")
    with engine("fp32", None) as either:
        either.update(videos(tree), [tree], 2.0)
        assert set(either.index.database.files()) == set(videos(tree))
        assert either.update(videos(tree), [tree], 2.0).todo == ()


def test_queries_by_moment_video_and_filters(run, tree, toy):
    _, hits, err = ask(
        run, tree, toy, "--cuts", "off", "--like", f"{tree}/deep/3.mp4@5", "--like", tree / "0.mp4"
    )
    names = list(dict.fromkeys(h["query"] for h in hits))
    assert names == ["a bar", f"{tree}/deep/3.mp4@5", f"{tree}/0.mp4"], err
    best = next(h for h in hits if h["query"].endswith("@5"))
    assert best["start"] <= 5 <= best["end"]  # all clips show the same at the same time
    assert best["score"] == pytest.approx(1.0, abs=1e-3)
    _, hits, _ = ask(run, tree, toy, "--glob", "*/deep/*")
    assert {Path(h["path"]).parent.name for h in hits} == {"deep"}
    _, hits, _ = ask(run, tree, toy, "--min-duration", 6)
    assert {Path(h["path"]).name for h in hits} == {"2.mp4", "3.mp4"}
    _, hits, _ = ask(run, tree, toy, "--max-duration", 4)
    assert {Path(h["path"]).name for h in hits} == {"0.mp4"}
    _, hits, _ = ask(run, tree, toy, "--min-score", 0.999)
    assert hits == []


@pytest.mark.parametrize("query", ["a bar", "something new"])
def test_a_later_query_loads_no_torch(run, tree, toy, query):
    ask(run, tree, toy)
    code = f"""
import sys, io, contextlib
from stopcli.cli.app import main
with contextlib.redirect_stdout(io.StringIO()):
    status = main(["retrieve", "--min-confidence", "0", "--query", {query!r}, {str(tree)!r}, "--model", {str(toy)!r}, "--window", "2"])
print(status, sorted(set(sys.modules) & {{"torch", "open_clip", "av"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []", done.stderr


def test_a_new_query_leaves_the_vision_tower_on_the_disk(run, tree, toy, monkeypatch):
    ask(run, tree, toy)
    from stopcli.runtime import encoder as encoder_module

    def no_model(*_, **__):
        raise AssertionError("the whole model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr(encoder_module, "load_model", no_model)
        status, out, _ = run(
            "retrieve",
            "--min-confidence",
            "0",
            "--query",
            "something new",
            tree,
            "--model",
            toy,
            "--window",
            2,
            "--format",
            "json",
        )
    assert status == 0
    new = json.loads(out)["data"]
    encoder = Encoder(resolve(str(toy)), EncoderOptions(device="cpu", precision="fp32"))
    (vector,) = encoder.encode_texts(["something new"])
    with Index(Path(os.environ["STOPCLI_HOME"]) / "index") as index:
        space = space_of(index)
        kept = index.database.texts(encoder.files.text_key(), ["something new"])["something new"]
        assert np.allclose(kept, vector, atol=1e-6)
        assert new[0]["score"] == pytest.approx(float((index.vectors(space) @ vector).max()), abs=1e-5)


def test_broken_files_are_tried_once_and_noted_from_then_on(run, tree, toy):
    """A search of an archive with one bad file ended with 1, hits or none."""
    (tree / "broken.mp4").write_bytes(b"no video" * 99)
    status, hits, err = ask(run, tree, toy)
    assert status == 1
    assert "broken.mp4" in err
    assert "0 to embed" in run("index", "update", tree, "--model", toy, "--window", 2, "--dry-run", *CPU)[2]
    status, again, err = ask(run, tree, toy)
    assert status == 0
    assert "note: 1 unreadable file is known, and left out: stop index ls" in err
    assert again == hits


def test_a_read_only_archive_can_be_searched(run, tree, toy):
    tree.chmod(0o555)
    try:
        assert ask(run, tree, toy)[0] == 0
    finally:
        tree.chmod(0o755)
