"""Paths in tables: the file that a cell means, whatever system wrote it, and the one name of a file."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

from stopcli.data.tablefile import short
from stopcli.fileio import exists
from stopcli.video.discovery import as_spelled


def no_file(path: Path, given: str) -> str:
    """Say that a file is not there, and which one is that differs in capitals or white space only."""
    alike = _names(path.parent).get(_letters(path.name))
    named = repr(given) if "  " in given else short(given)  # else it would look as if it were there
    return f"no file {named}" + (f"; did you mean {alike!r}?" if alike is not None else "")


def _letters(name: str) -> str:
    return "".join(unicodedata.normalize("NFC", name).casefold().split())


@lru_cache(maxsize=64)
def _names(folder: Path) -> dict[str, str]:
    """Return the names in a folder by their letters."""
    try:
        return {_letters(path.name): path.name for path in folder.iterdir()}
    except (OSError, ValueError):
        return {}


def real_path(path: Path) -> str:
    """Return the one name that a file has, whatever links and detours lead to it."""
    if path.is_symlink():
        return os.path.realpath(path)
    return f"{_real_folder(path.parent.absolute())}{os.sep}{path.name}"


@lru_cache(maxsize=1 << 14)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)


def table_path(folder: Path, given: str) -> Path:
    """Return the file that a cell of a table in a folder names, however its system spells it."""
    path = folder / os.path.expanduser(given)  # noqa: PTH111 - Path's fails for users unknown
    if "\\" in given and not exists(path) and exists(slashed := folder / given.replace("\\", "/")):
        return slashed  # the table was written on Windows
    return as_spelled(path)
