"""What a browser can show of a video: the file itself where it plays it, else a small copy of a stretch."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from stopcli.errors import FileMissing, InputError, StopError
from stopcli.fileio import content_key, make_private_folder, remove_folder, replacing
from stopcli.output.html import jpeg_bytes
from stopcli.video.container import Facts
from stopcli.video.cut.proxy import LONGEST
from stopcli.video.cut.streams import suffix_of
from stopcli.video.workers.pool import NotWanted, read_facts, read_pictures, write_moment, write_proxy

LIMIT = 2 << 30  # bytes of what was made
AT_ONCE = 2  # pictures, and films, made at the same time: the model needs the processor too
SMALL, MIDDLE = 240, 480  # pixels of a picture's short side
LOOP, LOOP_RATE = 8.0, 12.0  # seconds and pictures a second of a moment in the grid
NEAR = 0.1  # seconds: a moment that ends so near to the end of a file ends with it
WHOLE = 120.0  # seconds: a file up to here is copied whole
AROUND = 30.0  # ... of a longer one, so much before and behind a moment
PLAYED = {  # pictures and sound that browsers play, by the format they lie in
    "mp4": ({"h264", "av1", "vp9", "libdav1d"}, {"", "aac", "mp3", "mp3float", "opus", "flac"}),
    "webm": ({"vp8", "vp9", "av1", "libdav1d"}, {"", "opus", "vorbis"}),
}
EIGHT_BITS = {"yuv420p", "yuvj420p"}
KEPT_FACTS = 20_000  # files
KEPT = 86_400.0  # seconds that a file waits to be fetched

PICTURE, FILM = ".jpg", ".mp4"

Wanted = Callable[[], bool]
Make = Callable[[Path, Wanted], None]
Stamp = tuple[str, int, int]  # a path, its size, its time
Kept = TypeVar("Kept")


class Media:
    """Files made for the page, in one folder that never grows above a limit."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._slots = {suffix: threading.Semaphore(AT_ONCE) for suffix in (PICTURE, FILM)}
        self._waiting: defaultdict[str, list[Wanted]] = defaultdict(list)  # who asks for a file, by its name
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._facts: OrderedDict[Stamp, Facts] = OrderedDict()
        self._contents: OrderedDict[Stamp, str] = OrderedDict()

    def facts(self, path: Path) -> Facts:
        """Return what a video says of itself; raises InputError."""
        return self._kept(self._facts, path, read_facts)

    def length(self, path: Path) -> float:
        """Return when a video ends, in seconds on its own clock; raises InputError."""
        facts = self.facts(path)
        return facts.end

    def is_end(self, path: Path, end: float) -> bool:
        """Say whether what ends at a time ends with its file; of one that cannot be read, it does not."""
        with suppress(InputError):
            return end >= self.length(path) - NEAR
        return False

    @staticmethod
    def _kept(known: OrderedDict[Stamp, Kept], path: Path, read: Callable[[Path], Kept]) -> Kept:
        """Return what was read of a file as it is now; raises InputError."""
        try:
            status = path.stat()
        except OSError as error:
            raise FileMissing(f"{path}: no such file; it may have been moved") from error
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in known:
            known[key] = read(path)
            while len(known) > KEPT_FACTS:
                known.popitem(last=False)
        return known[key]

    def way(self, path: Path) -> str:
        """Say how a browser gets to see a video: as the file is, its packets in MP4 (copy), or encoded."""
        facts = self.facts(path)
        fine = facts.pixels in EIGHT_BITS
        kind = "webm" if path.suffix.lower() == ".webm" else "mp4" if "mp4" in facts.container else ""
        codecs, sounds = PLAYED.get(kind, (set(), set()))
        if fine and facts.codec in codecs and facts.sound_codec in sounds:
            return "file"
        return "copy" if fine and facts.codec == "h264" else "encoded"

    def stretch(self, path: Path, start: float, end: float) -> tuple[float, float]:
        """Return from where to where a copy of a file is made, so that a moment can be looked at."""
        whole = self.length(path)
        if whole <= WHOLE:
            return 0.0, whole
        return max(0.0, start - AROUND), min(whole, max(end + AROUND, start + 1), start + LONGEST)

    def poster(self, path: Path, at: float, side: int = SMALL) -> Path:
        """Return a picture of a moment, as JPEG."""

        def make(part: Path, _: Wanted) -> None:
            (pixels,) = read_pictures(path, [at], side)
            part.write_bytes(jpeg_bytes(pixels))

        return self._made(path, f"poster {at:.3f} {side}", PICTURE, make)

    def loop(self, path: Path, start: float, end: float, wanted: Wanted = lambda: True) -> Path:
        """Return a moment as a small film without sound; raises NotWanted once it is not ``wanted``."""
        end = min(end, start + LOOP)

        def make(part: Path, wanted: Wanted) -> None:
            write_proxy(path, part, start, end, height=SMALL, rate=LOOP_RATE, sound=False, wanted=wanted)

        return self._made(path, f"loop {start:.3f} {end:.3f}", FILM, make, wanted)

    def clip(self, path: Path, start: float, end: float) -> Path:
        """Return a moment as a file to keep, its packets as they are."""

        def make(part: Path, _: Wanted) -> None:
            write_moment(path, part, start, end, exact=False)

        return self._made(path, f"clip {start:.3f} {end:.3f}", suffix_of(path), make)

    def copy(
        self, path: Path, start: float, end: float, *, encode: bool = False, wanted: Wanted = lambda: True
    ) -> Path:
        """Return a stretch as a file that browsers play, with its sound; raises as `loop`.

        With ``encode``, its pictures are always encoded, even where their packets could be copied.
        """
        rate = min(30.0, max(5.0, self.facts(path).rate))

        def transcode(part: Path, wanted: Wanted) -> None:
            write_proxy(path, part, start, end, height=MIDDLE, rate=rate, sound=True, wanted=wanted)

        def make(part: Path, wanted: Wanted) -> None:
            if self.way(path) == "copy" and not encode:
                try:
                    written = write_moment(path, part, start, end, exact=False)
                    if abs(written.start - start) < 0.1:
                        return
                except StopError:
                    pass  # packets that MP4 does not take
            transcode(part, wanted)

        return self._made(path, f"copy {start:.3f} {end:.3f} {encode}", FILM, make, wanted)

    def _made(self, path: Path, what: str, suffix: str, make: Make, wanted: Wanted = lambda: True) -> Path:
        """Return a file of that content, made if it is not there yet; two that ask at once get one."""
        content = self._kept(self._contents, path, content_key)
        name = hashlib.sha256(f"{content} {what}".encode()).hexdigest()[:40]
        file, waiting = self._folder / f"{name}{suffix}", self._waiting[name]
        waiting.append(wanted)

        def is_wanted() -> bool:
            return any(ask() for ask in tuple(waiting))

        try:
            with self._making[name]:
                if file.is_file():
                    with suppress(OSError):
                        os.utime(file)  # when it was last looked at
                    return file
                make_private_folder(self._folder)
                # pictures never wait for films
                with self._slots[PICTURE if suffix == PICTURE else FILM], replacing(file) as part:
                    if not is_wanted():
                        raise NotWanted
                    make(part, is_wanted)
        finally:
            waiting.remove(wanted)
            if not waiting:
                self._waiting.pop(name, None)
                self._making.pop(name, None)
        self._make_room(file.name)
        return file

    def _make_room(self, asked: str) -> None:
        """Remove what was not looked at for longest, where there is too much; but what is ``asked`` for."""
        files = []
        with suppress(OSError):
            files = [(entry.stat(), entry.path) for entry in os.scandir(self._folder) if entry.is_file()]
        total = sum(status.st_size for status, _ in files)
        files = [(status, name) for status, name in files if Path(name).name != asked]
        for status, name in sorted(files, key=lambda one: one[0].st_mtime):
            if total <= self._limit:
                return
            with suppress(OSError):
                Path(name).unlink()
                total -= status.st_size


def forget_old(folder: Path) -> None:
    """Remove what has waited to be fetched for a day, and what a killed job left."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if time.time() - entry.stat().st_mtime > KEPT:
                remove_folder(entry) if entry.is_dir() else entry.unlink()
