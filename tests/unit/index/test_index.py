"""The index: what is redone and what is not, moments, safety against kills and other writers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import write_model, write_video
from stopcli.errors import IndexBusy, IndexUnusable
from stopcli.index.database import DATABASE, FORMAT, FileRecord, Index, Space
from stopcli.index.ranking import Filters, Query, Selection, search
from stopcli.model.config import StopConfig

CPU = ("--device", "cpu", "--precision", "fp32")


def unit(*values):
    v = np.array(values, np.float32)
    return v / np.linalg.norm(v)


def filled(folder, rows=6, size=4) -> tuple[Index, Space]:
    index = Index(folder)
    with index.writing():
        space = index.space(Space("toy", "w" * 64, "fp32", 4, 8.0, size))
        rng = np.random.default_rng(0)
        for i in range(rows):
            vectors = rng.normal(size=(i % 3 + 1, size)).astype(np.float32)
            index.add(
                space, [(Path(f"/v/{i}.mp4"), FileRecord(10 + i, 1, f"c{i}"), 8.0 * len(vectors), vectors)]
            )
    return index, index.find_space("w" * 64, "fp32", 4, 8.0)


# ------------------------------------------------------------------------------------ the store


def test_vectors_come_back_where_the_entries_say(tmp_path):
    index, space = filled(tmp_path)
    entries = index.entries(space)
    assert space.rows == sum(e.count for e in entries.values()) == 12
    rng = np.random.default_rng(0)
    matrix = index.vectors(space)
    for i in range(6):
        e = entries[f"c{i}"]
        assert np.array_equal(
            matrix[e.first : e.first + e.count], rng.normal(size=(e.count, 4)).astype(np.float32)
        )


def test_a_killed_writers_tail_is_overwritten(tmp_path):
    index, space = filled(tmp_path)
    before = np.array(index.vectors(space))
    (file,) = tmp_path.glob("vectors-*.f32")
    with file.open("ab") as stream:
        stream.write(b"half a vec")
    with index.writing():
        index.add(space, [(Path("/v/new.mp4"), FileRecord(1, 1, "new"), 8.0, np.ones((1, 4), np.float32))])
    again = index.find_space("w" * 64, "fp32", 4, 8.0)
    matrix = index.vectors(again)
    assert np.array_equal(matrix[:-1], before)
    assert np.array_equal(matrix[-1], np.ones(4))
    assert file.stat().st_size == matrix.nbytes


def test_compact_drops_what_no_file_has(tmp_path):
    index, space = filled(tmp_path)
    kept = {
        c: np.array(index.vectors(space)[e.first : e.first + e.count])
        for c, e in index.entries(space).items()
    }
    with index.writing():
        index.forget([Path("/v/0.mp4"), Path("/v/2.mp4")])
        assert index.vectors(space).shape[0] == 12  # still there, should they come back
        assert index.compact() == 4 * 4 * 4
    space = index.find_space("w" * 64, "fp32", 4, 8.0)
    entries = index.entries(space)
    assert set(entries) == {"c1", "c3", "c4", "c5"}
    for content, e in entries.items():
        assert np.array_equal(index.vectors(space)[e.first : e.first + e.count], kept[content])
    assert len(list(tmp_path.glob("vectors-*"))) == 1


def test_merge_takes_what_is_new(tmp_path):
    a, _ = filled(tmp_path / "a", rows=3)
    b, space = filled(tmp_path / "b", rows=6)
    with a.writing():
        assert a.merge(b) == (3, 6)
    mine = a.find_space("w" * 64, "fp32", 4, 8.0)
    for content, e in b.entries(space).items():
        m = a.entries(mine)[content]
        assert np.array_equal(
            a.vectors(mine)[m.first : m.first + m.count], b.vectors(space)[e.first : e.first + e.count]
        )
    with a.writing():
        assert a.merge(b) == (0, 0)


def test_spaces_do_not_mix(tmp_path):
    index, space = filled(tmp_path)
    with index.writing():
        for other in (
            Space("toy", "x" * 64, "fp32", 4, 8.0, 4), Space("toy", "w" * 64, "bf16", 4, 8.0, 4),
            Space("toy", "w" * 64, "fp32", 8, 8.0, 4), Space("toy", "w" * 64, "fp32", 4, None, 4),
        ):  # fmt: skip
            assert index.space(other).id != space.id
            assert index.entries(index.space(other)) == {}
        assert index.space(Space("other name", "w" * 64, "fp32", 4, 8.0, 4)).id == space.id


def test_another_format_and_a_broken_file_are_refused(tmp_path):
    filled(tmp_path)[0].close()
    db = sqlite3.connect(tmp_path / DATABASE)
    db.execute(f"PRAGMA user_version={FORMAT + 1}")
    db.close()
    with pytest.raises(IndexUnusable, match="upgrade stopcli"):
        Index(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexUnusable, match="not an index"):
        Index(tmp_path / "b")


def test_a_vector_file_cut_short_is_told(tmp_path):
    index, space = filled(tmp_path)
    (file,) = tmp_path.glob("vectors-*.f32")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(IndexUnusable, match="cut short"):
        index.vectors(space)
    with pytest.raises(IndexUnusable, match="shorter"), index.writing():
        index.add(space, [(Path("/v/n.mp4"), FileRecord(1, 1, "n"), 8.0, np.ones((1, 4), np.float32))])


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    index, space = filled(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(IndexUnusable, match="No space left"), index.writing():
        index.add(space, [(Path("/v/n.mp4"), FileRecord(1, 1, "n"), 8.0, np.ones((1, 4), np.float32))])
    monkeypatch.undo()
    assert index.find_space("w" * 64, "fp32", 4, 8.0).rows == 12
    assert Path("/v/n.mp4") not in index.files()


def test_a_second_writer_is_told_who_holds_it(tmp_path):
    index, _ = filled(tmp_path)
    second = Index(tmp_path, wait=0.1)
    with index.writing(), pytest.raises(IndexBusy, match=f"process {os.getpid()}"), second.writing():
        pass
    with second.writing():
        pass


# -------------------------------------------------------------------------------------- moments


def selection(counts, window=8.0, durations=None):
    first = np.cumsum([0, *counts[:-1]])
    durations = durations or [window * c for c in counts]
    return Selection(
        first,
        np.array(counts),
        np.array(durations, float),
        tuple(f"{i}.mp4" for i in range(len(counts))),
        window,
    )


def test_neighbours_that_score_are_one_hit():
    v = np.array(
        [unit(1, 0.05, 0), unit(0, 1, 0), unit(1, 0.3, 0), unit(1, 0.1, 0), unit(0, 0, 1), unit(0, 1, 0.2)]
    )
    hits = search(v, selection([5, 1]), [Query("q", unit(1, 0, 0))], Filters(top_k=3))
    assert [(h.path, h.start, h.end) for h in hits[:2]] == [("0.mp4", 0.0, 8.0), ("0.mp4", 16.0, 32.0)]
    assert hits[1].score == pytest.approx(float(unit(1, 0.1, 0)[0]))
    assert [h.rank for h in hits] == [1, 2, 3]


def test_a_hit_never_crosses_files():
    v = np.array([unit(1, 0), unit(1, 0), unit(1, 0.01), unit(0, 1)])
    hits = search(v, selection([1, 1, 2], durations=[3.5, 8.0, 20.0]), [Query("q", unit(1, 0))], Filters())
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


@pytest.mark.parametrize("chosen", ["all", "some"])
def test_the_best_are_found_among_many(chosen):
    rng = np.random.default_rng(3)
    v = rng.normal(size=(20000, 8)).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    files = selection([1] * 20000)
    if chosen == "some":
        keep = rng.permutation(20000)[:5000]
        keep.sort()
        files = Selection(
            files.first[keep],
            files.count[keep],
            files.duration[keep],
            tuple(files.paths[k] for k in keep),
            8.0,
        )
    q = unit(*rng.normal(size=8))
    hits = search(v, files, [Query("q", q)], Filters(top_k=20))
    scores = v[files.first] @ q
    assert [h.score for h in hits] == pytest.approx(sorted(scores.tolist(), reverse=True)[:20])


def test_a_long_hit_leaves_room_for_others():
    v = np.vstack([np.tile(unit(1, 0), (3000, 1)), unit(1, 1)[None]])
    hits = search(v, selection([3000, 1]), [Query("q", unit(1, 0))], Filters(top_k=2))
    assert [(h.path, h.end) for h in hits] == [("0.mp4", 24000.0), ("1.mp4", 8.0)]


def test_a_shortcut_finds_what_the_exact_search_finds(tmp_path):
    pytest.importorskip("usearch")
    from stopcli.index.ann import ANNIndex

    rng = np.random.default_rng(4)
    centres = rng.normal(size=(300, 32))  # as footage has scenes, vectors have clusters
    v = (centres[rng.integers(300, size=12000)] + 0.4 * rng.normal(size=(12000, 32))).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    files = selection([4] * 3000)
    said = []
    queries = [Query(str(k), unit(*(centres[k] + 0.3 * rng.normal(size=32)))) for k in range(20)]
    exact = search(v, files, queries, Filters())
    quick = search(v, files, queries, Filters(), (), ANNIndex(tmp_path / "v.usearch", v, said.append))
    found = {(h.query, h.path, h.start) for h in quick}
    assert len(found & {(h.query, h.path, h.start) for h in exact}) >= 0.95 * len(exact)
    assert len(said) == 1
    ANNIndex(tmp_path / "v.usearch", v, said.append)
    assert len(said) == 1  # it was kept
    (tmp_path / "v.usearch").write_bytes(b"broken")
    ANNIndex(tmp_path / "v.usearch", v, said.append)
    assert len(said) == 2  # and is built again
    half = Selection(files.first[::2], files.count[::2], files.duration[::2], files.paths[::2], 8.0)
    quick = search(v, half, queries, Filters(), (), ANNIndex(tmp_path / "v.usearch", v, said.append))
    assert {h.path for h in quick} <= set(half.paths)


# ---------------------------------------------------------------------------------- as a user


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("m") / "toy", stop=StopConfig(regions=4, eta=2, hidden=16))


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for i in range(4):
        write_video(folder / ("deep" if i % 2 else "") / f"{i}.mp4", frames=30 + 20 * i, fps=10)
    return folder


def ask(run, tree, model, *more):
    status, out, err = run(
        "retrieve", "--query", "a bar", tree, "--model", model, "--every", 2, "--format", "json", *CPU, *more
    )
    return status, json.loads(out)["data"] if out else None, err


def told(run, tree, model, *more):
    status, out, err = run("index", "update", tree, "--model", model, "--every", 2, *CPU, *more)
    assert status == 0, err
    return out, err


def test_only_what_changed_is_redone(run, tree, model):
    _, err = told(run, tree, model, "--dry-run")
    assert "4 files: 4 to embed, 0 moved, 0 gone" in err
    status, first, _ = ask(run, tree, model)
    assert status == 0
    assert first[0]["end"] - first[0]["start"] > 0
    assert "0 to embed, 0 moved, 0 gone" in told(run, tree, model)[1]
    assert ask(run, tree, model)[1] == first
    (tree / "0.mp4").rename(tree / "deep" / "renamed.mp4")
    (tree / "2.mp4").unlink()
    write_video(tree / "new.mp4", frames=25, fps=10)
    write_video(tree / "deep" / "1.mp4", frames=26, fps=10)
    out, err = told(run, tree, model, "--dry-run")
    assert "4 files: 2 to embed, 1 moved, 1 gone" in err
    assert {Path(line).name for line in out.splitlines()} == {"new.mp4", "1.mp4"}
    _, err = told(run, tree, model)
    assert "2 embedded" in err
    _, hits, _ = ask(run, tree, model, "--top-k", 50)
    assert {Path(h["path"]).name for h in hits} == {"renamed.mp4", "new.mp4", "1.mp4", "3.mp4"}
    _, out, _ = run("index", "ls", "--format", "json")
    assert {Path(d["path"]).name: d["vectors"] for d in json.loads(out)["data"]} == {
        "renamed.mp4": 2, "new.mp4": 1, "1.mp4": 1, "3.mp4": 5,
    }  # fmt: skip


def test_other_settings_keep_the_old_vectors(run, tree, model, tmp_path):
    ask(run, tree, model)
    other = write_model(tmp_path / "other", stop=None)
    _, hits, err = ask(run, tree, other)
    assert "4 files must be embedded" in err
    assert "are kept" in err
    _, _, err = ask(run, tree, model)
    assert "must be embedded" not in err
    _, hits, _ = ask(run, tree, model, "--whole")
    assert {h["start"] for h in hits} == {None}
    assert len(hits) == 4


def test_queries_by_moment_video_and_filters(run, tree, model):
    _, hits, err = ask(run, tree, model, "--like", f"{tree}/deep/3.mp4@5", "--query-video", tree / "0.mp4")
    names = list(dict.fromkeys(h["query"] for h in hits))
    assert names == ["a bar", f"{tree}/0.mp4", f"{tree}/deep/3.mp4@5"], err
    best = next(h for h in hits if h["query"].endswith("@5"))
    assert best["start"] <= 5 <= best["end"]  # all clips show the same at the same time
    assert best["score"] == pytest.approx(1.0, abs=1e-3)
    _, hits, _ = ask(run, tree, model, "--glob", "*/deep/*")
    assert {Path(h["path"]).parent.name for h in hits} == {"deep"}
    _, hits, _ = ask(run, tree, model, "--min-duration", 6)
    assert {Path(h["path"]).name for h in hits} == {"2.mp4", "3.mp4"}
    _, hits, _ = ask(run, tree, model, "--min-score", 0.999)
    assert hits == []
    assert run("retrieve", "--like", "x.mp4", tree, "--model", model)[0] == 2


@pytest.mark.parametrize("query", ["a bar", "something new"])
def test_a_later_query_loads_no_torch(run, tree, model, query):
    ask(run, tree, model)
    code = f"""
