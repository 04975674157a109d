"""What a table of labels has no columns for: the labels' order, and which footage lay at each path."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
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
        self.contents: dict[Path, str] = {}
        known: object = None
        with suppress(OSError, ValueError):
            known = read_json(self._file)
        if isinstance(known, dict):
            names, contents = known.get("labels"), known.get("contents")
            self.names = list(filter(_is_label, names if isinstance(names, list) else ()))[:MOST]
            pairs = contents.items() if isinstance(contents, dict) else ()
            self.contents = {Path(p): c for p, c in pairs if os.path.isabs(p) and isinstance(c, str)}  # noqa: PTH117

    def keep(self, names: Iterable[str], contents: Mapping[Path, str], paths: Collection[Path]) -> None:
        """Note the labels in their order, and what lies now at those paths that have labels."""
        names = list(names)[:MOST]
        held = {path: contents.get(path) or self.contents.get(path) for path in paths}
        kept = {path: content for path, content in held.items() if content}
        if (names, kept) == (self.names, self.contents):
            return
        self.names, self.contents = names, kept
        with suppress(CannotWrite, OSError):
            found = {"labels": names, "contents": {str(path): content for path, content in kept.items()}}
            write_text(self._file, to_json(found))

    def moves(
        self,
        labelled: Iterable[Path],
        present: Mapping[Path, str],
        before: Mapping[Path, str],
        ours: Callable[[Path], bool],
    ) -> Moves:
        """Return where the footage of labelled paths went.

        A file whose content changed is still the same one, unless what it holds now lay elsewhere before.

        Args:
            labelled: paths that have labels.
            present: the content at each path, now.
            before: the content that an index knew at paths where it is no more.
            ours: whether a path lies where was looked.
        """
        remembered = {path: self.contents.get(path) or before.get(path) for path in labelled}
        was = {path: content for path, content in remembered.items() if content}
        held = {**before, **was}
        known = {content for path, content in held.items() if present.get(path) != content}
        lost = {path: content for path, content in was.items() if present.get(path) != content and ours(path)}
        spelled = {str(path).casefold() for path in present} if lost else set()
        places: dict[str, list[Path]] = {content: [] for content in lost.values()}
        for path, content in present.items() if places else ():
            if content in places:
                places[content].append(path)

        def has_gone(path: Path, content: str) -> bool:
            arrived = any(held.get(place, content) != content for place in places[content])
            return present[path] in known or arrived if path in present else not _exists(path, spelled)

        away = {path: content for path, content in lost.items() if has_gone(path, content)}
        moved: dict[Path, Path] = {}
        taken = set(was) - set(away)
        for path, content in away.items():
            there = min(places[content], key=taken.__contains__, default=None)  # one without labels, if any
            if there is not None:
                moved[path] = there
                taken.add(there)
        return Moves(moved, {path for path in away if path in present})


def _exists(path: Path, spelled: Collection[str]) -> bool:
    """Say whether a file that was not found is there; Clip.MP4 may be called clip.mp4 now."""
    return os.path.lexists(path) and str(path).casefold() not in spelled


def _is_label(name: object) -> bool:
    try:
        return isinstance(name, str) and checked_label(name) == name
    except UsageError:
        return False
