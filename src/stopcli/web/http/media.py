"""Pictures and films of the page: by a file's id, by ranges where the browser asks for some."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, create_task_group, sleep, to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from stopcli.errors import FileMissing, StopError, UsageError
from stopcli.fileio import is_file
from stopcli.results import printable
from stopcli.tasks.clips import clip_name
from stopcli.video.workers.pool import NotWanted
from stopcli.web.http.api import Json, error_of
from stopcli.web.work.workspace import Workspace

KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".jpg": "image/jpeg",
}
SIDES = (240, 480)
KEPT = "private, max-age=30"  # seconds after which a browser asks whether a picture is still right
TABLE = "labels.csv"
TAKEN = re.compile(r"[0-9a-f]{16}-[^/\\]+")  # what was written to be fetched
CLOSED = 499  # what servers log where a browser has left
EVERY = 0.5  # seconds between looks at whether it has
AT_ONCE = 6  # requests for media that wait for a decoder: the others of the page go on


def media_routes(space: Workspace) -> list[Route]:
    """Return the routes below ``/media``."""
    media = space.media

    def number(request: Request, name: str, default: float | None = None) -> float:
        given = request.query_params.get(name)
        try:
            value = float(given) if given is not None else default
        except ValueError:
            value = None
        if value is None or not 0 <= value <= 1e6:
            raise UsageError(f"{name} must be seconds from 0 up, got {given!r}")
        return value

    def span(request: Request) -> tuple[float, float]:
        start, end = number(request, "start"), number(request, "end")
        if end <= start:
            raise UsageError("the end must come after the start")
        return start, end

    def poster(request: Request, path: Path) -> Response:
        side = int(number(request, "side", SIDES[0]))
        if side not in SIDES:
            raise UsageError(f"side must be one of {SIDES}")
        return _made(media.poster(path, number(request, "at"), side), request)

    def loop(request: Request, path: Path) -> Response:
        return _made(media.loop(path, *span(request), request.state.wanted), request)

    def whole(_: Request, path: Path) -> Response:
        if not is_file(path):
            raise FileMissing(f"{path.name}: no such file; it may have been moved")
        return _file(path)

    def copy(request: Request, path: Path) -> Response:
        encode = request.query_params.get("encode") == "1"
        wanted = request.state.wanted
        return _made(media.copy(path, *span(request), encode=encode, wanted=wanted), request)

    def clip(request: Request, path: Path) -> Response:
        start, end = span(request)
        return FileResponse(media.clip(path, start, end), filename=printable(clip_name(path, start, end)))

    films = CapacityLimiter(AT_ONCE)
    limiters = {"poster": CapacityLimiter(AT_ONCE), "file": CapacityLimiter(AT_ONCE)}

    def endpoint(name: str, make: Callable[[Request, Path], Response]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            gone = threading.Event()
            request.state.wanted = lambda: not gone.is_set()

            def work() -> Response:  # a drive may not answer
                try:
                    return make(request, space.footage.path_of(request.path_params["file"]))
                except NotWanted:
                    return Response(status_code=CLOSED)
                except StopError as error:
                    return error_of(error)
                except OSError as error:
                    return Json({"error": "unreadable-video", "message": str(error.strerror)}, 404)

            async def watch() -> None:
                while not await request.is_disconnected():
                    await sleep(EVERY)
                gone.set()

            async with create_task_group() as group:
                group.start_soon(watch)
                try:
                    made = await to_thread.run_sync(work, limiter=limiters.get(name, films))
                finally:
                    group.cancel_scope.cancel()
            return made

        return answer

    kinds = {"poster": poster, "loop": loop, "file": whole, "copy": copy, "clip": clip}
    made = [
        Route(f"/media/{{file}}/{name}", endpoint(name, make), methods=["GET"])
        for name, make in kinds.items()
    ]
    return [*made, Route("/taken/{name}", _taken(space), methods=["GET"])]


def _taken(space: Workspace) -> Callable[[Request], Any]:
    """Return an endpoint that hands out what a job wrote: by the job's own name for it."""

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name == TABLE and space.table.path.is_file():
            return FileResponse(space.table.path, filename=space.table.path.name, media_type="text/csv")
        file = space.taken / name
        if not TAKEN.fullmatch(name) or not file.is_file():
            return Json({"error": "file-missing", "message": "that is gone; take it away again"}, 404)
        return FileResponse(file, filename=name.partition("-")[2])

    return answer


def _file(path: Path, **headers: str) -> FileResponse:
    kind = KINDS.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache", **headers})


def _made(path: Path, request: Request) -> Response:
    """Return what was made of a video: named by its content, so that a browser's copy may still be right."""
    headers = {"Cache-Control": KEPT, "ETag": f'"{path.stem}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return _file(path, **headers)
