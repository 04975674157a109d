"""What the page stands on: one heavy job at a time, files that never pile up, advice, videos by id."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import write_model, write_video
from stopcli.data.table import Row
from stopcli.errors import CannotWrite, FileMissing, InputError, UsageError
from stopcli.fileio import append_line, open_own, write_text
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.tasks.labelling.rows import Labelled
from stopcli.tasks.labelling.table import LabelTable
from stopcli.train.run_folder import RunFolder
from stopcli.web.work.adapting import Adapting, _command_of, advise, require_clips
from stopcli.web.work.footage import Footage
from stopcli.web.work.jobs import Jobs
from stopcli.web.work.media import Media, forget_old
from stopcli.web.work.question import Question, moment_id, split_id
from stopcli.web.work.workspace import Models, Settings, Workspace, _answered


def test_work_is_done_one_piece_at_a_time_and_the_same_waits_only_once():
    jobs, order, begin = Jobs(), [], threading.Event()
    first = jobs.start("one", lambda _: (begin.wait(30), order.append("one")))
    for _ in range(50):
        if first.state == "running":
            break
        time.sleep(0.02)
    again = jobs.start(
        "one", lambda _: order.append("one again")
    )  # it runs: what came since must be seen too
    twice = jobs.start("one", lambda _: order.append("never"))
    other = jobs.start("two", lambda _: order.append("two"))
    assert again is twice
    assert again is not first
    assert [job["state"] for job in jobs.listing()] == ["running", "waiting", "waiting"]
    begin.set()
    other.over.wait(30)
    assert order == ["one", "one again", "two"]
    assert not jobs.busy()
    jobs.close()


def test_what_is_quick_does_not_wait_for_what_is_not():
    jobs, begin = Jobs(), threading.Event()
    slow = jobs.start("indexing", lambda _: begin.wait(60))
    quick = jobs.start("writing", lambda _: {"file": "a.edl"}, quick=True)
    assert quick.over.wait(60)
    assert (quick.state, slow.pending) == ("done", True)
    begin.set()
    assert slow.over.wait(60)
    jobs.close()


def test_work_that_fails_says_why_and_stops_nothing():
    jobs = Jobs()

    def fail(_):
        raise InputError("the film is damaged")

    def break_down(_):
        raise KeyError("surprise")

    for work, words in ((fail, "the film is damaged"), (break_down, "this should not have happened")):
        job = jobs.start(str(work), work)
        job.over.wait(30)
        assert job.state == "failed"
        assert words in job.words
    done = jobs.start("well", lambda _: {"n": 1})
    done.over.wait(30)
    assert (done.state, done.to_dict()["result"]) == ("done", {"n": 1})
    jobs.close()


def test_what_failed_is_forgotten_once_it_succeeds():
    jobs, full = Jobs(), [True, False]

    def write(_):
        if full.pop(0):
            raise CannotWrite("the disk is full")

    for states in (["failed"], ["done"]):
        jobs.start("indexing", write).over.wait(30)
        assert [job["state"] for job in jobs.listing()] == states
    jobs.close()


def _refuse(_):
    raise OSError


def test_a_process_is_known_by_its_command_where_there_is_no_proc(monkeypatch):
    for proc in (True, False):
        if not proc:
            if shutil.which("ps") is None:
                pytest.skip("no ps here")
            monkeypatch.setattr(Path, "read_bytes", _refuse)
            monkeypatch.setattr(Path, "exists", lambda _: False)
        assert b"python" in _command_of(os.getpid())
        assert _command_of(2**22 + 1) == b""


def test_work_is_called_off_when_the_page_closes():
    jobs, reached = Jobs(), threading.Event()

    def work(job):
        while True:
            reached.set()
            job.report(1, 2)
            time.sleep(0.01)

    job = jobs.start("long", work)
    reached.wait(30)
    jobs.close()
    assert job.over.wait(30)
    assert job.state == "stopped"


@pytest.mark.parametrize(("counts", "ready", "more"), [
    ({}, False, 16), ({"a": 9}, False, 16), ({"a": 9, "b": 1}, False, 22), ({"a": 2, "b": 2}, True, 28),
    ({"a": 16, "b": 20}, True, 0), ({"a": 10, "background": 2}, True, 6),
])  # fmt: skip
def test_advice_says_how_many_more_clips_are_worth_labelling(counts, ready, more):
    found = advise(counts)
    assert (found.ready, found.more) == (ready, more)
    assert str(found.more) in found.words or not found.ready or not more


def test_files_of_the_page_stay_below_their_limit_and_the_oldest_go_first(tmp_path):
    video = write_video(tmp_path / "a.mp4", frames=30, fps=10)
    media = Media(tmp_path / "page")
    made = [media.poster(video, at) for at in (0.0, 1.0)]
    assert media.poster(video, 0.0) == made[0]
    size = made[0].stat().st_size
    small = Media(tmp_path / "small", limit=int(2.5 * size))
    files = [small.poster(video, at) for at in (0.0, 0.7, 1.4, 2.1)]
    for i, file in enumerate(files):
        if file.exists():
            os.utime(file, (i, i))
    assert sum(f.stat().st_size for f in (tmp_path / "small").iterdir()) <= 2.5 * size + 1000
    assert files[-1].exists()
    assert (tmp_path / "page").stat().st_mode & 0o077 == 0


def test_what_browsers_play_is_shown_as_it_is_and_the_rest_is_copied(tmp_path):
    fine = write_video(tmp_path / "a.mp4", frames=20, fps=10)
    other = write_video(tmp_path / "b.mkv", frames=20, fps=10)
    media = Media(tmp_path / "page")
    assert media.way(fine) == "file"
    assert media.way(other) == "copy"
    copied = media.copy(other, 0.0, 2.0)
    assert media.way(copied) == "file"
    assert media.length(copied) == pytest.approx(2.0, abs=0.15)
    assert media.length(media.loop(other, 0.5, 1.5)) == pytest.approx(1.0, abs=0.15)
    with pytest.raises(FileMissing):
        media.facts(tmp_path / "gone.mp4")


def test_what_nobody_fetched_goes_after_a_day(tmp_path):
    for name, age in (("old", 100_000), ("new", 10)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    forget_old(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["new"]
    forget_old(tmp_path / "nowhere")


def test_videos_have_ids_and_links_out_of_the_folder_have_none(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    inside = write_video(folder / "a.mp4", frames=5)
    outside = write_video(tmp_path / "b.mp4", frames=5)
    (folder / "link.mp4").symlink_to(outside)
    (folder / "near.mp4").symlink_to(inside)
    footage = Footage([folder])
    assert {p.name for p in footage.scan()} == {"a.mp4", "near.mp4"}
    assert footage.path_of(footage.id_of(inside)) == inside
    assert footage.title_of(str(inside)) == "a.mp4"
    for site in ("creek", "ridge"):
        (folder / site / "05-03").mkdir(parents=True)
        write_video(folder / site / "05-03" / "a.mp4", frames=5)
    footage.scan()
    assert footage.title_of(str(folder / "creek" / "05-03" / "a.mp4")) == "creek/05-03/a.mp4"
    for wrong in (footage.id_of(outside), footage.id_of(folder / "link.mp4"), "", "../b.mp4"):
        with pytest.raises(FileMissing):
            footage.path_of(wrong)
    assert {p.name for p in Footage([folder / "link.mp4"]).scan()} == {"link.mp4"}  # it was named itself


def test_answers_go_to_the_rows_that_are_nearly_the_same_stretch(tmp_path):
    film = write_video(tmp_path / "a.mp4", frames=5)
    footage = Footage([tmp_path])
    footage.scan()
    table = tmp_path / "labels.csv"

    def answered(rows, answers):
        table.write_text("path,start,end,label\n" + "".join(f"a.mp4,{row}\n" for row in rows))
        with LabelTable(table) as labels:
            media = SimpleNamespace(is_end=lambda *_: False)
            space = SimpleNamespace(footage=footage, table=labels, media=media)
            space._place = lambda moment: Workspace._place(space, moment)
            file = Footage.id_of(film)
            named = {moment_id(file, *times): label for times, label in answers.items()}
            return {place[1:]: label for place, label in _answered(space, named).items()}

    assert answered(["7.50,10.00,x"], {(7.4, 10.0): "y"}) == {(7.5, 10.0): "y"}
    assert answered(["0,600,x"], {(0.0, 660.0): "y"}) == {(0.0, 660.0): "y"}
    two = answered(["0,80,x"], {(0.0, 80.2): "y", (0.0, 80.4): "z"})
    assert two == {(0.0, 80.0): "y", (0.0, 80.4): "z"}
    trimmed = answered(["0,8,run", "0.3,8,jump"], {(0.0, 8.0): None, (0.2, 8.0): "run"})
    assert trimmed == {(0.0, 8.0): None, (0.2, 8.0): "run"}
    assert answered(["0,8,", "0.1,8.1,jump"], {(0.0, 8.04): "y"}) == {(0.1, 8.1): "y"}


def test_moments_have_ids_to_the_millisecond():
    name = moment_id("0123456789abcdef", 1.2345, 2.0)
    assert split_id(name) == ("0123456789abcdef", 1.234, 2.0)
    for wrong in (
        "",
        "x",
        "0123456789abcdef-2-1",
        "0123456789abcdef-1-1",
        "0123456789abcdef--1-2",
        name + "\n",
    ):
        with pytest.raises(UsageError):
            split_id(wrong)
    with pytest.raises(ValueError, match="like"):
        Question(like=["../../etc/passwd"])


@pytest.mark.parametrize(
    "record", ["", "[]", "null", "{}", '{"pid": -1}', '{"pid": 1}', '{"pid": "x", "options": ["--help"]}']
)
def test_a_record_that_others_wrote_is_no_running_training(tmp_path, record):
    table = tmp_path / "labels.csv"
    (tmp_path / ".labels-model.run.json").write_text(record)
    (tmp_path / ".labels-model-old.run.json").write_text(record)
    (tmp_path / ".labels-model.out").write_text('{"data": [{"validation": NaN}]}')
    adapting = Adapting(table)
    assert [run.name for run in adapting.runs()] == ["labels-model"]
    assert adapting.read("labels-model").state in ("failed", "stopped")
    with pytest.raises(UsageError):
        adapting.stop("labels-model")
    with pytest.raises(UsageError):
        adapting.read("../labels-model")


def test_links_in_a_folder_of_videos_lead_a_training_nowhere(tmp_path, monkeypatch):
    """A folder that others made may hold links with the names of a training's files."""
    (tmp_path / "videos").mkdir()
    table, mine = tmp_path / "videos" / "labels.csv", tmp_path / "thesis.txt"
    table.write_text("path,label\n")
    mine.write_text("mine")
    for kind in ("log", "out"):
        (table.parent / f".labels-model.{kind}").symlink_to(mine)
    asked = []
    monkeypatch.setattr(Adapting, "_spawn", lambda self, name, *_: asked.append(name))
    Adapting(table).start("mini")
    assert asked == ["labels-model-2"]  # a name that nobody has prepared
    with pytest.raises(CannotWrite):
        open_own(table.parent / ".labels-model.out", "wb")
    with pytest.raises(CannotWrite):
        append_line(table.parent / ".labels-model.log", "$ stop finetune")
    assert mine.read_text() == "mine"


