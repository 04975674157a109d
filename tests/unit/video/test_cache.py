"""Frames on the disk: those that commands see, decoded once, bounded; and what the disk may do."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from conftest import write_video
from stopcli.errors import FileMissing, UnreadableVideo
from stopcli.video.cache import AROUND, FrameCache
from stopcli.video.clips import read_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "00.mp4", frames=12, fps=6)


def test_cached_frames_are_those_that_commands_see(clip, tmp_path):
    cache = FrameCache(tmp_path / "frames")
    first = cache.read(clip, 4, 32)
    again = cache.read(clip, 4, 32)
    assert cache.decoded == 1
    assert np.array_equal(first, again)
    assert np.array_equal(first[1::AROUND], read_frames(clip, 4, 32).pixels)


def test_another_run_and_a_moved_file_find_the_frames(clip, tmp_path):
    FrameCache(tmp_path / "frames").read(clip, 4, 32)
    moved = tmp_path / "moved.mp4"
    moved.write_bytes((clip).read_bytes())
    other = FrameCache(tmp_path / "frames")
    other.read(moved, 4, 32)
    assert other.decoded == 0


def test_the_cache_is_bounded_and_evicts_what_others_left(tmp_path):
    one = AROUND * 4 * 32 * 32 * 3
    draws = [write_video(tmp_path / f"{i}.mp4", frames=8 + i, fps=6) for i in range(5)]
    before = FrameCache(tmp_path / "frames", limit=int(2.5 * one))
    for path in draws[:2]:
        before.read(path, 4, 32)
    cache = FrameCache(tmp_path / "frames", limit=int(2.9 * one))
    for path in draws[2:]:
        cache.read(path, 4, 32)
    assert len(list((tmp_path / "frames").glob("*.npy"))) == 2
    for path in draws[2:]:  # the two that fitted stay; the third is decoded anew
        cache.read(path, 4, 32)
    assert cache.decoded == 4


def test_a_cut_file_in_the_cache_is_decoded_again(clip, tmp_path):
    cache = FrameCache(tmp_path / "frames")
    whole = np.array(cache.read(clip, 4, 32))
    (file,) = (tmp_path / "frames").glob("*.npy")
    file.write_bytes(file.read_bytes()[:500])
    assert np.array_equal(cache.read(clip, 4, 32), whole)


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
