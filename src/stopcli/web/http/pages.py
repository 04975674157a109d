"""The page, and the pieces of it that the server writes; every text is escaped by the template engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from stopcli.data.background import BACKGROUND
from stopcli.errors import StopError
from stopcli.output.html import environment, hue
from stopcli.results import read_clock
from stopcli.tasks.explain import explain
from stopcli.web.http.api import error_of, read_body
from stopcli.web.work.answering import Answering
from stopcli.web.work.jobs import Job
from stopcli.web.work.library import Library
from stopcli.web.work.question import Question, moment_id, split_id
from stopcli.web.work.takeaway import KINDS
from stopcli.web.work.workspace import Workspace

QUEUES = (
    ("best", "Likeliest"),
    ("uncertain", "Uncertain"),
    ("diverse", "Different"),
    ("audit", "Audit"),
    ("labelled", "Labelled"),
)
SURE = 0.9
EVERY = 0.4  # seconds between looks at what changed
STATIC = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SHOWN_RUNS = 3


class Pages:
    """The page's pieces over one workspace."""

    def __init__(self, space: Workspace, answering: Answering) -> None:
        self._space, self._answering = space, answering

    def routes(self) -> list[Route]:
        """Return the page's routes."""
        pieces: dict[str, Callable[[Request], Any]] = {
            "/view/moments": self.moments,
            "/view/side": self.side,
            "/view/look/{moment}": self.look,
            "/view/explain/{moment}": self.explain,
            "/view/compare/{name}": self.compare,
            "/view/mistakes/{name}": self.mistakes,
        }
        made = [Route(path, _piece(call), methods=["GET", "POST"]) for path, call in pieces.items()]
        return [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/events", self.events),
            *made,
        ]

    async def page(self, _: Request) -> Response:
        """Return the page itself."""
        s = self._space.settings
        label = s.labels[0] if s.side == "label" and s.labels else ""
        title = ", ".join(str(p) for p in self._space.library.paths[:2])
        return HTMLResponse(_render("page.html", title=title, side=s.side, query=s.query, label=label))

    async def static(self, request: Request) -> Response:
        """Return a style, a script or a drawing of the page."""
        name = request.path_params["name"]
        base = Path(str(package_files("stopcli")))
        folder = base / "output" / "templates" if name == "page.css" else base / "web" / "static"
        if name not in {p.name for p in folder.iterdir()} or Path(name).suffix not in STATIC:
            return JSONResponse({"error": "file-missing", "message": "no such file"}, 404)
        return FileResponse(
            folder / name, media_type=STATIC[Path(name).suffix], headers={"Cache-Control": "no-cache"}
        )

    async def events(self, request: Request) -> Response:
        """Tell a page what changes, as it changes."""
        from sse_starlette import EventSourceResponse

        async def changes() -> AsyncIterator[dict[str, str]]:
            last = ""
            while not await request.is_disconnected():
                status = await run_in_threadpool(self._space.status)
                text = json.dumps(status)
                mark = hashlib.sha256(text.encode()).hexdigest()
                if mark != last:
                    last = mark
                    yield {"event": "status", "data": text}
                await asyncio.sleep(EVERY)

        return EventSourceResponse(changes(), ping=15)

    async def moments(self, request: Request) -> str:
        """Return the moments that answer a question."""
        q: Question = await read_body(request, Question)
        answer = await run_in_threadpool(self._answering.answer, q)
        asked = bool(q.query.strip() or q.like or q.picture)
        sure = any(m.confidence is None or m.confidence >= SURE for m in answer.moments)
        busy = any(job["state"] in ("running", "waiting") for job in self._space.jobs.listing())
        values = {"q": q, "answer": answer, "asked": asked, "sure": sure, "busy": busy, "kinds": KINDS}
        return self._render("moments.html", several=len(self._space.models) > 1, **values)

    async def side(self, request: Request) -> str:
        """Return the labels, the training and what is being done."""
        label, queue = request.query_params.get("label", ""), request.query_params.get("queue", "")

        def write() -> str:
            status = self._space.status()
            runs = [run.to_dict() for run in self._space.adapting.runs()[:SHOWN_RUNS]]
            values = {"status": status, "runs": runs, "label": label, "queue": queue or "best"}
            used = self._space.trained
            return self._render(
                "side.html", queues=QUEUES, background=BACKGROUND, used=used, points=_points, **values
            )

        return await run_in_threadpool(write)

    async def look(self, request: Request) -> str:
        """Return one moment to look at."""
        file, start, end = split_id(request.path_params["moment"])

        def write() -> str:
            space, path = self._space, self._space.library.path_of(file)
            facts, way = space.media.facts(path), space.media.way(path)
            duration = facts.duration + facts.offset
            begin, stop = (0.0, duration) if way == "file" else space.media.stretch(path, start, end)
            source = (
                f"/media/{file}/file"
                if way == "file"
                else f"/media/{file}/copy?start={begin:.3f}&end={stop:.3f}"
            )
            values = {
                "facts": facts,
                "way": way,
                "begin": begin,
                "end": stop,
                "duration": duration,
                "source": source,
            }
            moment = self._answering.moment(file, start, end)
            line = self._answering.timeline(file)
            explains = space.archive().files.config.stop is not None or bool(space.archive().files.focus)
            values |= {
                "m": moment,
                "line": line,
                "labels": space.labels(),
                "explains": explains,
                "curve": _curve,
            }
            return self._render("look.html", **values)

        return await run_in_threadpool(write)

    async def explain(self, request: Request) -> str:
        """Return what the model does with a moment: heavy work, which waits for its turn."""
        file, start, end = split_id(request.path_params["moment"])
        path, archive = self._space.library.path_of(file), self._space.archive()

        def work(job: Job) -> str:
            job.report(0, 1, "looking")
            found = explain(archive.encoder, path, start=start, end=end)
            return self._render("seen.html", explanation=found, where=lambda *_: "#")

        job = self._space.jobs.start(f"looking at {path.name} {start:g}", work)
        while job.state in ("waiting", "running"):
            await asyncio.sleep(0.05)
        html, job.result = job.result, None
        return str(html) if job.state == "done" else _render("note.html", words=job.words or "stopped")

    async def compare(self, request: Request) -> str:
        """Return what two models find for one question."""
        q: Question = await read_body(request, Question)
        models = self._space.models
        after = self._space.trained.get(request.path_params["name"], self._space.model)
        both = await run_in_threadpool(self._answering.compare, q, models[0], after)
        return self._render("compare.html", q=q, answers=both)

    async def mistakes(self, request: Request) -> str:
        """Return the held-out clips that a trained model gets wrong."""
        name = request.path_params["name"]
        rows = await run_in_threadpool(self._space.adapting.mistakes, name)
        shown = []
        for row in rows:
            file, start = Library.id_of(row["path"]), read_clock(row["start"]) if row["start"] else 0.0
            if file in self._space.library:
                path = self._space.library.path_of(file)
                end = read_clock(row["end"]) if row["end"] else self._space.media.facts(path).duration
                at = {"file": file, "path": str(path), "start": start or 0.0, "end": end or 0.0}
                said = {"label": row["label"], "predicted": row["predicted"]}
                shown.append({"id": moment_id(file, start or 0.0, end or 0.0), **at, **said})
        return self._render("mistakes.html", name=name, mistakes=shown)

    def _render(self, template: str, **values: Any) -> str:
        names = self._space.labels()

        def hue_of(label: str) -> int:
            return hue(names.index(label)) if label in names else 0

        return _render(template, hue_of=hue_of, **values)


def _piece(call: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            return HTMLResponse(await call(request))
        except StopError as error:
            return error_of(error)

    return answer


def _render(template: str, **values: Any) -> str:
    return environment().get_template(f"app/{template}").render(**values)


def _points(line: list[tuple[int, float]]) -> str:
    """Return a curve's points in a box of 100 x 40; of many, some."""
    some = line[:: max(1, len(line) // 200)]
    first, last = some[0][0], max(some[-1][0], some[0][0] + 1)
    top = max(max(value for _, value in some), 1e-9)
    return " ".join(f"{100 * (x - first) / (last - first):.2f},{39 - 38 * y / top:.2f}" for x, y in some)


def _curve(line: dict[str, Any], label: int, duration: float) -> str:
    """Return a label's score over a file, window by window, as points in a box of 100 x 100."""
    scored = zip(line["spans"], line["values"], strict=True)
    points = [(x, values[label]) for span, values in scored for x in span]
    return " ".join(f"{100 * x / max(duration, 1e-9):.3f},{50 - 48 * value:.2f}" for x, value in points)
