"""The cache of decoded frames where the disk or the file does not play along."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import FileMissing, UnreadableVideo
from stopcli.video.cache import AROUND, FrameCache
from stopcli.video.clips import read_frames


def test_a_full_disk_costs_time_and_no_frames(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", frames=8)
    cache = FrameCache(tmp_path / "frames")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    for decoded in (1, 2):
        pixels = cache.read(path, 2, 32)
        assert np.array_equal(pixels[1::AROUND], read_frames(path, 2, 32).pixels)
        assert cache.decoded == decoded
    assert list((tmp_path / "frames").iterdir()) == []


def test_the_limit_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("STOPCLI_FRAMES_GB", "0.5")
    assert FrameCache(tmp_path / "frames").limit == 1 << 29
    assert FrameCache(tmp_path / "frames", limit=7).limit == 7


def test_what_a_killed_process_left_half_written_is_evicted_first(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=8)
    (tmp_path / "frames").mkdir()
    left = tmp_path / "frames" / ".0123-4567.part.npy"
    left.write_bytes(bytes(1000))
    FrameCache(tmp_path / "frames", limit=AROUND * 2 * 32 * 32 * 3).read(path, 2, 32)
    assert not left.exists()


def test_a_clip_that_is_no_file_has_the_readers_fault(tmp_path):
    cache = FrameCache(tmp_path / "frames")
    with pytest.raises(FileMissing, match="no such file"):
        cache.read(tmp_path / "none.mp4", 2, 32)
    with pytest.raises(UnreadableVideo, match="is a folder"):
        cache.read(tmp_path, 2, 32)
