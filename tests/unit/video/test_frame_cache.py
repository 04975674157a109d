"""Frames on the disk: those that commands see, decoded once, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import write_video
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
