"""Films that the page makes, or finds changed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import write_model, write_video
from stopcli.hub.registry import resolve
from stopcli.index.engine import SearchEngine
from stopcli.runtime.encoder import Encoder
from stopcli.video.workers.pool import NotWanted
from stopcli.web.work.archive import is_other
from stopcli.web.work.media import Media


def test_a_film_that_nobody_waits_for_any_more_is_not_made(tmp_path):
    film = write_video(tmp_path / "a.avi", frames=240, size=(320, 240), codec="mpeg4")
    media, asked = Media(tmp_path / "page"), []

    def wanted():
        asked.append(1)
        return len(asked) < 2

    with pytest.raises(NotWanted):
        media.copy(film, 0, 8, encode=True, wanted=wanted)
    assert len(asked) == 2
    assert list((tmp_path / "page").iterdir()) == []
    with pytest.raises(NotWanted):
        media.loop(film, 0, 3, lambda: False)
    with ThreadPoolExecutor(2) as pool:  # of two that wait for one film, one leaves
        media._slots[".mp4"].acquire()
        media._slots[".mp4"].acquire()
        leaving = [True]
        first = pool.submit(media.loop, film, 0, 2, lambda: leaving[0])
        second = pool.submit(media.loop, film, 0, 2)
        while len(next(iter(media._waiting.values()), ())) < 2:
            time.sleep(0.01)
        leaving[0] = False
        media._slots[".mp4"].release(2)
        assert first.result() == second.result()
    assert not media._waiting
    assert media.loop(film, 0, 3).stat().st_size  # another worker does it


def test_a_film_of_another_length_is_another_film(tmp_path):
    film, model = tmp_path / "GOPR0001.mp4", write_model(tmp_path / "toy")
    write_video(film, frames=50)

    def look():
        with SearchEngine(
            tmp_path / "index", resolve(str(model)), lambda: Encoder(resolve(str(model)))
        ) as engine:
            update = engine.plan([film], [tmp_path], 2.0)
            return update, engine.update([film], [tmp_path], 2.0)

    _, known = look()
    for frames, other in ((50, False), (80, True)):
        write_video(film, frames=frames, options={"g": "5", "crf": "30"})
        before = known.diff.present[film].content
        now, known = look()
        assert now.diff.present[film].content != before
        assert is_other(now, film, before) is other
        assert is_other(known, film, before) is other
        assert is_other(now, film, "0" * 32) is False
