"""``stop serve`` and ``stop label``: one page, two ways in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.retrieve import Index
from stopcli.cli.session import Session, session
from stopcli.errors import FileMissing, UsageError

if TYPE_CHECKING:
    from stopcli.web.work.workspace import Workspace

EXAMPLES = """Examples:
  stop serve videos/ --open
  stop serve videos/ --model my-model --port 8000"""
LABEL_EXAMPLES = """Examples:
  stop label matches/ --labels "serve,volley" --open
  stop label trail-camera/ --labels fox,badger --query "an animal at night" --table animals.csv"""

SHORTEST = 16  # characters of a token that somebody chose

server_option = partial(typer.Option, rich_help_panel="Server")
_folders = typer.Argument(
    metavar="DIR", help="Folders of videos, with those below them; or videos. Default: this folder."
)
_port = server_option(metavar="N", min=0, max=65535, help="Where to serve; 0: any that is free.")
_host = server_option(
    metavar="NAME",
    help="Address to serve on. If other machines reach it, whoever has the link sees everything.",
)
_token = server_option(metavar="TEXT", help="The key in the link; by default a new one each time.")
_open = server_option("--open", help="Open the page in the browser.")
_table = o.output_option(metavar="FILE.csv", help="Where labels are written; read again next time.")
_query = typer.Option(metavar="TEXT", help="What the page looks for first.")


@dataclass(frozen=True, kw_only=True)
class Archived:
    """Which videos are searched, and how they are indexed."""

    paths: Annotated[list[Path] | None, _folders] = None
    window: o.SearchWindow = 8.0
    index: Index = None

    def folders(self) -> list[Path]:
        """Return the videos and folders named, by default this folder; raises FileMissing."""
        named = self.paths or [Path()]
        for path in named:
            if not os.path.lexists(path):
                raise FileMissing(f"{path}: no such file or folder; name one with videos in it")
        return named


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Where labels are written, and what the page begins with."""

    table: Annotated[Path, _table] = Path("labels.csv")
    query: Annotated[str, _query] = ""


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where and to whom the page is served."""

    port: Annotated[int, _port] = 8765
    host: Annotated[str, _host] = "127.0.0.1"
    token: Annotated[str | None, _token] = None
    open: Annotated[bool, _open] = False

    def check(self) -> None:
        """Raise UsageError where nothing can be served, or not safely."""
        lacking = [name for name in ("starlette", "uvicorn", "sse_starlette") if find_spec(name) is None]
        if lacking:
            way = "install them with: pip install 'stopcli[web]'"
            raise UsageError(f"the page needs {', '.join(lacking)}; {way}")
        if self.token is not None and (len(self.token) < SHORTEST or not self.token.isascii()):
            raise UsageError(f"--token: at least {SHORTEST} plain characters, so that nobody can guess it")


@o.shares(Archived, Labelling, Server, o.Focused, o.Batching, o.Show)
def serve(
    *,
    archived: Archived,
    labelling: Labelling,
    server: Server,
    compute: o.Focused,
    batching: o.Batching,
    show: o.Show,
) -> None:
    """Search, label and adapt in a browser page of your own.

    The page is served to this machine alone, by a link with a key. It ends with Ctrl-C; a training that it
    started goes on.
    """
    with _session("serve", show, compute, batching) as s:
        server.check()
        with _workspace(s, archived, labelling) as space:
            _run(s, space, server)


@o.shares(Archived, Labelling, Server, o.Focused, o.Batching, o.Show)
def label(
    *,
    archived: Archived,
    labels: o.Labels = None,
    labelling: Labelling,
    server: Server,
    compute: o.Focused,
    batching: o.Batching,
    show: o.Show,
) -> None:
    """Label moments in a browser page, one key per label.

    The page is that of stop serve. Each answer is saved to the table at once, and helps to rank
    what comes next.
    """
    with _session("label", show, compute, batching) as s:
        from stopcli.data.labels import parse_labels

        server.check()
        names = parse_labels(labels, s.say) if labels else []
        with _workspace(s, archived, labelling, names, side="label") as space:
            _run(s, space, server)


def _session(
    command: str, show: o.Show, compute: o.Compute, batching: o.Batching
) -> AbstractContextManager[Session]:
    lines = replace(show, format="quiet" if show.format in ("auto", "table") else show.format)  # type: ignore[arg-type]
    return session(command, lines, compute, batching, kept="labels and index are kept")


@contextmanager
def _workspace(
    s: Session, archived: Archived, labelling: Labelling, labels: Sequence[str] = (), *, side: str = "search"
) -> Iterator[Workspace]:
    """Open what the page works on, and close it."""
    from stopcli.index.store import default_folder
    from stopcli.settings import cache_folder, default_model
    from stopcli.tasks.labelling.table import LabelTable
    from stopcli.web.work.footage import Footage
    from stopcli.web.work.workspace import Models, Settings, Workspace

    folders = archived.folders()
    compute = s.compute
    training = ["--device", compute.device] if compute.device != "auto" else []
    settings = Settings(
        archived.index or default_folder(),
        cache_folder(),
        archived.window,
        None if compute.precision == "auto" else compute.precision,
        compute.frames,
        tuple(labels),
        labelling.query,
        tuple(training),
        side,
    )
    with LabelTable(labelling.table) as rows:
        space = Workspace(
            Footage(folders), rows, s.compute.model or default_model(), Models(s.find, s.load), settings
        )
        try:
            yield space
        finally:
            space.close()


def open_privately(address: str, folder: Path) -> None:
    """Open a page in the browser by a file of one's own: a command line can be read by everybody here."""
    import webbrowser
    from html import escape

    from stopcli.fileio import make_private_folder, write_text

    make_private_folder(folder)
    file = folder / "open.html"
    write_text(file, f'<meta http-equiv="refresh" content="0;url={escape(address)}">')
    webbrowser.open(file.absolute().as_uri())


def _run(s: Session, space: Workspace, server: Server) -> None:
    """Serve until Ctrl-C."""
    from stopcli.results import Written
    from stopcli.web.http.server import build, link, listen, serve
    from stopcli.web.http.trust import is_loopback, new_token

    token = server.token or new_token()
    listener = listen(server.host, server.port)
    port = listener.getsockname()[1]
    address = link(server.host, port, token)
    if not is_loopback(server.host):
        s.say(f"warning: served on {server.host}: whoever has the link sees all; nothing is encrypted")

    def started() -> None:
        s.output.add(Written(address, "open it in a browser"))
        s.output.print_document()
        s.say(f"labels are written to {space.table.path}; Ctrl-C ends the page")
        if server.open:
            open_privately(address, space.settings.cache / "page")

    with suppress(KeyboardInterrupt):
        serve(build(space, token, server.host, port), listener, started)
    s.say(f"the page is closed; labels are in {space.table.path}")
    for run in space.adapting.runs():
        if run.state == "running":
            s.say(f"{run.name} is still being trained; the page shows it again next time")
