"""What a table of labels has no columns for: the labels' order, and which footage lay at each path."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stopcli.errors import CannotWrite, UsageError
from stopcli.fileio import read_json, to_json, write_text
from stopcli.tasks.labelling.rows import checked_label

MOST = 1000  # labels that are kept


class Moves(NamedTuple):
    """Where labelled footage lies now, and the labelled paths at which other footage lies."""

    moved: dict[Path, Path]
    replaced: set[Path]


class LabelMemory:
    """Two files beside a table of labels. Where they cannot be written, labels work all the same.

    Contents are keys as of `stopcli.fileio.content_key`, paths are absolute.
    """

    def __init__(self, table: Path) -> None:
        self._page, self._files = (table.parent / f".{table.stem}.{kind}.json" for kind in ("page", "files"))
        page, contents = _read(self._page), _read(self._files)
        names = page.get("labels")
        self.names = list(filter(_is_label, names if isinstance(names, list) else ()))[:MOST]
        self.table = page.get("table")  # a hash of the table as it was left
        self.contents = {Path(path): c for path, c in contents.items() if isinstance(c, str)}

    def keep(self, names: Iterable[str], table: str | None) -> None:
        """Note the labels in their order, and a hash of the table."""
        names = list(names)[:MOST]
        if (names, table) != (self.names, self.table):
            self.names, self.table = names, table
            _write(self._page, {"labels": names, "table": table})

    def look(self, labelled: Collection[Path], present: Mapping[Path, str]) -> None:
        """Note what lies at each path now; of labelled footage that is away, where it lay."""
        contents = {**self.contents, **present}
        wanted = {contents[path] for path in labelled if path in contents}
        kept = {p: c for p, c in contents.items() if p in present or p in labelled or c in wanted}
        if kept != self.contents:
            self.contents = kept
            _write(self._files, {str(path): content for path, content in kept.items()})

    def differs(self, paths: Iterable[Path], present: Mapping[Path, str]) -> bool:
        """Say whether other footage lies at one of the paths now; a drive may be away."""
        return any(p in present and self.contents.get(p, present[p]) != present[p] for p in paths)

    def moves(
        self,
        labelled: Iterable[Path],
        present: Mapping[Path, str],
        before: Mapping[Path, str],
        changed: Collection[Path],
        roots: Collection[Path],
        edited: Collection[Path] = (),
        is_other: Callable[[Path, str], bool] = lambda *_: False,
    ) -> Moves:
        """Return where the footage of labelled paths went.

        A file whose content changed is still the same one, unless what it holds now lay elsewhere before, or
        what it held lies at a place that is new, or all in a folder, two at least, are seen to be others.
        Copies that always were there take labels over only where the first one was deleted, not where its
        drive is away.

        Args:
            labelled: paths that have labels.
            present: the content at each path, now.
            before: the content that an index knew at paths where it is no more.
            changed: paths that the index does not know so.
            roots: the folders that were looked through.
            edited: paths whose labels somebody else has changed: they are right, if a file is there.
            is_other: says of a path, and the content that lay there, that other footage lies there now.
        """
        held = {**before, **self.contents}
        was = {path: held[path] for path in labelled if path in held}
        lost = {path: content for path, content in was.items() if present.get(path) != content}
        lost = {path: content for path, content in lost.items() if path not in edited or path not in present}
        if not lost:
            return Moves({}, set())
        known = {content for path, content in held.items() if present.get(path) != content}
        remembered = {self.contents[path] for path in lost if path in self.contents}  # with all their copies
        fresh, spelled = set(changed), {str(path).casefold() for path in present}
        inside = [str(root).rstrip(os.sep) + os.sep for root in roots]
        filled = tuple(root for root in inside if any(str(path).startswith(root) for path in present))
        new: dict[str, deque[Path]] = {content: deque() for content in lost.values()}
        old: dict[str, deque[Path]] = {content: deque() for content in lost.values()}
        stays = was.keys() - lost.keys()
        for path, content in present.items():
            if content in new:
                is_new = self.contents.get(path) != content if content in remembered else path in fresh
                places = new[content] if is_new else old[content]
                places.append(path) if path in stays else places.appendleft(path)  # without labels first
        unknown = {
            p for p, c in lost.items() if present.get(p, c) not in known and p in present and not new[c]
        }
        others = Counter(path.parent for path in unknown if is_other(path, lost[path]))
        swapped = {folder for folder, count in others.items() if count > 1} - {path.parent for path in stays}
        moved: dict[Path, Path] = {}
        replaced: set[Path] = set()
        for path, content in lost.items():
            there = path in present
            if path in unknown and path.parent not in swapped:
                continue  # it was edited
            if not there and _exists(path, spelled):
                continue  # it was not looked at
            places = new[content] or (old[content] if str(path).startswith(filled) else deque())
            if places:
                moved[path] = places.popleft()
            if there:
                replaced.add(path)
        return Moves(moved, replaced)


def _read(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = read_json(file, 256 << 20)
        return found if isinstance(found, dict) else {}
    return {}


def _write(file: Path, value: dict[str, Any]) -> None:
    with suppress(CannotWrite, OSError):
        write_text(file, to_json(value))


def _exists(path: Path, spelled: Collection[str]) -> bool:
    """Say whether a file that was not found is there; Clip.MP4 may be called clip.mp4 now."""
    return os.path.lexists(path) and str(path).casefold() not in spelled


def _is_label(name: object) -> bool:
    try:
        return isinstance(name, str) and checked_label(name) == name
    except UsageError:
        return False