import sys, io, contextlib
from stopcli.cli.app import main
with contextlib.redirect_stdout(io.StringIO()):
    status = main(["retrieve", "--query", {query!r}, {str(tree)!r}, "--model", {str(model)!r}, "--every", "2"])
print(status, sorted(set(sys.modules) & {{"torch", "open_clip", "av"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []", done.stderr


def test_a_new_query_leaves_the_vision_tower_on_the_disk(run, tree, model, monkeypatch):
    ask(run, tree, model)
    from stopcli.runtime import encoder as encoder_module

    def no_model(*_, **__):
        raise AssertionError("the whole model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr(encoder_module, "load_model", no_model)
        status, out, _ = run(
            "retrieve", "--query", "something new", tree, "--model", model, "--every", 2, "--format", "json"
        )
    assert status == 0
    new = json.loads(out)["data"]
    import stopcli

    vector = stopcli.load(str(model), device="cpu", precision="fp32").encoder.encode_texts(["something new"])[
        0
    ]
    with Index(Path(os.environ["STOPCLI_HOME"]) / "index") as index:
        (space,) = index.spaces()
        kept = index.texts(space.weights, ["something new"])["something new"]
        assert np.allclose(kept, vector, atol=1e-6)
        assert new[0]["score"] == pytest.approx(float((index.vectors(space) @ vector).max()), abs=1e-5)


def test_broken_files_are_tried_once_and_told_each_time(run, tree, model):
    (tree / "broken.mp4").write_bytes(b"no video" * 99)
    status, hits, err = ask(run, tree, model)
    assert status == 1
    assert "broken.mp4" in err
    assert "0 to embed" in run("index", "update", tree, "--model", model, "--every", 2, *CPU)[2]
    status, again, err = ask(run, tree, model)
    assert status == 1
    assert "broken.mp4" in err
    assert again == hits


def test_rm_merge_compact_and_info(run, tree, model, tmp_path):
    told(run, tree, model)
    status, out, _ = run("index", "rm", tree / "deep")
    assert (status, out.strip()) == (0, "2 files dropped")
    status, out, _ = run("index", "compact")
    assert status == 0
    assert "MB freed" in out
    status, out, _ = run("index", "info", "--format", "json")
    assert json.loads(out)["data"][0]["files"] == 2
    status, out, _ = run(
        "index", "merge", Path(os.environ["STOPCLI_HOME"]) / "index", "--index", tmp_path / "other"
    )
    assert status == 0
    assert out.startswith("2 files and ")
    assert run("index", "merge", tmp_path / "nothing", "--index", tmp_path / "other")[0] == 2
    status, out, _ = run("index", "rm", "--all")
    assert out.startswith("2 files dropped")
    assert run("index", "rm")[0] == 2


def test_a_read_only_archive_can_be_searched(run, tree, model):
    tree.chmod(0o555)
    try:
        assert ask(run, tree, model)[0] == 0
    finally:
        tree.chmod(0o755)


# ---------------------------------------------------------------------------------- real processes

WRITER = """
import sys
from pathlib import Path
import numpy as np
from stopcli.index.database import Index, FileRecord, Space
folder, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Index(folder, wait=60) as index:
    for i in range(count):
        with index.writing():
            space = index.space(Space("toy", "w" * 64, "fp32", 4, 8.0, 16))
            rng = np.random.default_rng(abs(hash((who, i))) % 2**32)
            vectors = np.full((i % 5 + 1, 16), i, np.float32)
            index.add(space, [(Path(f"/v/{who}-{i}.mp4"), FileRecord(1, 1, f"{who}-{i}"), 8.0, vectors)])
            if i % 7 == 6:
                index.forget([Path(f"/v/{who}-{i - 3}.mp4")])
            if i % 20 == 19:
                index.compact()
        print(i, flush=True)
"""


def sound(folder) -> int:
    """Check that everything an index says holds together; return how many files it has."""
    with Index(folder) as index:
        spaces = index.spaces()
        if not spaces:
            return 0
        (space,) = spaces
        matrix, entries, files = index.together(
            lambda: (index.vectors(space), index.entries(space), index.files())
        )
        seen = np.zeros(len(matrix), bool)
        for content, e in entries.items():
            number = int(content.split("-")[1])
            assert e.count == number % 5 + 1
            assert (matrix[e.first : e.first + e.count] == number).all(), content
            assert not seen[e.first : e.first + e.count].any()
            seen[e.first : e.first + e.count] = True
        for known in files.values():
            assert known.content in entries
        return len(files)


def test_fifty_kills_at_random_points_lose_at_most_the_last_batch(tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    rng = np.random.default_rng(0)
    folder = tmp_path / "index"
    for kill in range(50):
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), f"k{kill}", "400"], stdout=subprocess.PIPE, text=True
        )
        process.stdout.readline()  # it writes
        time.sleep(float(rng.uniform(0, 0.12)))
        process.send_signal(signal.SIGKILL)
        confirmed = [line for line in process.communicate()[0].splitlines() if line.strip()]
        sound(folder)
        with Index(folder) as index:
            (space,) = index.spaces()
            have = index.entries(space)
        last = int(confirmed[-1]) if confirmed else 0
        dropped = {i - 3 for i in range(6, last + 2, 7)}
        for i in range(last + 1):
            assert f"k{kill}-{i}" in have or i in dropped, (kill, i, last)


KILLED = """
import av, open_clip, os, shutil, signal, sys, time  # what each child would load again
import numpy as np
from pathlib import Path
from stopcli.index import engine as archive
from stopcli.index import sync as changes
from stopcli.runtime import encoder as runtime
from stopcli.cli.app import main
from stopcli.index.database import Index

tree, folder, model = sys.argv[1:]
changes.COMMIT_EVERY = 0.0  # a batch is one file
rng = np.random.default_rng(0)
command = ["index", "update", tree, "--index", folder, "--model", model, "--every", "1", "--quiet",
           "--device", "cpu", "--precision", "fp32", "--batch-size", "1"]

def rows():
    with Index(Path(folder)) as index:
        return {c: index.vectors(s)[e.first : e.first + e.count].tobytes()
                for s in index.spaces() for c, e in index.entries(s).items()}

update = archive.update

def told(*arguments):
    os.write(tell, b".")  # the model is loaded, embedding begins
    return update(*arguments)

archive.update = told
before, landed, window = {}, 0, 0.2
for kill in range(50):
    begun, tell = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(command))
    os.close(tell)
    if kill % 5:
        os.read(begun, 1)  # or the child is gone
    os.close(begun)
    time.sleep(float(rng.uniform(0, window)))
    ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    after = rows() if (Path(folder) / "index.sqlite").exists() else {}
    assert before.items() <= after.items(), (kill, "what was kept is lost or altered")
    landed += bool(not ended and len(before) < len(after) < 12)
    window = min(1.0, window * (0.8 if len(after) == 12 else 1.25 if len(after) == len(before) else 1.0))
    before = after
    if len(after) == 12:  # all is done: from the beginning
        shutil.rmtree(folder)
        before = {}
archive.update = update
print(landed, main(command))
"""


def test_fifty_kills_of_the_command_lose_at_most_the_file_in_hand(tmp_path, model):
    tree, folder = tmp_path / "tree", tmp_path / "index"
    tree.mkdir()
    for i in range(12):
        write_video(tree / f"{i:02d}.mp4", frames=60 + 10 * i)
    script = tmp_path / "kill.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tree), str(folder), str(model)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    landed, status = done.stdout.split()
    assert int(landed) >= 5, "hardly any kill fell between two files"
    assert status == "0"

    def content(at):
        with Index(at) as index:
            (space,) = index.spaces()
            matrix, entries = index.vectors(space), index.entries(space)
            return {
                (path.name, matrix[e.first : e.first + e.count].tobytes())
                for path, known in index.files().items()
                for e in (entries[known.content],)
            }

    undisturbed = tmp_path / "again"
    subprocess.run(
        [sys.executable, "-m", "stopcli", "index", "update", str(tree), "--index", str(undisturbed), "--model",
         str(model), "--every", "1", "--quiet", *CPU, "--batch-size", "1"],
        check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert content(folder) == content(undisturbed)
    assert len(content(folder)) == 12


def test_two_processes_write_one_index(tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    folder = tmp_path / "index"
    both = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), who, "60"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for who in ("a", "b")
    ]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert sound(folder) == 2 * (60 - 8)


def test_a_reader_sees_one_state_while_another_process_compacts(tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    folder = tmp_path / "index"
    writer = subprocess.Popen(
        [sys.executable, str(script), str(folder), "w", "400"], stdout=subprocess.PIPE, text=True
    )
    writer.stdout.readline()
    seen = set()
    while writer.poll() is None:
        seen.add(sound(folder))
    writer.communicate()
    assert writer.returncode == 0
    assert len(seen) > 5, "the reader hardly read while the writer wrote"
