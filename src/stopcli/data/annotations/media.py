"""The video that an annotation names."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stopcli.errors import InputError
from stopcli.fileio import is_file
from stopcli.video.container import Facts
from stopcli.video.discovery import EXTENSIONS
from stopcli.video.workers.pool import read_facts

UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before a file's name

Cells = dict[str, Any]  # of a row: its text, its path, and perhaps when it starts and ends, in seconds


def is_video(text: str) -> bool:
    """Say whether a text is the path, or the address, of a video."""
    return PurePosixPath(plain_path(text)).suffix.lower() in EXTENSIONS


def plain_path(text: str) -> str:
    """Return the path of what may be an address; Label Studio keeps that of a local file in its query."""
    if re.match(r"[A-Za-z]:[/\\\\]", text):  # a drive, no address
        return text
    parts = urlsplit(text)
    wanted = parse_qs(parts.query).get("d")
    return wanted[0] if wanted else unquote(parts.path if "://" in text else text)


def beside(path: Path, given: str) -> str:
    """Return where a file is that an annotation names: there, or by its name beside the annotations."""
    plain = plain_path(given).replace("\\", "/")
    name = PurePosixPath(plain).name
    as_given = given.replace("\\", "/")  # most programs write paths as they are
    for place in (as_given, PurePosixPath(as_given).name, plain, name, UPLOADED.sub("", name)):
        if place and is_file(path.parent / place):
            return place
    return name or plain


def facts_of(path: Path) -> Facts:
    """Return what a video says of itself; ValueError where it cannot be read."""
    try:
        return read_facts(path)
    except InputError as error:
        raise ValueError(str(error)) from error
