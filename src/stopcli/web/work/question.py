"""What the page, a program or an assistant may ask, and what it is answered: checked, and bounded."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stopcli.errors import UsageError

Queue = Literal["best", "uncertain", "diverse", "audit", "labelled"]
MOMENT_ID = r"^[0-9a-f]{16}-\d{1,12}-\d{1,12}$"
MomentId = Annotated[str, StringConstraints(pattern=MOMENT_ID)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]


class Strict(BaseModel):
    """Unknown names are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Question(Strict):
    """Which moments are wanted."""

    query: str = Field(default="", max_length=1000, description="A sentence.")
    unlike: list[Text] = Field(default=[], max_length=10, description="Sentences that fit no hit better.")
    like: list[MomentId] = Field(default=[], max_length=20, description="Moments to be like.")
    unlike_moments: list[MomentId] = Field(
        default=[], max_length=50, description="Moments that no hit is nearer to."
    )
    picture: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{32}$", description="A picture that was sent."
    )
    label: Label | None = Field(default=None, description="Rank by what was labelled so.")
    queue: Queue = Field(
        default="best", description="In which order; audit draws at random from what is predicted."
    )
    top_k: int = Field(default=24, ge=1, le=500)
    glob: str | None = Field(default=None, max_length=500, description="Only paths like this: '*/2021/*'.")
    min_duration: Seconds | None = Field(
        default=None, description="Only files at least so many seconds long."
    )
    max_duration: Seconds | None = None
    per_file: int | None = Field(default=None, ge=1, le=500)
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    fold: bool = Field(default=True, description="Copies of a moment in other files are one hit.")
    model: str | None = Field(
        default=None, max_length=500, description="One of the models in use; the current one."
    )


class Moment(BaseModel):
    """A stretch of a video; times are seconds."""

    id: str
    file: str
    path: str
    start: float
    end: float
    score: float = Field(description="The cosine with the query; with a label, from -1 (no) to 1 (yes).")
    confidence: float | None = None
    also: list[str] = Field(default=[], description="Other files with a copy of the moment.")
    label: str | None = None
    suggestion: str | None = Field(default=None, description="The label that fits best so far.")


class Shown(BaseModel):
    """What the page said of a moment that is taken away."""

    name: str = Field(default="", max_length=1000, description="The label that it suggested.")
    score: float = 0.0
    confidence: float | None = None


class Audit(BaseModel):
    """How right a label's predictions are, measured on a random sample of them."""

    label: str
    predicted: int = Field(description="Moments that were predicted when the sample was drawn.")
    drawn: int
    judged: int
    right: int
    share: float | None = Field(default=None, description="Percent.")
    interval: tuple[float, float] | None = Field(default=None, description="Of 95 %, in percent.")


class Answer(BaseModel):
    """Moments, best first, and how they were found."""

    moments: list[Moment]
    model: str
    seconds: float
    total: int = Field(description="Moments that were looked at, or that have a label.")
    audit: Audit | None = None


class Judgement(Strict):
    """What moments show, by label; null takes the label away. All of it is taken back at once."""

    answers: dict[MomentId, Label | None] = Field(min_length=1, max_length=500)


def split_id(moment: str) -> tuple[str, float, float]:
    """Return the file's id and the seconds of a moment's id; raises UsageError."""
    if not re.fullmatch(MOMENT_ID, moment):
        raise UsageError("that is no moment's id")
    file, start, end = moment.split("-")
    if int(end) <= int(start):
        raise UsageError("a moment must end after it starts")
    return file, int(start) / 1000, int(end) / 1000


def moment_id(file: str, start: float, end: float) -> str:
    """Return the id of a moment, to the millisecond."""
    return f"{file}-{round(1000 * start)}-{round(1000 * end)}"
