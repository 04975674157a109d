"""Subtitles: SubRip and WebVTT."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from stopcli.data.annotations.media import Cells, beside
from stopcli.data.tablefile import read_text
from stopcli.video.discovery import EXTENSIONS

TIME = r"((?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3})"
CUE = re.compile(rf"^\s*{TIME}\s+-->\s+{TIME}")
VIDEO_NOTE = re.compile(r"^NOTE video: (.+)$", re.MULTILINE)  # in WebVTT, as `stop` exports it
TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


def read_subtitles(path: Path, _: list[str]) -> Iterator[Cells | str]:
    """Yield the cues of a subtitle file; its video has the same name, or is named in a note."""
    text = read_text(path)
    beside_it = sorted(path.parent.glob(f"{_literal(path.stem)}.*"))
    video = next((p.name for p in beside_it if p.suffix.lower() in EXTENSIONS), None)
    if named := VIDEO_NOTE.search(text):
        video = beside(path, named[1].strip())
    if video is None:
        raise ValueError(f"no video {path.stem}.mp4, .mkv or the like beside it")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    cues = [(i, times) for i, line in enumerate(lines) if (times := CUE.match(line))]
    ends = [i for i, _ in cues[1:]] + [len(lines)]
    for (i, times), after in zip(cues, ends, strict=False):
        words: list[str] = []
        for line in lines[i + 1 : after]:
            if not line.strip():
                break
            words.append(line.strip())
        else:  # no empty line: the next cue's number may be the last
            if after < len(lines) and words and words[-1].isdigit():
                words.pop()
        text = html.unescape(TAG.sub("", " ".join(words))).strip()
        if text:
            yield {"path": video, "text": text, "start": times[1], "end": times[2]}


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
