"""Which clips a model was trained on: kept beside it by content, so that no benchmark counts them.

A line of the file is a content key (see `stopcli.fileio.content_key`) and the seconds of the clip. No name of
a file is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stopcli.data.table import Clip
from stopcli.errors import CheckpointError
from stopcli.fileio import content_key, write_text

SEEN_FILE = "trained-on.txt"
MOST = 1 << 26  # bytes of it: a million clips
ROUNDED = 0.001  # seconds: clips that touch share nothing
LINE = re.compile(r"([0-9a-f]{32}) (\d{1,9}(?:\.\d{1,9})?) (\d{1,9}(?:\.\d{1,9})?|end)")


@dataclass
class Seen:
    """Clips by content: the seconds of each, up to None, the end of the file."""

    spans: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    _keys: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def has(self, clip: Clip) -> bool:
        """Say whether any of a clip, or of a copy of it, is among them; what cannot be read is not."""
        path, start, end = clip
        if not self.spans:
            return False  # no file is read for that
        if path not in self._keys:
            self._keys[path] = ()
            with suppress(OSError):  # versions before 0.3 took no blocks between
                self._keys[path] = content_key(path), content_key(path, spread=0)
        spans = [span for key in set(self._keys[path]) for span in self.spans.get(key, ())]
        begin = (start or 0.0) + ROUNDED
        return any((end is None or a + ROUNDED < end) and (b is None or begin < b) for a, b in spans)


def write_seen(folder: Path, clips: Iterable[Clip], before: Seen | None = None) -> None:
    """Keep with a model what it was trained on, and what the model that it was made from ``before`` was.

    Files that went away are left out. Raises CannotWrite.
    """
    earlier = before.spans if before is not None else {}
    spans = [(key, start, end) for key, parts in earlier.items() for start, end in parts]
    for path, start, end in clips:
        with suppress(OSError):
            spans.append((content_key(path), start or 0.0, end))
    lines = {f"{key} {start:.3f} {'end' if end is None else f'{end:.3f}'}\n" for key, start, end in spans}
    write_text(folder / SEEN_FILE, "".join(sorted(lines)))


def read_seen(folder: Path) -> Seen:
    """Return what a model in a folder was trained on; nothing where it does not say.

    CheckpointError: it says what cannot be.
    """
    file, seen = folder / SEEN_FILE, Seen()
    if not file.is_file():
        return seen
    if file.stat().st_size > MOST:
        raise CheckpointError(f"{file}: {file.stat().st_size} bytes; {MOST} are the most")
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        found = LINE.fullmatch(line)
        if found is None:
            raise CheckpointError(
                f"{file}: line {number} is damaged; copy the model again, or delete the file"
            )
        key, start, end = found.groups()
        seen.spans.setdefault(key, []).append((float(start), None if end == "end" else float(end)))
    return seen
