"""Filmstrips in a terminal are made of half blocks where it draws no pictures."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from conftest import write_video
from stopcli.output.terminal import filmstrip, show
from stopcli.results import Hit


@pytest.fixture
def console(monkeypatch):
    monkeypatch.setitem(sys.modules, "textual_image.renderable", None)  # as if it were not installed
    return Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)


def test_a_moment_is_a_strip_of_colored_half_blocks_under_its_name(tmp_path, console):
    clip = write_video(tmp_path / "a.mp4")
    show(console, [Hit("x", 1, str(clip), 0.0, 2.0, 0.25), Hit("x", 2, str(clip), None, None, 0.2)])
    out = console.file.getvalue()
    assert out.count("▀") > 200
    assert "38;2;" in out  # in color
    assert "1. 0.250" in out
    assert "0:00.0-0:02.0" in out


def test_a_name_cannot_steer_the_terminal_and_a_lost_video_has_no_strip(tmp_path, console):
    lost = Hit("x", 1, str(tmp_path / "\x1b[2Jgone.mp4"), 0.0, 2.0, 0.25)
    show(console, [lost])
    out = console.file.getvalue()
    assert "\x1b[2J" not in out
    assert "▀" not in out
    assert filmstrip(lost, 16) is None


def test_a_strip_is_as_high_as_asked_for(tmp_path):
    clip = write_video(tmp_path / "a.mp4")
    strip = filmstrip(Hit("x", 1, str(clip), 0.0, 2.0, 0.25), 24)
    assert strip.shape[0] == 24
    assert strip.shape[1] == 6 * 32  # 128 by 96 pixels, six times
