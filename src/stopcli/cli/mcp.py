"""``stop mcp``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.retrieve import Index
from stopcli.cli.session import Session, session
from stopcli.errors import FileMissing, UsageError

EXAMPLES = """Examples:
  stop mcp videos/ --clips clips/

In an assistant's settings: {"command": "stop", "args": ["mcp", "/path/to/videos"]}"""

_folders = typer.Argument(
    metavar="DIR", help="Folders of videos, with those below them; or videos. Default: this folder."
)
_clips = o.output_option(metavar="DIR", help="Allow clips to be saved, into this folder alone.")


@o.shares(o.Focused, o.Batching, o.Show)
def command(
    *,
    paths: Annotated[list[Path] | None, _folders] = None,
    clips: Annotated[Path | None, _clips] = None,
    window: o.SearchWindow = 8.0,
    index: Index = None,
    compute: o.Focused,
    batching: o.Batching,
    show: o.Show,
) -> None:
    """Let an assistant search videos, by MCP.

    It speaks the Model Context Protocol on stdin and stdout. An assistant sees no other file.
    """
    with session("mcp", show, compute, batching, kept="what is indexed is kept") as s:
        named = paths or [Path()]
        for path in named:
            if not os.path.lexists(path):
                raise FileMissing(f"{path}: no such file or folder; name one with videos in it")
        if find_spec("mcp") is None:
            raise UsageError("this needs the package mcp; install it with: pip install 'stopcli[mcp]'")
        _run(s, named, clips, index, window)
        s.output.format = "none"  # stdout was the assistant's


def _run(s: Session, paths: list[Path], clips: Path | None, index: Path | None, window: float) -> None:
    """Answer an assistant until it goes."""
    from stopcli.index.store import default_folder
    from stopcli.settings import cache_folder
    from stopcli.web.assistant import Assistant, server_of
    from stopcli.web.work.archive import Archive
    from stopcli.web.work.library import Library

    precision = None if s.compute.precision == "auto" else s.compute.precision
    archive = Archive(
        Library(paths),
        s.files,
        lambda: s.encoder,
        index or default_folder(),
        window,
        precision=precision,
        frames=s.compute.frames,
    )
    assistant = Assistant(archive, cache_folder(), clips)
    try:
        server_of(assistant).run("stdio")
    finally:
        assistant.close()
