"""``stop explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible
from stopcli.errors import UsageError

EXAMPLES = """Examples:\n
  stop explain clip.mp4 --model my-model -o clip.png\n
  stop explain clip.mp4 --model my-model --labels "a serve,a backhand" -o clip.html\n
  stop explain match.mkv --start 60 --end 68 --model my-model -o point.mp4"""

SUFFIXES = (".png", ".html", ".mp4")
READING = (
    "Yellow boxes: the regions that spatial prompts are put on, the patches with the highest region scores.",
    "Blue bars between two frames: how many temporal prompts are put there, more where more changes.",
    "The curve: how much changes between the frames, from the least to the most of this clip.",
)


def command(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="One video.", allow_dash=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .png, .html or .mp4 to write.")
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", metavar='"A,B,C"', help="Show the scores of these over time.")
    ] = None,
    block: Annotated[
        int | None,
        typer.Option("--block", metavar="N", help="Which prompted block; default: the last but one."),
    ] = None,
    start: Annotated[
        float | None, typer.Option("--start", metavar="SECONDS", help="Where the clip begins.")
    ] = None,
    end: Annotated[
        float | None, typer.Option("--end", metavar="SECONDS", help="Where the clip ends.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    model: o.Model = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.auto,
    frames: o.FrameCount = None,
    offline: o.Offline = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Draw what STOP looks at in a video: regions, region scores, prompts between the frames."""
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size="auto", frames=frames,
        offline=offline, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if output.suffix not in SUFFIXES:
        raise UsageError(f"--output {output}: the name must end in {', '.join(SUFFIXES)}")
    with interruptible():
        from stopcli.data.labels import check_labels
        from stopcli.output import explanation as draw
        from stopcli.output import html
        from stopcli.tasks.explain import explain

        html.check_output(output, force=force)
        names = [part.strip() for part in (labels or "").split(",") if part.strip()]
        if names:
            check_labels(names)
        encoder = common.encoder()
        told = explain(encoder, video, block=block, labels=names, start=start, end=end)
        if output.suffix == ".mp4":
            draw.film(told, output)
        elif output.suffix == ".html":
            made = ", ".join(f"{k} {v}" for k, v in encoder.describe().items())
            html.write(
                output,
                html.picture_page(f"{video.name}: what STOP looks at", draw.picture(told), READING, made),
            )
        else:
            draw.save(told, output)
    common.say(f"{output}: block {told.block} of {told.blocks}, {int(told.counts.sum())} temporal prompts")
