"""``stop benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible, progress_bar
from stopcli.errors import UsageError

if TYPE_CHECKING:
    from stopcli.runtime.encoder import Encoder

EXAMPLES = """Examples:\n
  stop benchmark accuracy --dataset msrvtt --annotations MSRVTT_JSFUSION_test.csv --videos msrvtt/\n
  stop benchmark accuracy --dataset my.csv --model my-model --model other-model\n
  stop benchmark speed --model vit-b-32 footage/"""

app = typer.Typer(help="Measure models: how right, how fast.", no_args_is_help=True, add_help_option=False)


@app.callback()
def _group(help: o.Help = False) -> None:
    """Measure models: how right, how fast."""


Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="NAME|hf:ORG/REPO|PATH", help="A model; may be given several times."
    ),
]


@app.command(
    "accuracy",
    epilog="Examples:\n\n  stop benchmark accuracy --dataset my.csv --model my-model\n\n"
    "  stop benchmark accuracy --dataset ucf101 --annotations ucfTrainTestlist/ --videos UCF-101/ -o ucf/",
)
def accuracy(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            metavar="NAME|DATA.csv",
            help="msrvtt, msvd, activitynet, didemo, vatex, hmdb51, ucf101, ssv2, kinetics400, or a table.",
        ),
    ],
    videos: Annotated[
        Path | None, typer.Option("--videos", metavar="DIR", help="Where the data set's videos lie.")
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option("--annotations", metavar="FILE|DIR", help="As published; may be given several times."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write results.json, .csv, .md and, by class, more."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="TEXT", help='The sentence around a label: "a video of {}".'),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the bootstrap.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace results in --output.")] = False,
    models: Models = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    batch_size: o.BatchSize = "auto",
    frames: o.FrameCount = None,
    offline: o.Offline = False,
    format: o.FormatOption = o.Format.auto,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Score models on a data set, beside plain CLIP on the same backbone.

    Protocols are those of the papers; nothing is downloaded. Missing videos are counted and named.
    """
    common = o.Common.check(
        model=None, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        offline=offline, format=format.value, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if template is not None and "{}" not in template:
        raise UsageError(f"--template must hold {{}} where the label goes, got {template!r}")
    with interruptible(), common.output("benchmark accuracy") as out:
        from stopcli.data import benchmarks as protocols
        from stopcli.eval import accuracy as b
        from stopcli.eval.report import check_folder, write_report

        if output is not None:
            check_folder(output, force=force)
        asked, missing = protocols.locate(protocols.load(dataset, annotations or []), videos)
        if dataset.lower() in protocols.DATASETS and videos is None:
            raise UsageError(f"--videos is needed: the folder with the videos of {dataset}")
        encoders = _encoders(common, models)
        total = len({(i.path, i.start, i.end) for items in asked.splits for i in items})
        with progress_bar("reading", total, quiet=common.quiet) as done:
            report = b.accuracy(encoders, asked, missing=missing, template=template, seed=seed, progress=done)
        if missing:
            common.say(
                f"missing: {len(missing)} videos, such as {', '.join(missing[:3])}; scores are on the rest"
            )
        out.add_all(report.failures)
        out.add_all(report.scores)
        if output is not None:
            common.say(f"written: {', '.join(str(p) for p in write_report(output, report))}")
    raise typer.Exit(out.exit_status)


@app.command(
    "speed",
    epilog="Examples:\n\n  stop benchmark speed --model mini\n\n"
    "  stop benchmark speed --model vit-b-32 --precisions fp32,bf16 --batch-sizes 1,8,32 footage/",
)
def speed(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[VIDEO|DIR]...", help="What to decode; default: made for the run."),
    ] = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="N,N,...", help="Clips a batch.")
    ] = "1,4,16",
    precisions: Annotated[
        str, typer.Option("--precisions", metavar="P,P,...", help="auto, fp32, bf16, fp16.")
    ] = "auto",
    model: o.Model = None,
    device: o.Device = "auto",
    frames: o.FrameCount = None,
    compile: o.Compile = False,
    offline: o.Offline = False,
    format: o.FormatOption = o.Format.auto,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure decoding, the model and both together, and say what bounds the whole."""
    common = o.Common.check(
        model=model, device=device, batch_size="auto", frames=frames, compile=compile, offline=offline,
        format=format.value, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    kinds = [p.strip() for p in precisions.split(",")]
    if wrong := [p for p in kinds if p not in {v.value for v in o.Precision}]:
        raise UsageError(f"--precisions knows auto, fp32, bf16 and fp16, got {wrong[0]!r}")
    sizes = [s.strip() for s in batch_sizes.split(",")]
    if wrong := [s for s in sizes if not (s.isdecimal() and 1 <= int(s) <= 4096)]:
        raise UsageError(f"--batch-sizes must be numbers between 1 and 4096, got {wrong[0]!r}")
    with interruptible(), common.output("benchmark speed") as out:
        import warnings

        if not verbose:
            warnings.filterwarnings("ignore")
        from stopcli.eval.speed import speed as measure
        from stopcli.runtime.encoder import EncoderOptions

        found = o.gather(paths) if paths else []
        options = EncoderOptions(device, "auto", None, frames, compile)
        files = common.files()
        common.introduce(files)
        for result in measure(files, options, found, precisions=kinds, batch_sizes=[int(s) for s in sizes]):
            out.add(result)
    raise typer.Exit(out.exit_status)


def _encoders(common: o.Common, models: list[str] | None) -> list[Encoder]:
    from dataclasses import replace

    return [replace(common, model=name).encoder() for name in models or (None,)]
