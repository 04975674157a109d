"""The videos that may be shown: those of the folders given, each by an id, never by its path."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from stopcli.errors import FileMissing
from stopcli.fileio import is_folder
from stopcli.video.discovery import find_videos, shared_names, telling_folders

ID_LENGTH = 16  # hexadecimal digits


class Footage:
    """The videos in some folders, and what the page calls them; a link out of the folders is none of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.roots = [path for path in paths if is_folder(path)]
        self._inside = tuple(os.path.realpath(path) for path in paths)
        self._known: dict[str, Path] = {}
        self._shared: Mapping[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def scan(self) -> list[Path]:
        """Look for videos again, and return them as they were given; only these are ever shown."""
        real = cache(os.path.realpath)  # of the folders: many files share one
        named = [p for p in self.paths if os.path.lexists(p)]
        found = [
            path
            for path in dict.fromkeys(find_videos(named))
            if self._holds(
                os.path.realpath(path) if path.is_symlink() else f"{real(path.parent)}{os.sep}{path.name}"
            )
        ]
        with self._lock:
            self._known, self._shared = {self.id_of(path): path for path in found}, shared_names(found)
        return found

    def title_of(self, path: str) -> str:
        """Return what the page calls a video: its name, behind the folders that tell it from others."""
        return "/".join((*telling_folders(Path(path), self._shared), Path(path).name))

    def _holds(self, real: str) -> bool:
        """Say whether a path without links lies where the page may look."""
        return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._inside)

    @staticmethod
    def id_of(path: str | Path) -> str:
        """Return the id of a path, the same in every run."""
        whole = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
        return hashlib.sha256(os.fsencode(whole)).hexdigest()[:ID_LENGTH]

    def path_of(self, name: str) -> Path:
        """Return the video of an id; FileMissing if it is none of those that were found, or none any more."""
        path = self._known.get(name)
        if path is None or not self._holds(os.path.realpath(path)):
            raise FileMissing("no such video here; search again, for it may have been moved")
        return path

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._known)
