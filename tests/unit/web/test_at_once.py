"""What two ask for at once, what is asked for now, and what is left out of an answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import write_model, write_video
from stopcli.hub.registry import resolve
from stopcli.runtime.encoder import Encoder, EncoderOptions
from stopcli.tasks.labelling.table import LabelTable
from stopcli.web.work.answering import Answering
from stopcli.web.work.asking import Asking
from stopcli.web.work.footage import Footage
from stopcli.web.work.media import Media
from stopcli.web.work.question import Question
from stopcli.web.work.workspace import Models, Settings, Workspace


@pytest.fixture
def space(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(4):
        write_video(videos / f"{i}.mp4", frames=12 + 12 * i, fps=6)
    together = threading.Barrier(2)

    def find(name):
        if name.endswith("two"):
            together.wait(30)
        return resolve(name)

    models = Models(find, lambda files: Encoder(files, EncoderOptions(device="cpu")))
    first = str(write_model(tmp_path / "one", seed=1))
    with LabelTable(tmp_path / "labels.csv") as table:
        space = Workspace(
            Footage([videos]), table, first, models, Settings(tmp_path / "index", tmp_path / "cache")
        )
        settled(space)
        yield space
        space.close()


def settled(space):
    while space.jobs.busy():
        time.sleep(0.02)
    space.on_lane(lambda: None)


def test_a_model_that_is_asked_for_twice_at_once_has_all_moments(space, tmp_path):
    """The second one's index was read, and the first one's filled."""
    other = str(write_model(tmp_path / "two", seed=2))
    begin = threading.Event()
    space.jobs.start("other work", lambda _: begin.wait(60))
    with ThreadPoolExecutor(2) as both:
        names = list(both.map(space.add_model, [other, other]))
    begin.set()
    settled(space)
    assert space.archive(names[0]).size == space.archive(space.model).size > 0


def test_the_page_counts_all_that_is_labelled_and_shows_some(space):
    moments = Answering(space).answer(Question(top_k=9)).moments
    space.judge({m.id: "x" for m in moments[:3]})
    answer = Answering(space).answer(Question(queue="labelled", top_k=2))
    assert (len(answer.moments), answer.total) == (2, 3)


def test_what_was_trained_on_is_left_out_even_where_nothing_is_asked(space):
    archive = space.archive(space.model)

    def found(without=()):
        return {m.id for m in space.on_lane(lambda: Asking(archive).find(Question(top_k=99), None, without))}

    every = found()
    (row, other) = archive.view.selection(Question()).rows()[:2].tolist()
    assert len(found([row, other])) == len(every) - 2


def test_what_is_asked_for_now_is_kept_however_large(tmp_path):
    video = write_video(tmp_path / "a.mp4", frames=60, fps=10)
    media = Media(tmp_path / "page", limit=1000)
    poster = media.poster(video, 0.0)
    clip = media.clip(video, 0.0, 5.0)
    assert clip.stat().st_size > 1000
    assert not poster.exists()
