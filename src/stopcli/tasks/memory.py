"""What a table of labels has no columns for: the labels' order, and which footage lay at each path."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stopcli.errors import CannotWrite, UsageError
from stopcli.fileio import read_json, to_json, write_text
from stopcli.tasks.labelling import checked_label

MOST = 1000  # labels that are kept


class Moves(NamedTuple):
    """Where labelled footage lies now, and the labelled paths at which other footage lies."""

    moved: dict[Path, Path]
    replaced: set[Path]


class LabelMemory:
    """A file beside a table of labels. Without it, or where it cannot be written, labels work all the same.

    Contents are keys as of `stopcli.fileio.content_key`, paths are absolute.
    """

    def __init__(self, table: Path) -> None:
        self._file = table.parent / f".{table.stem}.page.json"
        self.names: list[str] = []
        self.contents: dict[Path, str] = {}  # of each labelled path
        self.copies: dict[str, frozenset[Path]] = {}  # where else such a content lay when that was looked at
        known: object = None
        with suppress(OSError, ValueError):
            known = read_json(self._file)
        if isinstance(known, dict):
            names, contents, copies = (known.get(name) for name in ("labels", "contents", "copies"))
            self.names = list(filter(_is_label, names if isinstance(names, list) else ()))[:MOST]
            pairs = contents.items() if isinstance(contents, dict) else ()
            self.contents = {Path(p): c for p, c in pairs if isinstance(c, str)}
            groups = copies.items() if isinstance(copies, dict) else ()
            self.copies = {
                content: frozenset(Path(p) for p in places if isinstance(p, str))
                for content, places in groups
                if isinstance(places, list)
            }

    def keep(
        self,
        names: Iterable[str],
        paths: Collection[Path],
        contents: Mapping[Path, str],
        copies: Mapping[str, Collection[Path]],
    ) -> None:
        """Note the labels in their order, and what lies at the ``paths`` that have labels, as far as known.

        What is remembered of a path stays: `moves` must see first that something else lies there.
        """
        names = list(names)[:MOST]
        held = {path: self.contents.get(path) or contents.get(path) for path in paths}
        kept = {path: content for path, content in held.items() if content}
        alike = {c: frozenset(copies[c]) if c in copies else self.copies.get(c) for c in {*kept.values()}}
        several = {content: places for content, places in alike.items() if places and len(places) > 1}
        if (names, kept, several) == (self.names, self.contents, self.copies):
            return
        self.names, self.contents, self.copies = names, kept, several
        with suppress(CannotWrite, OSError):
            found = {
                "labels": names,
                "contents": {str(path): content for path, content in kept.items()},
                "copies": {content: sorted(map(str, places)) for content, places in several.items()},
            }
            write_text(self._file, to_json(found))

    def look(self, names: Iterable[str], paths: Collection[Path], present: Mapping[Path, str]) -> None:
        """Note what lies at the labelled paths now, once labels have followed."""
        self.contents |= {path: present[path] for path in paths if path in present}
        wanted = set(self.contents.values())
        copies: dict[str, list[Path]] = {content: [] for content in wanted}
        for path, content in present.items():
            if content in wanted:
                copies[content].append(path)
        self.keep(names, paths, {}, copies)

    def moves(
        self,
        labelled: Iterable[Path],
        present: Mapping[Path, str],
        before: Mapping[Path, str],
        changed: Collection[Path],
        roots: Collection[Path],
    ) -> Moves:
        """Return where the footage of labelled paths went.

        A file whose content changed is still the same one, unless what it holds now lay elsewhere before, or
        what it held lies at a place that is new. Copies that always were there take labels over only where
        the first one was deleted, not where its drive is away.

        Args:
            labelled: paths that have labels.
            present: the content at each path, now.
            before: the content that an index knew at paths where it is no more.
            changed: paths that the index does not know so; asked where nothing is remembered.
            roots: the folders that were looked through.
        """
        remembered = {path: self.contents.get(path) or before.get(path) for path in labelled}
        was = {path: content for path, content in remembered.items() if content}
        lost = {path: content for path, content in was.items() if present.get(path) != content}
        if not lost:
            return Moves({}, set())
        held = {**before, **was}
        known = {content for path, content in held.items() if present.get(path) != content}
        ours, fresh = set(self.contents.values()), set(changed)
        spelled = {str(path).casefold() for path in present}
        inside = [str(root).rstrip(os.sep) + os.sep for root in roots]
        filled = tuple(root for root in inside if any(str(path).startswith(root) for path in present))
        new: dict[str, deque[Path]] = {content: deque() for content in lost.values()}
        old: dict[str, deque[Path]] = {content: deque() for content in lost.values()}
        stays = was.keys() - lost.keys()
        for path, content in present.items():
            if content in new:
                was_there = path in self.copies.get(content, ()) if content in ours else path not in fresh
                standing = was_there or held.get(path) == content
                places = old[content] if standing else new[content]
                places.append(path) if path in stays else places.appendleft(path)  # without labels first
        moved: dict[Path, Path] = {}
        replaced: set[Path] = set()
        for path, content in lost.items():
            there = path in present
            if there and present[path] not in known and not new[content]:
                continue  # it was edited
            if not there and _exists(path, spelled):
                continue  # it was not looked at
            places = new[content] or (old[content] if str(path).startswith(filled) else deque())
            if places:
                moved[path] = places.popleft()
            if there:
                replaced.add(path)
        return Moves(moved, replaced)


def _exists(path: Path, spelled: Collection[str]) -> bool:
    """Say whether a file that was not found is there; Clip.MP4 may be called clip.mp4 now."""
    return os.path.lexists(path) and str(path).casefold() not in spelled


def _is_label(name: object) -> bool:
    try:
        return isinstance(name, str) and checked_label(name) == name
    except UsageError:
        return False
