"""The server: the page, its JSON and its media, behind one guard."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stopcli.errors import InternalError, UsageError
from stopcli.web.http.api import BODY, PICTURE, Api, Json, error_of
from stopcli.web.http.media import media_routes
from stopcli.web.http.pages import Pages
from stopcli.web.http.trust import Guard
from stopcli.web.work.answering import Answering
from stopcli.web.work.workspace import Workspace

LIMITS = (("/api/picture", PICTURE), ("/", BODY))
PATIENCE = 3  # seconds for requests that are being answered when the server ends


def build(space: Workspace, token: str, host: str, port: int) -> Guard:
    """Return the application."""
    answering = Answering(space)
    routes = [*Pages(space, answering).routes(), *Api(space, answering).routes(), *media_routes(space)]
    return Guard(
        Starlette(routes=routes, exception_handlers={Exception: _failed, ClientDisconnect: _cut_off}),
        token,
        port,
        host,
        LIMITS,
    )


async def _cut_off(_: Request, __: Exception) -> Response:
    return Json({"error": "refused", "message": "too much was sent, or not all of it"}, 413)


async def _failed(_: Request, error: Exception) -> Response:
    return error_of(InternalError.of(error))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any that is free. UsageError: it is taken, or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform == "win32":  # where the other option lets two programs listen
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"--port {port}: {error.strerror} on {host}; choose another, or 0 for any"
        ) from error
    listener.listen(128)
    return listener


def link(host: str, port: int, token: str) -> str:
    """Return the address to open."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/?token={quote(token, safe='')}"


def serve(application: Guard, listener: socket.socket, started: Callable[[], None]) -> None:
    """Answer until the process is interrupted."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            started()

    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
        lifespan="off",
        ws="none",
    )
    Server(config).run(sockets=[listener])
