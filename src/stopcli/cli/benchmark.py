"""``stop benchmark``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stopcli.cli import options as o
from stopcli.cli import trials
from stopcli.cli.session import Session, session
from stopcli.errors import UsageError
from stopcli.settings import Precision

if TYPE_CHECKING:
    from stopcli.data.protocols.benchmarks import Benchmark

EXAMPLES = (
    "Examples:\n  stop benchmark accuracy --dataset my.csv --model my-model\n  stop benchmark speed footage/"
)
ACCURACY_EXAMPLES = """Examples:
  stop benchmark accuracy --dataset my.csv --model my-model --model other-model
  stop benchmark accuracy --dataset msrvtt --annotations MSRVTT_JSFUSION_test.csv --videos msrvtt/
  stop benchmark accuracy --dataset ucf101 --annotations ucfTrainTestlist/ --videos UCF-101/ -o ucf/"""
SPEED_EXAMPLES = """Examples:
  stop benchmark speed --model mini
  stop benchmark speed --model vit-b-32 --precisions fp32,bf16 --batch-sizes 1,8,32 footage/"""
MOMENTS_EXAMPLES = """Examples:
  stop benchmark moments --dataset captions.csv -m my-model
  stop benchmark moments --dataset qvhighlights --annotations val.jsonl --videos qv/"""
THROUGHPUT_EXAMPLES = """Examples:
  stop benchmark throughput footage/
  stop benchmark throughput footage/ -m vit-l-14 --device cuda --format json"""

app = typer.Typer(help="Measure models: how accurate, how fast.", no_args_is_help=True)
app.command("few-shot", epilog=trials.FEW_SHOT_EXAMPLES)(trials.few_shot)
app.command("base-to-novel", epilog=trials.BASE_EXAMPLES)(trials.base_to_novel)


_KNOWN = "msrvtt, msvd, activitynet, didemo, vatex, hmdb51, ucf101, ssv2, kinetics400, or a table."
_dataset = o.input_option(metavar="NAME|DATA", help=_KNOWN)
_moments = o.input_option(metavar="NAME|TABLE", help="qvhighlights, charades-sta, or captions with times.")
_videos = o.input_option(metavar="DIR", help="Where the data set's videos are.")
_annotations = o.input_option(metavar="FILE|DIR", help="As published; may be given several times.")
_output = o.output_option("--output", "-o", metavar="DIR", help="Write results.json, .csv, .md and more.")
_raw = o.input_option(
    "--raw-pixels", help="Score tiny pictures alone too: do place and light give the labels away?"
)
_paths = typer.Argument(metavar="[VIDEO|DIR]...", help="What to decode; default: made for the run.")
_batch_sizes = o.model_option(metavar="N,N,...", help="Clips a batch.")
_precisions = o.model_option(metavar="P,P,...", help="auto, fp32, bf16, fp16, int8.")


@app.command("accuracy", epilog=ACCURACY_EXAMPLES)
@o.shares(o.Device, o.Show)
def accuracy(
    *,
    show: o.Show,
    dataset: Annotated[str, _dataset],
    videos: Annotated[Path | None, _videos] = None,
    annotations: Annotated[list[Path] | None, _annotations] = None,
    template: o.Template = None,
    raw_pixels: Annotated[bool, _raw] = False,
    models: o.ModelNames = None,
    device: o.Device,
    batch_size: o.BatchSize = "auto",
    seed: o.Seed = 0,
    output: Annotated[Path | None, _output] = None,
    force: o.Force = False,
) -> None:
    """Score models on a data set, beside plain CLIP.

    Protocols are those of the papers; nothing is downloaded. Missing videos are counted and named. Clips
    that a model was trained on are not scored.
    """
    compute = o.Compute(**vars(device))
    with session("benchmark accuracy", show, compute, o.Batching(batch_size=batch_size)) as s:
        from stopcli.data.labels import check_template
        from stopcli.eval.report import check_folder, write_report

        check_template(template)
        if output is not None:
            check_folder(output, force=force)
        benchmark, missing = _located(s, dataset, annotations, videos)
        from stopcli.eval.accuracy import accuracy as measure

        encoders = [s.load(s.find(name)) for name in models or (None,)]
        line = shlex.join(["stop", *sys.argv[1:]])
        with s.progress("reading", len(benchmark.clips) + len(benchmark.training)) as done:
            how: dict[str, Any] = {"template": template, "seed": seed, "command": line}
            how["raw_pixels"] = raw_pixels
            report = measure(encoders, benchmark, missing=missing, progress=done, **how)
        if report.left_out:
            s.say(f"note: not scored, because a model was trained on them: {report.left_out} of the clips")
        for note in report.notes:
            s.say(f"note: {note}")
        s.output.add_all([*report.failures, *report.scores])
        if output is not None:
            s.say(f"written: {', '.join(map(str, write_report(output, report)))}")


def _located(
    s: Session, dataset: str, annotations: list[Path] | None, videos: Path | None
) -> tuple[Benchmark, tuple[str, ...]]:
    """Read what is to be answered, find the videos, and say which are missing."""
    from stopcli.data.protocols import benchmarks

    wanted = benchmarks.load(dataset, annotations or [])
    benchmark, missing = benchmarks.locate(wanted, videos)
    if missing:
        s.say(f"missing: {len(missing)} videos, such as {', '.join(missing[:3])}; scores are on the rest")
    return benchmark, missing


@app.command("speed", epilog=SPEED_EXAMPLES)
@o.shares(o.Show)
def speed(
    show: o.Show,
    paths: Annotated[list[Path] | None, _paths] = None,
    batch_sizes: Annotated[str, _batch_sizes] = "1,4,16",
    precisions: Annotated[str, _precisions] = "auto",
    model: o.ModelName = None,
    device: o.DeviceName = "auto",
    frames: o.FrameCount = None,
    fit: o.FitName = "auto",
    sampling: o.SamplingName = "auto",
    compile: o.Compile = False,
    offline: o.Offline = False,
) -> None:
    """Measure decoding, the model, and both together."""
    how: dict[str, Any] = {"device": device, "frames": frames, "fit": fit, "sampling": sampling}
    compute = o.Compute(model=model, offline=offline, **how)
    with session("benchmark speed", show, compute, o.Batching(batch_size=None, compile=compile)) as s:
        kinds = _choices("--precisions", precisions, [*get_args(Precision)])
        sizes = [int(n) for n in _choices("--batch-sizes", batch_sizes, [str(n) for n in range(1, 4097)])]
        videos = s.videos(paths) if paths else []
        from stopcli.eval.speed import speed as measure

        s.output.add_all(measure(s.files, s.options, videos, precisions=kinds, batch_sizes=sizes, say=s.say))


@app.command("moments", epilog=MOMENTS_EXAMPLES)
@o.shares(o.Focused, o.Batching, o.Show)
def moments(
    *,
    show: o.Show,
    dataset: Annotated[str, _moments],
    videos: Annotated[Path | None, _videos] = None,
    annotations: Annotated[list[Path] | None, _annotations] = None,
    window: o.SearchWindow = 2.0,
    cuts: o.Cuts = "auto",
    compute: o.Focused,
    batching: o.Batching,
) -> None:
    """Score how well moments are found by their descriptions.

    Each sentence is looked for in its video, as retrieve does. R1@0.5: the share of sentences
    whose first hit overlaps the true moment by half.
    """
    with session("benchmark moments", show, compute, batching) as s:
        from stopcli.data.protocols.moments import load_moments
        from stopcli.data.seen import read_seen
        from stopcli.eval.moments import moments as measure
        from stopcli.eval.moments import unseen
        from stopcli.index.live.single import VideoSearch
        from stopcli.results.measured import BenchmarkScore

        asked, missing = load_moments(dataset, annotations or [], videos)
        if missing:
            s.say(f"missing: {len(missing)} videos, such as {', '.join(missing[:3])}; scores are on the rest")
        left = asked if s.files.folder is None else unseen(asked, read_seen(s.files.folder))
        if len(left) < len(asked):
            count = f"{len(asked) - len(left)} of {len(asked)} questions"
            s.say(f"note: {count} are not asked, because the model was trained on their moments")
        search = VideoSearch(s.encoder, window, cuts != "off")
        how = s.encoder.describe() | {
            "window": window,
            "cuts": search.shots,
            "command": shlex.join(["stop", *sys.argv[1:]]),
        }
        blank = BenchmarkScore(s.files.name, dataset, "moments", {}, {}, 0, len(missing), False, how)
        with s.progress("searching", len({a.item for a in left})) as done:
            score, failures = measure(left, search.find, blank, done)
        s.output.add_all([score, *failures])


@app.command("throughput", epilog=THROUGHPUT_EXAMPLES)
@o.shares(o.Focused, o.Batching, o.Show)
def throughput(
    *,
    paths: o.Paths = None,
    window: o.SearchWindow = 8.0,
    whole: o.Whole = False,
    files_from: o.FilesFrom = None,
    compute: o.Focused,
    batching: o.Batching,
    show: o.Show,
) -> None:
    """Measure how much footage an index takes in an hour.

    All videos are embedded once, as for an index, and nothing is kept. Decoding and the model are then
    measured alone: that says how many cores keep one model busy.
    """
    with session("benchmark throughput", show, compute, batching) as s:
        videos = s.videos(paths, files_from)
        from stopcli.eval.throughput import throughput as measure

        encoder, span = s.encoder, None if whole else window
        with s.progress("embedding", len(videos)) as done:
            measured, failures = measure(encoder, videos, span, shots=not whole, progress=done)
        s.output.add_all([measured, *failures])


def _choices(option: str, text: str, allowed: list[str]) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    if wrong := [value for value in values if value not in allowed]:
        known = ", ".join(allowed) if len(allowed) < 10 else f"numbers from {allowed[0]} to {allowed[-1]}"
        raise UsageError(f"{option} takes {known}, got {wrong[0]!r}")
    return values
