"""``stop finetune``."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import Bar
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError
from stopcli.model.config import Attention, HeadKind
from stopcli.results.training import Finetuned, StepReport, TrainingPlan

if TYPE_CHECKING:
    from stopcli.train.options import FinetuneOptions

EXAMPLES = """Examples:
  stop finetune labels.csv -o my-model
  stop finetune labels.csv -o my-model --resume
  stop finetune clips/ --shots 16 --epochs 30      # a folder of class folders\n"""

ESTIMATED = 10  # steps: from here on the time that is left is known
UNMEASURED = (
    "nothing is measured: no clip can be held out, as clips of one file or group stay together; "
    "add other files"
)
FEW = 30  # clips: a score on fewer says little


_epochs = o.training_option(
    metavar="N",
    min=0,
    help="Passes over the clips; default: as suits their number. 0 trains no prompts, and takes seconds.",
)
_lr = o.training_option(metavar="RATE", min=1e-9, max=1, help="Highest learning rate.")
_batch_size = o.training_option(metavar="auto|N", parser=o.number_or_auto, help="Clips a step.")
_shots = o.training_option(metavar="K", min=1, help="Train on at most K clips of each label.")
_attention = o.training_option(
    help="What patches attend to: all frames (joint) or their own (frame); default: the model's."
)
_flip = o.training_option(
    "--flip/--no-flip",
    help="Mirror half of the clips; default: unless a label says left, right or clockwise.",
)
_background = o.training_option(
    "--background", help="Learn unlabelled stretches of files with intervals as 'background'."
)
_color = o.training_option(
    "--color/--no-color", help="Vary the clips' colors; default: unless a label names one."
)
_keep = o.training_option(
    "--keep-zero-shot",
    help="Mix in the untuned model, as far as the validation score drops by no more than chance.",
)
_folds = o.training_option(
    metavar="K", min=2, max=100, help="Measure on all clips, by K models more; K+1 trainings."
)
_head = o.training_option(help="What labels are recognized by: their text, prototypes from clips, or both.")
_data = typer.Argument(
    metavar="DATA|DIR",
    help="A table of path and label or caption, class folders, or a file of BORIS, ELAN, Label Studio, "
    "OpenTimelineIO or subtitles.",
)
_output = o.output_option("--output", "-o", metavar="DIR", help="Model folder to make; default: NAME-model.")
_resume = typer.Option("--resume", help="Go on where an interrupted run stopped.")
_force = o.output_option("--force", help="Start over in a folder that holds a run.")
_dry_run = o.output_option("--dry-run", help="Check table and clips, and print the plan; write nothing.")
_skip_bad = o.input_option("--skip-bad", help="Skip rows with faults.")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train."""

    epochs: Annotated[int | None, _epochs] = None
    lr: Annotated[float, _lr] = 1e-3
    batch_size: Annotated[Any, _batch_size] = "auto"
    shots: Annotated[int | None, _shots] = None
    seed: o.Seed = 0
    spatial: o.SpatialMode = None
    temporal: o.TemporalMode = None
    attention: Annotated[Attention | None, _attention] = None
    flip: Annotated[bool | None, _flip] = None
    color: Annotated[bool | None, _color] = None
    template: o.Template = None
    head: Annotated[HeadKind, _head] = "auto"
    background: Annotated[bool, _background] = False
    keep_zero_shot: Annotated[bool, _keep] = False
    folds: Annotated[int | None, _folds] = None

    def options(self) -> FinetuneOptions:
        """Return these options in the form that `finetune` takes."""
        from stopcli.train.options import FinetuneOptions

        return FinetuneOptions(**vars(self))


@o.shares(Training, o.Compute, o.Show)
def command(
    *,
    data: Annotated[Path, _data],
    training: Training,
    compute: o.Compute,
    output: Annotated[Path | None, _output] = None,
    resume: Annotated[bool, _resume] = False,
    force: Annotated[bool, _force] = False,
    skip_bad: Annotated[bool, _skip_bad] = False,
    dry_run: Annotated[bool, _dry_run] = False,
    show: o.Show,
) -> None:
    """Adapt a model to your own labelled clips.

    The result is a model for every other command. CLIP stays frozen: only STOP's prompts are trained.
    Faults of the table are all listed, by row, before anything is trained.
    """
    folder = output or Path(f"{data.resolve().stem}-model")
    with session("finetune", show, compute, kept=f"{folder} is not finished; go on with --resume") as s:
        from stopcli.train import distributed
        from stopcli.train.finetune import finetune, plan

        if resume and force:
            raise UsageError("--resume and --force: give one of them")
        first = distributed.rank() == 0  # of several processes only the first speaks
        how: dict[str, Any] = {
            "resume": resume,
            "force": force,
            "command": shlex.join(["stop", *sys.argv[1:]]),
        }
        with closing(Progress(s, quiet=show.quiet or not first)) as callback:
            what = (lambda: s.files), data, folder, callback, training.options(), s.options
            if dry_run:
                _show(s, plan(*what, resume=resume, force=force, skip_bad=skip_bad), first=first)
                return
            result = finetune(*what, skip_bad=skip_bad, **how)
        _show(s, result, first=first)
        if first:
            _say_next(s, result)


def _show(s: Session, result: Finetuned | TrainingPlan, *, first: bool) -> None:
    """Add a result to the output of the first process, and to no other's."""
    from stopcli.train import distributed

    if first:
        s.output.add(result)
        if not ((result.clips or {}).get("val") or getattr(result, "cross_validation", None)):
            s.say(f"warning: {UNMEASURED}")
    else:
        s.output.format = "none"
    distributed.shutdown()


