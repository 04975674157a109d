"""An assistant hears of videos that come later, and of what keeps them from being searched."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stopcli.errors import IndexUnusable
from stopcli.web import assistant
from stopcli.web.assistant import Assistant


class Folder:
    """An archive of names; ``fault`` keeps it from being looked through."""

    files, failures, fault = SimpleNamespace(title="toy"), (), None

    def __init__(self, place):
        self.footage = SimpleNamespace(paths=(place,))
        self.there, self.found, self.looks = ["a.mp4"], [], 0

    def open(self):
        pass

    close = open

    @property
    def view(self):
        chosen = SimpleNamespace(paths=tuple(self.found), copies={})
        return SimpleNamespace(selection=lambda: chosen, size=len(self.found))

    def refresh(self, _job):
        self.looks += 1
        if self.fault:
            raise IndexUnusable(self.fault)
        self.found = list(self.there)


@pytest.fixture
def asked(tmp_path):
    (tmp_path / "videos").mkdir()
    folder = Folder(tmp_path / "videos")
    helper = Assistant(folder, tmp_path / "cache", None)
    yield folder, helper
    helper.close()


def wait(helper):
    for job in list(helper.jobs._jobs):
        assert job.over.wait(10)


def test_what_arrives_later_is_found(asked, monkeypatch):
    folder, helper = asked
    wait(helper)
    folder.there.append("b.mp4")
    assert helper.list_videos()["paths"] == ["a.mp4"]
    wait(helper)
    assert folder.looks == 1  # not at every question
    monkeypatch.setattr(assistant, "AGAIN", 0.0)
    helper.list_videos()
    wait(helper)
    assert helper.list_videos()["paths"] == ["a.mp4", "b.mp4"]


def test_what_keeps_videos_from_being_searched_is_said(asked, monkeypatch):
    folder, helper = asked
    wait(helper)
    monkeypatch.setattr(assistant, "AGAIN", 0.0)
    folder.fault = "idx: is read-only"
    helper.list_videos()
    wait(helper)
    assert helper.list_videos()["not searched"] == ["idx: is read-only"]


def test_a_folder_that_is_away_is_said_and_nothing_forgotten(asked, monkeypatch):
    folder, helper = asked
    wait(helper)
    monkeypatch.setattr(assistant, "AGAIN", 0.0)
    (place,) = folder.footage.paths
    place.rename(place.with_name("away"))
    helper.list_videos()
    wait(helper)
    assert folder.looks == 1
    told = helper.list_videos()
    assert told["paths"] == ["a.mp4"]
    assert "videos: is not there now" in told["not searched"][0]
