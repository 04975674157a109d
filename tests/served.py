"""A real ``stop serve`` for tests: a process of its own, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 300  # seconds; the machine may be busy
SHOWN = 60  # ... until a page shows something
TOKEN = "a-token-of-the-tests"
CHROMIUM = next((c for c in ("chromium", "chromium-browser", "google-chrome") if shutil.which(c)), None)


class Served:
    """A server, and what it said."""

    def __init__(
        self, *arguments: object, home: Path, command: str = "serve", cwd: Path | None = None
    ) -> None:
        self.home = home
        words = [
            command,
            *map(str, arguments),
            "--port",
            "0",
            "--token",
            TOKEN,
            "--device",
            "cpu",
            "--precision",
            "fp32",
        ]
        environment = {
            **os.environ,
            "STOPCLI_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stopcli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd,
        )  # fmt: skip
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.first = self.process.stdout.readline().strip()
        is_json = self.first.startswith("{")
        self.link = json.loads(self.first)["data"][0]["path"] if is_json else self.first
        if not self.link:
            self.end()
            raise RuntimeError("".join(self.said))
        self.port = int(self.link.split(":")[2].split("/")[0])

    def _listen(self) -> None:
        for line in self.process.stderr:
            self.said.append(line)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict | None = None,
        *,
        token: str | None = TOKEN,
    ):
        """Return the status, the headers and the body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if isinstance(body, (dict, list)):
            body, sent["Content-Type"] = json.dumps(body), "application/json"
        connection.request(method, path, body, sent | (headers or {}))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data

    def json(self, method: str, path: str, body: object = None):
        """Return an answer's JSON, which must be no refusal."""
        status, _, data = self.ask(method, path, body)
        assert status == 200, (status, data[:500])
        return json.loads(data)

    def until(self, met, what: str):
        """Wait until the status of the page is as wanted, and return it."""
        for _ in range(PATIENCE * 5):
            status = self.json("GET", "/api/status")
            if met(status):
                return status
            time.sleep(0.2)
        raise AssertionError(f"never {what}: {status}")

    def indexed(self):
        """Wait until nothing is left to do."""
        return self.until(
            lambda s: not any(job["state"] in ("running", "waiting") for job in s["jobs"]), "indexed"
        )

    def end(self, number: int = signal.SIGINT) -> int:
        """End the server and return its status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._listener.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        return status


@contextmanager
def served(*arguments: object, **settings):
    """Serve while the block runs."""
    server = Served(*arguments, **settings)
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


@contextmanager
def browser():
    """Open a headless browser, and yield it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), args=["--no-sandbox"], timeout=1000 * PATIENCE
        )
        try:
            yield made
        finally:
            made.close()


@contextmanager
def opened(made, server: Served, **settings):
    """Open the page of a server; what it complains about fails the test."""
    context = made.new_context(viewport={"width": 1300, "height": 900}, **settings)
    context.set_default_timeout(1000 * SHOWN)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(server.link)
    page.wait_for_selector("#results[aria-busy=false]")
    page.problems = problems
    try:
        yield page
    finally:
        context.close()
    assert problems == [], problems
