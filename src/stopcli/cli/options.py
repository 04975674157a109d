"""The options that commands share: declared once, spread over a command's signature by `shares`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from stopcli.cli.completion import complete_model
from stopcli.settings import MOST_SEED, Precision

input_option = partial(typer.Option, rich_help_panel="Input")
model_option = partial(typer.Option, rich_help_panel="Model")
training_option = partial(typer.Option, rich_help_panel="Training")
output_option = partial(typer.Option, rich_help_panel="Output")
Command = TypeVar("Command", bound=Callable[..., Any])


FOCUS = 3.0  # in units of attention logits; docs/results.md has the curve
Format = Literal["auto", "table", "json", "jsonl", "csv"]


def number_or_auto(text: str) -> int | None:
    """Return the number of clips in a batch; None for auto."""
    if text == "auto":
        return None
    if not (text.isdecimal() and 1 <= int(text) <= 65536):
        raise typer.BadParameter(f"must be auto or a number from 1 to 65536, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a time as people write it, in seconds."""
    from stopcli.results import read_clock

    if (found := read_clock(text)) is None:
        raise typer.BadParameter(f"must be seconds or h:mm:ss, such as 83.5 or 1:23.5, got {text!r}")
    return found


_WINDOW = ("--window", "--every")
_SPAN: dict[str, Any] = {"metavar": "SECONDS", "min": 0.1, "max": 86400}
_MODEL: dict[str, Any] = {"metavar": "NAME|hf:ORG/REPO|PATH", "autocompletion": complete_model}

_paths = typer.Argument(metavar="VIDEO|DIR...", help="Videos or folders; - reads a list.", allow_dash=True)
_files_from = input_option(
    metavar="FILE", help="Read more paths from a file, one per line; - is stdin.", allow_dash=True
)
_window = input_option(*_WINDOW, **_SPAN, help="Cut videos into windows of this length.")
_search_window = input_option(*_WINDOW, **_SPAN, help="Length of the windows that are searched.")
_cuts = input_option(
    "--cuts", help="Whether windows end at cuts; auto: yes, unless the files are indexed with fixed ones."
)
_shard = input_option(metavar="I/N|auto", help="Do part I of N; auto: as SLURM or RANK says.")
_engine = model_option(
    "--engine", help="local: this machine; ray: a Ray cluster, or Ray on this machine without --ray-address."
)
_ray_address = model_option(
    metavar="HOST:PORT", help="Address of the Ray cluster; default: start Ray on this machine."
)
_ray_actors = model_option(
    metavar="N", min=1, max=4096, help="Models that run at once; default: one per GPU, or one without a GPU."
)
_whole = input_option("--whole", help="One vector a file, no windows.")
_labels = input_option(
    metavar='"A,B,C"|@FILE', help="What to choose between; @FILE reads one per line. May be given again."
)
_template = input_option(
    metavar="TEXT", help='A sentence for labels; default: the model\'s or "a video of {}".'
)
_top_k = output_option("--top-k", "-k", metavar="N", min=1, help="How many to show.")
_force = output_option("--force", help="Replace what is there.")
_pad = output_option(metavar="SECONDS", min=0, max=3600, help="Make clips longer by this on both sides.")
_exact = output_option("--exact", help="Clips hold nothing else: encode again where that needs it.")
_model = model_option("--model", "-m", **_MODEL, help="A named model, a Hub repository or a folder.")
_models = model_option("--model", "-m", **_MODEL, help="A model; may be given several times.")
_device = model_option("--device", metavar="auto|cpu|cuda[:N]|mps", help="Where to compute.")
_precision = model_option(
    "--precision", help="auto is bf16 where the hardware is fast at it; int8 is for CPUs."
)
_batch = model_option("--batch-size", metavar="auto|N", parser=number_or_auto, help="Clips computed at once.")
_frames = model_option("--frames", metavar="N", min=1, max=64, help="Frames a clip; default: the model's.")
_compile = model_option("--compile", help="torch.compile on CUDA: slow to start, then faster.")
_focus = model_option("--focus", help="motion: look at what moves. For models without prompts.")
_strength = model_option("--focus-strength", metavar="X", min=0.1, max=20, help="How strongly; 6 is strong.")
_fit = model_option("--fit", help="How frames become squares; auto is what the tower was trained with.")
_sampling = model_option(
    "--sampling", help="keyframes: key frames only, faster but coarser; auto: as the model was made."
)
_offline = model_option("--offline", help="Make no request; use what is cached.")
_spatial = training_option(help="Prompts on regions; default: the model's.")
_temporal = training_option(help="Prompts between frames; default: the model's.")
_format = output_option("--format", help="auto is a table.")
_quiet = output_option(
    "--quiet", "-q", help="Print one line per result, tabs between its parts, and no notes."
)
_null = output_option("-0", help="With -q: end each line with NUL, for xargs -0.")
_raw = output_option("--raw", help="With csv: cells as they are, also those that a spreadsheet would run.")
_verbose = output_option("--verbose", "-v", help="Show the device and precision chosen, and tracebacks.")