def test_mistakes_call_labels_and_files_as_the_table_does(tmp_path):
    folder = RunFolder(tmp_path / "labels-model")
    folder.path.mkdir()
    path = tmp_path / "a\u200fb.mp4"
    folder.write_predictions([(Row(1, path, "-5"), "'tis", 0.9), (Row(2, Path("=1+1.mp4"), "a"), "b", 0.5)])
    write_text(tmp_path / ".labels-model.run.json", "{}")
    found = [
        (row["path"], row["label"], row["predicted"])
        for row in Adapting(tmp_path / "labels.csv").held_out("labels-model")
    ]
    assert found == [(str(path), "-5", "'tis"), ("./=1+1.mp4", "a", "b")]


def test_only_the_first_model_and_the_one_in_use_stay_in_memory(tmp_path):
    videos, index, cache = tmp_path / "videos", tmp_path / "index", tmp_path / "cache"
    videos.mkdir()
    write_video(videos / "a.mp4", 8)
    names = [
        str(write_model(tmp_path / name, seed=seed)) for seed, name in enumerate(("one", "two", "three"))
    ]
    models = Models(resolve, lambda files: Encoder(files, EncoderOptions(device="cpu")))
    with LabelTable(tmp_path / "labels.csv") as table:
        space = Workspace(Footage([videos]), table, names[0], models, Settings(index, cache))
        opened = [space.model, *map(space.add_model, names[1:])]

        def held():
            while space.jobs.busy():
                time.sleep(0.02)
            space.on_lane(lambda: None)  # what was asked before is done
            return [space.archive(name)._encoder is not None for name in opened]

        assert held() == [True, False, False]
        assert all(space.archive(name).size for name in opened)
        space.use(opened[1])
        assert space.archive(opened[1]).encoder is not None  # when it is asked
        assert held() == [True, True, False]
        write_video(videos / "b.mp4", 12)
        space.rescan()  # each model embeds it
        assert held() == [True, True, False]
        space.use(opened[2])
        assert held() == [True, False, False]
        space.close()


def test_a_training_does_without_clips_that_are_gone_and_never_without_a_label(tmp_path):
    files = [tmp_path / f"{i}.mp4" for i in range(6)]
    for file in files:
        file.touch()
    rows = [Labelled(file, 0.0, 1.0, label) for file, label in zip(files, "aaabbb", strict=True)]
    assert require_clips(rows) == 0
    files[0].unlink()
    assert require_clips(rows) == 1
    files[1].unlink()
    with pytest.raises(UsageError, match=r"2 of 3 clips of 'a' are gone, such as 0\.mp4; bring them back"):
        require_clips(rows)
    with pytest.raises(UsageError, match="at least two labels"):
        require_clips(rows[3:])
    more = [Labelled(tmp_path / "away.mp4", 0.0, 1.0, "c")]
    with pytest.raises(UsageError, match="'c' needs at least 2 clips"):
        require_clips([*rows[2:], Labelled(files[2], 1.0, 2.0, "a"), *more])
    with pytest.raises(UsageError, match="2 of 2 clips of 'c' are gone"):
        require_clips([*rows[2:], Labelled(files[2], 1.0, 2.0, "a"), *more, *more])
