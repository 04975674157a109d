"""``stop embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible, progress_bar
from stopcli.errors import UsageError

EXAMPLES = """Examples:\n
  stop embed footage/ -o footage.npz\n
  stop embed footage/ -o moments.parquet --every 8\n
  stop embed --text "a dog running" --text "a dog asleep" -o texts.npz"""


def command(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A .npz, .npy (with .jsonl) or .parquet file, made or added to.",
        ),
    ],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO|DIR...", help="Files or folders; - reads a list.", allow_dash=True),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="Embed texts instead; may be given again."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Begin anew instead of adding to OUT.")] = False,
    window: o.Window = None,
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
    """Write the vectors of videos or texts to a file, for your own programs.

    What OUT holds already is skipped, so an interrupted run goes on where it was.
    """
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        compile=compile, offline=offline, format=format.value, quiet=quiet, null=null, verbose=verbose,
    )  # fmt: skip
    o.check_window(window)
    if text and (paths or files_from):
        raise UsageError("--text and videos: give one of them; their vectors belong in two files")
    kept = "what is done is kept; run the same command to go on"
    with interruptible(kept), common.output("embed") as shown:
        from stopcli.results import Failure
        from stopcli.tasks.embed import embed_texts, embed_videos
        from stopcli.tasks.vectorfile import check_suffix

        check_suffix(output)
        found = o.gather(paths, files_from) if not text else []
        encoder = common.encoder()
        failures: list[Failure] = []
        if text:
            rows = embed_texts(encoder, text, output, force=force)
        else:
            with progress_bar("embedding", len(found), quiet=common.quiet) as done:
                rows, failures = embed_videos(
                    encoder, found, output, window=window, force=force, progress=done
                )
        shown.add_all(rows)
        shown.add_all(failures)
        if rows:
            common.say(f"{output}: {len(rows)} vectors")
    raise typer.Exit(shown.exit_status)
