"""Decoded frames on disk, so that training decodes each clip once; shared between runs, bounded.

A clip is kept as 3T frames: the centre frame of each of its T segments is what every command
looks at, the two beside it are what frame-time jitter chooses among.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stopcli.errors import CannotWrite, UnreadableVideo
from stopcli.fileio import content_key, make_private_folder, replacing
from stopcli.settings import frames_limit
from stopcli.video.clips import READER
from stopcli.video.pixels import Framing
from stopcli.video.reader import check_file
from stopcli.video.workers.pool import read_frames

AROUND = 3  # frames kept of a segment; its centre is the middle one
LIMIT = 50 << 30  # bytes


class FrameCache:
    """A folder of decoded clips; ``decoded`` counts those that this run did not find in it.

    Files that this run uses are never evicted by it: where they do not all fit, the rest is decoded
    each time, instead of every file pushing out another.

    The folder is made if need be, or CannotWrite. ``limit`` (bytes) None is the user's setting, else
    50 GiB or half of what the disk has free.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        make_private_folder(folder)
        self.folder = folder
        self.decoded = 0
        self._files = _scan(folder)
        self._before = deque(sorted(self._files, key=lambda name: self._files[name][0]))  # of other runs
        self._bytes = sum(size for _, size in self._files.values())
        free = shutil.disk_usage(folder).free + self._bytes
        self.limit = limit or frames_limit() or min(LIMIT, free // 2)
        self._mine: set[str] = set()
        self._keys: dict[Path, str] = {}
        self._lock = threading.Lock()

    def read(
        self,
        path: Path,
        frames: int,
        size: int | Framing,
        start: float | None = None,
        end: float | None = None,
    ) -> NDArray[np.uint8]:
        """Return a clip's frames (3T,S,S,3), cached or decoded now; errors as `read_frames`."""
        key = self.content_of(path)
        framing = Framing.of(size)
        text = f"{READER} {key} {frames} {framing} {start} {end}"
        name = hashlib.sha256(text.encode()).hexdigest()[:40] + ".npy"
        self._mine.add(name)
        try:
            pixels: NDArray[np.uint8] = np.load(self.folder / name, mmap_mode="r")
            if pixels.shape == (AROUND * frames, framing.size, framing.size, 3) and pixels.dtype == np.uint8:
                os.utime(self.folder / name)
                return pixels
        except (OSError, ValueError, EOFError):  # evicted by another run, or cut by a full disk
            pass
        pixels = read_frames(path, AROUND * frames, framing, start=start, end=end, threads=1).pixels
        self.decoded += 1
        self._store(name, pixels)
        return pixels

    def content_of(self, path: Path) -> str:
        """Return a key of what a file holds, asked once in a run; raises InputError."""
        try:
            return self._keys.get(path) or self._keys.setdefault(path, content_key(path))
        except OSError as error:
            check_file(path)
            raise UnreadableVideo(f"{path}: cannot be read ({error.strerror})") from error

    def _store(self, name: str, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if not self._make_room(pixels.nbytes):
                return
            self._files[name] = (0.0, pixels.nbytes)
            self._bytes += pixels.nbytes
        try:
            with replacing(self.folder / name) as part:
                np.save(part, pixels)
        except CannotWrite:  # no room on the disk: slower, not wrong
            return

    def _make_room(self, wanted: int) -> bool:
        """Evict the files longest unused, never this run's own; say whether there is room now."""
        while self._bytes + wanted > self.limit and self._before:
            name = self._before.popleft()
            if name not in self._mine:
                (self.folder / name).unlink(missing_ok=True)
                self._bytes -= self._files.pop(name)[1]
        return self._bytes + wanted <= self.limit


def _scan(folder: Path) -> dict[str, tuple[float, int]]:
    """Return last use and bytes of each file, those that a killed process left half written too."""
    files = {}
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # another run has just evicted or finished it
            if entry.name.endswith(".npy"):
                files[entry.name] = (entry.stat().st_mtime, entry.stat().st_size)
    return files