Paths = Annotated[list[Path] | None, _paths]
FilesFrom = Annotated[Path | None, _files_from]
Window = Annotated[float | None, _window]
SearchWindow = Annotated[float, _search_window]
Cuts = Annotated[Literal["auto", "on", "off"], _cuts]
Whole = Annotated[bool, _whole]
ShardName = Annotated[str | None, _shard]
Labels = Annotated[list[str] | None, _labels]
Template = Annotated[str | None, _template]
TopK = Annotated[int, _top_k]
Force = Annotated[bool, _force]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, max=MOST_SEED, help="For everything that is drawn at random.")
]
ModelName = Annotated[str | None, _model]
ModelNames = Annotated[list[str] | None, _models]
DeviceName = Annotated[str, _device]
PrecisionName = Annotated[Precision, _precision]
BatchSize = Annotated[Any, _batch]
FitName = Annotated[Literal["auto", "crop", "squash", "pad"], _fit]
SamplingName = Annotated[Literal["auto", "exact", "keyframes"], _sampling]
FrameCount = Annotated[int | None, _frames]
Compile = Annotated[bool, _compile]
Offline = Annotated[bool, _offline]
SpatialMode = Annotated[Literal["off", "static", "dynamic"] | None, _spatial]
TemporalMode = Annotated[Literal["off", "static", "dynamic"] | None, _temporal]
FocusOn = Annotated[Literal["off", "motion"], _focus]
FocusStrength = Annotated[float, _strength]


@dataclass(frozen=True, kw_only=True)
class Show:
    """How results are shown."""

    format: Annotated[Format, _format] = "auto"
    quiet: Annotated[bool, _quiet] = False
    null: Annotated[bool, _null] = False
    raw: Annotated[bool, _raw] = False
    verbose: Annotated[bool, _verbose] = False


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how a model is run."""

    device: DeviceName = "auto"
    precision: PrecisionName = "auto"
    frames: FrameCount = None
    fit: FitName = "auto"
    sampling: SamplingName = "auto"
    offline: Offline = False


@dataclass(frozen=True, kw_only=True)
class Compute(Device):
    """Which model, and where and how it is run."""

    model: ModelName = None

    @property
    def strength(self) -> float:
        """How strongly plain CLIP is drawn to what moves."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Focused(Compute):
    """... and what a model without prompts looks at."""

    focus: FocusOn = "off"
    focus_strength: FocusStrength = FOCUS

    @property
    def strength(self) -> float:
        """How strongly plain CLIP is drawn to what moves."""
        return self.focus_strength if self.focus == "motion" else 0.0


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How moments become clips."""

    pad: Annotated[float, _pad] = 0.0
    exact: Annotated[bool, _exact] = False


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which machines work."""

    engine: Annotated[Literal["local", "ray"], _engine] = "local"
    ray_address: Annotated[str | None, _ray_address] = None
    ray_actors: Annotated[int | None, _ray_actors] = None


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
                default = inspect.Parameter.empty if field.default is MISSING else field.default
                parameters[field.name] = inspect.Parameter(
                    field.name, _KEYWORD, default=default, annotation=options[field.name]
                )

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
