"""Two films, and files that say what is in them."""

from __future__ import annotations

import json

from conftest import write_video


def write_films(folder):
    """Write them into a folder; return that."""
    write_video(folder / "match.mp4", frames=50, fps=10)
    write_video(folder / "second half.mp4", frames=50, fps=10)
    return folder


def moments(data):
    """Return what a table says: files, texts, starts and ends."""
    return [(r.path.name, r.text, round(r.start or 0, 3), round(r.end or 0, 3)) for r in data.rows]


def written(folder, name, text):
    """Write a text, or what JSON says, into a file; return that."""
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path
