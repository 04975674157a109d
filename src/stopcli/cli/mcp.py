"""``stop mcp``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from stopcli.cli import options as o
from stopcli.cli.serve import Archived
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError

EXAMPLES = """Examples:
  stop mcp videos/ --clips clips/

In an assistant's settings: {"command": "stop", "args": ["mcp", "/path/to/videos"]}"""

_clips = o.output_option(metavar="DIR", help="Allow clips to be saved, into this folder alone.")


@o.shares(Archived, o.Focused, o.Batching, o.Show)
def command(
    *,
    archived: Archived,
    clips: Annotated[Path | None, _clips] = None,
    compute: o.Focused,
    batching: o.Batching,
    show: o.Show,
) -> None:
    """Let an assistant search videos, by MCP.

    It speaks the Model Context Protocol on stdin and stdout. An assistant sees no other file.
    """
    with session("mcp", show, compute, batching, kept="what is indexed is kept") as s:
        folders = archived.folders()
        if find_spec("mcp") is None:
            raise UsageError("this needs the package mcp; install it with: pip install 'stopcli[mcp]'")
        _run(s, archived, folders, clips)
        s.output.format = "none"  # stdout was the assistant's


def _run(s: Session, archived: Archived, folders: list[Path], clips: Path | None) -> None:
    """Answer an assistant until it goes."""
    from stopcli.index.store import default_folder
    from stopcli.settings import cache_folder
    from stopcli.web.assistant import Assistant, server_of
    from stopcli.web.work.archive import Archive
    from stopcli.web.work.footage import Footage

    precision = None if s.compute.precision == "auto" else s.compute.precision
    archive = Archive(
        Footage(folders),
        s.files,
        lambda: s.encoder,
        archived.index or default_folder(),
        archived.window,
        precision=precision,
        frames=s.compute.frames,
    )
    assistant = Assistant(archive, cache_folder(), clips)
    try:
        server_of(assistant).run("stdio")
    finally:
        assistant.close()
