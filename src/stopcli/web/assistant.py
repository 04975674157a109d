"""The search for assistants: an MCP server over the same functions as the page, on stdin and stdout.

An assistant gets moments by id, text and pictures. It reads nothing but the videos of the folders given, and
writes nothing but clips, into one folder, where that is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from stopcli import __version__
from stopcli.errors import FileMissing, StopError, UsageError
from stopcli.fileio import exists, make_folder
from stopcli.results import printable, span
from stopcli.tasks.clips import clip_name, save_clip
from stopcli.web.work.archive import Archive
from stopcli.web.work.asking import Asking
from stopcli.web.work.jobs import Job, Jobs
from stopcli.web.work.media import MIDDLE, Media
from stopcli.web.work.question import Moment, Question, split_id

if TYPE_CHECKING:
    from mcp.server import MCPServer

PICTURES = 3  # of a moment
MOST_LISTED = 200  # files
AGAIN = 60.0  # seconds between looks at the folders
WHAT = (
    "Searches a folder of videos on this machine by what can be seen in them. A moment is a stretch of a "
    "file, named by its id. Confidence says how often another search finds nothing that fits as well: below "
    "0.9, a match may be chance."
)
Result = TypeVar("Result")


class Assistant:
    """What an assistant may do with an archive; ``clips`` is where it may write, None: nowhere."""

    def __init__(self, archive: Archive, cache: Path, clips: Path | None) -> None:
        self._archive, self.clips = archive, clips
        self._media, self.jobs = Media(cache / "page"), Jobs()
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="stopcli-index")
        self.on_lane(archive.open)
        self._looked = -AGAIN
        self._look_again()

    def _look_again(self) -> None:
        """Look at the folders once more, in the background, if the last look is a while ago."""
        if not self.jobs.busy() and time.monotonic() - self._looked >= AGAIN:
            self._looked = time.monotonic()
            self.jobs.start("indexing", self._refresh)

    def _refresh(self, job: Job) -> object:
        """Bring the index up to date; not while a folder is away, whose files would be forgotten."""
        for path in self._archive.footage.paths:
            if not exists(path):
                raise FileMissing(f"{path}: is not there now; put it back, or start again without it")
        return self._archive.refresh(job)

    def _failed(self) -> list[str]:
        """Return why the folders could not be looked through, if so."""
        return [str(job["words"]) for job in self.jobs.listing() if job["state"] == "failed"]

    def on_lane(self, work: Callable[[], Result]) -> Result:
        """Do something with the index, on the thread that it belongs to."""
        return self._lane.submit(work).result()

    def search_videos(
        self,
        query: str,
        top_k: int = 10,
        without: str = "",
        path_pattern: str = "",
        min_confidence: float = 0.0,
    ) -> dict[str, Any]:
        """Find the moments that a sentence describes, best first.

        Leave out those that `without` describes better. `path_pattern` is like '*/2021/*'.
        """
        if not query.strip():
            raise UsageError("say what to look for")
        return self._found(
            Question(
                query=query[:1000],
                top_k=max(1, min(top_k, 100)),
                unlike=[without[:1000]] if without.strip() else [],
                glob=path_pattern or None,
                min_confidence=min_confidence,
            )
        )

    def find_similar(self, moment: str, top_k: int = 10) -> dict[str, Any]:
        """Find moments that look like a given one."""
        return self._found(Question(like=[moment], top_k=max(1, min(top_k, 100))))

    def classify_moment(self, moment: str, labels: list[str]) -> list[dict[str, Any]]:
        """Say which of at least two labels fits a moment best; the scores sum to 1."""
        return self.on_lane(lambda: Asking(self._archive).classify(moment, labels))

    def pictures_of(self, moment: str) -> list[bytes]:
        """Return a few pictures of a moment, as JPEG."""
        file, start, end = split_id(moment)
        path = self._archive.footage.path_of(file)
        times = [start + (end - start) * (i + 0.5) / PICTURES for i in range(PICTURES)]
        return [self._media.poster(path, at, MIDDLE).read_bytes() for at in times]

    def list_videos(self) -> dict[str, Any]:
        """Say which videos can be searched, and whether all are indexed."""
        self._look_again()
        view = self._archive.view
        chosen = view.selection()
        paths = sorted((*chosen.paths, *(path for others in chosen.copies.values() for path in others)))
        jobs = [job for job in self.jobs.listing() if job["state"] == "running"]
        return {
            "videos": len(paths),
            "moments": view.size,
            "paths": [printable(path) for path in paths[:MOST_LISTED]],
            "not searched": [*self._failed(), *(f.message for f in self._archive.failures[:20])],
            "indexing": [f"{job['done']:.0f} of {job['total']:.0f}" for job in jobs],
        }

    def save_moment(self, moment: str) -> str:
        """Save a moment as a clip of its own, and return its path."""
        if self.clips is None:
            raise UsageError("no clips may be written; 'stop mcp --clips DIR' allows it")
        file, start, end = split_id(moment)
        path = self._archive.footage.path_of(file)
        make_folder(self.clips)
        return printable(save_clip(path, start, end, self.clips / clip_name(path, start, end)).path)

    def _found(self, q: Question) -> dict[str, Any]:
        moments = self.on_lane(lambda: Asking(self._archive).find(q))
        words = ["still indexing: there may be more to find"] if self.jobs.busy() else []
        self._look_again()
        words += [f"not all can be found: {problem}" for problem in self._failed()]
        note = {"note": "; ".join(words)} if words else {}
        return {"moments": [_described(m) for m in moments], "model": self._archive.files.title, **note}

    def close(self) -> None:
        """Give the index back."""
        self.jobs.close()
        self.on_lane(self._archive.close)
        self._lane.shutdown(wait=False, cancel_futures=True)


def _described(m: Moment) -> dict[str, Any]:
    times = {"start": round(m.start, 3), "end": round(m.end, 3), "time": span(m.start, m.end)}
    also = [printable(path) for path in m.also]
    sure = None if m.confidence is None else round(m.confidence, 3)
    return {"id": m.id, "path": printable(m.path), **times, "confidence": sure, "also in": also}


def server_of(assistant: Assistant) -> MCPServer:
    """Return the server, ready to run."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Image
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer("stop", instructions=WHAT, version=__version__, log_level="ERROR")

    def tool(call: Callable[..., Any]) -> None:
        @wraps(call)
        def checked(*arguments: Any, **named: Any) -> Any:
            try:
                return call(*arguments, **named)
            except StopError as error:
                raise ToolError(str(error)) from error
            except ValidationError as error:
                raise ToolError("; ".join(f"{e['loc']}: {e['msg']}" for e in error.errors())) from error
            except OSError as error:
                raise ToolError(f"{error.filename}: {error.strerror}") from error

        server.tool()(checked)

    def show_moment(moment: str):  # type: ignore[no-untyped-def]
        """Look at a moment: a few pictures of it."""
        return [Image(data=data, format="jpeg") for data in assistant.pictures_of(moment)]

    show_moment.__annotations__ = {"moment": str, "return": list[Image]}  # a name of this function alone

    a = assistant
    writes = () if a.clips is None else (a.save_moment,)
    writes = () if a.clips is None else (a.save_moment,)
    for call in (a.search_videos, a.find_similar, show_moment, a.classify_moment, a.list_videos, *writes):
        tool(call)
    return server
