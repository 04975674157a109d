"""``stop benchmark few-shot`` and ``stop benchmark base-to-novel``."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from stopcli.cli import options as o
from stopcli.cli.finetune import Progress
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError

FEW_SHOT_EXAMPLES = """Examples:
  stop benchmark few-shot --dataset my.csv --shots 2,4,8
  stop benchmark few-shot --dataset hmdb51 --annotations splits/ --videos hmdb51/"""
BASE_EXAMPLES = """Examples:
  stop benchmark base-to-novel --dataset my.csv --mix
  stop benchmark base-to-novel --dataset ucf101 --annotations splits/ --videos ucf/"""
MOST, KEPT = 10_000, "models are kept; run it again to go on"

_dataset = o.input_option(metavar="NAME|TABLE", help="hmdb51, ucf101, ssv2, kinetics400, or a table.")
_annotations = o.input_option(metavar="FILE|DIR", help="Split files and labels; may be given again.")
_videos = o.input_option(metavar="DIR", help="Where the data set's videos are.")
_shots = o.input_option(metavar="K,K,...", help="Clips of each class to train on.")
_base_shots = o.input_option(
    metavar="K",
    min=1,
    help="Clips of each class to train on; for tables only: split files fix their own number.",
)
_seeds = o.input_option(
    metavar="N,N,...",
    help="A model is trained for each. Where split files have a list for each, that list is used.",
)
_epochs = o.training_option(metavar="N", min=1, help="Passes over the clips.")
_lr = o.training_option(metavar="RATE", min=1e-9, max=1, help="Highest learning rate.")
_mix = o.training_option("--mix", help="Score mixtures with the untrained model too.")
_output = o.output_option("--output", "-o", metavar="DIR", help="Models and results; default: DATA-KIND.")
_force = o.output_option("--force", help="Train again what is there, and replace other results.")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is trained, and on what."""

    dataset: Annotated[str, _dataset]
    annotations: Annotated[list[Path] | None, _annotations] = None
    videos: Annotated[Path | None, _videos] = None
    seeds: Annotated[str, _seeds] = "1,2,3"
    epochs: Annotated[int, _epochs] = 50
    lr: Annotated[float, _lr] = 1e-3
    spatial: o.SpatialMode = None
    temporal: o.TemporalMode = None
    mix: Annotated[bool, _mix] = False
    output: Annotated[Path | None, _output] = None
    force: Annotated[bool, _force] = False


@o.shares(Trial, o.Compute, o.Show)
def few_shot(
    *, trial: Trial, shots: Annotated[str, _shots] = "2,4,8,16", compute: o.Compute, show: o.Show
) -> None:
    """Score models made from a few clips of each class.

    The score of the last epoch is honest. That of the best epoch is what papers print; it is picked on the
    clips of the test.
    """
    with session("benchmark few-shot", show, compute, kept=KEPT) as s:
        _run(s, "few-shot", trial, _numbers("--shots", shots))


@o.shares(Trial, o.Compute, o.Show)
def base_to_novel(
    *, trial: Trial, shots: Annotated[int, _base_shots] = 16, compute: o.Compute, show: o.Show
) -> None:
    """Score models on classes they were trained on, and on others.

    Half of the classes are trained on; base, novel and their harmonic mean stand together.
    """
    with session(
        "benchmark base-to-novel", show, compute, kept="models are kept; run it again to go on"
    ) as s:
        _run(s, "base-to-novel", trial, [shots])


def _run(s: Session, kind: Literal["few-shot", "base-to-novel"], trial: Trial, shots: list[int]) -> None:
    from stopcli.data.protocols import trials
    from stopcli.eval.report import check_trials, write_trials
    from stopcli.train.options import FinetuneOptions
    from stopcli.train.trials.trial import Trials

    seeds = _numbers("--seeds", trial.seeds)
    modes: dict[str, Any] = {"spatial": trial.spatial, "temporal": trial.temporal}
    options = FinetuneOptions(epochs=trial.epochs, lr=trial.lr, **modes)
    wanted = trials.load_protocol(kind, trial.dataset, trial.annotations or [], shots, seeds)
    if trial.dataset.lower() in trials.NAMED and trial.videos is None:
        raise UsageError(f"--videos is needed: the folder with the videos of {trial.dataset}")
    protocol, missing = trials.locate_protocol(wanted, trial.videos)
    if missing:
        s.say(f"missing: {len(missing)} videos, such as {', '.join(missing[:3])}; scores are on the rest")
    trials.require_whole(protocol)
    folder = trial.output or Path(f"{Path(trial.dataset).stem}-{kind}")
    asked = [(t.shots, t.seed) for t in protocol.trials]
    made = {"model": s.files.name, "settings": asdict(replace(options, head="text"))}
    check_trials(folder, protocol.description, asked, made, force=trial.force)
    s.say(protocol.description)
    with closing(Progress(s, quiet=s.show.quiet)) as callback:
        what = s.files, protocol, options, s.options, folder, callback
        rows, failures = Trials(*what, mix=trial.mix, force=trial.force).run()
    s.output.add_all([*failures, *rows])
    line = shlex.join(["stop", *sys.argv[1:]])
    s.say(f"written: {', '.join(map(str, write_trials(folder, protocol.description, line, rows, missing)))}")


def _numbers(option: str, text: str) -> list[int]:
    values = [value.strip() for value in text.split(",")]
    if wrong := [v for v in values if not v.isdecimal() or not 1 <= int(v) <= MOST]:
        raise UsageError(f"{option} takes numbers from 1 to {MOST}, such as 1,2,3; got {wrong[0]!r}")
    return list(dict.fromkeys(map(int, values)))
