"""What a published model says about the machine it was trained on: names of files, never where they lie."""

from __future__ import annotations

import re
import shlex
from pathlib import PureWindowsPath
from typing import Any

_ABSOLUTE = re.compile(r"(?:file://|~|[A-Za-z]:)?[/\\]")
_INSIDE = re.compile(r"(?<![\w:/\\.~])(?:file://|~|[A-Za-z]:)?[/\\][^\s\"',;)\]}]+")  # within a sentence
_PATHS = {"base", "origin", "source"}  # values that are paths, relative ones too


def without_paths(value: Any, key: str = "") -> Any:
    """Return plain values with every path in them shortened to its last part.

    Args:
        value: what JSON holds: texts, numbers, lists, dicts.
        key: the key that it stands under.
    """
    if isinstance(value, dict):
        return {k: without_paths(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v, key) for v in value]
    if not isinstance(value, str):
        return value
    if key == "command":
        return _command(value)
    if key in _PATHS or _ABSOLUTE.match(value):
        return _last(value)
    return _INSIDE.sub(lambda match: _last(match[0]), value)


def _last(text: str) -> str:
    """Return the last part of a path, with either kind of slash; a Hub name stays whole."""
    return text if text.startswith("hf:") else PureWindowsPath(text).name or text.strip("/\\")


def _command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # quotes that do not match
        words = command.split()
    return shlex.join("=".join(_last(part) for part in word.split("=")) for word in words)
