"""What programs may ask, as JSON: one table, from which the routes and the OpenAPI document are made."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from stopcli import __version__
from stopcli.errors import FileMissing, InputError, StopError, UsageError
from stopcli.fileio import keep_latest, make_private_folder, replacing
from stopcli.web.work.answering import Answering
from stopcli.web.work.media import forget_old
from stopcli.web.work.question import Answer, Judgement, Label, MomentId, Question, Shown, Strict
from stopcli.web.work.takeaway import CLIPS, MOST, take, take_model
from stopcli.web.work.workspace import Workspace

PICTURE = 20 << 20  # bytes of a picture
BODY = 1 << 20  # ... and of a question
MOST_PICTURES = 20


class NewLabel(Strict):
    """A label to choose from."""

    name: Label


class Rename(Strict):
    """A label, and what it is called from now on; a label that is there already takes its moments in."""

    name: Label
    to: Label


class Classify(Strict):
    """A moment, and the labels to choose between; by default those of the page."""

    moment: MomentId
    labels: list[Label] = Field(default=[], max_length=500)


class Compare(Strict):
    """A question, and the training whose model is compared with the one that it was made from."""

    question: Question
    training: str = Field(max_length=300)


class Train(Strict):
    """How to train; by default as `stop finetune` does."""

    epochs: int | None = Field(default=None, ge=0, le=1000)
    seed: int = Field(default=0, ge=0, le=2**31)


class Use(Strict):
    """The model that answers from now on."""

    model: str


class Take(Strict):
    """Moments to take away, and the format: a suffix as of `stop retrieve --export`, or .zip for clips."""

    moments: list[MomentId] = Field(min_length=1, max_length=MOST)
    kind: str = Field(max_length=10)
    name: str = Field(default="", max_length=1000, description="What those are called that have no label.")
    shown: dict[MomentId, Shown] = Field(default={}, max_length=MOST, description="What was said of them.")


class Json(JSONResponse):
    """JSON in plain letters: names of files may hold what is no text."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


@dataclass(frozen=True)
class Endpoint:
    """One thing that can be asked; ``call`` gets the body, or the path's parameters."""

    method: str
    path: str
    summary: str
    call: Callable[..., Any]
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None


