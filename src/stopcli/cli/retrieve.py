"""``stop retrieve``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stopcli.cli import options as o
from stopcli.cli.progress import interruptible
from stopcli.errors import UsageError

if TYPE_CHECKING:
    from stopcli.index.engine import Example

EXAMPLES = """Examples:\n
  stop retrieve --query "a man cooking" videos/\n
  stop retrieve --query "a fox" --not "a dog" trail-camera/ --top-k 20\n
  stop retrieve --query "a goal" match.mkv --html goals.html\n
  stop retrieve --like interview.mp4@83.5 videos/\n
  stop retrieve --query-video example.mp4 --whole videos/ -q -0 | xargs -0 ls -l"""


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="VIDEO|DIR...", help="Where to search; - reads a list.", allow_dash=True),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option("--query", metavar="TEXT", help="What to look for; may be given again."),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            "--not", metavar="TEXT", help="Leave out what this describes better; may be given again."
        ),
    ] = None,
    query_video: Annotated[
        Path | None, typer.Option("--query-video", metavar="FILE", help="Look for what is like this video.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="FILE@TIME", help="Look for what is like this moment: seconds, or 1:23.5."
        ),
    ] = None,
    top_k: o.TopK = 10,
    window: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Length of the windows that are searched.")
    ] = 8.0,
    whole: Annotated[bool, typer.Option("--whole", help="Search whole files: one vector each.")] = False,
    min_score: Annotated[
        float | None, typer.Option("--min-score", metavar="COSINE", help="Leave out hits below this.")
    ] = None,
    glob: Annotated[
        str | None, typer.Option("--glob", metavar="PATTERN", help="Only paths like this: '*/2021/*'.")
    ] = None,
    min_duration: Annotated[
        float | None, typer.Option("--min-duration", metavar="SECONDS", help="Only files at least this long.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option("--max-duration", metavar="SECONDS", help="Only files at most this long.")
    ] = None,
    index: o.IndexFolder = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show a filmstrip of each hit in the terminal.")
    ] = False,
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
    """Find the moments of videos that a sentence or an example means.

    The first search of a folder makes an index; later ones look only at what changed.
    """
    common = o.Common.check(
        model=model, device=device, precision=precision.value, batch_size=batch_size, frames=frames,
        compile=compile, offline=offline, format=format.value, quiet=quiet, null=null, verbose=verbose,
    )  # fmt: skip
    o.check_window(window)
    o.check_top_k(top_k)
    if not query and query_video is None and like is None:
        raise UsageError(
            'nothing to look for; give --query "a sentence", --query-video FILE or --like FILE@TIME'
        )
    with interruptible("what is indexed is kept"), common.output("retrieve") as output:
        from stopcli.index.engine import SearchRequest
        from stopcli.index.ranking import Filters
        from stopcli.output import html as page

        if html is not None:
            page.check_output(html, force=force)
        found = o.gather(paths, files_from)
        filters = Filters(top_k, min_score, glob, min_duration, max_duration)
        ask = SearchRequest(
            tuple(query or ()), tuple(unlike or ()), tuple(_examples(query_video, like)),
            None if whole else window, filters,
        )  # fmt: skip
        with o.archive(common, index) as archive:
            answer = archive.search(ask, found, o.roots(paths))
        if html is not None:
            page.write(
                html, page.hits_page(answer.hits, f"{common.model or 'default model'}; scores are cosines")
            )
            common.say(f"written: {html}")
        output.add_all(answer.hits)
        output.add_all(answer.failures)
    if preview:
        o.show_preview(common, answer.hits)
    raise typer.Exit(output.exit_status)


def _examples(query_video: Path | None, like: str | None) -> list[Example]:
    from stopcli.index.engine import Example

    out = [Example(query_video)] if query_video is not None else []
    if like is not None:
        match = re.fullmatch(r"(.+)@(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", like)
        if match is None:
            raise UsageError(
                f"--like must be FILE@TIME, such as clip.mp4@83.5 or clip.mp4@1:23.5, got {like!r}"
            )
        name, hours, minutes, seconds = match.groups()
        out.append(Example(Path(name), int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)))
    return out
