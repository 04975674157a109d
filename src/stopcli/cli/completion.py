"""What Tab offers: the names of models, and folders that hold one."""

from __future__ import annotations

import re
from pathlib import Path

from stopcli.results import printable

RUN = re.compile(r"[^\w .+@,=\u0080-\U0010ffff-]")  # characters in which a shell may find something to run


def complete_model(incomplete: str) -> list[str]:
    """Return the named models and model folders that begin so."""
    from stopcli.hub.named import ENTRIES
    from stopcli.model.config import CONFIG_FILE

    names = [name for name in ENTRIES if name.startswith(incomplete)]
    return [*names, *_folders_with(CONFIG_FILE, incomplete)]


def complete_index(incomplete: str) -> list[str]:
    """Return the index folders that begin so."""
    return _folders_with("index.sqlite", incomplete)


def _folders_with(file: str, incomplete: str) -> list[str]:
    """Return folders that hold a file, and those on the way to one."""
    head, _, start = incomplete.rpartition("/")
    base = Path(head or ("/" if incomplete.startswith("/") else "."))
    prefix = incomplete[: len(incomplete) - len(start)]
    try:
        found = [p for p in sorted(base.iterdir()) if p.name.startswith(start) and p.is_dir()]
    except OSError:
        return []
    plain = [p for p in found if not RUN.search(p.name) and printable(p.name) == p.name]
    shown = [p for p in plain if start.startswith(".") or not p.name.startswith(".")]
    return [f"{prefix}{p.name}" if (p / file).is_file() else f"{prefix}{p.name}/" for p in shown]
