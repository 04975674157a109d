"""``stop classify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible, progress_bar
from stopcli.errors import UsageError

EXAMPLES = """Examples:\n
  stop classify clip.mp4 --labels "a dog,a cat,a horse"\n
  stop classify footage/ --labels-file animals.txt --format csv > animals.csv\n
  stop classify match.mkv --labels "a goal,a foul,a corner" --every 4"""


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO|DIR...", help="Files or folders; - reads a list.", allow_dash=True),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar='"A,B,C"', help="What to choose between.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="Labels from a file, one a line.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="TEXT", help='The sentence around a label: "a video of {}".'),
    ] = None,
    top_k: o.TopK = 5,
    window: o.Window = None,
    html: o.Html = None,
    force: o.Force = False,
    files_from: o.FilesFrom = None,
    model: o.Model = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    batch_size: o.BatchSize = "auto",
    frames: o.FrameCount = None,
    compile: o.Compile = False,
    offline: o.Offline = False,
    format: o.FormatOption = o.Format.auto,
    quiet: o.Quiet = False,
    null: o.Null = False,
    verbose: o.Verbose = False,
) -> None:
    """Say which label each video shows.

    Without labels: the model's own, else the 400 actions of Kinetics.
    """
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        compile=compile, offline=offline, format=format.value, quiet=quiet, null=null, verbose=verbose,
    )  # fmt: skip
    o.check_window(window)
    o.check_top_k(top_k)
    if labels is not None and labels_file is not None:
        raise UsageError("--labels and --labels-file: give one of them")
    with interruptible("what is printed is done"), common.output("classify") as output:
        from stopcli.data.labels import check_labels, read_labels
        from stopcli.output import html as page
        from stopcli.tasks.classify import classify

        if html is not None:
            page.check_output(html, force=force)

        names = [part.strip() for part in labels.split(",") if part.strip()] if labels is not None else None
        names = read_labels(labels_file) if labels_file is not None else names
        if names is not None:
            check_labels(names)
        found = o.gather(paths, files_from)
        encoder = common.encoder()
        with progress_bar("classifying", len(found), quiet=common.quiet) as done:
            results = classify(encoder, found, labels=names, template=template, top_k=top_k, window=window)
            for result in results:
                output.add(result)
                done(str(result.path))
        if html is not None and output.classifications:
            made = ", ".join(f"{k} {v}" for k, v in encoder.describe().items())
            page.write(html, page.timeline_page(output.classifications, made))
            common.say(f"written: {html}")
    raise typer.Exit(output.exit_status)
