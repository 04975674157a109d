"""Which videos the paths on a command line mean."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import InputError
from stopcli.video.reader import open_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTENSIONS = frozenset(
    [
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".gif",
        ".h264",
        ".hevc",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogm",
        ".ogv",
        ".qt",
        ".rm",
        ".rmvb",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)


_SAMPLE = 1 << 20  # bytes read at the head, in the middle and at the tail


def content_key(path: Path) -> str:
    """Return a key of what a file holds: its size and a hash of its head, middle and tail.

    Moving or renaming a file keeps its key, and a file of 20 GB costs milliseconds.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        places = (0,) if size <= 3 * _SAMPLE else (0, (size - _SAMPLE) // 2, size - _SAMPLE)
        for place in places:
            stream.seek(place, os.SEEK_SET)
            digest.update(stream.read(3 * _SAMPLE if len(places) == 1 else _SAMPLE))
    return digest.hexdigest()[:32]


def find_videos(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Yield files as given, and the videos in folders, recursively, in sorted order.

    Hidden files and links to folders are skipped. A file in a folder counts by its extension; one
    without an extension counts if it opens as a video. What is named is taken at its word, even
    if it is not there: reading it will say so.
    """
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder  # reading it will say why not
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(entry)
        elif entry.suffix.lower() in EXTENSIONS or (not entry.suffix and _opens(entry)):
            yield entry


def _opens(path: Path) -> bool:
    try:
        with open_video(path):
            return True
    except InputError:
        return False