def _say_next(s: Session, result: Finetuned) -> None:
    from stopcli.hub.named import ENTRIES

    path = f"./{result.path}" if result.path in ENTRIES else result.path
    folder, clips = shlex.quote(path), result.clips or {}
    sure, count = result.validation_interval, clips.get("val", 0)
    if sure and count < FEW and not result.cross_validation and clips.get("test", 0) < FEW:
        more = (
            f"; --folds 5 measures on all {count + clips.get('train', 0)}"
            if result.task == "classification"
            else ""
        )
        s.say(f"{count} validation clips say little: the score may be {sure[0]:.0f} to {sure[1]:.0f} %{more}")
    if result.other_labels is not None:
        more = "" if result.zero_shot is not None else "; --keep-zero-shot keeps more of them"
        kept = f"{result.other_labels:.0f} % of the validation clips keep their best Kinetics name"
        s.say(f"other labels: {kept}{more}")
    for sentence in result.advice:
        s.say(f"warning: {sentence}" if sentence == result.advice[0] else sentence)
    if result.advice:
        return
    if result.task == "classification":
        s.say(f"next: stop classify --model {folder} VIDEO|DIR...")
    s.say(f'next: stop retrieve --model {folder} "what to look for" DIR...')


class Progress:
    """Bars and sentences on stderr; in a log, one line every twentieth of the run."""

    def __init__(self, s: Session, *, quiet: bool) -> None:
        self._session, self._quiet = s, quiet
        self._bar: Bar | None = None
        self._done = self._twentieths = 0
        self._score = ""

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _open(self, what: str, total: int) -> None:
        self.close()
        self._bar, self._done = Bar(what, total, quiet=self._quiet), 0

    def decoding(self, total: int) -> None:
        self._open("reading clips", total)

    def decoded(self, _: Path) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._done)

    def skipped(self, problem: str) -> None:
        self._say(f"skipped: {problem}")

    def noted(self, note: str) -> None:
        self._say(f"note: {note}")

    def plan(self, plan: TrainingPlan) -> None:
        self.close()
        self._twentieths, self._score = 0, ""
        split = ", ".join(f"{n} {s}" for s, n in plan.clips.items() if n)
        classes = f" of {plan.classes} classes" if plan.classes else ""
        if plan.steps and not plan.clips.get("val"):
            self._say(f"warning: {UNMEASURED}")
        if not plan.steps:
            self._say(f"clips: {split}{classes}; no prompts are trained, labels are learnt from the clips")
            return
        changed = "half of them" if plan.flip else "no"
        changed = f"mirrored: {changed}; colors: {'varied' if plan.color else 'as they are'}"
        self._say(f"clips: {split}{classes}; {changed}")
        self._say(f"parameters: {plan.trainable:,} trainable, {plan.frozen:,} frozen")
        self._say(f"device: {plan.device}, {plan.precision}")
        steps = f"{plan.steps} of {plan.batch_size} clips ({plan.epochs} epochs)"
        self._say(f"steps: {steps}, {_about(plan.seconds)}")
        if plan.plain is not None:
            self._say(f"plain CLIP: {plan.metric} {plan.plain:.1f} % on the validation clips")
        if plan.resumed:
            self._say(f"resuming after step {plan.resumed}")
        self._open("training", plan.steps)
        self._metric = plan.metric

    def progress(self, report: StepReport) -> None:
        if report.score is not None:
            self._score = f", {self._metric} {report.score:.1f} % (best {report.best:.1f} %)"
        if report.plateau is not None:
            stuck = f"warning: for 100 steps the loss has been that of guessing ({report.plateau:.2f})"
            self._say(f"{stuck}; if it stays there, check the labels, or try --lr 3e-4 or --spatial off")
        words = f"loss {report.loss:.3f}{self._score}"
        if self._bar is not None:
            self._bar.update(report.step, words)
        left = f", {_about(report.seconds_left)} left" if report.seconds_left else ""
        if report.settled:
            why = f"nothing was gained on the validation clips for {report.settled} steps"
            self._say(f"ended at step {report.step} of {report.steps}: {why}")
            return
        twentieths = report.step * 20 // report.steps
        if not sys.stderr.isatty() and (twentieths > self._twentieths or report.step == ESTIMATED):
            self._twentieths = twentieths
            self._say(f"step {report.step} of {report.steps}: {words}{left}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._session.say(text)


def _about(seconds: float) -> str:
    if not seconds:
        return "time not known yet"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