class Api:
    """The endpoints over one workspace."""

    def __init__(self, space: Workspace, answering: Answering) -> None:
        self._space, self._answering = space, answering
        s, a = space, answering
        self.endpoints = (
            Endpoint("GET", "/api/status", "Videos, labels, work and trainings as they are now.", s.status),
            Endpoint("POST", "/api/search", "Find moments.", a.answer, Question, Answer),
            Endpoint("POST", "/api/classify", "Which label does a moment show?", self.classify, Classify),
            Endpoint(
                "POST",
                "/api/compare",
                "Two models' answers, without labelled moments.",
                self.compare,
                Compare,
            ),
            Endpoint("GET", "/api/timeline/{file}", "Each label's score over a file.", a.timeline),
            Endpoint("GET", "/api/labels", "What was labelled.", self.labelled),
            Endpoint(
                "POST", "/api/labels", "Add a label to choose from.", lambda b: s.add_label(b.name), NewLabel
            ),
            Endpoint(
                "POST", "/api/labels/rename", "Rename a label.", lambda b: s.rename(b.name, b.to), Rename
            ),
            Endpoint(
                "POST",
                "/api/judge",
                "Label moments; it is on the disk when this answers.",
                self.judge,
                Judgement,
            ),
            Endpoint("POST", "/api/undo", "Take back the last answer that changed anything.", s.undo),
            Endpoint(
                "POST", "/api/audit", "Draw a new sample of a label's predictions.", a.forget_audit, Question
            ),
            Endpoint("POST", "/api/rescan", "Look for new videos.", s.rescan),
            Endpoint("POST", "/api/use", "Answer with another model.", lambda b: s.use(b.model), Use),
            Endpoint("POST", "/api/train", "Begin a training from the labels.", self.train, Train),
            Endpoint(
                "GET",
                "/api/train/{name}",
                "How a training goes.",
                lambda name: s.adapting.read(name).to_dict(),
            ),
            Endpoint(
                "POST", "/api/train/{name}/stop", "Stop a training; what was learnt is kept.", s.adapting.stop
            ),
            Endpoint(
                "POST", "/api/train/{name}/resume", "Go on.", lambda name: s.adapting.resume(name).to_dict()
            ),
            Endpoint("POST", "/api/train/{name}/use", "Index with what was trained.", self.use_training),
            Endpoint("POST", "/api/take", "Moments as clips, a timeline or a table.", self.take, Take),
            Endpoint("POST", "/api/train/{name}/take", "The model as a ZIP.", self.take_model),
            Endpoint("GET", "/api/jobs", "Heavy work that runs, waits or is over.", s.jobs.listing),
        )

    def routes(self) -> list[Route]:
        """Return a route for each endpoint, for a picture, and for the document that describes them."""
        made = [Route(e.path, _answering(e), methods=[e.method]) for e in self.endpoints]
        made.append(Route("/api/picture", self.picture, methods=["POST"]))
        made.append(Route("/api/openapi.json", lambda _: Json(self.document()), methods=["GET"]))
        return made

    def classify(self, body: Classify) -> list[dict[str, Any]]:
        return self._answering.classify(body.moment, body.labels or self._space.labels())

    def compare(self, body: Compare) -> dict[str, Any]:
        before, after = self._answering.compare(body.question, body.training)
        return {"before": before.model_dump(), "after": after.model_dump()}

    def labelled(self) -> list[dict[str, Any]]:
        rows = self._space.rows()
        return [{"path": str(r.path), "start": r.start, "end": r.end, "label": r.label} for r in rows]

    def judge(self, body: Judgement) -> dict[str, Any]:
        self._space.judge(body.answers)
        table = self._space.table
        return {"labels": self._space.labels(), "counts": dict(table.counts()), "sha256": table.sha256}

    def train(self, body: Train) -> dict[str, Any]:
        options = ["--seed", str(body.seed)]
        options += [] if body.epochs is None else ["--epochs", str(body.epochs)]
        return self._space.train(options)

    def use_training(self, name: str) -> dict[str, Any]:
        model = self._space.add_model(str(self._space.adapting.usable(name)))
        self._space.trained[name] = model
        self._space.use(model)
        return {"model": model}

    def take(self, body: Take) -> dict[str, Any]:
        forget_old(self._space.taken)
        what = (body.moments, body.kind, body.name, body.shown, self._space.taken)
        key, quick = secrets.token_hex(8), body.kind != CLIPS  # a timeline does not wait for the index
        job = self._space.jobs.start("writing", lambda j: take(self._space, *what, j), key, quick=quick)
        return job.to_dict()

    def take_model(self, name: str) -> dict[str, Any]:
        model = self._space.adapting.usable(name)
        job = self._space.jobs.start(f"packing {name}", lambda _: take_model(model, self._space.taken))
        return job.to_dict()

    async def picture(self, request: Request) -> Json:
        """Keep a picture to search with; the answer names it."""
        data = await request.body()
        if not data:
            return error_of(UsageError("no picture was sent"))
        name = secrets.token_hex(16)

        def keep() -> None:
            folder = self._space.settings.cache / "page" / "pictures"
            make_private_folder(folder)
            keep_latest(folder, MOST_PICTURES - 1)
            with replacing(folder / name) as part:
                part.write_bytes(data)

        try:
            await run_in_threadpool(keep)
        except StopError as error:
            return error_of(error)
        return Json({"picture": name})

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        schemas: dict[str, Any] = {}
        paths: dict[str, Any] = {}

        def reference(model: type[BaseModel]) -> dict[str, str]:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
            return {"$ref": f"#/components/schemas/{model.__name__}"}

        for e in self.endpoints:
            answer: dict[str, Any] = {} if e.answer is None else reference(e.answer)
            said = {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}}
            said["default"] = {
                "description": "What was wrong, in one sentence",
                "content": {"application/json": {}},
            }
            call: dict[str, Any] = {"summary": e.summary, "responses": said}
            names = [part[1:-1] for part in e.path.split("/") if part.startswith("{")]
            if names:
                of = {"in": "path", "required": True, "schema": {"type": "string"}}
                call["parameters"] = [{"name": name, **of} for name in names]
            if e.body is not None:
                content = {"application/json": {"schema": reference(e.body)}}
                call["requestBody"] = {"required": True, "content": content}
            paths.setdefault(e.path, {})[e.method.lower()] = call
        picture = {"summary": "Send a picture to search with; the answer names it for a question."}
        content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
        sent = {
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "OK"}},
        }
        paths["/api/picture"] = {"post": picture | sent}
        return {
            "openapi": "3.1.0",
            "info": {"title": "stop serve", "version": __version__},
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }


def _answering(endpoint: Endpoint) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Json:
        try:
            arguments: list[Any] = list(request.path_params.values())
            if endpoint.body is not None:
                arguments.append(await read_body(request, endpoint.body))
            result = await run_in_threadpool(endpoint.call, *arguments)
        except StopError as error:
            return error_of(error)
        return Json(result.model_dump() if isinstance(result, BaseModel) else result)

    return answer


async def read_body(request: Request, model: type[Any]) -> Any:
    """Return a request's JSON as a model; UsageError says what is wrong with it."""
    try:
        return model.model_validate(json.loads(await request.body() or b"{}"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where or 'the body'}: {first['msg'].lower()}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError("the body must be JSON") from error


def error_of(error: StopError) -> Json:
    """Return what was wrong, with the status that fits."""
    status = 404 if isinstance(error, FileMissing) else 400 if isinstance(error, UsageError) else 500
    status = 422 if isinstance(error, InputError) and status == 500 else status
    return Json({"error": error.kind, "message": str(error)}, status)
