"""A local HTTP server that speaks as much of the Hub's protocol as fetching and sending files needs.

HEAD and GET of ``/org/repo/resolve/revision/file``: commit and ETag headers, small files by their
git object's hash, large ones redirected to another host and named by their SHA-256, ranges, error
codes. A search for models. Creating a repository, preupload, LFS batch and PUT, and commits, with a token. Faults can be
set on it: what a broken Hub or a broken connection does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40
BIG = bytes(range(256)) * 400  # 102,400 bytes: stored apart
LARGE = 1024  # bytes; from here on a file is stored apart, as with LFS


@dataclass
class Hub:
    """The files on the server, its faults, and the requests that it got."""

    files: dict[str, bytes]
    repo: str = "someone/model"
    revisions: tuple[str, ...] = ("main", "v1", COMMIT, "b" * 40)
    commit: str = COMMIT
    status: int | None = None
    """Answer this to everything."""
    cut: int | None = None
    """Close the line after so many bytes of a large file, once for each entry in `cuts`."""
    cuts: int = 0
    flip: bool = False
    """Send other bytes than announced."""
    drip: float = 0.0
    """Seconds to wait before each byte of an answer."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    token: str = "hf_test"
    """What may write."""
    created: dict[str, object] | None = None
    """What a client sent to create the repository."""
    public: bool | None = None
    """Whether everyone sees the repository; None: it is not there yet."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files received, by SHA-256."""
    models: list[dict] = field(default_factory=list)
    """What a search goes through."""
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        hub = self.hub
        hub.requests.append((self.command, self.path, None))
        if hub.status is not None:
            return self._error(hub.status, None)
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._error(401, None)
        path = unquote(self.path.partition("?")[0])
        if path == "/api/repos/create":
            hub.created = json.loads(data)
            name = "/".join(filter(None, (hub.created.get("organization"), hub.created["name"])))
            if hub.public is None:
                hub.public = hub.created.get("visibility") == "public"
            return self._json({"url": f"{hub.endpoint}/{name}"}, 200 if name == hub.repo else 403)
        if path == "/api/validate-yaml":
            card = json.loads(data)["content"]
            faults = [] if "license:" in card else [{"message": "no license"}]
            return self._json({"errors": faults, "warnings": []}, 400 if faults else 200)
        if path == f"/api/models/{hub.repo}/preupload/main":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["size"] >= LARGE else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(data)["files"]
            ]
            return self._json({"files": modes})
        if path == f"/{hub.repo}.git/info/lfs/objects/batch":
            objects = [
                {
                    "oid": o["oid"],
                    "size": o["size"],
                    "actions": {"upload": {"href": f"{hub.endpoint}/lfs/{o['oid']}"}},
                }
                for o in json.loads(data)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        if path == f"/api/models/{hub.repo}/commit/main":
            return self._commit([json.loads(line) for line in data.splitlines()])
        return self._error(404, "RepoNotFound")

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        sha = self.path.removeprefix("/lfs/")
        if hashlib.sha256(data).hexdigest() != sha:
            return self._error(422, None)
        self.hub.stored[sha] = data
        return self._json({})

    def _commit(self, lines: list[dict]) -> None:
        hub = self.hub
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.files[value["path"]] = hub.stored[value["oid"]]
        self._json({"commitUrl": f"{hub.endpoint}/{hub.repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def _json(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, *, body: bool) -> None:
        hub = self.hub
        if self.path == "/api/agent-harnesses":  # huggingface_hub asks for it once a day
            return self._send(b"{}", {}, body=body, large=False)
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if hub.status is not None:
            return self._error(hub.status, None)
        path = unquote(self.path)
        if path.startswith("/api/models?"):
            wanted = parse_qs(urlsplit(self.path).query)
            found = [
                m
                for m in hub.models
                if set(wanted["filter"]) <= set(m["tags"]) and wanted.get("search", [""])[0] in m["id"]
            ]
            return self._json(found)
        if path == f"/api/models/{hub.repo}":
            known = self.headers.get("Authorization") == f"Bearer {hub.token}"
            if not hub.public and (hub.public is None or not known):
                return self._error(401, "RepoNotFound")
            card = hub.files.get("README.md", b"").decode()
            about = {
                "id": hub.repo,
                "sha": hub.commit,
                "private": not hub.public,
                "tags": ["stopcli"] if "\nlibrary_name: stopcli\n" in card else [],
                "siblings": [{"rfilename": name} for name in hub.files],
            }
            return self._json(about)
        if path.startswith("/storage/"):
            return self._send(hub.files[path.removeprefix("/storage/")], {}, body=body, large=True)
        head, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        if head != f"/{hub.repo}":
            return self._error(401, "RepoNotFound")
        if revision not in hub.revisions:
            return self._error(404, "RevisionNotFound")
        if name not in hub.files:
            return self._error(404, "EntryNotFound")
        data = hub.files[name]
        if len(data) < LARGE:
            return self._send(data, {"ETag": f'"{_git_hash(data)}"'}, body=body, large=False)
        sha = hashlib.sha256(data).hexdigest()
        self.send_response(302)
        headers = {
            "Location": f"http://localhost:{hub.port}/storage/{name}",
            "X-Repo-Commit": hub.commit,
            "X-Linked-ETag": f'"{sha}"',
            "X-Linked-Size": str(len(data)),
            "ETag": f'"{sha}"',
            "Content-Length": "0",
        }
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        return None

    def _send(self, data: bytes, headers: dict[str, str], *, body: bool, large: bool) -> None:
        total, start = len(data), 0
        wanted = self.headers.get("Range")
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", str(total - start))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if self.hub.flip:
            data = bytes([data[0] ^ 1]) + data[1:]
        if large and self.hub.cut is not None and self.hub.cuts > 0:
            self.hub.cuts -= 1
            self.wfile.write(data[start : start + self.hub.cut])
            self.wfile.flush()
            self.close_connection = True
            return
        if self.hub.drip:
            for i in range(start, total):
                threading.Event().wait(self.hub.drip)
                self.wfile.write(data[i : i + 1])
                self.wfile.flush()
            return
        self.wfile.write(data[start:])

    def _error(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()


class serve:
    """Run the server for a ``with`` block."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self.hub})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that was killed
        self.hub.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self.hub

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
