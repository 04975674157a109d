"""Which videos the paths on a command line mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import InputError
from stopcli.video.reader import open_video

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTENSIONS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m2ts",
    ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm",
    ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})  # fmt: skip


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
