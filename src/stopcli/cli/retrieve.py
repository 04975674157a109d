"""``stop retrieve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopcli.cli import options as o
from stopcli.errors import UsageError

EXAMPLES = """Examples:\n
  stop retrieve --query "a man cooking" videos/\n
  stop retrieve --query "a fox at night" trail-camera/ --every 8 --top-k 20\n
  stop retrieve --query-video example.mp4 videos/ -q -0 | xargs -0 ls -l"""


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO|DIR...", help="Where to search; - reads a list.", allow_dash=True),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="TEXT", help="What to look for; may be given again."),
    ] = None,
    query_video: Annotated[
        Path | None, typer.Option("--query-video", metavar="FILE", help="Look for what is like this video.")
    ] = None,
    top_k: o.TopK = 10,
    every: o.Every = None,
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
    """Find the videos, or the moments, that a sentence or an example means."""
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        compile=compile, offline=offline, format=format.value, quiet=quiet, null=null, verbose=verbose,
    )  # fmt: skip
    o.check_every(every)
    o.check_top_k(top_k)
    if not query and query_video is None:
        raise UsageError('nothing to look for; give --query "a sentence" or --query-video FILE')
    with o.interruptible(), common.output("retrieve") as output:
        from stopcli.retrieve import EncodeNow, retrieve, text_queries, video_query

        found = o.gather(paths, files_from)
        runtime = common.runtime()
        queries = text_queries(runtime, query or [])
        if query_video is not None:
            queries.append(video_query(runtime, query_video))
        with o.progress_bar(common, "searching", len(found)) as done:
            hits, failures = retrieve(EncodeNow(runtime, done), queries, found, top_k=top_k, every=every)
        output.add_all(hits)
        output.add_all(failures)
    raise typer.Exit(output.exit_status)
