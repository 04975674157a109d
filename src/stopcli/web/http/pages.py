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
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from stopcli.data.background import BACKGROUND
from stopcli.errors import InputError, StopError
from stopcli.output.html import environment, hue
from stopcli.results import read_clock
from stopcli.tasks.explain import explain
from stopcli.web.http.api import Json, error_of, read_body
from stopcli.web.work.answering import Answering
from stopcli.web.work.footage import Footage
from stopcli.web.work.jobs import Job
from stopcli.web.work.question import Question, split_id
from stopcli.web.work.takeaway import KINDS
from stopcli.web.work.workspace import Workspace

QUEUES = (
    ("best", "Likeliest", "What fits the label best, by its words and your answers"),
    ("uncertain", "Uncertain", "Where an answer teaches most"),
    ("diverse", "Different", "What is least like anything labelled so far"),
    ("audit", "Audit", "A random sample of what is predicted: how much of it is right?"),
    ("labelled", "Labelled", "What was labelled, the last first"),
)
SURE = 0.9
ANSWER = 1.0  # seconds that a request waits for heavy work
EVERY = 0.4  # seconds between looks at what changed
STATIC = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SHOWN_RUNS = 3


class Pages:
    """The page's pieces over one workspace."""

    def __init__(self, space: Workspace, answering: Answering) -> None:
        self._space, self._answering = space, answering

    def routes(self) -> list[Route]:
        """Return the page's routes."""
        pieces: dict[str, Callable[[Request, Question], str]] = {
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
        title = ", ".join(str(p) for p in self._space.footage.paths[:2])
        return HTMLResponse(_render("page.html", title=title, side=s.side, query=s.query, label=label))

    async def static(self, request: Request) -> Response:
        """Return a style, a script or a drawing of the page."""
        name = request.path_params["name"]
        base = Path(str(package_files("stopcli")))
        folder = base / "output" / "templates" if name == "page.css" else base / "web" / "static"
        if name not in {p.name for p in folder.iterdir()} or Path(name).suffix not in STATIC:
            return Json({"error": "file-missing", "message": "no such file"}, 404)
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

    def moments(self, _: Request, q: Question) -> str:
        """Return the moments that answer a question."""
        answer = self._answering.answer(q)
        asked = bool(q.query.strip() or q.like or q.picture)
        sure = any(m.confidence is None or m.confidence >= SURE for m in answer.moments)
        folders = ", ".join(str(path) for path in self._space.footage.paths)
        values = {"q": q, "answer": answer, "asked": asked, "sure": sure, "kinds": KINDS, "folders": folders}
        several, busy = len(self._space.models) > 1, self._space.jobs.busy()
        return self._render("moments.html", several=several, busy=busy, **values)

    def side(self, request: Request, _: Question) -> str:
        """Return the labels, the training and what is being done."""
        label, queue = request.query_params.get("label", ""), request.query_params.get("queue", "")
        runs = [run.to_dict() for run in self._space.adapting.runs()[:SHOWN_RUNS]]
        values = {
            "status": self._space.status(),
            "runs": runs,
            "used": self._space.trained,
            "points": _points,
        }
        values |= {"label": label, "queue": queue or "best", "queues": QUEUES, "background": BACKGROUND}
        return self._render("side.html", **values)

    def look(self, request: Request, _: Question) -> str:
        """Return one moment to look at."""
        file, start, end = split_id(request.path_params["moment"])
        space, path = self._space, self._space.footage.path_of(file)
        facts, way, duration = space.media.facts(path), space.media.way(path), space.media.length(path)
        begin, stop = (0.0, duration) if way == "file" else space.media.stretch(path, start, end)
        files = space.archive().files
        values = {
            "m": self._answering.moment(file, start, end),
            "line": self._answering.timeline(file),
            "labels": space.labels(),
            "explains": files.config.stop is not None or bool(files.focus),
            "curve": _curve,
            "facts": facts,
            "way": way,
            "begin": begin,
            "end": stop,
            "duration": duration,
        }
        return self._render("look.html", **values)

    def explain(self, request: Request, _: Question) -> str:
        """Return what the model does with a moment: heavy work, which waits for its turn; or to ask again."""
        name = request.path_params["moment"]
        file, start, end = split_id(name)
        path, archive = self._space.footage.path_of(file), self._space.archive()

        def work(job: Job) -> str:
            job.report(0, 1)
            found = explain(archive.encoder, path, start=start, end=end)
            return self._render("seen.html", explanation=found, where=lambda *_: "#")

        key, begun = f"{archive.files.title} {name}", request.query_params.get("job", "")
        job = self._space.jobs.find(begun) or self._space.jobs.start(f"looking at {path.name}", work, key)
        if not job.over.wait(ANSWER):
            return self._render("waiting.html", job=job.id)
        return str(job.result) if job.state == "done" else _render("note.html", words=job.words or "stopped")

    def compare(self, request: Request, q: Question) -> str:
        """Return what two models find for one question."""
        both = self._answering.compare(q, request.path_params["name"])
        return self._render("compare.html", q=q, answers=both, busy=self._space.jobs.busy())

    def mistakes(self, request: Request, _: Question) -> str:
        """Return the held-out clips that a trained model gets wrong."""
        name, space, shown = request.path_params["name"], self._space, []
        judged = space.adapting.held_out(name)
        mistakes = [row for row in judged if row["label"] != row["predicted"]]
        for row in mistakes:
            file, start = Footage.id_of(row["path"]), read_clock(row["start"]) if row["start"] else 0.0
            if file in space.footage:
                path = space.footage.path_of(file)
                try:
                    end = read_clock(row["end"]) if row["end"] else space.media.length(path)
                except InputError:
                    continue  # it can be shown no more
                if (end or 0.0) <= (start or 0.0):
                    continue  # the file is shorter now
                found = self._answering.moment(file, start or 0.0, end or 0.0)
                shown.append({"m": found, "label": row["label"], "predicted": row["predicted"]})
        counts = {"judged": len(judged), "gone": len(mistakes) - len(shown)}
        return self._render("mistakes.html", name=name, mistakes=shown, **counts)

    def _render(self, template: str, **values: Any) -> str:
        names = self._space.labels()

        def hue_of(label: str) -> int:
            return hue(names.index(label)) if label in names else 0

        return _render(template, hue_of=hue_of, title_of=self._space.footage.title_of, **values)


def _piece(write: Callable[[Request, Question], str]) -> Callable[[Request], Any]:
    """Return an endpoint of a piece; it is written on a thread of its own, for it may wait."""

    async def answer(request: Request) -> Response:
        try:
            q = await read_body(request, Question) if request.method == "POST" else Question()
            return HTMLResponse(await run_in_threadpool(write, request, q))
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
