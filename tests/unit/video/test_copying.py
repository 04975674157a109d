"""Files that are copied: whatever they are called, and however long it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import write_video
from stopcli.tasks.clips import save_clip
from stopcli.video import container
from stopcli.video.cut.chapters import write_chapters
from stopcli.video.workers.pool import read_facts


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", frames=75, fps=25).rename("2024-05-01T10:30:00.mp4")
    assert save_clip("2024-05-01T10:30:00.mp4", 1, 2, Path("10:30.mp4")).mode == "copy"
    assert read_facts("10:30.mp4").duration == pytest.approx(1, abs=0.1)
    write_chapters("2024-05-01T10:30:00.mp4", "11:30.mkv", [(0.0, 1.0, "a")])
    assert read_facts("11:30.mkv").duration > 2


def test_copying_says_that_it_goes_on(tmp_path, monkeypatch):
    """Who waits for it ends what says nothing for half a minute."""
    beats = []
    monkeypatch.setattr(container, "on_packet", lambda: beats.append(1))
    film = write_video(tmp_path / "a.mp4", frames=75, fps=25)
    write_chapters(str(film), str(tmp_path / "c.mkv"), [(0.0, 1.0, "a")])
    assert len(beats) > 10
