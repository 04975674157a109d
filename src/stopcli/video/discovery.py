"""Which videos the paths on a command line mean."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stopcli.errors import InputError
from stopcli.fileio import is_folder, short_name
from stopcli.video.workers.pool import read_facts

EXTENSIONS = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265",
    ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mod",
    ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb",
    ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
})  # fmt: skip


SHARED = {".ts", ".mod"}  # of films, and of TypeScript and of Go
MOST_FOLDERS, MOST_FOLDER = 6, 30  # in the name of a file, and bytes of each
MOST_TEXT, HEAD = 4 << 20, 4096  # bytes: of a text, and of its beginning


def find_videos(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Yield files as given, and the videos in folders, recursively, in sorted order.

    Hidden files and links to folders are skipped. A file in a folder counts by its extension; one
    without an extension counts if it opens as a video. What is named is taken at its word, even
    if it is not there: reading it will say so.
    """
    for path in map(Path, paths):
        if is_folder(path):
            yield from (p for p in find_files(path) if is_video(p) or is_folder(p))
        else:
            yield path


def could_be_video(path: Path) -> bool:
    """Say whether the name of a file in a folder may be a video's."""
    return not path.suffix or path.suffix.lower() in EXTENSIONS


def is_video(path: Path) -> bool:
    """Say whether a file in a folder counts as a video: by its extension; without one, if it opens."""
    kind = path.suffix.lower()
    if kind in SHARED:
        return not _is_text(path)
    return kind in EXTENSIONS or (not kind and not _is_text(path) and opens(path))


def _is_text(path: Path) -> bool:
    """Say whether a file is small and holds no zero byte, as text does and no film."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_TEXT:
            return False
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return False  # reading it will say what is wrong with it
    return bool(head) and b"\0" not in head


def find_files(top: Path) -> Iterator[Path]:
    """Yield the files in a folder, of any kind, as `find_videos` walks; and folders that cannot be read."""
    waiting = [(top, True)]  # the next one last
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda e: e.name, reverse=True)
        except OSError:
            yield path  # reading it will say why not
            continue
        for entry in entries:
            is_folder = _is_folder(entry)
            if not entry.name.startswith(".") and not (is_folder and entry.is_symlink()):
                waiting.append((path / entry.name, is_folder))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # reading it will say what is wrong with it


def opens(path: str | Path) -> bool:
    """Say whether a file opens as a video."""
    try:
        read_facts(path)
    except InputError:
        return False
    return True


def shared_names(videos: Iterable[str | Path]) -> Counter[tuple[str, ...]]:
    """Count videos by their last folders and name, in lower case and without a suffix; see `telling_name`."""
    return Counter(
        (*folders, Path(video).stem.casefold()) for video in videos for folders in _last_folders(Path(video))
    )


def telling_name(video: Path, shared: Mapping[tuple[str, ...], int]) -> str:
    """Return what a video is called in the name of another file: with as many folders as tell it apart."""
    return "_".join([*(short_name(f, MOST_FOLDER) for f in telling_folders(video, shared)), video.stem])


def telling_folders(video: Path, shared: Mapping[tuple[str, ...], int]) -> tuple[str, ...]:
    """Return the last folders of a video, as many as tell it from others of its name: often none."""
    every, name = _last_folders(video), video.stem.casefold()
    if shared.get((name,), 0) < 2:
        return ()
    return next((some for some in every[1:] if shared.get((*some, name), 0) == 1), every[-1][-1:])


def _last_folders(video: Path) -> list[tuple[str, ...]]:
    """Return none, the last, the last two folders of a video, and so on."""
    parts = Path(os.path.abspath(video)).parent.parts[1:][-MOST_FOLDERS:]  # noqa: PTH100 - resolve() would follow links
    return [parts[len(parts) - count :] for count in range(len(parts) + 1)]


def as_spelled(path: Path) -> Path:
    """Return a path as the disk spells it: macOS writes ü as u and two dots, other systems as one letter."""
    if os.path.lexists(path):
        return path
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((other for other in forms if os.path.lexists(other)), path)
