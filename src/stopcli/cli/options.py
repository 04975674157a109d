"""The options that commands share: declared once, spread over a command's signature by `shares`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from stopcli.cli.completion import complete_model

input_option = partial(typer.Option, rich_help_panel="Input")
model_option = partial(typer.Option, rich_help_panel="Model")
output_option = partial(typer.Option, rich_help_panel="Output")
Command = TypeVar("Command", bound=Callable[..., Any])


class Precision(str, Enum):
    """Values of --precision."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Format(str, Enum):
    """Values of --format."""

    auto = "auto"
    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


def number_or_auto(text: str) -> int | None:
    """Return the number of clips in a batch; None for auto."""
    if text == "auto":
        return None
    if not (text.isdecimal() and 1 <= int(text) <= 65536):
        raise typer.BadParameter(f"must be auto or a number from 1 to 65536, got {text!r}")
    return int(text)


# ------------------------------------------------------------------------------- one option each

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="VIDEO|DIR...", help="Videos, or folders of them; - reads a list.", allow_dash=True
    ),
]
FilesFrom = Annotated[
    Path | None,
    input_option(
        metavar="FILE",
        allow_dash=True,
        help="Read more paths from a file, one a line or NUL-separated; - is stdin.",
    ),
]
Window = Annotated[
    float | None,
    input_option(
        "--window",
        "--every",
        metavar="SECONDS",
        min=0.1,
        max=86400,
        help="Cut videos into windows of this length.",
    ),
]
SearchWindow = Annotated[
    float,
    input_option(
        "--window",
        "--every",
        metavar="SECONDS",
        min=0.1,
        max=86400,
        help="Length of the windows that are searched.",
    ),
]
Whole = Annotated[bool, input_option("--whole", help="One vector a file, no windows.")]
Labels = Annotated[
    str | None, input_option(metavar='"A,B,C"|@FILE', help="What to choose between; @FILE reads one a line.")
]
Template = Annotated[
    str | None,
    input_option(
        metavar="TEXT", help='The sentence around a label; default: the model\'s own, else "a video of {}".'
    ),
]
TopK = Annotated[int, output_option("--top-k", "-k", metavar="N", min=1, help="How many to show.")]
Html = Annotated[
    Path | None, output_option(metavar="FILE", help="Write a page with pictures, for a browser.")
]
Force = Annotated[bool, output_option("--force", help="Replace what is there.")]
IndexFolder = Annotated[
    Path | None, output_option("--index", metavar="DIR", file_okay=False, help="Where the index is kept.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="For everything that is drawn at random.")]
ModelName = Annotated[
    str | None,
    model_option(
        "--model",
        "-m",
        metavar="NAME|hf:ORG/REPO|PATH",
        help="A name ('stop models list'), a Hub repository, or a model folder.",
        autocompletion=complete_model,
    ),
]
ModelNames = Annotated[
    list[str] | None,
    model_option(
        "--model",
        "-m",
        metavar="NAME|hf:ORG/REPO|PATH",
        help="A model; may be given several times.",
        autocompletion=complete_model,
    ),
]
DeviceName = Annotated[
    str, model_option("--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to compute.")
]
PrecisionName = Annotated[
    Precision, model_option("--precision", help="auto is bf16 where the hardware is fast at it.")
]
BatchSize = Annotated[
    Any, model_option("--batch-size", metavar="auto|N", parser=number_or_auto, help="Clips computed at once.")
]
FrameCount = Annotated[
    int | None,
    model_option(
        "--frames",
        metavar="N",
        min=1,
        max=64,
        help="Frames of each clip; default: what the model was made for.",
    ),
]
Compile = Annotated[
    bool, model_option("--compile", help="torch.compile on CUDA: slow to start, then faster.")
]
Offline = Annotated[bool, model_option("--offline", help="Make no request; use what is cached.")]


# ------------------------------------------------------------------------------ groups of options


@dataclass(frozen=True, kw_only=True)
class Show:
    """How results are shown."""

    format: Annotated[Format, output_option(help="auto is a table.")] = Format.auto
    quiet: Annotated[bool, output_option("--quiet", "-q", help="Print paths or labels only.")] = False
    null: Annotated[bool, output_option("-0", help="With -q: end each line with NUL, for xargs -0.")] = False
    verbose: Annotated[bool, output_option("--verbose", "-v", help="Say what was chosen, and why.")] = False


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Which model, and how it is run."""

    model: ModelName = None
    device: DeviceName = "auto"
    precision: PrecisionName = Precision.auto
    frames: FrameCount = None
    offline: Offline = False


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How many clips at once, and how they are run."""

    batch_size: BatchSize = "auto"
    compile: Compile = False


def shares(*groups: type) -> Callable[[Command], Command]:
    """Spread groups of options over a command: its parameters that are such groups become their options."""

    def decorate(body: Command) -> Command:
        hints = get_type_hints(body, include_extras=True)
        parameters: dict[str, inspect.Parameter] = {}
        spread: dict[str, type] = {}
        for name, parameter in inspect.signature(body).parameters.items():
            if hints[name] not in groups:
                parameters[name] = parameter.replace(annotation=hints[name], kind=_KEYWORD)
                continue
            group = spread[name] = hints[name]
            options = get_type_hints(group, include_extras=True)
            for field in fields(group):
                option = inspect.Parameter(
                    field.name, _KEYWORD, default=field.default, annotation=options[field.name]
                )
                parameters[field.name] = option

        def command(**values: Any) -> Any:
            for name, group in spread.items():
                values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
            return body(**values)

        command.__name__, command.__doc__ = body.__name__, _joined(body.__doc__ or "")
        command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in parameters.items()}
        return command  # type: ignore[return-value]

    return decorate


def _joined(text: str) -> str:
    """Return a docstring with each paragraph on one line: the terminal breaks it."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
