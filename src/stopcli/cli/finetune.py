"""``stop finetune``."""

from __future__ import annotations

import os
import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible
from stopcli.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

    from stopcli.results import Finetuned, StepReport, TrainingPlan

EXAMPLES = """Examples:\n
  stop finetune labels.csv -o my-model\n
  stop finetune labels.csv -o my-model --resume\n
  stop finetune clips/ --shots 16 --epochs 30      # a folder of class folders\n
Then:\n
  stop classify --model my-model footage/"""


class Mode(str, Enum):
    """Values of --spatial and --temporal."""

    dynamic = "dynamic"
    static = "static"
    off = "off"


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.csv|DIR",
            help="A table with columns path and label (or caption), or a folder of class folders.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="The model folder to make; default: NAME-model."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Passes over the clips; default: by their number."),
    ] = None,
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="Highest learning rate.")] = 1e-3,
    batch_size: Annotated[
        str,
        typer.Option(
            "--batch-size", metavar="auto|N", help="Clips a step; computed in pieces where they do not fit."
        ),
    ] = "auto",
    shots: Annotated[
        int | None, typer.Option("--shots", metavar="K", help="Train on at most K clips of each label.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of splits, order and start.")] = 0,
    spatial: Annotated[
        Mode | None, typer.Option("--spatial", help="Prompts on regions; default: the model's.")
    ] = None,
    temporal: Annotated[
        Mode | None, typer.Option("--temporal", help="Prompts between frames; default: the model's.")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip", help="Mirror half of the clips; default: unless a label says left or right."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="TEXT", help='The sentence around a label: "a video of {}".'),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Begin anew in a folder that holds a run.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows with faults.")] = False,
    model: o.Model = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    frames: o.FrameCount = None,
    offline: o.Offline = False,
    format: o.FormatOption = o.Format.auto,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Adapt a model to your own labelled clips; the result is a model for every other command.

    CLIP stays frozen: only STOP's prompts are trained. Faults of the table are all listed, by row,
    before anything is trained.
    """
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size="auto", frames=frames,
        offline=offline, format=format.value, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    for name, value in (("--epochs", epochs), ("--shots", shots)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if not 0 < lr <= 1:
        raise UsageError(f"--lr must be above 0 and at most 1, got {lr:g}")
    if batch_size != "auto" and not (batch_size.isdecimal() and 2 <= int(batch_size) <= 65536):
        raise UsageError(f"--batch-size must be auto or between 2 and 65536, got {batch_size}")
    if resume and force:
        raise UsageError("--resume and --force: give one of them")
    folder = output or Path(f"{data.resolve().stem}-model")
    if int(os.environ.get("RANK", "0")):  # of several processes only the first speaks
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    with (
        interruptible(f"{folder} keeps what was learnt; go on with --resume"),
        common.output("finetune") as out,
    ):
        import warnings

        if not verbose:
            warnings.filterwarnings("ignore")
        from stopcli.data.labels import TEMPLATE
        from stopcli.runtime.encoder import EncoderOptions
        from stopcli.train import distributed as parallel
        from stopcli.train.finetune import FinetuneOptions, finetune

        settings = FinetuneOptions(
            epochs, lr, None if batch_size == "auto" else int(batch_size), shots, seed,
            spatial.value if spatial else None, temporal.value if temporal else None, flip,
            template or TEMPLATE,
        )  # fmt: skip
        files = common.files()
        common.introduce(files)
        with _Watcher(common, quiet=quiet or parallel.rank() > 0) as watcher:
            result = finetune(
                files, data, folder, watcher, settings,
                EncoderOptions(device, precision.value, None, frames),
                resume=resume, force=force, skip_bad=skip_bad, command=shlex.join(["stop", *sys.argv[1:]]),
            )  # fmt: skip
        if parallel.rank() == 0:
            out.add(result)
            if out.format == "table":
                _say_next(common, result)
        parallel.stop()
    raise typer.Exit(out.exit_status)


def _say_next(common: o.Common, result: Finetuned) -> None:
    folder = shlex.quote(result.path)
    if result.validation is not None and result.validation_plain is not None:
        if result.validation <= result.validation_plain:
            common.say("warning: no better than plain CLIP on the validation clips; more clips may help")
    else:
        common.say("warning: no clip could be held out, so nothing was measured")
    if result.task == "classification":
        common.say(f"next: stop classify --model {folder} VIDEO|DIR...")
    common.say(f'next: stop retrieve --model {folder} --query "..." DIR...')


class _Watcher:
    """Bars and sentences on stderr; in a log, one line every twentieth of the run."""

    def __init__(self, common: o.Common, *, quiet: bool) -> None:
        from rich.console import Console

        self._common, self._quiet = common, quiet
        self._console = Console(stderr=True, highlight=False)
        self._bar: Any = None
        self._task: Any = None
        self._score: float | None = None
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _open(self, what: str, total: int, *more: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._close()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *more,
            TimeRemainingColumn(),
        )
        hidden = self._quiet or not self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._bar.start()
        self._task = self._bar.add_task(what, total=total, told="")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def decoding(self, total: int) -> None:
        self._open("reading clips", total)

    def decoded(self, _: Path) -> None:
        self._bar.advance(self._task)

    def skipped(self, problem: str) -> None:
        self._say(f"left out: {problem}")

    def plan(self, plan: TrainingPlan) -> None:
        from rich.progress import TextColumn

        self._close()
        split = ", ".join(f"{n} {s}" for s, n in plan.clips.items() if n)
        classes = f" of {plan.classes} classes" if plan.classes else ""
        self._say(f"clips: {split}{classes}; mirrored: {'half of them' if plan.flip else 'no'}")
        self._say(f"parameters: {plan.trainable:,} trainable, {plan.frozen:,} frozen")
        self._say(f"device: {plan.device}, {plan.precision}")
        self._say(
            f"steps: {plan.steps} of {plan.batch_size} clips ({plan.epochs} epochs), {_about(plan.seconds)}"
        )
        if plan.plain is not None:
            self._say(f"plain CLIP: {plan.metric} {plan.plain:.1f} % on the validation clips")
        if plan.resumed:
            self._say(f"going on after step {plan.resumed}")
        self._open("training", plan.steps, TextColumn("{task.fields[told]}"))
        self._bar.update(self._task, completed=plan.resumed)
        self._metric = plan.metric

    def progress(self, progress: StepReport) -> None:
        self._score = progress.score if progress.score is not None else self._score
        score = (
            f", {self._metric} {self._score:.1f} % (best {progress.best:.1f} %)"
            if self._score is not None
            else ""
        )
        told = f"loss {progress.loss:.3f}{score}"
        self._bar.update(self._task, completed=progress.step, told=told)
        twentieth = progress.step * 20 // progress.steps
        if not self._console.is_terminal and twentieth > self._shown:
            self._shown = twentieth
            self._say(f"step {progress.step} of {progress.steps}: {told}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, soft_wrap=True, markup=False)


def _about(seconds: float) -> str:
    if not seconds:
        return "time not known yet"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
