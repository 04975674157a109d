"""Who may ask: whoever has the link, from this page, under this name; nobody else, whatever else is open.

A browser sends requests for any page that it shows. A page elsewhere must not read footage here (it has no
token), not even under a name that its owner points to this machine (the name is checked), and must not change
anything (the origin is checked).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stopcli.output.html import environment

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READS = ("GET", "HEAD")
ONWARD = (
    '<!doctype html><title>stop</title><link rel="icon" href="/static/icon.svg">'
    '<meta http-equiv="refresh" content="0;url=/">'
)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what may ask, says no to the rest, and bounds what is sent."""

    def __init__(
        self, app: ASGIApp, token: str, port: int, host: str, limits: Sequence[tuple[str, int]]
    ) -> None:
        self._app, self._token, self._cookie = app, token, f"stopcli-{port}"
        # a browser sends a cookie to every port of a machine: what it holds opens nothing but this page
        self._session = hmac.new(token.encode(), b"cookie", "sha256").hexdigest()
        self._limits = tuple(limits)
        self._open = not is_loopback(host)
        names = {*LOOPBACK, host} | ({socket.gethostname(), socket.getfqdn()} if self._open else set())
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await self._dressed(refusal)(scope, receive, send)
            return
        limit = next((size for start, size in self._limits if scope["path"].startswith(start)), 0)
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            await self._dressed(_no(413, f"more than {limit >> 10} KiB was sent"))(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                return {"type": "http.disconnect"}
            return message

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, bounded, dressed)

    def _refusal(self, request: Request) -> Response | None:
        """Return why a request is not answered; None if it may be."""
        headers = request.headers
        if not self._knows(headers.get("host", "")):
            return _no(421, "this page is not served under that name")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = origin is not None and origin != f"http://{headers.get('host')}"
        if foreign or site in ("cross-site", "same-site"):
            first = request.method in READS and request.url.path == "/" and not foreign
            if not (first and headers.get("sec-fetch-mode") == "navigate"):
                return _no(403, "another page may not ask here")
        given = QueryParams(request.url.query).get("token")
        if given is not None and request.url.path == "/" and request.method == "GET":
            if not self._fits(given):
                return _no(401, "that link is not valid; use the one that was printed", page=True)
            response = HTMLResponse(ONWARD)  # no redirect: after a link elsewhere, that would lack the cookie
            response.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
            return response
        cookie = request.cookies.get(self._cookie, "")
        if hmac.compare_digest(cookie.encode(), self._session.encode()) or self._fits(_bearer(headers)):
            return None
        words = "open the link that 'stop serve' printed: it holds the key"
        return _no(401, words, page=request.url.path == "/")

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        if not self._open:
            return False
        try:  # by a number, no other name leads here
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    @staticmethod
    def _dressed(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response


def _bearer(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _no(status: int, words: str, *, page: bool = False) -> Response:
    if page:
        text = (
            environment()
            .get_template("app/entry.html")
            .render(title="Not this way", words=f"{words.capitalize()}.")
        )
        return Response(text, status, media_type="text/html")
    return JSONResponse({"error": "refused", "message": words}, status)
