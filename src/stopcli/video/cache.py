"""Decoded frames on disk, so that training decodes each clip once; shared between runs, bounded.

A clip is kept as 3T frames: the centre frame of each of its T segments is what every command
looks at, the two beside it are what frame-time jitter chooses among.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np

from stopcli.errors import UnreadableVideo
from stopcli.fileio import content_key
from stopcli.video.clips import read_frames

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

AROUND = 3  # frames kept of a segment; its centre is the middle one
VERSION = "1"  # of how frames are decoded; other versions' files are never read
LIMIT = 50 << 30  # bytes, or half of what the disk has free


class FrameCache:
    """A folder of decoded clips.

    Files that this run uses are never evicted by it: where they do not all fit, the rest is decoded
    each time, instead of every file pushing out another.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {
            e.name: (e.stat().st_mtime, e.stat().st_size)
            for e in os.scandir(folder)
            if e.name.endswith(".npy") and e.is_file()
        }
        self._held = sum(size for _, size in self._files.values())
        named = os.environ.get("STOPCLI_FRAMES_GB")
        free = shutil.disk_usage(folder).free + self._held
        self.limit = limit or (int(float(named) * 2**30) if named else min(LIMIT, free // 2))
        self._mine: set[str] = set()
        self.decoded = 0
        """Clips decoded, not found, since the cache was opened."""
        self._keys: dict[Path, str] = {}
        self._lock = threading.Lock()

    def read(
        self, path: Path, frames: int, size: int, start: float | None = None, end: float | None = None
    ) -> NDArray[np.uint8]:
        """Return a clip's frames (3T,S,S,3) uint8, from the cache or decoded into it.

        Args:
            path: a video file.
            frames: T.
            size: S, pixels.
            start: first second of the clip.
            end: its last second.

        Raises:
            InputError: the video cannot be read.
        """
        try:
            name = self._name(path, frames, size, start, end)
        except OSError as error:
            raise UnreadableVideo(f"{path}: {error.strerror}") from error
        self._mine.add(name)
        file = self.folder / name
        try:
            found: NDArray[np.uint8] = np.load(file, mmap_mode="r")
            os.utime(file)
            return found
        except (FileNotFoundError, ValueError, EOFError):  # evicted by another run, or cut by a full disk
            pass
        pixels = read_frames(path, AROUND * frames, size, start=start, end=end, threads=1).pixels
        self.decoded += 1
        self._store(name, pixels)
        return pixels

    def _name(self, path: Path, frames: int, size: int, start: float | None, end: float | None) -> str:
        key = self._keys.get(path) or self._keys.setdefault(path, content_key(path))
        told = f"{VERSION} {key} {frames} {size} {start} {end}"
        return hashlib.sha256(told.encode()).hexdigest()[:40] + ".npy"

    def _store(self, name: str, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if not self._make_room(pixels.nbytes):
                return
            self._files[name] = (0.0, pixels.nbytes)
            self._held += pixels.nbytes
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
                np.save(part, pixels)
            os.replace(part.name, self.folder / name)
        except OSError:  # no room on the disk: slower, not wrong
            return

    def _make_room(self, wanted: int) -> bool:
        """Evict the files longest unused, never this run's own; say whether there is room now."""
        for name in sorted(self._files, key=lambda n: self._files[n][0]):
            if self._held + wanted <= self.limit:
                break
            if name not in self._mine:
                (self.folder / name).unlink(missing_ok=True)
                self._held -= self._files.pop(name)[1]
        return self._held + wanted <= self.limit
