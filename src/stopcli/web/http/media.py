"""Pictures and films of the page: by a file's id, by ranges where the browser asks for some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from stopcli.errors import StopError, UsageError
from stopcli.tasks.clips import clip_name, save_clip
from stopcli.web.http.api import error_of
from stopcli.web.work.workspace import Workspace

KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".jpg": "image/jpeg",
}
SIDES = (240, 480)
KEPT = "private, max-age=3600"


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
        return _file(media.poster(path, number(request, "at"), side), kept=True)

    def loop(request: Request, path: Path) -> Response:
        return _file(media.loop(path, *span(request)), kept=True)

    def whole(_: Request, path: Path) -> Response:
        return _file(path)

    def copy(request: Request, path: Path) -> Response:
        anew = request.query_params.get("encode") == "1"
        return _file(media.copy(path, *span(request), anew=anew), kept=True)

    def clip(request: Request, path: Path) -> Response:
        start, end = span(request)
        name = clip_name(path, start, end)
        target = space.settings.cache / "page" / "taken" / f"{os.urandom(8).hex()}{Path(name).suffix}"
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        saved = save_clip(path, start, end, target)
        return FileResponse(saved.path, filename=name, background=_removing(target))

    def endpoint(make: Callable[[Request, Path], Response]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                path = space.library.path_of(request.path_params["file"])
                return await run_in_threadpool(make, request, path)
            except StopError as error:
                return error_of(error)
            except OSError as error:
                return JSONResponse({"error": "unreadable-video", "message": str(error.strerror)}, 404)

        return answer

    kinds = {"poster": poster, "loop": loop, "file": whole, "copy": copy, "clip": clip}
    made = [Route(f"/media/{{file}}/{name}", endpoint(make), methods=["GET"]) for name, make in kinds.items()]
    return [*made, Route("/taken/{name}", _taken(space), methods=["GET"])]


def _taken(space: Workspace) -> Callable[[Request], Any]:
    """Return an endpoint that hands out what a job wrote: by the job's own name for it."""

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        made = {job["result"] for job in space.jobs.listing() if job["name"].startswith("taking away")}
        file = space.settings.cache / "page" / "taken" / name
        if name not in made or not file.is_file():
            return JSONResponse({"error": "file-missing", "message": "that is gone; take it away again"}, 404)
        return FileResponse(file, filename=name.partition("-")[2], background=_removing(file))

    return answer


def _file(path: Path, *, kept: bool = False) -> FileResponse:
    kind = KINDS.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": KEPT if kept else "no-cache"})


def _removing(path: Path) -> Any:
    from starlette.background import BackgroundTask

    return BackgroundTask(path.unlink, missing_ok=True)
