"""Moments of one video as subtitles: SubRip and WebVTT."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from stopcli.output.export.marks import Mark


def srt(marks: Sequence[Mark], _: Path) -> str:
    """Return the cues of a SubRip file."""
    cues = (f"{i}\n{_times(m, ',')}\n{_line(m.text)}\n" for i, m in enumerate(marks, 1))
    return "\n".join(cues)


def vtt(marks: Sequence[Mark], video: Path) -> str:
    """Return the cues of a WebVTT file, with a note that names the video."""
    cues = (f"{_times(m, '.')}\n{html.escape(_line(m.text), quote=False)}\n" for m in marks)
    return "\n".join(["WEBVTT\n", f"NOTE video: {_line(str(video)).replace('-->', '->')}\n", *cues])


def _line(text: str) -> str:
    """Return a text on one line, which no reader takes for another part of the file."""
    return " ".join(text.split()).replace("-->", "->")


def _times(mark: Mark, point: str) -> str:
    return f"{_time(mark.start, point)} --> {_time(mark.end, point)}"


def _time(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{milliseconds:03d}"
